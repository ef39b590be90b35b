/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The layer between devices and character backends. While a device is stopped nothing comes in: a quiesce
 * takes the number of bytes it accepts down to 0, and the device says it again in start.
 */
#include "backend/chardev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/daemon.h"
#include "core/device.h"
#include "core/guest.h"
#include "core/module.h"
#include "core/options.h"

struct iod_chardev {
    struct device_backend backend;
    const struct iod_chardev_class *class;
    struct iod_device *device;
    struct daemon *daemon;
    struct iod_options *options;
    void *self;
    const struct iod_chardev_events *events;
    void *events_self;
    size_t accepts;
    struct loop_task *task; /* tells the device who is there */
    bool tried, opened;
    bool connected, told;   /* as it is; as the device knows it */
    bool stopping;          /* a quiesce was answered with later */
    bool lost;              /* a peer was there, and is gone */
    char prefix[32];
};

static void chardev_destroy(struct device_backend *backend)
{
    struct iod_chardev *chardev = list_entry(backend, struct iod_chardev, backend);
    if (chardev->tried && TABLE_HAS(chardev->class, close)) {
        chardev->class->close(chardev);
    }
    daemon_loop(chardev->daemon)->ops->task_remove(chardev->task);
    options_destroy(chardev->options);
    free(chardev->self);
    free(chardev);
}

static int chardev_open(struct device_backend *backend, struct iod_error *error)
{
    struct iod_chardev *chardev = list_entry(backend, struct iod_chardev, backend);
    chardev->tried = true;
    int result = chardev->class->open(chardev, error);
    chardev->opened = result == 0;
    return result;
}

static enum iod_when chardev_quiesce(struct device_backend *backend, enum iod_drain drain)
{
    struct iod_chardev *chardev = list_entry(backend, struct iod_chardev, backend);
    chardev->accepts = 0;
    if (!chardev->opened || !TABLE_HAS(chardev->class, quiesce) ||
        chardev->class->quiesce(chardev, drain) == IOD_NOW) {
        return IOD_NOW;
    }
    chardev->stopping = true;
    return IOD_LATER;
}

static void chardev_inspect(const struct device_backend *backend, struct inspector *inspector)
{
    const struct iod_chardev *chardev = list_entry(backend, const struct iod_chardev, backend);
    const char *path = iod_option_string(chardev->options, "path");
    inspector->text(inspector, "kind", "chardev");
    inspector->text(inspector, "class", chardev->class->name);
    if (path != NULL) {
        inspector->text(inspector, "path", path);
    }
    inspector->boolean(inspector, "connected", chardev->connected);
    inspector->number(inspector, "accepts", chardev->accepts);
}

static const struct device_backend_ops chardev_ops = {
    .open = chardev_open,
    .quiesce = chardev_quiesce,
    .destroy = chardev_destroy,
    .inspect = chardev_inspect,
};

static void tell_connected(void *self)
{
    struct iod_chardev *chardev = self;
    if (chardev->told == chardev->connected) {
        return;
    }
    chardev->told = chardev->connected;
    if (!chardev->connected || chardev->lost) {
        chardev->lost = !chardev->connected;
        device_backend_tell(&chardev->backend, chardev->lost ? "lost: its peer is gone" : "back: a peer is there");
    }
    if (TABLE_HAS(chardev->events, connected)) {
        chardev->events->connected(chardev->events_self, chardev->connected);
    }
}

static int chardev_fill(struct iod_chardev *chardev, const char *key, const char *fallback,
                        struct iod_error *error)
{
    const char *name = device_spec_take(chardev->device, key);
    if (name == NULL) {
        name = fallback != NULL ? fallback : "null";
    }
    chardev->class = modules_chardev(daemon_modules(chardev->daemon), name, error);
    if (chardev->class == NULL) {
        return -EINVAL;
    }
    char what[64];
    snprintf(what, sizeof(what), "chardev backend %s", name);
    chardev->options =
        device_backend_options(chardev->device, chardev->class->options, what, chardev->prefix, error);
    if (chardev->options == NULL) {
        return -EINVAL;
    }
    struct loop *loop = daemon_loop(chardev->daemon);
    chardev->self = calloc(1, chardev->class->self_size > 0 ? chardev->class->self_size : 1);
    chardev->task = loop->ops->task_add(loop, tell_connected, chardev);
    return chardev->self != NULL && chardev->task != NULL ? 0 : iod_fail(error, ENOMEM, "out of memory");
}

struct iod_chardev *iod_chardev_attach(struct iod_device *device, const char *key, const char *fallback,
                                       const struct iod_chardev_events *events, void *self,
                                       struct iod_error *error)
{
    struct iod_chardev *chardev = calloc(1, sizeof(*chardev));
    if (chardev == NULL) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    chardev->device = device;
    chardev->daemon = guest_daemon(device_guest(device));
    chardev->events = events;
    chardev->events_self = self;
    snprintf(chardev->prefix, sizeof(chardev->prefix), "%s.", key);
    if (chardev_fill(chardev, key, fallback, error) != 0) {
        chardev_destroy(&chardev->backend);
        return NULL;
    }
    device_backend_add(device, &chardev->backend, &chardev_ops, chardev->class->options);
    return chardev;
}

size_t iod_chardev_write(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    return count > 0 && chardev->opened ? chardev->class->write(chardev, bytes, count) : 0;
}

void iod_chardev_accept(struct iod_chardev *chardev, size_t count)
{
    bool was = chardev->accepts > 0;
    chardev->accepts = count;
    if (!was && count > 0 && chardev->opened && TABLE_HAS(chardev->class, accept)) {
        chardev->class->accept(chardev);
    }
}

void *iod_chardev_self(const struct iod_chardev *chardev)
{
    return chardev->self;
}

struct iod_device *iod_chardev_device(const struct iod_chardev *chardev)
{
    return chardev->device;
}

const struct iod_options *iod_chardev_options(const struct iod_chardev *chardev)
{
    return chardev->options;
}

size_t iod_chardev_accepts(const struct iod_chardev *chardev)
{
    return chardev->accepts;
}

void iod_chardev_receive(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    if (count > chardev->accepts) {
        count = chardev->accepts; /* a backend's mistake must not become a device's overflow */
    }
    if (count > 0) {
        chardev->accepts -= count;
        chardev->events->receive(chardev->events_self, bytes, count);
    }
}

void iod_chardev_writable(struct iod_chardev *chardev)
{
    if (TABLE_HAS(chardev->events, writable)) {
        chardev->events->writable(chardev->events_self);
    }
}

void iod_chardev_connected(struct iod_chardev *chardev, int connected)
{
    chardev->connected = connected != 0;
    daemon_loop(chardev->daemon)->ops->task_soon(chardev->task);
}

void iod_chardev_done(struct iod_chardev *chardev, int error)
{
    if (chardev->stopping) {
        chardev->stopping = false;
        device_backend_done(&chardev->backend, error);
    }
}

struct daemon *chardev_daemon(const struct iod_chardev *chardev)
{
    return chardev->daemon;
}

struct loop *chardev_loop(const struct iod_chardev *chardev)
{
    return daemon_loop(chardev->daemon);
}
