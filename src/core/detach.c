/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking one device off a running guest. Its I/O is cancelled; its ranges may stay claimed and read 0
 * (device.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

struct detach {
    struct iod_device *device;
    struct device_stop stop;
    struct loop_task *task; /* the device can't be freed inside its own stop */
    const char *why;
    struct answer *answer;
};

static void detach_now(void *self)
{
    struct detach *detach = self;
    struct iod_device *device = detach->device;
    struct guest *guest = device->guest, *owner = device->owner;
    struct answer *answer = detach->answer;
    const char *why = detach->why;
    char id[96];
    detach->answer = NULL;
    snprintf(id, sizeof(id), "%s", device->id);
    iod_log(device, IOD_LOG_INFO, "detached");
    device_destroy(device); /* and the detach */
    guest->daemon->ended++;
    if (guest->state == GUEST_RUNNING) {
        guest_commit(guest);
    }
    answer_give(answer, 0, NULL);
    daemon_tell(guest->daemon, &(struct daemon_event){.kind = EVENT_DEVICE_REMOVED,
                                                      .domain = (owner ? owner : guest)->spec.domain,
                                                      .domid = guest->domid,
                                                      .device = id,
                                                      .text = why});
    if (owner && !guest_leave_step(owner)) {
        guest_reconcile(owner);
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
        answer_give(detach->answer, 0, NULL);
        free(detach);
    }
}

int detach_begin(struct iod_device *device, const char *why, struct answer *answer)
{
    struct loop *loop = device->guest->daemon->loop;
    struct detach *detach = calloc(1, sizeof(*detach));
    if (detach) {
        detach->task = loop->ops->task_add(loop, detach_now, detach);
    }
    if (!detach || !detach->task) {
        free(detach);
        return -ENOMEM;
    }
    detach->device = device;
    detach->why = why;
    detach->answer = answer;
    device->detach = detach;
    device->ending = ++device->guest->daemon->endings;
    device_stop(device, &detach->stop, IOD_CANCEL, detach_stopped, detach);
    return 0;
}
