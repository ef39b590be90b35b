/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/daemon.h"


#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/loop.h>

#include "core/inside.h"
#include "core/options.h"

#define HEALTH_INTERVAL_NS UINT64_C(1000000000)
#define HEALTH_BATCH 64u /* guests looked at per interval */
#define EVENT_ROUNDS 4   /* full batches of ports taken before the loop looks elsewhere */

struct service {
    struct list link;
    const struct service_class *class;
    void *object;
    unsigned uses;
};

struct loop *daemon_loop(const struct daemon *daemon)
{
    return daemon->loop;
}

struct hypervisor *daemon_hypervisor(const struct daemon *daemon)
{
    return daemon->hv;
}

struct modules *daemon_modules(const struct daemon *daemon)
{
    return daemon->config.modules;
}

unsigned daemon_guests(const struct daemon *daemon)
{
    return daemon->guest_count;
}

/* ---- events ---- */

static void events_ready(void *self, unsigned events)
{
    struct daemon *daemon = self;
    uint32_t ports[EVENT_BATCH];
    (void)events;
    for (unsigned round = 0; round < EVENT_ROUNDS; round++) {
        int count = daemon->hv->ops->event_take(daemon->hv, ports, EVENT_BATCH);
        if (count < 0 && count != -EAGAIN) {
            daemon_log(daemon, IOD_LOG_ERROR, "event channels",
                       "the handle is lost (%s): no guest can be served any more", strerror(-count));
            daemon->loop->ops->watch_set(daemon->event_watch, 0);
        }
        if (count <= 0) {
            break;
        }
        unsigned kept = 0; /* the ports of limited guests stay masked until they have their turn */
        for (int i = 0; i < count; i++) {
            if (dispatch_event(daemon, ports[i])) {
                ports[kept++] = ports[i];
            }
        }
        dispatch_run(daemon);
        uint64_t began = limit_batch_begins(daemon);
        if (kept) {
            daemon->hv->ops->event_unmask(daemon->hv, ports, kept);
        }
        dispatch_flush(daemon);
        limit_batch_ends(daemon, began, (unsigned)count);
        if ((unsigned)count < EVENT_BATCH) {
            break;
        }
    }
}

static void run(void *self)
{
    struct daemon *daemon = self;
    dispatch_run(daemon);
    dispatch_flush(daemon);
}

/* ---- domains that die ---- */

/* Also while its devices open (one may hang) and while it stops: I/O that finishes for nobody is cancelled. */
static void check(struct guest *guest)
{
    if (guest->state >= GUEST_OPENING && guest->state <= GUEST_STOPPING) {
        guest_check_alive(guest);
    }
}

void daemon_check_all(struct daemon *daemon)
{
    struct guest *guest;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        check(guest);
    }
}

/* Without xenstore a domain's death shows only when we ask; with it this is the safety net. */
static void health(void *self)
{
    struct daemon *daemon = self;
    struct guest *guest;
    unsigned count = daemon->guest_count < HEALTH_BATCH ? daemon->guest_count : HEALTH_BATCH;
    while (count-- && (guest = list_first(&daemon->guests, struct guest, link))) {
        list_remove(&guest->link); /* to the end: round robin */
        list_add_tail(&daemon->guests, &guest->link);
        check(guest);
    }
    daemon->loop->ops->timer_set(daemon->health,
                                 daemon->loop->ops->now_ns(daemon->loop) + HEALTH_INTERVAL_NS);
}

/* Kept for guests that begin to wait later: nothing says again what it has said once. */
static void keep_domains(struct daemon *daemon, const struct store_domain *domains, unsigned count)
{
    free(daemon->domains);
    daemon->domains = count ? calloc(count, sizeof(*domains)) : NULL;
    daemon->domain_count = daemon->domains ? count : 0;
    daemon->domains_known = daemon->domains || !count;
    if (daemon->domains) {
        memcpy(daemon->domains, domains, count * sizeof(*domains));
    }
}

void daemon_forget_domain(struct daemon *daemon, uint16_t domid)
{
    for (unsigned i = 0; i < daemon->domain_count;) {
        if (daemon->domains[i].domid == domid) {
            daemon->domains[i] = daemon->domains[--daemon->domain_count];
        } else {
            i++;
        }
    }
}

static void store_domains(void *self, const struct store_domain *domains, unsigned count)
{
    struct daemon *daemon = self;
    struct guest *guest;
    daemon->store_lost = false;
    keep_domains(daemon, domains, count);
    list_for_each(guest, &daemon->guests, struct guest, link) {
        guest_domains(guest, domains, count);
    }
    daemon_check_all(daemon);
}

static void store_lost(void *self, const char *why)
{
    struct daemon *daemon = self;
    struct guest *guest;
    if (!daemon->store_lost) {
        daemon_log(daemon, IOD_LOG_WARNING, "xenstore", "%s", why);
    }
    daemon->store_lost = true;
    daemon->domains_known = false;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        if (guest->state == GUEST_WAITING && guest->have_domid) {
            guest_await(guest);
        }
    }
}

static const struct store_events store_events = {.domains = store_domains, .lost = store_lost};

/* ---- making ---- */

static void tell_stopped(void *self)
{
    struct daemon *daemon = self;
    answers_deliver(daemon); /* promised before */
    daemon->stopped(daemon->stopped_self);
}

static int start_watching(struct daemon *daemon, struct iod_error *error)
{
    struct loop *loop = daemon->loop;
    int result = events_begin(daemon), watched = watch_daemon_begin(daemon);
    daemon->run_task = loop->ops->task_add(loop, run, daemon);
    daemon->health = loop->ops->timer_add(loop, health, daemon);
    daemon->event_watch = loop->ops->watch_add(loop, daemon->hv->ops->event_fd(daemon->hv), IOD_READABLE,
                                               events_ready, daemon);
    daemon->stopped_task = loop->ops->task_add(loop, tell_stopped, daemon); /* ending must not need memory */
    if (result || watched || !daemon->run_task || !daemon->stopped_task || !daemon->health || !daemon->event_watch) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    loop->ops->timer_set(daemon->health, loop->ops->now_ns(loop) + HEALTH_INTERVAL_NS);
    if (daemon->config.store &&
        daemon->config.store->ops->watch(daemon->config.store, &store_events, daemon)) {
        return iod_fail(error, EIO, "can't ask the xenstore helper");
    }
    return 0;
}

struct daemon *daemon_create(const struct daemon_config *config, struct iod_error *error)
{
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    if (!daemon) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    daemon->config = *config;
    daemon->loop = config->loop;
    daemon->hv = config->hypervisor;
    daemon->endings = 1;
    list_init(&daemon->guests);
    list_init(&daemon->run_queue);
    list_init(&daemon->services);
    for (unsigned i = 0; i < 3; i++) {
        list_init(&daemon->mapping_pool[i]);
    }
    if (start_watching(daemon, error)) {
        daemon_destroy(daemon);
        return NULL;
    }
    return daemon;
}

void daemon_destroy(struct daemon *daemon)
{
    if (!daemon) {
        return;
    }
    const struct loop_ops *ops = daemon->loop->ops;
    struct service *service;
    list_for_each(service, &daemon->services, struct service, link) { /* they outlived their last user */
        service->class->destroy(service->object);
        free(service);
    }
    ops->watch_remove(daemon->event_watch);
    ops->timer_remove(daemon->health);
    ops->task_remove(daemon->run_task);
    ops->task_remove(daemon->stopped_task);
    events_end(daemon);
    watch_daemon_end(daemon);
    mapping_pools_destroy(daemon);
    free(daemon->ports);
    free(daemon->domains);
    free(daemon);
}

/* ---- guests ---- */

static bool same_origin(const struct guest *guest, const struct guest_spec *spec)
{
    const char *one = guest->spec.origin, *other = spec->origin;
    return !guest->source && (!one || !other ? one == other : !strcmp(one, other));
}

void daemon_take_on(struct daemon *daemon, struct guest *guest)
{
    list_add_tail(&daemon->guests, &guest->link);
    daemon->guest_count++;
    guest_named_state(guest, "waiting");
    guest_await(guest);
}

int daemon_check_guest(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error)
{
    return guest_check_spec(daemon, spec, error);
}

static int take_whole(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error)
{
    int result = guest_check_spec(daemon, spec, error);
    struct guest *guest = result ? NULL : guest_create(daemon, spec, error);
    if (!guest) {
        return -error->code;
    }
    daemon_take_on(daemon, guest);
    return 0;
}

int daemon_add_guest(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error)
{
    struct guest_spec whole;
    struct guest *guest;
    uint64_t domid;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        bool same = same_origin(guest, spec) || (spec->alone && !guest->source);
        if (same && !strcmp(guest->spec.domain, spec->domain)) {
            return iod_fail(error, EEXIST, "guest %s is here already; add devices to it", spec->domain);
        }
    }
    if (daemon->stopping) {
        return iod_fail(error, EBUSY, "the daemon is ending");
    }
    if (!daemon->config.store && option_parse_number(spec->domain, &domid)) {
        return iod_fail(error, EINVAL, "guest %s: a name or uuid needs xenstore, which this daemon does not ask: "
                        "expected a domid", spec->domain);
    }
    if (guest_spec_copy(&whole, spec)) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    int result = daemon->config.slot_device ? guest_spec_add_slots(&whole, daemon->config.slot_device, error) : 0;
    result = result ? result : take_whole(daemon, &whole, error);
    guest_spec_finish(&whole);
    return result;
}

void daemon_guest_ended(struct daemon *daemon)
{
    daemon->guest_count--;
    if (daemon->stopping && !daemon->guest_count) {
        daemon->loop->ops->task_again(daemon->stopped_task);
    }
}

void daemon_stop(struct daemon *daemon, void (*stopped)(void *self), void *self)
{
    struct guest *guest;
    if (daemon->stopping) {
        return;
    }
    daemon->stopping = true;
    daemon->stopped = stopped;
    daemon->stopped_self = self;
    if (!daemon->guest_count) {
        daemon->loop->ops->task_again(daemon->stopped_task);
    }
    list_for_each(guest, &daemon->guests, struct guest, link) {
        guest_stop(guest);
    }
}

/* ---- services ---- */

void *daemon_service_get(struct daemon *daemon, const struct service_class *class, struct iod_error *error)
{
    struct service *service;
    list_for_each(service, &daemon->services, struct service, link) {
        if (service->class == class) {
            service->uses++;
            return service->object;
        }
    }
    service = calloc(1, sizeof(*service));
    if (!service) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    service->object = class->create(daemon, error);
    if (!service->object) {
        free(service);
        return NULL;
    }
    service->class = class;
    service->uses = 1;
    list_add_tail(&daemon->services, &service->link);
    return service->object;
}

void daemon_service_put(struct daemon *daemon, const struct service_class *class)
{
    struct service *service;
    list_for_each(service, &daemon->services, struct service, link) {
        if (service->class == class && --service->uses == 0) {
            class->destroy(service->object);
            list_remove(&service->link);
            free(service);
        }
    }
}
