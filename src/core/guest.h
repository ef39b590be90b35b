/* SPDX-License-Identifier: BSD-2-Clause */
/* One target domain: its ioreq servers, address spaces, memory and devices. Owned by the daemon. */
#ifndef CORE_GUEST_H
#define CORE_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ioreqd/error.h>
#include <ioreqd/region.h>

#include "core/hypervisor.h"
#include "core/spec.h"

struct daemon;
struct guest;
struct iod_device;

struct daemon *guest_daemon(const struct guest *guest);
uint16_t guest_domid(const struct guest *guest);
enum guest_arch guest_arch(const struct guest *guest);
enum guest_type guest_type(const struct guest *guest); /* unknown counts as PVH */
bool guest_beside(const struct guest *guest);          /* another emulator serves it too */

/*
 * The PCI bus (src/pci) hooks itself in here: who owns a function, and who answers its configuration cycles.
 * read and write may defer like a region's handlers (iod_access_defer on the device that owner() names).
 */
struct config_space_ops {
    struct iod_device *(*owner)(void *bus, uint16_t sbdf); /* NULL: nobody (reads all ones) */
    uint32_t (*read)(void *bus, uint16_t sbdf, unsigned offset, unsigned width);
    void (*write)(void *bus, uint16_t sbdf, unsigned offset, unsigned width, uint32_t value);
    void (*destroy)(void *bus); /* with the guest, after its devices */
};
void *guest_bus(const struct guest *guest); /* NULL: none yet */
void guest_bus_set(struct guest *guest, void *bus, const struct config_space_ops *ops);
/* Claims (or gives up) a function at the hypervisor, as of the next access. 0 or a negative errno. */
int guest_claim_function(struct guest *guest, uint16_t sbdf);
void guest_release_function(struct guest *guest, uint16_t sbdf);
/* Does another ioreqd hold it, as far as its record said? Who, as text; or NULL. */
const char *guest_function_owner(const struct guest *guest, uint16_t sbdf, char *text, size_t size);

/*
 * Interrupt messages and wires for src/pci and core/irq.c; each checks the guest's type and refuses what
 * would harm.
 */
int guest_msi(struct guest *guest, uint64_t address, uint32_t data);
/* pin 0: INTA. -EOPNOTSUPP unless HVM */
int guest_intx(struct guest *guest, uint8_t slot, uint8_t pin, bool level);
int guest_isa_irq(struct guest *guest, uint8_t line, bool level);           /* -EOPNOTSUPP unless HVM */
int guest_spi(struct guest *guest, uint32_t intid, bool level);             /* -EOPNOTSUPP unless Arm */

#endif
