/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the core's objects carry for whoever looks at them: its life, and what happens at a point that is
 * looked at.
 */
#include "core/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"
#include "core/trace.h"

/* ---- life ---- */

int watch_daemon_begin(struct daemon *daemon)
{
    struct daemon_watch *watch = &daemon->watch;
    struct list *lists[] = {&watch->traces, &watch->fresh, &watch->waiting, &watch->suspicious,
                            &watch->limited};
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
    int error = stuck_begin(daemon);
    return error ? error : limit_begin(daemon);
}

void watch_daemon_end(struct daemon *daemon)
{
    stuck_end(daemon);
    limit_end(daemon);
}

void watch_guest_begin(struct guest *guest)
{
    struct account *account = &guest->watch.account;
    memset(&guest->watch, 0, sizeof(guest->watch));
    list_init(&account->link);
    list_init(&account->tasks);
    limit_open(guest);
    watch_guest_known(guest);
}

void watch_guest_end(struct guest *guest)
{
    limit_lift(guest);
    free(guest->watch.latency);
    guest->watch.latency = NULL;
}

void watch_guest_known(struct guest *guest)
{
    guest->watch.mask = trace_mask(guest);
    if (guest->daemon->watch.latency) {
        guest->watch.mask |= PROBE_BIT(event) | PROBE_BIT(answer);
    }
}

static void forget_device(struct iod_access *access, const struct iod_device *device)
{
    if (access->watch.device == device) {
        access->watch.device = NULL;
        access->watch.region = NULL;
    }
}

void watch_device_end(struct iod_device *device)
{
    struct guest *guest = device->guest;
    struct iod_region *region;
    struct server *server;
    list_for_each(region, &device->regions, struct iod_region, link) {
        free(region->watch.latency);
        region->watch.latency = NULL;
    }
    free(device->watch.latency);
    device->watch.latency = NULL;
    list_for_each(server, &guest->servers, struct server, link) {
        for (unsigned i = 0; i < guest->vcpus; i++) {
            forget_device(&server->slots[i], device);
        }
        forget_device(&server->ring, device);
    }
}

void watch_allow(struct guest *guest, uint64_t bytes)
{
    uint64_t allowance = guest->watch.allowance + ALLOWANCE_CHAIN + bytes / ALLOWANCE_BYTES;
    guest->watch.allowance = allowance < ALLOWANCE_MAX ? (unsigned)allowance : ALLOWANCE_MAX;
}

void watch_access_begin(struct iod_access *access)
{
    list_init(&access->watch.link);
}

void watch_access_end(struct iod_access *access)
{
    list_remove(&access->watch.link);
    access->watch.since_ns = access->watch.event_ns = 0;
    access->watch.reported = false;
}

/* ---- a point that is looked at ---- */

static uint64_t now_of(const struct guest *guest)
{
    struct loop *loop = guest->daemon->loop;
    return loop->ops->now_ns(loop);
}

void watch_record(struct guest *guest, const struct iod_device *device, struct trace_record *record)
{
    if (!guest->watch.traces) {
        return;
    }
    record->time_ns = now_of(guest);
    record->domid = guest->domid;
    if (device && device->id) {
        snprintf(record->device, sizeof(record->device), "%s", device->id);
    }
    trace_note(guest, record);
}

static void note_access(enum probe probe, struct iod_access *access, uint64_t value, uint64_t latency_ns)
{
    const struct request *request = &access->request;
    struct trace_record record = {.probe = (uint8_t)probe, .vcpu = access->vcpu, .value = value,
                                  .latency_ns = latency_ns};
    bool known = probe != PROBE_event && probe != PROBE_delay && probe != PROBE_notify;
    if (known) { /* else the request is the one before, or none */
        record.type = (uint8_t)request->type;
        record.address = request->addr;
        record.size = (uint8_t)request->size;
        record.read = request->read;
    }
    bool reached = probe == PROBE_defer || probe == PROBE_complete || probe == PROBE_park || probe == PROBE_wake ||
                   probe == PROBE_answer;
    watch_record(access->server->guest, reached ? access->watch.device : NULL, &record);
}

void watch_access(enum probe probe, struct iod_access *access, uint64_t value)
{
    struct guest *guest = access->server->guest;
    uint64_t latency = 0;
    if (probe == PROBE_event) {
        access->watch.event_ns = now_of(guest);
    } else if (probe == PROBE_answer && access->watch.event_ns && access->vcpu != RING_VCPU) {
        latency = now_of(guest) - access->watch.event_ns;
        if (guest->daemon->watch.latency) {
            latency_note(access, latency);
        }
    }
    note_access(probe, access, value, latency);
}

void watch_call(enum probe probe, struct iod_access *access, struct iod_device *device, const char *where,
                uint64_t offset, unsigned width, uint64_t value)
{
    struct trace_record record = {.probe = (uint8_t)probe, .vcpu = access->vcpu, .type = (uint8_t)access->request.type,
                                  .address = offset, .size = (uint8_t)width, .read = access->request.read,
                                  .value = value};
    snprintf(record.text, sizeof(record.text), "%s", where);
    watch_record(access->server->guest, device, &record);
}

void watch_guest(enum probe probe, struct guest *guest, uint64_t first, uint64_t second)
{
    struct trace_record record = {.probe = (uint8_t)probe, .vcpu = TRACE_NO_VCPU, .address = first, .value = second};
    watch_record(guest, NULL, &record);
}

void watch_text(enum probe probe, struct guest *guest, const struct iod_device *device, const char *text)
{
    struct trace_record record = {.probe = (uint8_t)probe, .vcpu = TRACE_NO_VCPU};
    snprintf(record.text, sizeof(record.text), "%s", text);
    watch_record(guest, device, &record);
}

/* ---- lists of guests ---- */

void watch_names(const struct guest *guest, struct inspector *inspector)
{
    inspector->text(inspector, "domain", guest->spec.domain);
    if (guest->domain_name[0]) {
        inspector->text(inspector, "name", guest->domain_name);
    }
    if (guest->have_domid) {
        inspector->number(inspector, "domid", guest->domid);
    }
}

static void list_one(struct guest *guest, struct inspector *inspector,
                     void (*show)(struct guest *guest, struct inspector *inspector))
{
    inspector->begin_object(inspector, NULL);
    watch_names(guest, inspector);
    show(guest, inspector);
    inspector->end(inspector);
}

int watch_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error, void (*show)(struct guest *guest, struct inspector *inspector))
{
    struct guest *guest = domain ? guest_find(daemon, domain, error) : NULL;
    if (domain && !guest) {
        return -ENOENT;
    }
    inspector->begin_list(inspector, key);
    if (guest) {
        list_one(guest_host(guest), inspector, show);
    } else {
        list_for_each(guest, &daemon->guests, struct guest, link) {
            if (!guest->host) {
                list_one(guest, inspector, show);
            }
        }
    }
    inspector->end(inspector);
    return 0;
}
