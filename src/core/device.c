/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device's life, all of it: create -> open -> [load] -> start -> quiesce -> save | reset | start | destroy.
 * Stops are counted: SIGTERM, a reset and an unplug may ask at the same time, each is told when all is quiet,
 * and the device starts again when the last of them has resumed it.
 */
#include "core/device.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"
#include "core/irq.h"
#include "core/options.h"
#include "core/timer.h"

/* ---- what the rooms see ---- */

void *iod_self(const struct iod_device *device)
{
    return device->self;
}

void *iod_regs(const struct iod_device *device)
{
    return device->regs;
}

const struct iod_options *iod_device_options(const struct iod_device *device)
{
    return device->options;
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

enum device_state device_state(const struct iod_device *device)
{
    return device->state;
}

bool device_is_hot(const struct iod_device *device)
{
    return device->hidden;
}

bool device_answers(const struct iod_device *device)
{
    return device->state == DEVICE_RUNNING && !device->busy;
}

int device_part_add(struct iod_device *device, struct device_part *part, const struct device_part_ops *ops)
{
    part->ops = ops;
    part->device = device;
    part->regs = NULL;
    if (ops->regs_size) {
        part->regs = calloc(1, ops->regs_size);
        if (!part->regs) {
            return -ENOMEM;
        }
    }
    list_add_tail(&device->parts, &part->link);
    return 0;
}

static void add_schema(struct iod_device *device, const struct iod_option *schema)
{
    if (schema && device->schema_count < sizeof(device->schemas) / sizeof(device->schemas[0])) {
        device->schemas[device->schema_count++] = schema;
    }
}

void device_backend_add(struct iod_device *device, struct device_backend *backend,
                        const struct device_backend_ops *ops, const struct iod_option *schema)
{
    backend->ops = ops;
    backend->device = device;
    list_add_tail(&device->backends, &backend->link);
    add_schema(device, schema);
}

struct iod_options *device_backend_options(struct iod_device *device, const struct iod_option *schema,
                                           const char *what, const char *prefix, struct iod_error *error)
{
    return options_parse(schema, what, &device->spec, prefix, true, error);
}

/* ---- create ---- */

static struct iod_device *device_alloc(struct guest *guest, const struct iod_device_class *class,
                                       const struct device_spec *spec)
{
    struct iod_device *device = calloc(1, sizeof(*device));
    if (!device) {
        return NULL;
    }
    device->guest = device->owner = guest;
    device->hidden = guest->state == GUEST_RUNNING;
    device->class = class;
    struct list *lists[] = {&device->regions, &device->irqs,    &device->timers, &device->watches,
                            &device->tasks,   &device->windows, &device->parts,  &device->backends,
                            &device->waiters, &device->stops,   &device->link};
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
    device->self = calloc(1, class->self_size ? class->self_size : 1);
    device->regs = calloc(1, class->regs_size ? class->regs_size : 1);
    if (!device->self || !device->regs || device_spec_copy(&device->spec, spec)) {
        device_destroy(device);
        return NULL;
    }
    return device;
}

static bool id_taken(const struct guest *guest, const char *id)
{
    struct iod_device *other;
    list_for_each(other, &guest->devices, struct iod_device, link) {
        if (!strcmp(other->id, id)) {
            return true;
        }
    }
    return false;
}

struct iod_device *device_create(struct guest *guest, const struct device_spec *spec, unsigned index,
                                 struct iod_error *error)
{
    const struct iod_device_class *class = modules_device(guest->daemon->config.modules, spec->name, error);
    if (!class) {
        return NULL;
    }
    guest_log(guest, IOD_LOG_DEBUG, "device class %s from %s", class->name, modules_origin(class));
    struct iod_device *device = device_alloc(guest, class, spec);
    if (!device) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    if (device_parse_keys(device, index, error)) {
        goto fail;
    }
    if (id_taken(guest, device->id)) {
        iod_fail(error, EEXIST, "%s: id=%s: another device of the guest has this id", class->name,
                 device->id);
        goto fail;
    }
    device->options = options_parse(class->options, class->name, &device->spec, "", false, error);
    if (!device->options) {
        goto fail;
    }
    add_schema(device, class->options);
    list_add_tail(&guest->devices, &device->link);
    guest->hidden = device->hidden ? device : NULL;
    int result = class->create(device, error);
    guest->hidden = NULL;
    if (result ||
        options_check_unused(&device->spec, class->name, device->schemas, device->schema_count, error)) {
        goto fail;
    }
    if (TABLE_HAS(class, reset)) {
        class->reset(device);
    }
    return device;
fail:
    device_destroy(device);
    return NULL;
}

/* Quiet: tell everyone who asked. A callback may resume or stop the device again. */
static void answer_stops(struct iod_device *device)
{
    struct device_stop *stop;
    while (device->state != DEVICE_RUNNING && device->life == LIFE_IDLE &&
           (stop = list_first(&device->stops, struct device_stop, link))) {
        list_remove(&stop->link);
        device->stopped++;
        stop->stopped(stop->self);
    }
}

/* ---- open ---- */

static void opened(struct iod_device *device, int error, const char *why)
{
    device->life = LIFE_IDLE;
    device->state = error || device->broken ? DEVICE_BROKEN : DEVICE_STOPPED;
    answer_stops(device);
    struct iod_error text = {0};
    /* a backend knows not whose it is */
    if (error && why && strncmp(why, device->id, strlen(device->id)) != 0) {
        iod_fail(&text, EIO, "%s: %s", device->id, why);
        why = text.text;
    }
    device->opened(device->opened_self, device, error, why);
}

static void open_step(struct iod_device *device);

static void open_result(struct iod_device *device, int result, const struct iod_error *error)
{
    if (result < 0) {
        opened(device, result, error->text);
    } else if (result == 0) {
        open_step(device);
    }
}

/* Backends one after the other, then the class. */
static void open_step(struct iod_device *device)
{
    struct iod_error error = {0};
    struct list *next = device->backend_at ? device->backend_at->link.next : device->backends.next;
    if (device->life == LIFE_OPEN_BACKENDS && next != &device->backends) {
        device->backend_at = list_entry(next, struct device_backend, link);
        int result = device->backend_at->ops->open ? device->backend_at->ops->open(device->backend_at, &error)
                                                   : 0;
        open_result(device, result, &error);
        return;
    }
    if (device->life == LIFE_OPEN_BACKENDS) {
        device->backend_at = NULL;
        device->life = LIFE_OPEN_CLASS;
        int result = TABLE_HAS(device->class, open) ? device->class->open(device, &error) : 0;
        open_result(device, result, &error);
        return;
    }
    opened(device, 0, NULL);
}

void device_open(struct iod_device *device,
                 void (*opened_)(void *self, struct iod_device *, int, const char *), void *self)
{
    device->opened = opened_;
    device->opened_self = self;
    device->state = DEVICE_OPENING;
    device->life = LIFE_OPEN_BACKENDS;
    device->backend_at = NULL;
    open_step(device);
}

void device_give_up(struct iod_device *device)
{
    struct device_backend *backend = device->backend_at;
    if (device->state == DEVICE_OPENING && backend && backend->ops->give_up) {
        backend->ops->give_up(backend);
    }
}

/* ---- start and stop ---- */

void device_start(struct iod_device *device)
{
    struct device_part *part;
    if (device->state != DEVICE_STOPPED || device->stopped || device->broken) {
        return;
    }
    device->state = DEVICE_RUNNING;
    device->unanswering = device->busy != NULL;
    timers_start(device);
    list_for_each(part, &device->parts, struct device_part, link) {
        if (part->ops->start) {
            part->ops->start(part);
        }
    }
    if (TABLE_HAS(device->class, start)) {
        device->class->start(device);
    }
    dispatch_wake_waiters(device);
}

static void stopped(struct iod_device *device)
{
    struct device_part *part;
    device->life = LIFE_IDLE;
    list_for_each(part, &device->parts, struct device_part, link) {
        if (part->ops->stopped) {
            part->ops->stopped(part);
        }
    }
    windows_release(device);
    device->state = device->broken ? DEVICE_BROKEN : DEVICE_STOPPED;
    if (device->mappings) {
        iod_log(device, IOD_LOG_ERROR, "said that it is quiet with %u mappings in its hands",
                device->mappings);
    }
    answer_stops(device);
    if (device->broken) {
        dispatch_forget_device(device); /* who waits for it reads all ones */
    }
}

static void check_quiet(struct iod_device *device)
{
    if (device->life == LIFE_QUIESCE && device->class_quiet && device->backends_quiet) {
        stopped(device);
    }
}

/* One backend after the other; the caller looks whether all is quiet. */
static void quiesce_backends(struct iod_device *device)
{
    for (;;) {
        struct list *next = device->backend_at ? device->backend_at->link.next : device->backends.next;
        if (next == &device->backends) {
            device->backends_quiet = true;
            return;
        }
        device->backend_at = list_entry(next, struct device_backend, link);
        if (device->backend_at->ops->quiesce &&
            device->backend_at->ops->quiesce(device->backend_at, device->drain) == IOD_LATER) {
            return;
        }
    }
}

static void begin_backends(struct iod_device *device)
{
    if (!device->backends_begun) {
        device->backends_begun = true;
        device->backend_at = NULL;
        quiesce_backends(device);
    }
}

/*
 * To finish, the class comes first: what it still has to do may need its backends. To cancel, both at once:
 * the class waits for requests that only the backend can give up.
 */
static void quiesce(struct iod_device *device, enum iod_drain drain)
{
    struct device_part *part;
    device->state = DEVICE_STOPPING;
    device->drain = drain;
    device->life = LIFE_QUIESCE;
    device->class_quiet = device->backends_begun = device->backends_quiet = false;
    list_for_each(part, &device->parts, struct device_part, link) {
        if (part->ops->stop) {
            part->ops->stop(part);
        }
    }
    bool now = !TABLE_HAS(device->class, quiesce) || device->class->quiesce(device, drain) == IOD_NOW;
    device->class_quiet = device->class_quiet || now;
    if (device->class_quiet || drain == IOD_CANCEL) {
        begin_backends(device);
    }
    check_quiet(device);
}

void device_cancel(struct iod_device *device)
{
    if (device->life == LIFE_QUIESCE && device->drain == IOD_FINISH) {
        device->drain = IOD_CANCEL;
        if (!device->backends_begun) {
            begin_backends(device);
        } else if (!device->backends_quiet &&
                   device->backend_at->ops->quiesce(device->backend_at, IOD_CANCEL) == IOD_NOW) {
            quiesce_backends(device);
        }
        check_quiet(device);
    }
}

void device_stop(struct iod_device *device, struct device_stop *stop, enum iod_drain drain,
                 void (*stopped_)(void *self), void *self)
{
    stop->stopped = stopped_;
    stop->self = self;
    list_init(&stop->link);
    list_add_tail(&device->stops, &stop->link);
    switch (device->state) {
    case DEVICE_RUNNING:
        quiesce(device, drain);
        break;
    case DEVICE_STOPPING:
        if (drain == IOD_CANCEL) {
            device_cancel(device);
        }
        break;
    default:
        answer_stops(device);
        break;
    }
}

void device_resume(struct iod_device *device)
{
    if (device->stopped) {
        device->stopped--;
    }
    if (!device->stopped && list_empty(&device->stops) && device->guest->state == GUEST_RUNNING) {
        device_start(device);
    }
}

void device_reset(struct iod_device *device, bool parts)
{
    memset(device->regs, 0, device->class->regs_size);
    if (TABLE_HAS(device->class, reset)) {
        device->class->reset(device);
    }
    struct device_part *part;
    list_for_each(part, &device->parts, struct device_part, link) {
        if (parts) {
            if (part->regs) {
                memset(part->regs, 0, part->ops->regs_size);
            }
            if (part->ops->reset) {
                part->ops->reset(part);
            }
        }
    }
}

/* ---- answers that came later ---- */

void iod_device_done(struct iod_device *device, int error)
{
    struct iod_error text = {0};
    if (device->life == LIFE_OPEN_CLASS) {
        if (error) {
            iod_fail(&text, -error, "%s: can't open: %s", device->id, strerror(-error));
        }
        opened(device, error, text.text);
    } else if (device->life == LIFE_QUIESCE) {
        device->class_quiet = true;
        begin_backends(device);
        check_quiet(device);
    }
}

void device_backend_done(struct device_backend *backend, int error)
{
    struct iod_device *device = backend->device;
    struct iod_error text = {0};
    if (device->backend_at != backend) {
        return;
    }
    if (device->life == LIFE_OPEN_BACKENDS) {
        if (error) {
            iod_fail(&text, -error, "%s: can't open its backend: %s", device->id, strerror(-error));
        }
        open_result(device, error, &text);
    } else if (device->life == LIFE_QUIESCE) {
        quiesce_backends(device);
        check_quiet(device);
    }
}

void device_backend_failed(struct device_backend *backend, const struct iod_error *error)
{
    struct iod_device *device = backend->device;
    if (device->backend_at == backend && device->life == LIFE_OPEN_BACKENDS) {
        open_result(device, error->code ? -error->code : -EIO, error);
    }
}

/* The stop is never resumed: the device stays quiet. */
static void broken_stopped(void *self)
{
    (void)self;
}

void iod_device_broken(struct iod_device *device, const char *why, ...)
{
    va_list arguments;
    if (device->broken) {
        return;
    }
    va_start(arguments, why);
    vsnprintf(device->why, sizeof(device->why), why, arguments);
    va_end(arguments);
    device->broken = true;
    iod_log(device, IOD_LOG_ERROR, "stopped: %s", device->why);
    if (device->state == DEVICE_STOPPED) {
        device->state = DEVICE_BROKEN;
        dispatch_forget_device(device);
    } else {
        device_stop(device, &device->broken_stop, IOD_CANCEL, broken_stopped, NULL);
    }
    device_tell(device, EVENT_DEVICE_ERROR, device->why);
}

/*
 * A part that can ask the guest does so even where another one says that the guest still drives the device.
 */
bool device_is_removable(struct iod_device *device, struct iod_error *error)
{
    struct device_part *part;
    struct iod_error refusal = {0};
    list_for_each(part, &device->parts, struct device_part, link) {
        struct iod_error why = {0};
        if (part->ops->removable && !part->ops->removable(part, &why) &&
            (!refusal.code || why.code == EINPROGRESS)) {
            refusal = why;
        }
    }
    if (refusal.code) {
        *error = refusal;
    }
    return !refusal.code;
}

/* ---- destroy ---- */

/*
 * On Arm an access that nobody claims kills the guest: the range stays, and reads 0. On x86 it reads all
 * ones, but a driver whose virtio device was pulled resets it and waits for status 0, in Linux without end
 * and with the lock of all PCI hot-plug: its memory stays too. What the guest places there later is on top.
 */
static bool keeps_range(const struct iod_device *device, const struct iod_region *region)
{
    const struct guest *guest = device->guest;
    return (guest_is_arm(guest) || (device->pulled && region->space == IOD_MMIO)) && guest->state == GUEST_RUNNING &&
           !guest->dead && !device->hidden && !list_empty(&region->placement.link);
}

static void remove_regions(struct iod_device *device)
{
    struct iod_region *region;
    struct guest *guest = device->guest;
    list_for_each(region, &device->regions, struct iod_region, link) {
        struct address_space *space = &guest->spaces[region->space];
        if (keeps_range(device, region) &&
            address_space_add_hole(space, region->placement.start, region->placement.end)) {
            guest_log(guest, IOD_LOG_ERROR, "out of memory: the range of %s is claimed no more", device->id);
        }
        address_space_remove(space, &region->placement);
        address_space_forget(space, region); /* accesses may come before the next commit, if there is one */
        list_remove(&region->link);
        free(region);
    }
}

void device_destroy(struct iod_device *device)
{
    if (!device) {
        return;
    }
    if (device->options && device->class->create && TABLE_HAS(device->class, destroy)) {
        device->class->destroy(device);
    }
    dispatch_forget_device(device);
    watch_device_end(device);
    while (!list_empty(&device->parts)) {
        struct device_part *part = list_entry(device->parts.prev, struct device_part, link);
        void *regs = part->regs;
        list_remove(&part->link);
        part->ops->destroy(part);
        free(regs);
    }
    while (!list_empty(&device->backends)) {
        struct device_backend *backend = list_entry(device->backends.prev, struct device_backend, link);
        list_remove(&backend->link);
        backend->ops->destroy(backend);
    }
    windows_destroy(device);
    timers_destroy(device);
    remove_regions(device);
    struct iod_irq *irq;
    list_for_each(irq, &device->irqs, struct iod_irq, link) {
        list_remove(&irq->link);
        free(irq);
    }
    list_remove(&device->link);
    ask_end(device, "the device is gone");
    detach_end(device->detach);
    options_destroy(device->options);
    device_spec_finish(&device->spec);
    free(device->id);
    free(device->self);
    free(device->regs);
    free(device);
}
