/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Status, features and the life of a virtio device, whatever the transport. Virtio 1.2, sections 2.1, 2.2
 * and 3.1. A reset ends only when nothing of the device can touch guest memory any more: its write is
 * deferred until the core has quiesced the device.
 */
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/limit.h"
#include "core/module.h"
#include "core/probe.h"
#include "virtio/virtio.h"
#include "virtio/virtq.h"

#define BIT64(bit) (UINT64_C(1) << (bit))
#define DRIVER_BITS                                                                                          \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |                      \
     VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

static void *class_self(const struct iod_virtio *virtio)
{
    return iod_self(virtio->device);
}

/* ---- features ---- */

uint64_t virtio_offered(const struct iod_virtio *virtio)
{
    return virtio->class->features(class_self(virtio)) | virtio->transport->features;
}

uint64_t iod_virtio_features(const struct iod_virtio *virtio)
{
    const struct virtio_regs *regs = virtio_regs(virtio);
    uint8_t settled = virtio->transport->legacy ? VIRTIO_CONFIG_S_DRIVER : VIRTIO_CONFIG_S_FEATURES_OK;

    return regs->status & settled ? regs->driver_features : 0;
}

bool virtio_negotiated(const struct iod_virtio *virtio, unsigned bit)
{
    return iod_virtio_features(virtio) & BIT64(bit);
}

uint32_t virtio_device_features(const struct iod_virtio *virtio)
{
    uint32_t half = virtio_regs(virtio)->device_features_select;

    return half > 1 ? 0 : (uint32_t)(virtio_offered(virtio) >> (32 * half));
}

void virtio_driver_features(struct iod_virtio *virtio, uint32_t value)
{
    struct virtio_regs *regs = virtio_regs(virtio);
    unsigned shift = 32 * (regs->driver_features_select & 1);

    if (regs->driver_features_select > 1 ||
        (regs->status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK))) {
        return;
    }
    regs->driver_features = (regs->driver_features & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value
                                                                                             << shift;
    if (virtio->transport->legacy) {
        regs->driver_features &= virtio_offered(virtio); /* no FEATURES_OK to refuse with */
    }
}

/* ---- status ---- */

bool iod_virtio_live(const struct iod_virtio *virtio)
{
    uint8_t status = virtio_regs(virtio)->status;

    return (status & VIRTIO_CONFIG_S_DRIVER_OK) && !(status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void config_interrupt(struct iod_virtio *virtio)
{
    struct virtio_regs *regs = virtio_regs(virtio);

    regs->generation++;
    if (regs->status & VIRTIO_CONFIG_S_DRIVER_OK) {
        virtio->transport->interrupt(virtio, VIRTIO_CONFIG_INTERRUPT);
    }
}

static void needs_reset(struct iod_virtio *virtio)
{
    struct virtio_regs *regs = virtio_regs(virtio);

    if (!(regs->status & VIRTIO_CONFIG_S_NEEDS_RESET)) {
        regs->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        config_interrupt(virtio);
    }
}

void iod_virtio_broken(struct iod_virtio *virtio, const char *why, ...)
{
    char text[160];
    va_list arguments;

    va_start(arguments, why);
    vsnprintf(text, sizeof(text), why, arguments);
    va_end(arguments);
    iod_guest_error(virtio->device, "%s", text);
    needs_reset(virtio);
}

void iod_virtio_config_changed(struct iod_virtio *virtio)
{
    config_interrupt(virtio);
}

static void configure(struct iod_virtio *virtio)
{
    int result = virtio->class->driver_ok ? virtio->class->driver_ok(class_self(virtio)) : 0;

    virtio->configured = true;
    if (result < 0) {
        iod_log(virtio->device, IOD_LOG_ERROR, "can't serve the driver: %s", strerror(-result));
        needs_reset(virtio);
    }
}

static void go_live(struct iod_virtio *virtio)
{
    virtio_regs(virtio)->status |= VIRTIO_CONFIG_S_DRIVER_OK;
    configure(virtio);
    virtio_look_at_all(virtio);
}

static bool features_acceptable(const struct iod_virtio *virtio)
{
    uint64_t features = virtio_regs(virtio)->driver_features;

    return !(features & ~virtio_offered(virtio)) && (features & BIT64(VIRTIO_F_VERSION_1));
}

static void set_status(struct iod_virtio *virtio, uint8_t value)
{
    struct virtio_regs *regs = virtio_regs(virtio);
    uint8_t added = (uint8_t)(value & DRIVER_BITS & ~regs->status);

    if (regs->status & DRIVER_BITS & ~value) {
        iod_guest_error(virtio->device, "status 0x%x: bits of 0x%x can't be cleared but by a reset", value,
                        regs->status);
    }
    if (virtio->transport->legacy) {
        added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
    } else if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !features_acceptable(virtio)) {
        added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK; /* the driver reads back that we refuse */
    }
    regs->status |= (uint8_t)(added & ~VIRTIO_CONFIG_S_DRIVER_OK);
    if (!(added & VIRTIO_CONFIG_S_DRIVER_OK)) {
        return;
    }
    if (!virtio->transport->legacy && !(regs->status & VIRTIO_CONFIG_S_FEATURES_OK)) {
        iod_guest_error(virtio->device, "DRIVER_OK before FEATURES_OK");
        return;
    }
    go_live(virtio);
}

/* ---- reset ---- */

static void clear_state(struct iod_virtio *virtio)
{
    memset(virtio_regs(virtio), 0, sizeof(struct virtio_regs));
    virtio_regs(virtio)->config_vector = VIRTIO_NO_VECTOR;
    virtio->kicked = virtio->unasked = 0;
    virtio->configured = false;
    if (virtio->transport->reset) {
        virtio->transport->reset(virtio);
    }
}

static void finish_reset(struct iod_virtio *virtio)
{
    struct iod_access *access = virtio->resetting.access;
    uint32_t page_size = virtio_regs(virtio)->guest_page_size;

    virtio->resetting.access = NULL;
    device_reset(virtio->device, false);
    for (unsigned i = 0; i < virtio->count; i++) {
        virtq_clear(&virtio->queues[i]);
    }
    clear_state(virtio);
    /* Linux tells it once, when it finds the device, before its driver's first reset. */
    virtio_regs(virtio)->guest_page_size = page_size;
    device_resume(virtio->device);
    if (access) {
        iod_access_complete(access, 0);
    }
}

static void reset_quiet(void *self)
{
    struct iod_virtio *virtio = self;

    if (virtio->resetting.asking) {
        virtio->resetting.quiet = true; /* inside the write's handler: it ends by returning */
    } else {
        finish_reset(virtio);
    }
}

static void begin_reset(struct iod_virtio *virtio)
{
    probe_reset(virtio->device, 0, 0, 0);
    virtio->resetting.asking = true;
    virtio->resetting.quiet = false;
    device_stop(virtio->device, &virtio->resetting.stop, IOD_CANCEL, reset_quiet, virtio);
    virtio->resetting.asking = false;
    if (virtio->resetting.quiet) {
        finish_reset(virtio);
    } else {
        virtio->resetting.access = iod_access_defer(virtio->device);
    }
}

void virtio_status_write(struct iod_virtio *virtio, uint8_t value)
{
    if (value == 0) {
        begin_reset(virtio);
    } else {
        set_status(virtio, value);
    }
}

/* ---- notifications ---- */

static void drain(void *self)
{
    struct iod_virtio *virtio = self;
    uint64_t kicked = virtio->kicked;

    virtio->kicked = 0;
    for (; kicked; kicked &= kicked - 1) {
        struct iod_virtq *queue = &virtio->queues[__builtin_ctzll(kicked)];
        bool ready = iod_virtq_ready(queue);

        if (queue->kicks) {
            if (!ready || !virtq_grew(queue)) {
                limit_charge_device(virtio->device, DEED_EMPTY_KICK, queue->kicks);
            }
            queue->kicks = 0;
        }
        if (ready && iod_virtq_ready(queue)) {
            virtq_refill(queue);
            virtio->class->notify(class_self(virtio), queue->index);
        }
    }
}

void virtio_look_again(struct iod_virtio *virtio, unsigned queue)
{
    virtio->kicked |= BIT64(queue);
    if (!virtio->quiet) {
        iod_task_queue(virtio->task);
    }
}

static void ask(void *self)
{
    struct iod_virtio *virtio = self;
    uint64_t unasked = virtio->unasked;

    virtio->unasked = 0;
    for (; unasked; unasked &= unasked - 1) {
        virtq_ask(&virtio->queues[__builtin_ctzll(unasked)]);
    }
}

void virtio_ask_last(struct iod_virtio *virtio, unsigned queue)
{
    virtio->unasked |= BIT64(queue);
    device_task_last(virtio->last);
}

void virtio_look_at_all(struct iod_virtio *virtio)
{
    for (unsigned i = 0; i < virtio->count; i++) {
        if (virtq_regs(&virtio->queues[i])->enabled) {
            virtio_look_again(virtio, i);
        }
    }
}

void virtio_kick(struct iod_virtio *virtio, uint32_t queue)
{
    uint8_t status = virtio_regs(virtio)->status;

    probe_kick(virtio->device, queue, 0, 0);
    if (!(status & DRIVER_BITS)) {
        if (!(status & VIRTIO_CONFIG_S_NEEDS_RESET)) {
            iod_virtio_broken(virtio, "its driver is at work, and the device is in reset: was the guest restored or "
                                      "migrated? The state of its devices was not; it must load the driver again, "
                                      "or reboot");
        }
        limit_charge_device(virtio->device, DEED_EMPTY_KICK, 1);
        return;
    }
    if (queue >= virtio->count || !virtq_regs(&virtio->queues[queue])->enabled) {
        iod_guest_error(virtio->device, "a notification for queue %u, which is not enabled", queue);
        return;
    }
    if (virtio->transport->legacy && (status & VIRTIO_CONFIG_S_DRIVER) &&
        !(status & VIRTIO_CONFIG_S_DRIVER_OK)) {
        go_live(virtio); /* old drivers do I/O while they still probe */
    }
    virtio->queues[queue].kicks++;
    virtio_look_again(virtio, queue);
}

struct iod_virtq *virtio_selected(const struct iod_virtio *virtio)
{
    uint16_t index = virtio_regs(virtio)->queue_select;

    return index < virtio->count ? &virtio->queues[index] : NULL;
}

struct iod_virtq *iod_virtio_queue(struct iod_virtio *virtio, unsigned index)
{
    return index < virtio->count ? &virtio->queues[index] : NULL;
}

/* ---- the device's configuration structure ---- */

uint32_t virtio_config_read(struct iod_virtio *virtio, uint64_t offset, unsigned width)
{
    uint8_t config[VIRTIO_CONFIG_MAX] = { 0 };
    uint32_t value = 0;

    if (offset >= virtio->class->config_size) {
        return 0;
    }
    virtio->class->config_read(class_self(virtio), config);
    for (unsigned i = 0; i < width && offset + i < virtio->class->config_size; i++) {
        value |= (uint32_t)config[offset + i] << (8 * i);
    }
    return value;
}

void virtio_config_write(struct iod_virtio *virtio, uint64_t offset, unsigned width, uint32_t value)
{
    if (!virtio->class->config_write || offset + width > virtio->class->config_size) {
        iod_guest_error(virtio->device, "a write to its configuration at %u, which can't be written",
                        (unsigned)offset);
        return;
    }
    virtio->class->config_write(class_self(virtio), (unsigned)offset, &value, width);
}

/* ---- the part of the device ---- */

static struct iod_virtio *from_part(struct device_part *part)
{
    return list_entry(part, struct iod_virtio, part);
}

static void virtio_start(struct device_part *part)
{
    struct iod_virtio *virtio = from_part(part);

    virtio->quiet = false;
    if (iod_virtio_live(virtio) && !virtio->configured) {
        configure(virtio); /* loaded */
    }
    if (virtio_regs(virtio)->isr && virtio->transport->start) {
        virtio->transport->start(virtio);
    }
    virtio_look_at_all(virtio); /* kicks may have come, or been answered by a predecessor */
}

static void virtio_stop(struct device_part *part)
{
    struct iod_virtio *virtio = from_part(part);

    virtio->quiet = true;
    iod_task_cancel(virtio->task);
    iod_task_cancel(virtio->last); /* a start looks at all queues */
}

static void virtio_stopped(struct device_part *part)
{
    struct iod_virtio *virtio = from_part(part);

    for (unsigned i = 0; i < virtio->count; i++) {
        virtq_stopped(&virtio->queues[i]);
    }
}

static void virtio_reset(struct device_part *part)
{
    clear_state(from_part(part));
}

static int virtio_load(struct device_part *part, struct iod_reader *reader, struct iod_error *error)
{
    struct iod_virtio *virtio = from_part(part);
    const struct virtio_regs *regs = virtio_regs(virtio);

    if (regs->driver_features & ~virtio_offered(virtio) &&
        (regs->status & (VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK))) {
        return iod_fail(error, EINVAL,
                        "saved state of %s: the guest uses features 0x%llx that are not offered here",
                        iod_device_id(virtio->device),
                        (unsigned long long)(regs->driver_features & ~virtio_offered(virtio)));
    }
    if (regs->status & ~(DRIVER_BITS | VIRTIO_CONFIG_S_NEEDS_RESET) || regs->isr > (ISR_QUEUE | ISR_CONFIG)) {
        return iod_fail(error, EINVAL, "saved state of %s: status 0x%x, interrupt status 0x%x",
                        iod_device_id(virtio->device), regs->status, regs->isr);
    }
    return 0;
}

static bool virtio_removable(struct device_part *part, struct iod_error *error)
{
    struct iod_virtio *virtio = from_part(part);

    /*
     * An acknowledged device without a driver is what Linux leaves when its driver has let go (and before one
     * comes).
     */
    if (virtio_regs(virtio)->status & DRIVER_BITS & ~VIRTIO_CONFIG_S_ACKNOWLEDGE) {
        iod_fail(error, EBUSY,
                 "%s: the guest's driver still drives it: unbind or unplug it in the guest first, or use --force",
                 iod_device_id(virtio->device));
        return false;
    }
    return true;
}

static void virtio_inspect(const struct device_part *part, struct inspector *inspector)
{
    const struct iod_virtio *virtio = list_entry(part, struct iod_virtio, part);
    const struct virtio_regs *regs = virtio_regs(virtio);

    inspector->text(inspector, "transport", virtio->transport->name);
    inspector->number(inspector, "device-id", virtio->class->device_id);
    inspector->number(inspector, "status", regs->status);
    inspector->boolean(inspector, "driver-ok", regs->status & VIRTIO_CONFIG_S_DRIVER_OK);
    inspector->boolean(inspector, "needs-reset", regs->status & VIRTIO_CONFIG_S_NEEDS_RESET);
    inspector->number(inspector, "features", iod_virtio_features(virtio));
    inspector->begin_list(inspector, "queues");
    for (unsigned i = 0; i < virtio->count; i++) {
        const struct iod_virtq *queue = &virtio->queues[i];
        const struct virtq_regs *ring = virtq_regs(queue);

        inspector->begin_object(inspector, NULL);
        inspector->number(inspector, "index", i);
        inspector->number(inspector, "size", ring->enabled ? ring->size : queue->max);
        inspector->boolean(inspector, "ready", ring->enabled);
        inspector->number(inspector, "in-flight", queue->in_flight);
        inspector->number(inspector, "next-avail", ring->next_avail);
        inspector->number(inspector, "used", ring->used);
        inspector->end(inspector);
    }
    inspector->end(inspector);
}

static void virtio_destroy(struct device_part *part)
{
    struct iod_virtio *virtio = from_part(part);

    free(virtio->queues);
    free(virtio);
}

static const struct iod_field virtio_fields[] = {
    IOD_FIELD(struct virtio_regs, driver_features, 1),
    IOD_FIELD(struct virtio_regs, device_features_select, 1),
    IOD_FIELD(struct virtio_regs, driver_features_select, 1),
    IOD_FIELD(struct virtio_regs, generation, 1),
    IOD_FIELD(struct virtio_regs, guest_page_size, 1),
    IOD_FIELD(struct virtio_regs, queue_select, 1),
    IOD_FIELD(struct virtio_regs, config_vector, 1),
    IOD_FIELD(struct virtio_regs, status, 1),
    IOD_FIELD(struct virtio_regs, isr, 1),
    { .name = NULL },
};

static const struct device_part_ops virtio_part_ops = {
    .name = "virtio",
    .fields = virtio_fields,
    .regs_size = sizeof(struct virtio_regs),
    .start = virtio_start,
    .stop = virtio_stop,
    .stopped = virtio_stopped,
    .reset = virtio_reset,
    .load = virtio_load,
    .destroy = virtio_destroy,
    .inspect = virtio_inspect,
    .removable = virtio_removable,
};

/* ---- making one ---- */

static const struct virtio_transport *choose_transport(struct iod_device *device, struct iod_error *error)
{
    static const struct virtio_transport *const all[] = { &transport_pci, &transport_mmio,
                                                          &transport_mmio_legacy };
    const char *bus = device_keys(device)->bus;

    if (!bus) {
        bus = guest_arch(device_guest(device)) == ARCH_ARM ? "mmio" : "pci";
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (!strcmp(bus, all[i]->name)) {
            return all[i];
        }
    }
    iod_fail(error, EINVAL, "%s: bus=%s: must be pci, mmio or mmio-legacy", iod_device_id(device), bus);
    return NULL;
}

static bool acceptable(const struct iod_virtio_class *class, unsigned count, const uint16_t *sizes)
{
    if (count == 0 || count > class->queues || count > VIRTIO_QUEUES_MAX ||
        class->config_size > VIRTIO_CONFIG_MAX || !class->features || !class->notify ||
        (class->config_size && !class->config_read)) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (sizes[i] == 0 || sizes[i] > 1024 || (sizes[i] & (sizes[i] - 1))) {
            return false;
        }
    }
    return true;
}

static int make_queues(struct iod_virtio *virtio, unsigned count, const uint16_t *sizes)
{
    virtio->queues = calloc(count, sizeof(*virtio->queues));
    if (!virtio->queues) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        int result = virtq_init(&virtio->queues[i], virtio, i, sizes[i]);

        if (result < 0) {
            return result;
        }
        virtio->count = i + 1;
    }
    return 0;
}

struct iod_virtio *iod_virtio_add(struct iod_device *device, const struct iod_virtio_class *class,
                                  unsigned count, const uint16_t *sizes, struct iod_error *error)
{
    const struct virtio_transport *transport = choose_transport(device, error);
    struct iod_virtio *virtio;

    if (!transport) {
        return NULL;
    }
    if (!acceptable(class, count, sizes)) {
        iod_fail(error, EINVAL, "%s: queues, sizes or callbacks of the class are not as virtio.h asks",
                 iod_device_id(device));
        return NULL;
    }
    virtio = calloc(1, sizeof(*virtio));
    if (!virtio || device_part_add(device, &virtio->part, &virtio_part_ops) < 0) {
        iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(device));
        free(virtio);
        return NULL;
    }
    virtio->device = device;
    virtio->class = class;
    virtio->transport = transport;
    virtio->quiet = true;
    virtio_regs(virtio)->config_vector = VIRTIO_NO_VECTOR;
    virtio->task = iod_task_add(device, drain, virtio);
    virtio->last = iod_task_add(device, ask, virtio);
    if (!virtio->task || !virtio->last || make_queues(virtio, count, sizes) < 0) {
        iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(device));
        return NULL; /* owned by the device */
    }
    return transport->attach(virtio, error) < 0 ? NULL : virtio;
}
