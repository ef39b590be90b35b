/* SPDX-License-Identifier: BSD-2-Clause */
/* R33: what Xen keeps for itself although a server claims it. */
#include "conformance.h"

#include <inttypes.h>
#include <stdio.h>

#define LAPIC_ID 0xfee00020
#define IOAPIC 0xfec00000
#define HPET 0xfed00000
#define CMOS_INDEX 0x70
#define CMOS_DATA 0x71

/* Only who got it: what Xen answers depends on clocks and on the machine. */
static void say_who(struct context *ctx, struct server *server, const char *name,
                    const struct command *command)
{
    struct run one;

    run(ctx, server, 1, command, 0, &one);
    say(name, "%s%s", one.requests ? "the server" : "Xen", one.finished ? "" : ", stuck");
}

/* The PM ports move when the firmware says so. */
static void say_acpi(struct context *ctx, struct server *server, const char *when)
{
    static const uint16_t ports[] = { 0x1f40, 0x1f48, 0xb000, 0xb008 };

    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        struct command command = pio_in(4, ports[i]);
        char name[40];

        snprintf(name, sizeof(name), "R33.acpi-%s-%x", when, ports[i]);
        say_who(ctx, server, name, &command);
    }
}

static void say_port(struct context *ctx, struct server *server, unsigned int size, uint64_t port)
{
    struct command command = pio_in(size, port);
    char name[40];

    snprintf(name, sizeof(name), "R33.in-%u-%" PRIx64, size, port);
    say_who(ctx, server, name, &command);
}

static void say_cmos(struct context *ctx, struct server *server, unsigned int index)
{
    struct command select = pio_out(1, CMOS_INDEX, index), data = pio_in(1, CMOS_DATA);
    char name[40];

    snprintf(name, sizeof(name), "R33.cmos-%u-index", index);
    say_who(ctx, server, name, &select);
    snprintf(name, sizeof(name), "R33.cmos-%u-data", index);
    say_who(ctx, server, name, &data);
}

static void say_debug_port(struct context *ctx, struct server *server)
{
    for (unsigned int size = 1; size <= 4; size *= 2) {
        struct command write = pio_out(size, 0xe9, '\n'), read = pio_in(size, 0xe9);
        char name[40];

        snprintf(name, sizeof(name), "R33.debug-port-out-%u", size);
        say_who(ctx, server, name, &write);
        snprintf(name, sizeof(name), "R33.debug-port-in-%u", size);
        say_who(ctx, server, name, &read);
    }
}

static void say_ports(struct context *ctx, struct server *server)
{
    static const uint16_t byte_ports[] = { 0x21, 0xa1, 0x4d0, 0x40, 0x42,  0x61,
                                           0x60, 0x64, 0x80,  0x92, 0x3f8, 0x402 };

    for (size_t i = 0; i < sizeof(byte_ports) / sizeof(byte_ports[0]); i++) {
        say_port(ctx, server, 1, byte_ports[i]);
    }
    say_port(ctx, server, 1, 0xed);
    say_port(ctx, server, 2, 0x80);
    say_port(ctx, server, 4, 0x80);
    say_debug_port(ctx, server);
}

void rule_own(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command move = { .op = GUEST_ACPI_MOVE, .value = 1 };
    struct command lapic = mem_read(4, LAPIC_ID), ioapic = mem_read(4, IOAPIC), hpet = mem_read(4, HPET);

    if (server_open(ctx, &server, false, 0, 0xffff) ||
        xendevicemodel_map_io_range_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 1,
                                                    IOAPIC, 0xfeffffff)) {
        say(rule, "%s", outcome(-1));
    } else {
        say_ports(ctx, &server);
        say_acpi(ctx, &server, "as-created");
        if (applies(ctx, ON_HVM, "R33.acpi-moved")) {
            run_alone(ctx, &move, NULL);
            say_acpi(ctx, &server, "moved");
        }
        say_who(ctx, &server, "R33.lapic", &lapic);
        say_who(ctx, &server, "R33.io-apic", &ioapic);
        say_who(ctx, &server, "R33.hpet", &hpet);
        say_cmos(ctx, &server, 0);
        say_cmos(ctx, &server, 13);
        say_cmos(ctx, &server, 14);
    }
    server_close(ctx, &server);
}
