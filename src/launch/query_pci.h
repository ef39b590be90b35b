/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asks QEMU, by QMP's query-pci, which PCI functions of a guest are its own, so that a device of ours is not
 * laid over one: Xen itself would not notice. On the loop, with a time limit; QEMU's answer is checked as
 * anybody's.
 */
#ifndef LAUNCH_QUERY_PCI_H
#define LAUNCH_QUERY_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/error.h>

#include "core/loop.h"

#define QUERY_PCI_LIMIT_NS UINT64_C(2000000000) /* for a QEMU that runs */
#define QUERY_PCI_MAX 256u                      /* functions; the rest of an answer is left out */

struct pci_owner {
    uint8_t bus, slot, function;
    char name[64]; /* QEMU's id of the device, else what it calls its class; printable */
};

struct query_pci;

/*
 * path: the unix socket where QMP is spoken. done(self, owners, count, error) is called once, later: the
 * functions on all of QEMU's buses, valid during the call; or, with error not NULL, none: -error->code is
 * ENOENT or ECONNREFUSED (nobody listens there), ETIMEDOUT, EPROTO (what came is not QMP) or another errno.
 * The query is freed after done. NULL with *error filled: out of memory.
 */
struct query_pci *query_pci_start(struct loop *loop, const char *path, uint64_t limit_ns,
                                  void (*done)(void *self, const struct pci_owner *owners, unsigned count,
                                               const struct iod_error *error),
                                  void *self, struct iod_error *error);
/* Before done was called: it never will be. NULL is fine. */
void query_pci_cancel(struct query_pci *query);

/*
 * QMP's path for a domain as libxl chooses it: /var/run/xen/qmp-libxl-DOMID, or in $XEN_RUN_DIR; cut to
 * `size` bytes.
 */
void query_pci_path(uint16_t domid, char *path, unsigned size);

#endif
