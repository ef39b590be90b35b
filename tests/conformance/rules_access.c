/* SPDX-License-Identifier: BSD-2-Clause */
/* R10, R11, R13, R14: single accesses of the guest. */
#include "conformance.h"

#include <inttypes.h>
#include <stdio.h>

#define PATTERN UINT64_C(0x1122334455667788)
#define ANSWER UINT64_C(0x8877665544332211)
#define WAIT_MS 3000

static uint64_t low_bytes(uint64_t value, unsigned int size)
{
    return size == 8 ? value : value & ((UINT64_C(1) << size * 8) - 1);
}

static void say_access(struct context *ctx, struct server *server, const char *rule, const char *what,
                       const struct command *command)
{
    char name[60], result[20];
    struct run one;
    bool reads = command->op == GUEST_PIO_IN || command->op == GUEST_READ;

    run(ctx, server, 1, command, low_bytes(ANSWER, command->size), &one);
    snprintf(name, sizeof(name), "%s.%s-%u", rule, what, command->size);
    snprintf(result, sizeof(result), "%" PRIx64, one.result);
    say_run(ctx, name, &one, reads ? result : "done");
}

void rule_fields(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command command;

    if (applies(ctx, ON_X86, "R10.pio") && server_open(ctx, &server, false, ctx->port, ctx->port + 15) == 0) {
        for (unsigned int size = 1; size <= 4; size *= 2) {
            command = pio_out(size, ctx->port + 4, PATTERN);
            say_access(ctx, &server, rule, "out", &command);
            command = pio_in(size, ctx->port + 4);
            say_access(ctx, &server, rule, "in", &command);
        }
    }
    server_close(ctx, &server);
    if (server_open(ctx, &server, true, ctx->mmio, ctx->mmio + GUEST_PAGE - 1)) {
        say(rule, "%s", outcome(-1));
    } else {
        for (unsigned int size = 1; size <= 8; size *= 2) {
            command = mem_write(size, ctx->mmio + 0x10, PATTERN);
            say_access(ctx, &server, rule, "mmio-write", &command);
            command = mem_read(size, ctx->mmio + 0x10);
            say_access(ctx, &server, rule, "mmio-read", &command);
        }
    }
    server_close(ctx, &server);
}

/* What to do with a pending read before it is answered. */
enum meanwhile { AS_USUAL, IN_PROCESS, DISABLED, RANGE_GONE };

static void meanwhile_do(struct context *ctx, struct server *server, enum meanwhile what)
{
    uint64_t start = ctx->profile == PROFILE_ARM64 ? ctx->mmio : ctx->port;

    if (what == IN_PROCESS) {
        slot_answer(ctx, server, 0, 0, STATE_IOREQ_INPROCESS, false);
    } else if (what == DISABLED) {
        xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id, 0);
    } else if (what == RANGE_GONE) {
        xendevicemodel_unmap_io_range_from_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id,
                                                        ctx->profile == PROFILE_ARM64, start, start + 15);
    }
}

static void say_answer(struct context *ctx, const char *name, unsigned int size, uint64_t data,
                       unsigned int state, enum meanwhile what)
{
    struct server server = NO_SERVER;
    struct command command = plain_read(ctx, size);
    struct ioreq request;
    uint64_t result = 0;
    bool aborted = false;

    if (plain_server(ctx, &server)) {
        say(name, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    ctx->guest->start(ctx, 0, &command);
    if (!slot_wait(ctx, &server, 0, &request)) {
        say(name, "no request");
    } else {
        meanwhile_do(ctx, &server, what);
        slot_answer(ctx, &server, 0, data, state, true);
        if (!command_wait(ctx, 0, WAIT_MS, &result, &aborted)) {
            say(name, "stuck");
        } else {
            say(name, "%" PRIx64 ", slot state %u%s", result, slot_state(&server, 0),
                aborted ? ", data abort" : "");
        }
    }
    server_close(ctx, &server);
}

static void say_blocking_write(struct context *ctx)
{
    struct server server = NO_SERVER;
    struct command command = plain_write(ctx, 4, 7);
    struct ioreq request;
    uint64_t result;

    if (plain_server(ctx, &server)) {
        say("R11.write-unanswered", "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    ctx->guest->start(ctx, 0, &command);
    slot_wait(ctx, &server, 0, &request);
    say("R11.write-unanswered", "%s",
        command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "vCPU runs" : "vCPU waits");
    slot_answer(ctx, &server, 0, 0, STATE_IORESP_READY, true);
    say("R11.write-answered", "%s",
        command_wait(ctx, 0, WAIT_MS, &result, NULL) ? "vCPU runs" : "vCPU waits");
    server_close(ctx, &server);
}

void rule_answers(struct context *ctx, const char *rule)
{
    (void)rule;
    say_answer(ctx, "R11.none-1", 1, 0x12, STATE_IOREQ_NONE, AS_USUAL);
    say_answer(ctx, "R11.none-2", 2, 0x1234, STATE_IOREQ_NONE, AS_USUAL);
    say_answer(ctx, "R11.none-4", 4, 0x12345678, STATE_IOREQ_NONE, AS_USUAL);
    say_answer(ctx, "R11.wide-answer-1", 1, PATTERN, STATE_IORESP_READY, AS_USUAL);
    say_answer(ctx, "R11.wide-answer-2", 2, PATTERN, STATE_IORESP_READY, AS_USUAL);
    say_answer(ctx, "R11.wide-answer-4", 4, PATTERN, STATE_IORESP_READY, AS_USUAL);
    say_answer(ctx, "R11.in-process", 4, 0x12345678, STATE_IORESP_READY, IN_PROCESS);
    say_answer(ctx, "R11.after-disable", 4, 0x12345678, STATE_IORESP_READY, DISABLED);
    say_answer(ctx, "R11.after-unmap-range", 4, 0x12345678, STATE_IORESP_READY, RANGE_GONE);
    say_blocking_write(ctx);
}

/* Not a state of the ABI: Xen crashes the domain, which then only can be destroyed. */
void rule_bad_state(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command command = plain_read(ctx, 4);
    struct ioreq request;
    uint64_t result;

    if (plain_server(ctx, &server)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    ctx->guest->start(ctx, 0, &command);
    say("R30.request", "%s", slot_wait(ctx, &server, 0, &request) ? "READY" : "none");
    slot_answer(ctx, &server, 0, 1, 7, true);
    say("R30.state-7", "%s",
        command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "vCPU runs" : "vCPU stopped");
    slot_answer(ctx, &server, 0, 1, STATE_IORESP_READY, true);
    say("R30.late-answer", "%s",
        command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "vCPU runs" : "vCPU stopped");
    server_close(ctx, &server);
}

static void say_misused(struct context *ctx, struct server *server, const char *name)
{
    struct command command = mem_read(4, ctx->mmio);
    struct run one;

    ctx->guest->start(ctx, 0, &command);
    one.finished = command_wait(ctx, 0, WAIT_MS, &one.result, &one.aborted);
    say(name, "%s, slot state %u", !one.finished ? "stuck" : one.aborted ? "fault" : "no fault",
        slot_state(server, 0));
}

/* A slot that is not as Xen left it: the access faults, the slot stays untouched. */
void rule_misused_slot(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command command = mem_read(4, ctx->mmio);
    struct run one;
    uint32_t eport;

    if (server_open(ctx, &server, true, ctx->mmio, ctx->mmio + 15)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    slot_answer(ctx, &server, 0, 0, STATE_IORESP_READY, false);
    say_misused(ctx, &server, "R36.state-left-3");
    slot_answer(ctx, &server, 0, 0, STATE_IOREQ_NONE, false);
    eport = server.page->vcpu_ioreq[0].vp_eport;
    server.page->vcpu_ioreq[0].vp_eport = eport + 1;
    say_misused(ctx, &server, "R36.vp-eport-changed");
    server.page->vcpu_ioreq[0].vp_eport = eport;
    run(ctx, &server, 1, &command, 0x1234, &one);
    say_run(ctx, "R36.put-right", &one, "done");
    server_close(ctx, &server);
}

/* Not on Arm, where Xen would use freed memory: nobody wakes the vCPU but another port of its own. */
void rule_destroyed_pending(struct context *ctx, const char *rule)
{
    struct server servers[2] = { NO_SERVER, NO_SERVER };
    struct command command = plain_read(ctx, 4);
    struct ioreq request;
    uint64_t result = 0;

    if (plain_server(ctx, &servers[0]) || plain_server(ctx, &servers[1])) {
        say(rule, "%s", outcome(-1));
    } else {
        ctx->guest->start(ctx, 0, &command);
        say("R37.request", "%s", slot_wait(ctx, &servers[1], 0, &request) ? "READY" : "none");
        say("R37.destroy", "%s",
            outcome(xendevicemodel_destroy_ioreq_server(ctx->dm, (domid_t)ctx->domid,
                                                        (ioservid_t)servers[1].id)));
        say("R37.destroyed", "%s",
            command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "vCPU runs" : "vCPU waits");
        say("R37.notify-of-dead-port", "%s",
            outcome(xenevtchn_notify(ctx->evtchn, (evtchn_port_t)servers[1].port[0])));
        say("R37.after-it", "%s",
            command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "vCPU runs" : "vCPU waits");
        xenevtchn_notify(ctx->evtchn, (evtchn_port_t)servers[0].port[0]);
        say("R37.notify-of-another", "%s",
            command_wait(ctx, 0, WAIT_MS, &result, NULL) ? "vCPU runs" : "vCPU waits");
        say("R37.result", "%" PRIx64, result);
        if (slot_state(&servers[0], 0) == STATE_IOREQ_READY) { /* it went to the wrong server */
            slot_answer(ctx, &servers[0], 0, 0, STATE_IORESP_READY, true);
            command_wait(ctx, 0, WAIT_MS, NULL, NULL);
        }
        server_forget(ctx, &servers[1]);
        servers[1].id = -1;
    }
    server_close(ctx, &servers[1]);
    server_close(ctx, &servers[0]);
}

static void say_winner(struct context *ctx, const char *name, struct server *servers, unsigned int count)
{
    struct command command = plain_read(ctx, 4);
    struct run one;

    run(ctx, servers, count, &command, 0x1234, &one);
    if (one.requests == 0) {
        if (one.aborted) {
            say(name, "nobody, data abort");
        } else {
            say(name, "nobody, %" PRIx64, one.result);
        }
    } else {
        say(name, "id %d, %u request(s)", servers[one.server[0]].id, one.requests);
    }
}

static void say_nobody(struct context *ctx, const char *what, struct command command)
{
    char name[60];
    bool aborted = false;
    uint64_t result;
    bool reads = command.op == GUEST_PIO_IN || command.op == GUEST_READ;

    command.value = reads ? 0 : command.value;
    result = run_alone(ctx, &command, &aborted);
    snprintf(name, sizeof(name), "R13.nobody-%s-%u", what, command.size);
    if (aborted) {
        say(name, "data abort");
    } else if (reads) {
        say(name, "%" PRIx64, result);
    } else {
        say(name, "%s", result == 0 ? "done" : "stuck");
    }
}

static void say_all_nobody(struct context *ctx)
{
    for (unsigned int size = 1; size <= 4 && (ON_X86 & 1u << ctx->profile); size *= 2) {
        say_nobody(ctx, "in", pio_in(size, ctx->port));
        say_nobody(ctx, "out", pio_out(size, ctx->port, 1));
    }
    for (unsigned int size = 1; size <= 8; size *= 2) {
        say_nobody(ctx, "mmio-read", mem_read(size, ctx->mmio));
        say_nobody(ctx, "mmio-write", mem_write(size, ctx->mmio, 1));
    }
}

void rule_priority(struct context *ctx, const char *rule)
{
    struct server servers[2] = { NO_SERVER, NO_SERVER };

    if (plain_server(ctx, &servers[0]) || plain_server(ctx, &servers[1])) {
        say(rule, "%s", outcome(-1));
    } else {
        say_winner(ctx, "R13.two-servers", servers, 2);
        server_close(ctx, &servers[0]);
        plain_server(ctx, &servers[0]);
        say_winner(ctx, "R13.newest-has-lowest-id", servers, 2);
        xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)servers[1].id, 0);
        say_winner(ctx, "R13.higher-disabled", servers, 2);
        xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)servers[0].id, 0);
        say_winner(ctx, "R13.both-disabled", servers, 2);
    }
    server_close(ctx, &servers[1]);
    server_close(ctx, &servers[0]);
    say_all_nobody(ctx);
}

static int claim(struct context *ctx, struct server *server, uint64_t from, uint64_t to)
{
    uint64_t start = ctx->profile == PROFILE_ARM64 ? ctx->mmio : ctx->port;

    return server_open(ctx, server, ctx->profile == PROFILE_ARM64, start + from, start + to);
}

static void say_rep_leaving(struct context *ctx)
{
    struct server server = NO_SERVER;
    uint64_t buffer = ctx->ram + BUFFER_OFFSET;
    struct command command = {
        .op = GUEST_REP_MOVS, .size = 4, .count = 8, .addr = buffer, .buffer = ctx->mmio
    };
    struct command before = mem_write(4, buffer, 0x12345678), after = mem_read(4, buffer);
    struct run one;

    if (!applies(ctx, ON_X86, "R14.rep-leaves-range")) {
        return;
    }
    if (server_open(ctx, &server, true, ctx->mmio, ctx->mmio + 15)) {
        say("R14.rep-leaves-range", "%s", outcome(-1));
    } else {
        run_alone(ctx, &before, NULL);
        run(ctx, &server, 1, &command, 0, &one);
        say_run(ctx, "R14.rep-leaves-range", &one, "done");
        say("R14.rep-leaves-range-ram", "%" PRIx64, run_alone(ctx, &after, NULL));
        command.count = 4;
        run(ctx, &server, 1, &command, 0, &one);
        say_run(ctx, "R14.rep-within-range", &one, "done");
    }
    server_close(ctx, &server);
}

void rule_partial(struct context *ctx, const char *rule)
{
    struct server servers[2] = { NO_SERVER, NO_SERVER };
    uint64_t start = ctx->profile == PROFILE_ARM64 ? ctx->mmio : ctx->port;

    if (claim(ctx, &servers[0], 0, 1)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &servers[0]);
        return;
    }
    say_winner(ctx, "R14.dword-over-two-bytes", servers, 2);
    claim(ctx, &servers[1], 2, 3);
    say_winner(ctx, "R14.dword-over-two-servers", servers, 2);
    server_close(ctx, &servers[1]);
    xendevicemodel_map_io_range_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)servers[0].id,
                                                ctx->profile == PROFILE_ARM64, start + 2, start + 3);
    say_winner(ctx, "R14.dword-over-merged-ranges", servers, 2);
    server_close(ctx, &servers[0]);
    say_rep_leaving(ctx);
}
