/* SPDX-License-Identifier: BSD-2-Clause */
/* Domains: memory in a memfd of frames, a physmap in shared memory, death and the references that outlive it.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xen/xen.h>
#include <xen/sched.h>

#define EXTRA_FRAMES 4096u  /* shared pages, and RAM that comes while old pages are still referenced */
#define VIRQ_EXC 3u

struct domain *domain_find(struct mx *mx, uint32_t domid)
{
    uint32_t slot = domid < MX_MAX_DOMID ? mx->g->slot_of[domid] : 0;

    return slot ? mx->doms[slot - 1] : NULL;
}

int64_t frame_alloc(struct domain *d)
{
    uint32_t frame;

    if (d->nr_free) {
        frame = d->free_frames[--d->nr_free];
    } else if (d->next_frame < d->nr_frames) {
        frame = d->next_frame++;
    } else {
        return -ENOMEM;
    }
    d->refs[frame] = 1;
    return frame;
}

void frame_get(struct domain *d, uint32_t frame)
{
    d->refs[frame]++;
}

void frame_put(struct domain *d, uint32_t frame)
{
    if (--d->refs[frame]) {
        return;
    }
    if (atomic_load(&d->shm->gone)) {
        return; /* all of it goes with the last reference */
    }
    /* The next owner sees zeroes, as from Xen's scrubber. */
    (void)fallocate(d->frames_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)frame * MX_PAGE,
                    MX_PAGE);
    d->free_frames[d->nr_free++] = frame;
}

/** gfn of the n-th RAM page: the profile's holes are here and nowhere else. */
static uint64_t ram_gfn(uint32_t profile, uint64_t n)
{
    uint64_t low = 0xf0000;

    if (profile == MOCK_ARM64) {
        return n < 0xc0000 ? 0x40000 + n : 0x200000 + (n - 0xc0000);
    }
    if (profile == MOCK_HVM && n >= 0xa0) {
        n += 0x20;
    }
    return n < low ? n : 0x100000 + (n - low);
}

static int fill_ram(struct domain *d, uint64_t pages)
{
    int64_t frame;
    uint64_t gfn;

    for (uint64_t n = 0; n < pages; n++) {
        gfn = ram_gfn(d->shm->profile, n);
        frame = frame_alloc(d);
        if (gfn >= MX_MAX_GFN || frame < 0) {
            return -ENOMEM;
        }
        d->p2m[gfn] = (uint32_t)frame + 1;
        d->shm->max_gfn = (uint32_t)gfn;
    }
    return 0;
}

static void domain_free(struct domain *d)
{
    if (d->shm && d->shm != MAP_FAILED) {
        munmap(d->shm, MX_DOM_SIZE);
    }
    if (d->shm_fd >= 0) {
        close(d->shm_fd);
    }
    if (d->frames_fd >= 0) {
        close(d->frames_fd);
    }
    free(d->refs);
    free(d->free_frames);
    free(d);
}

static struct domain *domain_alloc(uint64_t pages)
{
    struct domain *d = calloc(1, sizeof(*d));

    if (!d) {
        return NULL;
    }
    d->nr_frames = (uint32_t)pages + EXTRA_FRAMES;
    d->shm_fd = memfd_create("mock-domain", MFD_CLOEXEC);
    d->frames_fd = memfd_create("mock-frames", MFD_CLOEXEC);
    d->refs = calloc(d->nr_frames, sizeof(*d->refs));
    d->free_frames = calloc(d->nr_frames, sizeof(*d->free_frames));
    if (d->shm_fd < 0 || d->frames_fd < 0 || !d->refs || !d->free_frames ||
        ftruncate(d->shm_fd, MX_DOM_SIZE) < 0 || ftruncate(d->frames_fd, (off_t)d->nr_frames * MX_PAGE) < 0) {
        goto fail;
    }
    d->shm = mmap(NULL, MX_DOM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, d->shm_fd, 0);
    if (d->shm == MAP_FAILED) {
        goto fail;
    }
    d->p2m = (uint32_t *)((char *)d->shm + MX_DOM_P2M);
    return d;
fail:
    domain_free(d);
    return NULL;
}

static void init_shm(struct domain *d, const struct mx_create *spec)
{
    struct mx_dom *s = d->shm;

    mx_lock_init(&s->lock);
    s->domid = d->domid;
    s->slot = d->slot;
    s->gen = d->gen;
    s->profile = spec->profile;
    s->nr_vcpus = spec->nr_vcpus;
    s->online = spec->online ? spec->online : spec->nr_vcpus;
    s->gport[0].kind = s->gport[1].kind = s->gport[2].kind = MX_GP_RESERVED; /* 1 xenstore, 2 console */
    for (unsigned i = 0; i < MX_GSIS; i++) {
        s->irq.pin[i].level = i >= 16;
    }
}

static void publish(struct mx *mx, struct domain *d, const struct mx_create *spec)
{
    struct mx_dom_pub *p = d->pub;

    p->domid = d->domid;
    p->profile = (uint8_t)spec->profile;
    p->type_unknown = (uint8_t)spec->type_unknown;
    p->nr_vcpus = spec->nr_vcpus;
    p->target_of = 0;
    atomic_store(&p->dying, 0);
    atomic_store(&p->drop_all, 0);
    atomic_store(&p->gen, d->gen);
    mx->doms[d->slot] = d;
    mx->g->slot_of[d->domid] = (uint16_t)(d->slot + 1);
    xs_domain(mx, d->domid, "create");
}

static int pick_domid(struct mx *mx, uint32_t wanted)
{
    if (wanted) {
        return wanted < MX_MAX_DOMID && !domain_find(mx, wanted) ? (int)wanted : -EEXIST;
    }
    for (unsigned i = 0; i < MX_MAX_DOMID; i++) {
        mx->next_domid = mx->next_domid >= MX_MAX_DOMID - 1 ? 1 : (uint16_t)(mx->next_domid + 1);
        if (!domain_find(mx, mx->next_domid)) {
            return mx->next_domid;
        }
    }
    return -ENOSPC;
}

int domain_create(struct call *c)
{
    const struct mx_create *spec = (const struct mx_create *)c->data;
    struct domain *d;
    uint32_t slot = 0;
    int domid;

    if (c->len != sizeof(*spec) || !spec->nr_vcpus || spec->nr_vcpus > MX_MAX_VCPUS ||
        spec->online > spec->nr_vcpus || spec->ram_bytes % MX_PAGE || spec->profile > MOCK_ARM64 ||
        spec->ram_bytes / MX_PAGE > MX_MAX_GFN) {
        return -EINVAL;
    }
    domid = pick_domid(c->mx, spec->domid);
    while (slot < MX_MAX_DOMS && c->mx->doms[slot]) {
        slot++;
    }
    if (domid < 0 || slot == MX_MAX_DOMS) {
        return domid < 0 ? domid : -ENOSPC;
    }
    d = domain_alloc(spec->ram_bytes / MX_PAGE);
    if (!d) {
        return -ENOMEM;
    }
    d->domid = (uint16_t)domid;
    d->slot = slot;
    d->gen = ++c->mx->next_gen;
    d->pub = &c->mx->g->doms[slot];
    init_shm(d, spec);
    if (fill_ram(d, spec->ram_bytes / MX_PAGE)) {
        domain_free(d);
        return -ENOMEM;
    }
    publish(c->mx, d, spec);
    c->rep->v[0] = d->domid;
    c->rep->v[1] = slot;
    c->rep->v[2] = d->nr_frames;
    c->fds[0] = d->shm_fd;
    c->fds[1] = d->frames_fd;
    c->nr_fds = 2;
    return 0;
}

static void wake_all(struct domain *d)
{
    for (unsigned i = 0; i < d->shm->nr_vcpus; i++) {
        atomic_fetch_add(&d->pub->wake[i], 1);
        mx_futex_wake(&d->pub->wake[i]);
    }
    atomic_fetch_add(&d->shm->irq.seq, 1);
    mx_futex_wake(&d->shm->irq.seq);
}

int domain_kill(struct mx *mx, struct domain *d)
{
    struct mx_dom *s = d->shm;

    if (atomic_load(&s->gone)) {
        return 0;
    }
    mx_lock(&s->lock);
    atomic_store(&s->gone, 1);
    atomic_store(&d->pub->dying, 1);
    for (unsigned id = 0; id < MX_MAX_SERVERS; id++) {
        server_free(mx, d, id);
    }
    for (uint32_t port = 1; port < MX_GPORTS; port++) {
        gport_free(mx, d, port);
    }
    for (uint32_t gfn = 0; gfn <= s->max_gfn; gfn++) {
        if (d->p2m[gfn] & MX_P2M_FRAME) {
            frame_put(d, (d->p2m[gfn] & MX_P2M_FRAME) - 1);
            d->p2m[gfn] = 0;
        }
    }
    mx_unlock(&s->lock);
    wake_all(d);
    xs_domain(mx, d->domid, "dying");
    evt_virq(mx, VIRQ_EXC);
    domain_reap(mx, d);
    return 0;
}

static void forget_refs(struct mx *mx, struct domain *d)
{
    struct procdom **at, *pd;

    for (struct proc *p = mx->procs; p; p = p->next) {
        for (at = &p->doms; (pd = *at);) {
            if (pd->dom != d) {
                at = &pd->next;
                continue;
            }
            *at = pd->next;
            for (unsigned k = 0; k < REF_KINDS; k++) {
                free(pd->count[k]);
            }
            free(pd->grants);
            free(pd);
        }
    }
}

void domain_reap(struct mx *mx, struct domain *d)
{
    if (!atomic_load(&d->shm->gone) || d->total[REF_FOREIGN] || d->total[REF_RESOURCE] ||
        d->total[REF_GRANT]) {
        return;
    }
    forget_refs(mx, d);
    mx->g->slot_of[d->domid] = 0;
    mx->doms[d->slot] = NULL;
    atomic_store(&d->pub->gen, 0);
    xs_domain(mx, d->domid, "gone");
    evt_virq(mx, VIRQ_EXC);
    domain_free(d);
}

int domain_shutdown(struct mx *mx, struct domain *d, unsigned reason)
{
    if (atomic_load(&d->shm->gone)) {
        return -ESRCH;
    }
    if (!atomic_exchange(&d->shm->shut, 1)) {
        d->shm->reason = reason;
        atomic_store(&d->shm->crashed, reason == SHUTDOWN_crash);
        if (reason == SHUTDOWN_crash) {
            wake_all(d); /* a crash does not wait for the emulator's answer */
        }
        xs_domain(mx, d->domid, "shutdown");
        evt_virq(mx, VIRQ_EXC);
    }
    return 0;
}

int domain_info(struct call *c)
{
    struct domain *d = domain_find(c->mx, c->req->domid);
    struct mock_domain_info *info = (struct mock_domain_info *)c->out;
    struct mx_dom *s;

    memset(info, 0, sizeof(*info));
    c->out_len = sizeof(*info);
    if (!d) {
        return 0;
    }
    s = d->shm;
    info->exists = true;
    info->dying = atomic_load(&s->gone);
    info->shutdown = atomic_load(&s->shut);
    info->crashed = atomic_load(&s->crashed);
    info->shutdown_reason = s->reason;
    for (unsigned i = 0; i < MX_MAX_SERVERS; i++) {
        info->nr_servers += s->server[i].used;
        info->server_mask |= s->server[i].used << i;
        info->enabled_mask |= (s->server[i].used && s->server[i].enabled ? 1u : 0u) << i;
    }
    for (unsigned i = 1; i < MX_GPORTS; i++) {
        info->bound_ports += atomic_load(&s->gport[i].peer) != 0;
    }
    info->foreign_pages = d->total[REF_FOREIGN];
    info->resource_pages = d->total[REF_RESOURCE];
    info->grant_pages = d->total[REF_GRANT];
    return 0;
}

int domain_add_vcpu(struct mx *mx, struct domain *d)
{
    struct mx_dom *s = d->shm;
    unsigned vcpu = s->online;
    int port = 0;

    (void)mx;
    if (vcpu == s->nr_vcpus) {
        return -EINVAL;
    }
    mx_lock(&s->lock);
    for (unsigned id = 0; id < MX_MAX_SERVERS && port >= 0; id++) {
        if (!s->server[id].used) {
            continue;
        }
        port = gport_alloc(d, MX_GP_XEN, (uint16_t)s->server[id].owner, vcpu);
        if (port > 0) {
            s->server[id].port[vcpu] = (uint32_t)port;
            if (s->server[id].enabled) {
                server_show_port(d, &s->server[id], vcpu);
            }
        }
    }
    if (port >= 0) {
        s->online++;
    }
    mx_unlock(&s->lock);
    return port < 0 ? port : 0;
}

int p2m_remove(struct call *c, struct domain *d)
{
    uint64_t gfn = c->req->a[0], nr = c->req->a[1];
    struct mx_dom *s = d->shm;
    int rc = 0;

    mx_lock(&s->lock);
    for (uint64_t i = 0; i < nr; i++) {
        if (gfn + i >= MX_MAX_GFN || !(d->p2m[gfn + i] & MX_P2M_FRAME)) {
            rc = -EINVAL;
            continue;
        }
        frame_put(d, (d->p2m[gfn + i] & MX_P2M_FRAME) - 1);
        d->p2m[gfn + i] = 0;
    }
    if (c->req->a[2]) {
        memset(s->invalidate, 1, s->nr_vcpus);
    }
    mx_unlock(&s->lock);
    return rc;
}

int p2m_add(struct call *c, struct domain *d)
{
    uint64_t gfn = c->req->a[0], nr = c->req->a[1];
    struct mx_dom *s = d->shm;
    int64_t frame;
    int rc = 0;

    mx_lock(&s->lock);
    for (uint64_t i = 0; i < nr && !rc; i++) {
        if (gfn + i >= MX_MAX_GFN || (d->p2m[gfn + i] & MX_P2M_FRAME)) {
            rc = -EINVAL;
            break;
        }
        frame = frame_alloc(d);
        if (frame < 0) {
            rc = (int)frame;
            break;
        }
        d->p2m[gfn + i] = (uint32_t)frame + 1;
        if (gfn + i > s->max_gfn) {
            s->max_gfn = (uint32_t)(gfn + i);
        }
    }
    mx_unlock(&s->lock);
    return rc;
}
