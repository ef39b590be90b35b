/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside src/xen: the handles behind struct hypervisor, and the members of its table by the file that holds
 * them. */
#ifndef XEN_HANDLES_H
#define XEN_HANDLES_H

#include <stddef.h>

#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>

#include "core/hypervisor.h"

struct xen_hypervisor {
    struct hypervisor hv;
    xendevicemodel_handle *devicemodel;
    xenforeignmemory_handle *foreignmemory;
    xenevtchn_handle *evtchn;
    int event_fd;             /* evtchn's own descriptor, non-blocking */
    xengnttab_handle *gnttab; /* NULL: not to be had, for reason gnttab_error */
    int gnttab_error;         /* negative errno */
};

static inline struct xen_hypervisor *xen_of(struct hypervisor *hv)
{
    return (struct xen_hypervisor *)((char *)hv - offsetof(struct xen_hypervisor, hv));
}

/* What the libraries say (-1 and errno) as the table says it. */
int xen_result(int rc);

/* ioreq_server.c */
int xen_nr_vcpus(struct hypervisor *hv, uint16_t domid, unsigned *count);
int xen_server_create(struct hypervisor *hv, uint16_t domid, enum bufioreq buf, uint16_t *id);
int xen_server_info(struct hypervisor *hv, uint16_t domid, uint16_t id, uint32_t *port);
int xen_server_enable(struct hypervisor *hv, uint16_t domid, uint16_t id, bool on);
int xen_server_destroy(struct hypervisor *hv, uint16_t domid, uint16_t id);
int xen_range_map(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space, uint64_t start,
                  uint64_t end);
int xen_range_unmap(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space,
                    uint64_t start, uint64_t end);
int xen_pcidev_map(struct hypervisor *hv, uint16_t domid, uint16_t id, uint16_t sbdf);
int xen_pcidev_unmap(struct hypervisor *hv, uint16_t domid, uint16_t id, uint16_t sbdf);
int xen_pages_map(struct hypervisor *hv, uint16_t domid, uint16_t id, enum bufioreq buf,
                  struct ioreq_pages **pages);
void xen_pages_unmap(struct hypervisor *hv, struct ioreq_pages *pages);

/* event_channel.c */
int xen_event_fd(struct hypervisor *hv);
int xen_event_take(struct hypervisor *hv, uint32_t *ports, unsigned max);
void xen_event_unmask(struct hypervisor *hv, const uint32_t *ports, unsigned count);
int xen_event_notify(struct hypervisor *hv, uint32_t port);
int xen_event_bind(struct hypervisor *hv, uint16_t domid, uint32_t remote, uint32_t *local);
void xen_event_unbind(struct hypervisor *hv, uint32_t local);

/* memory.c */
int xen_foreign_map(struct hypervisor *hv, uint16_t domid, const uint64_t *gfns, unsigned count, int *errors,
                    void **at);
void xen_foreign_unmap(struct hypervisor *hv, void *at, unsigned count);
int xen_grant_map(struct hypervisor *hv, uint16_t domid, const uint32_t *refs, unsigned count, bool writable,
                  void **at);
void xen_grant_unmap(struct hypervisor *hv, void *at, unsigned count);
int xen_modified_memory(struct hypervisor *hv, uint16_t domid, uint64_t gfn, uint32_t count);

/* interrupt.c */
int xen_isa_irq(struct hypervisor *hv, uint16_t domid, uint8_t irq, bool level);
int xen_pci_intx(struct hypervisor *hv, uint16_t domid, uint8_t device, uint8_t pin, bool level);
int xen_pci_link_route(struct hypervisor *hv, uint16_t domid, uint8_t link, uint8_t irq);
int xen_msi(struct hypervisor *hv, uint16_t domid, uint64_t address, uint32_t data);
int xen_spi(struct hypervisor *hv, uint16_t domid, uint32_t intid, bool level);

#endif
