/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The capability list: each in the first free run of dwords behind the header, linked in the order of adding.
 */
#include <errno.h>
#include <string.h>

#include "pci/pci.h"

#define FIRST_CAPABILITY 0x40u

static unsigned free_run(const struct iod_pci *pci, unsigned dwords)
{
    unsigned run = 0;

    for (unsigned i = FIRST_CAPABILITY / 4; i < PCI_CONFIG_SIZE / 4; i++) {
        run = pci->taken & (UINT64_C(1) << i) ? 0 : run + 1;
        if (run == dwords) {
            return 4 * (i + 1 - dwords);
        }
    }
    return 0;
}

int iod_pci_capability(struct iod_pci *pci, uint8_t id, const void *body, const void *writable, size_t length)
{
    uint8_t head[2] = { id, 0 };
    unsigned offset;
    uint8_t link;

    if (length > PCI_CONFIG_SIZE - FIRST_CAPABILITY - sizeof(head)) {
        return -ENOSPC;
    }
    offset = free_run(pci, (unsigned)(sizeof(head) + length + 3) / 4);
    if (!offset) {
        return -ENOSPC;
    }
    iod_pci_config_set(pci, offset, head, sizeof(head));
    if (body) {
        iod_pci_config_set(pci, offset + sizeof(head), body, length);
    }
    if (writable) {
        iod_pci_config_writable(pci, offset + sizeof(head), writable, length);
    }
    for (unsigned i = offset / 4; i < (offset + sizeof(head) + length + 3) / 4; i++) {
        pci->taken |= UINT64_C(1) << i;
    }
    link = (uint8_t)offset;
    iod_pci_config_set(pci, pci->last_capability, &link, 1);
    pci->last_capability = (uint8_t)(offset + PCI_CAP_LIST_NEXT);
    if (!(pci->initial[PCI_STATUS] & PCI_STATUS_CAP_LIST)) {
        uint8_t status = pci->initial[PCI_STATUS] | PCI_STATUS_CAP_LIST;

        iod_pci_config_set(pci, PCI_STATUS, &status, 1);
    }
    return (int)offset;
}
