/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An image is opened by a thread of its own: a server that is gone keeps open, lock and stat waiting for ever, and no
 * guest may wait for another one's disk. Thread and loop share the object and each lets go of it; the last one frees it.
 */
#include "backend/image.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "core/loop.h"

enum { STACK_BYTES = 256 << 10 }; /* of which a few pages are ever touched */
#ifndef THREADS_MAX              /* a test has fewer */
#define THREADS_MAX 2048u        /* each guest that comes to a server that is gone leaves one hanging */
#endif

struct opening {
    struct image image;     /* the thread's, until it says so */
    int said;               /* eventfd: the thread is done */
    atomic_bool given_up;
    atomic_uint holders;    /* thread, loop */
    /* the loop's */
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_timer *limit;
    uint64_t limit_ns;
    bool unwanted;
    void (*done)(void *self, struct image *image);
    void *self;
};

static void let_go(struct opening *opening)
{
    if (atomic_fetch_sub(&opening->holders, 1) == 1) {
        if (opening->image.fd >= 0) {
            image_close(opening->image.fd, opening->image.remote);
        }
        if (opening->said >= 0) {
            close(opening->said);
        }
        free(opening->image.path);
        free(opening);
    }
}

static void *run(void *self)
{
    struct opening *opening = self;
    image_open(&opening->image, &opening->given_up);
    (void)!eventfd_write(opening->said, 1);
    let_go(opening);
    return NULL;
}

/* The loop's part ends. */
static void forget(struct opening *opening)
{
    const struct loop_ops *ops = opening->loop->ops;
    ops->watch_remove(opening->watch);
    ops->timer_remove(opening->limit);
    opening->watch = NULL;
    opening->limit = NULL;
}

static void ended(void *self, unsigned events)
{
    struct opening *opening = self;
    forget(opening);
    opening->done(opening->self, &opening->image);
    let_go(opening);
}

static void timed_out(void *self)
{
    struct opening *opening = self;
    struct image none = { .fd = -1 };
    atomic_store(&opening->given_up, true);
    if (opening->unwanted) {
        iod_fail(&none.error, ECANCELED, "%s: is not needed any more; its disk or server has not answered yet",
                 opening->image.path);
    } else {
        iod_fail(&none.error, ETIMEDOUT, "%s: can't be opened: no answer from its disk or server within %u s",
                 opening->image.path, (unsigned)(opening->limit_ns / 1000000000));
    }
    forget(opening);
    opening->done(opening->self, &none);
    let_go(opening);
}

/* 0 or an errno. Signals are the loop's. */
static int start(void *(*body)(void *self), void *self)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int result = pthread_attr_init(&attributes);
    if (result != 0) {
        return result;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&thread, &attributes, body, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return result;
}

/* Of the whole process: those that hang are among them, and nobody waits for them any more. */
static bool too_many_threads(void)
{
    struct stat st;
    return stat("/proc/self/task", &st) == 0 && st.st_nlink >= 2 + THREADS_MAX;
}

struct opening *opening_begin(struct loop *loop, const struct image *asked, uint64_t limit_ns,
                              void (*done)(void *self, struct image *found), void *self, struct iod_error *error)
{
    if (too_many_threads()) {
        iod_fail(error, EAGAIN, "%s: not opened: %u others hang, whose disks or servers do not answer", asked->path,
                 THREADS_MAX);
        return NULL;
    }
    struct opening *opening = calloc(1, sizeof(*opening));
    if (opening == NULL) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    opening->image = (struct image){ .path = strdup(asked->path), .readonly = asked->readonly, .cache = asked->cache,
                                     .fd = -1 };
    opening->loop = loop;
    opening->limit_ns = limit_ns;
    opening->done = done;
    opening->self = self;
    opening->holders = 1;
    opening->said = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int result = opening->said < 0 ? errno : opening->image.path == NULL ? ENOMEM : 0;
    if (result == 0) {
        opening->watch = loop->ops->watch_add(loop, opening->said, IOD_READABLE, ended, opening);
        opening->limit = loop->ops->timer_add(loop, timed_out, opening);
        result = opening->watch == NULL || opening->limit == NULL ? ENOMEM : 0;
    }
    if (result == 0) {
        opening->holders = 2;
        result = start(run, opening);
        if (result != 0) {
            opening->holders = 1;
        }
    }
    if (result != 0) {
        iod_fail(error, result, "%s: nobody to open it: %s", asked->path, strerror(result));
        forget(opening);
        let_go(opening);
        return NULL;
    }
    loop->ops->timer_set(opening->limit, loop->ops->now_ns(loop) + limit_ns);
    return opening;
}

void opening_give_up(struct opening *opening)
{
    if (opening != NULL) {
        opening->unwanted = true;
        opening->loop->ops->timer_set(opening->limit, 0);
    }
}

void opening_cancel(struct opening *opening)
{
    if (opening != NULL) {
        atomic_store(&opening->given_up, true);
        forget(opening);
        let_go(opening);
    }
}

static void *run_close(void *self)
{
    close((int)(intptr_t)self);
    return NULL;
}

void image_close(int fd, bool remote)
{
    if (!remote || start(run_close, (void *)(intptr_t)fd) != 0) {
        close(fd);
    }
}
