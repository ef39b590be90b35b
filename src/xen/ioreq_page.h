/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory that Xen and an emulator share for one ioreq server: a page of slots, one a vCPU, and the ring
 * page of buffered requests. Pure functions over that memory: no call to Xen, so they are tested and fuzzed
 * as they are.
 */
#ifndef XEN_IOREQ_PAGE_H
#define XEN_IOREQ_PAGE_H

#include <stdint.h> /* Xen's header needs it and does not say so */

#include <xen/hvm/ioreq.h>

#include "core/hypervisor.h"

struct ioreq_pages {
    struct ioreq *slots;          /* PAGES_SLOTS of them */
    struct buffered_iopage *ring; /* NULL: no buffered ring */
    void *resource;               /* the mapping's handle (src/xen/ioreq_server.c) */
};

/* These implement core/hypervisor.h's members of the same names. A vCPU past the page has no port and no
 * request. */
uint32_t ioreq_slot_port(const struct ioreq_pages *pages, unsigned vcpu);
enum slot_state ioreq_slot_state(const struct ioreq_pages *pages, unsigned vcpu);
int ioreq_slot_take(struct ioreq_pages *pages, unsigned vcpu, bool resume, struct request *request);
void ioreq_slot_answer(struct ioreq_pages *pages, unsigned vcpu, uint64_t data);
int ioreq_ring_take(struct ioreq_pages *pages, struct request *request);

#endif
