/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A PCI function: configuration space, BARs, capabilities, INTx, MSI, MSI-X. One per device. The core's key
 * addr=SLOT[.FN] says where it sits. Names: linux/pci_regs.h and the PCI Local Bus Specification 3.0.
 */
#ifndef IOREQD_PCI_H
#define IOREQD_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ioreqd/error.h>

struct iod_device;
struct iod_region;
struct iod_irq;
struct iod_pci;

struct iod_pci_ids {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint32_t class_code; /* 24 bits: base class, sub-class, interface */
    uint8_t revision;
};

enum iod_pci_bar {
    IOD_PCI_BAR_IO,
    IOD_PCI_BAR_MEM32,
    IOD_PCI_BAR_MEM64,            /* takes the next BAR too */
    IOD_PCI_BAR_MEM64_PREFETCH,
};

/*
 * What a function wants to know of its configuration space. New members come at the end only; NULL table:
 * nothing.
 */
struct iod_pci_ops {
    size_t size;
    /* Optional. Before the core's own answer: return true and set *value to answer a read oneself. */
    bool (*config_read)(void *self, unsigned offset, unsigned width, uint32_t *value);
    /* Optional. After the core stored what is writable. value: as written; width 1, 2 or 4. */
    void (*config_write)(void *self, unsigned offset, unsigned width, uint32_t value);
};

/*
 * Makes the device's function; only in create. `slot`: wanted by the device if the user gives no addr= (-1:
 * the core's default order). -EBUSY with *error filled if the place is taken. Owned by the device.
 */
struct iod_pci *iod_pci_add(struct iod_device *device, const struct iod_pci_ids *ids, int slot,
                            const struct iod_pci_ops *ops, void *self, struct iod_error *error);

/*
 * Puts a region behind BAR `index`; its length must be a power of two (memory: at least 4096; I/O: at least
 * 4, at most 256).
 */
int iod_pci_bar(struct iod_pci *pci, unsigned index, enum iod_pci_bar kind, struct iod_region *region,
                struct iod_error *error);

/*
 * Adds a capability: `length` bytes behind id and next pointer (body; NULL: zeros). `writable`: which bits of
 * the body the guest may change (NULL: none). Returns the offset of its id, or -ENOSPC.
 */
int iod_pci_capability(struct iod_pci *pci, uint8_t id, const void *body, const void *writable,
                       size_t length);

/* Raw bytes of the configuration space, for the device's own registers; offset + length within 256. */
void iod_pci_config_set(struct iod_pci *pci, unsigned offset, const void *bytes, size_t length);
void iod_pci_config_get(const struct iod_pci *pci, unsigned offset, void *bytes, size_t length);
void iod_pci_config_writable(struct iod_pci *pci, unsigned offset, const void *mask, size_t length);

/*
 * MSI-X with `vectors` (1 to 2048) entries; table and pending bits go to BAR `bar`, which this call makes
 * (memory, 32 bit). MSI with `vectors` (1 to 32, a power of two).
 */
int iod_pci_msix(struct iod_pci *pci, unsigned vectors, unsigned bar, struct iod_error *error);
int iod_pci_msi(struct iod_pci *pci, unsigned vectors, struct iod_error *error);
bool iod_pci_msix_enabled(const struct iod_pci *pci);
bool iod_pci_msi_enabled(const struct iod_pci *pci);
/* Sends the vector's message; kept pending while masked. Neither MSI-X nor MSI enabled: nothing happens. */
void iod_msi_send(struct iod_pci *pci, unsigned vector);

/*
 * The function's INTx pin (INTA for function 0, ...). NULL with *error filled where the guest's type has no
 * INTx (PVH, unknown): live with MSI, or fail. The core keeps interrupt status and honours the disable bit of
 * the command register.
 */
struct iod_irq *iod_pci_intx(struct iod_pci *pci, struct iod_error *error);

bool iod_pci_bus_master(const struct iod_pci *pci); /* may it do DMA? */

#endif
