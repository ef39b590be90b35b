/* SPDX-License-Identifier: BSD-2-Clause */
/* Device model calls: who may act on a domain, and the calls that are not about servers or interrupts. */
#include "server.h"

#include <errno.h>
#include <string.h>

#include <xen/xen.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>

#define VRAM_MAX_PAGES 262144u
#define BUF_MAX 4096u               /* privcmd: bytes of one buffer */
#define MEM_UNUSED 3u               /* a type that once meant write-dm */

int dm_target(struct call *c, struct domain **d)
{
    uint32_t domid = c->req->domid;

    /* A stub domain's or dom0's own number is no ordinary target. DOMID_SELF is not even looked up: ESRCH. */
    *d = domain_find(c->mx, domid);
    if (domid == c->conn->caller) {
        return -EPERM;
    }
    if (!*d) {
        return domid ? -ESRCH : -EINVAL;
    }
    return !c->conn->caller || (*d)->pub->target_of == c->conn->caller ? 0 : -EPERM;
}

static void dirty_set(struct domain *d, uint64_t gfn)
{
    uint8_t *bits = (uint8_t *)d->shm + MX_DOM_DIRTY;

    __atomic_fetch_or(&bits[gfn / 8], 1u << gfn % 8, __ATOMIC_SEQ_CST);
}

static int op_track(struct call *c, struct domain *d, const struct xen_dm_op_track_dirty_vram *a,
                    size_t buf_len)
{
    uint8_t *bits = (uint8_t *)d->shm + MX_DOM_DIRTY, *out = c->out + sizeof(struct xen_dm_op);
    size_t bytes = (a->nr + 7) / 8;

    if (a->pad || a->nr > VRAM_MAX_PAGES) {
        return -EINVAL;
    }
    if (atomic_load(&d->shm->gone)) {
        return -ESRCH;
    }
    if (!a->nr) {
        d->vram_nr = 0;
        return 0;
    }
    if (a->first_pfn + a->nr > MX_MAX_GFN || buf_len < bytes) {
        return -EINVAL;
    }
    memset(out, 0, bytes);
    for (uint64_t i = 0; i < a->nr; i++) {
        uint64_t gfn = a->first_pfn + i;
        bool fresh = d->vram_nr != a->nr || d->vram_first != a->first_pfn;
        uint8_t old = __atomic_fetch_and(&bits[gfn / 8], (uint8_t)~(1u << gfn % 8), __ATOMIC_SEQ_CST);

        out[i / 8] |= (uint8_t)((fresh || (old >> gfn % 8 & 1)) << i % 8);
    }
    d->vram_nr = a->nr;
    d->vram_first = a->first_pfn;
    c->out_len += bytes;
    return 0;
}

static int op_modified(struct domain *d, const struct xen_dm_op_modified_memory *a,
                       const struct xen_dm_op_modified_memory_extent *e, size_t buf_len)
{
    if (!d->shm->log_dirty) {
        return 0; /* not even looked at */
    }
    if (buf_len / sizeof(*e) < a->nr_extents) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < a->nr_extents; i++) {
        if (!e[i].nr || e[i].first_pfn + e[i].nr - 1 < e[i].first_pfn ||
            e[i].first_pfn + e[i].nr - 1 > d->shm->max_gfn) {
            return -EINVAL;
        }
        for (uint64_t g = 0; g < e[i].nr; g++) {
            dirty_set(d, e[i].first_pfn + g);
        }
    }
    return 0;
}

static bool type_change_ok(uint32_t entry, unsigned to)
{
    unsigned from = entry & MX_P2M_FRAME ? entry >> MX_P2M_TYPE_SHIFT : HVMMEM_mmio_dm;

    if (from == HVMMEM_ioreq_server || to == HVMMEM_ioreq_server) {
        return (from == HVMMEM_ram_rw && to == HVMMEM_ioreq_server) ||
               (from == HVMMEM_ioreq_server && to == HVMMEM_ram_rw);
    }
    if (from == HVMMEM_mmio_dm) {
        return to == HVMMEM_mmio_dm;
    }
    return true;
}

static int op_set_type(struct domain *d, const struct xen_dm_op_set_mem_type *a)
{
    uint64_t last = a->first_pfn + a->nr - 1;

    if (a->pad || !a->nr || last < a->first_pfn || last > d->shm->max_gfn) {
        return -EINVAL;
    }
    if (a->mem_type == MEM_UNUSED || a->mem_type > HVMMEM_ioreq_server) {
        return -EINVAL;
    }
    if (a->mem_type == HVMMEM_ioreq_server && !d->shm->type4_server) {
        return -EINVAL;
    }
    for (uint64_t gfn = a->first_pfn; gfn <= last; gfn++) {
        uint32_t *e = &d->p2m[gfn];

        if (!type_change_ok(*e, a->mem_type)) {
            return -EINVAL; /* earlier pages stay changed */
        }
        if (a->mem_type == HVMMEM_mmio_dm && (*e & MX_P2M_FRAME)) {
            frame_put(d, (*e & MX_P2M_FRAME) - 1);
            *e = 0;
        } else if (*e & MX_P2M_FRAME) {
            *e = (*e & MX_P2M_FRAME) | (uint32_t)a->mem_type << MX_P2M_TYPE_SHIFT;
        }
    }
    return 0;
}

static int op_relocate(struct domain *d, const struct xen_dm_op_relocate_memory *a)
{
    if (a->pad) {
        return -EINVAL;
    }
    if (a->src_gfn + a->size < a->src_gfn || a->dst_gfn + a->size < a->dst_gfn) {
        return -EOVERFLOW;
    }
    for (uint64_t i = 0; i < a->size; i++) {
        uint64_t from = a->src_gfn + i, to = a->dst_gfn + i;

        if (from >= MX_MAX_GFN || to >= MX_MAX_GFN || !(d->p2m[from] & MX_P2M_FRAME)) {
            return -EINVAL;
        }
        if (d->p2m[to] & MX_P2M_FRAME) {
            frame_put(d, (d->p2m[to] & MX_P2M_FRAME) - 1);
        }
        d->p2m[to] = d->p2m[from];
        d->p2m[from] = 0;
        d->shm->max_gfn = to > d->shm->max_gfn ? (uint32_t)to : d->shm->max_gfn;
    }
    memset(d->shm->invalidate, 1, d->shm->nr_vcpus);
    return 0;
}

/** Pins have no effect here, but a range is known once pinned. */
static int op_cacheattr(struct domain *d, const struct xen_dm_op_pin_memory_cacheattr *a)
{
    struct cache_pin *free_pin = NULL;
    bool known = a->type <= 1 || (a->type >= 4 && a->type <= 7) || a->type == XEN_DMOP_DELETE_MEM_CACHEATTR;

    if (a->pad || a->end < a->start || !known) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < MAX_PINS; i++) {
        struct cache_pin *p = &d->pins[i];

        if (!p->used) {
            free_pin = free_pin ? free_pin : p;
        } else if (p->start == a->start && p->end == a->end) {
            p->used = a->type != XEN_DMOP_DELETE_MEM_CACHEATTR;
            return 0;
        } else if (p->start <= a->end && a->start <= p->end && a->type != XEN_DMOP_DELETE_MEM_CACHEATTR) {
            return -EBUSY;
        }
    }
    if (a->type == XEN_DMOP_DELETE_MEM_CACHEATTR) {
        return -ENOENT;
    }
    if (!free_pin) {
        return -ENOSPC;
    }
    *free_pin = (struct cache_pin){ .used = true, .start = a->start, .end = a->end };
    return 0;
}

static int op_event(struct domain *d, const struct xen_dm_op_inject_event *a)
{
    if (a->pad0 || a->pad1 || a->vcpuid >= d->shm->online) {
        return -EINVAL;
    }
    if (d->shm->irq.event_pending[a->vcpuid]) {
        return -EBUSY;
    }
    d->shm->irq.event_pending[a->vcpuid] = 1;
    return 0;
}

static enum mock_call kind_of(uint32_t op)
{
    static const uint8_t kinds[] = {
        [XEN_DMOP_create_ioreq_server] = MOCK_CALL_CREATE_SERVER,
        [XEN_DMOP_get_ioreq_server_info] = MOCK_CALL_GET_INFO,
        [XEN_DMOP_map_io_range_to_ioreq_server] = MOCK_CALL_MAP_RANGE,
        [XEN_DMOP_unmap_io_range_from_ioreq_server] = MOCK_CALL_UNMAP_RANGE,
        [XEN_DMOP_set_ioreq_server_state] = MOCK_CALL_SET_STATE,
        [XEN_DMOP_destroy_ioreq_server] = MOCK_CALL_DESTROY_SERVER,
        [XEN_DMOP_track_dirty_vram] = MOCK_CALL_TRACK_DIRTY,
        [XEN_DMOP_modified_memory] = MOCK_CALL_MODIFIED_MEMORY,
        [XEN_DMOP_set_mem_type] = MOCK_CALL_SET_MEM_TYPE,
        [XEN_DMOP_inject_event] = MOCK_CALL_INJECT_EVENT,
        [XEN_DMOP_map_mem_type_to_ioreq_server] = MOCK_CALL_MAP_MEM_TYPE,
        [XEN_DMOP_remote_shutdown] = MOCK_CALL_SHUTDOWN,
        [XEN_DMOP_relocate_memory] = MOCK_CALL_RELOCATE,
        [XEN_DMOP_pin_memory_cacheattr] = MOCK_CALL_CACHEATTR,
        [XEN_DMOP_nr_vcpus] = MOCK_CALL_NR_VCPUS,
    };

    return op && op < sizeof(kinds) ? kinds[op] : MOCK_CALL_MAX;
}

static bool x86_only(uint32_t op)
{
    return op == XEN_DMOP_track_dirty_vram || op == XEN_DMOP_modified_memory || op == XEN_DMOP_set_mem_type ||
           op == XEN_DMOP_inject_event || op == XEN_DMOP_map_mem_type_to_ioreq_server ||
           op == XEN_DMOP_remote_shutdown || op == XEN_DMOP_relocate_memory ||
           op == XEN_DMOP_pin_memory_cacheattr;
}

static int other_op(struct call *c, struct domain *d, struct xen_dm_op *op, const void *buf, size_t buf_len)
{
    switch (op->op) {
    case XEN_DMOP_track_dirty_vram:
        return op_track(c, d, &op->u.track_dirty_vram, BUF_MAX);
    case XEN_DMOP_modified_memory:
        return op_modified(d, &op->u.modified_memory, buf, buf_len);
    case XEN_DMOP_set_mem_type:
        return op_set_type(d, &op->u.set_mem_type);
    case XEN_DMOP_inject_event:
        return op_event(d, &op->u.inject_event);
    case XEN_DMOP_remote_shutdown:
        domain_shutdown(c->mx, d, op->u.remote_shutdown.reason);
        return 0;
    case XEN_DMOP_relocate_memory:
        return op_relocate(d, &op->u.relocate_memory);
    case XEN_DMOP_pin_memory_cacheattr:
        return op_cacheattr(d, &op->u.pin_memory_cacheattr);
    case XEN_DMOP_nr_vcpus:
        op->u.nr_vcpus.vcpus = d->shm->nr_vcpus;
        return 0;
    default:
        return dm_server_op(c->mx, d, c->conn->caller, op);
    }
}

int dm_op(struct call *c)
{
    struct xen_dm_op *op = (struct xen_dm_op *)c->out;
    struct domain *d;
    int rc;

    if (c->len < sizeof(*op)) {
        return -EINVAL;
    }
    memcpy(op, c->data, sizeof(*op));
    c->out_len = sizeof(*op);
    rc = fault_fires(c->mx, kind_of(op->op));
    if (rc) {
        return rc;
    }
    rc = dm_target(c, &d);
    if (rc) {
        return rc;
    }
    if (kind_of(op->op) == MOCK_CALL_MAX || (d->shm->profile == MOCK_ARM64 && x86_only(op->op))) {
        return -EOPNOTSUPP;
    }
    if (op->pad) {
        return -EINVAL;
    }
    mx_lock(&d->shm->lock);
    rc = other_op(c, d, op, c->data + sizeof(*op), c->len - sizeof(*op));
    mx_unlock(&d->shm->lock);
    return rc;
}
