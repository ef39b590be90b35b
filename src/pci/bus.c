/* SPDX-License-Identifier: BSD-2-Clause */
/* Who sits where on a guest's one PCI bus, and whom a configuration cycle reaches. */
#include <errno.h>
#include <stdlib.h>

#include "pci/pci.h"
#include "pci/bus.h"

static struct iod_pci *bus_find(const struct pci_bus *bus, uint16_t sbdf)
{
    return sbdf < PCI_SLOTS * PCI_FUNCTIONS ? bus->functions[sbdf] : NULL;
}

static struct iod_device *bus_owner(void *bus, uint16_t sbdf)
{
    const struct iod_pci *pci = bus_find(bus, sbdf);

    return pci ? pci->device : NULL;
}

/* An access past the end of the 256 bytes reaches nothing: Xen may send 4 bytes at 0xfe. */
static bool in_config_space(unsigned offset, unsigned width)
{
    return (width == 1 || width == 2 || width == 4) && offset <= PCI_CONFIG_SIZE - width;
}

static uint32_t bus_read(void *bus, uint16_t sbdf, unsigned offset, unsigned width)
{
    struct iod_pci *pci = bus_find(bus, sbdf);

    if (!pci || !in_config_space(offset, width)) {
        return UINT32_MAX;
    }
    return pci_config_read(pci, offset, width);
}

static void bus_write(void *bus, uint16_t sbdf, unsigned offset, unsigned width, uint32_t value)
{
    struct iod_pci *pci = bus_find(bus, sbdf);

    if (pci && in_config_space(offset, width)) {
        pci_config_write(pci, offset, width, value);
    }
}

static const struct config_space_ops bus_ops = {
    .owner = bus_owner,
    .read = bus_read,
    .write = bus_write,
    .destroy = free,
};

static bool slot_free(const struct pci_bus *bus, unsigned slot)
{
    for (unsigned function = 0; function < PCI_FUNCTIONS; function++) {
        if (bus->functions[slot * PCI_FUNCTIONS + function]) {
            return false;
        }
    }
    return true;
}

/*
 * The default place: upwards alone; from the far end downwards beside another emulator, which fills its bus
 * from below. Only what the configuration names earlier decides, so it is the same at each start.
 */
static int default_slot(const struct pci_bus *bus, bool beside)
{
    for (unsigned i = PCI_FIRST_SLOT; i < PCI_SLOTS; i++) {
        unsigned slot = beside ? PCI_SLOTS - 1 - (i - PCI_FIRST_SLOT) : i;

        if (slot_free(bus, slot)) {
            return (int)slot;
        }
    }
    return -1;
}

static int choose_devfn(const struct pci_bus *bus, const struct iod_pci *pci, int wanted,
                        struct iod_error *error)
{
    const struct device_keys *keys = device_keys(pci->device);
    unsigned slot, function = 0;

    if (keys->has_slot) {
        slot = keys->slot;
        function = keys->function;
    } else if (wanted >= 0) {
        slot = (unsigned)wanted;
    } else {
        int found = default_slot(bus, guest_beside(device_guest(pci->device)));

        if (found < 0) {
            return iod_fail(error, ENOSPC, "%s: no PCI slot is free; place it with addr=SLOT.FUNCTION",
                            iod_device_id(pci->device));
        }
        slot = (unsigned)found;
    }
    if (slot >= PCI_SLOTS || function >= PCI_FUNCTIONS) {
        return iod_fail(error, EINVAL, "%s: addr=%x.%x: a slot is 0 to 1f, a function 0 to 7",
                        iod_device_id(pci->device), slot, function);
    }
    return (int)(slot * PCI_FUNCTIONS + function);
}

static struct pci_bus *bus_of(struct guest *guest)
{
    struct pci_bus *bus = guest_bus(guest);

    if (!bus) {
        bus = calloc(1, sizeof(*bus));
        if (bus) {
            guest_bus_set(guest, bus, &bus_ops);
        }
    }
    return bus;
}

int pci_bus_join(struct iod_pci *pci, int wanted, struct iod_error *error)
{
    struct guest *guest = device_guest(pci->device);
    struct pci_bus *bus = bus_of(guest);
    int devfn, result;

    if (!bus) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(pci->device));
    }
    devfn = choose_devfn(bus, pci, wanted, error);
    if (devfn < 0) {
        return devfn;
    }
    if (bus->functions[devfn]) {
        return iod_fail(error, EBUSY, "%s: PCI address %02x.%x is taken by %s", iod_device_id(pci->device),
                        (unsigned)devfn / PCI_FUNCTIONS, (unsigned)devfn % PCI_FUNCTIONS,
                        iod_device_id(bus->functions[devfn]->device));
    }
    result = guest_claim_function(guest, (uint16_t)devfn);
    if (result < 0) {
        return iod_fail(error, -result, "%s: PCI address %02x.%x can't be claimed",
                        iod_device_id(pci->device), (unsigned)devfn / PCI_FUNCTIONS,
                        (unsigned)devfn % PCI_FUNCTIONS);
    }
    pci->bus = bus;
    pci->devfn = (uint8_t)devfn;
    bus->functions[devfn] = pci;
    return 0;
}

void pci_bus_leave(struct iod_pci *pci)
{
    if (pci->bus) {
        pci->bus->functions[pci->devfn] = NULL;
        guest_release_function(device_guest(pci->device), pci->devfn);
        pci->bus = NULL;
    }
}

bool pci_bus_shared_slot(const struct iod_pci *pci)
{
    unsigned slot = pci->devfn / PCI_FUNCTIONS;

    for (unsigned function = 0; function < PCI_FUNCTIONS; function++) {
        const struct iod_pci *other = pci->bus->functions[slot * PCI_FUNCTIONS + function];

        if (other && other != pci) {
            return true;
        }
    }
    return false;
}
