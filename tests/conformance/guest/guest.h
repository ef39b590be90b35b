/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside the freestanding guest: common.c and what each architecture supplies to it. */
#ifndef CONFORMANCE_GUEST_H
#define CONFORMANCE_GUEST_H

#include "mailbox.h"

/* ---- supplied by x86.c, arm64.c ---- */

/* First gpa of guest RAM. */
uint64_t arch_ram_base(void);
/* Prepares the calling vCPU: interrupt table and controller. */
void arch_init(unsigned int vcpu);
/* Runs what is special to the architecture; unknown commands answer all ones. */
uint64_t arch_command(struct mailbox *box);
/* Gives the processor away for a moment. */
void arch_relax(void);
/* A full memory barrier. */
void arch_barrier(void);
/* Hypercall with three arguments; the result is as Xen gives it. */
long arch_hypercall(unsigned int number, unsigned long a, unsigned long b, unsigned long c);

/* ---- supplied by common.c ---- */

/* Entry of each vCPU, on its own stack; never returns. */
void guest_main(unsigned int vcpu);
/* The mailbox of a vCPU. */
struct mailbox *guest_mailbox(unsigned int vcpu);
/* Notes one interrupt of vector or INTID `number`. */
void guest_count_irq(unsigned int number);

#endif
