/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest's devices made quiet as for a save, and started again; and disks that grow. */
#include <errno.h>
#include <string.h>

#include "core/inside.h"

static void all_quiet(struct guest *guest)
{
    struct answer *answer = guest->pausing;
    guest->pausing = NULL;
    if (guest->state == GUEST_RUNNING && !guest->dead) {
        answer_give(answer, 0, NULL);
        guest_named_state(guest, "paused");
    } else {
        answer_give(answer, -ESHUTDOWN, "the guest ends");
    }
}

static void device_quiet(void *self)
{
    struct guest *guest = self;
    if (--guest->pause_left == 0) {
        all_quiet(guest);
    }
}

static void quiet_already(void *self)
{
    (void)self;
}

void guest_pause_device(struct iod_device *device)
{
    device_stop(device, &device->pause_stop, IOD_FINISH, quiet_already, NULL);
}

/* The guest that serves the domain, running; or NULL. */
static struct guest *find_running(struct daemon *daemon, const char *domain, struct iod_error *error)
{
    struct guest *guest = guest_find(daemon, domain, error);
    if (!guest) {
        return NULL;
    }
    guest = guest_host(guest);
    if (guest->state != GUEST_RUNNING || guest->dead) {
        iod_fail(error, guest->state == GUEST_STOPPING ? EBUSY : EAGAIN,
                 "guest %s does not run: it is %s", domain,
                 guest->shown_state ? guest->shown_state : "waiting");
        return NULL;
    }
    return guest;
}

int daemon_pause_guest(struct daemon *daemon, const char *domain, daemon_done *done, void *self,
                       struct iod_error *error)
{
    struct iod_device *device;
    struct guest *guest = find_running(daemon, domain, error);
    if (!guest) {
        return -error->code;
    }
    if (guest->paused) {
        return iod_fail(error, EBUSY, "guest %s is paused already", domain);
    }
    guest->pausing = answer_make(daemon, done, self, error);
    if (!guest->pausing) {
        return -ENOMEM;
    }
    guest->paused = true;
    guest->pause_left = 1; /* for this loop */
    list_for_each(device, &guest->devices, struct iod_device, link) {
        if (!device->hidden) {
            guest->pause_left++;
            device_stop(device, &device->pause_stop, IOD_FINISH, device_quiet, guest);
        }
    }
    device_quiet(guest);
    return 0;
}

int daemon_resume_guest(struct daemon *daemon, const char *domain, struct iod_error *error)
{
    struct iod_device *device;
    struct guest *guest = find_running(daemon, domain, error);
    if (!guest) {
        return -error->code;
    }
    if (!guest->paused) {
        return iod_fail(error, EINVAL, "guest %s is not paused", domain);
    }
    if (guest->pause_left) {
        return iod_fail(error, EBUSY, "guest %s is still being paused: I/O is in flight", domain);
    }
    guest->paused = false;
    list_for_each(device, &guest->devices, struct iod_device, link) {
        if (!device->hidden) {
            device_resume(device);
        }
    }
    guest_named_state(guest, "running");
    return 0;
}

int daemon_resize_device(struct daemon *daemon, const char *domain, const char *id, struct iod_error *error)
{
    struct device_backend *backend;
    struct guest *guest = find_running(daemon, domain, error);
    if (!guest) {
        return -error->code;
    }
    struct iod_device *device = guest_device(guest, id);
    if (!device) {
        return iod_fail(error, ENOENT, "guest %s has no device %s", domain, id);
    }
    if (device->hidden || device->detach || device->broken) {
        return iod_fail(error, EBUSY, "%s: is %s", id,
                        device->broken ? "broken" : device->detach ? "being removed" : "being added");
    }
    bool found = false;
    list_for_each(backend, &device->backends, struct device_backend, link) {
        if (backend->ops->resize) {
            int result = backend->ops->resize(backend, error);
            if (result) {
                return result;
            }
            found = true;
        }
    }
    return found ? 0
                 : iod_fail(error, EOPNOTSUPP, "%s: has no disk behind it that could change its size", id);
}
