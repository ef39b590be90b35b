/* SPDX-License-Identifier: BSD-2-Clause */
/* The device model calls about ioreq servers: Xen 4.17's order of checks, errors and side effects. */
#include "server.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <xen/xen.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/ioreq.h>

#define SPECIAL_GFN 0xfeff0u    /* HVM's ioreq pages for callers that ask for gfns */
#define SPECIAL_GFNS 8u

void *server_page(struct domain *d, uint32_t frame)
{
    void *page =
        mmap(NULL, MX_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, d->frames_fd, (off_t)frame * MX_PAGE);

    return page == MAP_FAILED ? NULL : page;
}

void server_page_done(void *page)
{
    if (page) {
        munmap(page, MX_PAGE);
    }
}

/** An id as every call checks it: unused -ENOENT, made by another domain -EPERM. */
static int find(struct domain *d, uint16_t caller, uint32_t id, struct mx_server **s)
{
    if (id >= MX_MAX_SERVERS || !d->shm->server[id].used) {
        return -ENOENT;
    }
    *s = &d->shm->server[id];
    return (*s)->owner == caller ? 0 : -EPERM;
}

static void free_ports(struct mx *mx, struct domain *d, struct mx_server *s)
{
    for (unsigned v = 0; v < MX_MAX_VCPUS; v++) {
        gport_free(mx, d, s->port[v]);
        s->port[v] = 0;
    }
    gport_free(mx, d, s->buf_port);
    s->buf_port = 0;
}

static int alloc_ports(struct domain *d, struct mx_server *s)
{
    int port;

    for (unsigned v = 0; v < d->shm->online; v++) {
        port = gport_alloc(d, MX_GP_XEN, (uint16_t)s->owner, v);
        if (port < 0) {
            return port;
        }
        s->port[v] = (uint32_t)port;
    }
    if (s->bufmode) {
        port = gport_alloc(d, MX_GP_XEN, (uint16_t)s->owner, 0);
        if (port < 0) {
            return port;
        }
        s->buf_port = (uint32_t)port;
    }
    return 0;
}

static int op_create(struct mx *mx, struct domain *d, uint16_t caller,
                     struct xen_dm_op_create_ioreq_server *a)
{
    uint32_t gen, id = 0;
    struct mx_server *s;
    int rc;

    if (a->pad[0] || a->pad[1] || a->pad[2]) {
        return -EINVAL;
    }
    if (d->shm->profile == MOCK_ARM64 && a->handle_bufioreq != HVM_IOREQSRV_BUFIOREQ_OFF) {
        return -EINVAL;
    }
    if (a->handle_bufioreq > HVM_IOREQSRV_BUFIOREQ_ATOMIC) {
        return -EINVAL;
    }
    while (id < MX_MAX_SERVERS && d->shm->server[id].used) {
        id++;
    }
    if (id == MX_MAX_SERVERS && mx_broken(mx->g, MX_BREAK_NINE_SERVERS)) {
        a->id = MX_MAX_SERVERS;
        return 0;
    }
    if (id == MX_MAX_SERVERS) {
        return -ENOSPC;
    }
    if (atomic_load(&d->shm->gone)) {
        return -EINVAL;
    }
    s = &d->shm->server[id];
    gen = s->gen + 1;
    memset(s, 0, sizeof(*s));
    s->gen = gen;
    s->owner = caller;
    s->bufmode = a->handle_bufioreq;
    rc = alloc_ports(d, s);
    if (rc) {
        free_ports(mx, d, s);
        return rc;
    }
    s->used = 1;
    a->id = (ioservid_t)id;
    return 0;
}

/** A page for a gfn of HVM's special area; 4.17's fallback beyond them is broken and reports no memory. */
static int special_page(struct domain *d, uint32_t *frame, uint64_t *gfn)
{
    int64_t f;
    unsigned i = 0;

    if (d->shm->profile != MOCK_HVM) {
        return -ENOMEM;
    }
    while (i < SPECIAL_GFNS && (d->special_gfns >> i & 1)) {
        i++;
    }
    f = i < SPECIAL_GFNS ? frame_alloc(d) : -ENOMEM;
    if (f < 0) {
        return -ENOMEM;
    }
    d->special_gfns |= 1u << i;
    *gfn = SPECIAL_GFN + i;
    *frame = (uint32_t)f + 1;
    d->p2m[*gfn] = *frame;
    if (*gfn > d->shm->max_gfn) {
        d->shm->max_gfn = (uint32_t)*gfn;
    }
    frame_get(d, (uint32_t)f); /* one for the physmap, one for the server */
    return 0;
}

static int op_info(struct domain *d, uint16_t caller, struct xen_dm_op_get_ioreq_server_info *a)
{
    struct mx_server *s;
    uint64_t gfn = 0;
    int rc = find(d, caller, a->id, &s);

    if (a->flags & ~XEN_DMOP_no_gfns) {
        return -EINVAL;
    }
    if (rc) {
        return rc;
    }
    if (!(a->flags & XEN_DMOP_no_gfns)) {
        if (d->shm->profile == MOCK_ARM64) {
            return -EOPNOTSUPP;
        }
        if (s->by_resource) {
            return -EPERM;
        }
        if (!s->by_gfn) {
            rc = special_page(d, &s->ioreq_frame, &gfn);
            if (!rc && s->bufmode) {
                rc = special_page(d, &s->buf_frame, &gfn);
            }
            if (rc) {
                return rc;
            }
            s->by_gfn = 1;
        }
        for (uint32_t i = 0; i < SPECIAL_GFNS; i++) {
            a->ioreq_gfn = d->p2m[SPECIAL_GFN + i] == s->ioreq_frame ? SPECIAL_GFN + i : a->ioreq_gfn;
            if (s->buf_frame && d->p2m[SPECIAL_GFN + i] == s->buf_frame) {
                a->bufioreq_gfn = SPECIAL_GFN + i;
            }
        }
    }
    a->bufioreq_port = s->buf_port;
    return 0;
}

static int op_range(struct mx *mx, struct domain *d, uint16_t caller, struct xen_dm_op_ioreq_server_range *a,
                    bool map)
{
    struct mx_server *s;
    int rc;

    if (a->pad || a->start > a->end) {
        return -EINVAL;
    }
    rc = find(d, caller, a->id, &s);
    if (rc) {
        return rc;
    }
    if (a->type > XEN_DMOP_IO_RANGE_PCI) {
        return -EINVAL;
    }
    if (!map) {
        return ranges_remove(&s->ranges[a->type], a->start, a->end);
    }
    if (ranges_overlap(&s->ranges[a->type], a->start, a->end)) {
        return mx_broken(mx->g, MX_BREAK_OVERLAP) ? 0 : -EEXIST;
    }
    return ranges_add(&s->ranges[a->type], a->start, a->end);
}

void server_show_port(struct domain *d, struct mx_server *s, unsigned vcpu)
{
    struct ioreq *slots;

    if (!s->ioreq_frame) {
        return;
    }
    slots = server_page(d, s->ioreq_frame - 1);
    if (slots) {
        slots[vcpu].vp_eport = s->port[vcpu];
        server_page_done(slots);
    }
}

static int op_state(struct mx *mx, struct domain *d, uint16_t caller,
                    struct xen_dm_op_set_ioreq_server_state *a)
{
    struct mx_server *s;
    int rc = a->pad ? -EINVAL : find(d, caller, a->id, &s);

    if (rc || s->enabled == !!a->enabled) {
        return rc;
    }
    s->enabled = !!a->enabled;
    if (s->enabled && !s->ioreq_frame) {
        mx_panic(mx->g, "domain %u: server %u enabled before its page was acquired", d->domid, a->id);
    }
    for (unsigned v = 0; s->enabled && v < d->shm->online; v++) {
        server_show_port(d, s, v);
    }
    return 0;
}

/** Is a request of some vCPU still unanswered? */
static bool pending(struct domain *d, const struct mx_server *s)
{
    const struct ioreq *slots = s->ioreq_frame ? server_page(d, s->ioreq_frame - 1) : NULL;
    bool any = false;

    for (unsigned v = 0; slots && v < d->shm->online; v++) {
        any = any || slots[v].state != STATE_IOREQ_NONE;
    }
    server_page_done((void *)slots);
    return any;
}

int server_free(struct mx *mx, struct domain *d, unsigned id)
{
    struct mx_server *s = &d->shm->server[id];

    if (!s->used) {
        return -ENOENT;
    }
    s->used = s->enabled = 0;
    s->gen++;
    free_ports(mx, d, s);
    for (uint32_t i = 0; s->by_gfn && i < SPECIAL_GFNS; i++) {
        if (d->p2m[SPECIAL_GFN + i] && (d->p2m[SPECIAL_GFN + i] == s->ioreq_frame ||
                                        d->p2m[SPECIAL_GFN + i] == s->buf_frame)) {
            frame_put(d, d->p2m[SPECIAL_GFN + i] - 1);
            d->p2m[SPECIAL_GFN + i] = 0;
            d->special_gfns &= ~(1u << i);
        }
    }
    if (s->ioreq_frame) {
        frame_put(d, s->ioreq_frame - 1);
    }
    if (s->buf_frame) {
        frame_put(d, s->buf_frame - 1);
    }
    s->ioreq_frame = s->buf_frame = 0;
    if (d->shm->type4_server == id + 1) {
        d->shm->type4_server = 0;
    }
    return 0;
}

static int op_destroy(struct mx *mx, struct domain *d, uint16_t caller,
                      struct xen_dm_op_destroy_ioreq_server *a)
{
    struct mx_server *s;
    int rc = a->pad ? -EINVAL : find(d, caller, a->id, &s);

    if (rc) {
        return rc;
    }
    if (d->shm->profile == MOCK_ARM64 && pending(d, s)) {
        mx_panic(mx->g, "domain %u: server %u destroyed with a request pending (Arm)", d->domid, a->id);
    }
    return server_free(mx, d, a->id);
}

static int op_mem_type(struct domain *d, uint16_t caller, struct xen_dm_op_map_mem_type_to_ioreq_server *a)
{
    struct mx_server *s;
    int rc;

    if (a->type != HVMMEM_ioreq_server || (a->flags & ~XEN_DMOP_IOREQ_MEM_ACCESS_WRITE)) {
        return -EINVAL;
    }
    rc = find(d, caller, a->id, &s);
    if (rc) {
        return rc;
    }
    if (!a->flags) {
        if (d->shm->type4_server != a->id + 1u) {
            return -EINVAL;
        }
        d->shm->type4_server = 0;
        return 0;
    }
    if (d->shm->type4_server) {
        return -EBUSY;
    }
    for (uint32_t gfn = 0; gfn <= d->shm->max_gfn; gfn++) {
        if (d->p2m[gfn] >> MX_P2M_TYPE_SHIFT == HVMMEM_ioreq_server) {
            return -EBUSY;
        }
    }
    d->shm->type4_server = a->id + 1u;
    return 0;
}

int dm_server_op(struct mx *mx, struct domain *d, uint16_t caller, struct xen_dm_op *op)
{
    switch (op->op) {
    case XEN_DMOP_create_ioreq_server:
        return op_create(mx, d, caller, &op->u.create_ioreq_server);
    case XEN_DMOP_get_ioreq_server_info:
        return op_info(d, caller, &op->u.get_ioreq_server_info);
    case XEN_DMOP_map_io_range_to_ioreq_server:
        return op_range(mx, d, caller, &op->u.map_io_range_to_ioreq_server, true);
    case XEN_DMOP_unmap_io_range_from_ioreq_server:
        return op_range(mx, d, caller, &op->u.unmap_io_range_from_ioreq_server, false);
    case XEN_DMOP_set_ioreq_server_state:
        return op_state(mx, d, caller, &op->u.set_ioreq_server_state);
    case XEN_DMOP_destroy_ioreq_server:
        return op_destroy(mx, d, caller, &op->u.destroy_ioreq_server);
    case XEN_DMOP_map_mem_type_to_ioreq_server:
        return d->shm->profile == MOCK_ARM64 ? -EOPNOTSUPP
                                             : op_mem_type(d, caller, &op->u.map_mem_type_to_ioreq_server);
    default:
        return -EOPNOTSUPP;
    }
}
