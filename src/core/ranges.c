/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Regions and PCI functions of a guest, and what the hypervisor knows of them. Changes wait for guest_commit:
 * the access that caused them ends under the old map.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/points.h"

static const char *const space_names[] = {"ports", "MMIO"};

/* ---- regions (include/ioreqd/region.h) ---- */

struct iod_region *iod_region_add(struct iod_device *device, const char *name, uint64_t length,
                                  const struct iod_region_ops *ops, void *self)
{
    struct iod_region *region = calloc(1, sizeof(*region));
    if (!region) {
        return NULL;
    }
    region->device = device;
    region->name = name;
    region->length = length;
    region->ops = ops;
    region->self = self;
    region->placement.region = region;
    list_init(&region->placement.link);
    list_add_tail(&device->regions, &region->link);
    return region;
}

uint64_t region_length(const struct iod_region *region)
{
    return region->length;
}

int iod_region_place(struct iod_region *region, enum iod_space space, uint64_t base, struct iod_error *error)
{
    struct guest *guest = region->device->guest;
    if (region->space != space) {
        iod_region_hide(region);
    }
    region->space = space;
    int result = address_space_place(&guest->spaces[space], &region->placement, base, region->length);
    if (!result && region->device->hidden) {
        /* It would fit: device_show does it. */
        address_space_remove(&guest->spaces[space], &region->placement);
        region->later = true;
        region->base = base;
    }
    if (result) {
        return iod_fail(
            error, -result, "%s: %s: 0x%llx bytes at 0x%llx do not fit the guest's %s (last: 0x%llx)",
            region->device->id, region->name, (unsigned long long)region->length, (unsigned long long)base,
            space_names[space], (unsigned long long)guest->spaces[space].limit);
    }
    return 0;
}

void iod_region_hide(struct iod_region *region)
{
    region->later = false;
    address_space_remove(&region->device->guest->spaces[region->space], &region->placement);
}

/* Two devices that the command line puts at one place: the guest would find only the later one. */
static int taken(const struct iod_region *region, enum iod_space space, uint64_t base,
                 const char *by, struct iod_error *error)
{
    return iod_fail(error, EBUSY, "%s: %s: %s 0x%llx to 0x%llx: taken by %s; expected another base=",
                    region->device->id, region->name, space_names[space], (unsigned long long)base,
                    (unsigned long long)(base + (region->length - 1)), by);
}

/* Devices that are being added too, and have their ranges only when they are open. */
static int check_hidden(const struct iod_region *region, enum iod_space space, uint64_t base,
                        struct iod_error *error)
{
    const struct list *devices = &region->device->guest->devices;
    for (const struct list *l = devices->next; l != devices; l = l->next) {
        const struct iod_device *device = list_entry(l, const struct iod_device, link);
        for (const struct list *k = device->regions.next; k != &device->regions; k = k->next) {
            const struct iod_region *other = list_entry(k, const struct iod_region, link);
            if (other->later && other != region && other->space == space &&
                base <= other->base + (other->length - 1) && other->base <= base + (region->length - 1)) {
                return taken(region, space, base, device->id, error);
            }
        }
    }
    return 0;
}

static int check_free(const struct iod_region *region, enum iod_space space, uint64_t base,
                      struct iod_error *error)
{
    const struct placement *other;
    const struct list *placements = &region->device->guest->spaces[space].placements;
    for (const struct list *l = placements->next; l != placements; l = l->next) {
        other = list_entry(l, const struct placement, link);
        if (other->region && other->region != region && base <= other->end &&
            other->start <= base + (region->length - 1)) {
            return taken(region, space, base, other->region->device->id, error);
        }
    }
    char text[120];
    const char *foreign = foreign_owner(region->device->guest,
                                        space == IOD_PIO ? CLAIM_PORTS : CLAIM_MMIO, base,
                                        base + (region->length - 1), text, sizeof(text));
    return foreign ? taken(region, space, base, foreign, error) : check_hidden(region, space, base, error);
}

int iod_region_place_base(struct iod_region *region, enum iod_space space, uint64_t fallback,
                          struct iod_error *error)
{
    const struct iod_device *device = region->device;
    if (!device->keys.has_base && fallback == UINT64_MAX) {
        return iod_fail(error, EINVAL, "%s: base= is missing: the %s where the guest finds the device",
                        device->id, space == IOD_PIO ? "first port" : "guest physical address");
    }
    uint64_t base = device->keys.has_base ? device->keys.base : fallback;
    int result = iod_region_place(region, space, base, error);
    return result ? result : check_free(region, space, base, error);
}

/* ---- PCI functions (core/guest.h) ---- */

static struct function_claim *function_find(struct guest *guest, uint16_t sbdf)
{
    struct function_claim *claim;
    list_for_each(claim, &guest->functions, struct function_claim, link) {
        if (claim->sbdf == sbdf) {
            return claim;
        }
    }
    return NULL;
}

int guest_claim_function(struct guest *guest, uint16_t sbdf)
{
    struct function_claim *claim = function_find(guest, sbdf);
    if (!claim) {
        claim = calloc(1, sizeof(*claim));
        if (!claim) {
            return -ENOMEM;
        }
        claim->sbdf = sbdf;
        list_add_tail(&guest->functions, &claim->link);
    }
    claim->wanted = true;
    claim->hidden = guest->hidden;
    guest->functions_dirty = true;
    return 0;
}

void guest_release_function(struct guest *guest, uint16_t sbdf)
{
    struct function_claim *claim = function_find(guest, sbdf);
    if (claim) {
        claim->wanted = false;
        claim->hidden = NULL;
        guest->functions_dirty = true;
    }
}

void functions_forget(struct guest *guest)
{
    struct function_claim *claim;
    list_for_each(claim, &guest->functions, struct function_claim, link) {
        list_remove(&claim->link);
        free(claim);
    }
}

/* ---- the commit ---- */

bool guest_dirty(const struct guest *guest)
{
    return guest->spaces[IOD_PIO].dirty || guest->spaces[IOD_MMIO].dirty || guest->functions_dirty;
}

/* The set is told first: it can run out of memory, and then the hypervisor must not know more than we do. */
static int claim_at(struct server *server, enum iod_space space, const struct interval *range)
{
    struct guest *guest = server->guest;
    struct hypervisor *hv = guest->daemon->hv;
    int error = interval_set_add(&server->ranges[space], range->start, range->end);
    if (error) {
        return error;
    }
    error = hv->ops->range_map(hv, guest->domid, server->id, space == IOD_PIO ? RANGE_PIO : RANGE_MMIO,
                               range->start, range->end);
    if (error) {
        interval_set_remove(&server->ranges[space], range->start, range->end);
    }
    record_note(server);
    return error;
}

static struct server *server_with_room(struct guest *guest, enum iod_space space)
{
    struct server *server;
    struct iod_error error;
    list_for_each(server, &guest->servers, struct server, link) {
        if (server->ranges[space].count < SERVER_RANGES_MAX) {
            return server;
        }
    }
    if (server_create(guest, &server, &error)) {
        guest_log(guest, IOD_LOG_ERROR, "%s", error.text);
        return NULL;
    }
    return server;
}

/*
 * First at the server whose range it extends (an access over both must find one range). At its limit Xen
 * extends a range only upwards; then, as for a range that stands alone, at one that has room, or at a new
 * one.
 */
static int claim_range(struct guest *guest, enum iod_space space, const struct interval *range)
{
    struct server *server;
    int error = -ENOSPC;
    list_for_each(server, &guest->servers, struct server, link) {
        if (error && interval_set_touches(&server->ranges[space], range->start, range->end)) {
            error = claim_at(server, space, range);
        }
    }
    if (error) {
        server = server_with_room(guest, space);
        error = server ? claim_at(server, space, range) : -ENOSPC;
    }
    if (error) {
        guest_log(guest, IOD_LOG_ERROR, "can't claim %s 0x%llx-0x%llx: %s; tried again at the next change",
                  space_names[space], (unsigned long long)range->start, (unsigned long long)range->end,
                  strerror(-error));
    }
    return error;
}

/* Gives up the part of the range that this server holds. */
static void release_range(struct server *server, enum iod_space space, const struct interval *range)
{
    struct guest *guest = server->guest;
    struct hypervisor *hv = guest->daemon->hv;
    struct interval_set *held = &server->ranges[space];
    for (unsigned i = 0; i < held->count; i++) {
        uint64_t start = held->items[i].start > range->start ? held->items[i].start : range->start;
        uint64_t end = held->items[i].end < range->end ? held->items[i].end : range->end;
        if (start > end) {
            continue;
        }
        int error = hv->ops->range_unmap(hv, guest->domid, server->id,
                                         space == IOD_PIO ? RANGE_PIO : RANGE_MMIO, start, end);
        if (error) {
            guest_log(guest, IOD_LOG_ERROR, "ioreq server %u: can't give up %s 0x%llx-0x%llx: %s", server->id,
                      space_names[space], (unsigned long long)start, (unsigned long long)end,
                      strerror(-error));
        }
        interval_set_remove(held, start, end);
        record_note(server);
        i = (unsigned)-1; /* the set has changed: from its start again */
    }
}

static int commit_space(struct guest *guest, enum iod_space space)
{
    struct interval_set gained, lost;
    struct server *server;
    int result = address_space_commit(&guest->spaces[space], &gained, &lost);
    if (result) {
        return result;
    }
    /* First claim, then give up: what stays must not be nobody's in between. */
    for (unsigned i = 0; i < gained.count && !guest->dead; i++) {
        int error = claim_range(guest, space, &gained.items[i]);
        if (error) { /* not claimed: the next commit finds it missing */
            interval_set_remove(&guest->spaces[space].claimed, gained.items[i].start, gained.items[i].end);
        }
        result = result ? result : error;
    }
    for (unsigned i = 0; i < lost.count && !guest->dead; i++) {
        list_for_each(server, &guest->servers, struct server, link) {
            release_range(server, space, &lost.items[i]);
        }
    }
    interval_set_clear(&gained);
    interval_set_clear(&lost);
    return result;
}

static int claim_function(struct guest *guest, struct function_claim *claim)
{
    struct hypervisor *hv = guest->daemon->hv;
    struct server *server, *room = NULL;
    list_for_each(server, &guest->servers, struct server, link) {
        if (!room && server->functions < SERVER_RANGES_MAX) {
            room = server;
        }
    }
    int error = room ? hv->ops->pcidev_map(hv, guest->domid, room->id, claim->sbdf) : -ENOSPC;
    if (error) {
        guest_log(guest, IOD_LOG_ERROR, "can't claim PCI function %02x.%x: %s", (claim->sbdf >> 3) & 0x1f,
                  claim->sbdf & 7, strerror(-error));
        return error;
    }
    room->functions++;
    claim->server = room;
    record_note(room);
    return 0;
}

static int commit_functions(struct guest *guest)
{
    struct hypervisor *hv = guest->daemon->hv;
    struct function_claim *claim;
    int result = 0;
    if (!guest->functions_dirty) {
        return 0;
    }
    guest->functions_dirty = false;
    list_for_each(claim, &guest->functions, struct function_claim, link) {
        if (claim->wanted && !claim->server && !claim->hidden && !guest->dead) {
            int error = claim_function(guest, claim);
            result = result ? result : error;
        } else if (!claim->wanted) {
            if (claim->server && !guest->dead) {
                hv->ops->pcidev_unmap(hv, guest->domid, claim->server->id, claim->sbdf);
                claim->server->functions--;
                record_note(claim->server);
            }
            list_remove(&claim->link);
            free(claim);
        }
    }
    return result;
}

int guest_commit(struct guest *guest)
{
    if (guest_dirty(guest)) {
        point_commit(guest, 0, 0);
    }
    int pio = commit_space(guest, IOD_PIO);
    int mmio = commit_space(guest, IOD_MMIO);
    int functions = commit_functions(guest);
    struct server *server;
    struct iod_error error;
    if (guest->state == GUEST_RUNNING) {
        list_for_each(server, &guest->servers, struct server, link) {
            if (!server->enabled && server_enable(server, &error)) {
                guest_log(guest, IOD_LOG_ERROR, "%s", error.text);
            }
            if (server->unbound) {
                guest_bind_later(guest);
            }
        }
    }
    return pio ? pio : mmio ? mmio : functions;
}

/* ---- a device that was hidden ---- */

static bool has_its_ranges(const struct iod_device *device)
{
    const struct guest *guest = device->guest;
    for (const struct list *l = device->regions.next; l != &device->regions; l = l->next) {
        const struct iod_region *region = list_entry(l, const struct iod_region, link);
        const struct interval_set *claimed = &guest->spaces[region->space].claimed;
        bool found = list_empty(&region->placement.link);
        for (unsigned i = 0; i < claimed->count && !found; i++) {
            found = claimed->items[i].start <= region->placement.start &&
                    claimed->items[i].end >= region->placement.end;
        }
        if (!found) {
            return false;
        }
    }
    for (const struct list *l = guest->functions.next; l != &guest->functions; l = l->next) {
        const struct function_claim *claim = list_entry(l, const struct function_claim, link);
        if (guest->bus && !claim->server && guest->bus_ops->owner(guest->bus, claim->sbdf) == device) {
            return false;
        }
    }
    return true;
}

int device_show(struct iod_device *device)
{
    struct guest *guest = device->guest;
    struct iod_region *region;
    struct function_claim *claim;
    device->hidden = false;
    list_for_each(region, &device->regions, struct iod_region, link) {
        if (region->later) {
            region->later = false;
            address_space_place(&guest->spaces[region->space], &region->placement, region->base,
                                region->length);
        }
    }
    list_for_each(claim, &guest->functions, struct function_claim, link) {
        if (claim->hidden == device) {
            claim->hidden = NULL;
            guest->functions_dirty = true;
        }
    }
    int result = guest_commit(guest);
    if (has_its_ranges(device)) {
        return 0; /* what else may be wrong is not this device's */
    }
    device->hidden = true; /* going again: it leaves no hole */
    return result ? result : -EIO;
}
