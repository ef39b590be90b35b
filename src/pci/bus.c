/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who sits where on a guest's PCI buses (bus 0, and one behind each root port), and whom a configuration
 * cycle reaches.
 */
#include <errno.h>
#include <stdlib.h>

#include "pci/bus.h"
#include "pci/pci.h"
#include "pci/port.h"

static struct iod_pci *bus_find(const struct pci_bus *bus, uint16_t sbdf)
{
    if (sbdf < PCI_SLOTS * PCI_FUNCTIONS) {
        return bus->functions[sbdf];
    }
    return sbdf % (PCI_SLOTS * PCI_FUNCTIONS) == 0 ? pci_port_child(bus, (uint8_t)(sbdf >> 8)) : NULL;
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

/* Neither ours nor, as far as is known, another emulator's. */
static bool slot_free(const struct pci_bus *bus, const struct guest *guest, unsigned slot)
{
    char text[120];

    for (unsigned function = 0; function < PCI_FUNCTIONS; function++) {
        unsigned devfn = slot * PCI_FUNCTIONS + function;

        if (bus->functions[devfn] || guest_function_owner(guest, (uint16_t)devfn, text, sizeof(text))) {
            return false;
        }
    }
    return true;
}

/*
 * The default place: upwards alone; from the far end downwards beside another emulator, which fills its bus
 * from below. Only what the configuration names earlier decides, so it is the same at each start.
 */
static int default_slot(const struct pci_bus *bus, const struct guest *guest)
{
    bool beside = guest_beside(guest);


    for (unsigned i = PCI_FIRST_SLOT; i < PCI_SLOTS; i++) {
        unsigned slot = beside ? PCI_SLOTS - 1 - (i - PCI_FIRST_SLOT) : i;

        if (slot_free(bus, guest, slot)) {
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
        int found = default_slot(bus, device_guest(pci->device));

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
            list_init(&bus->ports);
            guest_bus_set(guest, bus, &bus_ops);
        }
    }
    return bus;
}

/*
 * The root port that the device goes behind: that of slot=, or, for one plugged into a running guest that
 * names no place, the first empty one. NULL: none; *error says if that is wrong.
 */
static struct pci_port *choose_port(const struct pci_bus *bus, const struct iod_pci *pci, int wanted,
                                    struct iod_error *error)
{
    const struct device_keys *keys = device_keys(pci->device);
    struct pci_port *port = NULL;

    if (keys->has_port) {
        port = pci_port_find(bus, keys->port);
        if (!port) {
            iod_fail(error, ENODEV, "%s: slot=%u: the guest has no such slot; slots=N of the guest makes N",
                     iod_device_id(pci->device), keys->port);
        }
    } else if (!keys->has_slot && wanted < 0 && device_is_hot(pci->device)) {
        port = pci_port_find(bus, 0);
        if (!port && !list_empty(&bus->ports)) {
            iod_fail(error, ENOSPC, "%s: no slot is empty", iod_device_id(pci->device));
        }
    }
    return port;
}

int pci_bus_join(struct iod_pci *pci, int wanted, struct iod_error *error)
{
    struct guest *guest = device_guest(pci->device);
    struct pci_bus *bus = bus_of(guest);
    struct iod_error none = {0};
    struct pci_port *port;
    const char *owner;
    char text[120];
    int devfn, result;

    if (!bus) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(pci->device));
    }
    port = choose_port(bus, pci, wanted, &none);
    if (none.code) {
        *error = none;
        return -none.code;
    }
    if (port) {
        result = pci_port_plug(port, pci, error);
        pci->bus = result ? NULL : bus;
        return result;
    }
    devfn = choose_devfn(bus, pci, wanted, error);
    if (devfn < 0) {
        return devfn;
    }
    owner = bus->functions[devfn] ? iod_device_id(bus->functions[devfn]->device)
                                  : guest_function_owner(guest, (uint16_t)devfn, text, sizeof(text));
    if (owner) {
        return iod_fail(error, EBUSY, "%s: PCI address %02x.%x is taken by %s", iod_device_id(pci->device),
                        (unsigned)devfn / PCI_FUNCTIONS, (unsigned)devfn % PCI_FUNCTIONS, owner);
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
    if (pci->port) {
        pci_port_unplug(pci->port);
        pci->bus = NULL;
    } else if (pci->bus) {
        pci->bus->functions[pci->devfn] = NULL;
        guest_release_function(device_guest(pci->device), pci->devfn);
        pci->bus = NULL;
    }
}

bool pci_bus_shared_slot(const struct iod_pci *pci)
{
    unsigned slot = pci->devfn / PCI_FUNCTIONS;

    for (unsigned function = 0; function < PCI_FUNCTIONS && !pci->port; function++) {
        const struct iod_pci *other = pci->bus->functions[slot * PCI_FUNCTIONS + function];

        if (other && other != pci) {
            return true;
        }
    }
    return false;
}
