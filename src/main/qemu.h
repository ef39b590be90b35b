/* SPDX-License-Identifier: BSD-2-Clause */
/* QEMU as a neighbour (core/neighbours.h): asked by QMP, where libxl has it listen. */
#ifndef MAIN_QEMU_H
#define MAIN_QEMU_H

#include "core/loop.h"
#include "core/neighbours.h"

/* NULL: out of memory. The loop outlives it. */
struct neighbours *qemu_create(struct loop *loop);
void qemu_destroy(struct neighbours *neighbours); /* NULL is fine; no query is left */

#endif
