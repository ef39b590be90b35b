/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/timer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/inside.h"

struct iod_timer {
    struct list link;
    struct iod_device *device;
    const char *name;
    struct loop_timer *timer;
    void (*fire)(void *self);
    void *self;
    uint64_t deadline; /* guest's clock */
    bool armed;
    bool held;         /* its time came while the device was stopped */
};

struct iod_watch {
    struct list link;
    struct iod_device *device;
    struct loop_watch *watch;
};

struct iod_task {
    struct list link;
    struct iod_device *device;
    struct loop_task *task;
    void (*run)(void *self);
    void *self;
    struct list waiting; /* of its limited guest's account */
};

static struct loop *loop_of(const struct iod_device *device)
{
    return device->guest->daemon->loop;
}

/* ---- clocks ---- */

uint64_t iod_host_ns(const struct iod_device *device)
{
    struct loop *loop = loop_of(device);
    return loop->ops->now_ns(loop);
}

uint64_t iod_guest_ns(const struct iod_device *device)
{
    return iod_host_ns(device) - device->guest->clock_offset_ns;
}

void iod_random(struct iod_device *device, void *to, size_t length)
{
    uint8_t *next = to;
    while (length) {
        /* never blocks once the kernel is up; up to 256 bytes never short */
        ssize_t got = getrandom(next, length, 0);
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            iod_device_broken(device, "no randomness from the host: %s", strerror(errno));
            memset(next, 0, length);
            return;
        }
        next += got;
        length -= (size_t)got;
    }
}

/* ---- timers ---- */

static void timer_fired(void *self)
{
    struct iod_timer *timer = self;
    enum device_state state = timer->device->state;
    if (state != DEVICE_RUNNING && state != DEVICE_STOPPING && state != DEVICE_OPENING) {
        timer->held = true; /* still armed: it is saved, and fires when the device starts */
        return;
    }
    timer->armed = false;
    limit_device_begins(timer->device);
    struct iod_device *device = timer->device;
    timer->fire(timer->self);
    limit_device_ends(device);
}

void timers_start(struct iod_device *device)
{
    struct iod_timer *timer;
    list_for_each(timer, &device->timers, struct iod_timer, link) {
        if (timer->held) {
            iod_timer_set(timer, timer->deadline);
        }
    }
}

struct iod_timer *iod_timer_add(struct iod_device *device, const char *name, void (*fire)(void *self),
                                void *self)
{
    struct iod_timer *timer = calloc(1, sizeof(*timer));
    if (!timer) {
        return NULL;
    }
    *timer = (struct iod_timer){.device = device, .name = name, .fire = fire, .self = self};
    timer->timer = loop_of(device)->ops->timer_add(loop_of(device), timer_fired, timer);
    if (!timer->timer) {
        free(timer);
        return NULL;
    }
    list_add_tail(&device->timers, &timer->link);
    return timer;
}

void iod_timer_set(struct iod_timer *timer, uint64_t guest_ns)
{
    timer->armed = true;
    timer->held = false;
    timer->deadline = guest_ns;
    uint64_t at = guest_ns + timer->device->guest->clock_offset_ns;
    loop_of(timer->device)->ops->timer_set(timer->timer, at < guest_ns ? UINT64_MAX : at);
}

void iod_timer_cancel(struct iod_timer *timer)
{
    timer->armed = timer->held = false;
    loop_of(timer->device)->ops->timer_cancel(timer->timer);
}

void timers_save(const struct iod_device *device, struct iod_writer *writer)
{
    struct iod_timer *timer;
    list_for_each(timer, &device->timers, struct iod_timer, link) {
        if (timer->armed) {
            iod_put_number(writer, timer->name, timer->deadline, 8);
        }
    }
}

int timers_load(struct iod_device *device, struct iod_reader *reader)
{
    struct iod_timer *timer;
    list_for_each(timer, &device->timers, struct iod_timer, link) {
        uint64_t deadline;
        int result = iod_get_number(reader, timer->name, &deadline, 8);
        if (!result) {
            iod_timer_set(timer, deadline);
        } else if (result != -ENOENT) {
            return result;
        } else {
            iod_timer_cancel(timer);
        }
    }
    return 0;
}

/* ---- watches ---- */

struct iod_watch *iod_watch_add(struct iod_device *device, int fd, unsigned events,
                                void (*ready)(void *self, unsigned events), void *self)
{
    struct iod_watch *watch = calloc(1, sizeof(*watch));
    if (!watch) {
        return NULL;
    }
    watch->device = device;
    watch->watch = loop_of(device)->ops->watch_add(loop_of(device), fd, events, ready, self);
    if (!watch->watch) {
        free(watch);
        return NULL;
    }
    list_add_tail(&device->watches, &watch->link);
    return watch;
}

void iod_watch_set(struct iod_watch *watch, unsigned events)
{
    loop_of(watch->device)->ops->watch_set(watch->watch, events);
}

void iod_watch_remove(struct iod_watch *watch)
{
    if (watch) {
        loop_of(watch->device)->ops->watch_remove(watch->watch);
        list_remove(&watch->link);
        free(watch);
    }
}

/* ---- tasks ---- */

static void run_measured(struct iod_task *task)
{
    struct guest *guest = task->device->guest;
    guest->watch.account.pieces++;
    limit_work_begins(guest);
    task->run(task->self);
    limit_work_ends(guest);
}

static void task_due(void *self)
{
    struct iod_task *task = self;
    struct guest *guest = task->device->guest;
    const struct account *account = &guest->watch.account;
    if (__builtin_expect(!account->measured, 1)) {
        task->run(task->self);
    } else if (account->limited && account->credit_ns <= 0) {
        list_remove(&task->waiting);
        list_add_tail(&guest->watch.account.tasks, &task->waiting);
        limit_wait(guest);
    } else {
        run_measured(task);
    }
}

void tasks_turn(struct guest *guest)
{
    struct account *account = &guest->watch.account;
    struct iod_task *task;
    while (account->credit_ns > 0 && (task = list_first(&account->tasks, struct iod_task, waiting))) {
        list_remove(&task->waiting);
        run_measured(task);
    }
}

void tasks_release(struct guest *guest)
{
    struct iod_task *task;
    while ((task = list_first(&guest->watch.account.tasks, struct iod_task, waiting))) {
        list_remove(&task->waiting);
        iod_task_queue(task);
    }
}

struct iod_task *iod_task_add(struct iod_device *device, void (*run)(void *self), void *self)
{
    struct iod_task *task = calloc(1, sizeof(*task));
    if (!task) {
        return NULL;
    }
    *task = (struct iod_task){.device = device, .run = run, .self = self};
    list_init(&task->waiting);
    task->task = loop_of(device)->ops->task_add(loop_of(device), task_due, task);
    if (!task->task) {
        free(task);
        return NULL;
    }
    list_add_tail(&device->tasks, &task->link);
    return task;
}

void iod_task_queue(struct iod_task *task)
{
    loop_of(task->device)->ops->task_soon(task->task);
}

void device_task_last(struct iod_task *task)
{
    loop_of(task->device)->ops->task_last(task->task);
}

void iod_task_cancel(struct iod_task *task)
{
    list_remove(&task->waiting);
    loop_of(task->device)->ops->task_cancel(task->task);
}

void timers_destroy(struct iod_device *device)
{
    struct iod_timer *timer;
    list_for_each(timer, &device->timers, struct iod_timer, link) {
        loop_of(device)->ops->timer_remove(timer->timer);
        list_remove(&timer->link);
        free(timer);
    }
    struct iod_watch *watch;
    list_for_each(watch, &device->watches, struct iod_watch, link) {
        iod_watch_remove(watch);
    }
    struct iod_task *task;
    list_for_each(task, &device->tasks, struct iod_task, link) {
        loop_of(device)->ops->task_remove(task->task);
        list_remove(&task->waiting);
        list_remove(&task->link);
        free(task);
    }
}
