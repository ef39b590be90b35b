/* SPDX-License-Identifier: BSD-2-Clause */
/* One domain that xenstore gives devices to: when it is the daemon's, and what it needs besides. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/xenstore_inside.h"

/* A domain that xenstored does not know (yet) may just be being built. */
#define SETTLE_NS UINT64_C(2000000000)

/* ---- making and finding ---- */

struct source_guest *source_guest_get(struct xenstore_source *source, uint16_t domid, bool make)
{
    struct source_guest *guest;

    list_for_each(guest, &source->guests, struct source_guest, link) {
        if (guest->domid == domid) {
            return guest;
        }
    }
    guest = make ? calloc(1, sizeof(*guest)) : NULL;
    if (guest) {
        guest->source = source;
        guest->domid = domid;
        snprintf(guest->text, sizeof(guest->text), "0x%x", domid);
        list_init(&guest->devices);
        list_add_tail(&source->guests, &guest->link);
    }
    return guest;
}

void source_guest_free(struct source_guest *guest)
{
    struct source_device *device;

    list_for_each(device, &guest->devices, struct source_device, link) {
        source_device_free(device);
    }
    list_remove(&guest->link);
    free(guest->options);
    free(guest);
}

/* By kind, then by name, numbers in their order: the same devices always come in the same order. */
static int compare(const struct source_device *device, enum xenstore_kind kind, const char *name)
{
    size_t length = strlen(device->name), other = strlen(name);

    if (device->kind != kind) {
        return device->kind < kind ? -1 : 1;
    }
    return length != other ? (length < other ? -1 : 1) : strcmp(device->name, name);
}

struct source_device *source_device_get(struct source_guest *guest, enum xenstore_kind kind, const char *name,
                                        bool make)
{
    struct list *before = &guest->devices;
    struct source_device *device;

    list_for_each(device, &guest->devices, struct source_device, link) {
        int order = compare(device, kind, name);
        if (order == 0) {
            return device;
        }
        if (order > 0) {
            before = &device->link;
            break;
        }
    }
    device = make ? calloc(1, sizeof(*device)) : NULL;
    if (device) {
        device->guest = guest;
        device->kind = kind;
        snprintf(device->name, sizeof(device->name), "%s", name);
        list_add_tail(before, &device->link);
    }
    return device;
}

void source_device_free(struct source_device *device)
{
    struct store *store = device->guest->source->store;

    store->ops->forget(store, device);
    if (device->call) {
        device->call->device = NULL;
    }
    list_remove(&device->link);
    free(device->node.spec);
    free(device->text);
    free(device);
}

/* ---- its domain ---- */

static enum guest_type type_of(const struct source_guest *guest)
{
    return strcmp(guest->domain.type, "hvm") == 0   ? GUEST_HVM
           : strcmp(guest->domain.type, "pvh") == 0 ? GUEST_PVH
                                                    : GUEST_UNKNOWN;
}

void source_place(const struct source_guest *guest, struct xenstore_place *place)
{
    *place = (struct xenstore_place){
        .domid = guest->domid,
        .own = guest->source->own,
        .arch = guest->source->arch,
        .type = type_of(guest),
        .pv = guest->source->arch == ARCH_X86 && strcmp(guest->domain.type, "pv") == 0,
    };
}

void source_guest_domain(struct source_guest *guest, const struct store_domain *domain)
{
    bool other = domain && strcmp(domain->uuid, guest->domain.uuid) != 0;
    bool retyped = strcmp(domain ? domain->type : "", guest->domain.type) != 0;
    struct source_device *device;

    if (domain && (!guest->introduced || other) && !guest->in) {
        guest->over = false; /* another domain of the same number */
    }
    guest->introduced = domain != NULL;
    guest->domain = domain ? *domain : (struct store_domain){0};
    list_for_each(device, &guest->devices, struct source_device, link) {
        device->stale = device->stale || retyped; /* its own tree tells of it soon, too */
    }
}

/* On x86 the type decides what may be done to a guest; on Arm there is but one. */
static bool is_type_known(const struct source_guest *guest)
{
    struct xenstore_options options;
    struct iod_error error;

    return guest->source->arch == ARCH_ARM ||
           (xenstore_options_read(&options, guest->options, &error) == 0 && options.type != GUEST_UNKNOWN);
}

/* Is there a domain to be served? One that is not introduced may have no toolstack, or not be ready. */
static bool is_present(struct source_guest *guest)
{
    struct hypervisor *hv = daemon_hypervisor(guest->source->daemon);
    struct loop *loop = daemon_loop(guest->source->daemon);
    uint64_t now = loop->ops->now_ns(loop);
    unsigned vcpus;

    if (guest->introduced) {
        return true;
    }
    if (hv->ops->nr_vcpus(hv, guest->domid, &vcpus) == -ESRCH) {
        guest->since_ns = 0;
        guest->over = false;
        return false;
    }
    if (!guest->since_ns) {
        guest->since_ns = now;
    }
    return now - guest->since_ns >= SETTLE_NS && is_type_known(guest);
}

/* It is the daemon's no more. */
static void ended(struct source_guest *guest, const char *state)
{
    struct source_device *device;
    bool own = false, failed = strcmp(state, "failed") == 0;

    guest->over = !guest->leaving && !failed;
    guest->in = guest->running = guest->leaving = guest->host_asked = guest->drop = false;
    guest->since_ns = 0;
    list_for_each(device, &guest->devices, struct source_device, link) {
        own = own || device->kind == XENSTORE_OWN;
        source_device_lost(device);
        if (failed && source_device_wants(device)) {
            source_device_refuse(device, guest->why[0] ? guest->why : "the guest can't be served");
        }
    }
    if (own && strcmp(state, "gone") == 0) {
        source_report_domain_gone(guest);
    }
}

void source_guest_state(struct source_guest *guest, const char *state)
{
    if (strcmp(state, "running") == 0 || strcmp(state, "paused") == 0) {
        guest->running = true;
    } else if (strcmp(state, "gone") == 0 || strcmp(state, "stopped") == 0 || strcmp(state, "failed") == 0) {
        ended(guest, state);
    } else {
        struct guest_status status;
        struct iod_error error;
        bool known = daemon_guest_status(guest->source->daemon, guest->text, &status, &error) == 0;
        guest->running = false;
        snprintf(guest->why, sizeof(guest->why), "%s", known ? status.why : "");
    }
    source_soon(guest);
}

/* ---- it comes to the daemon ---- */

static bool is_beside(const struct source_guest *guest, const struct xenstore_options *options)
{
    enum guest_type type = options->type != GUEST_UNKNOWN ? options->type : type_of(guest);

    return guest->source->arch == ARCH_X86 && (options->has_beside ? options->beside : type == GUEST_HVM);
}

static int add_guest(struct source_guest *guest, struct iod_error *error)
{
    struct xenstore_options options;
    struct guest_spec spec;
    char origin[] = "xenstore";

    if (xenstore_options_read(&options, guest->options, error)) {
        return -error->code;
    }
    guest_spec_init(&spec);
    spec.domain = guest->text;
    spec.origin = origin;
    spec.arch = guest->source->arch;
    spec.type = spec.arch == ARCH_ARM           ? GUEST_UNKNOWN
                : options.type != GUEST_UNKNOWN ? options.type
                                                : type_of(guest);
    spec.beside = is_beside(guest, &options);
    spec.slots = options.slots;
    spec.map_limit = options.map_limit;
    return daemon_add_guest(guest->source->daemon, &spec, error); /* it copies */
}

static void host_added(void *self, int error, const char *why)
{
    struct source_call *call = self;

    free(call); /* a file's guest that this one is joined to may have a host bridge: that one does */
}

static bool has_host(const struct source_guest *guest)
{
    for (const struct list *l = guest->devices.next; l != &guest->devices; l = l->next) {
        const struct source_device *device = list_entry(l, const struct source_device, link);
        if (device->node.spec && strncmp(device->node.spec, "pci-host", 8) == 0 &&
            (device->node.spec[8] == ',' || !device->node.spec[8])) {
            return true;
        }
    }
    return false;
}

void source_guest_need_host(struct source_guest *guest)
{
    struct xenstore_options options;
    struct device_spec spec;
    struct iod_error error;

    if (guest->host_asked || guest->source->arch != ARCH_X86 ||
        xenstore_options_read(&options, guest->options, &error)) {
        return;
    }
    guest->host_asked = true;
    if (has_host(guest) || !(options.has_pci_host ? options.pci_host : !is_beside(guest, &options))) {
        return;
    }
    struct source_call *call = calloc(1, sizeof(*call));
    if (call && !device_spec_parse(&spec, "pci-host,id=pci-host", &error)) {
        if (daemon_add_device(guest->source->daemon, guest->text, &spec, host_added, call, &error)) {
            free(call);
        }
        device_spec_finish(&spec);
    } else {
        free(call);
    }
}

/* ---- steps ---- */

static bool wants(const struct source_guest *guest)
{
    for (const struct list *l = guest->devices.next; l != &guest->devices; l = l->next) {
        if (source_device_wants(list_entry(l, const struct source_device, link))) {
            return true;
        }
    }
    return false;
}

static void refuse_all(struct source_guest *guest, const char *why)
{
    struct source_device *device;

    list_for_each(device, &guest->devices, struct source_device, link) {
        if (source_device_wants(device)) {
            source_device_refuse(device, why);
        }
    }
}

static void come(struct source_guest *guest)
{
    struct iod_error error;

    if (guest->over || !is_present(guest)) {
        source_later(guest->source);
        return;
    }
    guest->in = true; /* events come from inside the call */
    int result = add_guest(guest, &error);
    if (result) {
        guest->in = false;
    }
    if (result == -EBUSY || result == -EEXIST) { /* the daemon is ending, or the number's last domain is */
        source_later(guest->source);
    } else if (result) {
        refuse_all(guest, error.text);
    }
}

/* The last device of our own tree has gone from a domain that lives on. */
static void leave(struct source_guest *guest)
{
    struct iod_error error;

    guest->leaving = true;
    if (daemon_remove_guest(guest->source->daemon, guest->text, NULL, NULL, &error)) {
        guest->leaving = guest->in = guest->running = guest->host_asked = false;
    }
}

void source_guest_step(struct source_guest *guest)
{
    struct source_device *device;

    if (!guest->in && wants(guest)) {
        come(guest);
    }
    list_for_each(device, &guest->devices, struct source_device, link) {
        source_device_step(device);
        if (source_device_over(device)) {
            guest->drop = device->kind == XENSTORE_OWN;
            source_device_free(device);
        }
    }
    if (list_empty(&guest->devices) && guest->in && guest->drop && !guest->leaving) {
        leave(guest);
    }
    if (list_empty(&guest->devices) && !guest->in) {
        source_guest_free(guest);
    }
}
