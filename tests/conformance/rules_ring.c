/* SPDX-License-Identifier: BSD-2-Clause */
/* R27: VGA writes of an HVM guest go to the buffered ring while it has room. */
#include "conformance.h"

#include <inttypes.h>
#include <stdio.h>

#define VGA 0xa0000
#define RING_SLOTS IOREQ_BUFFER_SLOT_NUM

static uint32_t pointer(const uint32_t *which)
{
    return __atomic_load_n(which, __ATOMIC_ACQUIRE);
}

static void say_entry(struct context *ctx, struct server *server, unsigned int size)
{
    struct command write = mem_write(size, VGA + 0x10, UINT64_C(0x1122334455667788));
    struct run one;
    uint32_t before = pointer(&server->ring->write_pointer), after;
    char name[40];

    server->ring_events = 0;
    run(ctx, server, 1, &write, 0, &one);
    servers_pump(ctx, server, 1, ctx->quiet_ms);
    after = pointer(&server->ring->write_pointer);
    snprintf(name, sizeof(name), "R27.write-%u", size);
    printf("%s: %u request(s), %u slot(s), %s", name, one.requests, after - before,
           server->ring_events ? "event" : "no event");
    for (uint32_t slot = before; slot != after && slot < before + 2; slot++) {
        buf_ioreq_t entry = server->ring->buf_ioreq[slot % RING_SLOTS];

        printf(" [type %u dir %u size %u addr %x data %x]", entry.type, entry.dir, entry.size, entry.addr,
               entry.data);
    }
    printf("\n");
    __atomic_fetch_add(&server->ring->read_pointer, after - before, __ATOMIC_ACQ_REL);
}

/* The delta depends on the clock and is not said. */
static void say_timeoffset(struct context *ctx, struct server *server)
{
    struct command set = { .op = GUEST_SET_RTC, .value = 0x30 };
    uint32_t before = pointer(&server->ring->write_pointer), slots;
    struct run one;

    server->ring_events = 0;
    run(ctx, server, 1, &set, 0, &one);
    servers_pump(ctx, server, 1, ctx->quiet_ms);
    slots = pointer(&server->ring->write_pointer) - before;
    printf("R27.timeoffset: %u request(s), %u slot(s), %s", one.requests, slots,
           server->ring_events ? "event" : "no event");
    for (uint32_t i = 0; i < slots && i < 2; i++) {
        buf_ioreq_t entry = server->ring->buf_ioreq[(before + i) % RING_SLOTS];

        printf(" [type %u dir %u size %u addr %x]", entry.type, entry.dir, entry.size, entry.addr);
    }
    printf("\n");
    __atomic_fetch_add(&server->ring->read_pointer, slots, __ATOMIC_ACQ_REL);
}

static void say_full(struct context *ctx, struct server *server)
{
    struct command write = mem_write(1, VGA, 0x5a), wide = mem_write(8, VGA, 0x5a);
    struct run one = { 0 };
    unsigned int written = 0, filled;

    while (written < RING_SLOTS + 8 && one.requests == 0) {
        if (pointer(&server->ring->write_pointer) - pointer(&server->ring->read_pointer) == RING_SLOTS - 1) {
            run(ctx, server, 1, &wide, 0, &one);
            say("R27.qword-with-one-slot-left", "%u request(s)", one.requests);
        }
        run(ctx, server, 1, &write, 0, &one);
        written++;
    }
    filled = pointer(&server->ring->write_pointer) - pointer(&server->ring->read_pointer);
    say("R27.synchronous-after", "%u unread", filled);
    say_run(ctx, "R27.synchronous", &one, "done");
    __atomic_fetch_add(&server->ring->read_pointer, 10, __ATOMIC_ACQ_REL);
    run(ctx, server, 1, &write, 0, &one);
    say("R27.room-again", "%u request(s), %u unread", one.requests,
        pointer(&server->ring->write_pointer) - pointer(&server->ring->read_pointer));
    __atomic_fetch_add(&server->ring->read_pointer, filled - 9, __ATOMIC_ACQ_REL);
    run(ctx, server, 1, &write, 0, &one);
    say("R27.rebased", "read %u, write %u", pointer(&server->ring->read_pointer),
        pointer(&server->ring->write_pointer));
}

void rule_ring(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command read = mem_read(4, VGA);
    struct command stos = { .op = GUEST_REP_STOS, .size = 4, .count = 4, .addr = VGA, .value = 1 };
    struct run one;

    if (server_create(ctx, &server, HVM_IOREQSRV_BUFIOREQ_ATOMIC) ||
        xendevicemodel_map_io_range_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 1,
                                                    VGA, VGA + 0x1ffff) ||
        server_enable(ctx, &server)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    for (unsigned int size = 1; size <= 8; size *= 2) {
        say_entry(ctx, &server, size);
    }
    say_timeoffset(ctx, &server);
    run(ctx, &server, 1, &read, 0, &one);
    say("R27.read", "%u request(s)", one.requests);
    run(ctx, &server, 1, &stos, 0, &one);
    say_run(ctx, "R27.stosl-4", &one, "done");
    say_full(ctx, &server);
    server_close(ctx, &server);
}
