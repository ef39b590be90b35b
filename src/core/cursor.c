/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cursor over one request: element by element (REP, direction, data by pointer), each part by part
 * (borders of regions, widths), each part one handler call. It stops anywhere, because a handler may end its
 * part later and because a guest has a budget per round.
 */
#include "core/cursor.h"

#include <errno.h>
#include <string.h>

#include "core/points.h"

/* What an element costs whose data is in no memory: each asks the hypervisor for the page, in vain, twice. */
#define HOLE_COST 64

static uint64_t ones(unsigned bytes)
{
    return bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (bytes * 8)) - 1;
}

static struct guest *guest_of(const struct iod_access *access)
{
    return access->server->guest;
}

/* ---- waiting for a device ---- */

static void park(struct iod_access *access, struct iod_device *device)
{
    access->state = ACCESS_PARKED;
    access->device = device;
    list_add_tail(&device->waiters, &access->link);
    point_park(access, 0);
    stuck_note(access);
}

void dispatch_wake_waiters(struct iod_device *device)
{
    struct iod_access *access;
    list_for_each(access, &device->waiters, struct iod_access, link) {
        access->device = NULL;
        point_wake(access, 0);
        dispatch_ready(access);
    }
}

/*
 * The device does not answer now. False: nor will it soon, a read gets all ones (it is broken, or it has kept a
 * vCPU waiting too long and has not answered since).
 */
static bool must_wait(const struct iod_access *access, const struct iod_device *device)
{
    return device->state != DEVICE_BROKEN && !(device->unanswering && access->request.read);
}

/* ---- one part: one handler call ---- */

/* The widest handler call that begins at offset and covers at most `bytes`; 0: none fits. */
static unsigned fitting_width(const struct iod_region_ops *ops, uint64_t offset, unsigned bytes)
{
    for (unsigned width = 8; width; width /= 2) {
        if ((ops->widths & width) && width <= bytes && (ops->unaligned || offset % width == 0)) {
            return width;
        }
    }
    return 0;
}

/* The narrowest aligned register around offset, for an access that is narrower than any handler; 0: none. */
static unsigned enclosing_width(const struct iod_region *region, uint64_t offset)
{
    for (unsigned width = 1; width <= 8; width *= 2) {
        uint64_t start = offset & ~(uint64_t)(width - 1);
        if ((region->ops->widths & width) && width <= region->length && start <= region->length - width) {
            return width;
        }
    }
    return 0;
}

static void store_part(struct iod_access *access, uint64_t value)
{
    if (access->request.read) {
        uint64_t part = (value >> access->part_shift) & ones(access->part_bytes);
        access->value |= part << (access->done * 8);
    }
    access->done += access->part_bytes;
}

/* Calls the handler. STEP_WAIT: it deferred. */
static enum step call_device(struct iod_access *access, struct iod_device *device,
                             struct iod_region *region, uint64_t offset, unsigned width)
{
    uint64_t value = access->request.read ? 0 : (access->value >> (access->done * 8)) & ones(width);
    region->watch.hits++;
    device->watch.accesses++;
    point_enter(access, device, region->name, offset, width, value);
    device->current = access;
    device->deferred_now = false;
    if (access->request.read) {
        value = region->ops->read(region->self, offset, width);
    } else {
        region->ops->write(region->self, offset, width, value);
    }
    device->current = NULL;
    if (device->deferred_now) {
        return STEP_WAIT;
    }
    point_leave(access, device, region->name, offset, width, value);
    store_part(access, value);
    return STEP_DONE;
}

static enum step touch_region(struct iod_access *access, const struct segment *segment, uint64_t address,
                              unsigned bytes)
{
    struct iod_region *region = segment->region;
    struct iod_device *device = region->device;
    uint64_t offset = address - segment->base;
    access->part_shift = 0;
    access->watch.device = device;
    access->watch.region = region;
    if (!device_answers(device)) {
        if (must_wait(access, device)) {
            park(access, device);
            return STEP_WAIT;
        }
        access->part_bytes = (uint8_t)bytes;
        store_part(access, UINT64_MAX);
        return STEP_DONE;
    }
    unsigned width = fitting_width(region->ops, offset, bytes);
    if (width) {
        access->part_bytes = (uint8_t)width;
        return call_device(access, device, region, offset, width);
    }
    width = enclosing_width(region, offset);
    uint64_t start = width ? offset & ~(uint64_t)(width - 1) : offset;
    unsigned covered = width ? (unsigned)(start + width - offset) : bytes;
    access->part_bytes = (uint8_t)(covered < bytes ? covered : bytes);
    if (!width || !access->request.read) {
        iod_guest_error(device, "%s: %u byte %s at offset 0x%llx: no such register width", region->name,
                        bytes, access->request.read ? "read" : "write", (unsigned long long)offset);
        store_part(access, UINT64_MAX);
        return STEP_DONE;
    }
    access->part_shift = (uint8_t)((offset - start) * 8);
    return call_device(access, device, region, start, width);
}

/* ---- one element ---- */

static uint64_t element_offset(const struct request *request, uint32_t element)
{
    uint64_t distance = (uint64_t)element * request->size;
    return request->df ? 0 - distance : distance;
}

static enum step touch_space(struct iod_access *access, struct address_space *space, uint64_t address)
{
    unsigned bytes = access->request.size - access->done;
    uint64_t gap_end;
    address += access->done;
    const struct segment *segment = address_space_find(space, address, &gap_end);
    uint64_t last = segment ? segment->end : gap_end;
    if (last - address < bytes - 1) {
        bytes = (unsigned)(last - address) + 1;
    }
    if (segment && segment->region) {
        return touch_region(access, segment, address, bytes);
    }
    if (!segment) {
        guest_of(access)->unclaimed++;
        limit_charge(guest_of(access), DEED_UNCLAIMED, 1);
    }
    access->part_bytes = (uint8_t)bytes;
    access->part_shift = 0;
    store_part(access, segment ? 0 : UINT64_MAX);
    return STEP_DONE;
}

/* Calls the function's configuration space. As call_device. */
static enum step call_function(struct iod_access *access, struct iod_device *device, uint16_t sbdf, unsigned offset)
{
    struct guest *guest = guest_of(access);
    unsigned width = access->request.size;
    uint64_t value = access->request.read ? 0 : access->value & ones(width);
    device->watch.accesses++;
    point_enter(access, device, "config", offset, width, value);
    device->current = access;
    device->deferred_now = false;
    if (access->request.read) {
        value = guest->bus_ops->read(guest->bus, sbdf, offset, width);
    } else {
        guest->bus_ops->write(guest->bus, sbdf, offset, width, (uint32_t)value);
    }
    device->current = NULL;
    if (device->deferred_now) {
        return STEP_WAIT;
    }
    point_leave(access, device, "config", offset, width, value);
    store_part(access, value);
    return STEP_DONE;
}

static enum step touch_function(struct iod_access *access, uint64_t address)
{
    struct guest *guest = guest_of(access);
    uint16_t sbdf = (uint16_t)(address >> 32);
    struct iod_device *device = guest->bus ? guest->bus_ops->owner(guest->bus, sbdf) : NULL;
    access->part_bytes = (uint8_t)access->request.size;
    access->part_shift = 0;
    access->watch.device = device;
    access->watch.region = NULL;
    limit_charge(guest, DEED_CONFIG, 1);
    if (!device) {
        guest->unclaimed++;
        limit_charge(guest, DEED_UNCLAIMED, 1);
    } else if (device_answers(device)) {
        return call_function(access, device, sbdf, address & 0xfff);
    } else if (must_wait(access, device)) {
        park(access, device);
        return STEP_WAIT;
    }
    store_part(access, UINT64_MAX);
    return STEP_DONE;
}

static void charge_hole(struct iod_access *access, unsigned *budget)
{
    guest_of(access)->malformed++;
    limit_charge(guest_of(access), DEED_HOLE, 1);
    *budget -= *budget < HOLE_COST ? *budget : HOLE_COST;
}

static void fetch_element(struct iod_access *access, unsigned *budget)
{
    const struct request *request = &access->request;
    access->value = 0;
    access->fetched = true;
    if (request->read) {
        return;
    }
    if (!request->data_is_ptr) {
        access->value = request->data & ones(request->size);
        return;
    }
    uint64_t at = request->data + element_offset(request, access->element);
    if (memory_copy(guest_of(access)->memory, at, &access->value, request->size, false)) {
        access->value = ones(request->size); /* as a read of nothing */
        charge_hole(access, budget);
    }
}

static void finish_element(struct iod_access *access, unsigned *budget)
{
    const struct request *request = &access->request;
    if (request->read && request->data_is_ptr) {
        uint64_t at = request->data + element_offset(request, access->element);
        if (memory_copy(guest_of(access)->memory, at, &access->value, request->size, true)) {
            charge_hole(access, budget);
        }
    }
    access->element++;
    access->done = 0;
    access->fetched = false;
}

/* Moves the cursor on until the request is done, a device must be waited for, or the budget is used up. */
enum step cursor_advance(struct iod_access *access, unsigned *budget)
{
    struct guest *guest = guest_of(access);
    const struct request *request = &access->request;
    while (access->element < request->count) {
        if (!*budget) {
            return STEP_BUDGET;
        }
        if (!access->fetched) {
            fetch_element(access, budget);
        }
        while (access->done < request->size) {
            enum step step;
            if (*budget) {
                (*budget)--;
            }
            if (request->type == REQUEST_PIO) {
                step = touch_space(access, &guest->spaces[IOD_PIO], request->addr);
            } else if (request->type == REQUEST_COPY) {
                step = touch_space(access, &guest->spaces[IOD_MMIO],
                                   request->addr + element_offset(request, access->element));
            } else {
                step = touch_function(access, request->addr);
            }
            if (step != STEP_DONE) {
                return step;
            }
        }
        finish_element(access, budget);
    }
    return STEP_DONE;
}

/* ---- one request ---- */

static bool well_formed(const struct request *request)
{
    uint32_t size = request->size;
    bool number = size == 1 || size == 2 || size == 4 || size == 8;
    if (!number || (size == 8 && request->type != REQUEST_COPY)) {
        return false;
    }
    return request->count && (request->type != REQUEST_PIO || request->addr <= UINT16_MAX);
}

/* Takes the request on. Requests that need no device are over at once (false). */
bool cursor_begin(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    struct request *request = &access->request;
    access->active = true;
    access->element = 0;
    access->done = 0;
    access->fetched = false;
    access->value = 0;
    guest->watch.types[request->type]++;
    access->server->watch.taken++;
    switch (request->type) {
    case REQUEST_PIO:
    case REQUEST_COPY:
    case REQUEST_PCI_CONFIG:
        if (well_formed(request)) {
            return true;
        }
        break;
    case REQUEST_INVALIDATE:
        limit_charge(guest, DEED_INVALIDATE, 1);
        memory_invalidate(guest->memory);
        return false;
    case REQUEST_TIMEOFFSET: /* the guest set Xen's RTC: nothing of ours keeps its time */
        return false;
    case REQUEST_OTHER:
        break;
    }
    guest->malformed++;
    limit_charge(guest, DEED_MALFORMED, 1);
    access->value = UINT64_MAX;
    return false;
}

/* ---- deferring (include/ioreqd/region.h) ---- */

/*
 * What a device gets is a handle of its own, not the cursor: the vCPU may have gone on (stuck.h), and be
 * deep in another access, when the device completes.
 */
struct iod_access *iod_access_defer(struct iod_device *device)
{
    struct iod_access *access = device->current;
    if (!access || device->deferred_now) {
        return NULL;
    }
    device->deferred_now = true;
    device->busy = access;
    access->state = ACCESS_DEFERRED;
    access->device = device;
    device->handle.state = ACCESS_DEFERRED;
    device->handle.device = device;
    point_defer(access, 0);
    stuck_note(access);
    return &device->handle;
}

/* It goes on. What it waits for from now on it has not waited for yet. */
static void end_part(struct iod_access *access, uint64_t value)
{
    list_remove(&access->watch.link);
    access->watch.since_ns = 0;
    access->watch.reported = false;
    access->device = NULL;
    store_part(access, value);
    dispatch_ready(access);
}

void iod_access_complete(struct iod_access *handle, uint64_t value)
{
    struct iod_device *device = handle->device;
    if (handle->state != ACCESS_DEFERRED || !device) {
        return; /* the device is gone, and the access was ended for it */
    }
    struct iod_access *access = device->busy;
    handle->state = ACCESS_IDLE;
    device->busy = NULL;
    device->unanswering = false;
    if (access != handle) { /* else nobody waits for it any more */
        point_complete(access, value);
        end_part(access, value);
    }
    dispatch_wake_waiters(device);
}

void dispatch_give_up(struct iod_access *access)
{
    struct iod_device *device = access->device;
    device->unanswering = true;
    if (access->state == ACCESS_DEFERRED) {
        device->busy = &device->handle; /* it still owes its completion, and takes no access before */
        end_part(access, UINT64_MAX);
    }
    dispatch_wake_waiters(device);
}

void dispatch_forget_device(struct iod_device *device)
{
    if (device->busy) {
        iod_access_complete(&device->handle, UINT64_MAX);
    }
    dispatch_wake_waiters(device);
}

void dispatch_forget_access(struct iod_access *access)
{
    if (access->state == ACCESS_DEFERRED && access->device) {
        access->device->busy = NULL;
        access->device->handle.state = ACCESS_IDLE;
    }
    list_remove(&access->link);
    access->device = NULL;
    access->state = ACCESS_IDLE;
    access->active = false;
    watch_access_end(access);
}
