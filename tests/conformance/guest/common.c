/* SPDX-License-Identifier: BSD-2-Clause */
/* The loop of the freestanding guest: fetch a command from the mailbox, run it, answer. */
#include "guest.h"

#include <xen/xen.h>
#include <xen/memory.h>
#include <xen/sched.h>

#define IRQ_NUMBERS 256

static volatile uint32_t irq_count[IRQ_NUMBERS];

struct mailbox *guest_mailbox(unsigned int vcpu)
{
    return (struct mailbox *)(unsigned long)(arch_ram_base() + MAILBOX_OFFSET + vcpu * GUEST_PAGE);
}

void guest_count_irq(unsigned int number)
{
    if (number < IRQ_NUMBERS) {
        irq_count[number]++;
    }
}

static uint64_t balloon(uint64_t gpa, unsigned int op)
{
    xen_pfn_t gfn = (xen_pfn_t)(gpa / GUEST_PAGE);
    struct xen_memory_reservation reservation = { .nr_extents = 1, .domid = DOMID_SELF };

    set_xen_guest_handle(reservation.extent_start, &gfn);
    return (uint64_t)arch_hypercall(__HYPERVISOR_memory_op, op, (unsigned long)&reservation, 0);
}

static uint64_t command(struct mailbox *box)
{
    switch (box->op) {
    case GUEST_PING:
        return box->value;
    case GUEST_BALLOON_OUT:
        return balloon(box->addr, XENMEM_decrease_reservation);
    case GUEST_BALLOON_IN:
        return balloon(box->addr, XENMEM_populate_physmap);
    case GUEST_IRQ_COUNT:
        return box->addr < IRQ_NUMBERS ? irq_count[box->addr] : ~UINT64_C(0);
    case GUEST_IRQ_MSI:
    case GUEST_IRQ_PIN:
        {
            uint64_t number = box->op == GUEST_IRQ_PIN && box->value ? box->value : box->addr;

            if (number < IRQ_NUMBERS) {
                irq_count[number] = 0;
            }
        }
        return arch_command(box);
    default:
        return arch_command(box);
    }
}

void guest_main(unsigned int vcpu)
{
    struct mailbox volatile *box = guest_mailbox(vcpu);

    arch_init(vcpu);
    box->magic = MAILBOX_MAGIC;
    for (;;) {
        while (box->posted == box->finished) {
            arch_relax();
        }
        arch_barrier();
        box->result = command((struct mailbox *)box);
        arch_barrier();
        box->finished = box->posted;
    }
}
