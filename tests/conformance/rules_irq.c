/* SPDX-License-Identifier: BSD-2-Clause */
/* R23 to R25: interrupts into the guest. */
#include "conformance.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define SPI 40         /* INTID of an SPI that nothing uses */
#define MSI_VECTOR 0x61
#define PIN_VECTOR 0x62
#define ISA_VECTOR 0x63
#define DEVICE 4
#define INTX_GSI 32    /* device 4, INTA */
#define ISA_IRQ 5
#define MSI_ADDRESS 0xfee00000u
#define WAIT_MS 2000

static uint64_t guest_does(struct context *ctx, enum guest_op op, uint64_t addr, uint64_t value,
                           uint32_t count)
{
    struct command command = { .op = op, .addr = addr, .value = value, .count = count };

    return run_alone(ctx, &command, NULL);
}

/* How many interrupts came, once nothing more comes. */
static uint64_t count_irqs(struct context *ctx, uint64_t number)
{
    uint64_t before, now = guest_does(ctx, GUEST_IRQ_COUNT, number, 0, 0);

    for (unsigned int waited = 0; waited < WAIT_MS; waited += ctx->quiet_ms / 4) {
        before = now;
        pause_ms(ctx->quiet_ms / 4);
        now = guest_does(ctx, GUEST_IRQ_COUNT, number, 0, 0);
        if (now == before) {
            return now;
        }
    }
    return UINT64_MAX; /* a storm */
}

static int spi(struct context *ctx, unsigned int id, unsigned int level)
{
    return xendevicemodel_set_irq_level(ctx->dm, (domid_t)ctx->domid, id, level);
}

void rule_spi(struct context *ctx, const char *rule)
{
    (void)rule;
    say("R23.intid-0", "%s", outcome(spi(ctx, 0, 1)));
    say("R23.intid-31", "%s", outcome(spi(ctx, 31, 1)));
    say("R23.intid-1020", "%s", outcome(spi(ctx, 1020, 1)));
    say("R23.level-2", "%s", outcome(spi(ctx, SPI, 2)));
    say("R23.level-0", "%s", outcome(spi(ctx, SPI, 0)));
    guest_does(ctx, GUEST_IRQ_PIN, SPI, 0, 0);
    say("R23.set", "%s", outcome(spi(ctx, SPI, 1)));
    say("R23.set-count", "%" PRIu64, count_irqs(ctx, SPI));
    guest_does(ctx, GUEST_IRQ_EOI, SPI, 0, 0);
    guest_does(ctx, GUEST_IRQ_PIN, SPI, 0, 0);
    guest_does(ctx, GUEST_IRQ_HOLD, 0, 1, 0);
    spi(ctx, SPI, 1);
    spi(ctx, SPI, 1);
    guest_does(ctx, GUEST_IRQ_HOLD, 0, 0, 0);
    say("R23.twice-unserved", "%" PRIu64, count_irqs(ctx, SPI));
    guest_does(ctx, GUEST_IRQ_EOI, SPI, 0, 0);
    say("R23.twice-unserved-after-eoi", "%" PRIu64, count_irqs(ctx, SPI));
    say("R23.lower", "%s", outcome(spi(ctx, SPI, 0)));
    say("R23.set-without-lower", "%s", outcome(spi(ctx, SPI, 1)));
    say("R23.set-without-lower-count", "%" PRIu64, count_irqs(ctx, SPI));
    guest_does(ctx, GUEST_IRQ_EOI, SPI, 0, 0);
    say("R23.isa", "%s", outcome(xendevicemodel_set_isa_irq_level(ctx->dm, (domid_t)ctx->domid, 5, 1)));
    say("R23.intx", "%s",
        outcome(xendevicemodel_set_pci_intx_level(ctx->dm, (domid_t)ctx->domid, 0, 0, 4, 0, 1)));
    say("R23.msi", "%s", outcome(xendevicemodel_inject_msi(ctx->dm, (domid_t)ctx->domid, MSI_ADDRESS, 0x61)));
}

static int msi(struct context *ctx, uint64_t address, uint32_t data)
{
    return xendevicemodel_inject_msi(ctx->dm, (domid_t)ctx->domid, address, data);
}

void rule_msi(struct context *ctx, const char *rule)
{
    (void)rule;
    say("R24.vector-0", "%s", outcome(msi(ctx, MSI_ADDRESS, 0)));
    say("R24.mode-2", "%s", outcome(msi(ctx, MSI_ADDRESS, 0x200 | MSI_VECTOR)));
    say("R24.lowest-to-nobody", "%s", outcome(msi(ctx, MSI_ADDRESS | 0x40 << 12, 0x100 | MSI_VECTOR)));
    say("R24.fixed-to-nobody", "%s", outcome(msi(ctx, MSI_ADDRESS | 0x40 << 12, MSI_VECTOR)));
    guest_does(ctx, GUEST_IRQ_MSI, MSI_VECTOR, 0, 0);
    say("R24.fixed", "%s", outcome(msi(ctx, MSI_ADDRESS, MSI_VECTOR)));
    say("R24.fixed-count", "%" PRIu64, count_irqs(ctx, MSI_VECTOR));
    guest_does(ctx, GUEST_IRQ_EOI, MSI_VECTOR, 0, 0);
    say("R24.again", "%s", outcome(msi(ctx, MSI_ADDRESS, MSI_VECTOR)));
    say("R24.again-count", "%" PRIu64, count_irqs(ctx, MSI_VECTOR));
    guest_does(ctx, GUEST_IRQ_EOI, MSI_VECTOR, 0, 0);
    say("R24.other-address", "%s", outcome(msi(ctx, 0x12300000u, MSI_VECTOR)));
    say("R24.other-address-count", "%" PRIu64, count_irqs(ctx, MSI_VECTOR));
    guest_does(ctx, GUEST_IRQ_EOI, MSI_VECTOR, 0, 0);
    say("R24.set-irq-level", "%s", outcome(spi(ctx, SPI, 1)));
}

static int intx(struct context *ctx, unsigned int device, unsigned int pin, unsigned int level)
{
    return xendevicemodel_set_pci_intx_level(ctx->dm, (domid_t)ctx->domid, 0, 0, (uint8_t)device,
                                             (uint8_t)pin, level);
}

static int isa(struct context *ctx, unsigned int irq, unsigned int level)
{
    return xendevicemodel_set_isa_irq_level(ctx->dm, (domid_t)ctx->domid, (uint8_t)irq, level);
}

static void say_level_pin(struct context *ctx)
{
    guest_does(ctx, GUEST_IRQ_PIN, INTX_GSI, PIN_VECTOR, 1);
    say("R25.raise", "%s", outcome(intx(ctx, DEVICE, 0, 1)));
    say("R25.raise-count", "%" PRIu64, count_irqs(ctx, PIN_VECTOR));
    say("R25.raise-again", "%s", outcome(intx(ctx, DEVICE, 0, 1)));
    say("R25.raise-again-count", "%" PRIu64, count_irqs(ctx, PIN_VECTOR));
    guest_does(ctx, GUEST_IRQ_EOI, PIN_VECTOR, 0, 0);
    say("R25.eoi-while-raised-count", "%" PRIu64, count_irqs(ctx, PIN_VECTOR));
    say("R25.lower", "%s", outcome(intx(ctx, DEVICE, 0, 0)));
    guest_does(ctx, GUEST_IRQ_EOI, PIN_VECTOR, 0, 0);
    say("R25.eoi-after-lower-count", "%" PRIu64, count_irqs(ctx, PIN_VECTOR));
    intx(ctx, DEVICE, 0, 1);
    say("R25.raise-after-lower-count", "%" PRIu64, count_irqs(ctx, PIN_VECTOR));
    intx(ctx, DEVICE, 0, 0);
    guest_does(ctx, GUEST_IRQ_EOI, PIN_VECTOR, 0, 0);
}

static void say_edge_pin(struct context *ctx)
{
    guest_does(ctx, GUEST_IRQ_PIN, ISA_IRQ, ISA_VECTOR, 0);
    say("R25.isa-raise", "%s", outcome(isa(ctx, ISA_IRQ, 1)));
    say("R25.isa-raise-count", "%" PRIu64, count_irqs(ctx, ISA_VECTOR));
    guest_does(ctx, GUEST_IRQ_EOI, ISA_VECTOR, 0, 0);
    isa(ctx, ISA_IRQ, 1);
    say("R25.isa-raise-again-count", "%" PRIu64, count_irqs(ctx, ISA_VECTOR));
    isa(ctx, ISA_IRQ, 0);
    isa(ctx, ISA_IRQ, 1);
    say("R25.isa-lower-raise-count", "%" PRIu64, count_irqs(ctx, ISA_VECTOR));
    isa(ctx, ISA_IRQ, 0);
    guest_does(ctx, GUEST_IRQ_EOI, ISA_VECTOR, 0, 0);
}

static void say_bad_lines(struct context *ctx)
{
    say("R25.isa-16", "%s", outcome(isa(ctx, 16, 1)));
    say("R25.isa-level-2", "%s", outcome(isa(ctx, ISA_IRQ, 2)));
    say("R25.device-32", "%s", outcome(intx(ctx, 32, 0, 1)));
    say("R25.intx-4", "%s", outcome(intx(ctx, DEVICE, 4, 1)));
    say("R25.level-2", "%s", outcome(intx(ctx, DEVICE, 0, 2)));
    say("R25.bus-1", "%s",
        outcome(xendevicemodel_set_pci_intx_level(ctx->dm, (domid_t)ctx->domid, 0, 1, DEVICE, 0, 1)));
    say("R25.segment-1", "%s",
        outcome(xendevicemodel_set_pci_intx_level(ctx->dm, (domid_t)ctx->domid, 1, 0, DEVICE, 0, 1)));
    say("R25.link-4", "%s", outcome(xendevicemodel_set_pci_link_route(ctx->dm, (domid_t)ctx->domid, 4, 10)));
    say("R25.link-irq-16", "%s",
        outcome(xendevicemodel_set_pci_link_route(ctx->dm, (domid_t)ctx->domid, 0, 16)));
    say("R25.link", "%s", outcome(xendevicemodel_set_pci_link_route(ctx->dm, (domid_t)ctx->domid, 0, 0)));
}

void rule_intx(struct context *ctx, const char *rule)
{
    (void)rule;
    say_level_pin(ctx);
    say_edge_pin(ctx);
    say_bad_lines(ctx);
}
