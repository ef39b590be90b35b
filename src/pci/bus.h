/* SPDX-License-Identifier: BSD-2-Clause */
/* A function's place on its guest's bus. */
#ifndef PCI_BUS_H
#define PCI_BUS_H

#include "pci/pci.h"

/*
 * Finds the function's place (the user's addr=, else `wanted`, else the default order) and claims it.
 * -EBUSY: taken (the text names both).
 */
int pci_bus_join(struct iod_pci *pci, int wanted, struct iod_error *error);
void pci_bus_leave(struct iod_pci *pci); /* also if it never joined */
bool pci_bus_shared_slot(const struct iod_pci *pci); /* does its slot have another function? */

#endif
