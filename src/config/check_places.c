/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SPI_FIRST = 32, SPI_LAST = 1019, VPL011_SPI = 32 };

/* What Xen itself puts into an Arm guest (public/arch-arm.h). */
static const struct {
    uint64_t base, size;
    bool fatal;
    const char *name;
} xen_ranges[] = {
    {0x03001000, 0x00010000, true, "the guest's interrupt controller (GIC distributor)"},
    {0x03020000, 0x01000000, true, "the guest's interrupt controller (GIC redistributors)"},
    {0x10000000, 0x10000000, false, "Xen's virtual PCI (ECAM), if the guest has it"},
    {0x20000000, 0x02000000, true, "the guest's ACPI tables"},
    {0x22000000, 0x00001000, true, "the guest's vPL011 console"},
    {0x23000000, 0x10000000, false, "Xen's virtual PCI (memory), if the guest has it"},
    {0x38000000, 0x01000000, true, "the guest's grant table"},
    {0x39000000, 0x01000000, true, "Xen's magic pages"},
    {0x40000000, 0xc0000000, false, "the guest's first bank of RAM, if it is so large"},
    {0x200000000, 0xfe00000000, false, "the guest's second bank of RAM, if it is so large"},
};

struct placed {
    const struct device_spec *device;
    struct place place;
    bool *bad;
};

struct checking {
    const struct guest_spec *guest;
    const struct device_tree *tree;
    struct placed *placed;
    unsigned count;
    struct findings *findings;
};

const char *check_where(const struct guest_spec *guest, const struct device_spec *device)
{
    return device->origin ? device->origin : guest->origin ? guest->origin : guest->domain;
}

#define FIND(checking, placed, fatal, remedy, ...)                                                           \
    findings_add((checking)->findings, fatal, check_where((checking)->guest, (placed)->device), remedy,      \
                 __VA_ARGS__)

/* ---- one device ---- */

static void check_base(const struct checking *checking, struct placed *placed)
{
    uint64_t base = placed->place.base, last = base + WINDOW_STEP - 1;
    const char *name = placed->device->name;
    if (base - WINDOW_BASE < WINDOW_SIZE) {
        if (base % WINDOW_STEP) {
            FIND(checking, placed, false, "expected 0x2000000 and multiples of 0x200 above it",
                 "%.60s: base=0x%" PRIx64 " is between two places of Xen's virtio-mmio window", name, base);
        }
        return;
    }
    for (unsigned i = 0; i < sizeof(xen_ranges) / sizeof(xen_ranges[0]); i++) {
        if (last >= xen_ranges[i].base && base <= xen_ranges[i].base + (xen_ranges[i].size - 1)) {
            FIND(checking, placed, xen_ranges[i].fatal, "expected a base from 0x2000000 to 0x20ffe00",
                 "%.60s: base=0x%" PRIx64 " is in %s", name, base, xen_ranges[i].name);
            *placed->bad = *placed->bad || xen_ranges[i].fatal;
            return;
        }
    }
    FIND(checking, placed, false, "expected a base from 0x2000000 to 0x20ffe00",
         "%.60s: base=0x%" PRIx64 " is outside Xen's virtio-mmio window", name, base);
}

static void check_irq(const struct checking *checking, struct placed *placed)
{
    int irq = placed->place.irq;
    const char *name = placed->device->name;
    if (irq < 0) {
        FIND(checking, placed, false, "expected irq=33 to 43",
             "%.60s: irq=none: a virtio-mmio driver does not start without an interrupt", name);
    } else if (irq < SPI_FIRST || irq > SPI_LAST) {
        FIND(checking, placed, true, "expected an INTID from 33 to 43 (an SPI's number and 32)",
             "%.60s: irq=%d is no SPI", name, irq);
        *placed->bad = true;
    } else if (irq == VPL011_SPI) {
        FIND(checking, placed, false, "expected irq=33 to 43",
             "%.60s: irq=32 is the interrupt of the guest's vPL011 console", name);
    } else if (irq < WINDOW_SPI_FIRST || irq > WINDOW_SPI_LAST) {
        FIND(checking, placed, false, "expected irq=33 to 43, or a domain with more SPIs (nr_spis)",
             "%.60s: irq=%d is outside the SPIs that Xen keeps for virtio-mmio", name, irq);
    }
}

static void check_node(const struct checking *checking, struct placed *placed)
{
    const struct tree_node *node = checking->tree ? device_tree_at(checking->tree, placed->place.base) : NULL;
    if (!node || !node->virtio) {
        return; /* a base without a node is places_resolve's */
    }
    if (node->disabled) {
        FIND(checking, placed, false, "status = \"okay\"",
             "%.60s: %.300s:%.200s is disabled: the guest leaves it alone", placed->device->name,
             checking->tree->name, node->path);
    }
    if (!node->edge) {
        FIND(checking, placed, false, "expected interrupts = <0 N 1>",
             "%.60s: %.300s:%.200s: its interrupt is not edge rising", placed->device->name,
             checking->tree->name, node->path);
    }
    if (node->size < WINDOW_STEP) {
        FIND(checking, placed, false, "expected 0x200 bytes", "%.60s: %.300s:%.200s: its reg is too short",
             placed->device->name, checking->tree->name, node->path);
    }
}

/* ---- one device and another ---- */

static void check_pair(const struct checking *checking, struct placed *placed, const struct placed *before)
{
    const struct place *mine = &placed->place, *other = &before->place;
    const char *name = placed->device->name, *taken = check_where(checking->guest, before->device);
    /* Only for virtio is the length known here; of others the core's trial knows it. */
    bool both = placed->place.virtio && before->place.virtio && mine->has_base && other->has_base;
    if (both && mine->base < other->base + WINDOW_STEP && other->base < mine->base + WINDOW_STEP) {
        FIND(checking, placed, true, "expected another base", "%.60s: base=0x%" PRIx64 " overlaps %.60s (%s)",
             name, mine->base, before->device->name, taken);
        *placed->bad = true;
    } else if (mine->has_irq && other->has_irq && mine->irq >= 0 && mine->irq == other->irq) {
        FIND(checking, placed, true, "expected another irq", "%.60s: irq=%d is taken by %.60s (%s)", name,
             mine->irq, before->device->name, taken);
        *placed->bad = true;
    }
}

/* ---- nodes that nobody serves ---- */

static void check_left_nodes(const struct checking *checking)
{
    const struct device_tree *tree = checking->tree;
    for (unsigned i = 0; tree && i < tree->count; i++) {
        const struct tree_node *node = &tree->nodes[i];
        bool served = false;
        for (unsigned k = 0; k < checking->count; k++) {
            const struct place *place = &checking->placed[k].place;
            served = served || (place->has_base && place->base == node->base);
        }
        if (!node->virtio || node->disabled || (served && !node->problem)) {
            continue;
        }
        char where[600];
        snprintf(where, sizeof(where), "%.300s:%.290s", tree->name, node->path);
        if (node->problem) {
            findings_add(checking->findings, false, where, "the guest can't use it either", "%s",
                         node->problem);
        } else {
            findings_add(checking->findings, false, where, "add a device, or take the node away",
                         "no device of domain %.60s serves it: the guest's probe gets a data abort",
                         checking->guest->domain);
        }
    }
}

void check_places(const struct guest_spec *guest, const struct device_tree *tree, bool *bad,
                  struct findings *findings)
{
    struct checking checking = {.guest = guest, .tree = tree, .findings = findings};
    if (guest->arch != ARCH_ARM) {
        return; /* the core knows what x86 has at fixed places */
    }
    checking.placed = calloc(guest->device_count + 1, sizeof(*checking.placed));
    if (!checking.placed) {
        findings->cut = true;
        return;
    }
    for (unsigned i = 0; i < guest->device_count; i++) {
        struct placed *placed = &checking.placed[checking.count];
        placed->device = &guest->devices[i];
        placed->bad = &bad[i];
        place_of(guest, placed->device, &placed->place);
        if (!placed->place.mmio) {
            continue;
        }
        checking.count++;
        if (placed->place.has_base) {
            check_base(&checking, placed);
            check_node(&checking, placed);
        }
        if (placed->place.has_irq && placed->place.virtio) {
            check_irq(&checking, placed);
        }
        for (unsigned k = 0; k + 1 < checking.count && !bad[i]; k++) {
            check_pair(&checking, placed, &checking.placed[k]);
        }
    }
    check_left_nodes(&checking);
    free(checking.placed);
}
