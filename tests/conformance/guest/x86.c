/* SPDX-License-Identifier: BSD-2-Clause */
/* The x86 half of the freestanding guest: port and memory instructions, LAPIC, IO-APIC, vCPU 1. */
#include "guest.h"

#include <xen/xen.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/sched.h>
#include <xen/vcpu.h>

#define LAPIC_EOI 0xfee000b0u
#define LAPIC_SPURIOUS 0xfee000f0u
#define IOAPIC_INDEX 0xfec00000u
#define IOAPIC_DATA 0xfec00010u
#define SPURIOUS_VECTOR 0xff
#define XEN_CPUID_FIRST 0x40000000u
#define EXCEPTIONS 32
#define GP_VECTOR 13

struct gate {
    uint16_t low, selector, type, high;
};

extern struct gate idt[256];
extern char irq_table[], hypercall_page[], vcpu_entry[];
uint32_t x86_interrupt(uint32_t vector, uint32_t address, uint32_t error);

/* Where to go on after #GP, while an access that may get one runs; else 0. */
static volatile uint32_t recover;

static void mmio_write32(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}

uint64_t arch_ram_base(void)
{
    return 0;
}

void arch_barrier(void)
{
    __asm__ volatile("lock; addl $0, (%%esp)" ::: "memory");
}

long arch_hypercall(unsigned int number, unsigned long a, unsigned long b, unsigned long c)
{
    unsigned long result;
    char *target = hypercall_page + number * 32;

    __asm__ volatile("call *%[target]" : "=a"(result), "+b"(a), "+c"(b), "+d"(c)
                     : [target] "0"(target) : "memory");
    return (long)result;
}

void arch_relax(void)
{
    arch_hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0);
}

/* Returns the address to go on at, or 0 for where it was. */
uint32_t x86_interrupt(uint32_t vector, uint32_t address, uint32_t error)
{
    (void)error;
    if (vector >= EXCEPTIONS) {
        guest_count_irq(vector);
        return 0;
    }
    if (vector == GP_VECTOR && recover) {
        guest_mailbox(0)->aborts++;
        return recover;
    }
    for (unsigned int i = 0; i < MAILBOX_VCPUS; i++) {
        guest_mailbox(i)->fault_at = address;
        guest_mailbox(i)->fault = vector + 1;
    }
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

static void find_hypercall_page(void)
{
    uint32_t base, eax, ebx, ecx, edx;

    for (base = XEN_CPUID_FIRST; base < XEN_CPUID_FIRST + 0x10000; base += 0x100) {
        __asm__ volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "0"(base), "2"(0));
        if (ebx == 0x566e6558 && ecx == 0x65584d4d && edx == 0x4d4d566e) {
            break;
        }
    }
    __asm__ volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "0"(base + 2), "2"(0));
    __asm__ volatile("wrmsr" :: "c"(ebx), "a"((uint32_t)hypercall_page), "d"(0) : "memory");
}

void arch_init(unsigned int vcpu)
{
    uint32_t cr0;

    if (vcpu == 0) {
        for (unsigned int i = 0; i < 256; i++) {
            uint32_t stub = (uint32_t)irq_table + i * 16;

            idt[i] = (struct gate){ (uint16_t)stub, 8, 0x8e00, (uint16_t)(stub >> 16) };
        }
        find_hypercall_page();
    }
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    cr0 &= ~0xcu; /* neither emulated nor lazily switched FPU: movq */
    __asm__ volatile("mov %0, %%cr0; fninit" :: "r"(cr0));
    mmio_write32(LAPIC_SPURIOUS, 0x100 | SPURIOUS_VECTOR);
    __asm__ volatile("sti");
}

static void out_port(const struct mailbox *box)
{
    uint32_t value = (uint32_t)box->value;
    uint16_t port = (uint16_t)box->addr;

    switch (box->size) {
    case 1:
        __asm__ volatile("outb %%al, %%dx" :: "a"(value), "d"(port) : "memory");
        break;
    case 2:
        __asm__ volatile("outw %%ax, %%dx" :: "a"(value), "d"(port) : "memory");
        break;
    default:
        __asm__ volatile("outl %%eax, %%dx" :: "a"(value), "d"(port) : "memory");
    }
}

static uint64_t in_port(const struct mailbox *box)
{
    uint32_t value = (uint32_t)box->value;
    uint16_t port = (uint16_t)box->addr;

    switch (box->size) {
    case 1:
        __asm__ volatile("inb %%dx, %%al" : "+a"(value) : "d"(port) : "memory");
        break;
    case 2:
        __asm__ volatile("inw %%dx, %%ax" : "+a"(value) : "d"(port) : "memory");
        break;
    default:
        __asm__ volatile("inl %%dx, %%eax" : "+a"(value) : "d"(port) : "memory");
    }
    return value;
}

static void set_direction(uint32_t down)
{
    if (down) {
        __asm__ volatile("std" ::: "cc", "memory");
    } else {
        __asm__ volatile("cld" ::: "cc", "memory");
    }
}

#define REP(text) \
    __asm__ volatile(text : "+S"(source), "+D"(target), "+c"(count) : "a"(value), "d"(port) : "memory")

/* One REP instruction; the compiler's code never runs with DF set for more than this. */
static void repeat(const struct mailbox *box, uint32_t source, uint32_t target, uint32_t value)
{
    uint32_t count = box->count;
    uint16_t port = (uint16_t)box->addr;
    unsigned int width = box->size == 1 ? 0 : box->size == 2 ? 1 : 2;

    __asm__ volatile("cli");
    set_direction(box->down);
    switch (box->op * 4 + width) {
    case GUEST_REP_OUTS * 4: REP("rep outsb"); break;
    case GUEST_REP_OUTS * 4 + 1: REP("rep outsw"); break;
    case GUEST_REP_OUTS * 4 + 2: REP("rep outsl"); break;
    case GUEST_REP_INS * 4: REP("rep insb"); break;
    case GUEST_REP_INS * 4 + 1: REP("rep insw"); break;
    case GUEST_REP_INS * 4 + 2: REP("rep insl"); break;
    case GUEST_REP_MOVS * 4: REP("rep movsb"); break;
    case GUEST_REP_MOVS * 4 + 1: REP("rep movsw"); break;
    case GUEST_REP_MOVS * 4 + 2: REP("rep movsl"); break;
    case GUEST_REP_STOS * 4: REP("rep stosb"); break;
    case GUEST_REP_STOS * 4 + 1: REP("rep stosw"); break;
    case GUEST_REP_STOS * 4 + 2: REP("rep stosl"); break;
    }
    set_direction(0);
    __asm__ volatile("sti");
}

static void store(uint32_t address, unsigned int size, uint64_t value)
{
    switch (size) {
    case 1:
        __asm__ volatile("movb %b0, (%1)" :: "q"((uint32_t)value), "r"(address) : "memory");
        break;
    case 2:
        __asm__ volatile("movw %w0, (%1)" :: "r"((uint32_t)value), "r"(address) : "memory");
        break;
    case 4:
        __asm__ volatile("movl %0, (%1)" :: "r"((uint32_t)value), "r"(address) : "memory");
        break;
    default:
        __asm__ volatile("movq %0, %%mm0; movq %%mm0, (%1); emms" :: "m"(value), "r"(address) : "memory");
    }
}

static uint64_t load(uint32_t address, unsigned int size)
{
    uint32_t value = 0;
    uint64_t wide;

    switch (size) {
    case 1:
        __asm__ volatile("movb (%1), %b0" : "+q"(value) : "r"(address) : "memory");
        return value;
    case 2:
        __asm__ volatile("movw (%1), %w0" : "+r"(value) : "r"(address) : "memory");
        return value;
    case 4:
        __asm__ volatile("movl $1f, %2; movl (%1), %0; 1: movl $0, %2"
                         : "+&r"(value) : "r"(address), "m"(recover) : "memory");
        return value;
    default:
        __asm__ volatile("movq (%1), %%mm0; movq %%mm0, %0; emms" : "=m"(wide) : "r"(address) : "memory");
        return wide;
    }
}

static void route_pin(uint32_t pin, uint32_t vector, int level)
{
    mmio_write32(IOAPIC_INDEX, 0x11 + 2 * pin);
    mmio_write32(IOAPIC_DATA, 0);
    mmio_write32(IOAPIC_INDEX, 0x10 + 2 * pin);
    mmio_write32(IOAPIC_DATA, vector | (level ? 1u << 15 : 0));
}

static uint64_t move_acpi_ports(uint64_t location)
{
    struct xen_hvm_param param = { .domid = DOMID_SELF, .index = HVM_PARAM_ACPI_IOPORTS_LOCATION,
                                   .value = location };

    return (uint64_t)(int64_t)arch_hypercall(__HYPERVISOR_hvm_op, HVMOP_set_param, (unsigned long)&param, 0);
}

static uint64_t vcpu_up(uint32_t vcpu)
{
    struct vcpu_hvm_context context = { .mode = VCPU_HVM_MODE_32B };
    struct vcpu_hvm_x86_32 *regs = &context.cpu_regs.x86_32;
    long status;

    regs->eip = (uint32_t)vcpu_entry;
    regs->cr0 = 1;
    regs->cs_limit = regs->ds_limit = regs->ss_limit = regs->es_limit = ~0u;
    regs->tr_limit = 0x67;
    regs->cs_ar = 0xc9b;
    regs->ds_ar = regs->ss_ar = regs->es_ar = 0xc93;
    regs->tr_ar = 0x8b;
    status = arch_hypercall(__HYPERVISOR_vcpu_op, VCPUOP_initialise, vcpu, (unsigned long)&context);
    if (status == 0) {
        status = arch_hypercall(__HYPERVISOR_vcpu_op, VCPUOP_up, vcpu, 0);
    }
    return (uint64_t)(int64_t)status;
}

uint64_t arch_command(struct mailbox *box)
{
    uint32_t addr = (uint32_t)box->addr, buffer = (uint32_t)box->buffer;

    switch (box->op) {
    case GUEST_PIO_OUT:
        out_port(box);
        return 0;
    case GUEST_PIO_IN:
        return in_port(box);
    case GUEST_REP_OUTS:
    case GUEST_REP_INS:
        repeat(box, buffer, buffer, 0);
        return 0;
    case GUEST_REP_MOVS:
    case GUEST_REP_STOS:
        repeat(box, buffer, addr, (uint32_t)box->value);
        return 0;
    case GUEST_WRITE:
        store(addr, box->size, box->value);
        return 0;
    case GUEST_READ:
        return load(addr, box->size);
    case GUEST_IRQ_MSI:
        return 0;
    case GUEST_IRQ_PIN:
        route_pin(addr, (uint32_t)box->value, box->count != 0);
        return 0;
    case GUEST_IRQ_EOI:
        mmio_write32(LAPIC_EOI, 0);
        return 0;
    case GUEST_IRQ_HOLD:
        if (box->value) {
            __asm__ volatile("cli");
        } else {
            __asm__ volatile("sti");
        }
        return 0;
    case GUEST_SET_RTC:
        __asm__ volatile("outb %%al, $0x70" :: "a"(0));
        __asm__ volatile("outb %%al, $0x71" :: "a"((uint32_t)box->value));
        return 0;
    case GUEST_ACPI_MOVE:
        return move_acpi_ports(box->value);
    case GUEST_VCPU_UP:
        return vcpu_up(addr);
    default:
        return ~UINT64_C(0);
    }
}
