/* SPDX-License-Identifier: BSD-2-Clause */
/* MSI with 64-bit address and per-vector masking; and the choice between MSI and MSI-X. */
#include <errno.h>

#include "pci/pci.h"

/* Offsets in the capability: the layout with 64-bit address and mask (PCI 3.0, 6.8.1). */
enum { MSI_FLAGS = 2, MSI_ADDRESS = 4, MSI_ADDRESS_HIGH = 8, MSI_DATA = 12, MSI_MASK = 16, MSI_PENDING = 20,
       MSI_LENGTH = 24 };

void pci_message(struct iod_pci *pci, uint64_t address, uint32_t data)
{
    int result = guest_msi(device_guest(pci->device), address, data);

    if (result < 0) {
        iod_guest_error(pci->device, "the message 0x%llx/0x%x is refused (%d)", (unsigned long long)address,
                        data, -result);
    }
}

static unsigned msi_enabled_vectors(const struct iod_pci *pci)
{
    uint16_t flags = pci_get16(pci, pci->msi + MSI_FLAGS);
    unsigned offered = (flags & PCI_MSI_FLAGS_QMASK) >> 1, wanted = (flags & PCI_MSI_FLAGS_QSIZE) >> 4;

    return 1u << (wanted < offered ? wanted : offered);
}

static void msi_deliver_one(struct iod_pci *pci, unsigned vector)
{
    uint64_t address = pci_get32(pci, pci->msi + MSI_ADDRESS) |
                       (uint64_t)pci_get32(pci, pci->msi + MSI_ADDRESS_HIGH) << 32;
    uint32_t data = pci_get16(pci, pci->msi + MSI_DATA);
    uint32_t low = msi_enabled_vectors(pci) - 1;

    pci_message(pci, address, (data & ~low) | vector);
}

static bool msi_may_send(const struct iod_pci *pci, unsigned vector)
{
    return iod_pci_bus_master(pci) && !(pci_get32(pci, pci->msi + MSI_MASK) & (UINT32_C(1) << vector));
}

void pci_msi_send(struct iod_pci *pci, unsigned vector)
{
    vector &= msi_enabled_vectors(pci) - 1; /* fewer messages than vectors: they share */
    if (msi_may_send(pci, vector)) {
        msi_deliver_one(pci, vector);
        return;
    }
    pci_set32(pci, pci->msi + MSI_PENDING, pci_get32(pci, pci->msi + MSI_PENDING) | UINT32_C(1) << vector);
}

void pci_msi_deliver(struct iod_pci *pci)
{
    uint32_t pending = pci_get32(pci, pci->msi + MSI_PENDING);

    if (!pending || !iod_pci_msi_enabled(pci)) {
        return;
    }
    for (unsigned vector = 0; vector < msi_enabled_vectors(pci); vector++) {
        uint32_t bit = UINT32_C(1) << vector;

        if ((pending & bit) && msi_may_send(pci, vector)) {
            pci_set32(pci, pci->msi + MSI_PENDING, pci_get32(pci, pci->msi + MSI_PENDING) & ~bit);
            msi_deliver_one(pci, vector);
        }
    }
}

int iod_pci_msi(struct iod_pci *pci, unsigned vectors, struct iod_error *error)
{
    uint8_t body[MSI_LENGTH - 2] = { 0 }, writable[MSI_LENGTH - 2] = { 0 };
    uint32_t mask;
    unsigned log = 0;
    int at;

    if (vectors == 0 || vectors > 32 || (vectors & (vectors - 1)) || pci->msi) {
        return iod_fail(error, EINVAL,
                        "%s: %u MSI vectors: must be a power of two up to 32, and asked for once",
                        iod_device_id(pci->device), vectors);
    }
    while (1u << log < vectors) {
        log++;
    }
    body[0] = (uint8_t)(PCI_MSI_FLAGS_64BIT | log << 1);
    body[1] = PCI_MSI_FLAGS_MASKBIT >> 8;
    writable[MSI_FLAGS - 2] = PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE;
    writable[MSI_ADDRESS - 2] = 0xfc;
    for (unsigned i = MSI_ADDRESS - 1; i < MSI_DATA; i++) {
        writable[i] = 0xff;
    }
    mask = vectors == 32 ? UINT32_MAX : (UINT32_C(1) << vectors) - 1;
    for (unsigned i = 0; i < 4; i++) {
        writable[MSI_MASK - 2 + i] = (uint8_t)(mask >> (8 * i));
    }
    at = iod_pci_capability(pci, PCI_CAP_ID_MSI, body, writable, sizeof(body));
    if (at < 0) {
        return iod_fail(error, -at, "%s: no room for the MSI capability", iod_device_id(pci->device));
    }
    pci->msi = (uint8_t)at;
    return 0;
}

bool iod_pci_msi_enabled(const struct iod_pci *pci)
{
    return pci->msi && (pci_get16(pci, pci->msi + MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE);
}

void iod_msi_send(struct iod_pci *pci, unsigned vector)
{
    if (iod_pci_msix_enabled(pci)) {
        pci_msix_send(pci, vector);
    } else if (iod_pci_msi_enabled(pci)) {
        pci_msi_send(pci, vector);
    }
}
