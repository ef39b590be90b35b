/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/stuck.h"

#include <errno.h>
#include <stdio.h>

#include "core/inside.h"

#define NEVER UINT64_MAX
#define RETRY_NS UINT64_C(1000000000) /* looking again at accesses that wait by intent */
#define MS_NS UINT64_C(1000000)

static uint64_t limit_ns(const struct guest *guest)
{
    uint64_t ms = guest->spec.stuck_ms ? guest->spec.stuck_ms : STUCK_DEFAULT_MS;
    return ms > NEVER / MS_NS ? NEVER : ms * MS_NS;
}

static void arm(struct daemon *daemon, uint64_t at_ns)
{
    struct daemon_watch *watch = &daemon->watch;
    if (at_ns < watch->stuck_at_ns) {
        watch->stuck_at_ns = at_ns;
        daemon->loop->ops->timer_set(watch->stuck_timer, at_ns);
    }
}

/* ---- noting ---- */

void stuck_note(struct iod_access *access)
{
    if (list_empty(&access->watch.link)) {
        list_add_tail(&access->server->guest->daemon->watch.fresh, &access->watch.link);
    }
}

void stuck_stamp(struct daemon *daemon)
{
    struct iod_access *access;
    uint64_t now = daemon->loop->ops->now_ns(daemon->loop);
    while ((access = list_first(&daemon->watch.fresh, struct iod_access, watch.link))) {
        uint64_t limit = limit_ns(access->server->guest);
        list_remove(&access->watch.link);
        list_add_tail(&daemon->watch.waiting, &access->watch.link);
        access->watch.since_ns = now;
        arm(daemon, limit > NEVER - now ? NEVER : now + limit);
    }
}

/* ---- what becomes of one that waits too long ---- */

static const char *const type_names[REQUEST_TYPES] = {
    [REQUEST_PIO] = "pio", [REQUEST_COPY] = "mmio", [REQUEST_PCI_CONFIG] = "pci-config",
    [REQUEST_TIMEOFFSET] = "timeoffset", [REQUEST_INVALIDATE] = "invalidate", [REQUEST_OTHER] = "other",
};

static const char *state_of(const struct iod_access *access)
{
    switch (access->state) {
    case ACCESS_DEFERRED:
        return "deferred";
    case ACCESS_PARKED:
        return access->device ? "parked" : "behind-ring";
    case ACCESS_READY:
    case ACCESS_IDLE:
        break;
    }
    return access->server->guest->watch.account.limited ? "delayed" : "ready";
}

/* Who keeps it waiting, as far as that is known. */
static struct iod_device *device_of(const struct iod_access *access)
{
    return access->device ? access->device : access->watch.device;
}

static void describe(const struct iod_access *access, uint64_t waits_ns, char *text, size_t room)
{
    const struct request *request = &access->request;
    const struct iod_device *device = device_of(access);
    char who[24], what[96] = "an access behind the buffered ring";
    if (access->vcpu == RING_VCPU) {
        snprintf(who, sizeof(who), "the buffered ring");
    } else {
        snprintf(who, sizeof(who), "vCPU %u", access->vcpu);
    }
    if (access->active) {
        snprintf(what, sizeof(what), "a %u byte %s of %s 0x%llx", request->size, request->read ? "read" : "write",
                 request->type < REQUEST_TYPES ? type_names[request->type] : "?",
                 (unsigned long long)request->addr);
    }
    snprintf(text, room, "%s waits for %s%s%.60s%s%.40s (%s) for %llu.%03llu s", who, what, device ? ", " : "",
             device ? device->id : "", device && access->watch.region ? " " : "",
             device && access->watch.region ? access->watch.region->name : "", state_of(access),
             (unsigned long long)(waits_ns / 1000000000u), (unsigned long long)(waits_ns / MS_NS % 1000));
}

/*
 * The part gets all ones. Reads only: to a driver the end of a write may say that the device touches its
 * memory no more, and all ones of a register never do (a virtio status is 0 then, a queue's reset too).
 */
static void end_read(struct iod_access *access)
{
    if (access->active && access->request.read && access->device &&
        (access->state == ACCESS_DEFERRED || access->state == ACCESS_PARKED)) {
        access->server->guest->watch.stuck_ended++;
        dispatch_give_up(access);
    }
}

static void apply_policy(struct iod_access *access)
{
    struct guest *guest = access->server->guest;
    struct iod_device *device = access->device;
    switch (guest->spec.stuck) {
    case STUCK_WAIT:
        break;
    case STUCK_DETACH:
        end_read(access);
        if (device) {
            iod_device_broken(device, "the guest waited for it longer than %llu ms",
                              (unsigned long long)(limit_ns(guest) / MS_NS));
        }
        break;
    case STUCK_ONES:
        end_read(access);
        break;
    }
}

static void report(struct iod_access *access, uint64_t now)
{
    struct guest *guest = access->server->guest;
    const struct iod_device *device = device_of(access);
    char text[300];
    access->watch.reported = true;
    guest->watch.stuck++;
    describe(access, now - access->watch.since_ns, text, sizeof(text));
    guest_log(guest, IOD_LOG_WARNING, "stuck: %s", text);
    apply_policy(access);
    daemon_tell(guest->daemon, &(struct daemon_event){.kind = EVENT_STUCK, .domain = guest->spec.domain,
                                                      .domid = guest->domid, .device = device ? device->id : NULL,
                                                      .text = text});
}

/* By its guest's own doing, or the operator's, it waits as it should. */
static bool waits_by_intent(const struct guest *guest)
{
    return guest->state != GUEST_RUNNING || guest->paused || guest->dead || guest->watch.account.limited;
}

/* The next that has waited too long; NULL: none, and *next says when to look again. */
static struct iod_access *find_stuck(struct daemon *daemon, uint64_t now, uint64_t *next)
{
    struct iod_access *access;
    *next = NEVER;
    list_for_each(access, &daemon->watch.waiting, struct iod_access, watch.link) {
        const struct guest *guest = access->server->guest;
        uint64_t limit = limit_ns(guest), at = access->watch.since_ns + limit;
        if (access->watch.reported || limit > NEVER - access->watch.since_ns) {
            continue;
        }
        if (at <= now && !waits_by_intent(guest)) {
            return access;
        }
        at = at <= now ? now + RETRY_NS : at;
        *next = at < *next ? at : *next;
    }
    return NULL;
}

/*
 * From the start after each report: whoever heard of it may have changed everything. Each is reported once.
 */
static void fire(void *self)
{
    struct daemon *daemon = self;
    struct iod_access *access;
    uint64_t now = daemon->loop->ops->now_ns(daemon->loop), next;
    daemon->watch.stuck_at_ns = NEVER;
    while ((access = find_stuck(daemon, now, &next))) {
        report(access, now);
    }
    if (next != NEVER) {
        arm(daemon, next);
    }
}

int stuck_begin(struct daemon *daemon)
{
    daemon->watch.stuck_at_ns = NEVER;
    daemon->watch.stuck_timer = daemon->loop->ops->timer_add(daemon->loop, fire, daemon);
    return daemon->watch.stuck_timer ? 0 : -ENOMEM;
}

void stuck_end(struct daemon *daemon)
{
    daemon->loop->ops->timer_remove(daemon->watch.stuck_timer);
}

/* ---- showing ---- */

static void show_request(const struct iod_access *access, struct inspector *inspector)
{
    const struct request *request = &access->request;
    inspector->text(inspector, "type", request->type < REQUEST_TYPES ? type_names[request->type] : "other");
    inspector->boolean(inspector, "write", !request->read);
    inspector->number(inspector, "address", request->addr);
    inspector->number(inspector, "size", request->size);
    inspector->number(inspector, "count", request->count);
    inspector->number(inspector, "element", access->element);
    if (!request->read && access->fetched) {
        inspector->number(inspector, "value", access->value);
    }
}

static void show(const struct iod_access *access, uint64_t now, struct inspector *inspector)
{
    const struct iod_device *device = device_of(access);
    inspector->begin_object(inspector, NULL);
    watch_names(access->server->guest, inspector);
    if (access->vcpu == RING_VCPU) {
        inspector->boolean(inspector, "ring", true);
    } else {
        inspector->number(inspector, "vcpu", access->vcpu);
    }
    inspector->number(inspector, "server", access->server->id);
    if (access->active) {
        show_request(access, inspector);
    }
    if (device) {
        inspector->text(inspector, "device", device->id);
    }
    if (device && access->watch.region) {
        inspector->text(inspector, "region", access->watch.region->name);
    }
    inspector->text(inspector, "state", state_of(access));
    inspector->number(inspector, "waits-ns", access->watch.since_ns ? now - access->watch.since_ns : 0);
    inspector->boolean(inspector, "reported", access->watch.reported);
    inspector->end(inspector);
}

int stuck_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error)
{
    struct guest *guest = domain ? guest_find(daemon, domain, error) : NULL;
    struct iod_access *access;
    uint64_t now = daemon->loop->ops->now_ns(daemon->loop);
    if (domain && !guest) {
        return -ENOENT;
    }
    guest = guest ? guest_host(guest) : NULL;
    inspector->begin_list(inspector, key);
    struct list *lists[] = {&daemon->watch.waiting, &daemon->watch.fresh};
    for (unsigned i = 0; i < 2; i++) {
        list_for_each(access, lists[i], struct iod_access, watch.link) {
            if (!guest || access->server->guest == guest) {
                show(access, now, inspector);
            }
        }
    }
    inspector->end(inspector);
    return 0;
}
