/* SPDX-License-Identifier: BSD-2-Clause */
/* The ways between the fake guest and a device: regions, accesses, configuration cycles, wires. */
#include "fake_guest.h"

#include <errno.h>
#include <stdlib.h>

struct iod_access {
    struct iod_device *device;
};

/* ---- regions and accesses ---- */

struct iod_region *iod_region_add(struct iod_device *device, const char *name, uint64_t length,
                                  const struct iod_region_ops *ops, void *self)
{
    struct iod_region *region = calloc(1, sizeof(*region));

    if (region) {
        *region = (struct iod_region){.device = device, .length = length, .ops = ops, .self = self};
        list_add_tail(&device->regions, &region->link);
    }
    return region;
}

uint64_t region_length(const struct iod_region *region)
{
    return region->length;
}

int iod_region_place(struct iod_region *region, enum iod_space space, uint64_t base, struct iod_error *error)
{
    if (base >> 48) {
        return iod_fail(error, ERANGE, "beyond the end");
    }
    region->space = space;
    region->base = base;
    region->shown = true;
    region->placed++;
    return 0;
}

void iod_region_hide(struct iod_region *region)
{
    region->shown = false;
}

int iod_region_place_base(struct iod_region *region, enum iod_space space, uint64_t fallback,
                          struct iod_error *error)
{
    return iod_region_place(region, space, region->device->keys.base, error);
}

struct iod_access *iod_access_defer(struct iod_device *device)
{
    struct iod_access *access;

    if (!device->handling || device->access) {
        return NULL;
    }
    access = calloc(1, sizeof(*access));
    if (!access) {
        abort();
    }
    access->device = device;
    device->access = access;
    return access;
}

void iod_access_complete(struct iod_access *access, uint64_t value)
{
    if (access->device->handling) {
        abort(); /* not from inside the handler */
    }
    access->device->access = NULL;
    free(access);
}

struct iod_region *fake_region(struct iod_device *device, unsigned index)
{
    struct list *at = device->regions.next;

    while (index--) {
        at = at->next;
    }
    return list_entry(at, struct iod_region, link);
}

uint64_t fake_read(struct iod_region *region, uint64_t offset, unsigned width)
{
    return region->ops->read(region->self, offset, width);
}

bool fake_write(struct iod_region *region, uint64_t offset, unsigned width, uint64_t value)
{
    region->device->handling = true;
    region->ops->write(region->self, offset, width, value);
    region->device->handling = false;
    return !region->device->access;
}

/* ---- configuration cycles ---- */

uint32_t fake_config_read(struct guest *guest, unsigned slot, unsigned offset, unsigned width)
{
    return guest->bus_ops->read(guest->bus, (uint16_t)(slot * 8), offset, width);
}

void fake_config_write(struct guest *guest, unsigned slot, unsigned offset, unsigned width, uint32_t value)
{
    struct iod_device *owner = guest->bus_ops->owner(guest->bus, (uint16_t)(slot * 8));

    if (owner) {
        owner->handling = true;
    }
    guest->bus_ops->write(guest->bus, (uint16_t)(slot * 8), offset, width, value);
    if (owner) {
        owner->handling = false;
    }
}

/* ---- wires ---- */

struct iod_irq *irq_make(struct iod_device *device, int (*set)(void *self, bool level), void *self)
{
    struct iod_irq *irq = calloc(1, sizeof(*irq));

    if (irq) {
        irq->device = device;
        irq->set = set;
        irq->self = self;
        list_add_tail(&device->irqs, &irq->link);
    }
    return irq;
}

static int plain_wire(void *self, bool level)
{
    struct iod_device *device = self;

    device->raised += level;
    device->line = level;
    return 0;
}

struct iod_irq *iod_irq_get(struct iod_device *device, int fallback, struct iod_error *error)
{
    return device->polled ? NULL : irq_make(device, plain_wire, device);
}

void iod_irq_raise(struct iod_irq *irq)
{
    irq->set(irq->self, true);
}

void iod_irq_lower(struct iod_irq *irq)
{
    irq->set(irq->self, false);
}
