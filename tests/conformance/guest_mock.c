/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest under the mock: the same commands, played through the mock's guest API. */
#include "conformance.h"
#include "mock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../mockxen/guest.h"

#define RAM_BYTES (32u << 20)
#define VCPUS 2
#define QUIET_MS 60
#define IRQ_NUMBERS 256
#define NO_PIN (-1)
#define MSI_BASE 0xfee00000u

/* What a vCPU does at the moment. */
struct vcpu {
    bool busy;       /* an access or a hypercall of the mock is under way */
    bool balloon;    /* what is under way is a hypercall, whose result is known */
    bool lost;       /* the domain crashed or died in it: it never ends */
    bool aborted;
    uint64_t result;
};

struct player {
    struct mock *mock;
    struct mock_guest *guest;
    struct vcpu vcpu[MAILBOX_VCPUS];
    uint64_t irq_before[IRQ_NUMBERS]; /* the mock's counters when the guest began to count */
    int pin[IRQ_NUMBERS];             /* IO-APIC pin behind a vector, or NO_PIN */
    bool hold;                        /* the guest takes no interrupt */
};

static const enum mock_profile mock_profiles[] = { MOCK_HVM, MOCK_PVH, MOCK_ARM64 };

struct mock_guest *mock_player_guest(struct context *ctx)
{
    return ((struct player *)ctx->mock_state)->guest;
}

struct mock *mock_player_mock(struct context *ctx)
{
    return ((struct player *)ctx->mock_state)->mock;
}

static int open_guest(struct context *ctx)
{
    ctx->guest_state = ctx->mock_state;
    return 0;
}

static uint64_t irq_total(const struct player *player, enum mock_profile profile, unsigned int number)
{
    if (profile == MOCK_ARM64) {
        return mock_spi_count(player->guest, number);
    }
    if (player->pin[number] != NO_PIN) {
        return mock_gsi_count(player->guest, (unsigned int)player->pin[number]);
    }
    return mock_msi_count(player->guest, MSI_BASE, number) +
           mock_msi_count(player->guest, 0x12300000u, number);
}

/* Interrupts are counted by the mock; the guest only says from when on, and ends them. */
static uint64_t irq_command(struct context *ctx, struct player *player, const struct command *command)
{
    unsigned int number = (unsigned int)command->addr % IRQ_NUMBERS;
    enum mock_profile profile = mock_profiles[ctx->profile];

    switch (command->op) {
    case GUEST_IRQ_PIN:
        if (profile != MOCK_ARM64) {
            number = (unsigned int)command->value % IRQ_NUMBERS;
            player->pin[number] = (int)command->addr;
            mock_gsi_config(player->guest, (unsigned int)command->addr, command->count != 0, false);
        }
        player->irq_before[number] = irq_total(player, profile, number);
        return 0;
    case GUEST_IRQ_MSI:
        player->irq_before[number] = irq_total(player, profile, number);
        return 0;
    case GUEST_IRQ_HOLD:
        player->hold = command->value != 0;
        return 0;
    case GUEST_IRQ_EOI:
        if (player->pin[number] != NO_PIN) {
            mock_gsi_eoi(player->guest, (unsigned int)player->pin[number]);
        }
        return 0;
    default:
        if (profile == MOCK_ARM64 && !player->hold) {
            mock_spi_take(player->guest, number, 0);
        }
        return irq_total(player, profile, number) - player->irq_before[number];
    }
}

static bool is_mmio(const struct context *ctx, uint64_t gpa)
{
    return gpa < ctx->ram || gpa >= ctx->ram + RAM_BYTES || (gpa >= 0xa0000 && gpa < 0xc0000);
}

static struct mock_access string_access(const struct context *ctx, const struct command *command)
{
    struct mock_access access = { .rep = true,
                                  .df = command->down,
                                  .size = command->size,
                                  .count = command->count,
                                  .addr = command->addr,
                                  .data = command->buffer };

    access.space = command->op == GUEST_REP_OUTS || command->op == GUEST_REP_INS ? MOCK_PIO : MOCK_MMIO;
    access.read = command->op == GUEST_REP_INS;
    if (command->op == GUEST_REP_STOS) {
        access.stos = true;
        access.data = command->value;
    } else if (command->op == GUEST_REP_MOVS && is_mmio(ctx, command->buffer)) {
        access.read = true;
        access.addr = command->buffer;
        access.data = command->addr;
    }
    return access;
}

static struct mock_access access_of(const struct context *ctx, const struct command *command)
{
    if (command->op >= GUEST_REP_OUTS && command->op != GUEST_WRITE && command->op != GUEST_READ) {
        return string_access(ctx, command);
    }
    return (struct mock_access){
        .space = command->op == GUEST_PIO_OUT || command->op == GUEST_PIO_IN ? MOCK_PIO : MOCK_MMIO,
        .read = command->op == GUEST_PIO_IN || command->op == GUEST_READ,
        .size = command->size,
        .addr = command->addr,
        .data = command->value,
    };
}

static void start_command(struct context *ctx, unsigned int vcpu, const struct command *command)
{
    struct player *player = ctx->guest_state;
    struct vcpu *self = &player->vcpu[vcpu];
    struct mock_access access;
    int status = 0;

    *self = (struct vcpu){ .result = 0 };
    switch (command->op) {
    case GUEST_PING:
        self->result = command->value;
        return;
    case GUEST_VCPU_UP:
        return;
    case GUEST_ACPI_MOVE:
        mock_acpi_ports_moved(player->guest, command->value != 0);
        return;
    case GUEST_SET_RTC:
        status = mock_timeoffset(player->guest, 30);
        break;
    case GUEST_BALLOON_IN:
        status = mock_populate(player->guest, command->addr / GUEST_PAGE, 1);
        self->result = status == 0;
        break;
    case GUEST_BALLOON_OUT:
        status = mock_decrease_reservation_start(player->guest, vcpu, command->addr / GUEST_PAGE, 1);
        self->busy = status == 0;
        self->balloon = true;
        self->result = 1;
        break;
    case GUEST_IRQ_MSI:
    case GUEST_IRQ_PIN:
    case GUEST_IRQ_COUNT:
    case GUEST_IRQ_EOI:
    case GUEST_IRQ_HOLD:
        self->result = irq_command(ctx, player, command);
        return;
    default:
        access = access_of(ctx, command);
        status = mock_access_start(player->guest, vcpu, &access);
        self->busy = status == 0;
    }
    if (status) {
        fprintf(stderr, "conformance: the mock refuses command %d: %s\n", (int)command->op,
                error_name(-status));
    }
}

static bool command_done(struct context *ctx, unsigned int vcpu, uint64_t *result, bool *aborted)
{
    struct player *player = ctx->guest_state;
    struct vcpu *self = &player->vcpu[vcpu];
    uint64_t value = self->result;

    if (self->busy) {
        switch (mock_access_wait(player->guest, vcpu, 0, &value)) {
        case MOCK_BLOCKED:
            return false;
        case MOCK_DONE:
            break;
        case MOCK_FAULT:
            self->aborted = true;
            break;
        default:
            self->lost = true;
        }
        self->busy = false;
        self->result = self->balloon ? self->result : value;
    }
    *result = self->result;
    *aborted = self->aborted;
    return !self->lost;
}

static int kill_domain(struct context *ctx)
{
    struct player *player = ctx->guest_state;

    return mock_domain_kill(player->guest);
}

static void close_guest(struct context *ctx)
{
    struct player *player = ctx->mock_state;

    if (player && player->guest) {
        mock_guest_free(player->guest);
        player->guest = NULL;
    }
    ctx->guest_state = NULL;
}

static const struct guest_ops guest_on_mock = {
    .open = open_guest,
    .start = start_command,
    .done = command_done,
    .kill = kill_domain,
    .close = close_guest,
};

int mock_prepare(struct context *ctx)
{
    struct player *player = calloc(1, sizeof(*player));

    if (!player) {
        return -1;
    }
    ctx->mock_state = player;
    for (unsigned int i = 0; i < IRQ_NUMBERS; i++) {
        player->pin[i] = NO_PIN;
    }
    if (ctx->broken) {
        setenv("MOCKXEN_BREAK", ctx->broken, 1);
    }
    player->mock = mock_start(NULL);
    if (player->mock) {
        player->guest = mock_domain_new(player->mock, mock_profiles[ctx->profile], RAM_BYTES, VCPUS);
    }
    if (!player->guest) {
        mock_finish(ctx);
        return -1;
    }
    mock_adopt_env(player->mock);
    ctx->domid = mock_domid(player->guest);
    ctx->guest = &guest_on_mock;
    ctx->quiet_ms = QUIET_MS;
    return 0;
}

void mock_finish(struct context *ctx)
{
    struct player *player = ctx->mock_state;

    if (!player) {
        return;
    }
    if (player->guest) {
        mock_guest_free(player->guest);
    }
    mock_stop(player->mock);
    free(player);
    ctx->mock_state = NULL;
}
