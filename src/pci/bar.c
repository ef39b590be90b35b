/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Base address registers. Sizing needs no code: the bits below the size are not writable. What needs care is
 * when a region is shown: only while its space is decoded and the register holds a place, not a guest's
 * sizing pattern.
 */
#include <errno.h>

#include "pci/pci.h"

static bool is_io(const struct pci_bar *bar)
{
    return bar->kind == IOD_PCI_BAR_IO;
}

static bool is_wide(const struct pci_bar *bar)
{
    return bar->kind == IOD_PCI_BAR_MEM64 || bar->kind == IOD_PCI_BAR_MEM64_PREFETCH;
}

static uint64_t bar_address(const struct iod_pci *pci, unsigned index)
{
    const struct pci_bar *bar = &pci->bars[index];
    uint64_t address = pci_get32(pci, PCI_BASE_ADDRESS_0 + 4 * index);

    if (is_wide(bar)) {
        address |= (uint64_t)pci_get32(pci, PCI_BASE_ADDRESS_0 + 4 * index + 4) << 32;
    }
    return address & ~(bar->size - 1);
}

/* Is there a place in the register, rather than nothing or the all-ones of sizing? */
static bool bar_plausible(const struct pci_bar *bar, uint64_t address)
{
    uint32_t ones = (uint32_t)~(bar->size - 1);

    if (address == 0 || address + (bar->size - 1) < address) {
        return false;
    }
    if (is_io(bar)) {
        return address <= 0x10000 - bar->size;
    }
    /* Sizing writes the halves of a 64-bit register one after the other. */
    return ((uint32_t)address != ones || bar->size > UINT32_MAX) && address >> 32 != UINT32_MAX;
}

static void bar_update(struct iod_pci *pci, unsigned index, uint16_t command)
{
    struct pci_bar *bar = &pci->bars[index];
    uint64_t address = bar_address(pci, index);
    bool show = (command & (is_io(bar) ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) && bar_plausible(bar, address);

    if (show == bar->shown && (!show || address == bar->at)) {
        return;
    }
    if (!show) {
        iod_region_hide(bar->region);
        bar->shown = false;
        return;
    }
    if (iod_region_place(bar->region, is_io(bar) ? IOD_PIO : IOD_MMIO, address, NULL) < 0) {
        iod_guest_error(pci->device, "BAR %u at 0x%llx: beyond the end of its space", index,
                        (unsigned long long)address);
        if (bar->shown) {
            iod_region_hide(bar->region);
        }
        bar->shown = false;
        return;
    }
    bar->shown = true;
    bar->at = address;
}

void pci_bars_update(struct iod_pci *pci)
{
    uint16_t command = pci_get16(pci, PCI_COMMAND);

    for (unsigned i = 0; i < PCI_BARS; i++) {
        if (pci->bars[i].region) {
            bar_update(pci, i, command);
        }
    }
}

static int check_bar(const struct iod_pci *pci, unsigned index, enum iod_pci_bar kind, uint64_t size,
                     struct iod_error *error)
{
    bool io = kind == IOD_PCI_BAR_IO;
    bool wide = kind == IOD_PCI_BAR_MEM64 || kind == IOD_PCI_BAR_MEM64_PREFETCH;

    if (index + (wide ? 1 : 0) >= PCI_BARS || pci->bars[index].region ||
        (pci->writable[PCI_BASE_ADDRESS_0 + 4 * index + 3] != 0) || (wide && pci->bars[index + 1].region)) {
        return iod_fail(error, EINVAL, "%s: BAR %u: no such register, or used twice",
                        iod_device_id(pci->device), index);
    }
    if (size == 0 || (size & (size - 1)) || size < (io ? 4 : 4096) || (io && size > 256) ||
        (!wide && size > UINT32_C(0x80000000))) {
        return iod_fail(error, EINVAL,
                        "%s: BAR %u: %llu bytes: must be a power of two that such a BAR can hold",
                        iod_device_id(pci->device), index, (unsigned long long)size);
    }
    return 0;
}

int iod_pci_bar(struct iod_pci *pci, unsigned index, enum iod_pci_bar kind, struct iod_region *region,
                struct iod_error *error)
{
    unsigned offset = PCI_BASE_ADDRESS_0 + 4 * index;
    uint64_t size = region_length(region);
    uint64_t mask = ~(size - 1);
    uint8_t low[8] = { 0 }, writable[8], command;
    unsigned length = kind == IOD_PCI_BAR_MEM64 || kind == IOD_PCI_BAR_MEM64_PREFETCH ? 8 : 4;
    int result = check_bar(pci, index, kind, size, error);

    if (result < 0) {
        return result;
    }
    low[0] = kind == IOD_PCI_BAR_IO      ? PCI_BASE_ADDRESS_SPACE_IO
             : kind == IOD_PCI_BAR_MEM64 ? PCI_BASE_ADDRESS_MEM_TYPE_64
             : kind == IOD_PCI_BAR_MEM64_PREFETCH
                 ? PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH
                 : 0;
    for (unsigned i = 0; i < length; i++) {
        writable[i] = (uint8_t)(mask >> (8 * i));
    }
    iod_pci_config_set(pci, offset, low, length);
    iod_pci_config_writable(pci, offset, writable, length);
    command = pci->writable[PCI_COMMAND] | (kind == IOD_PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
    iod_pci_config_writable(pci, PCI_COMMAND, &command, 1);
    pci->bars[index] = (struct pci_bar){ .region = region, .kind = kind, .size = size };
    return 0;
}
