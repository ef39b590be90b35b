/* SPDX-License-Identifier: BSD-2-Clause */
/* Running one command of the guest while serving what it causes. */
#include "conformance.h"

#include <string.h>
#include <time.h>

#define RUN_MS 8000
#define STEP_MS 2

void pause_ms(unsigned int ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    nanosleep(&time, NULL);
}

static unsigned int now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (unsigned int)(time.tv_sec * 1000 + time.tv_nsec / 1000000);
}

bool command_wait(struct context *ctx, unsigned int vcpu, unsigned int ms, uint64_t *result, bool *aborted)
{
    unsigned int start = now_ms();
    uint64_t ignored;
    bool also_ignored;

    while (!ctx->guest->done(ctx, vcpu, result ? result : &ignored, aborted ? aborted : &also_ignored)) {
        if (now_ms() - start > ms) {
            return false;
        }
        pause_ms(1);
    }
    return true;
}

static void serve_slot(struct context *ctx, struct server *server, unsigned int index, unsigned int vcpu,
                       uint64_t answer, struct run *run)
{
    if (slot_state(server, vcpu) != STATE_IOREQ_READY) {
        return;
    }
    if (run->requests < RUN_REQUESTS) {
        memcpy(&run->request[run->requests], (const void *)&server->page->vcpu_ioreq[vcpu],
               sizeof(struct ioreq));
        run->server[run->requests] = index;
    }
    run->requests++;
    slot_answer(ctx, server, vcpu, answer, STATE_IORESP_READY, true);
}

static void serve_all(struct context *ctx, struct server *servers, unsigned int count, uint64_t answer,
                      struct run *run)
{
    for (unsigned int s = 0; s < count; s++) {
        for (unsigned int i = 0; servers[s].id >= 0 && i < ctx->vcpus; i++) {
            if (servers[s].port[i] > 0) {
                serve_slot(ctx, &servers[s], s, i, answer, run);
            }
        }
    }
}

void run(struct context *ctx, struct server *servers, unsigned int count, const struct command *command,
         uint64_t answer, struct run *run)
{
    unsigned int start = now_ms();

    memset(run, 0, sizeof(*run));
    servers_pump(ctx, servers, count, 0);
    ctx->guest->start(ctx, 0, command);
    while (now_ms() - start < RUN_MS) {
        servers_pump(ctx, servers, count, STEP_MS);
        serve_all(ctx, servers, count, answer, run);
        if (ctx->guest->done(ctx, 0, &run->result, &run->aborted)) {
            run->finished = true;
            return;
        }
    }
}

uint64_t run_alone(struct context *ctx, const struct command *command, bool *aborted)
{
    struct run one;

    run(ctx, NULL, 0, command, 0, &one);
    if (aborted) {
        *aborted = one.aborted;
    }
    return one.finished ? one.result : UINT64_C(0xdead);
}

struct command plain_write(const struct context *ctx, unsigned int size, uint64_t value)
{
    return ctx->profile == PROFILE_ARM64 ? mem_write(size, ctx->mmio, value)
                                         : pio_out(size, ctx->port, value);
}

struct command plain_read(const struct context *ctx, unsigned int size)
{
    return ctx->profile == PROFILE_ARM64 ? mem_read(size, ctx->mmio) : pio_in(size, ctx->port);
}

int plain_server(struct context *ctx, struct server *server)
{
    uint64_t start = ctx->profile == PROFILE_ARM64 ? ctx->mmio : ctx->port;

    return server_open(ctx, server, ctx->profile == PROFILE_ARM64, start, start + 15);
}
