/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one io_uring of a loop. Clients (a disk, a log file) queue operations; whatever a batch of the loop
 * queued goes to the kernel in one call at the batch's end, and completions are taken in batches. A client
 * has a quota of operations in the kernel, and clients are served in turn, so that none starves the others.
 */
#ifndef BACKEND_RING_H
#define BACKEND_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "backend/bounce.h"
#include "core/daemon.h"
#include "core/list.h"

struct io_uring_sqe;
struct ring;

struct ring_client {
    struct list waiting; /* operations not yet given to the kernel, in order */
    struct list link;    /* in the ring's round while it may go on */
    unsigned in_kernel, quota;
};

/* One operation, in its owner's memory from ring_queue to done. */
struct ring_op {
    struct list link;
    struct ring_client *client;
    /* Fills the entry; called once, when it goes to the kernel. user_data is the ring's. */
    void (*prepare)(struct ring_op *op, struct io_uring_sqe *sqe);
    /* On the loop, never inside ring_queue or ring_kick. result: as the system call's, negative errno. */
    void (*done)(struct ring_op *op, int result);
};

struct ring_stats {
    uint64_t operations; /* completed */
    uint64_t enters;     /* io_uring_enter calls */
};

/* For daemon_service_get; the service is a struct ring. */
extern const struct service_class ring_service;

void ring_client_init(struct ring_client *client, unsigned quota);
/* Queues behind (or, to go on with a begun piece of work, before) what the client has waiting. */
void ring_queue(struct ring *ring, struct ring_client *client, struct ring_op *op, bool first);
/* The operations queued so far go to the kernel when the loop has served its present batch. */
void ring_kick(struct ring *ring);
/* Takes a waiting operation back; false: the kernel has it. */
bool ring_withdraw(struct ring_op *op);

struct bounce *ring_bounce(struct ring *ring);
/* RING_ZEROS pieces of read-only zeros, RING_ZERO_BYTES each. */
enum { RING_ZEROS = 16, RING_ZERO_BYTES = 65536 };
const struct iovec *ring_zeros(const struct ring *ring);
const struct ring_stats *ring_stats(const struct ring *ring);

#endif
