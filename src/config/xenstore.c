/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The source itself: trees as they are told, events of the daemon. Both only note what is new; what follows
 * from it is done by a task of the loop, guest by guest, outside of everybody's calls.
 */
#include "config/xenstore_inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LATER_NS UINT64_C(1000000000)
#define DOMID_END 0x7ff0u /* DOMID_FIRST_RESERVED */

static const char *const roots[XENSTORE_KINDS] = {
    [XENSTORE_DISK] = "backend/virtio_disk",
    [XENSTORE_VIRTIO] = "backend/virtio",
    [XENSTORE_OWN] = "ioreqd",
};

void source_path(const struct source_device *device, char *path, size_t size)
{
    snprintf(path, size, "%s/%u/%s", roots[device->kind], device->guest->domid, device->name);
}

void source_log(const struct source_device *device, enum iod_log_level level, const char *text)
{
    char prefix[32], path[SOURCE_PATH_MAX];

    snprintf(prefix, sizeof(prefix), "domid %u", device->guest->domid);
    source_path(device, path, sizeof(path));
    daemon_log(device->guest->source->daemon, level, prefix, "xenstore %s: %s", path, text);
}

/* ---- later ---- */

void source_soon(struct source_guest *guest)
{
    struct loop *loop = daemon_loop(guest->source->daemon);

    guest->look = true;
    loop->ops->task_soon(guest->source->task);
}

void source_later(struct xenstore_source *source)
{
    struct loop *loop = daemon_loop(source->daemon);

    loop->ops->timer_set(source->timer, loop->ops->now_ns(loop) + LATER_NS);
}

static void step_guests(void *self)
{
    struct xenstore_source *source = self;
    struct source_guest *guest;

    list_for_each(guest, &source->guests, struct source_guest, link) {
        if (guest->look) {
            guest->look = false;
            source_guest_step(guest); /* may free this one */
        }
    }
}

static void look_again(void *self)
{
    struct xenstore_source *source = self;
    struct source_guest *guest;
    struct source_device *device;

    list_for_each(guest, &source->guests, struct source_guest, link) {
        for (struct list *l = guest->devices.next; l != &guest->devices; l = l->next) {
            device = list_entry(l, struct source_device, link);
            device->retry = false;
        }
        source_soon(guest);
    }
}

/* ---- trees ---- */

static bool parse_domid(const char *name, uint16_t *domid)
{
    char *end;
    unsigned long number = strtoul(name, &end, 10);

    if (name[0] < '0' || name[0] > '9' || (name[0] == '0' && name[1]) || *end || number >= DOMID_END) {
        return false;
    }
    *domid = (uint16_t)number;
    return true;
}

static void mark(struct source_guest *guest, enum xenstore_kind kind)
{
    struct source_device *device;

    list_for_each(device, &guest->devices, struct source_device, link) {
        if (device->kind == kind) {
            device->seen = false;
        }
    }
}

/* What stands there of one device; nodes of names that can't be one are left alone. */
static void read_device(struct source_guest *guest, enum xenstore_kind kind,
                        const struct store_branch *branch, const char *path)
{
    char name[XENSTORE_NAME_MAX + 1];
    size_t length = strcspn(path, "/");
    struct source_device *device;
    struct xenstore_place place;
    struct xenstore_node node;

    if (!xenstore_name_valid(kind, path, length)) {
        return;
    }
    snprintf(name, sizeof(name), "%.*s", (int)length, path);
    device = source_device_get(guest, kind, name, true);
    if (!device || device->seen) {
        return;
    }
    device->seen = true;
    device->gone = false;
    source_place(guest, &place);
    if (xenstore_node_read(&node, kind, name, branch, &place)) {
        source_later(guest->source);
        return;
    }
    source_device_news(device, &node);
}

static void read_options(struct source_guest *guest, const struct store_branch *branch)
{
    const char *text = NULL;

    for (unsigned i = 0; i < branch->count; i++) {
        if (strcmp(branch->nodes[i].path, XENSTORE_OPTIONS) == 0) {
            text = branch->nodes[i].value;
        }
    }
    free(guest->options);
    guest->options = text ? strdup(text) : NULL;
}

static bool is_options(enum xenstore_kind kind, const char *path)
{
    return kind == XENSTORE_OWN && strcmp(path, XENSTORE_OPTIONS) == 0;
}

static void tell_branch(void *self, const struct store_branch *branch)
{
    struct source_tree *tree = self;
    struct source_guest *guest;
    struct source_device *device;
    uint16_t domid;

    if (!tree->source->begun || !parse_domid(branch->name, &domid)) {
        return; /* the listing that is on its way tells of it again, and of whose we are */
    }
    guest = source_guest_get(tree->source, domid, branch->count > 0);
    if (!guest) {
        return;
    }
    if (!branch->whole) {
        daemon_log(tree->source->daemon, IOD_LOG_WARNING, "xenstore",
                   "%s/%u: more than %u nodes or too long; left as it was", roots[tree->kind], domid,
                   STORE_NODES_MAX);
        return;
    }
    source_guest_domain(guest, branch->domain);
    if (tree->kind == XENSTORE_OWN) {
        read_options(guest, branch);
    }
    mark(guest, tree->kind);
    for (unsigned i = 0; i < branch->count; i++) {
        if (!is_options(tree->kind, branch->nodes[i].path)) {
            read_device(guest, tree->kind, branch, branch->nodes[i].path);
        }
    }
    list_for_each(device, &guest->devices, struct source_device, link) {
        if (device->kind == tree->kind && !device->seen) {
            struct xenstore_node gone = {0};
            device->seen = device->gone = true; /* so that the end of a listing does not find it again */
            source_device_news(device, &gone);
        }
    }
    source_soon(guest);
}

static void tell_begin(void *self, uint16_t own)
{
    struct source_tree *tree = self;
    struct xenstore_source *source = tree->source;
    struct source_guest *guest;

    source->own = own;
    if (!source->begun) {
        source->begun = true;
        source_report_begin(source);
    }
    list_for_each(guest, &source->guests, struct source_guest, link) {
        mark(guest, tree->kind);
    }
}

static void tell_end(void *self)
{
    struct source_tree *tree = self;
    struct source_guest *guest;
    struct source_device *device;

    list_for_each(guest, &tree->source->guests, struct source_guest, link) {
        for (struct list *l = guest->devices.next; l != &guest->devices; l = l->next) {
            device = list_entry(l, struct source_device, link);
            if (device->kind == tree->kind && !device->seen) {
                device->missed = true;
            }
        }
        source_soon(guest);
    }
}

static const struct store_tree_events tree_events = {
    .begin = tell_begin, .branch = tell_branch, .end = tell_end};

/* ---- the daemon's events ---- */

static struct source_device *find_device(struct source_guest *guest, const char *id)
{
    struct source_device *device;

    list_for_each(device, &guest->devices, struct source_device, link) {
        if (strcmp(device->id, id) == 0 && device->text) {
            return device;
        }
    }
    return NULL;
}

static void hear(struct daemon_listener *listener, const struct daemon_event *event)
{
    struct xenstore_source *source = list_entry(listener, struct xenstore_source, listener);
    struct source_guest *guest;
    struct source_device *device;
    unsigned domid;

    if (!event->domain || sscanf(event->domain, "0x%4x", &domid) != 1 || domid >= DOMID_END ||
        !(guest = source_guest_get(source, (uint16_t)domid, false)) || !guest->in ||
        strcmp(event->domain, guest->text) != 0) {
        return;
    }
    if (event->kind == EVENT_GUEST_STATE && event->text) {
        source_guest_state(guest, event->text);
    } else if (event->kind == EVENT_DEVICE_ERROR && event->device &&
               (device = find_device(guest, event->device))) {
        source_device_broken(device, event->text ? event->text : "it is broken");
    } else if (event->kind == EVENT_DEVICE_REMOVED && event->device &&
               (device = find_device(guest, event->device))) {
        source_device_broken(device, "it was removed from the guest, not by its node");
    }
}

/* ---- its life ---- */

static bool add_trees(struct xenstore_source *source)
{
    for (unsigned kind = 0; kind < XENSTORE_KINDS; kind++) {
        struct source_tree *tree = &source->trees[kind];
        *tree = (struct source_tree){.source = source, .kind = (enum xenstore_kind)kind};
        tree->tree = source->store->ops->tree_add(source->store, roots[kind], kind == XENSTORE_OWN ? 1 : 2,
                                                  &tree_events, tree);
        if (!tree->tree) {
            return false;
        }
    }
    return true;
}

struct xenstore_source *xenstore_source_create(struct daemon *daemon, struct store *store,
                                               enum guest_arch arch, struct iod_error *error)
{
    struct xenstore_source *source = calloc(1, sizeof(*source));
    struct loop *loop = daemon_loop(daemon);

    if (!source) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    *source =
        (struct xenstore_source){.daemon = daemon, .store = store, .arch = arch, .listener.event = hear};
    list_init(&source->guests);
    list_init(&source->listener.link);
    source->timer = loop->ops->timer_add(loop, look_again, source);
    source->task = loop->ops->task_add(loop, step_guests, source);
    if (!source->timer || !source->task || !add_trees(source)) {
        xenstore_source_destroy(source);
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    daemon_listen(daemon, &source->listener);
    return source;
}

void xenstore_source_destroy(struct xenstore_source *source)
{
    struct source_guest *guest;

    if (!source) {
        return;
    }
    struct loop *loop = daemon_loop(source->daemon);
    daemon_unlisten(&source->listener);
    for (unsigned kind = 0; kind < XENSTORE_KINDS; kind++) {
        source->store->ops->tree_remove(source->trees[kind].tree);
    }
    list_for_each(guest, &source->guests, struct source_guest, link) {
        source_guest_free(guest);
    }
    for (unsigned i = 0; i < ERRORS_MAX; i++) {
        free(source->errors[i]);
    }
    loop->ops->timer_remove(source->timer);
    loop->ops->task_remove(source->task);
    free(source);
}
