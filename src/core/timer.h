/* SPDX-License-Identifier: BSD-2-Clause */
/* What a device holds of the loop: timers on the guest's clock, watches, tasks (include/ioreqd/loop.h). */
#ifndef CORE_TIMER_H
#define CORE_TIMER_H

#include <ioreqd/loop.h>
#include <ioreqd/state.h>

struct guest;
struct iod_device;

/* The tasks that wait for their limited guest's turn: run while its credit lasts; all of them, as usual. */
void tasks_turn(struct guest *guest);
void tasks_release(struct guest *guest);

/* Timers, watches and tasks go with their device. */
void timers_destroy(struct iod_device *device);
/* The device runs: what came due while it was stopped fires now (soon, not inside this call). */
void timers_start(struct iod_device *device);
/* Deadlines by name, on the guest's clock; a timer that is not armed is left out. */
void timers_save(const struct iod_device *device, struct iod_writer *writer);
int timers_load(struct iod_device *device, struct iod_reader *reader);

#endif
