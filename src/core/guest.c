/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One guest's way through its states: waiting -> cleaning -> opening -> running -> stopping -> gone. Every
 * step is short; what takes time comes back as a callback.
 */
#include "core/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"
#include "core/options.h"

#define APPEAR_INTERVAL_NS UINT64_C(200000000) /* looking for a domain without xenstore */
#define BIND_INTERVAL_NS UINT64_C(10000000)    /* slots whose event channel is not there yet */
#define TYPE_WAIT_NS UINT64_C(2000000000)      /* for xenstore's first word; then the type stays unknown */
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

void guest_named_state(struct guest *guest, const char *state)
{
    struct daemon *daemon = guest->daemon;
    guest_log(guest, IOD_LOG_INFO, "%s", state);
    if (daemon->config.guest_state) {
        daemon->config.guest_state(daemon->config.guest_self, guest->spec.domain, state);
    }
}

/* ---- making and freeing ---- */

static void parse_domain(struct guest *guest)
{
    uint64_t number;
    if (!option_parse_number(guest->spec.domain, &number) && number <= 0x7fef) {
        guest->have_domid = true;
        guest->domid = (uint16_t)number;
        snprintf(guest->name, sizeof(guest->name), "domid %u", guest->domid);
    } else {
        guest->named = true;
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
                            &guest->behind_ring, &guest->run_link, &guest->link};
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
    address_space_init(&guest->spaces[IOD_PIO], PORT_LIMIT);
    address_space_init(&guest->spaces[IOD_MMIO], ADDRESS_LIMIT);
    guest->retry = daemon->loop->ops->timer_add(daemon->loop, retry, guest);
    if (!guest->retry || guest_spec_copy(&guest->spec, spec)) {
        iod_fail(error, ENOMEM, "out of memory");
        guest_destroy(guest);
        return NULL;
    }
    guest->type = spec->type;
    parse_domain(guest);
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

void guest_destroy(struct guest *guest)
{
    struct server *server;
    if (!guest) {
        return;
    }
    cleanup_cancel(guest->cleanup);
    guest->state = GUEST_GONE;
    list_for_each(server, &guest->servers, struct server, link) {
        server_close(server, false);
    }
    destroy_devices(guest);
    list_for_each(server, &guest->servers, struct server, link) {
        server_free(server);
    }
    functions_forget(guest);
    memory_destroy(guest->memory);
    address_space_finish(&guest->spaces[IOD_PIO]);
    address_space_finish(&guest->spaces[IOD_MMIO]);
    guest->daemon->loop->ops->timer_remove(guest->retry);
    list_remove(&guest->run_link);
    list_remove(&guest->link);
    guest_spec_finish(&guest->spec);
    free(guest);
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

static bool make_devices(struct guest *guest, struct iod_error *error)
{
    for (unsigned i = 0; i < guest->spec.device_count; i++) {
        if (!device_create(guest, &guest->spec.devices[i], i, error)) {
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
        guest->type = GUEST_HVM;
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

static void running(struct guest *guest)
{
    struct iod_device *device;
    struct iod_error error;
    struct server *server;
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
    guest_named_state(guest, "running");
}

static void device_opened(void *self, struct iod_device *device, int error, const char *why)
{
    struct guest *guest = self;
    if (error) {
        guest_log(guest, IOD_LOG_ERROR, "%s", why);
        guest->fail = true;
    }
    (void)device;
    if (--guest->opening) {
        return;
    }
    if (guest->fail || guest->dead || guest->stop_wanted) {
        guest_stop_devices(guest, IOD_CANCEL);
    } else {
        running(guest);
    }
}

static void open_devices(struct guest *guest)
{
    struct iod_device *device;
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
    if (!make_devices(guest, &error)) {
        guest_fail(guest, "%s", error.text);
        return;
    }
    guest->opening = 1; /* for this loop */
    list_for_each(device, &guest->devices, struct iod_device, link) {
        guest->opening++;
    }
    list_for_each(device, &guest->devices, struct iod_device, link) {
        device_open(device, device_opened, guest);
    }
    device_opened(guest, NULL, 0, NULL);
}

static void cleaned(void *self, int error, const char *why)
{
    struct guest *guest = self;
    guest->cleanup = NULL;
    if (error) {
        attach_failed(guest, "", why);
    } else {
        open_devices(guest);
    }
}

void guest_begin(struct guest *guest)
{
    struct hypervisor *hv = guest->daemon->hv;
    int error = hv->ops->nr_vcpus(hv, guest->domid, &guest->vcpus);
    if (error == -ESRCH && guest->spec.wait) {
        guest_retry_in(guest, APPEAR_INTERVAL_NS);
        return;
    }
    guest->state = GUEST_CLEANING;
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

/* What to do next while its domain, or the domain's type, is not known. */
void guest_await(struct guest *guest)
{
    bool store = guest->daemon->config.store && !guest->daemon->store_lost;
    if (!store && !guest->have_domid) {
        guest_fail(guest, "the domain's name can't be looked up without xenstore: give its domid");
    } else if (!store) {
        guest_begin(guest);
    } else if (guest->have_domid && !guest->spec.wait && guest->type == GUEST_UNKNOWN) {
        guest_retry_in(guest, TYPE_WAIT_NS);
    } else if (guest->have_domid && !guest->spec.wait) {
        guest_begin(guest);
    } else if (guest->daemon->domains_known) {
        guest_domains(guest, guest->daemon->domains, guest->daemon->domain_count);
    } /* else xenstore's news begin it */
}

static enum guest_type type_of(const struct store_domain *domain)
{
    return !strcmp(domain->type, "hvm")   ? GUEST_HVM
           : !strcmp(domain->type, "pvh") ? GUEST_PVH
                                          : GUEST_UNKNOWN;
}

static const struct store_domain *find_domain(const struct guest *guest, const struct store_domain *domains,
                                              unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (guest->named ? !strcmp(domains[i].name, guest->spec.domain) : domains[i].domid == guest->domid) {
            return &domains[i];
        }
    }
    return NULL;
}

static void found_domain(struct guest *guest, const struct store_domain *domain)
{
    guest->have_domid = guest->introduced = true;
    guest->domid = domain->domid;
    snprintf(guest->name, sizeof(guest->name), "domid %u", guest->domid);
    snprintf(guest->uuid, sizeof(guest->uuid), "%s", domain->uuid);
    if (guest->spec.type == GUEST_UNKNOWN) {
        guest->type = type_of(domain);
    }
    guest_begin(guest);
}

void guest_domains(struct guest *guest, const struct store_domain *domains, unsigned count)
{
    const struct store_domain *domain = find_domain(guest, domains, count);
    switch (guest->state) {
    case GUEST_WAITING:
        if (domain) {
            found_domain(guest, domain);
        } else if (!guest->spec.wait && guest->have_domid) {
            guest_begin(guest); /* not introduced (no toolstack): its type stays unknown */
        } else if (!guest->spec.wait) {
            guest_fail(guest, "no domain of this name is introduced (--wait waits until one is)");
        }
        break;
    case GUEST_CLEANING:
    case GUEST_OPENING: /* no ioreq server yet that could tell */
        if (guest->introduced && (!domain || domain->domid != guest->domid)) {
            guest_gone(guest);
        }
        break;
    default:
        break;
    }
}

/* ---- the guest's one timer ---- */

static void retry(void *self)
{
    struct guest *guest = self;
    struct server *server;
    unsigned unbound = 0;
    switch (guest->state) {
    case GUEST_WAITING:
        guest_begin(guest);
        break;
    case GUEST_RUNNING:
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
        break;
    case GUEST_STOPPING:
        guest_end_step(guest);
        break;
    default:
        break;
    }
}
