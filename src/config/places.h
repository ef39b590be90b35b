/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a guest's devices are: what the specs say, and what its device tree says. */
#ifndef CONFIG_PLACES_H
#define CONFIG_PLACES_H

#include "config/device_tree.h"

/* Xen's virtio-mmio window on Arm (public/arch-arm.h) and the SPIs that go with it. */
#define WINDOW_BASE UINT64_C(0x02000000)
#define WINDOW_SIZE UINT64_C(0x00100000)
#define WINDOW_STEP UINT64_C(0x200)
enum { WINDOW_SPI_FIRST = 33, WINDOW_SPI_LAST = 43 };

struct place {
    bool mmio; /* in the guest's memory, not on PCI and not at a port */
    bool virtio;
    bool has_base, has_irq;
    uint64_t base;
    int irq;          /* -1: irq=none */
    const char *node; /* node=, a name in the guest's tree; or NULL. The spec's */
};
/* What the spec says; numbers that are none are left to the core's check. */
void place_of(const struct guest_spec *guest, const struct device_spec *device, struct place *place);
/* Writes base= and irq= into the spec, in place of node=. 0 or -ENOMEM. */
int place_set(struct device_spec *device, uint64_t base, int irq);

/* Adds the devices that the tree's nodes name (DEVICE_PROPERTY). False with findings. */
bool places_add_devices(struct guest_spec *guest, const struct device_tree *tree, struct findings *findings);
/*
 * Gives each device in memory its place: node= becomes base= and irq=; base= must be a node of the tree and
 * its irq= that node's; a virtio device without either gets the first virtio,mmio node that is left. Without
 * a tree (NULL) only node= is refused. False with findings.
 */
bool places_resolve(struct guest_spec *guest, const struct device_tree *tree, struct findings *findings);

#endif
