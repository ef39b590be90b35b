/* SPDX-License-Identifier: BSD-2-Clause */
/* Domains as the test holds them: making, ending, memory, grants, guest ports, leftovers. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <xen/hvm/dm_op.h>
#include <xen/memory.h>

#define FIRST_GRANT 8u
#define DEFAULT_TIMEOUT 10000

static int map_memory(struct mock_guest *g, int fds[2], uint64_t frames)
{
    g->frames_len = frames * MX_PAGE;
    g->d = mmap(NULL, MX_DOM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fds[0], 0);
    g->frames = mmap(NULL, g->frames_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fds[1], 0);
    close(fds[0]);
    close(fds[1]);
    if (g->d == MAP_FAILED || g->frames == MAP_FAILED) {
        return -ENOMEM;
    }
    g->p2m = (uint32_t *)((char *)g->d + MX_DOM_P2M);
    g->dirty = (uint8_t *)g->d + MX_DOM_DIRTY;
    return 0;
}

static void fill_spec(struct mx_create *c, const struct mock_domain_spec *spec)
{
    static const uint8_t zero[16];

    c->ram_bytes = spec->ram_bytes;
    c->profile = spec->profile;
    c->nr_vcpus = spec->nr_vcpus;
    c->online = spec->online_vcpus;
    c->domid = spec->domid;
    c->type_unknown = spec->type_unknown;
    memcpy(c->uuid, spec->uuid, 16);
    if (!memcmp(c->uuid, zero, 16)) {
        (void)!getrandom(c->uuid, 16, 0);
    }
}

struct mock_guest *mock_domain_create(struct mock *m, const struct mock_domain_spec *spec)
{
    struct mx_req req = { .op = MX_DOM_CREATE };
    struct mock_guest *g = calloc(1, sizeof(*g));
    struct mx_create c = { 0 };
    struct mx_rep rep;
    int fds[2], rc;

    if (!g) {
        return NULL;
    }
    fill_spec(&c, spec);
    rc = mock_rpc(m, &req, &c, sizeof(c), &rep, NULL, 0, fds);
    if (rc >= 0) {
        rc = map_memory(g, fds, rep.v[2]);
    }
    if (rc < 0) {
        fprintf(stderr, "mock: domain of %llu bytes, %u vCPUs: %s\n", (unsigned long long)spec->ram_bytes,
                spec->nr_vcpus, strerror(-rc));
        free(g);
        return NULL;
    }
    g->mock = m;
    g->domid = (uint16_t)rep.v[0];
    g->pub = &m->g->doms[rep.v[1]];
    g->profile = spec->profile;
    g->nr_vcpus = spec->nr_vcpus;
    g->timeout = DEFAULT_TIMEOUT;
    memcpy(g->uuid, c.uuid, 16);
    if (spec->name) {
        snprintf(g->name, sizeof(g->name), "%s", spec->name);
    } else {
        snprintf(g->name, sizeof(g->name), "mock-%u", g->domid);
    }
    return g;
}

struct mock_guest *mock_domain_new(struct mock *m, enum mock_profile profile, uint64_t ram_bytes,
                                   unsigned nr_vcpus)
{
    return mock_domain_create(m, &(struct mock_domain_spec){ .profile = profile, .ram_bytes = ram_bytes,
                                                             .nr_vcpus = nr_vcpus });
}

static int dom_call(struct mock_guest *g, uint32_t op, uint64_t a0, uint64_t a1, uint64_t a2)
{
    struct mx_req req = { .op = op, .domid = g->domid, .a = { a0, a1, a2 } };
    struct mx_rep rep;

    return mock_rpc(g->mock, &req, NULL, 0, &rep, NULL, 0, NULL);
}

void mock_guest_free(struct mock_guest *g)
{
    if (!g) {
        return;
    }
    if (!atomic_load(&g->d->gone)) {
        (void)mock_domain_kill(g);
    }
    munmap(g->d, MX_DOM_SIZE);
    munmap(g->frames, g->frames_len);
    free(g);
}

int mock_domain_kill(struct mock_guest *g)
{
    return dom_call(g, MX_DOM_KILL, 0, 0, 0);
}

int mock_domain_shutdown(struct mock_guest *g, unsigned reason)
{
    return dom_call(g, MX_DOM_SHUTDOWN, reason, 0, 0);
}

int mock_vcpu_add(struct mock_guest *g)
{
    return dom_call(g, MX_VCPU_ADD, 0, 0, 0);
}

int mock_set_target(struct mock_guest *g, uint16_t stub)
{
    return dom_call(g, MX_DOM_TARGET, stub, 0, 0);
}

int mock_domain_info_by_id(struct mock *m, uint16_t domid, struct mock_domain_info *info)
{
    struct mx_req req = { .op = MX_DOM_INFO, .domid = domid };
    struct mx_rep rep;

    return mock_rpc(m, &req, NULL, 0, &rep, info, sizeof(*info), NULL);
}

int mock_domain_info(struct mock_guest *g, struct mock_domain_info *info)
{
    return mock_domain_info_by_id(g->mock, g->domid, info);
}

uint16_t mock_domid(const struct mock_guest *g)
{
    return g->domid;
}

enum mock_profile mock_guest_profile(const struct mock_guest *g)
{
    return g->profile;
}

const char *mock_domain_name(const struct mock_guest *g)
{
    return g->name;
}

const uint8_t *mock_domain_uuid(const struct mock_guest *g)
{
    return g->uuid;
}

unsigned mock_nr_vcpus(const struct mock_guest *g)
{
    return g->nr_vcpus;
}

struct mock *mock_of(const struct mock_guest *g)
{
    return g->mock;
}

void mock_set_timeout(struct mock_guest *g, int timeout_ms)
{
    g->timeout = timeout_ms;
}

int mock_server_ranges(struct mock_guest *g, unsigned id, struct mock_range *out, unsigned max)
{
    unsigned n = 0;

    if (id >= MX_MAX_SERVERS || !g->d->server[id].used) {
        return -ENOENT;
    }
    mx_lock(&g->d->lock);
    for (uint32_t t = 0; t < 3; t++) {
        const struct mx_ranges *r = &g->d->server[id].ranges[t];

        for (uint32_t i = 0; i < r->nr; i++, n++) {
            if (n < max) {
                out[n] = (struct mock_range){ t, r->r[i].start, r->r[i].end };
            }
        }
    }
    mx_unlock(&g->d->lock);
    return (int)n;
}

struct ioreq *mock_slot(struct mock_guest *g, unsigned id, unsigned vcpu)
{
    uint32_t frame = id < MX_MAX_SERVERS && g->d->server[id].used ? g->d->server[id].ioreq_frame : 0;

    return frame ? (struct ioreq *)(g->frames + (size_t)(frame - 1) * MX_PAGE) + vcpu : NULL;
}

uint64_t *mock_buffered_ring(struct mock_guest *g, unsigned id)
{
    uint32_t frame = id < MX_MAX_SERVERS && g->d->server[id].used ? g->d->server[id].buf_frame : 0;

    return frame ? (uint64_t *)(void *)(g->frames + (size_t)(frame - 1) * MX_PAGE) : NULL;
}

void mock_vcpu_wake(struct mock_guest *g, unsigned vcpu)
{
    atomic_fetch_add(&g->pub->wake[vcpu], 1);
    mx_futex_wake(&g->pub->wake[vcpu]);
}

int mock_drop_events(struct mock_guest *g, int vcpu, bool drop)
{
    if (vcpu < 0) {
        atomic_store(&g->pub->drop_all, drop);
        return 0;
    }
    if ((unsigned)vcpu >= g->nr_vcpus) {
        return -EINVAL;
    }
    g->d->drop[vcpu] = drop;
    return 0;
}

/* ------------------------------------------------------------------ memory */

uint64_t mock_ram_base(const struct mock_guest *g)
{
    return g->profile == MOCK_ARM64 ? 0x40000000 : 0;
}

uint8_t *guest_byte(struct mock_guest *g, uint64_t gpa)
{
    uint32_t entry = gpa >> 12 < MX_MAX_GFN ? g->p2m[gpa >> 12] & MX_P2M_FRAME : 0;

    return entry ? g->frames + (size_t)(entry - 1) * MX_PAGE + gpa % MX_PAGE : NULL;
}

void guest_mark_dirty(struct mock_guest *g, uint64_t gpa)
{
    __atomic_fetch_or(&g->dirty[gpa / MX_PAGE / 8], (uint8_t)(1u << gpa / MX_PAGE % 8), __ATOMIC_SEQ_CST);
}

void *mock_guest_ram(struct mock_guest *g, uint64_t gpa, size_t len)
{
    uint8_t *base = guest_byte(g, gpa);

    if (!base || !len || gpa + len < gpa) {
        return NULL;
    }
    for (uint64_t at = gpa - gpa % MX_PAGE + MX_PAGE; at < gpa + len; at += MX_PAGE) {
        if (guest_byte(g, at) != base + (at - gpa)) {
            return NULL;
        }
    }
    return base;
}

static int copy(struct mock_guest *g, uint64_t gpa, char *buf, size_t len, bool write)
{
    while (len) {
        size_t n = MX_PAGE - gpa % MX_PAGE < len ? MX_PAGE - gpa % MX_PAGE : len;
        uint8_t *p = guest_byte(g, gpa);

        if (!p) {
            return -EFAULT;
        }
        memcpy(write ? (char *)p : buf, write ? buf : (char *)p, n);
        if (write) {
            guest_mark_dirty(g, gpa);
        }
        gpa += n;
        buf += n;
        len -= n;
    }
    return 0;
}

int mock_guest_read(struct mock_guest *g, uint64_t gpa, void *buf, size_t len)
{
    return copy(g, gpa, buf, len, false);
}

int mock_guest_write(struct mock_guest *g, uint64_t gpa, const void *buf, size_t len)
{
    return copy(g, gpa, (char *)buf, len, true);
}

int mock_populate(struct mock_guest *g, uint64_t gfn, unsigned nr)
{
    return dom_call(g, MX_P2M_ADD, gfn, nr, 0);
}

int mock_toolstack_remove(struct mock_guest *g, uint64_t gfn, unsigned nr)
{
    return dom_call(g, MX_P2M_REMOVE, gfn, nr, 1);
}

bool mock_test_clear_dirty(struct mock_guest *g, uint64_t gfn)
{
    uint8_t bit = (uint8_t)(1u << gfn % 8);

    return gfn < MX_MAX_GFN &&
           (__atomic_fetch_and(&g->dirty[gfn / 8], (uint8_t)~bit, __ATOMIC_SEQ_CST) & bit);
}

int mock_log_dirty(struct mock_guest *g, bool on)
{
    g->d->log_dirty = on;
    return 0;
}

/* ------------------------------------------------------------------ grants and ports */

int mock_grant_range(struct mock_guest *g, uint64_t gfn, unsigned nr, uint16_t domid, bool readonly)
{
    struct mx_grant *t = g->d->grant;
    uint32_t ref, n;

    mx_lock(&g->d->lock);
    for (ref = FIRST_GRANT; ref + nr <= MX_GRANTS; ref += n + 1) {
        for (n = 0; n < nr && !(t[ref + n].flags & MX_GRANT_VALID); n++) {
        }
        if (n == nr) {
            break;
        }
    }
    for (n = 0; ref + nr <= MX_GRANTS && n < nr; n++) {
        t[ref + n].gfn = (uint32_t)(gfn + n);
        t[ref + n].domid = domid;
        t[ref + n].flags = MX_GRANT_VALID | (readonly ? MX_GRANT_RDONLY : 0);
    }
    mx_unlock(&g->d->lock);
    return ref + nr <= MX_GRANTS ? (int)ref : -ENOSPC;
}

int mock_grant(struct mock_guest *g, uint64_t gfn, uint16_t domid, bool readonly)
{
    return mock_grant_range(g, gfn, 1, domid, readonly);
}

int mock_grant_revoke(struct mock_guest *g, uint32_t ref)
{
    int rc = -EINVAL;

    mx_lock(&g->d->lock);
    if (ref < MX_GRANTS && (g->d->grant[ref].flags & MX_GRANT_VALID)) {
        rc = atomic_load(&g->d->grant[ref].maps) ? -EBUSY : 0;
        g->d->grant[ref].flags = rc ? g->d->grant[ref].flags : 0;
    }
    mx_unlock(&g->d->lock);
    return rc;
}

unsigned mock_grant_maps(struct mock_guest *g, uint32_t ref)
{
    return ref < MX_GRANTS ? atomic_load(&g->d->grant[ref].maps) : 0;
}

int mock_evtchn_alloc(struct mock_guest *g, uint16_t remote)
{
    return dom_call(g, MX_GPORT_ALLOC, remote, 0, 0);
}

uint64_t mock_evtchn_count(struct mock_guest *g, unsigned port)
{
    return port < MX_GPORTS ? atomic_load(&g->d->gport[port].count) : 0;
}

int mock_evtchn_wait(struct mock_guest *g, unsigned port, uint64_t count, int timeout_ms)
{
    int64_t deadline = mx_deadline(timeout_ms);
    uint32_t now;

    if (port >= MX_GPORTS) {
        return -EINVAL;
    }
    while ((now = atomic_load(&g->d->gport[port].count)) < count) {
        if (mx_futex_wait(&g->d->gport[port].count, now, deadline) == -ETIMEDOUT) {
            return -ETIMEDOUT;
        }
    }
    return 0;
}

int mock_evtchn_send(struct mock_guest *g, unsigned port)
{
    if (port >= MX_GPORTS || g->d->gport[port].kind != MX_GP_GUEST) {
        return -EINVAL;
    }
    guest_notify(g, port);
    return 0;
}

/* ------------------------------------------------------------------ leftovers */

static int dm(struct mock_guest *g, struct xen_dm_op *op)
{
    struct mx_req req = { .op = MX_DM_OP, .domid = g->domid };
    struct mx_rep rep;
    int rc = mock_rpc(g->mock, &req, op, sizeof(*op), &rep, op, sizeof(*op), NULL);

    return rc < 0 ? rc : 0;
}

/** Make the page exist as a mapping of it would, and give the reference back. */
static int touch_page(struct mock_guest *g, unsigned id, unsigned frame)
{
    struct mx_req req = { .op = MX_RES_MAP, .domid = g->domid,
                          .a = { XENMEM_resource_ioreq_server, id, frame, 1 } };
    uint32_t run[2] = { 0, 1 };
    struct mx_rep rep;
    int rc = mock_rpc(g->mock, &req, NULL, 0, &rep, run, sizeof(run[0]), NULL);

    if (rc >= 0) {
        req = (struct mx_req){ .op = MX_UNMAP, .domid = g->domid, .a = { rep.v[0], 1 } };
        rc = mock_rpc(g->mock, &req, run, sizeof(run), &rep, NULL, 0, NULL);
    }
    return rc < 0 ? rc : 0;
}

int mock_leave_server(struct mock_guest *g, const struct mock_leftover *l, uint32_t *vp_eport0)
{
    struct xen_dm_op op = { .op = XEN_DMOP_create_ioreq_server };
    int rc, id;

    op.u.create_ioreq_server.handle_bufioreq = (uint8_t)l->bufioreq;
    rc = dm(g, &op);
    if (rc) {
        return rc;
    }
    id = op.u.create_ioreq_server.id;
    rc = touch_page(g, (unsigned)id, 1);
    if (!rc && l->bufioreq) {
        rc = touch_page(g, (unsigned)id, 0);
    }
    for (unsigned i = 0; !rc && i < l->nr_ranges; i++) {
        op = (struct xen_dm_op){ .op = XEN_DMOP_map_io_range_to_ioreq_server };
        op.u.map_io_range_to_ioreq_server.id = (ioservid_t)id;
        op.u.map_io_range_to_ioreq_server.type = l->ranges[i].type;
        op.u.map_io_range_to_ioreq_server.start = l->ranges[i].start;
        op.u.map_io_range_to_ioreq_server.end = l->ranges[i].end;
        rc = dm(g, &op);
    }
    if (!rc && l->enabled) {
        op = (struct xen_dm_op){ .op = XEN_DMOP_set_ioreq_server_state };
        op.u.set_ioreq_server_state.id = (ioservid_t)id;
        op.u.set_ioreq_server_state.enabled = 1;
        rc = dm(g, &op);
    }
    if (!rc && vp_eport0) {
        *vp_eport0 = mock_slot(g, (unsigned)id, 0)->vp_eport;
    }
    return rc ? rc : id;
}
