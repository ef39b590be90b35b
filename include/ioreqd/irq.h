/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt wires. A device never knows the chip behind one. Messages (MSI, MSI-X): pci.h. */
#ifndef IOREQD_IRQ_H
#define IOREQD_IRQ_H

#include <ioreqd/error.h>

struct iod_device;
struct iod_irq;

/*
 * The wire that the core's key irq= names: an ISA line on x86 HVM, an INTID (32 and up) on Arm. `fallback` is
 * the line when the user gave none; -1: none, and then NULL with error->code 0 means "no wire: be polled".
 * Owned by the device. A guest whose type has no such line (PVH, unknown) gets NULL with *error filled.
 */
struct iod_irq *iod_irq_get(struct iod_device *device, int fallback, struct iod_error *error);

/*
 * One new cause. Call it for each: an edge-triggered chip needs every one, a level-triggered one ignores
 * repeats.
 */
void iod_irq_raise(struct iod_irq *irq);
/* No cause is left. */
void iod_irq_lower(struct iod_irq *irq);

#endif
