/* SPDX-License-Identifier: BSD-2-Clause */
/* The INTx pin: a level that the device sets, gated by the disable bit of the command register. */
#include <errno.h>

#include "core/irq.h"
#include "pci/pci.h"

static int drive(struct iod_pci *pci, bool level)
{
    pci->driven = level;
    return guest_intx(device_guest(pci->device), pci->devfn / PCI_FUNCTIONS, pci->devfn % PCI_FUNCTIONS & 3,
                      level);
}

static bool wanted(const struct iod_pci *pci)
{
    return pci_regs(pci)->intx && !(pci_get16(pci, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
}

static int intx_set(void *self, bool level)
{
    struct iod_pci *pci = self;

    pci_regs(pci)->intx = level;
    /* A new cause always goes down (Xen ignores a repeat); a disabled pin stays where it is. */
    if (wanted(pci)) {
        return drive(pci, true);
    }
    return pci->driven ? drive(pci, false) : 0;
}

void pci_intx_drive(struct iod_pci *pci)
{
    if (pci->intx && wanted(pci) != pci->driven) {
        (void)drive(pci, wanted(pci));
    }
}

struct iod_irq *iod_pci_intx(struct iod_pci *pci, struct iod_error *error)
{
    uint8_t pin = (uint8_t)(1 + (pci->devfn % PCI_FUNCTIONS & 3));

    if (guest_type(device_guest(pci->device)) != GUEST_HVM) {
        iod_fail(error, EOPNOTSUPP, "%s: INTx needs an HVM guest; say --type hvm if it is one, else use MSI",
                 iod_device_id(pci->device));
        return NULL;
    }
    if (!pci->intx) {
        pci->intx = irq_make(pci->device, intx_set, pci);
        if (!pci->intx) {
            iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(pci->device));
            return NULL;
        }
        iod_pci_config_set(pci, PCI_INTERRUPT_PIN, &pin, 1);
    }
    return pci->intx;
}
