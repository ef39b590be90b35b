/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest on real Xen: the freestanding program, spoken to through its mailbox pages. */
#include "conformance.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BOOT_MS 20000

struct mailboxes {
    struct mailbox *box[MAILBOX_VCPUS];
    uint32_t aborts[MAILBOX_VCPUS]; /* seen before the running command */
    bool reported;                  /* a fault of the guest was told once */
};

static int open_mailboxes(struct context *ctx)
{
    struct mailboxes *state = calloc(1, sizeof(*state));

    if (!state) {
        return -1;
    }
    ctx->guest_state = state;
    for (unsigned int i = 0; i < MAILBOX_VCPUS; i++) {
        xen_pfn_t gfn = (ctx->ram + MAILBOX_OFFSET) / GUEST_PAGE + i;

        state->box[i] = xenforeignmemory_map(ctx->memory, ctx->domid, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
        if (!state->box[i]) {
            perror("conformance: cannot map the guest's mailbox");
            return -1;
        }
    }
    for (unsigned int waited = 0; waited < BOOT_MS; waited += 10) {
        if (__atomic_load_n(&state->box[0]->magic, __ATOMIC_ACQUIRE) == MAILBOX_MAGIC) {
            return 0;
        }
        pause_ms(10);
    }
    fprintf(stderr, "conformance: the guest does not look at its mailbox\n");
    return -1;
}

static void start_command(struct context *ctx, unsigned int vcpu, const struct command *command)
{
    struct mailboxes *state = ctx->guest_state;
    struct mailbox *box = state->box[vcpu];

    box->op = command->op;
    box->size = command->size;
    box->count = command->count;
    box->down = command->down;
    box->addr = command->addr;
    box->value = command->value;
    box->buffer = command->buffer;
    state->aborts[vcpu] = box->aborts;
    __atomic_store_n(&box->posted, box->posted + 1, __ATOMIC_RELEASE);
}

static bool command_done(struct context *ctx, unsigned int vcpu, uint64_t *result, bool *aborted)
{
    struct mailboxes *state = ctx->guest_state;
    struct mailbox *box = state->box[vcpu];

    if (box->fault && !state->reported) {
        fprintf(stderr, "conformance: the guest took exception %u at %#x\n", box->fault - 1, box->fault_at);
        state->reported = true;
    }
    if (__atomic_load_n(&box->finished, __ATOMIC_ACQUIRE) != box->posted) {
        return false;
    }
    *result = box->result;
    *aborted = box->aborts != state->aborts[vcpu];
    return true;
}

static int kill_domain(struct context *ctx)
{
    if (!ctx->kill_command) {
        fprintf(stderr, "conformance: no --kill COMMAND given, the domain stays\n");
        return -1;
    }
    return system(ctx->kill_command) == 0 ? 0 : -1;
}

static void close_mailboxes(struct context *ctx)
{
    struct mailboxes *state = ctx->guest_state;

    for (unsigned int i = 0; state && i < MAILBOX_VCPUS; i++) {
        if (state->box[i]) {
            xenforeignmemory_unmap(ctx->memory, state->box[i], 1);
        }
    }
    free(state);
    ctx->guest_state = NULL;
}

const struct guest_ops guest_on_xen = {
    .open = open_mailboxes,
    .start = start_command,
    .done = command_done,
    .kill = kill_domain,
    .close = close_mailboxes,
};
