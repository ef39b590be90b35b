/* SPDX-License-Identifier: BSD-2-Clause */
/* R15 to R18: how x86 splits accesses, and PCI configuration. */
#include "conformance.h"

#include <inttypes.h>
#include <stdio.h>

#define CF8 0xcf8
#define CFC 0xcfc
#define DEVICE 9
#define CONFIG_ADDRESS (0x80000000u | DEVICE << 11)

static void say_command(struct context *ctx, struct server *servers, unsigned int count, const char *name,
                        const struct command *command)
{
    struct run one;

    run(ctx, servers, count, command, 0, &one);
    say_run(ctx, name, &one, "done");
}

/* Two pages of buffer, zero but for the values that single elements carry. */
static void fill_buffer(struct context *ctx)
{
    uint64_t buffer = ctx->ram + BUFFER_OFFSET;
    struct command clear = { .op = GUEST_REP_STOS, .size = 4, .count = 2 * GUEST_PAGE / 4, .addr = buffer };
    struct command first = mem_write(4, buffer, 0x11223344),
                   third = mem_write(4, buffer + 0x1002, 0x55667788);

    run_alone(ctx, &clear, NULL);
    run_alone(ctx, &first, NULL);
    run_alone(ctx, &third, NULL);
}

static void say_rep_pio(struct context *ctx, struct server *server, const char *name, enum guest_op op,
                        unsigned int size, unsigned int count, uint64_t offset, bool down)
{
    struct command command = { .op = op, .size = size, .count = count, .down = down, .addr = ctx->port,
                               .buffer = ctx->ram + BUFFER_OFFSET + offset };

    say_command(ctx, server, 1, name, &command);
}

static void rep_pio(struct context *ctx, struct server *server)
{
    say_rep_pio(ctx, server, "R15.outsl-16", GUEST_REP_OUTS, 4, 16, 0, false);
    say_rep_pio(ctx, server, "R15.outsl-1", GUEST_REP_OUTS, 4, 1, 0, false);
    say_rep_pio(ctx, server, "R15.outsl-0", GUEST_REP_OUTS, 4, 0, 0, false);
    say_rep_pio(ctx, server, "R15.outsw-16", GUEST_REP_OUTS, 2, 16, 2, false);
    say_rep_pio(ctx, server, "R15.outsb-16", GUEST_REP_OUTS, 1, 16, 1, false);
    say_rep_pio(ctx, server, "R15.outsl-2000", GUEST_REP_OUTS, 4, 2000, 0, false);
    say_rep_pio(ctx, server, "R15.outsb-5000", GUEST_REP_OUTS, 1, 5000, 0x10, false);
    say_rep_pio(ctx, server, "R15.outsl-down", GUEST_REP_OUTS, 4, 16, 0x100, true);
    say_rep_pio(ctx, server, "R15.outsl-down-over-page", GUEST_REP_OUTS, 4, 4, 0x1004, true);
    say_rep_pio(ctx, server, "R15.outsw-down-over-page", GUEST_REP_OUTS, 2, 5, 0x1003, true);
    say_rep_pio(ctx, server, "R15.outsb-down-over-page", GUEST_REP_OUTS, 1, 5, 0x1002, true);
    say_rep_pio(ctx, server, "R15.outsl-down-straddle", GUEST_REP_OUTS, 4, 4, 0x1006, true);
    say_rep_pio(ctx, server, "R15.outsl-straddle", GUEST_REP_OUTS, 4, 3, 0xffa, false);
    say_rep_pio(ctx, server, "R15.insl-16", GUEST_REP_INS, 4, 16, 0, false);
    say_rep_pio(ctx, server, "R15.insw-16", GUEST_REP_INS, 2, 16, 0, false);
    say_rep_pio(ctx, server, "R15.insb-16", GUEST_REP_INS, 1, 16, 0, false);
    say_rep_pio(ctx, server, "R15.insl-2000", GUEST_REP_INS, 4, 2000, 0, false);
    say_rep_pio(ctx, server, "R15.insl-down", GUEST_REP_INS, 4, 16, 0x100, true);
}

static void say_movs(struct context *ctx, struct server *server, const char *name, unsigned int size,
                     unsigned int count, uint64_t to, uint64_t from, bool down)
{
    struct command command = { .op = GUEST_REP_MOVS, .size = size, .count = count, .down = down, .addr = to,
                               .buffer = from };

    say_command(ctx, server, 1, name, &command);
}

static void say_stos(struct context *ctx, struct server *server, const char *name, unsigned int size,
                     unsigned int count, uint64_t to, bool down)
{
    struct command command = { .op = GUEST_REP_STOS, .size = size, .count = count, .down = down, .addr = to,
                               .value = 0x11223344 };

    say_command(ctx, server, 1, name, &command);
}

static void rep_mmio(struct context *ctx, struct server *server)
{
    uint64_t buffer = ctx->ram + BUFFER_OFFSET, mmio = ctx->mmio;

    say_movs(ctx, server, "R15.movsl-to-mmio", 4, 16, mmio, buffer, false);
    say_movs(ctx, server, "R15.movsl-from-mmio", 4, 16, buffer, mmio, false);
    say_movs(ctx, server, "R15.movsb-to-mmio", 1, 16, mmio, buffer, false);
    say_movs(ctx, server, "R15.movsl-to-mmio-down", 4, 8, mmio + 0x100, buffer + 0x100, true);
    say_movs(ctx, server, "R15.movsl-over-mmio-page", 4, 8, mmio + 0xff0, buffer, false);
    say_movs(ctx, server, "R15.movsl-over-ram-page", 4, 8, mmio, buffer + 0xff0, false);
    say_movs(ctx, server, "R15.movsl-down-over-mmio-page", 4, 8, mmio + 0x1008, buffer + 0x100, true);
    say_movs(ctx, server, "R15.movsl-down-over-ram-page", 4, 8, mmio + 0x100, buffer + 0x1008, true);
    say_movs(ctx, server, "R15.movsl-straddle-mmio", 4, 3, mmio + 0xffa, buffer, false);
    say_movs(ctx, server, "R15.movsl-straddle-mmio-read", 4, 3, buffer, mmio + 0xffa, false);
    say_movs(ctx, server, "R15.movsl-straddle-ram", 4, 3, mmio, buffer + 0xffa, false);
    say_movs(ctx, server, "R15.movsl-1-to-mmio", 4, 1, mmio + 0xffe, buffer, false);
    say_movs(ctx, server, "R15.movsl-1-from-mmio", 4, 1, buffer, mmio + 0xffe, false);
    say_movs(ctx, server, "R15.movsl-mmio-to-mmio", 4, 2, mmio + 0x800, mmio, false);
    say_stos(ctx, server, "R15.stosl-16", 4, 16, mmio, false);
    say_stos(ctx, server, "R15.stosw-16", 2, 16, mmio, false);
    say_stos(ctx, server, "R15.stosb-16", 1, 16, mmio, false);
    say_stos(ctx, server, "R15.stosl-down", 4, 8, mmio + 0x100, true);
    say_stos(ctx, server, "R15.stosl-over-page", 4, 8, mmio + 0xff0, false);
    say_stos(ctx, server, "R15.stosl-down-over-page", 4, 8, mmio + 0x1008, true);
    say_stos(ctx, server, "R15.stosl-straddle", 4, 4, mmio + 0xff6, false);
    say_stos(ctx, server, "R15.stosl-1-straddle", 4, 1, mmio + 0xffe, false);
}

void rule_rep(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;

    fill_buffer(ctx);
    if (server_open(ctx, &server, false, ctx->port, ctx->port + 15)) {
        say(rule, "%s", outcome(-1));
    } else {
        rep_pio(ctx, &server);
    }
    server_close(ctx, &server);
    if (server_open(ctx, &server, true, ctx->mmio, ctx->mmio + 2 * GUEST_PAGE - 1)) {
        say(rule, "%s", outcome(-1));
    } else {
        rep_mmio(ctx, &server);
    }
    server_close(ctx, &server);
}

static void say_crossing(struct context *ctx, struct server *server, unsigned int size, unsigned int offset)
{
    struct command write = mem_write(size, ctx->mmio + offset, UINT64_C(0x1122334455667788));
    struct command read = mem_read(size, ctx->mmio + offset);
    struct run one;
    char name[40], result[20];

    snprintf(name, sizeof(name), "R16.write-%u-at-%x", size, offset);
    say_command(ctx, server, 1, name, &write);
    run(ctx, server, 1, &read, UINT64_C(0x8877665544332211), &one);
    snprintf(name, sizeof(name), "R16.read-%u-at-%x", size, offset);
    snprintf(result, sizeof(result), "%" PRIx64, one.result);
    say_run(ctx, name, &one, result);
}

void rule_crossing(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;

    if (server_open(ctx, &server, true, ctx->mmio, ctx->mmio + 2 * GUEST_PAGE - 1)) {
        say(rule, "%s", outcome(-1));
    } else {
        say_crossing(ctx, &server, 4, 0xffe);
        say_crossing(ctx, &server, 4, 0xffd);
        say_crossing(ctx, &server, 4, 0xfff);
        say_crossing(ctx, &server, 2, 0xfff);
        say_crossing(ctx, &server, 8, 0xffc);
        say_crossing(ctx, &server, 8, 0xffd);
        say_crossing(ctx, &server, 4, 0x101);
        say_crossing(ctx, &server, 8, 0x103);
        say_crossing(ctx, &server, 2, 0x1ff);
    }
    server_close(ctx, &server);
    if (server_open(ctx, &server, true, ctx->mmio, ctx->mmio + GUEST_PAGE - 1) == 0) {
        struct command read = mem_read(4, ctx->mmio + 0xffe);
        struct run one;
        char result[20];

        run(ctx, &server, 1, &read, 0, &one);
        snprintf(result, sizeof(result), "%" PRIx64, one.result);
        say_run(ctx, "R16.second-half-unclaimed", &one, result);
    }
    server_close(ctx, &server);
}

static void say_config(struct context *ctx, struct server *servers, const char *name, uint32_t address,
                       struct command access)
{
    struct command latch = pio_out(4, CF8, address);
    struct run one;
    char result[20];

    run(ctx, servers, 2, &latch, 0, &one);
    run(ctx, servers, 2, &access, UINT64_C(0x44332211), &one);
    snprintf(result, sizeof(result), "%" PRIx64, one.result);
    say_run(ctx, name, &one, access.op == GUEST_PIO_IN ? result : "done");
}

void rule_config(struct context *ctx, const char *rule)
{
    struct server servers[2] = { NO_SERVER, NO_SERVER };
    struct command latch = pio_out(4, CF8, CONFIG_ADDRESS);

    if (server_open(ctx, &servers[0], true, ctx->mmio, ctx->mmio) ||
        server_open(ctx, &servers[1], false, CF8, CFC + 3) ||
        xendevicemodel_map_pcidev_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)servers[0].id,
                                                  0, 0, DEVICE, 0)) {
        say(rule, "%s", outcome(-1));
    } else {
        say_command(ctx, servers, 2, "R17.cf8-write-seen", &latch);
        say_config(ctx, servers, "R17.read-4", CONFIG_ADDRESS | 0x10, pio_in(4, CFC));
        say_config(ctx, servers, "R17.read-2-at-cfe", CONFIG_ADDRESS | 0x10, pio_in(2, CFC + 2));
        say_config(ctx, servers, "R17.read-1-at-cfd", CONFIG_ADDRESS | 0x10, pio_in(1, CFC + 1));
        say_config(ctx, servers, "R17.read-4-at-cfe", CONFIG_ADDRESS | 0x10, pio_in(4, CFC + 2));
        say_config(ctx, servers, "R17.write-4", CONFIG_ADDRESS | 0x3c, pio_out(4, CFC, 0xa1b2c3d4));
        say_config(ctx, servers, "R17.write-1-at-cff", CONFIG_ADDRESS | 0x3c,
                   pio_out(1, CFC + 3, 0xa1b2c3d4));
        say_config(ctx, servers, "R17.low-bits-of-cf8", CONFIG_ADDRESS | 0x13, pio_in(4, CFC));
        say_config(ctx, servers, "R17.other-function", CONFIG_ADDRESS | 1 << 8, pio_in(4, CFC));
        say_config(ctx, servers, "R17.other-bus", CONFIG_ADDRESS | 1 << 16, pio_in(4, CFC));
        say_config(ctx, servers, "R17.bit-31-clear", 0x4800, pio_in(4, CFC));
        say_config(ctx, servers, "R17.bit-31-clear-write", 0x4800, pio_out(2, CFC + 2, 0xa1b2c3d4));
    }
    server_close(ctx, &servers[1]);
    server_close(ctx, &servers[0]);
}

void rule_config_latch(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command latch = pio_out(4, CF8, CONFIG_ADDRESS | 0x20);
    struct command read_back = pio_in(4, CF8), cycle = pio_in(4, CFC), byte = pio_out(1, CF8, 0x40);
    struct command clear = pio_out(4, CF8, 0);
    struct run one;

    if (server_open(ctx, &server, true, ctx->mmio, ctx->mmio) ||
        xendevicemodel_map_pcidev_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 0, 0,
                                                  DEVICE, 0)) {
        say(rule, "%s", outcome(-1));
    } else {
        say_command(ctx, &server, 1, "R18.write", &latch);
        run(ctx, &server, 1, &read_back, 0, &one);
        say("R18.read-back", "%" PRIx64, one.result);
        say_command(ctx, &server, 1, "R18.cycle", &cycle);
        say_command(ctx, &server, 1, "R18.byte-write", &byte);
        say_command(ctx, &server, 1, "R18.cycle-after-byte-write", &cycle);
        say_command(ctx, &server, 1, "R18.clear", &clear);
        run(ctx, &server, 1, &cycle, 0, &one);
        say("R18.cycle-after-clear", "%u request(s), %" PRIx64, one.requests, one.result);
    }
    server_close(ctx, &server);
}
