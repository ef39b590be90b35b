/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One guest's way through its states: waiting -> cleaning -> opening -> running -> stopping -> gone. Every
 * step is short; what takes time comes back as a callback. Waiting: guest_wait.c; the end: guest_end.c.
 */
#include "core/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"
#include "core/options.h"

#define APPEAR_INTERVAL_NS UINT64_C(200000000) /* looking for a domain without xenstore */
#define APPEAR_QUICK 50                        /* looks, then less often: */
#define APPEAR_SLOW_NS UINT64_C(1000000000)
#define LOCK_INTERVAL_NS UINT64_C(50000000)    /* an image whose lock one of ours still holds */
#define BIND_INTERVAL_NS UINT64_C(10000000)    /* slots whose event channel is not there yet */
#define MAP_LIMIT_FREE (UINT64_C(256) << 20)   /* a PV dom0's mappings cost page tables only */
#define MAP_LIMIT_FRAMES (UINT64_C(16) << 20)  /* Arm, PVH dom0: each mapped page costs a frame */
#define PORT_LIMIT UINT64_C(0xffff)
#define ADDRESS_LIMIT ((UINT64_C(1) << 52) - 1)

struct daemon *guest_daemon(const struct guest *guest)
{
    return guest->daemon;
}

uint16_t guest_domid(const struct guest *guest)
{
    return guest->domid;
}

enum guest_arch guest_arch(const struct guest *guest)
{
    return guest->spec.arch;
}

bool guest_is_arm(const struct guest *guest)
{
    return guest->spec.arch == ARCH_ARM;
}

enum guest_type guest_type(const struct guest *guest)
{
    return guest->type == GUEST_HVM ? GUEST_HVM : GUEST_PVH;
}

bool guest_beside(const struct guest *guest)
{
    return guest->spec.beside;
}

void *guest_bus(const struct guest *guest)
{
    return guest->bus;
}

void guest_bus_set(struct guest *guest, void *bus, const struct config_space_ops *ops)
{
    guest->bus = bus;
    guest->bus_ops = ops;
}

/* ---- making and freeing ---- */

static void parse_domain(struct guest *guest)
{
    uint64_t number;
    if (!option_parse_number(guest->spec.domain, &number) && number <= 0x7fef) {
        guest->have_domid = true;
        guest->named = false;
        guest->domid = (uint16_t)number;
        snprintf(guest->name, sizeof(guest->name), "domid %u", guest->domid);
    } else {
        guest->have_domid = false;
        guest->named = true;
        guest->domid = 0;
        snprintf(guest->name, sizeof(guest->name), "%.60s", guest->spec.domain);
    }
}

static void retry(void *self);

struct guest *guest_create(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error)
{
    struct guest *guest = calloc(1, sizeof(*guest));
    if (!guest) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    guest->daemon = daemon;
    struct list *lists[] = {&guest->servers, &guest->devices, &guest->functions, &guest->ready,
                            &guest->behind_ring, &guest->run_link, &guest->link,
                            &guest->joined, &guest->join_link, &guest->additions};
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
    address_space_init(&guest->spaces[IOD_PIO], PORT_LIMIT);
    address_space_init(&guest->spaces[IOD_MMIO], ADDRESS_LIMIT);
    guest->retry = daemon->loop->ops->timer_add(daemon->loop, retry, guest);
    if (!guest->retry || guest_spec_copy(&guest->spec, spec) || spec_name_devices(&guest->spec)) {
        iod_fail(error, ENOMEM, "out of memory");
        guest_destroy(guest);
        return NULL;
    }
    guest->type = spec->type;
    parse_domain(guest);
    watch_guest_begin(guest);
    return guest;
}

static void destroy_devices(struct guest *guest)
{
    while (!list_empty(&guest->devices)) {
        device_destroy(list_entry(guest->devices.prev, struct iod_device, link));
    }
    if (guest->bus) {
        guest->bus_ops->destroy(guest->bus);
        guest->bus = NULL;
    }
}

/* Takes apart all that serves the domain. */
static void guest_clear(struct guest *guest)
{
    struct server *server;
    cleanup_cancel(guest->cleanup);
    guest->cleanup = NULL;
    guest->state = GUEST_GONE;
    watch_guest_end(guest);
    list_for_each(server, &guest->servers, struct server, link) {
        server_close(server, false);
    }
    additions_end(guest);
    destroy_devices(guest);
    list_for_each(server, &guest->servers, struct server, link) {
        server_free(server);
    }
    functions_forget(guest);
    foreign_forget(guest);
    neighbours_forget(guest);
    guest->functions_dirty = false;
    memory_destroy(guest->memory);
    guest->memory = NULL;
    address_space_finish(&guest->spaces[IOD_PIO]);
    address_space_finish(&guest->spaces[IOD_MMIO]);
    list_remove(&guest->run_link);
    answer_give(guest->pausing, -ESHUTDOWN, "the guest ends");
    guest->pausing = NULL;
}

void guest_destroy(struct guest *guest)
{
    if (!guest) {
        return;
    }
    guest_clear(guest);
    guest->daemon->loop->ops->timer_remove(guest->retry);
    list_remove(&guest->link);
    guest_spec_finish(&guest->spec);
    free(guest->source);
    free(guest);
}

void guest_restart(struct guest *guest, bool failed)
{
    struct loop *loop = guest->daemon->loop;
    guest_clear(guest);
    loop->ops->timer_cancel(guest->retry);
    address_space_init(&guest->spaces[IOD_PIO], PORT_LIMIT);
    address_space_init(&guest->spaces[IOD_MMIO], ADDRESS_LIMIT);
    guest->dead = guest->fail = guest->stop_wanted = guest->parted = guest->lock_wait = guest->paused = false;
    guest->opening = guest->stopping = guest->retries = guest->pause_left = 0;
    guest->unclaimed = guest->malformed = 0;
    watch_guest_begin(guest);
    if (failed) {
        guest->state = GUEST_FAILED;
        guest_retry_in(guest, APPEAR_SLOW_NS);
        return;
    }
    guest->state = GUEST_WAITING;
    guest->introduced = false;
    guest->type = guest->spec.type;
    guest->uuid[0] = guest->domain_name[0] = guest->why[0] = '\0';
    parse_domain(guest);
    guest_named_state(guest, "waiting");
    guest_await(guest);
}

void guest_try_again(struct guest *guest)
{
    if (guest->state == GUEST_FAILED) {
        guest->parted = true;
        guest_retry_in(guest, 0);
    }
}

void guest_retry_in(struct guest *guest, uint64_t ns)
{
    struct loop *loop = guest->daemon->loop;
    loop->ops->timer_set(guest->retry, loop->ops->now_ns(loop) + ns);
}

void guest_bind_later(struct guest *guest)
{
    guest_retry_in(guest, BIND_INTERVAL_NS);
}

/* ---- attaching ---- */

/* Who asked for it is named, where that is known. */
static void name_origin(const struct guest_spec *spec, const struct device_spec *device, struct iod_error *error)
{
    const char *origin = device->origin ? device->origin : spec->origin;
    char text[sizeof(error->text)];
    if (origin) {
        snprintf(text, sizeof(text), "%s", error->text);
        snprintf(error->text, sizeof(error->text), "%.100s: %.*s", origin, (int)sizeof(error->text) - 104, text);
    }
}

static bool make_devices(struct guest *guest, struct iod_error *error)
{
    for (unsigned i = 0; i < guest->spec.device_count; i++) {
        if (!device_create(guest, &guest->spec.devices[i], i, error)) {
            name_origin(&guest->spec, &guest->spec.devices[i], error);
            return false;
        }
    }
    return true;
}

/*
 * A trial before anything is touched: create looks at the options alone. Where the type is not known yet, the
 * kinder one is tried; the true one has its say when it is known.
 */
int guest_check_spec(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error)
{
    struct guest *guest = guest_create(daemon, spec, error);
    if (!guest) {
        return -error->code;
    }
    if (guest->type == GUEST_UNKNOWN && (spec->wait || daemon->config.store)) {
        guest->type = spec->slots ? GUEST_PVH : GUEST_HVM;
    }
    bool good = make_devices(guest, error);
    guest_destroy(guest);
    return good ? 0 : -error->code;
}

/*
 * A domain that died while its guest was being attached is no failure: the guest is gone, and may come again.
 */
static void attach_failed(struct guest *guest, const char *what, const char *why)
{
    struct hypervisor *hv = guest->daemon->hv;
    unsigned vcpus;
    if (hv->ops->nr_vcpus(hv, guest->domid, &vcpus) != -ESRCH) {
        guest_fail(guest, "%s%s", what, why);
        return;
    }
    guest_log(guest, IOD_LOG_INFO, "the domain is gone");
    guest->dead = true;
    guest_stop_devices(guest, IOD_CANCEL);
}

/* Taken out of the spec while it opened. It has no ranges yet: the guest never knew it. */
static void drop_unwanted(struct guest *guest)
{
    struct iod_device *device;
    list_for_each(device, &guest->devices, struct iod_device, link) {
        const struct device_spec *spec = spec_find(&guest->spec, device->id);
        if (!spec || !device_spec_equal(spec, &device->spec)) {
            device_destroy(device);
        }
    }
}

static void tell_running(struct guest *guest)
{
    struct iod_device *device;
    struct guest *joined;
    guest_named_state(guest, "running");
    list_for_each(joined, &guest->joined, struct guest, join_link) {
        guest_named_state(joined, "running");
        guest_reconcile(joined);
    }
    guest_reconcile(guest); /* what came while it was being attached */
    list_for_each(device, &guest->devices, struct iod_device, link) {
        if (!device->hidden) {
            device_tell(device, EVENT_DEVICE_ADDED, "");
        }
    }
}

static void running(struct guest *guest)
{
    struct iod_device *device;
    struct iod_error error;
    struct server *server;
    drop_unwanted(guest);
    if (server_create(guest, &server, &error)) {
        attach_failed(guest, "", error.text);
        return;
    }
    int result = guest_commit(guest);
    if (result) {
        attach_failed(guest, "can't claim the devices' ranges: ", strerror(-result));
        return;
    }
    guest->state = GUEST_RUNNING;
    list_for_each(device, &guest->devices, struct iod_device, link) {
        device_start(device);
    }
    guest->retries = 0;
    list_for_each(server, &guest->servers, struct server, link) {
        if (!server->enabled && server_enable(server, &error)) {
            attach_failed(guest, "", error.text);
            return;
        }
    }
    guest_retry_in(guest, BIND_INTERVAL_NS);
    tell_running(guest);
}

/* The old domain's last I/O may still hold the image: its end is awaited, for it is the same disk, rebooted. */
static bool lock_is_coming(struct iod_device *device, int error)
{
    return error == -EBUSY && letting_go(device->guest->daemon, &device->lock_from);
}

static void device_opened(void *self, struct iod_device *device, int error, const char *why)
{
    struct guest *guest = self;
    if (error && lock_is_coming(device, error)) {
        guest->lock_wait = device->lock_wait = true;
        guest_note(guest, "%s", why);
    } else if (error && (error != -ECANCELED || !guest->stop_wanted)) { /* else it was given up: stop_opening */
        guest_log(guest, IOD_LOG_ERROR, "%s", why);
        guest_failing(guest, device->id, why);
    }
    if (--guest->opening) {
        return;
    }
    if (guest->fail || guest->dead || guest->stop_wanted) {
        guest_stop_devices(guest, IOD_CANCEL);
    } else if (guest->lock_wait) {
        guest_retry_in(guest, LOCK_INTERVAL_NS);
    } else {
        guest->why[0] = '\0';
        running(guest);
    }
}

static void open_made(struct guest *guest)
{
    struct iod_device *device;
    guest->lock_wait = false;
    guest->opening = 1; /* for this loop */
    list_for_each(device, &guest->devices, struct iod_device, link) {
        guest->opening += device->state == DEVICE_MADE;
    }
    list_for_each(device, &guest->devices, struct iod_device, link) {
        if (device->state == DEVICE_MADE) {
            device->lock_from.ended = guest->daemon->ended;
            device_open(device, device_opened, guest);
        }
    }
    device_opened(guest, NULL, 0, NULL);
}

void guest_open_devices(struct guest *guest)
{
    struct iod_error error;
    uint64_t limit = guest->spec.map_limit;
    if (!limit) {
        limit = guest_is_arm(guest) || guest->daemon->hv->maps_cost_frames ? MAP_LIMIT_FRAMES
                                                                           : MAP_LIMIT_FREE;
    }
    guest->state = GUEST_OPENING;
    guest->clock_offset_ns = guest->daemon->loop->ops->now_ns(guest->daemon->loop);
    guest->memory = memory_create(guest, limit);
    if (!guest->memory) {
        guest_fail(guest, "out of memory");
        return;
    }
    foreign_read(guest);
    if (!make_devices(guest, &error)) {
        guest_fail(guest, "%s", error.text);
        return;
    }
    open_made(guest);
}

/* In its place. One that is not wanted any more is just destroyed. */
static bool make_again(struct guest *guest, struct iod_device *device, struct iod_error *error)
{
    const struct device_spec *spec = spec_find(&guest->spec, device->id);
    bool wanted = spec && device_spec_equal(spec, &device->spec);
    struct list *next = device->link.next;
    struct lock_wait from = device->lock_from;
    device_destroy(device);
    if (!wanted) {
        return true;
    }
    device = device_create(guest, spec, (unsigned)(spec - guest->spec.devices), error);
    if (device) {
        device->lock_from = from;
        list_remove(&device->link);
        list_add_tail(next, &device->link);
    }
    return device;
}

/*
 * The image's lock may be free now. A device opens once: those that wait for a lock are made anew. The others
 * stay open: a tap, whose script takes its time, does not come and go.
 */
static void open_again(struct guest *guest)
{
    struct hypervisor *hv = guest->daemon->hv;
    struct iod_device *device;
    struct iod_error error;
    unsigned vcpus;
    if (!guest->dead && hv->ops->nr_vcpus(hv, guest->domid, &vcpus) == -ESRCH) {
        guest_gone(guest);
    }
    if (guest->dead || guest->stop_wanted) {
        guest_stop_devices(guest, IOD_CANCEL);
        return;
    }
    foreign_read(guest);
    list_for_each(device, &guest->devices, struct iod_device, link) {
        if (device->lock_wait && !make_again(guest, device, &error)) {
            guest_fail(guest, "%s", error.text);
            return;
        }
    }
    open_made(guest);
}

static void cleaned(void *self, int error, const char *why)
{
    struct guest *guest = self;
    guest->cleanup = NULL;
    neighbours_forget(guest);
    if (error) {
        attach_failed(guest, "", why);
    } else if (!neighbours_ask(guest, guest_open_devices)) {
        guest_open_devices(guest);
    }
}

void guest_begin(struct guest *guest)
{
    struct hypervisor *hv = guest->daemon->hv;
    if (guest_join(guest)) {
        return;
    }
    int error = hv->ops->nr_vcpus(hv, guest->domid, &guest->vcpus);
    if (error == -ESRCH && guest->spec.wait) {
        guest->retries++;
        guest_retry_in(guest, guest->retries < APPEAR_QUICK ? APPEAR_INTERVAL_NS : APPEAR_SLOW_NS);
        return;
    }
    guest->state = GUEST_CLEANING;
    guest->retries = 0;
    guest_named_state(guest, "attaching");
    if (error == -ENOSYS || error == -EOPNOTSUPP) {
        guest_fail(guest, "this Xen has no ioreq servers: on Arm it must be built with CONFIG_IOREQ_SERVER");
    } else if (error) {
        guest_fail(guest, "no such domain, or no right to emulate for it: %s%s", strerror(-error),
                   error == -ESRCH ? " (--wait waits until it exists)" : "");
    } else if (!guest->vcpus || guest->vcpus > PAGES_SLOTS) {
        guest_fail(guest, "the domain has %u vCPUs; an ioreq server has room for 1 to %u", guest->vcpus,
                   PAGES_SLOTS);
    } else {
        guest->cleanup = cleanup_begin(guest, cleaned, guest);
    }
}

/* ---- the guest's one timer ---- */

static void bind_late(struct guest *guest)
{
    struct server *server;
    unsigned unbound = 0;
    guest->retries++;
    list_for_each(server, &guest->servers, struct server, link) {
        if (server->unbound) {
            server_bind(server);
            unbound += server->unbound;
        }
    }
    if (unbound) {
        guest_retry_in(guest, BIND_INTERVAL_NS);
    }
}

static void retry(void *self)
{
    struct guest *guest = self;
    if (guest->parted && guest->dead) {
        guest_finish(guest);
        return;
    }
    if (guest->parted) {
        guest_restart(guest, false);
        return;
    }
    switch (guest->state) {
    case GUEST_WAITING:
        guest_wait_step(guest);
        break;
    case GUEST_OPENING:
        if (guest->lock_wait) {
            open_again(guest);
        }
        break;
    case GUEST_RUNNING:
        bind_late(guest);
        break;
    case GUEST_STOPPING:
        guest_end_step(guest);
        break;
    case GUEST_FAILED:
        guest_failed_step(guest);
        break;
    default:
        break;
    }
}
