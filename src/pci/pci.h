/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside the PCI room: one bus per guest, up to 256 functions on it. Configuration space is 256 plain bytes
 * in the function's saved state; masks beside it say which bits the guest may write. Names: linux/pci_regs.h.
 */
#ifndef PCI_PCI_H
#define PCI_PCI_H

#include <linux/pci_regs.h>

#include <ioreqd/log.h>
#include <ioreqd/pci.h>
#include <ioreqd/region.h>

#include "core/device.h"
#include "core/guest.h"

#define PCI_CONFIG_SIZE 256u
#define PCI_SLOTS 32u
#define PCI_FUNCTIONS 8u
#define PCI_FIRST_SLOT 4u /* by default; the slots below belong to the platform's own chips */
#define PCI_BARS 6u

struct pci_msix;

struct pci_bus {
    struct iod_pci *functions[PCI_SLOTS * PCI_FUNCTIONS]; /* of bus 0, by devfn; not owned */
    struct list ports; /* struct pci_port: the root ports among them */
};

struct pci_bar {
    struct iod_region *region; /* the device's; NULL: no BAR */
    enum iod_pci_bar kind;
    uint64_t size;  /* bytes, a power of two */
    bool shown;     /* the region is placed, at `at` */
    uint64_t at;
};

/* What the guest can see. */
struct pci_regs {
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t intx; /* level of the pin before the disable bit: 0 or 1 */
};

struct iod_pci {
    struct device_part part;
    struct iod_device *device;
    struct pci_bus *bus;
    uint8_t devfn;         /* on bus 0 */
    struct pci_port *port; /* the root port that it is behind; NULL: it is on bus 0 */
    uint16_t claimed;      /* behind a port: the place claimed at the hypervisor; 0: none */
    struct device_stop power_stop; /* the port's; here, for the port may be destroyed before its answer */
    const struct iod_pci_ops *ops; /* may be NULL */
    void *self;
    uint8_t initial[PCI_CONFIG_SIZE];  /* configuration space after reset */
    uint8_t writable[PCI_CONFIG_SIZE]; /* bits that the guest may change */
    uint64_t taken;                    /* dwords in use, one bit each: where capabilities can't go */
    uint8_t last_capability;           /* offset of its next pointer */
    uint8_t msi, msix;                 /* offsets of these capabilities; 0: none */
    struct pci_bar bars[PCI_BARS];
    struct pci_msix *msix_state;
    struct iod_irq *intx;
    bool driven; /* the level that the wire has */
};

/* ---- config.c: bytes of the configuration space ---- */
static inline struct pci_regs *pci_regs(const struct iod_pci *pci)
{
    return pci->part.regs;
}
uint16_t pci_get16(const struct iod_pci *pci, unsigned offset);
uint32_t pci_get32(const struct iod_pci *pci, unsigned offset);
void pci_set32(struct iod_pci *pci, unsigned offset, uint32_t value);
/* One access of the guest; offset + width must be within the 256 bytes. */
uint32_t pci_config_read(struct iod_pci *pci, unsigned offset, unsigned width);
void pci_config_write(struct iod_pci *pci, unsigned offset, unsigned width, uint32_t value);
/* After a load: what the guest could not have written gets its own value back. */
void pci_config_sanitize(struct iod_pci *pci);

/* ---- bar.c ---- */
void pci_bars_update(struct iod_pci *pci); /* shows and hides regions as the registers now say */

/* ---- intx.c ---- */
void pci_intx_drive(struct iod_pci *pci); /* after the disable bit changed */

/* ---- msi.c ---- */
void pci_msi_send(struct iod_pci *pci, unsigned vector);
void pci_msi_deliver(struct iod_pci *pci); /* after unmasking: sends what is pending and may go */
void pci_message(struct iod_pci *pci, uint64_t address, uint32_t data); /* to the hypervisor */

/* ---- msix.c ---- */
void pci_msix_send(struct iod_pci *pci, unsigned vector);
void pci_msix_deliver(struct iod_pci *pci); /* likewise */

#endif
