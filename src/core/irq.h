/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt wires, for the rooms that make more kinds of them (PCI's INTx). */
#ifndef CORE_IRQ_H
#define CORE_IRQ_H

#include <stdbool.h>

#include <ioreqd/irq.h>

#include "core/list.h"

struct iod_irq {
    struct iod_device *device;
    int (*set)(void *self, bool level); /* 0 or a negative errno, counted and logged once */
    void *self;
    int line;        /* ISA line or INTID; -1 for wires that are not numbered */
    bool failed;     /* a failure was logged */
    struct list link; /* of the device */
};

/* A wire of the device's, freed with it. NULL: out of memory. */
struct iod_irq *irq_make(struct iod_device *device, int (*set)(void *self, bool level), void *self);

#endif
