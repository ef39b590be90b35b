/* SPDX-License-Identifier: BSD-2-Clause */
#include "shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int shim_result(int rc)
{
    if (rc < 0) {
        errno = -rc;
        return -1;
    }
    return rc;
}

int shim_open(struct shim *s)
{
    const char *path = getenv("MOCKXEN_SOCKET"), *caller = getenv("MOCKXEN_DOMID");

    s->fd = mx_connect(path, (uint16_t)(caller ? strtoul(caller, NULL, 10) : 0), &s->g, NULL);
    if (s->fd < 0) {
        fprintf(stderr, "mockxen shim: can't connect to MOCKXEN_SOCKET=%s\n", path ? path : "(unset)");
        return -1;
    }
    pthread_mutex_init(&s->lock, NULL);
    return 0;
}

void shim_close(struct shim *s)
{
    munmap(s->g, sizeof(*s->g));
    close(s->fd);
    pthread_mutex_destroy(&s->lock);
}

ssize_t shim_call(struct shim *s, const struct mx_req *req, const void *data, size_t len, struct mx_rep *rep,
                  void *out, size_t cap, int fds[2])
{
    ssize_t n;

    pthread_mutex_lock(&s->lock);
    n = mx_call(s->fd, req, data, len, rep, out, cap, fds);
    pthread_mutex_unlock(&s->lock);
    if (n < 0) {
        errno = n == -ENOTSOCK ? ENOTTY
                               : (int)-n; /* restricted: /dev/null now, which knows none of Xen's ioctls */
        return -1;
    }
    return n;
}

int shim_fault(struct shim *s, enum mock_call kind)
{
    struct mx_req req = { .op = MX_FAULT, .a = { kind } };
    struct mx_rep rep;

    if (!atomic_load_explicit(&s->g->armed[kind], memory_order_relaxed)) {
        atomic_fetch_add_explicit(&s->g->calls[kind], 1, memory_order_relaxed);
        return 0;
    }
    return shim_call(s, &req, NULL, 0, &rep, NULL, 0, NULL) < 0 ? -1 : 0;
}
