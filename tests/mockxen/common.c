/* SPDX-License-Identifier: BSD-2-Clause */
#include "common.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int mx_send(int fd, const void *head, size_t head_len, const void *data, size_t len, const int *fds,
            int nr_fds)
{
    struct iovec iov[2] = { { (void *)head, head_len }, { (void *)data, len } };
    union { char buf[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } ctl;
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };
    struct cmsghdr *cm;
    ssize_t n;

    if (nr_fds) {
        memset(&ctl, 0, sizeof(ctl));
        msg.msg_control = ctl.buf;
        msg.msg_controllen = CMSG_SPACE((size_t)nr_fds * sizeof(int));
        cm = CMSG_FIRSTHDR(&msg);
        cm->cmsg_level = SOL_SOCKET;
        cm->cmsg_type = SCM_RIGHTS;
        cm->cmsg_len = CMSG_LEN((size_t)nr_fds * sizeof(int));
        memcpy(CMSG_DATA(cm), fds, (size_t)nr_fds * sizeof(int));
    }
    do {
        n = sendmsg(fd, &msg, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

ssize_t mx_recv(int fd, void *head, size_t head_len, void *data, size_t cap, int fds[2])
{
    struct iovec iov[2] = { { head, head_len }, { data, cap } };
    union { char buf[CMSG_SPACE(2 * sizeof(int))]; struct cmsghdr align; } ctl;
    struct msghdr msg = {
        .msg_iov = iov, .msg_iovlen = 2, .msg_control = ctl.buf, .msg_controllen = sizeof(ctl)
    };
    struct cmsghdr *cm;
    ssize_t n;

    fds[0] = fds[1] = -1;
    do {
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    for (cm = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL; cm; cm = CMSG_NXTHDR(&msg, cm)) {
        if (cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS) {
            memcpy(fds, CMSG_DATA(cm), cm->cmsg_len - CMSG_LEN(0));
        }
    }
    if (n == 0) {
        errno = ECONNRESET;
        return -1;
    }
    if (n > 0 && (size_t)n < head_len) {
        errno = EPROTO;
        return -1;
    }
    return n < 0 ? -1 : n - (ssize_t)head_len;
}

ssize_t mx_call(int fd, const struct mx_req *req, const void *data, size_t len, struct mx_rep *rep, void *out,
                size_t cap, int fds[2])
{
    int none[2];
    ssize_t n;

    if (mx_send(fd, req, sizeof(*req), data, len, NULL, 0) < 0) {
        return -errno;
    }
    n = mx_recv(fd, rep, sizeof(*rep), out, cap, fds ? fds : none);
    if (n < 0) {
        return -errno;
    }
    return rep->err ? rep->err : n;
}

int mx_connect(const char *path, uint16_t caller, struct mx_global **global, int *kick)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct mx_req req = { .op = MX_HELLO, .a = { caller } };
    struct mx_rep rep;
    int fds[2], fd, err;
    ssize_t n;

    if (!path || strlen(path) >= sizeof(sa.sun_path)) {
        errno = ENOENT;
        return -1;
    }
    strcpy(sa.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        goto fail;
    }
    n = mx_call(fd, &req, NULL, 0, &rep, NULL, 0, fds);
    if (n < 0) {
        errno = (int)-n;
        goto fail;
    }
    if (global) {
        *global = mmap(NULL, sizeof(**global), PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    }
    close(fds[0]);
    if (kick) {
        *kick = fds[1];
    } else {
        close(fds[1]);
    }
    if (!global || *global != MAP_FAILED) {
        return fd;
    }
fail:
    err = errno;
    close(fd);
    errno = err;
    return -1;
}

void mx_lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

void mx_lock(pthread_mutex_t *lock)
{
    /* A killed program may die inside; what it guards is written field by field and stays usable. */
    if (pthread_mutex_lock(lock) == EOWNERDEAD) {
        pthread_mutex_consistent(lock);
    }
}

void mx_unlock(pthread_mutex_t *lock)
{
    pthread_mutex_unlock(lock);
}

void mx_futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

int mx_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t deadline)
{
    struct timespec ts = { deadline / 1000000000, deadline % 1000000000 };
    long rc;

    if (atomic_load(word) != seen) {
        return 0;
    }
    /* WAIT_BITSET takes an absolute time. */
    rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, deadline < 0 ? NULL : &ts, NULL,
                 FUTEX_BITSET_MATCH_ANY);
    return rc < 0 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
}

int64_t mx_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

int64_t mx_deadline(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : mx_now() + timeout_ms * 1000000ll;
}

/** Put one port number into the stream. False if the socket is full. */
static bool deliver(struct mx_lport *lp, uint32_t lport, int fd)
{
    atomic_store(&lp->flags, MX_MASKED);
    if (send(fd, &lport, sizeof(lport), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(lport) || errno == EPIPE ||
        errno == ECONNRESET) {
        return true;
    }
    atomic_store(&lp->flags, MX_PENDING); /* unmasked and pending: the backlog that mockxen sends later */
    return false;
}

static void unmask(struct mx_global *global, uint32_t handle, uint32_t lport, int fd)
{
    struct mx_lport *lp = lport < MX_LPORTS ? &global->lports[lport] : NULL;

    if (!lp || atomic_load(&lp->handle) != handle + 1) {
        return; /* the driver ignores ports that are not this file's */
    }
    if (atomic_load(&lp->flags) & MX_PENDING) {
        if (!deliver(lp, lport, fd)) {
            atomic_store(&global->handles[handle].watch, 1);
        }
    } else {
        atomic_store(&lp->flags, 0);
    }
}

void mx_evt_drain(struct mx_global *global, uint32_t handle, int fd)
{
    struct mx_handle *h = &global->handles[handle];
    uint8_t buf[1024 + 4];
    uint32_t port;
    ssize_t n;
    size_t at;

    for (;;) {
        memcpy(buf, h->partial, h->partial_len);
        n = recv(fd, buf + h->partial_len, 1024, MSG_DONTWAIT);
        if (n <= 0) {
            return;
        }
        n += h->partial_len;
        for (at = 0; at + 4 <= (size_t)n; at += 4) {
            memcpy(&port, buf + at, 4);
            unmask(global, handle, port, fd);
        }
        h->partial_len = (uint32_t)((size_t)n - at);
        memcpy(h->partial, buf + at, h->partial_len);
        if (n < 1024) {
            return;
        }
    }
}

bool mx_evt_raise(struct mx_global *global, uint32_t lport, uint32_t handle, int fd)
{
    struct mx_lport *lp = &global->lports[lport];
    struct mx_handle *h = &global->handles[handle];
    bool watch = false;

    mx_lock(&h->lock);
    if (atomic_load(&lp->handle) == handle + 1) {
        if (atomic_load(&lp->flags) & MX_MASKED) {
            mx_evt_drain(global, handle, fd);
        }
        if (atomic_load(&lp->flags) & MX_MASKED) {
            atomic_store(&lp->flags, MX_MASKED | MX_PENDING);
            watch = true;
        } else {
            watch = !deliver(lp, lport, fd);
        }
        if (watch) {
            atomic_store(&h->watch, 1);
        }
    }
    mx_unlock(&h->lock);
    return watch || atomic_load(&h->watch);
}

void mx_panic(struct mx_global *global, const char *fmt, ...)
{
    uint32_t i = atomic_fetch_add(&global->panics, 1);
    va_list ap;

    if (i < MX_PANICS) {
        va_start(ap, fmt);
        vsnprintf(global->panic_text[i], MX_PANIC_LEN, fmt, ap);
        va_end(ap);
    }
}
