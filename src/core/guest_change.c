/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices that come and go while their guest waits or runs. The spec says what is wanted; guest_reconcile
 * makes it so: a device that the spec lacks is detached, one that is missing is made hidden (it has no
 * ranges), opened, shown and started. What was asked for by itself and fails is taken out of the spec
 * again; what a list wants stays in it, and is tried again with the next list.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

#define LOCK_INTERVAL_NS UINT64_C(50000000) /* an image whose lock one of ours still holds */

struct addition {
    struct list link; /* of the owner */
    struct guest *owner;
    struct iod_device *device; /* NULL: not made yet, or failed */
    char *id;
    struct lock_wait lock_from; /* of letting_go */
    struct loop_task *task;   /* goes on, outside of the device's own calls */
    struct loop_timer *retry;
    struct answer *answer;    /* NULL: nobody waits for it */
    bool asked;               /* the other emulator was, which places are its own */
    bool alone;               /* asked for by itself: a failure takes it out of the spec */
    bool failed;              /* kept so that it is not tried for ever */
    int error;
    char why[240];
};

struct iod_device *guest_device(struct guest *host, const char *id)
{
    struct iod_device *device;
    list_for_each(device, &host->devices, struct iod_device, link) {
        if (!strcmp(device->id, id)) {
            return device;
        }
    }
    return NULL;
}

bool letting_go(struct daemon *daemon, struct lock_wait *from)
{
    struct guest *guest;
    if (!from->since) {
        daemon_check_all(daemon); /* the old domain's death may not have been noticed yet */
        from->since = daemon->endings;
    }
    if (from->ended != daemon->ended) {
        return true; /* while we were told that it is locked */
    }
    list_for_each(guest, &daemon->guests, struct guest, link) {
        if ((guest->state == GUEST_STOPPING || guest->forget) && guest->ending <= from->since) {
            return true;
        }
        for (struct list *l = guest->devices.next; l != &guest->devices; l = l->next) {
            const struct iod_device *device = list_entry(l, const struct iod_device, link);
            if (device->detach && device->ending <= from->since) {
                return true;
            }
        }
    }
    return false;
}

/* ---- one addition ---- */

/* Its owner has gone, and the host waits for its open all the same. */
static void opened_for_nobody(void *self, struct iod_device *device, int error, const char *why)
{
    (void)self;
    (void)device;
    (void)error;
    (void)why;
}

static void addition_free(struct addition *addition)
{
    struct loop *loop = addition->owner->daemon->loop;
    if (addition->device) {
        addition->device->opened = opened_for_nobody;
    }
    list_remove(&addition->link);
    loop->ops->task_remove(addition->task);
    loop->ops->timer_remove(addition->retry);
    free(addition->id);
    free(addition);
}

static struct addition *addition_find(const struct guest *owner, const char *id)
{
    struct addition *addition;
    list_for_each(addition, &owner->additions, struct addition, link) {
        if (!strcmp(addition->id, id)) {
            return addition;
        }
    }
    return NULL;
}

static void tell_failure(const struct addition *addition)
{
    const struct guest *owner = addition->owner, *host = guest_host(addition->owner);
    daemon_tell(owner->daemon, &(struct daemon_event){.kind = EVENT_DEVICE_ERROR,
                                                      .domain = owner->spec.domain,
                                                      .domid = host->have_domid ? host->domid : -1,
                                                      .device = addition->id,
                                                      .text = addition->why});
}

/* Its device, if there was one, is destroyed already. Then nothing may touch the addition. */
static void addition_failed(struct addition *addition)
{
    struct guest *owner = addition->owner;
    guest_log(owner, IOD_LOG_ERROR, "%s", addition->why);
    tell_failure(addition);
    if (addition->alone) {
        spec_drop(&owner->spec, addition->id);
        answer_give(addition->answer, addition->error, addition->why);
        addition_free(addition);
    } else {
        guest_note(owner, "%s", addition->why);
        addition->failed = true;
    }
    if (!guest_leave_step(owner)) {
        guest_reconcile(owner);
    }
}

static void addition_done(struct addition *addition)
{
    struct iod_device *device = addition->device;
    struct guest *owner = addition->owner, *host = device->guest;
    answer_give(addition->answer, 0, NULL);
    addition_free(addition);
    if (host->paused) {
        guest_pause_device(device);
    } else {
        device_start(device);
    }
    iod_log(device, IOD_LOG_INFO, "added");
    device_tell(device, EVENT_DEVICE_ADDED, "");
    if (!guest_leave_step(owner)) {
        guest_reconcile(owner);
    }
}

static bool lock_is_coming(struct addition *addition)
{
    struct loop *loop = addition->owner->daemon->loop;
    if (addition->error != -EBUSY || !letting_go(addition->owner->daemon, &addition->lock_from)) {
        return false;
    }
    loop->ops->timer_set(addition->retry, loop->ops->now_ns(loop) + LOCK_INTERVAL_NS);
    return true;
}

/* The device has opened, or has not. */
static void addition_step(void *self)
{
    struct addition *addition = self;
    struct iod_device *device = addition->device;
    struct guest *host = guest_host(addition->owner);
    if (!device || host->state != GUEST_RUNNING) {
        return; /* it ends with the guest */
    }
    if (!addition->error && device->broken) {
        addition->error = -EIO;
        snprintf(addition->why, sizeof(addition->why), "%.60s: %.160s", device->id, device->why);
    }
    int result = addition->error ? 0 : device_show(device);
    if (result) {
        addition->error = result;
        snprintf(addition->why, sizeof(addition->why), "%.60s: its ranges can't be claimed: %s", device->id,
                 strerror(-result));
    }
    if (!addition->error) {
        addition_done(addition);
        return;
    }
    addition->device = NULL;
    device_destroy(device);
    guest_commit(host);
    if (!lock_is_coming(addition)) {
        addition_failed(addition);
    }
}

static void addition_opened(void *self, struct iod_device *device, int error, const char *why)
{
    struct addition *addition = self;
    (void)device;
    addition->error = error;
    snprintf(addition->why, sizeof(addition->why), "%s", error && why ? why : "");
    addition->owner->daemon->loop->ops->task_soon(addition->task);
}

/* Makes the device and begins to open it. 0 or a negative errno. */
static int addition_make(struct addition *addition, struct iod_error *error)
{
    struct guest *owner = addition->owner, *host = guest_host(owner);
    const struct device_spec *spec = spec_find(&owner->spec, addition->id);
    if (!spec) {
        return iod_fail(error, ECANCELED, "%s: is not wanted any more", addition->id);
    }
    foreign_read(host);
    struct iod_device *device = device_create(host, spec, 0, error);
    if (!device) {
        guest_commit(host);
        return error->code ? -error->code : -EINVAL;
    }
    device->owner = owner;
    addition->device = device;
    addition->lock_from.ended = owner->daemon->ended;
    device_open(device, addition_opened, addition);
    return 0;
}

static void try_soon(struct guest *owner)
{
    struct loop *loop = owner->daemon->loop;
    struct addition *addition;
    list_for_each(addition, &owner->additions, struct addition, link) {
        if (addition->asked && !addition->device && !addition->failed) {
            loop->ops->timer_set(addition->retry, 0);
        }
    }
}

static void neighbours_known(struct guest *host)
{
    struct guest *joined;
    try_soon(host);
    list_for_each(joined, &host->joined, struct guest, join_link) {
        try_soon(joined);
    }
}

/* Once for an addition. True: it goes on when the answer is there. */
static bool ask_neighbours(struct addition *addition)
{
    struct guest *host = guest_host(addition->owner);
    bool waits = addition->asked ? host->neighbour_query != NULL : neighbours_ask(host, neighbours_known);
    addition->asked = true;
    return waits;
}

/* By the timer, or when the guest has come to run. */
static void addition_try(void *self)
{
    struct addition *addition = self;
    struct iod_error error = {0};
    if (addition->device || addition->failed || guest_host(addition->owner)->state != GUEST_RUNNING ||
        ask_neighbours(addition)) {
        return;
    }
    addition->error = 0;
    int result = addition_make(addition, &error); /* an open that ends at once has said so already */
    if (result) {
        addition->error = result;
        snprintf(addition->why, sizeof(addition->why), "%s", error.text);
        addition_failed(addition);
    }
}

static struct addition *addition_new(struct guest *owner, const char *id, struct iod_error *error)
{
    struct loop *loop = owner->daemon->loop;
    struct addition *addition = calloc(1, sizeof(*addition));
    if (!addition) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    addition->owner = owner;
    list_init(&addition->link);
    addition->id = strdup(id);
    addition->task = loop->ops->task_add(loop, addition_step, addition);
    addition->retry = loop->ops->timer_add(loop, addition_try, addition);
    if (!addition->id || !addition->task || !addition->retry) {
        addition_free(addition);
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    list_add_tail(&owner->additions, &addition->link);
    return addition;
}

void additions_end(struct guest *guest)
{
    struct addition *addition;
    bool stays = guest->spec.wait && !guest->forget && !guest->daemon->stopping;
    while ((addition = list_first(&guest->additions, struct addition, link))) {
        /* In the spec of one that is waited for again it comes with the domain. */
        answer_give(addition->answer, stays ? 0 : -ESHUTDOWN, "the guest ended before the device was there");
        addition_free(addition);
    }
}

void additions_move(struct guest *from, struct guest *to)
{
    struct addition *addition;
    while ((addition = list_first(&from->additions, struct addition, link))) {
        list_remove(&addition->link);
        list_add_tail(&to->additions, &addition->link);
        addition->owner = to;
    }
}

void additions_retry(struct guest *guest)
{
    struct addition *addition;
    list_for_each(addition, &guest->additions, struct addition, link) {
        if (addition->failed) {
            guest->why[0] = '\0';
            addition_free(addition);
        }
    }
}

/* ---- all of a guest ---- */

static void drop_unwanted(struct guest *owner, struct guest *host)
{
    struct iod_device *device;
    struct addition *addition;
    list_for_each(device, &host->devices, struct iod_device, link) {
        const struct device_spec *spec = spec_find(&owner->spec, device->id);
        if (device->owner == owner && !device->hidden && !device->detach &&
            (!spec || !device_spec_equal(spec, &device->spec))) {
            detach_begin(device, spec ? "its options changed" : "it is not wanted any more", NULL);
        }
    }
    list_for_each(addition, &owner->additions, struct addition, link) {
        bool waits = !addition->device && !addition->alone;
        if ((addition->failed || waits) && !spec_find(&owner->spec, addition->id)) {
            addition_free(addition);
        }
    }
}

static void make_missing(struct guest *owner, struct guest *host)
{
    for (unsigned i = 0; i < owner->spec.device_count; i++) {
        const char *id = device_spec_get(&owner->spec.devices[i], "id");
        const struct iod_device *device = guest_device(host, id);
        struct addition *addition = addition_find(owner, id);
        struct iod_error error;
        if (device && device->owner == owner) {
            /* Made with all the others, while they were opened. */
            if (addition && !addition->device && !device->detach) {
                answer_give(addition->answer, 0, NULL);
                addition_free(addition);
            }
            continue; /* there, or on its way out: then its end brings us here again */
        }
        if (!addition) {
            addition = addition_new(owner, id, &error);
        }
        if (!addition) {
            guest_log(owner, IOD_LOG_ERROR, "%s: %s", id, error.text);
        } else if (!addition->device && !addition->failed) {
            owner->daemon->loop->ops->timer_set(addition->retry, 0);
        }
    }
}

void guest_reconcile(struct guest *guest)
{
    struct guest *host = guest_host(guest);
    if (host->state == GUEST_RUNNING && !host->dead) {
        drop_unwanted(guest, host);
        make_missing(guest, host);
    }
}

/* ---- the verbs ---- */

/* A copy in the guest's spec, with an id that nobody has; which. NULL with *error filled. */
static const char *take_in(struct guest *guest, const struct device_spec *spec, struct iod_error *error)
{
    const char *id = device_spec_get(spec, "id");
    const struct iod_device *there = id ? guest_device(guest_host(guest), id) : NULL;
    if (there && there->detach && !spec_find(&guest->spec, id)) {
        iod_fail(error, EBUSY, "%s: id=%s: the device that has this id is still being removed", spec->name, id);
        return NULL;
    }
    if (there || (id && spec_find(&guest->spec, id))) {
        iod_fail(error, EEXIST, "%s: id=%s: another device of the guest has this id", spec->name, id);
        return NULL;
    }
    if (spec_append(&guest->spec, spec)) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    struct device_spec *own = &guest->spec.devices[guest->spec.device_count - 1];
    if (!id && spec_give_id(&guest->spec, own, guest_host(guest))) {
        device_spec_finish(own);
        guest->spec.device_count--;
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    return device_spec_get(own, "id");
}

/* The device is in the spec. 0, or a negative errno: then it must go out again. */
static int add(struct guest *guest, const char *id, struct answer *answer, struct iod_error *error)
{
    enum guest_state state = guest_host(guest)->state;
    if (state != GUEST_RUNNING && guest_check_spec(guest->daemon, &guest->spec, error)) {
        return -error->code;
    }
    if (state != GUEST_RUNNING && state != GUEST_CLEANING && state != GUEST_OPENING) {
        answer_give(answer, 0, NULL);
        guest_try_again(guest);
        return 0;
    }
    struct addition *addition = addition_new(guest, id, error);
    int result = addition ? 0 : -ENOMEM;
    if (!result && state == GUEST_RUNNING && !ask_neighbours(addition)) {
        result = addition_make(addition, error);
    }
    if (result) {
        if (addition) {
            addition_free(addition);
        }
        return result;
    }
    addition->alone = true;
    addition->answer = answer;
    return 0;
}

static struct guest *find_staying(struct daemon *daemon, const char *domain, struct iod_error *error)
{
    struct guest *guest = guest_find(daemon, domain, error);
    if (guest && (guest->forget || daemon->stopping)) {
        iod_fail(error, EBUSY, "guest %s is being ended", domain);
        return NULL;
    }
    return guest;
}

int daemon_add_device(struct daemon *daemon, const char *domain, const struct device_spec *spec,
                      daemon_done *done, void *self, struct iod_error *error)
{
    struct guest *guest = find_staying(daemon, domain, error);
    struct answer *answer = guest ? answer_make(daemon, done, self, error) : NULL;
    if (!answer) {
        return -error->code;
    }
    const char *id = take_in(guest, spec, error);
    if (!id) {
        answer_drop(answer);
        return -error->code;
    }
    int result = add(guest, id, answer, error);
    if (result) {
        char gone[96];
        snprintf(gone, sizeof(gone), "%s", id);
        spec_drop(&guest->spec, gone);
        answer_drop(answer);
    }
    return result;
}

/* It has no device to take off: it is waited for, being attached, or failed. */
static int remove_from_spec(struct guest *guest, const char *id, struct answer *answer,
                            struct iod_error *error)
{
    struct addition *addition = addition_find(guest, id);
    if (addition && addition->alone) {
        return iod_fail(error, EBUSY, "%s: is being added", id);
    }
    if (!spec_find(&guest->spec, id)) {
        return iod_fail(error, ENOENT, "guest %s has no device %s", guest->spec.domain, id);
    }
    spec_drop(&guest->spec, id);
    if (addition && !addition->device) {
        addition_free(addition);
    }
    answer_give(answer, 0, NULL);
    guest_try_again(guest);
    return 0;
}

/* By force, while it waits for a lock or opens, which may take long: whoever asked for it is told, and nobody waits. */
static int remove_coming(struct addition *addition, struct answer *answer, struct iod_error *error)
{
    struct guest *owner = addition->owner;
    struct iod_device *device = addition->device;
    if (device && detach_begin(device, "it is not wanted any more", NULL)) { /* as soon as it has opened, or has not */
        return iod_fail(error, ENOMEM, "out of memory");
    }
    if (device) {
        device_give_up(device);
    }
    spec_drop(&owner->spec, addition->id);
    answer_give(addition->answer, -ECANCELED, "it was removed before it was there");
    answer_give(answer, 0, NULL);
    addition_free(addition);
    return 0;
}

static int remove_live(struct iod_device *device, enum removal how, struct answer *answer,
                       struct iod_error *error)
{
    char id[96];
    if (device->detach) {
        return iod_fail(error, EBUSY, "%s: is being removed already", device->id);
    }
    if (device->hidden) {
        return iod_fail(error, EBUSY, "%s: is being added", device->id);
    }
    if (how == REMOVAL_ASK && device->asking) {
        return iod_fail(error, EBUSY, "%s: the guest was asked to let go of it already", device->id);
    }
    if (how == REMOVAL_ASK && !device_is_removable(device, error)) {
        if (error->code == EINPROGRESS) {
            return ask_begin(device, answer) ? iod_fail(error, ENOMEM, "out of memory") : 0;
        }
        return error->code ? -error->code : -EBUSY;
    }
    ask_end(device, "it was removed by force");
    snprintf(id, sizeof(id), "%s", device->id);
    device->pulled = how == REMOVAL_FORCE;
    int result = detach_begin(device, how == REMOVAL_ASK ? "removed" : "removed by force", answer);
    if (result) {
        return iod_fail(error, -result, "out of memory");
    }
    if (device->owner) {
        spec_drop(&device->owner->spec, id);
    }
    return 0;
}

int daemon_remove_device(struct daemon *daemon, const char *domain, const char *id, enum removal how,
                         daemon_done *done, void *self, struct iod_error *error)
{
    struct guest *guest = find_staying(daemon, domain, error);
    struct answer *answer = guest ? answer_make(daemon, done, self, error) : NULL;
    if (!answer) {
        return -error->code;
    }
    struct guest *host = guest_host(guest);
    struct iod_device *device = host->state == GUEST_RUNNING ? guest_device(host, id) : NULL;
    struct addition *addition = addition_find(guest, id);
    bool coming = addition && addition->alone && how == REMOVAL_FORCE && host->state == GUEST_RUNNING;
    int result = coming   ? remove_coming(addition, answer, error)
                 : device ? remove_live(device, how, answer, error)
                          : remove_from_spec(guest, id, answer, error);
    if (result) {
        answer_drop(answer);
    }
    return result;
}

int daemon_remove_guest(struct daemon *daemon, const char *domain, daemon_done *done, void *self,
                        struct iod_error *error)
{
    struct guest *guest = find_staying(daemon, domain, error);
    if (!guest) {
        return -error->code;
    }
    guest->removal = answer_make(daemon, done, self, error);
    if (!guest->removal) {
        return -ENOMEM;
    }
    guest_forget(guest);
    return 0;
}

void guest_forget(struct guest *guest)
{
    guest->forget = true;
    guest->ending = ++guest->daemon->endings;
    guest->daemon->loop->ops->task_soon(guest->daemon->leave_task);
}
