/* SPDX-License-Identifier: BSD-2-Clause */
/* What this room brings for guests: the root port. */
#ifndef PCI_MODULES_H
#define PCI_MODULES_H

#include <ioreqd/module.h>

extern const struct iod_module iod_module_pci;

#endif
