/* SPDX-License-Identifier: BSD-2-Clause */
/* What a device holds of the loop: timers on the guest's clock, watches, tasks (include/ioreqd/loop.h). */
#ifndef CORE_TIMER_H
#define CORE_TIMER_H

#include <ioreqd/loop.h>
#include <ioreqd/state.h>

struct iod_device;

/* Timers, watches and tasks go with their device. */
void timers_destroy(struct iod_device *device);
/* The device runs: what came due while it was stopped fires now (soon, not inside this call). */
void timers_start(struct iod_device *device);
/* Deadlines by name, on the guest's clock; a timer that is not armed is left out. */
void timers_save(const struct iod_device *device, struct iod_writer *writer);
int timers_load(struct iod_device *device, struct iod_reader *reader);

#endif
