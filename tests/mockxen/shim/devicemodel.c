/* SPDX-License-Identifier: BSD-2-Clause */
/* libxendevicemodel: interrupts go straight to the domain's shared memory, everything else to mockxen. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xendevicemodel.h>

#include "../irq.h"

#define BUF_MAX 4096u   /* privcmd refuses a larger buffer */

struct xendevicemodel_handle {
    struct shim shim;
    int restricted;             /* domid or -1 */
    uint16_t caller;
    Xentoolcore__Active_Handle ah;
    pthread_mutex_t cache_lock;
    struct { uint32_t gen; struct mx_dom *dom; } cache[MX_MAX_DOMS];
};

static int restrict_cb(Xentoolcore__Active_Handle *ah, domid_t domid)
{
    return xendevicemodel_restrict(
        (xendevicemodel_handle *)((char *)ah - offsetof(xendevicemodel_handle, ah)), domid);
}

xendevicemodel_handle *xendevicemodel_open(struct xentoollog_logger *logger, unsigned int open_flags)
{
    xendevicemodel_handle *h;
    const char *caller = getenv("MOCKXEN_DOMID");

    (void)logger;
    if (open_flags) {
        errno = EINVAL;
        return NULL;
    }
    /* mmap: the cache table is large, and untouched parts shall cost nothing */
    h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (h == MAP_FAILED) {
        return NULL;
    }
    if (shim_open(&h->shim) < 0) {
        munmap(h, sizeof(*h));
        return NULL;
    }
    h->caller = (uint16_t)(caller ? strtoul(caller, NULL, 10) : 0);
    h->restricted = -1;
    pthread_mutex_init(&h->cache_lock, NULL);
    h->ah.restrict_callback = restrict_cb;
    xentoolcore__register_active_handle(&h->ah);
    return h;
}

int xendevicemodel_close(xendevicemodel_handle *h)
{
    if (!h) {
        return 0;
    }
    xentoolcore__deregister_active_handle(&h->ah);
    for (unsigned i = 0; i < MX_MAX_DOMS; i++) {
        if (h->cache[i].dom) {
            munmap(h->cache[i].dom, MX_DOM_HEAD);
        }
    }
    shim_close(&h->shim);
    munmap(h, sizeof(*h));
    return 0;
}

int xendevicemodel_restrict(xendevicemodel_handle *h, domid_t domid)
{
    struct mx_req req = { .op = MX_RESTRICT, .domid = domid };
    struct mx_rep rep;

    if (shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, NULL) < 0) {
        return -1;
    }
    h->restricted = domid;
    return 0;
}

/** The hypercall with at most one further buffer, which is copied back if `back`. */
static int dm_call(xendevicemodel_handle *h, domid_t domid, struct xen_dm_op *op, void *buf, size_t len,
                   bool back)
{
    struct mx_req req = { .op = MX_DM_OP, .domid = domid };
    uint8_t msg[sizeof(*op) + BUF_MAX];
    struct mx_rep rep;
    ssize_t n;

    if (h->restricted >= 0 && h->restricted != domid) {
        errno = EPERM;
        return -1;
    }
    if (len > BUF_MAX) {
        errno = E2BIG;
        return -1;
    }
    memcpy(msg, op, sizeof(*op));
    if (len) {
        memcpy(msg + sizeof(*op), buf, len);
    }
    n = shim_call(&h->shim, &req, msg, sizeof(*op) + len, &rep, msg, sizeof(msg), NULL);
    if (n < (ssize_t)sizeof(*op)) {
        return -1;
    }
    memcpy(op, msg, sizeof(*op));
    if (back && n > (ssize_t)sizeof(*op)) {
        memcpy(buf, msg + sizeof(*op), len < (size_t)n - sizeof(*op) ? len : (size_t)n - sizeof(*op));
    }
    return 0;
}

#define SIMPLE(h, domid, op) dm_call((h), (domid), &(op), NULL, 0, false)

int xendevicemodel_create_ioreq_server(xendevicemodel_handle *h, domid_t domid, int handle_bufioreq,
                                       ioservid_t *id)
{
    struct xen_dm_op op = { .op = XEN_DMOP_create_ioreq_server };

    op.u.create_ioreq_server.handle_bufioreq = (uint8_t)handle_bufioreq;
    if (SIMPLE(h, domid, op) < 0) {
        return -1;
    }
    *id = op.u.create_ioreq_server.id;
    return 0;
}

int xendevicemodel_get_ioreq_server_info(xendevicemodel_handle *h, domid_t domid, ioservid_t id,
                                         xen_pfn_t *ioreq_gfn, xen_pfn_t *bufioreq_gfn,
                                         evtchn_port_t *bufioreq_port)
{
    struct xen_dm_op op = { .op = XEN_DMOP_get_ioreq_server_info };

    op.u.get_ioreq_server_info.id = id;
    if (!ioreq_gfn && !bufioreq_gfn) {
        op.u.get_ioreq_server_info.flags |= XEN_DMOP_no_gfns;
    }
    if (SIMPLE(h, domid, op) < 0) {
        return -1;
    }
    if (ioreq_gfn) {
        *ioreq_gfn = op.u.get_ioreq_server_info.ioreq_gfn;
    }
    if (bufioreq_gfn) {
        *bufioreq_gfn = op.u.get_ioreq_server_info.bufioreq_gfn;
    }
    if (bufioreq_port) {
        *bufioreq_port = op.u.get_ioreq_server_info.bufioreq_port;
    }
    return 0;
}

static int range_call(xendevicemodel_handle *h, domid_t domid, uint32_t which, ioservid_t id, uint32_t type,
                      uint64_t start, uint64_t end)
{
    struct xen_dm_op op = { .op = which };
    struct xen_dm_op_ioreq_server_range *r = &op.u.map_io_range_to_ioreq_server;

    r->id = id;
    r->type = type;
    r->start = start;
    r->end = end;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_map_io_range_to_ioreq_server(xendevicemodel_handle *h, domid_t domid, ioservid_t id,
                                                int is_mmio, uint64_t start, uint64_t end)
{
    return range_call(h, domid, XEN_DMOP_map_io_range_to_ioreq_server, id,
                      is_mmio ? XEN_DMOP_IO_RANGE_MEMORY : XEN_DMOP_IO_RANGE_PORT, start, end);
}

int xendevicemodel_unmap_io_range_from_ioreq_server(xendevicemodel_handle *h, domid_t domid, ioservid_t id,
                                                    int is_mmio, uint64_t start, uint64_t end)
{
    return range_call(h, domid, XEN_DMOP_unmap_io_range_from_ioreq_server, id,
                      is_mmio ? XEN_DMOP_IO_RANGE_MEMORY : XEN_DMOP_IO_RANGE_PORT, start, end);
}

static int pci_call(xendevicemodel_handle *h, domid_t domid, uint32_t which, ioservid_t id, uint16_t segment,
                    uint8_t bus, uint8_t device, uint8_t function)
{
    uint64_t sbdf = XEN_DMOP_PCI_SBDF((uint64_t)segment, bus, device, function);

    if (device > 0x1f || function > 0x7) {
        errno = EINVAL;
        return -1;
    }
    return range_call(h, domid, which, id, XEN_DMOP_IO_RANGE_PCI, sbdf, sbdf);
}

int xendevicemodel_map_pcidev_to_ioreq_server(xendevicemodel_handle *h, domid_t domid, ioservid_t id,
                                              uint16_t segment, uint8_t bus, uint8_t device, uint8_t function)
{
    return pci_call(h, domid, XEN_DMOP_map_io_range_to_ioreq_server, id, segment, bus, device, function);
}

int xendevicemodel_unmap_pcidev_from_ioreq_server(xendevicemodel_handle *h, domid_t domid, ioservid_t id,
                                                  uint16_t segment, uint8_t bus, uint8_t device,
                                                  uint8_t function)
{
    return pci_call(h, domid, XEN_DMOP_unmap_io_range_from_ioreq_server, id, segment, bus, device, function);
}

int xendevicemodel_map_mem_type_to_ioreq_server(xendevicemodel_handle *h, domid_t domid, ioservid_t id,
                                                uint16_t type, uint32_t flags)
{
    struct xen_dm_op op = { .op = XEN_DMOP_map_mem_type_to_ioreq_server };

    if (type != HVMMEM_ioreq_server || (flags & ~XEN_DMOP_IOREQ_MEM_ACCESS_WRITE)) {
        errno = EINVAL;
        return -1;
    }
    op.u.map_mem_type_to_ioreq_server.id = id;
    op.u.map_mem_type_to_ioreq_server.type = type;
    op.u.map_mem_type_to_ioreq_server.flags = flags;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_destroy_ioreq_server(xendevicemodel_handle *h, domid_t domid, ioservid_t id)
{
    struct xen_dm_op op = { .op = XEN_DMOP_destroy_ioreq_server };

    op.u.destroy_ioreq_server.id = id;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_set_ioreq_server_state(xendevicemodel_handle *h, domid_t domid, ioservid_t id, int enabled)
{
    struct xen_dm_op op = { .op = XEN_DMOP_set_ioreq_server_state };

    op.u.set_ioreq_server_state.id = id;
    op.u.set_ioreq_server_state.enabled = (uint8_t)!!enabled;
    return SIMPLE(h, domid, op);
}

/** Map the domain's shared memory, or take it from the cache. */
static struct mx_dom *dom_get(xendevicemodel_handle *h, uint32_t slot, uint32_t gen)
{
    struct mx_req req = { .op = MX_DOM_FD, .a = { slot } };
    struct mx_dom *dom = NULL;
    struct mx_rep rep;
    int fds[2];

    pthread_mutex_lock(&h->cache_lock);
    if (h->cache[slot].gen == gen) {
        dom = h->cache[slot].dom;
    } else {
        if (h->cache[slot].dom) {
            munmap(h->cache[slot].dom, MX_DOM_HEAD);
        }
        h->cache[slot].dom = NULL;
        h->cache[slot].gen = 0;
        if (shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, fds) >= 0) {
            dom = mmap(NULL, MX_DOM_HEAD, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
            close(fds[0]);
            dom = dom == MAP_FAILED ? NULL : dom;
            h->cache[slot].dom = dom;
            h->cache[slot].gen = dom ? gen : 0;
        }
    }
    pthread_mutex_unlock(&h->cache_lock);
    return dom;
}

/** The checks every call makes first, for those that don't ask mockxen. NULL + errno. */
static struct mx_dom *irq_target(xendevicemodel_handle *h, domid_t domid, enum mock_call kind)
{
    uint32_t slot, gen;
    struct mx_dom *d;

    if (shim_fault(&h->shim, kind) < 0) {
        return NULL;
    }
    if (h->restricted >= 0 && h->restricted != domid) {
        errno = EPERM;
        return NULL;
    }
    if (domid == h->caller) {
        errno = EPERM;
        return NULL;
    }
    slot = domid < MX_MAX_DOMID ? h->shim.g->slot_of[domid] : 0;
    gen = slot ? atomic_load(&h->shim.g->doms[slot - 1].gen) : 0;
    if (!gen) {
        errno = ESRCH;
        return NULL;
    }
    if (h->caller && h->shim.g->doms[slot - 1].target_of != h->caller) {
        errno = EPERM;
        return NULL;
    }
    d = dom_get(h, slot - 1, gen);
    if (!d) {
        errno = ESRCH;
    }
    return d;
}

int xendevicemodel_set_pci_intx_level(xendevicemodel_handle *h, domid_t domid, uint16_t segment, uint8_t bus,
                                      uint8_t device, uint8_t intx, unsigned int level)
{
    struct mx_dom *d = irq_target(h, domid, MOCK_CALL_SET_INTX);

    return d ? shim_result(irq_set_intx(h->shim.g, d, segment, bus, device, intx, (uint8_t)level)) : -1;
}

int xendevicemodel_set_isa_irq_level(xendevicemodel_handle *h, domid_t domid, uint8_t irq, unsigned int level)
{
    struct mx_dom *d = irq_target(h, domid, MOCK_CALL_SET_ISA);

    return d ? shim_result(irq_set_isa(h->shim.g, d, irq, (uint8_t)level)) : -1;
}

int xendevicemodel_set_irq_level(xendevicemodel_handle *h, domid_t domid, unsigned int irq,
                                 unsigned int level)
{
    struct mx_dom *d = irq_target(h, domid, MOCK_CALL_SET_IRQ);

    return d ? shim_result(irq_set_spi(d, irq, (uint8_t)level)) : -1;
}

int xendevicemodel_set_pci_link_route(xendevicemodel_handle *h, domid_t domid, uint8_t link, uint8_t irq)
{
    struct mx_dom *d = irq_target(h, domid, MOCK_CALL_SET_LINK);

    return d ? shim_result(irq_set_link(d, link, irq)) : -1;
}

int xendevicemodel_inject_msi(xendevicemodel_handle *h, domid_t domid, uint64_t msi_addr, uint32_t msi_data)
{
    struct mx_dom *d = irq_target(h, domid, MOCK_CALL_INJECT_MSI);

    return d ? shim_result(irq_inject_msi(h->shim.g, d, msi_addr, msi_data)) : -1;
}

int xendevicemodel_track_dirty_vram(xendevicemodel_handle *h, domid_t domid, uint64_t first_pfn, uint32_t nr,
                                    unsigned long *dirty_bitmap)
{
    struct xen_dm_op op = { .op = XEN_DMOP_track_dirty_vram };

    op.u.track_dirty_vram.first_pfn = first_pfn;
    op.u.track_dirty_vram.nr = nr;
    return dm_call(h, domid, &op, dirty_bitmap, ((size_t)nr + 7) / 8, true);
}

int xendevicemodel_modified_memory_bulk(xendevicemodel_handle *h, domid_t domid,
                                        struct xen_dm_op_modified_memory_extent extents[], uint32_t nr)
{
    struct xen_dm_op op = { .op = XEN_DMOP_modified_memory };

    op.u.modified_memory.nr_extents = nr;
    return dm_call(h, domid, &op, extents, (size_t)nr * sizeof(*extents), false);
}

int xendevicemodel_modified_memory(xendevicemodel_handle *h, domid_t domid, uint64_t first_pfn, uint32_t nr)
{
    struct xen_dm_op_modified_memory_extent extent = { .first_pfn = first_pfn, .nr = nr };

    return xendevicemodel_modified_memory_bulk(h, domid, &extent, 1);
}

int xendevicemodel_set_mem_type(xendevicemodel_handle *h, domid_t domid, hvmmem_type_t mem_type,
                                uint64_t first_pfn, uint32_t nr)
{
    struct xen_dm_op op = { .op = XEN_DMOP_set_mem_type };

    op.u.set_mem_type.mem_type = (uint16_t)mem_type;
    op.u.set_mem_type.first_pfn = first_pfn;
    op.u.set_mem_type.nr = nr;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_inject_event(xendevicemodel_handle *h, domid_t domid, int vcpu, uint8_t vector,
                                uint8_t type, uint32_t error_code, uint8_t insn_len, uint64_t extra)
{
    struct xen_dm_op op = { .op = XEN_DMOP_inject_event };

    op.u.inject_event.vcpuid = (uint32_t)vcpu;
    op.u.inject_event.vector = vector;
    op.u.inject_event.type = type;
    op.u.inject_event.error_code = error_code;
    op.u.inject_event.insn_len = insn_len;
    op.u.inject_event.cr2 = extra;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_shutdown(xendevicemodel_handle *h, domid_t domid, unsigned int reason)
{
    struct xen_dm_op op = { .op = XEN_DMOP_remote_shutdown };

    op.u.remote_shutdown.reason = reason;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_relocate_memory(xendevicemodel_handle *h, domid_t domid, uint32_t size, uint64_t src_gfn,
                                   uint64_t dst_gfn)
{
    struct xen_dm_op op = { .op = XEN_DMOP_relocate_memory };

    op.u.relocate_memory.size = size;
    op.u.relocate_memory.src_gfn = src_gfn;
    op.u.relocate_memory.dst_gfn = dst_gfn;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_pin_memory_cacheattr(xendevicemodel_handle *h, domid_t domid, uint64_t start, uint64_t end,
                                        uint32_t type)
{
    struct xen_dm_op op = { .op = XEN_DMOP_pin_memory_cacheattr };

    op.u.pin_memory_cacheattr.start = start;
    op.u.pin_memory_cacheattr.end = end;
    op.u.pin_memory_cacheattr.type = type;
    return SIMPLE(h, domid, op);
}

int xendevicemodel_nr_vcpus(xendevicemodel_handle *h, domid_t domid, unsigned int *vcpus)
{
    struct xen_dm_op op = { .op = XEN_DMOP_nr_vcpus };

    if (SIMPLE(h, domid, op) < 0) {
        return -1;
    }
    *vcpus = op.u.nr_vcpus.vcpus;
    return 0;
}
