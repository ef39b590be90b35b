/* SPDX-License-Identifier: BSD-2-Clause */
/* An ioreq server's life: creation, ranges, pages. The order of the calls is the core's to keep. */
#define __XEN_TOOLS__ 1 /* HVM_IOREQSRV_* in xen/hvm/hvm_op.h are for tools */
#include "xen/handles.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <xen/memory.h>

#include "xen/ioreq_page.h"

int xen_nr_vcpus(struct hypervisor *hv, uint16_t domid, unsigned *count)
{
    return xen_result(xendevicemodel_nr_vcpus(xen_of(hv)->devicemodel, domid, count));
}

static int buffering(enum bufioreq buf)
{
    switch (buf) {
    case BUFIOREQ_LEGACY:
        return HVM_IOREQSRV_BUFIOREQ_LEGACY;
    case BUFIOREQ_ATOMIC:
        return HVM_IOREQSRV_BUFIOREQ_ATOMIC;
    default:
        return HVM_IOREQSRV_BUFIOREQ_OFF;
    }
}

int xen_server_create(struct hypervisor *hv, uint16_t domid, enum bufioreq buf, uint16_t *id)
{
    ioservid_t server;
    int ret = xen_result(
        xendevicemodel_create_ioreq_server(xen_of(hv)->devicemodel, domid, buffering(buf), &server));

    if (ret == 0) {
        *id = server;
    }
    return ret;
}

/* Asked for frame numbers, Xen would place the pages in the guest's own memory, for ever: only ever ask for
 * the port. */
int xen_server_info(struct hypervisor *hv, uint16_t domid, uint16_t id, uint32_t *port)
{
    evtchn_port_t ring_port = 0;
    int ret = xen_result(
        xendevicemodel_get_ioreq_server_info(xen_of(hv)->devicemodel, domid, id, NULL, NULL, &ring_port));

    if (ret == 0 && port) {
        *port = ring_port;
    }
    return ret;
}

int xen_server_enable(struct hypervisor *hv, uint16_t domid, uint16_t id, bool on)
{
    return xen_result(xendevicemodel_set_ioreq_server_state(xen_of(hv)->devicemodel, domid, id, on));
}

int xen_server_destroy(struct hypervisor *hv, uint16_t domid, uint16_t id)
{
    return xen_result(xendevicemodel_destroy_ioreq_server(xen_of(hv)->devicemodel, domid, id));
}

int xen_range_map(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space, uint64_t start,
                  uint64_t end)
{
    return xen_result(xendevicemodel_map_io_range_to_ioreq_server(xen_of(hv)->devicemodel, domid, id,
                                                                  space == RANGE_MMIO, start, end));
}

int xen_range_unmap(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space,
                    uint64_t start, uint64_t end)
{
    return xen_result(xendevicemodel_unmap_io_range_from_ioreq_server(xen_of(hv)->devicemodel, domid, id,
                                                                      space == RANGE_MMIO, start, end));
}

int xen_pcidev_map(struct hypervisor *hv, uint16_t domid, uint16_t id, uint16_t sbdf)
{
    return xen_result(xendevicemodel_map_pcidev_to_ioreq_server(
        xen_of(hv)->devicemodel, domid, id, 0, (uint8_t)(sbdf >> 8), sbdf >> 3 & 31, sbdf & 7));
}

int xen_pcidev_unmap(struct hypervisor *hv, uint16_t domid, uint16_t id, uint16_t sbdf)
{
    return xen_result(xendevicemodel_unmap_pcidev_from_ioreq_server(
        xen_of(hv)->devicemodel, domid, id, 0, (uint8_t)(sbdf >> 8), sbdf >> 3 & 31, sbdf & 7));
}

/* A kernel or Xen without acquire_resource says so in three ways. */
static int too_old(int error)
{
    return error == -ENOSYS || error == -ENOTTY ? -EOPNOTSUPP : error;
}

int xen_pages_map(struct hypervisor *hv, uint16_t domid, uint16_t id, enum bufioreq buf,
                  struct ioreq_pages **pages)
{
    bool ring = buf != BUFIOREQ_OFF;
    struct ioreq_pages *p = calloc(1, sizeof(*p));
    void *at = NULL;

    if (!p) {
        return -ENOMEM;
    }
    /* Frame 0 is the ring's, frame 1 the slots'; a server without a ring has only the latter. */
    _Static_assert(XENMEM_resource_ioreq_server_frame_bufioreq + 1 ==
                       XENMEM_resource_ioreq_server_frame_ioreq(0),
                   "both pages are mapped in one call");
    p->resource = xenforeignmemory_map_resource(
        xen_of(hv)->foreignmemory, domid, XENMEM_resource_ioreq_server, id,
        ring ? XENMEM_resource_ioreq_server_frame_bufioreq : XENMEM_resource_ioreq_server_frame_ioreq(0),
        ring ? 2 : 1, &at, PROT_READ | PROT_WRITE, 0);
    if (!p->resource) {
        int error = too_old(xen_result(-1));
        free(p);
        return error;
    }
    p->ring = ring ? at : NULL;
    p->slots = (struct ioreq *)(void *)((char *)at + (ring ? HV_PAGE_SIZE : 0));
    *pages = p;
    return 0;
}

void xen_pages_unmap(struct hypervisor *hv, struct ioreq_pages *pages)
{
    if (pages) {
        xenforeignmemory_unmap_resource(xen_of(hv)->foreignmemory, pages->resource);
        free(pages);
    }
}
