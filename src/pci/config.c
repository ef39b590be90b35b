/* SPDX-License-Identifier: BSD-2-Clause */
/* Configuration space as the guest reads and writes it. */
#include <string.h>

#include "pci/bus.h"
#include "pci/pci.h"

uint16_t pci_get16(const struct iod_pci *pci, unsigned offset)
{
    const uint8_t *bytes = pci_regs(pci)->config + offset;

    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

uint32_t pci_get32(const struct iod_pci *pci, unsigned offset)
{
    return pci_get16(pci, offset) | (uint32_t)pci_get16(pci, offset + 2) << 16;
}

void pci_set32(struct iod_pci *pci, unsigned offset, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        pci_regs(pci)->config[offset + i] = (uint8_t)(value >> (8 * i));
    }
}

/* One byte with the bits that are not stored but follow from the state. */
static uint8_t config_byte(const struct iod_pci *pci, unsigned offset)
{
    uint8_t byte = pci_regs(pci)->config[offset];

    if (offset == PCI_STATUS && pci_regs(pci)->intx) {
        byte |= PCI_STATUS_INTERRUPT;
    }
    if (offset == PCI_HEADER_TYPE && pci_bus_shared_slot(pci)) {
        byte |= 0x80; /* several functions in this slot: without it a guest looks at function 0 alone */
    }
    return byte;
}

uint32_t pci_config_read(struct iod_pci *pci, unsigned offset, unsigned width)
{
    uint32_t value = 0;

    if (pci->ops && pci->ops->config_read && pci->ops->config_read(pci->self, offset, width, &value)) {
        return value;
    }
    value = 0;
    for (unsigned i = 0; i < width; i++) {
        value |= (uint32_t)config_byte(pci, offset + i) << (8 * i);
    }
    return value;
}

static bool touches(unsigned offset, unsigned width, unsigned start, unsigned length)
{
    return offset < start + length && start < offset + width;
}

/* What follows from the write of some bytes. */
static void config_effects(struct iod_pci *pci, unsigned offset, unsigned width)
{
    bool command = touches(offset, width, PCI_COMMAND, 2);

    if (command || touches(offset, width, PCI_BASE_ADDRESS_0, 4 * PCI_BARS)) {
        pci_bars_update(pci);
    }
    if (command) {
        pci_intx_drive(pci);
    }
    if (pci->msix && (command || touches(offset, width, pci->msix + PCI_MSIX_FLAGS, 2))) {
        pci_msix_deliver(pci);
    }
    if (pci->msi && (command || touches(offset, width, pci->msi, 24))) {
        pci_msi_deliver(pci);
    }
}

void pci_config_write(struct iod_pci *pci, unsigned offset, unsigned width, uint32_t value)
{
    uint8_t *config = pci_regs(pci)->config;

    for (unsigned i = 0; i < width; i++) {
        uint8_t mask = pci->writable[offset + i];

        config[offset + i] = (uint8_t)((config[offset + i] & ~mask) | ((value >> (8 * i)) & mask));
    }
    config_effects(pci, offset, width);
    if (pci->ops && pci->ops->config_write) {
        pci->ops->config_write(pci->self, offset, width, value);
    }
}

void pci_config_sanitize(struct iod_pci *pci)
{
    uint8_t *config = pci_regs(pci)->config;

    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        config[i] = (uint8_t)((config[i] & pci->writable[i]) | (pci->initial[i] & ~pci->writable[i]));
    }
}

static void mark_taken(struct iod_pci *pci, unsigned offset, size_t length)
{
    for (size_t i = offset / 4; i < (offset + length + 3) / 4; i++) {
        pci->taken |= UINT64_C(1) << i;
    }
}

static bool in_bounds(unsigned offset, size_t length)
{
    return length > 0 && offset < PCI_CONFIG_SIZE && length <= PCI_CONFIG_SIZE - offset;
}

void iod_pci_config_set(struct iod_pci *pci, unsigned offset, const void *bytes, size_t length)
{
    if (!in_bounds(offset, length)) {
        return;
    }
    memcpy(pci_regs(pci)->config + offset, bytes, length);
    if (device_state(pci->device) == DEVICE_MADE) {
        memcpy(pci->initial + offset, bytes, length); /* said in create: so it is after each reset */
        mark_taken(pci, offset, length);
    }
}

void iod_pci_config_get(const struct iod_pci *pci, unsigned offset, void *bytes, size_t length)
{
    if (in_bounds(offset, length)) {
        memcpy(bytes, pci_regs(pci)->config + offset, length);
    }
}

void iod_pci_config_writable(struct iod_pci *pci, unsigned offset, const void *mask, size_t length)
{
    if (in_bounds(offset, length)) {
        memcpy(pci->writable + offset, mask, length);
        mark_taken(pci, offset, length);
    }
}
