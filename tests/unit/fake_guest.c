/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake_guest.h"

#include <ioreqd/option.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/log.h>

struct iod_task {
    void (*run)(void *self);
    void *self;
    bool queued;
    struct list link;
};

struct iod_window {
    struct iod_device *device;
    uint64_t address;
    size_t length;
};

struct iod_access {
    struct iod_device *device;
};

/* ---- the guest ---- */

struct guest *fake_guest(enum guest_arch arch, enum guest_type type)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    if (!guest) {
        abort();
    }
    guest->arch = arch;
    guest->type = type;
    return guest;
}

void fake_guest_free(struct guest *guest)
{
    if (guest->bus) {
        guest->bus_ops->destroy(guest->bus);
    }
    free(guest);
}

enum guest_arch guest_arch(const struct guest *guest)
{
    return guest->arch;
}

enum guest_type guest_type(const struct guest *guest)
{
    return guest->type;
}

bool guest_beside(const struct guest *guest)
{
    return guest->beside;
}

void *guest_bus(const struct guest *guest)
{
    return guest->bus;
}

void guest_bus_set(struct guest *guest, void *bus, const struct config_space_ops *ops)
{
    guest->bus = bus;
    guest->bus_ops = ops;
}

int guest_claim_function(struct guest *guest, uint16_t sbdf)
{
    guest->claimed[sbdf] = true;
    return 0;
}

const char *guest_function_owner(const struct guest *guest, uint16_t sbdf, char *text, size_t size)
{
    return guest->foreign && guest->foreign == sbdf ? "somebody else" : NULL;
}

void guest_release_function(struct guest *guest, uint16_t sbdf)
{
    guest->claimed[sbdf] = false;
}

int guest_msi(struct guest *guest, uint64_t address, uint32_t data)
{
    if (guest->message_count < FAKE_MESSAGES) {
        guest->messages[guest->message_count].address = address;
        guest->messages[guest->message_count].data = data;
    }
    guest->message_count++;
    return 0;
}

int guest_intx(struct guest *guest, uint8_t slot, uint8_t pin, bool level)
{
    guest->intx[slot][pin] = level;
    guest->intx_calls++;
    return 0;
}

void *fake_at(struct guest *guest, uint64_t address, size_t length)
{
    if (address < FAKE_BASE || length > FAKE_MEMORY || address - FAKE_BASE > FAKE_MEMORY - length) {
        abort();
    }
    return guest->memory + (address - FAKE_BASE);
}

static uint8_t *there(struct iod_device *device, uint64_t address, size_t length)
{
    if (address < FAKE_BASE || length > FAKE_MEMORY || address - FAKE_BASE > FAKE_MEMORY - length) {
        return NULL;
    }
    return device->guest->memory + (address - FAKE_BASE);
}

int iod_dma_read(struct iod_device *device, uint64_t address, void *to, size_t length)
{
    const uint8_t *from = there(device, address, length);

    if (!from) {
        return -EFAULT;
    }
    memcpy(to, from, length);
    return 0;
}

int iod_dma_write(struct iod_device *device, uint64_t address, const void *from, size_t length)
{
    uint8_t *to = there(device, address, length);

    if (!to) {
        return -EFAULT;
    }
    memcpy(to, from, length);
    return 0;
}

struct iod_window *iod_window_open(struct iod_device *device, uint64_t address, size_t length)
{
    struct iod_window *window = malloc(sizeof(*window));

    if (window) {
        *window = (struct iod_window){device, address, length};
    }
    return window;
}

int iod_window_read(struct iod_window *window, size_t offset, void *to, size_t length)
{
    if (offset > window->length || length > window->length - offset) {
        return -EFAULT;
    }
    return iod_dma_read(window->device, window->address + offset, to, length);
}

int iod_window_write(struct iod_window *window, size_t offset, const void *from, size_t length)
{
    if (offset > window->length || length > window->length - offset) {
        return -EFAULT;
    }
    return iod_dma_write(window->device, window->address + offset, from, length);
}

void iod_window_close(struct iod_window *window)
{
    free(window);
}

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
__attribute__((weak)) /* Weak: a test that brings options of its own replaces them. */
__attribute__((weak)) const struct iod_options *iod_device_options(const struct iod_device *device)
{
    return (const struct iod_options *)device; /* whose one number option the test sets */
}

__attribute__((weak)) __attribute__((weak)) uint64_t iod_option_number(const struct iod_options *options, const char *name)
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

/* ---- regions and accesses ---- */

struct iod_region *iod_region_add(struct iod_device *device, const char *name, uint64_t length,
                                  const struct iod_region_ops *ops, void *self)
{
    struct iod_region *region = calloc(1, sizeof(*region));

    if (region) {
        *region = (struct iod_region){.device = device, .length = length, .ops = ops, .self = self};
        list_add_tail(&device->regions, &region->link);
    }
    return region;
}

uint64_t region_length(const struct iod_region *region)
{
    return region->length;
}

int iod_region_place(struct iod_region *region, enum iod_space space, uint64_t base, struct iod_error *error)
{
    if (base >> 48) {
        return iod_fail(error, ERANGE, "beyond the end");
    }
    region->space = space;
    region->base = base;
    region->shown = true;
    region->placed++;
    return 0;
}

void iod_region_hide(struct iod_region *region)
{
    region->shown = false;
}

int iod_region_place_base(struct iod_region *region, enum iod_space space, uint64_t fallback,
                          struct iod_error *error)
{
    return iod_region_place(region, space, region->device->keys.base, error);
}

struct iod_access *iod_access_defer(struct iod_device *device)
{
    struct iod_access *access;

    if (!device->handling || device->access) {
        return NULL;
    }
    access = calloc(1, sizeof(*access));
    if (!access) {
        abort();
    }
    access->device = device;
    device->access = access;
    return access;
}

void iod_access_complete(struct iod_access *access, uint64_t value)
{
    if (access->device->handling) {
        abort(); /* not from inside the handler */
    }
    access->device->access = NULL;
    free(access);
}

struct iod_region *fake_region(struct iod_device *device, unsigned index)
{
    struct list *at = device->regions.next;

    while (index--) {
        at = at->next;
    }
    return list_entry(at, struct iod_region, link);
}

uint64_t fake_read(struct iod_region *region, uint64_t offset, unsigned width)
{
    return region->ops->read(region->self, offset, width);
}

bool fake_write(struct iod_region *region, uint64_t offset, unsigned width, uint64_t value)
{
    region->device->handling = true;
    region->ops->write(region->self, offset, width, value);
    region->device->handling = false;
    return !region->device->access;
}

uint32_t fake_config_read(struct guest *guest, unsigned slot, unsigned offset, unsigned width)
{
    return guest->bus_ops->read(guest->bus, (uint16_t)(slot * 8), offset, width);
}

void fake_config_write(struct guest *guest, unsigned slot, unsigned offset, unsigned width, uint32_t value)
{
    struct iod_device *owner = guest->bus_ops->owner(guest->bus, (uint16_t)(slot * 8));

    if (owner) {
        owner->handling = true;
    }
    guest->bus_ops->write(guest->bus, (uint16_t)(slot * 8), offset, width, value);
    if (owner) {
        owner->handling = false;
    }
}

/* ---- wires ---- */

struct iod_irq *irq_make(struct iod_device *device, int (*set)(void *self, bool level), void *self)
{
    struct iod_irq *irq = calloc(1, sizeof(*irq));

    if (irq) {
        irq->device = device;
        irq->set = set;
        irq->self = self;
        list_add_tail(&device->irqs, &irq->link);
    }
    return irq;
}

static int plain_wire(void *self, bool level)
{
    struct iod_device *device = self;

    device->raised += level;
    device->line = level;
    return 0;
}

struct iod_irq *iod_irq_get(struct iod_device *device, int fallback, struct iod_error *error)
{
    return device->polled ? NULL : irq_make(device, plain_wire, device);
}

void iod_irq_raise(struct iod_irq *irq)
{
    irq->set(irq->self, true);
}

void iod_irq_lower(struct iod_irq *irq)
{
    irq->set(irq->self, false);
}
