/* SPDX-License-Identifier: BSD-2-Clause */
/* R19, R21, R22: guest memory that comes and goes. */
#include "conformance.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#define WAIT_MS 3000

static struct command balloon(const struct context *ctx, enum guest_op op)
{
    return (struct command){ .op = op, .addr = ctx->ram + BALLOON_OFFSET };
}

static void say_invalidate(struct context *ctx, struct server *server, const char *name, bool wanted)
{
    struct run one = { .requests = 1, .finished = true };

    if (!wanted) {
        say(name, "%s", slot_state(server, 0) == STATE_IOREQ_NONE ? "no request" : "request");
    } else if (slot_wait(ctx, server, 0, &one.request[0])) {
        one.request[0].state = 0;
        say_run(ctx, name, &one, NULL);
    } else {
        say(name, "no request");
    }
}

/* Both enabled servers are asked, and only the last answer lets the guest go on. */
static void invalidate(struct context *ctx, struct server *servers)
{
    struct command out = balloon(ctx, GUEST_BALLOON_OUT);
    uint64_t result = 0;

    ctx->guest->start(ctx, 0, &out);
    say_invalidate(ctx, &servers[0], "R19.first-server", true);
    say_invalidate(ctx, &servers[1], "R19.second-server", true);
    say_invalidate(ctx, &servers[2], "R19.disabled-server", false);
    slot_answer(ctx, &servers[0], 0, 0, STATE_IORESP_READY, true);
    say("R19.one-answer", "%s",
        command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "guest runs" : "guest waits");
    slot_answer(ctx, &servers[1], 0, 0, STATE_IORESP_READY, true);
    say("R19.all-answers", "%s", command_wait(ctx, 0, WAIT_MS, &result, NULL) ? "guest runs" : "guest waits");
    say("R19.pages-given", "%" PRIu64, result);
}

void rule_invalidate(struct context *ctx, const char *rule)
{
    struct server servers[3] = { NO_SERVER, NO_SERVER, NO_SERVER };
    struct command in = balloon(ctx, GUEST_BALLOON_IN), read = mem_read(4, ctx->ram + BALLOON_OFFSET);
    struct run one;
    char result[24];

    if (plain_server(ctx, &servers[0]) || plain_server(ctx, &servers[1]) ||
        server_create(ctx, &servers[2], HVM_IOREQSRV_BUFIOREQ_OFF)) {
        say(rule, "%s", outcome(-1));
    } else {
        invalidate(ctx, servers);
        run(ctx, servers, 2, &read, 0, &one);
        snprintf(result, sizeof(result), "%" PRIx64, one.result);
        say_run(ctx, "R19.read-of-hole", &one, result);
        run(ctx, servers, 2, &in, 0, &one);
        snprintf(result, sizeof(result), "pages %" PRIu64, one.result);
        say_run(ctx, "R19.populate", &one, result);
        run(ctx, servers, 2, &read, 0, &one);
        say_run(ctx, "R19.read-of-new-page", &one, "done");
    }
    for (int i = 2; i >= 0; i--) {
        server_close(ctx, &servers[i]);
    }
}

static void *map(struct context *ctx, uint32_t domid, size_t count, const xen_pfn_t *gfns, int *errors)
{
    return xenforeignmemory_map(ctx->memory, domid, PROT_READ | PROT_WRITE, count, gfns, errors);
}

void rule_foreign(struct context *ctx, const char *rule)
{
    xen_pfn_t gfns[2] = { (ctx->ram + BUFFER_OFFSET) / GUEST_PAGE, ctx->mmio / GUEST_PAGE };
    int errors[2] = { 1, 1 };
    void *pages = map(ctx, ctx->domid, 2, gfns, errors);

    (void)rule;
    say("R21.ram-and-hole", "%s, %d, %d", pages ? "pointer" : "NULL", errors[0], errors[1]);
    if (pages) {
        xenforeignmemory_unmap(ctx->memory, pages, 2);
    }
    errno = 0;
    pages = map(ctx, ctx->domid, 2, gfns, NULL);
    say("R21.ram-and-hole-without-errors", "%s, %s", pages ? "pointer" : "NULL", error_name(errno));
    errors[0] = 1;
    pages = map(ctx, ctx->domid, 1, &gfns[1], errors);
    say("R21.hole", "%s, %d", pages ? "pointer" : "NULL", errors[0]);
    if (pages) {
        xenforeignmemory_unmap(ctx->memory, pages, 1);
    }
    errors[0] = 1;
    pages = map(ctx, NO_DOMAIN, 1, gfns, errors);
    say("R21.unused-domid", "%s, %d", pages ? "pointer" : "NULL", errors[0]);
    if (pages) {
        xenforeignmemory_unmap(ctx->memory, pages, 1);
    }
    errno = 0;
    pages = map(ctx, ctx->domid, 0, gfns, errors);
    say("R21.no-page", "%s, %s", pages ? "pointer" : "NULL", error_name(errno));
}

void rule_ballooned(struct context *ctx, const char *rule)
{
    xen_pfn_t gfn = (ctx->ram + BALLOON_OFFSET) / GUEST_PAGE + 1;
    uint64_t gpa = gfn * GUEST_PAGE;
    struct command write = mem_write(4, gpa, 0xcafe0001);
    struct command out = { .op = GUEST_BALLOON_OUT, .addr = gpa },
                   in = { .op = GUEST_BALLOON_IN, .addr = gpa };
    struct command again = mem_write(4, gpa, 0xcafe0002);
    struct command spare = { .op = GUEST_BALLOON_OUT, .addr = gpa + GUEST_PAGE };
    struct command spare_in = { .op = GUEST_BALLOON_IN, .addr = gpa + GUEST_PAGE };
    volatile uint32_t *page, *fresh;
    int error = 1;

    run_alone(ctx, &write, NULL);
    page = map(ctx, ctx->domid, 1, &gfn, NULL);
    if (!page) {
        say(rule, "%s", outcome(-1));
        return;
    }
    say("R22.mapped", "%x", *page);
    say("R22.given-back", "%" PRIu64, run_alone(ctx, &out, NULL));
    run_alone(ctx, &spare, NULL); /* the mapped page still counts against the guest's limit */
    say("R22.old-data", "%x", *page);
    fresh = map(ctx, ctx->domid, 1, &gfn, &error);
    say("R22.new-map", "%s, %d", fresh ? "pointer" : "NULL", error);
    if (fresh) {
        xenforeignmemory_unmap(ctx->memory, (void *)fresh, 1);
    }
    say("R22.populated", "%" PRIu64, run_alone(ctx, &in, NULL));
    run_alone(ctx, &again, NULL);
    say("R22.old-mapping", "%x", *page);
    fresh = map(ctx, ctx->domid, 1, &gfn, NULL);
    say("R22.mapped-again", "%x", fresh ? *fresh : 0);
    if (fresh) {
        xenforeignmemory_unmap(ctx->memory, (void *)fresh, 1);
    }
    xenforeignmemory_unmap(ctx->memory, (void *)page, 1);
    run_alone(ctx, &spare_in, NULL);
}
