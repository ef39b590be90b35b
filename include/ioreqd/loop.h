/* SPDX-License-Identifier: BSD-2-Clause */
/* Time, descriptors, later work, randomness: all that a device may have of the host's loop. One thread. */
#ifndef IOREQD_LOOP_H
#define IOREQD_LOOP_H

#include <stddef.h>
#include <stdint.h>

struct iod_device;
struct iod_timer;
struct iod_watch;
struct iod_task;

/* All objects here are owned by the device and freed with it; `add` returns NULL when out of memory. */

/*
 * A timer on the guest's clock. The core saves its deadline by name. It fires while the device opens, runs,
 * or has its I/O finish (quiesce is under way); what comes due while the device is stopped fires soon after
 * its start.
 */
struct iod_timer *iod_timer_add(struct iod_device *device, const char *name, void (*fire)(void *self),
                                void *self);
/* absolute; in the past: as soon as possible */
void iod_timer_set(struct iod_timer *timer, uint64_t guest_ns);
void iod_timer_cancel(struct iod_timer *timer); /* also one that is held back; one that is not set is fine */

uint64_t iod_guest_ns(const struct iod_device *device); /* the guest's clock, nanoseconds */
uint64_t iod_host_ns(const struct iod_device *device);  /* the host's monotonic clock, nanoseconds */

/*
 * Fills `to` with the host's randomness, good enough for keys. Without any (no such host is known) the device
 * is broken.
 */
void iod_random(struct iod_device *device, void *to, size_t length);

enum { IOD_READABLE = 1, IOD_WRITABLE = 2 };
/* Calls ready(self, events) while fd is ready (level-triggered). Remove it before closing fd. */
struct iod_watch *iod_watch_add(struct iod_device *device, int fd, unsigned events,
                                void (*ready)(void *self, unsigned events), void *self);
void iod_watch_set(struct iod_watch *watch, unsigned events); /* 0: none for now */
void iod_watch_remove(struct iod_watch *watch);               /* NULL is fine */

/* Work for later: runs once after the batch that is being served, however often it was queued. */
struct iod_task *iod_task_add(struct iod_device *device, void (*run)(void *self), void *self);
void iod_task_queue(struct iod_task *task);
void iod_task_cancel(struct iod_task *task); /* one that is not queued is fine */

#endif
