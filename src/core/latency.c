/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/latency.h"

#include <errno.h>
#include <stdlib.h>

#include "core/inside.h"

#define BUCKETS 40u /* the last one: 2^38 ns (275 s) and more */

/* Bucket i holds what is below 2^i ns, and not below the one before. */
struct histogram {
    uint64_t count, sum, max;
    uint64_t buckets[BUCKETS];
};

static void add(struct histogram **where, uint64_t ns)
{
    if (!*where) {
        *where = calloc(1, sizeof(**where));
    }
    struct histogram *histogram = *where;
    if (!histogram) {
        return; /* out of memory: not gathered */
    }
    unsigned bucket = ns ? 64 - (unsigned)__builtin_clzll(ns) : 0;
    histogram->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    histogram->count++;
    histogram->sum += ns;
    histogram->max = ns > histogram->max ? ns : histogram->max;
}

void latency_note(struct iod_access *access, uint64_t ns)
{
    add(&access->server->guest->watch.latency, ns);
    if (access->watch.device) {
        add(&access->watch.device->watch.latency, ns);
    }
    if (access->watch.region) {
        add(&access->watch.region->watch.latency, ns);
    }
}

void latency_set(struct daemon *daemon, bool on)
{
    struct guest *guest;
    daemon->watch.latency = on;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        watch_guest_known(guest);
    }
}

bool latency_on(const struct daemon *daemon)
{
    return daemon->watch.latency;
}

/* ---- forgetting ---- */

static void forget(struct histogram **histogram)
{
    free(*histogram);
    *histogram = NULL;
}

static void forget_guest(struct guest *guest)
{
    struct iod_device *device;
    forget(&guest->watch.latency);
    list_for_each(device, &guest->devices, struct iod_device, link) {
        forget(&device->watch.latency);
        for (struct list *l = device->regions.next; l != &device->regions; l = l->next) {
            forget(&list_entry(l, struct iod_region, link)->watch.latency);
        }
    }
}

int latency_reset(struct daemon *daemon, const char *domain, struct iod_error *error)
{
    struct guest *guest = domain ? guest_find(daemon, domain, error) : NULL;
    if (domain && !guest) {
        return -ENOENT;
    }
    if (guest) {
        forget_guest(guest_host(guest));
        return 0;
    }
    list_for_each(guest, &daemon->guests, struct guest, link) {
        forget_guest(guest);
    }
    return 0;
}

/* ---- showing ---- */

static uint64_t end_of(unsigned bucket)
{
    return UINT64_C(1) << bucket;
}

/* The upper end of the bucket that holds the last of these many per mille. */
static uint64_t quantile(const struct histogram *histogram, unsigned per_mille)
{
    uint64_t wanted = (histogram->count * per_mille + 999) / 1000, seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= wanted) {
            return i < BUCKETS - 1 ? end_of(i) : histogram->max;
        }
    }
    return histogram->max;
}

static void show(const struct histogram *histogram, struct inspector *inspector)
{
    static const struct histogram none;
    histogram = histogram ? histogram : &none;
    inspector->number(inspector, "count", histogram->count);
    inspector->number(inspector, "sum-ns", histogram->sum);
    inspector->number(inspector, "max-ns", histogram->max);
    inspector->number(inspector, "p50-ns", histogram->count ? quantile(histogram, 500) : 0);
    inspector->number(inspector, "p90-ns", histogram->count ? quantile(histogram, 900) : 0);
    inspector->number(inspector, "p99-ns", histogram->count ? quantile(histogram, 990) : 0);
    inspector->begin_list(inspector, "buckets");
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (histogram->buckets[i]) {
            inspector->begin_object(inspector, NULL);
            inspector->number(inspector, "below-ns", end_of(i));
            inspector->number(inspector, "count", histogram->buckets[i]);
            inspector->end(inspector);
        }
    }
    inspector->end(inspector);
}

static void show_device(const struct iod_device *device, struct inspector *inspector)
{
    inspector->begin_object(inspector, NULL);
    inspector->text(inspector, "id", device->id);
    show(device->watch.latency, inspector);
    inspector->begin_list(inspector, "regions");
    for (const struct list *l = device->regions.next; l != &device->regions; l = l->next) {
        const struct iod_region *region = list_entry(l, const struct iod_region, link);
        if (region->watch.latency) {
            inspector->begin_object(inspector, NULL);
            inspector->text(inspector, "name", region->name);
            show(region->watch.latency, inspector);
            inspector->end(inspector);
        }
    }
    inspector->end(inspector);
    inspector->end(inspector);
}

static void show_guest(struct guest *guest, struct inspector *inspector)
{
    struct iod_device *device;
    show(guest->watch.latency, inspector);
    inspector->begin_list(inspector, "devices");
    list_for_each(device, &guest->devices, struct iod_device, link) {
        show_device(device, inspector);
    }
    inspector->end(inspector);
}

int latency_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
                 struct iod_error *error)
{
    return watch_list(daemon, domain, key, inspector, error, show_guest);
}
