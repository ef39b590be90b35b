/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/stats.h"

#include <string.h>

#include "core/inside.h"
#include "core/latency.h"

static const char *const type_names[REQUEST_TYPES] = {
    [REQUEST_PIO] = "pio", [REQUEST_COPY] = "mmio", [REQUEST_PCI_CONFIG] = "pci-config",
    [REQUEST_TIMEOFFSET] = "timeoffset", [REQUEST_INVALIDATE] = "invalidate", [REQUEST_OTHER] = "other",
};

static void show_account(const struct guest *guest, struct inspector *inspector)
{
    const struct account *account = &guest->watch.account;
    struct loop *loop = guest->daemon->loop;
    uint64_t limited = account->limited_ns, now = loop->ops->now_ns(loop);
    limited += account->limited ? now - account->began_ns : 0;
    inspector->begin_object(inspector, "limit");
    inspector->boolean(inspector, "limited", account->limited);
    inspector->number(inspector, "times", account->times);
    inspector->number(inspector, "limited-ns", limited);
    inspector->number(inspector, "delayed", account->delayed);
    inspector->number(inspector, "points", account->points);
    inspector->number(inspector, "spent-ns", account->total_ns);
    inspector->number(inspector, "debt-ns", limit_debt(account, now));
    inspector->number(inspector, "share-ppm", account->share_ppm);
    inspector->end(inspector);
}

static unsigned count_waiting(const struct guest *guest)
{
    const struct list *lists[] = {&guest->daemon->watch.fresh, &guest->daemon->watch.waiting};
    unsigned count = 0;
    for (unsigned i = 0; i < 2; i++) {
        for (const struct list *l = lists[i]->next; l != lists[i]; l = l->next) {
            const struct iod_access *access = list_entry(l, const struct iod_access, watch.link);
            count += access->server->guest == guest;
        }
    }
    return count;
}

void stats_inspect(const struct guest *guest, struct inspector *inspector)
{
    const struct guest_watch *watch = &guest->watch;
    inspector->begin_object(inspector, "accesses");
    for (unsigned i = 0; i < REQUEST_TYPES; i++) {
        inspector->number(inspector, type_names[i], watch->types[i]);
    }
    inspector->end(inspector);
    inspector->begin_object(inspector, "points");
    for (unsigned i = 0; i < PROBE_COUNT; i++) {
        inspector->number(inspector, probe_name(i), watch->points[i]);
    }
    inspector->end(inspector);
    inspector->number(inspector, "ring", watch->points[PROBE_ring]);
    inspector->number(inspector, "handler-calls", watch->points[PROBE_enter]);
    inspector->number(inspector, "deferred", watch->points[PROBE_defer]);
    inspector->number(inspector, "parked", watch->points[PROBE_park]);
    inspector->number(inspector, "notifies", watch->points[PROBE_notify]);
    inspector->number(inspector, "malformed", watch->deeds[DEED_MALFORMED] + watch->deeds[DEED_HOLE]);
    inspector->number(inspector, "unclaimed", watch->deeds[DEED_UNCLAIMED]);
    inspector->number(inspector, "guest-errors", watch->deeds[DEED_GUEST_ERROR]);
    inspector->number(inspector, "map-misses", watch->points[PROBE_miss]);
    inspector->number(inspector, "invalidates", watch->deeds[DEED_INVALIDATE]);
    inspector->number(inspector, "commits", watch->deeds[DEED_COMMIT]);
    inspector->number(inspector, "resets", watch->deeds[DEED_RESET]);
    inspector->number(inspector, "empty-kicks", watch->deeds[DEED_EMPTY_KICK]);
    inspector->number(inspector, "stuck", watch->stuck);
    inspector->number(inspector, "stuck-ended", watch->stuck_ended);
    inspector->number(inspector, "waiting", count_waiting(guest));
    show_account(guest, inspector);
}

void stats_inspect_counters(const struct iod_device *device, struct inspector *inspector)
{
    const struct iod_counter *counter = TABLE_GET(device->class, counters);
    inspector->begin_object(inspector, "counters");
    for (; counter && counter->name; counter++) {
        uint64_t value;
        memcpy(&value, (const char *)device->self + counter->offset, sizeof(value));
        inspector->number(inspector, counter->name, value);
    }
    inspector->end(inspector);
}

void stats_inspect_device(const struct iod_device *device, struct inspector *inspector)
{
    const struct device_watch *watch = &device->watch;
    const struct {
        const char *key;
        uint64_t value;
    } members[] = {
        {"accesses", watch->accesses}, {"guest-errors", device->guest_errors}, {"resets", watch->resets},
        {"kicks", watch->kicks}, {"pops", watch->pops}, {"pushes", watch->pushes},
        {"interrupts", watch->interrupts}, {"submits", watch->submits}, {"finishes", watch->finishes},
        {"submitted-bytes", watch->submitted_bytes}, {"reads", watch->reads}, {"read-bytes", watch->read_bytes},
        {"writes", watch->writes}, {"written-bytes", watch->written_bytes}, {"frames-received", watch->received},
        {"bytes-received", watch->received_bytes}, {"frames-sent", watch->sent}, {"bytes-sent", watch->sent_bytes},
    };
    for (unsigned i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        inspector->number(inspector, members[i].key, members[i].value);
    }
    stats_inspect_counters(device, inspector);
    inspector->begin_list(inspector, "regions");
    for (const struct list *l = device->regions.next; l != &device->regions; l = l->next) {
        const struct iod_region *region = list_entry(l, const struct iod_region, link);
        inspector->begin_object(inspector, NULL);
        inspector->text(inspector, "name", region->name);
        inspector->number(inspector, "hits", region->watch.hits);
        inspector->end(inspector);
    }
    inspector->end(inspector);
}

void stats_inspect_server(const struct server *server, struct inspector *inspector)
{
    inspector->number(inspector, "accesses", server->watch.taken);
    inspector->number(inspector, "ring", server->watch.ring);
}

uint64_t stats_region_hits(const struct iod_region *region)
{
    return region->watch.hits;
}

/* ---- lists ---- */

static void show_guest(struct guest *guest, struct inspector *inspector)
{
    struct server *server;
    struct iod_device *device;
    inspector->begin_object(inspector, "stats");
    stats_inspect(guest, inspector);
    inspector->end(inspector);
    inspector->begin_list(inspector, "servers");
    list_for_each(server, &guest->servers, struct server, link) {
        inspector->begin_object(inspector, NULL);
        inspector->number(inspector, "id", server->id);
        stats_inspect_server(server, inspector);
        inspector->end(inspector);
    }
    inspector->end(inspector);
    inspector->begin_list(inspector, "devices");
    list_for_each(device, &guest->devices, struct iod_device, link) {
        inspector->begin_object(inspector, NULL);
        inspector->text(inspector, "id", device->id);
        inspector->text(inspector, "class", device->class->name);
        stats_inspect_device(device, inspector);
        inspector->end(inspector);
    }
    inspector->end(inspector);
}

int stats_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error)
{
    return watch_list(daemon, domain, key, inspector, error, show_guest);
}

void stats_daemon(const struct daemon *daemon, struct inspector *inspector)
{
    const struct list *lists[] = {&daemon->watch.fresh, &daemon->watch.waiting};
    unsigned waiting = 0, traces = 0;
    for (unsigned i = 0; i < 2; i++) {
        for (const struct list *l = lists[i]->next; l != lists[i]; l = l->next) {
            waiting++;
        }
    }
    for (const struct list *l = daemon->watch.traces.next; l != &daemon->watch.traces; l = l->next) {
        traces++;
    }
    inspector->number(inspector, "guests", daemon->guest_count);
    inspector->number(inspector, "limited", daemon->watch.limited_count);
    inspector->number(inspector, "waiting", waiting);
    inspector->number(inspector, "traces", traces);
    inspector->boolean(inspector, "latency", latency_on(daemon));
}
