/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The loop as the core sees it: a table handed in by the embedder (src/loop implements it over libevent). One
 * thread.
 */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

#include <stdint.h>

struct loop;
struct loop_watch;
struct loop_timer;
struct loop_task;

/*
 * `add` returns NULL when out of memory; `remove` takes NULL. Events: IOD_READABLE, IOD_WRITABLE
 * (ioreqd/loop.h).
 */
struct loop_ops {
    uint64_t (*now_ns)(struct loop *loop); /* monotonic */
    struct loop_watch *(*watch_add)(struct loop *loop, int fd, unsigned events,
                                    void (*ready)(void *self, unsigned events), void *self);
    void (*watch_set)(struct loop_watch *watch, unsigned events);
    void (*watch_remove)(struct loop_watch *watch);
    struct loop_timer *(*timer_add)(struct loop *loop, void (*fire)(void *self), void *self);
    void (*timer_set)(struct loop_timer *timer, uint64_t at_ns); /* monotonic */
    void (*timer_cancel)(struct loop_timer *timer);
    void (*timer_remove)(struct loop_timer *timer);
    struct loop_task *(*task_add)(struct loop *loop, void (*run)(void *self), void *self);
    /* runs once, at the end of the batch being served; no system call */
    void (*task_soon)(struct loop_task *task);
    /* runs once, when the batch has no other task left; no system call */
    void (*task_last)(struct loop_task *task);
    /* runs once, after the loop has looked at its descriptors again */
    void (*task_again)(struct loop_task *task);
    void (*task_cancel)(struct loop_task *task);
    void (*task_remove)(struct loop_task *task);
};

struct loop {
    const struct loop_ops *ops;
};

#endif
