/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How guests show themselves (inspect.h): servers and what they hold, devices with their parts and
 * backends, memory.
 */
#include <errno.h>
#include <stdio.h>

#include "core/inside.h"
#include "core/stats.h"

static const char *const spaces[] = {"ports", "mmio"};

static const char *device_state_name(const struct iod_device *device)
{
    static const char *const names[] = {
        [DEVICE_MADE] = "made",       [DEVICE_OPENING] = "opening",   [DEVICE_STOPPED] = "stopped",
        [DEVICE_RUNNING] = "running", [DEVICE_STOPPING] = "stopping", [DEVICE_BROKEN] = "broken",
    };
    return device->detach ? "detaching" : device->hidden ? "opening" : names[device->state];
}

static const char *type_name(enum guest_type type)
{
    return type == GUEST_HVM ? "hvm" : type == GUEST_PVH ? "pvh" : "unknown";
}

/* ---- servers ---- */

static void show_range(struct inspector *inspector, enum iod_space space, const struct segment *segment,
                       uint64_t start, uint64_t end)
{
    inspector->begin_object(inspector, NULL);
    inspector->text(inspector, "space", spaces[space]);
    inspector->number(inspector, "start", start);
    inspector->number(inspector, "end", end);
    if (segment->region) {
        inspector->text(inspector, "device", segment->region->device->id);
        inspector->text(inspector, "region", segment->region->name);
        inspector->number(inspector, "hits", segment->region->watch.hits);
    }
    inspector->end(inspector);
}

/* By who is visible there: what Xen was told is the union of them. */
static void show_ranges(struct inspector *inspector, const struct server *server, enum iod_space space)
{
    const struct interval_set *held = &server->ranges[space];
    const struct address_space *view = &server->guest->spaces[space];
    unsigned at = 0;
    for (unsigned i = 0; i < view->segment_count; i++) {
        const struct segment *segment = &view->segments[i];
        while (at < held->count && held->items[at].end < segment->start) {
            at++;
        }
        if (at < held->count && held->items[at].start <= segment->end) {
            show_range(inspector, space, segment, segment->start, segment->end);
        }
    }
}

static void show_functions(struct inspector *inspector, const struct server *server)
{
    struct guest *guest = server->guest;
    char text[16];
    inspector->begin_list(inspector, "functions");
    for (const struct list *l = guest->functions.next; l != &guest->functions; l = l->next) {
        const struct function_claim *claim = list_entry(l, const struct function_claim, link);
        if (claim->server != server) {
            continue;
        }
        const struct iod_device *device = guest->bus ? guest->bus_ops->owner(guest->bus, claim->sbdf) : NULL;
        inspector->begin_object(inspector, NULL);
        unsigned bus = claim->sbdf >> 8, slot = (claim->sbdf >> 3) & 0x1f, function = claim->sbdf & 7;
        if (bus) {
            snprintf(text, sizeof(text), "%02x:%02x.%x", bus, slot, function);
        } else {
            snprintf(text, sizeof(text), "%02x.%x", slot, function);
        }
        inspector->text(inspector, "addr", text);
        if (device) {
            inspector->text(inspector, "device", device->id);
        }
        inspector->end(inspector);
    }
    inspector->end(inspector);
}

static void show_server(struct inspector *inspector, const struct server *server)
{
    static const char *const rings[] = {"off", "legacy", "atomic"};
    unsigned bound = 0, active = 0;
    for (unsigned i = 0; i < server->guest->vcpus; i++) {
        bound += server->slots[i].local != 0;
        active += server->slots[i].active;
    }
    inspector->begin_object(inspector, NULL);
    inspector->number(inspector, "id", server->id);
    inspector->text(inspector, "state", server->enabled ? "enabled" : "disabled");
    inspector->text(inspector, "bufioreq", rings[server->buf]);
    inspector->number(inspector, "vcpus", server->guest->vcpus);
    inspector->number(inspector, "vcpus-bound", bound);
    inspector->number(inspector, "vcpus-waiting", active);
    inspector->begin_list(inspector, "ranges");
    show_ranges(inspector, server, IOD_PIO);
    show_ranges(inspector, server, IOD_MMIO);
    inspector->end(inspector);
    show_functions(inspector, server);
    inspector->end(inspector);
}

/* ---- devices ---- */

static void show_regions(struct inspector *inspector, const struct iod_device *device)
{
    inspector->begin_list(inspector, "regions");
    for (const struct list *l = device->regions.next; l != &device->regions; l = l->next) {
        const struct iod_region *region = list_entry(l, const struct iod_region, link);
        bool shown = !list_empty(&region->placement.link);
        inspector->begin_object(inspector, NULL);
        inspector->text(inspector, "name", region->name);
        inspector->number(inspector, "length", region->length);
        if (shown) {
            inspector->text(inspector, "space", spaces[region->space]);
            inspector->number(inspector, "start", region->placement.start);
            inspector->number(inspector, "end", region->placement.end);
        }
        inspector->number(inspector, "hits", region->watch.hits);
        inspector->end(inspector);
    }
    inspector->end(inspector);
}

static void show_parts(struct inspector *inspector, const struct iod_device *device)
{
    inspector->begin_object(inspector, "parts");
    for (const struct list *l = device->parts.next; l != &device->parts; l = l->next) {
        const struct device_part *part = list_entry(l, const struct device_part, link);
        if (part->ops->inspect) {
            inspector->begin_object(inspector, part->ops->name);
            part->ops->inspect(part, inspector);
            inspector->end(inspector);
        }
    }
    inspector->end(inspector);
    inspector->begin_list(inspector, "backends");
    for (const struct list *l = device->backends.next; l != &device->backends; l = l->next) {
        const struct device_backend *backend = list_entry(l, const struct device_backend, link);
        if (backend->ops->inspect) {
            inspector->begin_object(inspector, NULL);
            backend->ops->inspect(backend, inspector);
            inspector->end(inspector);
        }
    }
    inspector->end(inspector);
}

static void show_device(struct inspector *inspector, const struct guest *guest,
                        const struct iod_device *device)
{
    unsigned waiting = 0;
    for (const struct list *l = device->waiters.next; l != &device->waiters; l = l->next) {
        waiting++;
    }
    inspector->begin_object(inspector, NULL);
    inspector->text(inspector, "id", device->id);
    inspector->text(inspector, "class", device->class->name);
    inspector->text(inspector, "state", device_state_name(device));
    inspector->text(inspector, "spec", device->spec.text);
    if (device->spec.origin) {
        inspector->text(inspector, "origin", device->spec.origin);
    }
    if (device->owner && device->owner != guest) {
        inspector->text(inspector, "guest", device->owner->spec.domain); /* in that one's spec: joined */
    }
    if (device->why[0]) {
        inspector->text(inspector, "why", device->why);
    }
    inspector->number(inspector, "accesses-waiting", waiting + (device->busy != NULL));
    inspector->number(inspector, "mappings", device->mappings);
    inspector->number(inspector, "guest-errors", device->guest_errors);
    stats_inspect_counters(device, inspector);
    show_regions(inspector, device);
    show_parts(inspector, device);
    inspector->end(inspector);
}

/* Of the spec, and not there: waited for, being opened again, or failed. */
static void show_missing(struct inspector *inspector, struct guest *guest)
{
    for (unsigned i = 0; i < guest->spec.device_count; i++) {
        const struct device_spec *spec = &guest->spec.devices[i];
        const char *id = device_spec_get(spec, "id");
        const struct iod_device *device = guest_device(guest_host(guest), id);
        if (device && device->owner == guest) {
            continue;
        }
        inspector->begin_object(inspector, NULL);
        inspector->text(inspector, "id", id);
        inspector->text(inspector, "class", spec->name);
        inspector->text(inspector, "state", "missing");
        inspector->text(inspector, "spec", spec->text);
        if (spec->origin) {
            inspector->text(inspector, "origin", spec->origin);
        }
        inspector->end(inspector);
    }
}

static void show_devices(struct inspector *inspector, struct guest *guest)
{
    struct guest *host = guest_host(guest);
    struct iod_device *device;
    inspector->begin_list(inspector, "devices");
    list_for_each(device, &host->devices, struct iod_device, link) {
        if (guest == host || device->owner == guest) {
            show_device(inspector, guest, device);
        }
    }
    show_missing(inspector, guest);
    inspector->end(inspector);
}

/* ---- guests ---- */

static void show_names(struct inspector *inspector, struct guest *guest)
{
    const struct guest *host = guest_host(guest);
    struct guest_status status;
    guest_status_of(guest, &status);
    inspector->text(inspector, "domain", guest->spec.domain);
    inspector->text(inspector, "name", status.name);
    if (status.domid >= 0) {
        inspector->number(inspector, "domid", (uint64_t)status.domid);
    }
    inspector->text(inspector, "uuid", host->uuid);
    inspector->text(inspector, "type", type_name(host->type));
    inspector->text(inspector, "arch", guest_is_arm(host) ? "arm" : "x86");
    inspector->text(inspector, "state", status.state);
    inspector->boolean(inspector, "served", status.served);
    inspector->text(inspector, "why", status.why);
    if (guest->spec.origin) {
        inspector->text(inspector, "origin", guest->spec.origin);
    }
    if (host != guest) {
        inspector->text(inspector, "joined-to", host->spec.domain);
    }
    inspector->boolean(inspector, "beside", host->spec.beside);
    inspector->number(inspector, "vcpus", host->vcpus);
}

static void show_guest(struct inspector *inspector, struct guest *guest)
{
    const struct guest *host = guest_host(guest);
    struct server *server;
    inspector->begin_object(inspector, NULL);
    show_names(inspector, guest);
    inspector->begin_list(inspector, "servers");
    list_for_each(server, &host->servers, struct server, link) {
        if (server->pages) {
            show_server(inspector, server);
        }
    }
    inspector->end(inspector);
    show_devices(inspector, guest);
    inspector->begin_object(inspector, "memory");
    if (host->memory) {
        memory_inspect(host->memory, inspector);
    }
    inspector->end(inspector);
    inspector->begin_object(inspector, "counters");
    inspector->number(inspector, "unclaimed", host->unclaimed);
    inspector->number(inspector, "malformed", host->malformed);
    inspector->end(inspector);
    inspector->end(inspector);
}

int daemon_inspect(struct daemon *daemon, const char *domain, struct inspector *inspector,
                   struct iod_error *error)
{
    struct guest *guest;
    if (domain) {
        guest = guest_find(daemon, domain, error);
        if (!guest) {
            return -ENOENT;
        }
        show_guest(inspector, guest);
        return 0;
    }
    inspector->begin_list(inspector, NULL);
    list_for_each(guest, &daemon->guests, struct guest, link) {
        show_guest(inspector, guest);
    }
    inspector->end(inspector);
    return 0;
}
