/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way of one access: event -> slot -> request copied out once -> single accesses (REP, direction, data by
 * pointer, region borders, widths) -> handlers -> answer. The split is a cursor that stops anywhere (struct
 * iod_access), because a handler may end its access later and because a guest has a budget per round.
 */
#include <errno.h>
#include <string.h>

#include "core/inside.h"

/* Handler calls that one guest gets before the others have their turn. */
#define ROUND_BUDGET 512
#define RING_BUDGET 512
/* What an element costs whose data is in no memory: each asks the hypervisor for the page, in vain, twice. */
#define HOLE_COST 64

enum step { STEP_DONE, STEP_WAIT, STEP_BUDGET };

static uint64_t ones(unsigned bytes)
{
    return bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (bytes * 8)) - 1;
}

static struct guest *guest_of(const struct iod_access *access)
{
    return access->server->guest;
}

/* ---- queues ---- */

static void queue(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    list_remove(&access->link);
    access->state = ACCESS_READY;
    list_add_tail(&guest->ready, &access->link);
    if (list_empty(&guest->run_link)) {
        list_add_tail(&guest->daemon->run_queue, &guest->run_link);
    }
}

void dispatch_ready(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    queue(access);
    guest->daemon->loop->ops->task_soon(guest->daemon->run_task);
}

static void park(struct iod_access *access, struct iod_device *device)
{
    access->state = ACCESS_PARKED;
    access->device = device;
    list_add_tail(&device->waiters, &access->link);
}

void dispatch_wake_waiters(struct iod_device *device)
{
    struct iod_access *access;
    list_for_each(access, &device->waiters, struct iod_access, link) {
        access->device = NULL;
        dispatch_ready(access);
    }
}

void dispatch_event(struct daemon *daemon, uint32_t port)
{
    struct iod_access *access = port < daemon->port_room ? daemon->ports[port] : NULL;
    if (!access) {
        return; /* unbound while its event was on the way */
    }
    if (access->state == ACCESS_IDLE) {
        dispatch_ready(access);
    } /* else its slot is looked at anyway; a vCPU sends nothing new before it was answered */
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
                             const struct iod_region *region, uint64_t offset, unsigned width)
{
    uint64_t value = 0;
    device->current = access;
    device->deferred_now = false;
    if (access->request.read) {
        value = region->ops->read(region->self, offset, width);
    } else {
        region->ops->write(region->self, offset, width, (access->value >> (access->done * 8)) & ones(width));
    }
    device->current = NULL;
    if (device->deferred_now) {
        return STEP_WAIT;
    }
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
    if (!device_answers(device)) {
        if (device->state != DEVICE_BROKEN) {
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
    }
    access->part_bytes = (uint8_t)bytes;
    access->part_shift = 0;
    store_part(access, segment ? 0 : UINT64_MAX);
    return STEP_DONE;
}

static enum step touch_function(struct iod_access *access, uint64_t address)
{
    struct guest *guest = guest_of(access);
    uint16_t sbdf = (uint16_t)(address >> 32);
    unsigned offset = address & 0xfff;
    unsigned width = access->request.size;
    struct iod_device *device = guest->bus ? guest->bus_ops->owner(guest->bus, sbdf) : NULL;
    access->part_bytes = (uint8_t)width;
    access->part_shift = 0;
    if (!device || device->state == DEVICE_BROKEN) {
        guest->unclaimed += !device;
        store_part(access, UINT64_MAX);
        return STEP_DONE;
    }
    if (!device_answers(device)) {
        park(access, device);
        return STEP_WAIT;
    }
    uint64_t value = 0;
    device->current = access;
    device->deferred_now = false;
    if (access->request.read) {
        value = guest->bus_ops->read(guest->bus, sbdf, offset, width);
    } else {
        guest->bus_ops->write(guest->bus, sbdf, offset, width, (uint32_t)(access->value & ones(width)));
    }
    device->current = NULL;
    if (device->deferred_now) {
        return STEP_WAIT;
    }
    store_part(access, value);
    return STEP_DONE;
}

static void charge_hole(struct iod_access *access, unsigned *budget)
{
    guest_of(access)->malformed++;
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
static enum step advance(struct iod_access *access, unsigned *budget)
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
static bool begin(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    struct request *request = &access->request;
    access->active = true;
    access->element = 0;
    access->done = 0;
    access->fetched = false;
    access->value = 0;
    switch (request->type) {
    case REQUEST_PIO:
    case REQUEST_COPY:
    case REQUEST_PCI_CONFIG:
        if (well_formed(request)) {
            return true;
        }
        break;
    case REQUEST_INVALIDATE:
        memory_invalidate(guest->memory);
        return false;
    case REQUEST_TIMEOFFSET: /* the guest set Xen's RTC: nothing of ours keeps its time */
        return false;
    case REQUEST_OTHER:
        break;
    }
    guest->malformed++;
    access->value = UINT64_MAX;
    return false;
}

static void answer(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    struct daemon *daemon = guest->daemon;
    struct server *server = access->server;
    if (guest_dirty(guest)) {
        guest_commit(guest); /* before the vCPU goes on: its next access may be to the new place */
    }
    access->active = false;
    if (access->vcpu == RING_VCPU) {
        return;
    }
    uint64_t data = access->request.data_is_ptr ? access->request.data : access->value;
    if (!access->request.data_is_ptr) {
        data &= ones(access->request.size);
    }
    daemon->hv->ops->slot_answer(server->pages, access->vcpu, data);
    if (daemon->notify_count == EVENT_BATCH) {
        dispatch_flush(daemon);
    }
    daemon->notify[daemon->notify_count++] = access->local;
}

/* Serves the request that the cursor holds. True: it is answered. */
static bool serve_request(struct iod_access *access, unsigned *budget)
{
    switch (advance(access, budget)) {
    case STEP_DONE:
        answer(access);
        return true;
    case STEP_BUDGET:
        queue(access); /* dispatch_run comes back after a look at the descriptors: others have their turn */
        return false;
    case STEP_WAIT:
        break;
    }
    return false;
}

static bool take(struct iod_access *access)
{
    struct hypervisor *hv = guest_of(access)->daemon->hv;
    struct ioreq_pages *pages = access->server->pages;
    if (access->vcpu == RING_VCPU) {
        return hv->ops->ring_take(pages, &access->request) > 0;
    }
    return hv->ops->slot_take(pages, access->vcpu, false, &access->request) > 0;
}

/* Serves what the ring holds. False: it must be waited for (a device, or the next round). */
static bool drain_ring(struct server *server, unsigned *budget)
{
    struct iod_access *ring = &server->ring;
    if (ring->state == ACCESS_PARKED || ring->state == ACCESS_DEFERRED) {
        return false;
    }
    list_remove(&ring->link);
    ring->state = ACCESS_IDLE;
    if (ring->active && !serve_request(ring, budget)) {
        return false;
    }
    for (unsigned i = 0; i < RING_BUDGET && *budget; i++) {
        if (!take(ring)) {
            return true;
        }
        (*budget)--; /* also for what is malformed: a guest that refills the ring must not hold the round */
        if (!begin(ring)) {
            answer(ring);
        } else if (!serve_request(ring, budget)) {
            return false;
        }
    }
    dispatch_ready(ring); /* not empty yet, as far as we know: nobody may overtake it */
    return false;
}

static void serve(struct iod_access *access, unsigned *budget)
{
    struct server *server = access->server;
    access->state = ACCESS_IDLE;
    if (server->buf != BUFIOREQ_OFF) {
        /* Buffered writes came first. */
        if (!drain_ring(server, budget)) {
            if (access->vcpu != RING_VCPU) {
                /* Behind the ring's own cursor, wherever that waits. */
                list_add_tail(&server->guest->behind_ring, &access->link);
                access->state = ACCESS_PARKED;
            }
            return;
        }
        struct iod_access *behind;
        list_for_each(behind, &server->guest->behind_ring, struct iod_access, link) {
            if (behind->server == server) {
                dispatch_ready(behind);
            }
        }
        if (access->vcpu == RING_VCPU) {
            return;
        }
    }
    if (!access->active) {
        if (!take(access)) {
            return;
        }
        if (!begin(access)) {
            answer(access);
            return;
        }
    }
    serve_request(access, budget);
}

static void run_guest(struct guest *guest)
{
    unsigned budget = ROUND_BUDGET;
    /* What becomes ready meanwhile is for the next round. */
    struct list round;
    list_init(&round);
    while (!list_empty(&guest->ready)) {
        struct list *first = guest->ready.next;
        list_remove(first);
        list_add_tail(&round, first);
    }
    while (!list_empty(&round)) {
        struct iod_access *access = list_first(&round, struct iod_access, link);
        list_remove(&access->link);
        if (budget) {
            serve(access, &budget);
        } else {
            list_add_tail(&guest->ready, &access->link);
        }
    }
}

void dispatch_flush(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->notify_count; i++) {
        daemon->hv->ops->event_notify(daemon->hv, daemon->notify[i]);
    }
    daemon->notify_count = 0;
}

void dispatch_run(struct daemon *daemon)
{
    struct list round;
    list_init(&round);
    while (!list_empty(&daemon->run_queue)) {
        struct list *first = daemon->run_queue.next;
        list_remove(first);
        list_add_tail(&round, first);
    }
    struct guest *guest;
    while ((guest = list_first(&round, struct guest, run_link))) {
        list_remove(&guest->run_link);
        run_guest(guest);
        if (!list_empty(&guest->ready) && list_empty(&guest->run_link)) {
            list_add_tail(&daemon->run_queue, &guest->run_link);
        }
    }
    if (!list_empty(&daemon->run_queue)) {
        daemon->loop->ops->task_again(daemon->run_task);
    }
}

/* ---- deferring (include/ioreqd/region.h) ---- */

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
    return access;
}

void iod_access_complete(struct iod_access *access, uint64_t value)
{
    struct iod_device *device = access->device;
    if (access->state != ACCESS_DEFERRED || !device) {
        return; /* the device is gone, and the access was ended for it */
    }
    device->busy = NULL;
    access->device = NULL;
    store_part(access, value);
    dispatch_ready(access);
    dispatch_wake_waiters(device);
}

void dispatch_forget_device(struct iod_device *device)
{
    if (device->busy) {
        iod_access_complete(device->busy, UINT64_MAX);
    }
    dispatch_wake_waiters(device);
}
