/* SPDX-License-Identifier: BSD-2-Clause */
/* A removal that waits for the guest: it was asked to let go of the device (a PCIe slot's button), and has a minute. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

#define PATIENCE_NS UINT64_C(60000000000)

struct asking {
    struct iod_device *device;
    struct answer *answer;
    struct loop_timer *timer;
};

static struct answer *forget(struct iod_device *device)
{
    struct asking *asking = device->asking;
    struct answer *answer = asking->answer;
    device->guest->daemon->loop->ops->timer_remove(asking->timer);
    device->asking = NULL;
    free(asking);
    return answer;
}

static void timed_out(void *self)
{
    struct iod_device *device = ((struct asking *)self)->device;
    iod_log(device, IOD_LOG_WARNING, "the guest did not let go of it within a minute");
    answer_give(forget(device), -ETIMEDOUT,
                "the guest did not let go of it within a minute; --force takes it off all the same");
}

int ask_begin(struct iod_device *device, struct answer *answer)
{
    struct loop *loop = device->guest->daemon->loop;
    struct asking *asking = calloc(1, sizeof(*asking));
    if (asking) {
        asking->timer = loop->ops->timer_add(loop, timed_out, asking);
    }
    if (!asking || !asking->timer) {
        free(asking);
        return -ENOMEM;
    }
    asking->device = device;
    asking->answer = answer;
    device->asking = asking;
    loop->ops->timer_set(asking->timer, loop->ops->now_ns(loop) + PATIENCE_NS);
    return 0;
}

void ask_end(struct iod_device *device, const char *why)
{
    if (device->asking) {
        answer_give(forget(device), -ECANCELED, why);
    }
}

bool device_asked(const struct iod_device *device)
{
    return device->asking;
}

void device_let_go(struct iod_device *device)
{
    if (!device->asking || device->detach) {
        /* It took too long, or does it of itself (it may switch the slot on again), or the device goes anyway. */
        return;
    }
    struct answer *answer = forget(device);
    struct guest *owner = device->owner;
    char *id = strdup(device->id);
    if (!id || detach_begin(device, "removed", answer)) {
        answer_give(answer, -ENOMEM, "out of memory");
    } else if (owner) {
        spec_drop(&owner->spec, id);
    }
    free(id);
}
