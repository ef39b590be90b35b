/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A PCIe root port with one hot-plug slot: a type 1 function on bus 0, and what is plugged in behind it, as device 0
 * of the bus number that the guest gives it. Names: PCI Express Base Specification, chapter 7.5.3 and 6.7.
 */
#ifndef PCI_PORT_H
#define PCI_PORT_H

#include "pci/pci.h"

struct pci_port;

/* The port with this slot number, or (number 0) the first empty one; NULL: none. */
struct pci_port *pci_port_find(const struct pci_bus *bus, unsigned number);
/* The function that answers for device 0, function 0 of bus `number`, if the slot's link is up; or NULL. */
struct iod_pci *pci_port_child(const struct pci_bus *bus, uint8_t number);
unsigned pci_port_number(const struct pci_port *port);

/* Puts a function behind the port; it is not announced yet. -EBUSY: the slot is taken. */
int pci_port_plug(struct pci_port *port, struct iod_pci *child, struct iod_error *error);
/* The device behind it runs: the guest sees a card. */
void pci_port_present(struct pci_port *port);
/* The device goes, asked or by surprise. */
void pci_port_unplug(struct pci_port *port);
/*
 * May the device behind it go? True: the slot has no power, or nobody ever drove the device. False with
 * -EINPROGRESS: the guest was asked (attention button), device_let_go() follows if it agrees; -EBUSY: it does
 * not listen.
 */
bool pci_port_removable(struct pci_port *port, struct iod_error *error);
/* May this function itself go? False with -EBUSY: it is a port, and something is plugged in. */
bool pci_port_empty(const struct iod_pci *pci, struct iod_error *error);

#endif
