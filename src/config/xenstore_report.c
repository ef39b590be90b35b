/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the source writes into xenstore. A state is only ever written over the one it answers: what a
 * toolstack wrote meanwhile stays, and a device's directory that is gone does not come back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/xenstore_inside.h"

#define STATUS_ROOT "ioreqd-status"
#define NODE_MAX (SOURCE_PATH_MAX + 32)

/* The change could not be made, now or at all. */
static bool for_good(int error)
{
    return error == 0 || error == -ESTALE || error == -ENOENT || error == -EINVAL || error == -E2BIG;
}

static void written(struct source_device *device, int error)
{
    device->writing = false;
    if (!for_good(error)) {
        device->retry = true;
        source_later(device->guest->source);
    }
    source_soon(device->guest);
}

static bool begin(struct source_device *device, const struct store_change *changes, unsigned count,
                  void (*done)(void *self, int error))
{
    struct store *store = device->guest->source->store;

    device->writing = true;
    int error = store->ops->change(store, changes, count, done, device);
    if (error) {
        done(device, error);
    }
    return error == 0;
}

/* ---- libxl's devices ---- */

static void error_path(const struct source_device *device, char path[NODE_MAX])
{
    char node[SOURCE_PATH_MAX];

    source_path(device, node, sizeof(node));
    snprintf(path, NODE_MAX, "error/%s/error", node);
}

static bool has_error(const struct xenstore_source *source, const char *path)
{
    for (unsigned i = 0; i < ERRORS_MAX; i++) {
        if (source->errors[i] && strcmp(source->errors[i], path) == 0) {
            return true;
        }
    }
    return false;
}

/* Only so many are kept, for a domid comes only once. */
static void keep_error(struct xenstore_source *source, const char *path)
{
    char **slot = &source->errors[source->error_next];

    if (has_error(source, path)) {
        return;
    }
    if (*slot) {
        source->store->ops->change(source->store, &(struct store_change){.path = *slot}, 1, NULL, NULL);
    }
    free(*slot);
    *slot = strdup(path);
    source->error_next = (source->error_next + 1) % ERRORS_MAX;
}

static void state_written(void *self, int error)
{
    struct source_device *device = self;

    device->answered = for_good(error);
    written(device, error);
}

bool source_report_state(struct source_device *device, const char *state)
{
    char node[SOURCE_PATH_MAX], path[NODE_MAX], error[NODE_MAX];

    source_path(device, node, sizeof(node));
    snprintf(path, sizeof(path), "%s/state", node);
    error_path(device, error);
    struct store_change changes[] = {{.path = path, .value = state, .was = device->node.state},
                                     {.path = error}};
    return begin(device, changes, state[0] == '2' && has_error(device->guest->source, error) ? 2 : 1,
                 state_written);
}

bool source_report_closed(struct source_device *device)
{
    char node[SOURCE_PATH_MAX], path[NODE_MAX];

    source_path(device, node, sizeof(node));
    snprintf(path, sizeof(path), "%s/state", node);
    struct store_change changes[] = {{.path = path, .was = "6"}, {.path = node}};
    return begin(device, changes, 2, state_written);
}

bool source_report_refusal(struct source_device *device)
{
    char node[SOURCE_PATH_MAX], path[NODE_MAX], error[NODE_MAX];

    source_path(device, node, sizeof(node));
    snprintf(path, sizeof(path), "%s/state", node);
    error_path(device, error);
    struct store_change changes[] = {{.path = path, .was = device->node.state},
                                     {.path = error, .value = device->why}};
    keep_error(device->guest->source, error);
    return begin(device, changes, 2, state_written);
}

static void broken_written(void *self, int error)
{
    struct source_device *device = self;

    device->shown = for_good(error) ? STATUS_ERROR : STATUS_NONE;
    written(device, error);
}

bool source_report_broken(struct source_device *device)
{
    char error[NODE_MAX];

    error_path(device, error);
    keep_error(device->guest->source, error);
    return begin(device, &(struct store_change){.path = error, .value = device->why}, 1, broken_written);
}

/* ---- our own tree ---- */

static void status_path(const struct source_device *device, const char *more, char path[NODE_MAX])
{
    snprintf(path, NODE_MAX, "%s/%u/%s%s", STATUS_ROOT, device->guest->domid, device->name, more);
}

static const char *status_text(enum source_status status)
{
    return status == STATUS_RUNNING ? "running" : status == STATUS_ERROR ? "error" : "waiting";
}

static void status_written(void *self, int error)
{
    struct source_device *device = self;

    if (!for_good(error)) {
        device->shown = STATUS_NONE;
    }
    written(device, error);
}

bool source_report_status(struct source_device *device, enum source_status status, const char *why)
{
    char state[NODE_MAX], error[NODE_MAX];

    status_path(device, "/state", state);
    status_path(device, "/error", error);
    struct store_change changes[] = {{.path = error, .value = why[0] ? why : NULL},
                                     {.path = state, .value = status_text(status)}};
    device->shown = status;
    snprintf(device->shown_why, sizeof(device->shown_why), "%s", why);
    return begin(device, changes, 2, status_written);
}

static void gone_written(void *self, int error)
{
    struct source_device *device = self;

    if (for_good(error)) {
        device->shown = STATUS_NONE;
        device->shown_why[0] = '\0';
    }
    written(device, error);
}

bool source_report_gone(struct source_device *device)
{
    char path[NODE_MAX];

    status_path(device, "", path);
    return begin(device, &(struct store_change){.path = path}, 1, gone_written);
}

/* Our status is still there: it is the same xenstored, and the node was removed. */
static void removed_written(void *self, int error)
{
    struct source_device *device = self;

    device->missed = !for_good(error);
    if (error == 0) {
        struct xenstore_node gone = {0};
        device->shown = STATUS_NONE;
        device->shown_why[0] = '\0';
        device->gone = true;
        source_device_news(device, &gone);
    } else if (for_good(error)) {
        device->shown = STATUS_NONE; /* written again */
        source_log(device, IOD_LOG_WARNING, "xenstored has lost its memory; the device is served on");
    }
    written(device, error);
}

bool source_report_removed(struct source_device *device)
{
    char state[NODE_MAX], path[NODE_MAX];

    status_path(device, "/state", state);
    status_path(device, "", path);
    struct store_change changes[] = {{.path = state, .was = status_text(device->shown)}, {.path = path}};
    return begin(device, changes, 2, removed_written);
}

void source_report_domain_gone(struct source_guest *guest)
{
    struct store *store = guest->source->store;
    char own[SOURCE_PATH_MAX], status[SOURCE_PATH_MAX];

    snprintf(own, sizeof(own), "ioreqd/%u", guest->domid);
    snprintf(status, sizeof(status), "%s/%u", STATUS_ROOT, guest->domid);
    struct store_change changes[] = {{.path = own}, {.path = status}};
    store->ops->change(store, changes, 2, NULL, NULL);
}

void source_report_begin(struct xenstore_source *source)
{
    source->store->ops->change(source->store, &(struct store_change){.path = STATUS_ROOT}, 1, NULL, NULL);
}
