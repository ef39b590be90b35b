/* SPDX-License-Identifier: BSD-2-Clause */
/* A function's life: made in create, reset to its first configuration, saved as the bytes the guest sees. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pci/bus.h"
#include "pci/pci.h"
#include "pci/port.h"

static struct iod_pci *from_part(struct device_part *part)
{
    return list_entry(part, struct iod_pci, part);
}

static bool valid_intx(const void *regs)
{
    return ((const struct pci_regs *)regs)->intx <= 1;
}

static const struct iod_field pci_fields[] = {
    IOD_FIELD_ARRAY(struct pci_regs, config, 1),
    IOD_FIELD_CHECKED(struct pci_regs, intx, 1, valid_intx),
    { .name = NULL },
};

static void function_start(struct device_part *part)
{
    struct iod_pci *pci = from_part(part);

    pci_intx_drive(pci); /* after a load the wire has to be told */
    if (pci->port) {
        pci_port_present(pci->port);
    }
}

static bool function_removable(struct device_part *part, struct iod_error *error)
{
    struct iod_pci *pci = from_part(part);

    return pci->port ? pci_port_removable(pci->port, error) : pci_port_empty(pci, error);
}

static void function_reset(struct device_part *part)
{
    struct iod_pci *pci = from_part(part);

    memcpy(pci_regs(pci)->config, pci->initial, sizeof(pci->initial));
    pci_bars_update(pci);
    pci_intx_drive(pci);
}

static int function_load(struct device_part *part, struct iod_reader *reader, struct iod_error *error)
{
    struct iod_pci *pci = from_part(part);

    pci_config_sanitize(pci);
    pci_bars_update(pci);
    return 0;
}

static void function_destroy(struct device_part *part)
{
    struct iod_pci *pci = from_part(part);

    if (pci->driven) {
        pci_regs(pci)->intx = 0;
        pci_intx_drive(pci);
    }
    pci_bus_leave(pci);
    free(pci);
}

static void function_inspect(const struct device_part *part, struct inspector *inspector)
{
    const struct iod_pci *pci = list_entry(part, struct iod_pci, part);
    char addr[16];

    if (pci->port) {
        inspector->number(inspector, "slot", pci_port_number(pci->port));
        snprintf(addr, sizeof(addr), "%02x:00.0", pci->claimed >> 8); /* bus 0: the guest has not numbered it yet */
    } else {
        snprintf(addr, sizeof(addr), "%02x.%x", pci->devfn / PCI_FUNCTIONS, pci->devfn % PCI_FUNCTIONS);
    }
    inspector->text(inspector, "addr", addr);
    inspector->number(inspector, "vendor", pci_get16(pci, PCI_VENDOR_ID));
    inspector->number(inspector, "device", pci_get16(pci, PCI_DEVICE_ID));
    inspector->boolean(inspector, "bus-master", iod_pci_bus_master(pci));
    inspector->boolean(inspector, "msi-x", pci->msix && (pci_get16(pci, pci->msix + PCI_MSIX_FLAGS) &
                                                         PCI_MSIX_FLAGS_ENABLE));
    inspector->boolean(inspector, "intx", pci->driven);
    inspector->begin_list(inspector, "bars");
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const struct pci_bar *bar = &pci->bars[i];

        if (bar->region) {
            inspector->begin_object(inspector, NULL);
            inspector->number(inspector, "index", i);
            inspector->number(inspector, "size", bar->size);
            if (bar->shown) {
                inspector->number(inspector, "start", bar->at);
            }
            inspector->end(inspector);
        }
    }
    inspector->end(inspector);
}

static const struct device_part_ops function_ops = {
    .name = "pci",
    .fields = pci_fields,
    .regs_size = sizeof(struct pci_regs),
    .start = function_start,
    .reset = function_reset,
    .load = function_load,
    .destroy = function_destroy,
    .removable = function_removable,
    .inspect = function_inspect,
};

/* The type 0 header; what is not set here reads 0, as a function without ROM or INTx pin must. */
static void fill_header(struct iod_pci *pci, const struct iod_pci_ids *ids)
{
    const uint16_t words[] = { ids->vendor, ids->device };
    const uint16_t subsystem[] = { ids->subsystem_vendor, ids->subsystem };
    const uint8_t class[] = { ids->revision, (uint8_t)ids->class_code, (uint8_t)(ids->class_code >> 8),
                              (uint8_t)(ids->class_code >> 16) };
    const uint8_t type = PCI_HEADER_TYPE_NORMAL;
    const uint8_t all = 0xff, line = 0;
    const uint16_t command = PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;

    iod_pci_config_set(pci, PCI_VENDOR_ID, words, sizeof(words));
    iod_pci_config_set(pci, PCI_CLASS_REVISION, class, sizeof(class));
    iod_pci_config_set(pci, PCI_HEADER_TYPE, &type, 1);
    iod_pci_config_set(pci, PCI_SUBSYSTEM_VENDOR_ID, subsystem, sizeof(subsystem));
    iod_pci_config_set(pci, PCI_INTERRUPT_LINE, &line, 1);
    iod_pci_config_writable(pci, PCI_COMMAND, &command, sizeof(command));
    iod_pci_config_writable(pci, PCI_CACHE_LINE_SIZE, &all, 1);
    iod_pci_config_writable(pci, PCI_LATENCY_TIMER, &all, 1);
    iod_pci_config_writable(pci, PCI_INTERRUPT_LINE, &all, 1);
    pci->last_capability = PCI_CAPABILITY_LIST;
}

struct iod_pci *iod_pci_add(struct iod_device *device, const struct iod_pci_ids *ids, int slot,
                            const struct iod_pci_ops *ops, void *self, struct iod_error *error)
{
    struct iod_pci *pci;

    if (guest_arch(device_guest(device)) != ARCH_X86) {
        iod_fail(error, EOPNOTSUPP,
                 "%s: no PCI on Arm: Xen sends no configuration cycles there; use bus=mmio",
                 iod_device_id(device));
        return NULL;
    }
    pci = calloc(1, sizeof(*pci));
    if (!pci || device_part_add(device, &pci->part, &function_ops) < 0) {
        iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(device));
        free(pci);
        return NULL;
    }
    pci->device = device;
    pci->ops = ops;
    pci->self = self;
    fill_header(pci, ids);
    return pci_bus_join(pci, slot, error) < 0 ? NULL : pci; /* owned by the device either way */
}

bool iod_pci_bus_master(const struct iod_pci *pci)
{
    return pci_get16(pci, PCI_COMMAND) & PCI_COMMAND_MASTER;
}
