/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/ring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <ioreqd/loop.h>

enum {
    SUBMIT_ENTRIES = 256,
    COMPLETE_ENTRIES = 1024, /* and never more operations in the kernel: the completion ring can't overflow */
    REAP_BATCH = 64,
    ROUNDS = 4,              /* of submit and reap before the loop's other work has its turn */
    RETRY_NS = 1000000,
};

struct ring {
    struct io_uring uring;
    bool uring_ready;
    bool running, dying, complained;
    struct daemon *daemon;
    struct loop_watch *watch;
    struct loop_task *task;
    struct loop_timer *retry;
    struct list round; /* clients that may go on */
    unsigned in_kernel;
    struct ring_stats stats;
    struct bounce bounce;
    void *zero_memory;
    struct iovec zeros[RING_ZEROS];
};

static void ring_free(struct ring *ring)
{
    struct loop *loop = daemon_loop(ring->daemon);
    loop->ops->watch_remove(ring->watch);
    loop->ops->task_remove(ring->task);
    loop->ops->timer_remove(ring->retry);
    if (ring->uring_ready) {
        io_uring_queue_exit(&ring->uring);
    }
    if (ring->zero_memory != NULL) {
        munmap(ring->zero_memory, RING_ZERO_BYTES);
    }
    bounce_finish(&ring->bounce);
    free(ring);
}

/*
 * With cooperative task work a completion does not interrupt us; it is there after the next system call, and
 * polling the ring sees it. (IORING_SETUP_DEFER_TASKRUN would go further, but then polling the ring sees
 * nothing: Linux 6.18.)
 */
static int ring_setup(struct ring *ring)
{
    static const unsigned flags[] = {
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN, /* Linux 5.19 */
        0,
    };
    int error = 0;
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, .cq_entries = COMPLETE_ENTRIES,
        };
        error = io_uring_queue_init_params(SUBMIT_ENTRIES, &ring->uring, &params);
        if (error == 0) {
            ring->uring_ready = true;
            return 0;
        }
        if (error != -EINVAL) {
            break;
        }
    }
    return error;
}

/* Negative: nothing could be submitted. */
static int ring_enter(struct ring *ring)
{
    ring->stats.enters++;
    int result = io_uring_submit(&ring->uring);
    if (io_uring_sq_ready(&ring->uring) == 0) {
        return result;
    }
    /* EAGAIN, ENOMEM, EBUSY: the kernel is short of something. The entries stay in the ring, and nothing may
     * wake us. */
    struct loop *loop = daemon_loop(ring->daemon);
    loop->ops->timer_set(ring->retry, loop->ops->now_ns(loop) + RETRY_NS);
    if (result < 0 && result != -EINTR && !ring->complained) {
        ring->complained = true;
        daemon_log(ring->daemon, IOD_LOG_WARNING, "io_uring",
                   "submitting failed: %s; tried again until it works", strerror(-result));
    }
    return result;
}

static void client_join(struct ring *ring, struct ring_client *client)
{
    if (list_empty(&client->link) && !list_empty(&client->waiting) && client->in_kernel < client->quota) {
        list_add_tail(&ring->round, &client->link);
    }
}

/* Fills entries, one operation a client and turn, until all are filled or a completion (or the timer) must
 * make room. */
static void ring_fill(struct ring *ring)
{
    while (!list_empty(&ring->round)) {
        if (ring->in_kernel >= COMPLETE_ENTRIES) {
            return;
        }
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
        if (sqe == NULL) {
            if (ring_enter(ring) <= 0) {
                return;
            }
            continue;
        }
        struct ring_client *client = list_first(&ring->round, struct ring_client, link);
        struct ring_op *op = list_first(&client->waiting, struct ring_op, link);
        list_remove(&op->link);
        list_remove(&client->link);
        op->prepare(op, sqe);
        io_uring_sqe_set_data(sqe, op);
        client->in_kernel++;
        ring->in_kernel++;
        client_join(ring, client);
    }
}

/* Takes up to REAP_BATCH completions; how many. */
static unsigned ring_reap(struct ring *ring)
{
    struct {
        struct ring_op *op;
        int result;
    } taken[REAP_BATCH];
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_for_each_cqe(&ring->uring, head, cqe) {
        taken[count].op = io_uring_cqe_get_data(cqe);
        taken[count].result = cqe->res;
        if (++count == REAP_BATCH) {
            break;
        }
    }
    io_uring_cq_advance(&ring->uring, count);
    for (unsigned i = 0; i < count; i++) {
        struct ring_op *op = taken[i].op;
        struct ring_client *client = op->client;
        client->in_kernel--;
        ring->in_kernel--;
        ring->stats.operations++;
        client_join(ring, client);
        op->done(op, taken[i].result); /* op and client may be gone after it */
    }
    return count;
}

/* Returns whether there is more to do at once. */
static bool ring_rounds(struct ring *ring)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        ring_fill(ring);
        if (io_uring_sq_ready(&ring->uring) > 0) {
            ring_enter(ring);
        }
        unsigned count = ring_reap(ring);
        if (count == 0 || (count < REAP_BATCH && list_empty(&ring->round))) {
            return false;
        }
    }
    return true;
}

static void ring_run(void *self)
{
    struct ring *ring = self;
    if (ring->running) {
        return;
    }
    ring->running = true;
    bool more = ring_rounds(ring);
    ring->running = false;
    if (ring->dying) {
        ring_free(ring);
    } else if (more) {
        daemon_loop(ring->daemon)->ops->task_again(ring->task);
    }
}

static void ring_ready(void *self, unsigned events)
{
    ring_run(self);
}

static int ring_attach(struct ring *ring, struct iod_error *error)
{
    struct loop *loop = daemon_loop(ring->daemon);
    ring->task = loop->ops->task_add(loop, ring_run, ring);
    ring->retry = loop->ops->timer_add(loop, ring_run, ring);
    ring->watch = loop->ops->watch_add(loop, ring->uring.ring_fd, IOD_READABLE, ring_ready, ring);
    ring->zero_memory = mmap(NULL, RING_ZERO_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring->zero_memory == MAP_FAILED) {
        ring->zero_memory = NULL;
    }
    if (ring->task == NULL || ring->retry == NULL || ring->watch == NULL || ring->zero_memory == NULL ||
        bounce_init(&ring->bounce) != 0) {
        return iod_fail(error, ENOMEM, "io_uring: out of memory");
    }
    for (unsigned i = 0; i < RING_ZEROS; i++) {
        ring->zeros[i] = (struct iovec){ ring->zero_memory, RING_ZERO_BYTES };
    }
    return 0;
}

static void *ring_create(struct daemon *daemon, struct iod_error *error)
{
    struct ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        iod_fail(error, ENOMEM, "io_uring: out of memory");
        return NULL;
    }
    ring->daemon = daemon;
    list_init(&ring->round);
    int result = ring_setup(ring);
    if (result != 0) {
        iod_fail(error, -result, "io_uring: %s%s", strerror(-result),
                 result == -EPERM || result == -ENOSYS
                     ? " (see /proc/sys/kernel/io_uring_disabled, or the seccomp "
                       "filter this process runs under)"
                     : "");
    } else {
        result = ring_attach(ring, error);
    }
    if (result != 0) {
        ring_free(ring);
        return NULL;
    }
    return ring;
}

static void ring_destroy(void *service)
{
    struct ring *ring = service;
    if (ring->running) {
        ring->dying = true; /* the last user went in its own completion */
        return;
    }
    ring_free(ring);
}

const struct service_class ring_service = { .name = "io_uring",
                                            .create = ring_create,
                                            .destroy = ring_destroy };

void ring_client_init(struct ring_client *client, unsigned quota)
{
    list_init(&client->waiting);
    list_init(&client->link);
    client->in_kernel = 0;
    client->quota = quota;
}

void ring_queue(struct ring *ring, struct ring_client *client, struct ring_op *op, bool first)
{
    op->client = client;
    if (first) {
        list_add_head(&client->waiting, &op->link);
    } else {
        list_add_tail(&client->waiting, &op->link);
    }
    client_join(ring, client);
}

void ring_kick(struct ring *ring)
{
    if (!ring->running) { /* else the round that runs takes them */
        daemon_loop(ring->daemon)->ops->task_soon(ring->task);
    }
}

bool ring_withdraw(struct ring_op *op)
{
    if (list_empty(&op->link)) {
        return false;
    }
    list_remove(&op->link);
    if (list_empty(&op->client->waiting)) {
        list_remove(&op->client->link);
    }
    return true;
}

struct bounce *ring_bounce(struct ring *ring)
{
    return &ring->bounce;
}

const struct iovec *ring_zeros(const struct ring *ring)
{
    return ring->zeros;
}

const struct ring_stats *ring_stats(const struct ring *ring)
{
    return &ring->stats;
}
