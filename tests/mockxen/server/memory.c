/* SPDX-License-Identifier: BSD-2-Clause */
/* Foreign maps, resources and grants: mockxen says which frames, the shim mmaps them; references are kept
 * here. */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xen/xen.h>
#include <xen/memory.h>

static struct procdom *procdom_get(struct proc *p, struct domain *d)
{
    struct procdom *pd;

    for (pd = p->doms; pd; pd = pd->next) {
        if (pd->dom == d) {
            return pd;
        }
    }
    pd = calloc(1, sizeof(*pd));
    if (pd) {
        pd->dom = d;
        pd->next = p->doms;
        p->doms = pd;
    }
    return pd;
}

static int ref_get(struct proc *p, struct domain *d, enum ref_kind kind, uint32_t frame)
{
    struct procdom *pd = procdom_get(p, d);

    if (pd && !pd->count[kind]) {
        pd->count[kind] = calloc(d->nr_frames, sizeof(*pd->count[kind]));
    }
    if (!pd || !pd->count[kind] || pd->count[kind][frame] == UINT16_MAX) {
        return -ENOMEM;
    }
    pd->count[kind][frame]++;
    d->total[kind]++;
    frame_get(d, frame);
    return 0;
}

static int ref_put(struct proc *p, struct domain *d, enum ref_kind kind, uint32_t frame)
{
    struct procdom *pd = procdom_get(p, d);

    if (!pd || !pd->count[kind] || frame >= d->nr_frames || !pd->count[kind][frame]) {
        return -EINVAL;
    }
    pd->count[kind][frame]--;
    d->total[kind]--;
    frame_put(d, frame);
    return 0;
}

static void grant_unmap(struct domain *d, struct procdom *pd, uint32_t ref)
{
    for (unsigned i = 0; i < pd->nr_grants; i++) {
        if (pd->grants[i].ref == ref) {
            pd->grants[i] = pd->grants[--pd->nr_grants];
            atomic_fetch_sub(&d->shm->grant[ref].maps, 1);
            return;
        }
    }
}

static void release_one(struct mx *mx, struct procdom *pd)
{
    struct domain *d = pd->dom;

    while (pd->nr_grants) {
        grant_unmap(d, pd, pd->grants[0].ref);
    }
    for (unsigned k = 0; k < REF_KINDS; k++) {
        for (uint32_t f = 0; pd->count[k] && f < d->next_frame; f++) {
            while (pd->count[k][f]) {
                pd->count[k][f]--;
                d->total[k]--;
                frame_put(d, f);
            }
        }
        free(pd->count[k]);
    }
    free(pd->grants);
    free(pd);
    domain_reap(mx, d);
}

/** The program ended: all its mappings are gone. */
void proc_release(struct mx *mx, struct proc *p)
{
    struct procdom *pd;

    while ((pd = p->doms)) {
        p->doms = pd->next;
        release_one(mx, pd);
    }
}

static int mem_target(struct call *c, struct domain **d)
{
    if (c->conn->restricted >= 0 && (uint32_t)c->conn->restricted != c->req->domid) {
        return -EPERM;
    }
    *d = domain_find(c->mx, c->req->domid);
    if (*d && c->conn->caller && (*d)->pub->target_of != c->conn->caller) {
        return -EPERM;
    }
    return *d ? 0 : -ESRCH;
}

static int32_t map_page(struct call *c, struct domain *d, uint64_t gfn)
{
    uint32_t entry = gfn < MX_MAX_GFN ? d->p2m[gfn] : 0;
    uint32_t frame = (entry & MX_P2M_FRAME) - 1;
    int rc = fault_fires(c->mx, MOCK_CALL_FOREIGN_PAGE);

    if (!rc && !(entry & MX_P2M_FRAME) && mx_broken(c->mx->g, MX_BREAK_HOLE_MAPS)) {
        frame = 0;
    } else if (!rc && !(entry & MX_P2M_FRAME)) {
        rc = -EINVAL;
    }
    if (!rc) {
        rc = ref_get(c->conn->proc, d, REF_FOREIGN, frame);
    }
    return rc ? rc : (int32_t)frame;
}

static int mem_map(struct call *c)
{
    const uint64_t *gfn = (const uint64_t *)c->data;
    int32_t *out = (int32_t *)c->out;
    uint64_t nr = c->req->a[0];
    struct domain *d;
    int rc = fault_fires(c->mx, MOCK_CALL_FOREIGN_MAP);

    if (!nr || nr > MX_MAP_CHUNK || c->len != nr * sizeof(*gfn)) {
        return -EINVAL;
    }
    if (rc) {
        return rc;
    }
    rc = mem_target(c, &d);
    if (rc) {
        return rc;
    }
    mx_lock(&d->shm->lock);
    for (uint64_t i = 0; i < nr; i++) {
        out[i] = map_page(c, d, gfn[i]);
    }
    mx_unlock(&d->shm->lock);
    c->out_len = nr * sizeof(*out);
    c->rep->v[0] = d->gen;
    c->slow = true;
    return 0;
}

/** Payload: {first frame, number} pairs; a0 = generation, a1 = kind. */
static int mem_unmap(struct call *c)
{
    const uint32_t *run = (const uint32_t *)c->data;
    struct domain *d = domain_find(c->mx, c->req->domid);

    (void)fault_fires(c->mx, MOCK_CALL_FOREIGN_UNMAP);
    if (!d || d->gen != c->req->a[0] || c->req->a[1] >= REF_KINDS) {
        c->rep->v[0] = 1;
        return 0; /* a domain that went took its frames along */
    }
    mx_lock(&d->shm->lock);
    for (size_t i = 0; i + 2 <= c->len / sizeof(*run); i += 2) {
        for (uint32_t n = 0; n < run[i + 1]; n++) {
            (void)ref_put(c->conn->proc, d, (enum ref_kind)c->req->a[1], run[i] + n);
        }
    }
    mx_unlock(&d->shm->lock);
    domain_reap(c->mx, d);
    c->rep->v[0] = !domain_find(c->mx, c->req->domid);
    return 0;
}

/** Frame of an ioreq server's page; allocated at the first call. */
static int server_frame(struct domain *d, uint16_t caller, uint64_t id, uint64_t frame, uint32_t *out)
{
    struct mx_server *s;
    uint32_t *slot;
    int64_t f;

    if (id > UINT16_MAX) {
        return -EINVAL;
    }
    if (id >= MX_MAX_SERVERS || !d->shm->server[id].used) {
        return -ENOENT;
    }
    s = &d->shm->server[id];
    if (s->owner != caller || s->by_gfn) {
        return -EPERM;
    }
    if (frame > XENMEM_resource_ioreq_server_frame_ioreq(0)) {
        return -EINVAL;
    }
    if (frame == XENMEM_resource_ioreq_server_frame_bufioreq && !s->bufmode) {
        return -ENOENT;
    }
    slot = frame ? &s->ioreq_frame : &s->buf_frame;
    if (!*slot) {
        f = frame_alloc(d);
        if (f < 0) {
            return -ENOMEM;
        }
        *slot = (uint32_t)f + 1;
    }
    s->by_resource = 1;
    *out = *slot - 1;
    return 0;
}

static int mem_resource(struct call *c)
{
    uint64_t type = c->req->a[0], id = c->req->a[1], first = c->req->a[2], nr = c->req->a[3];
    uint32_t *out = (uint32_t *)c->out;
    struct domain *d;
    int rc = fault_fires(c->mx, MOCK_CALL_RESOURCE_MAP);

    rc = rc ? rc : mem_target(c, &d);
    if (rc) {
        return rc;
    }
    if (type != XENMEM_resource_ioreq_server) {
        return -EOPNOTSUPP;
    }
    if (!nr || nr > 2) {
        return -EINVAL;
    }
    mx_lock(&d->shm->lock);
    for (uint64_t i = 0; i < nr && !rc; i++) {
        rc = server_frame(d, c->conn->caller, id, first + i, &out[i]);
    }
    for (uint64_t i = 0; i < nr && !rc; i++) {
        rc = ref_get(c->conn->proc, d, REF_RESOURCE, out[i]);
    }
    mx_unlock(&d->shm->lock);
    c->out_len = nr * sizeof(*out);
    c->rep->v[0] = d->gen;
    c->slow = true;
    return rc;
}

static int mem_resource_size(struct call *c)
{
    struct domain *d;
    int rc = fault_fires(c->mx, MOCK_CALL_RESOURCE_SIZE);

    rc = rc ? rc : mem_target(c, &d);
    if (rc) {
        return rc;
    }
    if (c->req->a[0] != XENMEM_resource_ioreq_server) {
        return -EOPNOTSUPP;
    }
    c->rep->v[0] = 2 * MX_PAGE;
    return 0;
}

static int grant_check(struct call *c, const struct mx_gref *g, bool writable, struct domain **d,
                       uint32_t *frame)
{
    struct mx_grant *e;
    uint32_t entry;

    *d = domain_find(c->mx, g->domid);
    if (!*d || g->ref >= MX_GRANTS) {
        return -EINVAL;
    }
    e = &(*d)->shm->grant[g->ref];
    if (!(e->flags & MX_GRANT_VALID) || e->domid != c->conn->caller ||
        (writable && (e->flags & MX_GRANT_RDONLY))) {
        return -EINVAL;
    }
    entry = e->gfn < MX_MAX_GFN ? (*d)->p2m[e->gfn] : 0;
    if (!(entry & MX_P2M_FRAME)) {
        return -EINVAL;
    }
    *frame = (entry & MX_P2M_FRAME) - 1;
    return 0;
}

static int grant_hold(struct call *c, struct domain *d, uint32_t ref, uint32_t frame)
{
    struct procdom *pd = procdom_get(c->conn->proc, d);
    int rc = pd ? ref_get(c->conn->proc, d, REF_GRANT, frame) : -ENOMEM;

    if (rc) {
        return rc;
    }
    if (pd->nr_grants == pd->cap_grants) {
        unsigned cap = pd->cap_grants ? 2 * pd->cap_grants : 64;
        struct mx_gref *more = realloc(pd->grants, cap * sizeof(*more));

        if (!more) {
            (void)ref_put(c->conn->proc, d, REF_GRANT, frame);
            return -ENOMEM;
        }
        pd->grants = more;
        pd->cap_grants = cap;
    }
    pd->grants[pd->nr_grants++].ref = ref;
    atomic_fetch_add(&d->shm->grant[ref].maps, 1);
    return 0;
}

static void grant_drop(struct call *c, struct domain *d, uint32_t ref, uint32_t frame)
{
    struct procdom *pd = procdom_get(c->conn->proc, d);

    if (pd && ref < MX_GRANTS) {
        grant_unmap(d, pd, ref);
        (void)ref_put(c->conn->proc, d, REF_GRANT, frame);
    }
}

static int mem_grant_map(struct call *c)
{
    const struct mx_gref *g = (const struct mx_gref *)c->data;
    struct mx_gmap *out = (struct mx_gmap *)c->out;
    uint64_t nr = c->req->a[0], i;
    struct domain *d = NULL;
    int rc = fault_fires(c->mx, MOCK_CALL_GRANT_MAP);

    if (!nr || c->len != nr * sizeof(*g) || nr * sizeof(*out) > MX_MSG_MAX) {
        return -EINVAL;
    }
    for (i = 0; i < nr && !rc; i++) {
        rc = grant_check(c, &g[i], c->req->a[1], &d, &out[i].frame);
        if (!rc) {
            rc = grant_hold(c, d, g[i].ref, out[i].frame);
        }
        out[i].domid = g[i].domid;
        out[i].ref = g[i].ref;
        out[i].gen = d ? d->gen : 0;
    }
    if (rc && i) {
        for (i--; i-- > 0;) {
            grant_drop(c, domain_find(c->mx, g[i].domid), g[i].ref, out[i].frame);
        }
    }
    c->out_len = rc ? 0 : nr * sizeof(*out);
    c->slow = true;
    return rc;
}

static int mem_grant_unmap(struct call *c)
{
    const struct mx_gmap *g = (const struct mx_gmap *)c->data;
    struct domain *d;

    (void)fault_fires(c->mx, MOCK_CALL_GRANT_UNMAP);
    for (size_t i = 0; i < c->len / sizeof(*g); i++) {
        d = domain_find(c->mx, g[i].domid);
        if (d && d->gen == g[i].gen) {
            grant_drop(c, d, g[i].ref, g[i].frame);
            domain_reap(c->mx, d);
        }
    }
    return 0;
}

static int mem_frames_fd(struct call *c)
{
    struct domain *d = domain_find(c->mx, c->req->domid);

    if (!d) {
        return -ESRCH;
    }
    c->fds[0] = d->frames_fd;
    c->nr_fds = 1;
    c->rep->v[0] = d->gen;
    return 0;
}

int mem_call(struct call *c)
{
    switch (c->req->op) {
    case MX_MAP:
        return mem_map(c);
    case MX_UNMAP:
        return mem_unmap(c);
    case MX_FRAMES_FD:
        return mem_frames_fd(c);
    case MX_RES_MAP:
        return mem_resource(c);
    case MX_RES_SIZE:
        return mem_resource_size(c);
    case MX_GNT_MAP:
        return mem_grant_map(c);
    case MX_GNT_UNMAP:
        return mem_grant_unmap(c);
    default:
        return -EOPNOTSUPP;
    }
}
