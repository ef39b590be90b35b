/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts. Which guest may get which is for core/irq.c: the wrong one panics Xen 4.17's host. */
#include "xen/handles.h"

int xen_isa_irq(struct hypervisor *hv, uint16_t domid, uint8_t irq, bool level)
{
    return xen_result(xendevicemodel_set_isa_irq_level(xen_of(hv)->devicemodel, domid, irq, level));
}

int xen_pci_intx(struct hypervisor *hv, uint16_t domid, uint8_t device, uint8_t pin, bool level)
{
    return xen_result(
        xendevicemodel_set_pci_intx_level(xen_of(hv)->devicemodel, domid, 0, 0, device, pin, level));
}

int xen_pci_link_route(struct hypervisor *hv, uint16_t domid, uint8_t link, uint8_t irq)
{
    return xen_result(xendevicemodel_set_pci_link_route(xen_of(hv)->devicemodel, domid, link, irq));
}

int xen_msi(struct hypervisor *hv, uint16_t domid, uint64_t address, uint32_t data)
{
    return xen_result(xendevicemodel_inject_msi(xen_of(hv)->devicemodel, domid, address, data));
}

int xen_spi(struct hypervisor *hv, uint16_t domid, uint32_t intid, bool level)
{
    return xen_result(xendevicemodel_set_irq_level(xen_of(hv)->devicemodel, domid, intid, level));
}
