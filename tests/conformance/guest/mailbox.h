/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the conformance program and its freestanding guest agree on: where guest RAM holds what, and
 * the mailbox page of each vCPU. The host writes a command and then raises `posted`; the guest runs
 * it, writes the answer and then raises `finished`. A mailbox is RAM and never an emulated access,
 * so no command but the rule's own reaches an ioreq server.
 */
#ifndef CONFORMANCE_MAILBOX_H
#define CONFORMANCE_MAILBOX_H

#include <stdint.h>

/* Offsets into guest RAM, which begins at 0 on x86 and at 0x40000000 on Arm. */
#define MAILBOX_OFFSET 0x200000u  /* one page per vCPU */
#define BUFFER_OFFSET 0x300000u   /* 16 pages for data of REP instructions */
#define BALLOON_OFFSET 0x400000u  /* 16 pages to give back to Xen and take again */
#define GUEST_PAGE 0x1000u
#define MAILBOX_VCPUS 2

#define MAILBOX_MAGIC 0x6c6c6557u /* the vCPU runs and looks at its mailbox */

/* One command of the guest; see struct mailbox for its arguments. */
enum guest_op {
    GUEST_PING = 0,       /* result = value */
    GUEST_PIO_OUT = 1,    /* out of `size` at port `addr` with the register holding `value` */
    GUEST_PIO_IN = 2,     /* in; the register holds `value` before; result = register afterwards */
    GUEST_REP_OUTS = 3,   /* rep outs: port `addr`, `count` elements from gpa `buffer`, DF = `down` */
    GUEST_REP_INS = 4,    /* rep ins: port `addr` to gpa `buffer` */
    GUEST_WRITE = 5,      /* store `value` of `size` bytes at gpa `addr` (RAM or MMIO) */
    GUEST_READ = 6,       /* load; result = value, zero extended */
    GUEST_REP_MOVS = 7,   /* rep movs: to gpa `addr`, from gpa `buffer` */
    GUEST_REP_STOS = 8,   /* rep stos: to gpa `addr`, each `value` */
    GUEST_BALLOON_OUT = 9, /* XENMEM_decrease_reservation of the page at gpa `addr`; result = pages */
    GUEST_BALLOON_IN = 10, /* XENMEM_populate_physmap of it; result = pages */
    GUEST_IRQ_MSI = 11,   /* count interrupts of vector `addr` from now on, from 0 */
    GUEST_IRQ_PIN = 12,   /* x86: IO-APIC pin `addr` -> vector `value`, level if `count`; counts from 0.
                             Arm: INTID `addr`, edge, `value` 0 */
    GUEST_IRQ_COUNT = 13, /* result = interrupts taken of vector or INTID `addr` */
    GUEST_IRQ_EOI = 14,   /* end of interrupt for vector or INTID `addr`; nothing else ever sends one */
    GUEST_IRQ_HOLD = 15,  /* take no interrupt (value 1) or take them again (value 0) */
    GUEST_SET_RTC = 17,   /* HVM: the seconds of the RTC become `value` (BCD) */
    GUEST_ACPI_MOVE = 18, /* HVM: what hvmloader does: HVM_PARAM_ACPI_IOPORTS_LOCATION := `value` */
    GUEST_VCPU_UP = 16,   /* start vCPU `addr`; result = 0 or a negative errno */
};

struct mailbox {
    uint32_t magic;
    uint32_t posted;   /* host: number of the newest command */
    uint32_t finished; /* guest: number of the last one done */
    uint32_t op;       /* enum guest_op */
    uint64_t addr;
    uint64_t value;
    uint64_t buffer;
    uint32_t size;     /* bytes of one element */
    uint32_t count;    /* elements */
    uint32_t down;     /* direction flag */
    uint32_t aborts;   /* guest: data aborts (Arm), #GP of dword loads on vCPU 0 (x86) so far */
    uint64_t result;
    uint32_t fault;    /* guest: 1 + vector of an exception that it does not survive */
    uint32_t fault_at; /* guest: low half of the instruction's address */
};

#endif
