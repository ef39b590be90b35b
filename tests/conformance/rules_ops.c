/* SPDX-License-Identifier: BSD-2-Clause */
/* R31 and R32: what the operations beside the servers refuse or do, and pages of memory type 4. */
#include "conformance.h"

#include <stdio.h>

#define MAX_DIRTY_NR 32769u /* privcmd takes a page of bitmap and no more */

static void say_memory(struct context *ctx, domid_t domid, uint64_t ram_gfn, uint64_t hole_gfn)
{
    struct xen_dm_op_modified_memory_extent extent = { .nr = 1, .first_pfn = ram_gfn };

    say("R31.modified-memory", "%s", outcome(xendevicemodel_modified_memory(ctx->dm, domid, ram_gfn, 1)));
    say("R31.modified-memory-nr-0", "%s",
        outcome(xendevicemodel_modified_memory(ctx->dm, domid, ram_gfn, 0)));
    say("R31.modified-memory-hole", "%s",
        outcome(xendevicemodel_modified_memory(ctx->dm, domid, hole_gfn, 1)));
    say("R31.modified-memory-bulk", "%s",
        outcome(xendevicemodel_modified_memory_bulk(ctx->dm, domid, &extent, 1)));
    say("R31.mem-type-ro", "%s",
        outcome(xendevicemodel_set_mem_type(ctx->dm, domid, HVMMEM_ram_ro, ram_gfn, 1)));
    say("R31.mem-type-rw", "%s",
        outcome(xendevicemodel_set_mem_type(ctx->dm, domid, HVMMEM_ram_rw, ram_gfn, 1)));
    say("R31.mem-type-nr-0", "%s",
        outcome(xendevicemodel_set_mem_type(ctx->dm, domid, HVMMEM_ram_ro, ram_gfn, 0)));
    say("R31.mem-type-3", "%s", outcome(xendevicemodel_set_mem_type(ctx->dm, domid, 3, ram_gfn, 1)));
    say("R31.mem-type-4-no-server", "%s",
        outcome(xendevicemodel_set_mem_type(ctx->dm, domid, 4, ram_gfn, 1)));
    say("R31.mem-type-ro-of-hole", "%s",
        outcome(xendevicemodel_set_mem_type(ctx->dm, domid, HVMMEM_ram_ro, hole_gfn, 1)));
}

static void say_relocate(struct context *ctx, domid_t domid, uint64_t hole_gfn)
{
    say("R31.relocate-hole", "%s",
        outcome(xendevicemodel_relocate_memory(ctx->dm, domid, 1, hole_gfn, hole_gfn + 1)));
    say("R31.cacheattr-type-2", "%s",
        outcome(xendevicemodel_pin_memory_cacheattr(ctx->dm, domid, hole_gfn, hole_gfn, 2)));
    say("R31.cacheattr-end-before-start", "%s",
        outcome(xendevicemodel_pin_memory_cacheattr(ctx->dm, domid, hole_gfn + 1, hole_gfn, 6)));
    say("R31.cacheattr-pin", "%s",
        outcome(xendevicemodel_pin_memory_cacheattr(ctx->dm, domid, hole_gfn, hole_gfn + 1, 6)));
    say("R31.cacheattr-overlap", "%s",
        outcome(xendevicemodel_pin_memory_cacheattr(ctx->dm, domid, hole_gfn + 1, hole_gfn + 2, 6)));
    say("R31.cacheattr-delete-unequal", "%s",
        outcome(xendevicemodel_pin_memory_cacheattr(ctx->dm, domid, hole_gfn, hole_gfn, ~0u)));
    say("R31.cacheattr-delete", "%s",
        outcome(xendevicemodel_pin_memory_cacheattr(ctx->dm, domid, hole_gfn, hole_gfn + 1, ~0u)));
}

static void say_mem_type_server(struct context *ctx, domid_t domid)
{
    ioservid_t id, other;

    if (xendevicemodel_create_ioreq_server(ctx->dm, domid, HVM_IOREQSRV_BUFIOREQ_OFF, &id) ||
        xendevicemodel_create_ioreq_server(ctx->dm, domid, HVM_IOREQSRV_BUFIOREQ_OFF, &other)) {
        say("R31.map-mem-type", "%s", outcome(-1));
        return;
    }
    say("R31.map-mem-type-0", "%s",
        outcome(xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, domid, id, 0, 2)));
    say("R31.map-mem-type-flags-1", "%s",
        outcome(xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, domid, id, 4, 1)));
    say("R31.map-mem-type-off-by-nobody", "%s",
        outcome(xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, domid, id, 4, 0)));
    say("R31.map-mem-type", "%s",
        outcome(xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, domid, id, 4, 2)));
    say("R31.map-mem-type-second", "%s",
        outcome(xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, domid, other, 4, 2)));
    say("R31.map-mem-type-off", "%s",
        outcome(xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, domid, id, 4, 0)));
    xendevicemodel_destroy_ioreq_server(ctx->dm, domid, other);
    xendevicemodel_destroy_ioreq_server(ctx->dm, domid, id);
}

void rule_other_ops(struct context *ctx, const char *rule)
{
    domid_t domid = (domid_t)ctx->domid;
    uint64_t ram_gfn = (ctx->ram + BUFFER_OFFSET) / GUEST_PAGE, hole_gfn = ctx->mmio / GUEST_PAGE;
    unsigned long bitmap[MAX_DIRTY_NR / 8 / sizeof(unsigned long) + 1] = { 0 };

    (void)rule;
    say_memory(ctx, domid, ram_gfn, hole_gfn);
    say_relocate(ctx, domid, hole_gfn);
    say_mem_type_server(ctx, domid);
    say("R31.track-dirty-too-many", "%s",
        outcome(xendevicemodel_track_dirty_vram(ctx->dm, domid, ram_gfn, MAX_DIRTY_NR, bitmap)));
    say("R31.inject-event-no-vcpu", "%s",
        outcome(xendevicemodel_inject_event(ctx->dm, domid, (int)ctx->vcpus, 6, 3, ~0u, 0, 0)));
}

/* A RAM page of type 4: writes go to the server that has the type, reads are RAM. */
static void say_type_4(struct context *ctx, struct server *server)
{
    domid_t domid = (domid_t)ctx->domid;
    uint64_t gpa = ctx->ram + BALLOON_OFFSET + 4 * GUEST_PAGE;
    struct command before = mem_write(4, gpa, 0xaabbccdd), write = mem_write(4, gpa, 0x11223344);
    struct command read = mem_read(4, gpa);
    struct run one;
    char text[20];

    run_alone(ctx, &before, NULL);
    say("R32.to-type-4", "%s", outcome(xendevicemodel_set_mem_type(ctx->dm, domid, 4, gpa / GUEST_PAGE, 1)));
    run(ctx, server, 1, &write, 0, &one);
    say("R32.write", "%u request(s), type %u, offset %x, data %x", one.requests, one.request[0].type,
        (unsigned int)(one.request[0].addr - ctx->ram - BALLOON_OFFSET), (unsigned int)one.request[0].data);
    run(ctx, server, 1, &read, 0, &one);
    snprintf(text, sizeof(text), "%x", (unsigned int)one.result);
    say_run(ctx, "R32.read", &one, text);
    say("R32.to-ro", "%s",
        outcome(xendevicemodel_set_mem_type(ctx->dm, domid, HVMMEM_ram_ro, gpa / GUEST_PAGE, 1)));
    say("R32.to-rw", "%s",
        outcome(xendevicemodel_set_mem_type(ctx->dm, domid, HVMMEM_ram_rw, gpa / GUEST_PAGE, 1)));
    run(ctx, server, 1, &write, 0, &one);
    say("R32.write-as-rw", "%u request(s)", one.requests);
    run(ctx, server, 1, &read, 0, &one);
    say("R32.read-as-rw", "%x", (unsigned int)one.result);
}

void rule_mem_type(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;

    if (plain_server(ctx, &server) ||
        xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 4,
                                                    2)) {
        say(rule, "%s", outcome(-1));
    } else {
        say_type_4(ctx, &server);
        say("R32.off", "%s",
            outcome(xendevicemodel_map_mem_type_to_ioreq_server(ctx->dm, (domid_t)ctx->domid,
                                                                (ioservid_t)server.id, 4, 0)));
    }
    server_close(ctx, &server);
}
