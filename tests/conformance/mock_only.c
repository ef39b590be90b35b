/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rules that no real host may see: Xen panics, or uses memory that it has freed. Each runs against a mock
 * of its own and says what the mock took note of; they are no part of the comparison with Xen.
 */
#include "conformance.h"
#include "mock.h"

#include <stdio.h>

#include "../mockxen/guest.h"

#define PATIENCE_MS 5000

struct deadly {
    const char *name;
    enum profile profile;
    void (*run)(struct context *);
    const char *text;
};

static void enable_without_page(struct context *ctx)
{
    struct command command = pio_in(4, ctx->port);
    ioservid_t id;

    xendevicemodel_create_ioreq_server(ctx->dm, (domid_t)ctx->domid, HVM_IOREQSRV_BUFIOREQ_OFF, &id);
    xendevicemodel_map_io_range_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, id, 0, ctx->port,
                                                ctx->port + 15);
    xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, id, 1);
    ctx->guest->start(ctx, 0, &command);
    command_wait(ctx, 0, ctx->quiet_ms, NULL, NULL);
}

static void isa_on_pvh(struct context *ctx)
{
    xendevicemodel_set_isa_irq_level(ctx->dm, (domid_t)ctx->domid, 5, 1);
}

static void routed_intx_on_pvh(struct context *ctx)
{
    xendevicemodel_set_pci_link_route(ctx->dm, (domid_t)ctx->domid, 0, 10);
    xendevicemodel_set_pci_intx_level(ctx->dm, (domid_t)ctx->domid, 0, 0, 4, 0, 1);
}

static void destroy_pending_on_arm(struct context *ctx)
{
    struct server server = NO_SERVER;
    struct command command = plain_read(ctx, 4);
    struct ioreq request;

    if (plain_server(ctx, &server) == 0) {
        ctx->guest->start(ctx, 0, &command);
        slot_wait(ctx, &server, 0, &request);
        xendevicemodel_destroy_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id);
        command_wait(ctx, 0, ctx->quiet_ms, NULL, NULL);
    }
    server_close(ctx, &server);
}

static const struct deadly rules[] = {
    { "M1", PROFILE_HVM, enable_without_page, "an access to a server that was enabled without its page" },
    { "M2", PROFILE_PVH, isa_on_pvh, "an ISA line of a PVH guest" },
    { "M3", PROFILE_PVH, routed_intx_on_pvh, "a routed INTx line of a PVH guest" },
    { "M4", PROFILE_ARM64, destroy_pending_on_arm, "a server destroyed under a request, on Arm" },
};

void mock_only_list(void)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        printf("%-4s %s (mock only: deadly on a real host)\n", rules[i].name, rules[i].text);
    }
}

static int run_one(const struct deadly *rule)
{
    struct context ctx = { .mock = true, .patience_ms = PATIENCE_MS };
    unsigned int panics;

    context_set_profile(&ctx, rule->profile);
    if (mock_prepare(&ctx) || context_open(&ctx)) {
        mock_finish(&ctx);
        return 1;
    }
    rule->run(&ctx);
    panics = mock_panics(mock_player_mock(&ctx));
    printf("%s: %s\n", rule->name, panics ? mock_panic_text(mock_player_mock(&ctx), 0) : "not noticed");
    fflush(stdout);
    context_close(&ctx);
    mock_finish(&ctx);
    return panics ? 0 : 1;
}

int mock_only_run(void)
{
    int failed = 0;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        failed |= run_one(&rules[i]);
    }
    return failed;
}
