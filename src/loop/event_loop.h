/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop of core/loop.h over libevent's core: descriptors and signals by libevent, timers by one timerfd.
 * One thread. */
#ifndef LOOP_EVENT_LOOP_H
#define LOOP_EVENT_LOOP_H

#include "core/loop.h"

/* NULL with errno set. Objects added to it must be removed before event_loop_destroy. */
struct loop *event_loop_create(void);
/* NULL is fine. */
void event_loop_destroy(struct loop *loop);

/* Serves until event_loop_stop: 0, or a negative errno when the host's polling itself fails. May be called
 * again. */
int event_loop_run(struct loop *loop);
/* Ends event_loop_run when the batch being served has ended; before a run: that run returns at once. */
void event_loop_stop(struct loop *loop);

/*
 * Calls cb(self, signo) on the loop when the signal came. For the owner of the process only: signals are the
 * process's, and libevent serves them in one loop per process. Lasts until event_loop_destroy. 0 or a
 * negative errno.
 */
int event_loop_signal(struct loop *loop, int signo, void (*cb)(void *self, int signo), void *self);

#endif
