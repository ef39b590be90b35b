/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Event channels. Local ports belong to an open file (a stream socket whose other end an emulator holds);
 * when its last copy is closed they go, and the domain's ends are unbound again under the same number.
 */
#include "server.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SNDBUF (32 * 1024 * 1024)   /* each waiting event costs the kernel most of a KiB of bookkeeping */
#define NR_VIRQS 24u
#define VIRQ_EXC 3u

int gport_alloc(struct domain *d, enum mx_gport_kind kind, uint16_t remote, unsigned vcpu)
{
    for (uint32_t p = 1; p < MX_GPORTS; p++) {
        struct mx_gport *gp = &d->shm->gport[p];

        if (gp->kind == MX_GP_FREE) {
            atomic_store(&gp->peer, 0);
            atomic_store(&gp->count, 0);
            gp->remote = remote;
            gp->vcpu = (uint8_t)vcpu;
            gp->kind = (uint8_t)kind;
            return (int)p;
        }
    }
    return -ENOSPC;
}

void gport_free(struct mx *mx, struct domain *d, uint32_t port)
{
    struct mx_gport *gp = &d->shm->gport[port];
    uint32_t peer = atomic_load(&gp->peer);

    if (!port || gp->kind == MX_GP_FREE || gp->kind == MX_GP_RESERVED) {
        return;
    }
    if (peer) {
        atomic_store(&mx->g->lports[peer].kind, MX_LP_DEAD);
    }
    atomic_store(&gp->peer, 0);
    gp->kind = MX_GP_FREE;
}

static int lport_alloc(struct mx *mx, unsigned handle, enum mx_lport_kind kind)
{
    for (uint32_t p = 1; p < MX_LPORTS; p++) {
        struct mx_lport *lp = &mx->g->lports[p];

        if (!atomic_load(&lp->handle)) {
            atomic_store(&lp->flags, 0);
            atomic_store(&lp->kind, kind);
            atomic_store(&lp->handle, handle + 1);
            mx->lport_top = p >= mx->lport_top ? p + 1 : mx->lport_top;
            return (int)p;
        }
    }
    return -ENOSPC;
}

static void lport_free(struct mx *mx, uint32_t port)
{
    struct mx_lport *lp = &mx->g->lports[port];
    uint32_t kind = atomic_load(&lp->kind);
    struct domain *d = mx->doms[lp->slot];

    if ((kind == MX_LP_XEN || kind == MX_LP_GUEST) && d &&
        atomic_load(&d->shm->gport[lp->gport].peer) == port) {
        atomic_store(&d->shm->gport[lp->gport].peer, 0);
    }
    atomic_store(&lp->kind, MX_LP_FREE);
    atomic_store(&lp->handle, 0);
}

static void raise_port(struct mx *mx, uint32_t port)
{
    uint32_t handle = atomic_load(&mx->g->lports[port].handle);

    if (handle && mx->files[handle - 1].fd >= 0) {
        (void)mx_evt_raise(mx->g, port, handle - 1, mx->files[handle - 1].fd);
    }
}

void evt_virq(struct mx *mx, uint32_t virq)
{
    for (uint32_t p = 1; p < mx->lport_top; p++) {
        struct mx_lport *lp = &mx->g->lports[p];

        if (atomic_load(&lp->handle) && atomic_load(&lp->kind) == MX_LP_VIRQ && lp->gport == virq) {
            raise_port(mx, p);
        }
    }
}

void evt_hup(struct mx *mx, unsigned handle)
{
    if (mx->files[handle].fd < 0) {
        return;
    }
    for (uint32_t p = 1; p < mx->lport_top; p++) {
        if (atomic_load(&mx->g->lports[p].handle) == handle + 1) {
            lport_free(mx, p);
        }
    }
    atomic_store(&mx->g->handles[handle].gen, 0);
    /* The guest library holds a copy: closing ours alone would leave the old stream registered under the
     * handle's tag. */
    epoll_ctl(mx->epfd, EPOLL_CTL_DEL, mx->files[handle].fd, NULL);
    close(mx->files[handle].fd);
    mx->files[handle].fd = -1;
}

/** The owner of a port may have died a moment ago: look before saying that it is bound. */
static void reap_owner(struct mx *mx, uint32_t lport)
{
    uint32_t handle = atomic_load(&mx->g->lports[lport].handle);
    struct pollfd p = { .fd = handle ? mx->files[handle - 1].fd : -1 };

    if (handle && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP)) {
        evt_hup(mx, handle - 1);
    }
}

static int evt_open(struct call *c)
{
    struct epoll_event ev = { .events = 0 };
    struct mx *mx = c->mx;
    int sv[2], size = SNDBUF;
    struct stat st;
    unsigned h = 0;

    while (h < MX_MAX_HANDLES && mx->files[h].fd >= 0) {
        h++;
    }
    if (h == MX_MAX_HANDLES) {
        return -EMFILE;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0) {
        return -errno;
    }
    if (setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0) {
        (void)setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
    ev.data.u64 = (uint64_t)h + 1; /* tag TAG_FILE */
    if (fstat(sv[1], &st) < 0 || epoll_ctl(mx->epfd, EPOLL_CTL_ADD, sv[0], &ev) < 0) {
        close(sv[0]);
        close(sv[1]);
        return -EIO;
    }
    mx->files[h] =
        (struct evt_file){ .fd = sv[0], .ino = st.st_ino, .caller = c->conn->caller, .restricted = -1 };
    mx->g->handles[h].partial_len = 0;
    atomic_store(&mx->g->handles[h].watch, 0);
    atomic_store(&mx->g->handles[h].gen, ++mx->next_gen);
    c->conn->handle = (int)h;
    c->fds[0] = sv[1];
    c->nr_fds = 1;
    c->rep->v[0] = h;
    c->rep->v[1] = mx->next_gen;
    c->rep->v[2] = 1; /* close our copy once sent */
    return 0;
}

static int evt_adopt(struct call *c)
{
    for (unsigned h = 0; h < MX_MAX_HANDLES; h++) {
        if (c->mx->files[h].fd >= 0 && c->mx->files[h].ino == c->req->a[0]) {
            c->conn->handle = (int)h;
            c->rep->v[0] = h;
            c->rep->v[1] = atomic_load(&c->mx->g->handles[h].gen);
            return 0;
        }
    }
    return -EINVAL;
}

static int evt_bind(struct call *c, unsigned handle)
{
    struct evt_file *f = &c->mx->files[handle];
    uint64_t port = c->req->a[0];
    struct mx_gport *gp;
    struct mx_lport *lp;
    struct domain *d;
    int local;

    if (f->restricted >= 0 && (uint32_t)f->restricted != c->req->domid) {
        return -EACCES;
    }
    d = domain_find(c->mx, c->req->domid);
    if (!d) {
        return -ESRCH;
    }
    if (port == 0 || port >= MX_GPORTS) {
        return -EINVAL;
    }
    gp = &d->shm->gport[port];
    if (gp->kind == MX_GP_FREE || gp->kind == MX_GP_RESERVED || gp->remote != f->caller) {
        return -EINVAL;
    }
    if (atomic_load(&gp->peer)) {
        reap_owner(c->mx, atomic_load(&gp->peer));
    }
    if (atomic_load(&gp->peer) && !mx_broken(c->mx->g, MX_BREAK_BIND_TWICE)) {
        return -EINVAL;
    }
    local = lport_alloc(c->mx, handle, gp->kind == MX_GP_XEN ? MX_LP_XEN : MX_LP_GUEST);
    if (local < 0) {
        return local;
    }
    lp = &c->mx->g->lports[local];
    lp->slot = (uint16_t)d->slot;
    lp->vcpu = gp->vcpu;
    lp->gport = (uint32_t)port;
    lp->remote = d->domid;
    atomic_store(&gp->peer, (uint32_t)local);
    raise_port(c->mx, (uint32_t)local); /* Xen marks a newly bound port pending */
    c->rep->v[0] = (uint32_t)local;
    return 0;
}

/** Ports without a peer yet, and VIRQs. */
static int evt_new(struct call *c, unsigned handle, bool virq)
{
    uint32_t number = virq ? (uint32_t)c->req->a[0] : 0;
    int local;

    if (c->mx->files[handle].restricted >= 0) {
        return -EACCES;
    }
    if (virq && number >= NR_VIRQS) {
        return -EINVAL;
    }
    if (virq && number == VIRQ_EXC && c->mx->xs_dir) {
        return -EEXIST; /* xenstored has it */
    }
    if (!virq && c->req->domid && !domain_find(c->mx, c->req->domid)) {
        return -ESRCH;
    }
    local = lport_alloc(c->mx, handle, virq ? MX_LP_VIRQ : MX_LP_UNBOUND);
    if (local > 0) {
        c->mx->g->lports[local].gport = number;
        c->mx->g->lports[local].remote = c->req->domid;
        c->rep->v[0] = (uint32_t)local;
    }
    return local < 0 ? local : 0;
}

static struct mx_lport *own_port(struct call *c, unsigned handle)
{
    struct mx_lport *lp = c->req->a[0] < MX_LPORTS ? &c->mx->g->lports[c->req->a[0]] : NULL;

    return lp && atomic_load(&lp->handle) == handle + 1 ? lp : NULL;
}

static int evt_notify(struct call *c, unsigned handle)
{
    struct mx_lport *lp = own_port(c, handle);
    struct domain *d;

    if (!lp) {
        return -ENOTCONN;
    }
    d = c->mx->doms[lp->slot];
    if (atomic_load(&lp->kind) == MX_LP_GUEST && d) {
        atomic_fetch_add(&d->shm->gport[lp->gport].count, 1);
        mx_futex_wake(&d->shm->gport[lp->gport].count);
    }
    return 0;
}

static int evt_restrict(struct call *c, unsigned handle)
{
    struct evt_file *f = &c->mx->files[handle];

    if (f->restricted >= 0) {
        return -EACCES;
    }
    if (!c->req->domid || c->req->domid >= MX_MAX_DOMID) {
        return -EINVAL;
    }
    f->restricted = (int)c->req->domid;
    return 0;
}

int evt_call(struct call *c)
{
    int handle = c->conn->handle;

    if (c->req->op == MX_EVT_OPEN) {
        return evt_open(c);
    }
    if (c->req->op == MX_EVT_ADOPT) {
        return evt_adopt(c);
    }
    if (handle < 0) {
        return -EBADF;
    }
    switch (c->req->op) {
    case MX_EVT_BIND:
        return evt_bind(c, (unsigned)handle);
    case MX_EVT_ALLOC:
        return evt_new(c, (unsigned)handle, false);
    case MX_EVT_VIRQ:
        return evt_new(c, (unsigned)handle, true);
    case MX_EVT_NOTIFY:
        return evt_notify(c, (unsigned)handle);
    case MX_EVT_RESTRICT:
        return evt_restrict(c, (unsigned)handle);
    case MX_EVT_UNBIND:
        if (!own_port(c, (unsigned)handle)) {
            return -ENOTCONN;
        }
        /* A guest that is idle takes no unmasks: those of ports that come and go would fill the stream. */
        mx_lock(&c->mx->g->handles[handle].lock);
        mx_evt_drain(c->mx->g, (uint32_t)handle, c->mx->files[handle].fd);
        mx_unlock(&c->mx->g->handles[handle].lock);
        lport_free(c->mx, (uint32_t)c->req->a[0]);
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

/** Handles with masked pending ports: take unmasks as they come, for nobody else may notify again. */
void evt_watch(struct mx *mx)
{
    for (unsigned h = 0; h < MX_MAX_HANDLES; h++) {
        struct epoll_event ev = { .events = 0, .data.u64 = (uint64_t)h + 1 };
        bool waiting = false, backlog = false;

        if (mx->files[h].fd < 0 || !atomic_exchange(&mx->g->handles[h].watch, 0)) {
            continue;
        }
        mx_lock(&mx->g->handles[h].lock);
        mx_evt_drain(mx->g, h, mx->files[h].fd);
        mx_unlock(&mx->g->handles[h].lock);
        for (uint32_t p = 1; p < mx->lport_top; p++) {
            struct mx_lport *lp = &mx->g->lports[p];

            if (atomic_load(&lp->handle) == h + 1 && (atomic_load(&lp->flags) & MX_PENDING)) {
                if (atomic_load(&lp->flags) & MX_MASKED) {
                    waiting = true;
                } else {
                    raise_port(mx, p);
                    backlog = backlog || (atomic_load(&lp->flags) & MX_PENDING);
                }
            }
        }
        ev.events = (waiting ? (uint32_t)EPOLLIN : 0) | (backlog ? (uint32_t)EPOLLOUT : 0);
        if (ev.events) {
            atomic_store(&mx->g->handles[h].watch, 1);
        }
        (void)epoll_ctl(mx->epfd, EPOLL_CTL_MOD, mx->files[h].fd, &ev);
    }
}
