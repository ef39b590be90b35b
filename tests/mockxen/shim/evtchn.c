/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libxenevtchn. The handle's fd is a stream socket: guests put port numbers in, the emulator writes port
 * numbers back to unmask them, so read() and write() of several at once work as on /dev/xen/evtchn. A
 * notification to a vCPU is one futex wake; mockxen hears of neither.
 */
#include "shim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xenevtchn.h>

struct xenevtchn_handle {
    struct shim shim;
    int fd;
    uint32_t handle;            /* index + 1 in the global table */
    Xentoolcore__Active_Handle ah;
};

static int restrict_cb(Xentoolcore__Active_Handle *ah, domid_t domid)
{
    return xenevtchn_restrict((xenevtchn_handle *)((char *)ah - offsetof(xenevtchn_handle, ah)), domid);
}

/** A handle for a fresh stream, or for the one that `fd` is already. */
static xenevtchn_handle *make(int fd)
{
    struct mx_req req = { .op = fd < 0 ? MX_EVT_OPEN : MX_EVT_ADOPT };
    xenevtchn_handle *h = calloc(1, sizeof(*h));
    struct mx_rep rep;
    struct stat st = { 0 };
    int fds[2];

    if (!h || shim_open(&h->shim) < 0) {
        free(h);
        return NULL;
    }
    if (fd >= 0 && fstat(fd, &st) < 0) {
        goto fail;
    }
    req.a[0] = st.st_ino;
    if (shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, fds) < 0) {
        goto fail;
    }
    h->fd = fd < 0 ? fds[0] : fd;
    h->handle = (uint32_t)rep.v[0] + 1;
    h->ah.restrict_callback = restrict_cb;
    xentoolcore__register_active_handle(&h->ah);
    return h;
fail:
    shim_close(&h->shim);
    free(h);
    return NULL;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    xenevtchn_handle *h;

    (void)logger;
    if (flags & ~XENEVTCHN_NO_CLOEXEC) {
        errno = EINVAL;
        return NULL;
    }
    h = make(-1);
    if (h && (flags & XENEVTCHN_NO_CLOEXEC)) {
        (void)fcntl(h->fd, F_SETFD, 0);
    }
    return h;
}

xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned open_flags)
{
    (void)logger;
    if (open_flags) {
        errno = EINVAL;
        return NULL;
    }
    return make(fd);
}

int xenevtchn_close(xenevtchn_handle *h)
{
    int rc;

    if (!h) {
        return 0;
    }
    xentoolcore__deregister_active_handle(&h->ah);
    rc = close(h->fd);
    shim_close(&h->shim);
    free(h);
    return rc;
}

int xenevtchn_fd(xenevtchn_handle *h)
{
    return h->fd;
}

int xenevtchn_restrict(xenevtchn_handle *h, domid_t domid)
{
    struct mx_req req = { .op = MX_EVT_RESTRICT, .domid = domid };
    struct mx_rep rep;

    return shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, NULL) < 0 ? -1 : 0;
}

int xenevtchn_notify(xenevtchn_handle *h, evtchn_port_t port)
{
    struct mx_req req = { .op = MX_EVT_NOTIFY, .a = { port } };
    struct mx_global *g = h->shim.g;
    struct mx_lport *lp;
    struct mx_rep rep;
    _Atomic uint32_t *wake;

    if (shim_fault(&h->shim, MOCK_CALL_NOTIFY) < 0) {
        return -1;
    }
    lp = port < MX_LPORTS ? &g->lports[port] : NULL;
    if (!lp || atomic_load(&lp->handle) != h->handle) {
        errno = ENOTCONN;
        return -1;
    }
    switch (atomic_load(&lp->kind)) {
    case MX_LP_XEN:
        wake = &g->doms[lp->slot].wake[lp->vcpu];
        atomic_fetch_add(wake, 1);
        mx_futex_wake(wake);
        return 0;
    case MX_LP_GUEST:
        return shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, NULL) < 0 ? -1 : 0;
    default:
        return 0; /* the peer is dead or never came */
    }
}

static xenevtchn_port_or_error_t port_call(xenevtchn_handle *h, uint32_t op, uint32_t domid, uint64_t arg)
{
    struct mx_req req = { .op = op, .domid = domid, .a = { arg } };
    struct mx_rep rep;

    return shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, NULL) < 0 ? -1
                                                                       : (xenevtchn_port_or_error_t)rep.v[0];
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *h, uint32_t domid)
{
    return port_call(h, MX_EVT_ALLOC, domid, 0);
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *h, uint32_t domid,
                                                     evtchn_port_t remote_port)
{
    return port_call(h, MX_EVT_BIND, domid, remote_port);
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *h, unsigned int virq)
{
    return port_call(h, MX_EVT_VIRQ, 0, virq);
}

int xenevtchn_unbind(xenevtchn_handle *h, evtchn_port_t port)
{
    return port_call(h, MX_EVT_UNBIND, 0, port) < 0 ? -1 : 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
    evtchn_port_t port;
    ssize_t n = read(h->fd, &port, sizeof(port));

    if (n != sizeof(port)) {
        if (n >= 0) {
            errno = EIO; /* mockxen went away */
        }
        return -1;
    }
    return (xenevtchn_port_or_error_t)port;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t port)
{
    return write(h->fd, &port, sizeof(port)) == sizeof(port) ? 0 : -1;
}
