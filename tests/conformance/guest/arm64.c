/* SPDX-License-Identifier: BSD-2-Clause */
/* The arm64 half of the freestanding guest: loads and stores, data aborts, GICv2 or GICv3, vCPU 1 by PSCI. */
#include "guest.h"

#include <xen/xen.h>
#include <xen/sched.h>

/* Where Xen puts the interrupt controller of an Arm guest (public/arch-arm.h). */
#define GICD 0x03001000ul
#define GICC_V2 0x03002000ul
#define GICR_V3 0x03020000ul
#define GICR_STRIDE 0x20000ul
#define GICD_CTLR 0x0
#define GICD_ISENABLER 0x100
#define GICD_IPRIORITYR 0x400
#define GICD_ITARGETSR 0x800
#define GICD_ICFGR 0xc00
#define GICD_IROUTER 0x6000
#define GICR_WAKER 0x14
#define SPURIOUS_FIRST 1020u
#define PSCI_CPU_ON 0xc4000003ul
#define EC_DATA_ABORT 0x25

void arm64_exception(void);
void arm64_irq(void);
extern char vcpu_entry[];

static volatile uint32_t *reg(unsigned long address)
{
    return (volatile uint32_t *)address;
}

static int has_gicv3(void)
{
    uint64_t pfr0;

    __asm__ volatile("mrs %0, id_aa64pfr0_el1" : "=r"(pfr0));
    return ((pfr0 >> 24) & 0xf) != 0;
}

static unsigned int this_vcpu(void)
{
    uint64_t mpidr;

    __asm__ volatile("mrs %0, mpidr_el1" : "=r"(mpidr));
    return (unsigned int)(mpidr & 0xff);
}

uint64_t arch_ram_base(void)
{
    return 0x40000000;
}

void arch_barrier(void)
{
    __asm__ volatile("dmb sy" ::: "memory");
}

long arch_hypercall(unsigned int number, unsigned long a, unsigned long b, unsigned long c)
{
    register unsigned long x0 __asm__("x0") = a;
    register unsigned long x1 __asm__("x1") = b;
    register unsigned long x2 __asm__("x2") = c;
    register unsigned long x16 __asm__("x16") = number;

    __asm__ volatile("hvc #0xea1" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x16) :: "memory", "x3", "x4");
    return (long)x0;
}

void arch_relax(void)
{
    arch_hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0);
}

void arm64_exception(void)
{
    struct mailbox *box = guest_mailbox(this_vcpu() < MAILBOX_VCPUS ? this_vcpu() : 0);
    uint64_t esr, elr;

    __asm__ volatile("mrs %0, esr_el1" : "=r"(esr));
    __asm__ volatile("mrs %0, elr_el1" : "=r"(elr));
    if (esr >> 26 == EC_DATA_ABORT) {
        box->aborts++;
        __asm__ volatile("msr elr_el1, %0" :: "r"(elr + 4));
        return;
    }
    box->fault_at = (uint32_t)elr;
    box->fault = (uint32_t)(esr >> 26) + 1;
    for (;;) {
        __asm__ volatile("wfi");
    }
}

void arm64_irq(void)
{
    uint64_t id;

    if (has_gicv3()) {
        __asm__ volatile("mrs %0, s3_0_c12_c12_0" : "=r"(id)); /* ICC_IAR1_EL1 */
        __asm__ volatile("dsb sy");
    } else {
        id = *reg(GICC_V2 + 0xc);
    }
    if ((id & 0xffffff) < SPURIOUS_FIRST) {
        guest_count_irq((unsigned int)(id & 0xffffff));
    }
}

static void gicv3_cpu_init(void)
{
    volatile uint32_t *waker = reg(GICR_V3 + this_vcpu() * GICR_STRIDE + GICR_WAKER);

    *waker &= ~2u;
    __asm__ volatile("msr s3_0_c12_c12_5, %0; isb" :: "r"(7ul));    /* ICC_SRE_EL1 */
    __asm__ volatile("msr s3_0_c4_c6_0, %0" :: "r"(0xfful));        /* ICC_PMR_EL1 */
    __asm__ volatile("msr s3_0_c12_c12_7, %0; isb" :: "r"(1ul));    /* ICC_IGRPEN1_EL1 */
}

void arch_init(unsigned int vcpu)
{
    if (vcpu == 0) {
        *reg(GICD + GICD_CTLR) = has_gicv3() ? 0x12 : 1; /* affinity routing, group 1 */
    }
    if (has_gicv3()) {
        gicv3_cpu_init();
    } else {
        *reg(GICC_V2 + 4) = 0xff;
        *reg(GICC_V2) = 1;
    }
    __asm__ volatile("msr daifclr, #2");
}

static void enable_spi(unsigned int id)
{
    unsigned int shift = (id % 16) * 2;
    volatile uint32_t *config = reg(GICD + GICD_ICFGR + id / 16 * 4);
    volatile uint8_t *priority = (volatile uint8_t *)(GICD + GICD_IPRIORITYR + id);

    *config = (*config & ~(3u << shift)) | 2u << shift;
    *priority = 0xa0;
    if (has_gicv3()) {
        *(volatile uint64_t *)(GICD + GICD_IROUTER + id * 8) = 0;
    } else {
        *(volatile uint8_t *)(GICD + GICD_ITARGETSR + id) = 1;
    }
    *reg(GICD + GICD_ISENABLER + id / 32 * 4) = 1u << (id % 32);
}

static void end_of_interrupt(uint64_t id)
{
    if (has_gicv3()) {
        __asm__ volatile("msr s3_0_c12_c12_1, %0; isb" :: "r"(id)); /* ICC_EOIR1_EL1 */
    } else {
        *reg(GICC_V2 + 0x10) = (uint32_t)id;
    }
}

static void store(uint64_t address, unsigned int size, uint64_t value)
{
    switch (size) {
    case 1:
        __asm__ volatile("strb %w0, [%1]; dsb sy" :: "r"(value), "r"(address) : "memory");
        break;
    case 2:
        __asm__ volatile("strh %w0, [%1]; dsb sy" :: "r"(value), "r"(address) : "memory");
        break;
    case 4:
        __asm__ volatile("str %w0, [%1]; dsb sy" :: "r"(value), "r"(address) : "memory");
        break;
    default:
        __asm__ volatile("str %0, [%1]; dsb sy" :: "r"(value), "r"(address) : "memory");
    }
}

static uint64_t load(uint64_t address, unsigned int size)
{
    uint64_t value = 0;

    switch (size) {
    case 1:
        __asm__ volatile("ldrb %w0, [%1]; dsb sy" : "+r"(value) : "r"(address) : "memory");
        break;
    case 2:
        __asm__ volatile("ldrh %w0, [%1]; dsb sy" : "+r"(value) : "r"(address) : "memory");
        break;
    case 4:
        __asm__ volatile("ldr %w0, [%1]; dsb sy" : "+r"(value) : "r"(address) : "memory");
        break;
    default:
        __asm__ volatile("ldr %0, [%1]; dsb sy" : "+r"(value) : "r"(address) : "memory");
    }
    return value;
}

static uint64_t vcpu_up(uint64_t vcpu)
{
    register unsigned long x0 __asm__("x0") = PSCI_CPU_ON;
    register unsigned long x1 __asm__("x1") = vcpu;
    register unsigned long x2 __asm__("x2") = (unsigned long)vcpu_entry;
    register unsigned long x3 __asm__("x3") = 0;

    __asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) :: "memory");
    return x0;
}

uint64_t arch_command(struct mailbox *box)
{
    switch (box->op) {
    case GUEST_WRITE:
        store(box->addr, box->size, box->value);
        return 0;
    case GUEST_READ:
        return load(box->addr, box->size);
    case GUEST_IRQ_PIN:
        enable_spi((unsigned int)box->addr);
        return 0;
    case GUEST_IRQ_EOI:
        end_of_interrupt(box->addr);
        return 0;
    case GUEST_IRQ_HOLD:
        if (box->value) {
            __asm__ volatile("msr daifset, #2");
        } else {
            __asm__ volatile("msr daifclr, #2");
        }
        return 0;
    case GUEST_VCPU_UP:
        return vcpu_up(box->addr);
    default:
        return ~UINT64_C(0);
    }
}
