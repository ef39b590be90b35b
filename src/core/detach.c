/* SPDX-License-Identifier: BSD-2-Clause */
/* Taking one device off a running guest. Its I/O is cancelled; on Arm its ranges stay claimed and read 0. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

struct detach {
    struct iod_device *device;
    struct device_stop stop;
    struct loop_task *task; /* the device can't be freed inside its own stop */
    void (*done)(void *self);
    void *self;
};

static void detach_now(void *self)
{
    struct detach *detach = self;
    struct guest *guest = detach->device->guest;
    iod_log(detach->device, IOD_LOG_INFO, "detached");
    device_destroy(detach->device); /* ends the detach too */
    if (guest->state == GUEST_RUNNING) {
        guest_commit(guest);
    }
}

static void detach_stopped(void *self)
{
    struct detach *detach = self;
    detach->device->guest->daemon->loop->ops->task_soon(detach->task);
}

void detach_end(struct detach *detach)
{
    if (detach) {
        detach->device->guest->daemon->loop->ops->task_remove(detach->task);
        detach->done(detach->self);
        free(detach);
    }
}

static struct iod_device *find(struct daemon *daemon, const char *domain, const char *id,
                               struct iod_error *error)
{
    struct guest *guest;
    struct iod_device *device;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        if (strcmp(guest->spec.domain, domain) || guest->state != GUEST_RUNNING) {
            continue;
        }
        for (struct list *l = guest->devices.next; l != &guest->devices; l = l->next) {
            device = list_entry(l, struct iod_device, link);
            if (!strcmp(device->id, id)) {
                return device;
            }
        }
    }
    iod_fail(error, ENOENT, "no device %s on a running guest %s", id, domain);
    return NULL;
}

int daemon_detach_device(struct daemon *daemon, const char *domain, const char *id, void (*done)(void *self),
                         void *self, struct iod_error *error)
{
    struct iod_device *device = find(daemon, domain, id, error);
    if (!device) {
        return -ENOENT;
    }
    if (device->detach) {
        return iod_fail(error, EBUSY, "%s: is being detached already", id);
    }
    struct detach *detach = calloc(1, sizeof(*detach));
    if (detach) {
        detach->task = daemon->loop->ops->task_add(daemon->loop, detach_now, detach);
    }
    if (!detach || !detach->task) {
        free(detach);
        return iod_fail(error, ENOMEM, "out of memory");
    }
    detach->device = device;
    detach->done = done;
    detach->self = self;
    device->detach = detach;
    device_stop(device, &detach->stop, IOD_CANCEL, detach_stopped, detach);
    return 0;
}
