/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One device of xenstore's: what its node wants, what the daemon has, and the one step from here to there. A
 * step that takes time ends in a callback, which lets the guest be looked at again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/xenstore_inside.h"

static bool is_own(const struct source_device *device)
{
    return device->kind == XENSTORE_OWN;
}

/* Was the node judged knowing what the guest is? libxl introduces a domain before it gives it devices. */
static bool is_judged(const struct source_device *device)
{
    return !device->stale && (is_own(device) || device->guest->introduced);
}

bool source_device_wants(const struct source_device *device)
{
    return device->life == LIFE_OUT && device->node.verdict == XENSTORE_SERVE && is_judged(device) &&
           !device->guest->over;
}

bool source_device_over(const struct source_device *device)
{
    bool idle = device->life == LIFE_OUT || device->life == LIFE_REFUSED;

    return idle && device->gone && !device->call && !device->writing &&
           (!is_own(device) || device->shown == STATUS_NONE);
}

/* ---- what is new ---- */

static bool same_text(const char *one, const char *other)
{
    return one && other ? strcmp(one, other) == 0 : one == other;
}

/* A refused device has another try when its node was written anew. */
static bool is_new_try(const struct source_device *device, const struct xenstore_node *node)
{
    if (is_own(device)) {
        return node->verdict == XENSTORE_REFUSE ? strcmp(device->why, node->why) != 0
                                                : !same_text(device->text, node->spec);
    }
    return strcmp(device->node.state, node->state) != 0 && node->state[0];
}

void source_device_news(struct source_device *device, struct xenstore_node *node)
{
    bool served = device->life == LIFE_SERVED || device->life == LIFE_ADDING;

    if (strcmp(device->node.state, node->state) != 0) {
        device->answered = device->parting = false;
    }
    if (device->life == LIFE_REFUSED && is_new_try(device, node)) {
        device->life = LIFE_OUT;
    }
    device->missed = device->stale = false;
    if (is_own(device) && served) {
        bool clash = node->verdict == XENSTORE_REFUSE ||
                     (node->verdict == XENSTORE_SERVE && !same_text(device->text, node->spec));
        if (clash && !device->clash) {
            source_log(device, IOD_LOG_WARNING,
                       "it was written anew, but its device is served; remove the node first");
        }
        device->clash = clash;
    }
    free(device->node.spec);
    device->node = *node;
    node->spec = NULL;
}

static void refuse(struct source_device *device, const char *why)
{
    device->life = LIFE_REFUSED;
    device->broken = device->clash = device->answered = false;
    free(device->text);
    device->text = device->node.spec ? strdup(device->node.spec) : NULL; /* lost: one more try, no more */
    snprintf(device->why, sizeof(device->why), "%s", why);
}

void source_device_refuse(struct source_device *device, const char *why)
{
    refuse(device, why);
    source_log(device, IOD_LOG_ERROR, why);
}

void source_device_broken(struct source_device *device, const char *why)
{
    if (device->life == LIFE_SERVED && !device->broken) {
        device->broken = true;
        snprintf(device->why, sizeof(device->why), "%s", why);
        source_soon(device->guest);
    }
}

void source_device_lost(struct source_device *device)
{
    device->broken = device->clash = device->retry = false;
    if (device->life == LIFE_SERVED) {
        device->life = LIFE_OUT;
    } /* a call's answer comes all the same */
}

/* ---- to the daemon and away ---- */

static struct source_call *call_of(struct source_device *device)
{
    struct source_call *call = calloc(1, sizeof(*call));

    if (call) {
        call->device = device;
        device->call = call;
    } else {
        device->retry = true;
        source_later(device->guest->source);
    }
    return call;
}

static struct source_device *end_call(struct source_call *call)
{
    struct source_device *device = call->device;

    free(call);
    if (device) {
        device->call = NULL;
        source_soon(device->guest);
    }
    return device;
}

static void added(void *self, int error, const char *why)
{
    struct source_device *device = end_call(self);

    if (!device) {
        return;
    }
    if (!device->guest->in) {
        device->life = LIFE_OUT;
    } else if (error) {
        refuse(device, why); /* the guest has logged it */
    } else {
        device->life = LIFE_SERVED;
    }
}

static int parse(const struct source_device *device, struct device_spec *spec, struct iod_error *error)
{
    char path[SOURCE_PATH_MAX], origin[SOURCE_PATH_MAX + 16];
    int result = device_spec_parse(spec, device->node.spec, error);

    if (result) {
        return result;
    }
    source_path(device, path, sizeof(path));
    snprintf(origin, sizeof(origin), "xenstore %s", path);
    return device_spec_from(spec, origin) ? iod_fail(error, ENOMEM, "out of memory") : 0;
}

static void add(struct source_device *device)
{
    struct source_guest *guest = device->guest;
    struct device_spec spec = {0};
    struct iod_error error;
    struct source_call *call;

    if (device->node.pci) {
        source_guest_need_host(guest);
    }
    call = call_of(device);
    if (!call) {
        return;
    }
    free(device->text);
    device->text = strdup(device->node.spec);
    snprintf(device->id, sizeof(device->id), "%s", device->node.id);
    device->life = LIFE_ADDING;
    device->given_up = false;
    int result = device->text ? parse(device, &spec, &error) : iod_fail(&error, ENOMEM, "out of memory");
    result =
        result ? result : daemon_add_device(guest->source->daemon, guest->text, &spec, added, call, &error);
    device_spec_finish(&spec);
    if (result) {
        end_call(call);
    }
    if (result == -EBUSY) { /* the guest is being ended: soon it is gone, and says so */
        device->life = LIFE_OUT;
        device->retry = true;
        source_later(guest->source);
    } else if (result) {
        source_device_refuse(device, error.text);
    }
}

static void removed(void *self, int error, const char *why)
{
    struct source_device *device = end_call(self);

    if (!device) {
        return;
    }
    if (!error || error == -ENOENT || !device->guest->in) {
        device->life = LIFE_OUT;
        return;
    }
    source_log(device, IOD_LOG_ERROR, why);
    device->life = LIFE_SERVED;
    device->retry = true;
    source_later(device->guest->source);
}

/* By force: who removes the node has no way to hear that the guest's driver wants to keep it. */
static void take_away(struct source_device *device)
{
    struct iod_error error;
    struct source_call *call = call_of(device);

    if (!call) {
        return;
    }
    device->life = LIFE_REMOVING;
    device->broken = device->clash = false;
    int result = daemon_remove_device(device->guest->source->daemon, device->guest->text, device->id,
                                      REMOVAL_FORCE, removed, call, &error);
    if (result) {
        end_call(call);
        device->life = result == -ENOENT ? LIFE_OUT : LIFE_SERVED;
        device->retry = result != -ENOENT; /* the guest is being ended: soon it is gone, and says so */
        source_later(device->guest->source);
    }
}

/* Nobody waits for it any more, least of all a toolstack that destroys the domain: `added` hears of it. */
static void give_up(struct source_device *device)
{
    struct iod_error error;

    device->given_up = true;
    daemon_remove_device(device->guest->source->daemon, device->guest->text, device->id, REMOVAL_FORCE, NULL, NULL,
                         &error); /* in vain: the guest ends, and says so */
}

/* ---- steps: true if one was made that ends later ---- */

static bool is_unwanted(const struct source_device *device)
{
    return device->node.verdict == XENSTORE_CLOSE || (is_own(device) && device->node.verdict == XENSTORE_IGNORE);
}

static bool step_daemon(struct source_device *device)
{
    enum xenstore_verdict verdict = device->node.verdict;

    if (device->life == LIFE_SERVED && is_unwanted(device) && device->guest->in) {
        take_away(device);
    } else if (source_device_wants(device) && device->guest->running && !device->guest->leaving) {
        add(device);
    } else if (device->life == LIFE_OUT && verdict == XENSTORE_REFUSE && is_judged(device)) {
        source_device_refuse(device, device->node.why);
    }
    return device->call != NULL;
}

/* libxl removes the directory itself if we are domain 0, else it waits for us, once it has seen the 6. */
static void part(struct source_device *device)
{
    if (device->parting) {
        source_report_closed(device);
    } else {
        device->parting = device->retry = true;
        source_later(device->guest->source);
    }
}

static void step_libxl(struct source_device *device)
{
    const struct xenstore_node *node = &device->node;
    bool out = device->life == LIFE_OUT || device->life == LIFE_REFUSED;

    if (device->missed) { /* one that is served stays all the same: xenstored may have lost its memory */
        struct xenstore_node gone = {0};
        source_device_news(device, &gone);
        device->gone = true;
    } else if (node->verdict == XENSTORE_CLOSE && out && !device->answered && strcmp(node->state, "6")) {
        device->life = LIFE_OUT;
        source_report_state(device, "6");
    } else if (node->verdict == XENSTORE_CLOSE && out && strcmp(node->state, "6") == 0 &&
               device->guest->source->own != 0 && !device->answered) {
        part(device);
    } else if (device->life == LIFE_SERVED && node->verdict == XENSTORE_SERVE && device->guest->running &&
               !device->answered && strcmp(node->state, "1") == 0) {
        source_report_state(device, "2");
    } else if (device->life == LIFE_REFUSED && !device->answered && node->state[0]) {
        source_report_refusal(device);
    } else if (device->life == LIFE_SERVED && device->broken && device->shown != STATUS_ERROR) {
        source_report_broken(device);
    }
}

static enum source_status status_of(const struct source_device *device, const char **why)
{
    *why = "";
    if (device->node.verdict == XENSTORE_IGNORE || device->guest->over) {
        return STATUS_NONE;
    }
    if (device->life == LIFE_REFUSED || device->broken) {
        *why = device->why;
        return STATUS_ERROR;
    }
    if (device->clash) {
        *why = "written anew while its device is served; remove the node first";
        return STATUS_ERROR;
    }
    return device->life == LIFE_SERVED && device->guest->running ? STATUS_RUNNING : STATUS_WAITING;
}

static void step_own(struct source_device *device)
{
    const char *why;
    enum source_status status = status_of(device, &why);

    if (device->missed && device->shown != STATUS_NONE) {
        source_report_removed(device);
    } else if (device->missed) { /* nothing tells whether it was removed: what is served stays */
        struct xenstore_node gone = {0};
        device->missed = false;
        if (device->life != LIFE_SERVED) {
            device->gone = true;
            source_device_news(device, &gone);
        }
    } else if (status == STATUS_NONE && device->shown != STATUS_NONE) {
        source_report_gone(device);
    } else if (status != STATUS_NONE && (status != device->shown || strcmp(why, device->shown_why))) {
        source_report_status(device, status, why);
    }
}

void source_device_step(struct source_device *device)
{
    if (device->call && device->life == LIFE_ADDING && is_unwanted(device) && device->guest->in && !device->given_up) {
        give_up(device);
    }
    if (device->writing || device->call || device->retry || step_daemon(device)) {
        return;
    }
    if (is_own(device)) {
        step_own(device);
    } else {
        step_libxl(device);
    }
}
