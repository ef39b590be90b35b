/* SPDX-License-Identifier: BSD-2-Clause */
/* A device of the fake guest: its life, its parts, what it asks of the core, its tasks. */
#include "fake_guest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/log.h>
#include <ioreqd/option.h>

struct iod_task {
    void (*run)(void *self);
    void *self;
    bool queued;
    struct list link;
};

/* ---- the device ---- */

struct iod_device *fake_device(struct guest *guest, const char *id)
{
    struct iod_device *device = calloc(1, sizeof(*device));

    if (!device) {
        abort();
    }
    device->guest = guest;
    device->id = id;
    device->state = DEVICE_MADE;
    list_init(&device->parts);
    list_init(&device->regions);
    list_init(&device->tasks);
    list_init(&device->irqs);
    return device;
}

void fake_device_free(struct iod_device *device)
{
    struct iod_region *region;
    struct iod_task *task;
    struct iod_irq *irq;

    while (!list_empty(&device->parts)) {
        struct device_part *part = list_entry(device->parts.prev, struct device_part, link);
        void *regs = part->regs;

        list_remove(&part->link);
        part->ops->destroy(part);
        free(regs);
    }
    list_for_each(region, &device->regions, struct iod_region, link) {
        free(region);
    }
    list_for_each(task, &device->tasks, struct iod_task, link) {
        free(task);
    }
    list_for_each(irq, &device->irqs, struct iod_irq, link) {
        free(irq);
    }
    free(device->access);
    free(device);
}

int device_part_add(struct iod_device *device, struct device_part *part, const struct device_part_ops *ops)
{
    part->ops = ops;
    part->device = device;
    part->regs = calloc(1, ops->regs_size ? ops->regs_size : 1);
    list_add_tail(&device->parts, &part->link);
    return 0;
}

struct device_part *fake_part(struct iod_device *device, const char *name)
{
    struct device_part *part;

    list_for_each(part, &device->parts, struct device_part, link) {
        if (!strcmp(part->ops->name, name)) {
            return part;
        }
    }
    return NULL;
}

void fake_start(struct iod_device *device)
{
    struct device_part *part;

    device->state = DEVICE_RUNNING;
    list_for_each(part, &device->parts, struct device_part, link) {
        if (part->ops->start) {
            part->ops->start(part);
        }
    }
}

static void stop_parts(struct iod_device *device)
{
    struct device_part *part;

    device->state = DEVICE_STOPPING;
    list_for_each(part, &device->parts, struct device_part, link) {
        if (part->ops->stop) {
            part->ops->stop(part);
        }
    }
}

static void stopped_parts(struct iod_device *device)
{
    struct device_part *part;

    list_for_each(part, &device->parts, struct device_part, link) {
        if (part->ops->stopped) {
            part->ops->stopped(part);
        }
    }
    device->state = DEVICE_STOPPED;
}

void fake_stop(struct iod_device *device)
{
    stop_parts(device);
    stopped_parts(device);
}

void device_stop(struct iod_device *device, struct device_stop *stop, enum iod_drain drain,
                 void (*stopped)(void *self), void *self)
{
    *stop = (struct device_stop){.stopped = stopped, .self = self};
    stop_parts(device);
    if (device->slow) {
        device->stop = stop;
        return;
    }
    stopped_parts(device);
    stopped(self);
}

void fake_quiet(struct iod_device *device)
{
    struct device_stop *stop = device->stop;

    device->stop = NULL;
    stopped_parts(device);
    stop->stopped(stop->self);
}

void device_resume(struct iod_device *device)
{
    fake_start(device);
}

void device_reset(struct iod_device *device, bool parts)
{
    device->resets++;
    if (parts && !device->hot) {
        abort(); /* a transport's reset leaves PCI's registers alone; only a slot's power takes all */
    } else if (parts) {
        fake_system_reset(device);
    }
}

void fake_system_reset(struct iod_device *device)
{
    struct device_part *part;

    list_for_each(part, &device->parts, struct device_part, link) {
        memset(part->regs, 0, part->ops->regs_size);
        if (part->ops->reset) {
            part->ops->reset(part);
        }
    }
}

int fake_load(struct iod_device *device, struct iod_error *error)
{
    struct device_part *part;
    int result = 0;

    list_for_each(part, &device->parts, struct device_part, link) {
        for (const struct iod_field *field = part->ops->fields; result == 0 && field && field->name;
             field++) {
            result =
                field->valid && !field->valid(part->regs) ? iod_fail(error, EINVAL, "%s", field->name) : 0;
        }
        if (result == 0 && part->ops->load) {
            result = part->ops->load(part, NULL, error);
        }
    }
    return result;
}

void fake_save_load(struct iod_device *from, struct iod_device *to)
{
    struct device_part *part;
    struct iod_error error = {0};

    to->state = DEVICE_STOPPED;
    list_for_each(part, &from->parts, struct device_part, link) {
        /* Only what the fields name survives. */
        for (const struct iod_field *field = part->ops->fields; field && field->name; field++) {
            memcpy((char *)fake_part(to, part->ops->name)->regs + field->offset,
                   (char *)part->regs + field->offset, (size_t)field->width * field->count);
        }
    }
    if (fake_load(to, &error) < 0) {
        fprintf(stderr, "load: %s\n", error.text);
        abort();
    }
}

void *iod_self(const struct iod_device *device)
{
    return device->self;
}

void *iod_regs(const struct iod_device *device)
{
    return device->regs;
}

const char *iod_device_id(const struct iod_device *device)
{
    return device->id;
}

const struct device_keys *device_keys(const struct iod_device *device)
{
    return &device->keys;
}

struct guest *device_guest(const struct iod_device *device)
{
    return device->guest;
}

/* Weak, both: a rig with a table of options has its own (net_rig.c). */
__attribute__((weak)) const struct iod_options *iod_device_options(const struct iod_device *device)
{
    return (const struct iod_options *)device; /* whose one number option the test sets */
}

__attribute__((weak)) uint64_t iod_option_number(const struct iod_options *options, const char *name)
{
    return ((const struct iod_device *)options)->option;
}

bool device_is_hot(const struct iod_device *device)
{
    return device->hot;
}

bool device_asked(const struct iod_device *device)
{
    return device->asked;
}

void device_let_go(struct iod_device *device)
{
    device->let_go++;
}

enum device_state device_state(const struct iod_device *device)
{
    return device->state;
}

void iod_log(struct iod_device *device, enum iod_log_level level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

void iod_guest_error(struct iod_device *device, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(device->last_error, sizeof(device->last_error), format, arguments);
    va_end(arguments);
    device->guest_errors++;
}

/* ---- probes: counted by nobody ---- */

#define FAKE_SLOT(name)
#define FAKE_ACCESS(name)
#define FAKE_CALL(name)
#define FAKE_GUEST(name)
#define FAKE_TEXT(name)
#define FAKE_QUEUE(name) \
    void probe_##name(struct iod_device *device, unsigned queue, uint64_t first, uint64_t second) \
    { \
    }
#define FAKE_FRAME(name)
#define FAKE(name, shape, what) FAKE_##shape(name)
PROBES(FAKE)

void limit_charge_device(struct iod_device *device, enum limit_deed deed, unsigned times)
{
    device->deeds[deed] += times;
}

/* ---- tasks ---- */

struct iod_task *iod_task_add(struct iod_device *device, void (*run)(void *self), void *self)
{
    struct iod_task *task = calloc(1, sizeof(*task));

    if (task) {
        task->run = run;
        task->self = self;
        list_add_tail(&device->tasks, &task->link);
    }
    return task;
}

void iod_task_queue(struct iod_task *task)
{
    task->queued = true;
}

void device_task_last(struct iod_task *task)
{
    task->queued = true;
}

void iod_task_cancel(struct iod_task *task)
{
    task->queued = false;
}

unsigned fake_tasks(struct iod_device *device)
{
    struct iod_task *task;
    unsigned count = 0;

    list_for_each(task, &device->tasks, struct iod_task, link) {
        if (task->queued) {
            task->queued = false;
            task->run(task->self);
            count++;
        }
    }
    return count;
}
