/* SPDX-License-Identifier: BSD-2-Clause */
/* R1 to R6: a server's ids, pages, ranges and ports, without any access of the guest. */
#include "conformance.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static int create(struct context *ctx, int bufioreq, ioservid_t *id)
{
    return xendevicemodel_create_ioreq_server(ctx->dm, (domid_t)ctx->domid, bufioreq, id);
}

static int destroy(struct context *ctx, unsigned int id)
{
    return xendevicemodel_destroy_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)id);
}

static int set_state(struct context *ctx, unsigned int id, int enabled)
{
    return xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)id, enabled);
}

static int map_range(struct context *ctx, unsigned int id, int mmio, uint64_t start, uint64_t end)
{
    return xendevicemodel_map_io_range_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)id, mmio,
                                                       start, end);
}

static int unmap_range(struct context *ctx, unsigned int id, int mmio, uint64_t start, uint64_t end)
{
    return xendevicemodel_unmap_io_range_from_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)id,
                                                           mmio, start, end);
}

static void create_and_say(struct context *ctx, const char *name, int bufioreq)
{
    ioservid_t id;
    int status = create(ctx, bufioreq, &id);

    say(name, "%s", outcome(status));
    if (status == 0) {
        destroy(ctx, id);
    }
}

void rule_ids(struct context *ctx, const char *rule)
{
    char text[64] = "";
    ioservid_t id;
    int status = 0;

    (void)rule;
    for (int i = 0; i < SERVERS && status == 0; i++) {
        status = create(ctx, HVM_IOREQSRV_BUFIOREQ_OFF, &id);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%d", i ? " " : "", status ? -1 : id);
    }
    say("R1.create-eight", "%s", text);
    say("R1.create-ninth", "%s", outcome(create(ctx, HVM_IOREQSRV_BUFIOREQ_OFF, &id)));
    say("R1.destroy", "%s", outcome(destroy(ctx, 3)));
    say("R1.destroy-again", "%s", outcome(destroy(ctx, 3)));
    status = create(ctx, HVM_IOREQSRV_BUFIOREQ_OFF, &id);
    say("R1.lowest-free-id", "%d", status ? -1 : id);
    for (unsigned int i = 0; i < SERVERS; i++) {
        destroy(ctx, i);
    }
    create_and_say(ctx, "R1.create-legacy-ring", HVM_IOREQSRV_BUFIOREQ_LEGACY);
    create_and_say(ctx, "R1.create-atomic-ring", HVM_IOREQSRV_BUFIOREQ_ATOMIC);
    create_and_say(ctx, "R1.create-ring-3", 3);
}

void rule_targets(struct context *ctx, const char *rule)
{
    static const unsigned int unused[] = { 0, 8, 65535 };
    ioservid_t id;

    (void)rule;
    say("R2.create-unused-domid", "%s",
        outcome(xendevicemodel_create_ioreq_server(ctx->dm, NO_DOMAIN, 0, &id)));
    say("R2.create-own-domid", "%s", outcome(xendevicemodel_create_ioreq_server(ctx->dm, 0, 0, &id)));
    say("R2.create-domid-self", "%s",
        outcome(xendevicemodel_create_ioreq_server(ctx->dm, DOMID_SELF, 0, &id)));
    for (unsigned int i = 0; i < sizeof(unused) / sizeof(unused[0]); i++) {
        char name[40];
        evtchn_port_t port;

        snprintf(name, sizeof(name), "R2.set-state-id-%u", unused[i]);
        say(name, "%s", outcome(set_state(ctx, unused[i], 1)));
        snprintf(name, sizeof(name), "R2.map-id-%u", unused[i]);
        say(name, "%s", outcome(map_range(ctx, unused[i], 1, ctx->mmio, ctx->mmio)));
        snprintf(name, sizeof(name), "R2.unmap-id-%u", unused[i]);
        say(name, "%s", outcome(unmap_range(ctx, unused[i], 1, ctx->mmio, ctx->mmio)));
        snprintf(name, sizeof(name), "R2.destroy-id-%u", unused[i]);
        say(name, "%s", outcome(destroy(ctx, unused[i])));
        snprintf(name, sizeof(name), "R2.info-id-%u", unused[i]);
        say(name, "%s",
            outcome(xendevicemodel_get_ioreq_server_info(ctx->dm, (domid_t)ctx->domid,
                                                         (ioservid_t)unused[i], NULL, NULL, &port)));
    }
}

static void say_info(struct context *ctx, const char *name, int bufioreq)
{
    evtchn_port_t port = 12345;
    ioservid_t id;
    int status = create(ctx, bufioreq, &id);

    if (status == 0) {
        status = xendevicemodel_get_ioreq_server_info(ctx->dm, (domid_t)ctx->domid, id, NULL, NULL, &port);
    }
    say(name, "%s, port %s", outcome(status), port == 12345 ? "untouched" : port ? "> 0" : "0");
    destroy(ctx, id);
}

void rule_info(struct context *ctx, const char *rule)
{
    (void)rule;
    say_info(ctx, "R3.ring-off", HVM_IOREQSRV_BUFIOREQ_OFF);
    if (applies(ctx, ON_X86, "R3.ring-legacy")) {
        say_info(ctx, "R3.ring-legacy", HVM_IOREQSRV_BUFIOREQ_LEGACY);
    }
    if (applies(ctx, ON_X86, "R3.ring-atomic")) {
        say_info(ctx, "R3.ring-atomic", HVM_IOREQSRV_BUFIOREQ_ATOMIC);
    }
}

/* Maps frames of a server and says how it went; the mapping is given back. */
static void say_frames(struct context *ctx, const char *name, unsigned int id, unsigned long frame,
                       unsigned long count)
{
    void *address = NULL;
    xenforeignmemory_resource_handle *resource = xenforeignmemory_map_resource(
        ctx->memory, (domid_t)ctx->domid, XENMEM_resource_ioreq_server, id, frame, count, &address,
        PROT_READ | PROT_WRITE, 0);

    say(name, "%s", outcome(resource ? 0 : -1));
    if (resource) {
        xenforeignmemory_unmap_resource(ctx->memory, resource);
    }
}

static bool all_zero(const void *page)
{
    const unsigned char *byte = page;

    for (unsigned int i = 0; i < GUEST_PAGE; i++) {
        if (byte[i]) {
            return false;
        }
    }
    return true;
}

static void say_two_maps(struct context *ctx, unsigned int id)
{
    void *one = NULL, *two = NULL;
    xenforeignmemory_resource_handle *first = xenforeignmemory_map_resource(
        ctx->memory, (domid_t)ctx->domid, XENMEM_resource_ioreq_server, id,
        XENMEM_resource_ioreq_server_frame_ioreq(0), 1, &one, PROT_READ | PROT_WRITE, 0);
    xenforeignmemory_resource_handle *second = xenforeignmemory_map_resource(
        ctx->memory, (domid_t)ctx->domid, XENMEM_resource_ioreq_server, id,
        XENMEM_resource_ioreq_server_frame_ioreq(0), 1, &two, PROT_READ | PROT_WRITE, 0);

    if (!first || !second) {
        say("R4.two-maps", "%s", outcome(-1));
    } else {
        say("R4.first-map-zeroed", "%s", all_zero(one) ? "yes" : "no");
        *(volatile uint32_t *)one = 0x1234;
        say("R4.two-maps", "%s", *(volatile uint32_t *)two == 0x1234 ? "one page" : "two pages");
        *(volatile uint32_t *)one = 0;
    }
    if (first) {
        xenforeignmemory_unmap_resource(ctx->memory, first);
    }
    if (second) {
        xenforeignmemory_unmap_resource(ctx->memory, second);
    }
}

void rule_resource(struct context *ctx, const char *rule)
{
    unsigned long frame = XENMEM_resource_ioreq_server_frame_ioreq(0);
    ioservid_t id;
    size_t size = 0;
    int status;

    (void)rule;
    status = xenforeignmemory_resource_size(ctx->memory, (domid_t)ctx->domid, XENMEM_resource_ioreq_server,
                                            7, &size);
    say("R4.size-of-unused-id", "%s, %zu", outcome(status), size);
    say_frames(ctx, "R4.unused-id", 7, frame, 1);
    say_frames(ctx, "R4.id-65536", 65536, frame, 1);
    if (create(ctx, HVM_IOREQSRV_BUFIOREQ_OFF, &id)) {
        say("R4", "%s", outcome(-1));
        return;
    }
    say_two_maps(ctx, id);
    say_frames(ctx, "R4.ring-of-off", id, 0, 1);
    say_frames(ctx, "R4.both-of-off", id, 0, 2);
    say_frames(ctx, "R4.frame-2", id, frame + 1, 1);
    say_frames(ctx, "R4.frames-1-and-2", id, frame, 2);
    destroy(ctx, id);
    if (applies(ctx, ON_X86, "R4.both-of-atomic") && create(ctx, HVM_IOREQSRV_BUFIOREQ_ATOMIC, &id) == 0) {
        say_frames(ctx, "R4.both-of-atomic", id, 0, 2);
        destroy(ctx, id);
    }
}

/* "R5.mmio" and the like, so that the same checks print once per type. */
static void say_range(bool mmio, const char *name, int status)
{
    char full[60];
    int error = errno;

    snprintf(full, sizeof(full), "R5.%s-%s", mmio ? "mmio" : "port", name);
    errno = error;
    say(full, "%s", outcome(status));
}

static void check_overlap(struct context *ctx, bool mmio, uint64_t at, unsigned int id, unsigned int other)
{
    say_range(mmio, "end-before-start", map_range(ctx, id, mmio, at + 8, at + 7));
    say_range(mmio, "map", map_range(ctx, id, mmio, at, at + 7));
    say_range(mmio, "map-again", map_range(ctx, id, mmio, at, at + 7));
    say_range(mmio, "overlap", map_range(ctx, id, mmio, at + 7, at + 9));
    say_range(mmio, "other-server", map_range(ctx, other, mmio, at, at + 7));
    say_range(mmio, "adjacent", map_range(ctx, id, mmio, at + 8, at + 15));
    say_range(mmio, "unmap-gap", unmap_range(ctx, id, mmio, at + 16, at + 17));
    say_range(mmio, "unmap-beyond", unmap_range(ctx, id, mmio, at + 8, at + 16));
    say_range(mmio, "unmap-across-adjacent", unmap_range(ctx, id, mmio, at + 6, at + 9));
    say_range(mmio, "unmap-same-again", unmap_range(ctx, id, mmio, at + 6, at + 9));
    say_range(mmio, "unmap-first-rest", unmap_range(ctx, id, mmio, at, at + 5));
    say_range(mmio, "unmap-second-rest", unmap_range(ctx, id, mmio, at + 10, at + 15));
    say_range(mmio, "unmap-other", unmap_range(ctx, other, mmio, at, at + 7));
    say_range(mmio, "unmap-other-again", unmap_range(ctx, other, mmio, at, at + 7));
}

static void check_limit(struct context *ctx, bool mmio, uint64_t at, unsigned int id)
{
    int status = 0, mapped = 0;

    while (mapped < 256 && status == 0) {
        status = map_range(ctx, id, mmio, at + (uint64_t)mapped * 4, at + (uint64_t)mapped * 4 + 1);
        mapped += status == 0;
    }
    say_range(mmio, "256-apart", status);
    say_range(mmio, "257th", map_range(ctx, id, mmio, at + 256 * 4, at + 256 * 4 + 1));
    say_range(mmio, "257th-just-above", map_range(ctx, id, mmio, at + 2, at + 2));
    say_range(mmio, "257th-just-below", map_range(ctx, id, mmio, at + 4 * 10 - 1, at + 4 * 10 - 1));
    say_range(mmio, "split-at-limit", unmap_range(ctx, id, mmio, at + 1, at + 1));
    say_range(mmio, "shrink-at-limit", unmap_range(ctx, id, mmio, at + 2, at + 2));
}

static int map_device(struct context *ctx, unsigned int id, unsigned int device, unsigned int function)
{
    return xendevicemodel_map_pcidev_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)id, 0, 0,
                                                     (uint8_t)device, (uint8_t)function);
}

static int unmap_device(struct context *ctx, unsigned int id, unsigned int device, unsigned int function)
{
    return xendevicemodel_unmap_pcidev_from_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)id, 0, 0,
                                                         (uint8_t)device, (uint8_t)function);
}

static void check_devices(struct context *ctx, unsigned int id, unsigned int other)
{
    say("R5.pci-map", "%s", outcome(map_device(ctx, id, 9, 0)));
    say("R5.pci-map-again", "%s", outcome(map_device(ctx, id, 9, 0)));
    say("R5.pci-other-function", "%s", outcome(map_device(ctx, id, 9, 7)));
    say("R5.pci-other-server", "%s", outcome(map_device(ctx, other, 9, 0)));
    say("R5.pci-device-32", "%s", outcome(map_device(ctx, id, 32, 0)));
    say("R5.pci-function-8", "%s", outcome(map_device(ctx, id, 9, 8)));
    say("R5.pci-unmap", "%s", outcome(unmap_device(ctx, id, 9, 0)));
    say("R5.pci-unmap-again", "%s", outcome(unmap_device(ctx, id, 9, 0)));
}

void rule_ranges(struct context *ctx, const char *rule)
{
    ioservid_t id, other;

    if (create(ctx, HVM_IOREQSRV_BUFIOREQ_OFF, &id) || create(ctx, HVM_IOREQSRV_BUFIOREQ_OFF, &other)) {
        say(rule, "%s", outcome(-1));
        return;
    }
    check_overlap(ctx, true, ctx->mmio, id, other);
    check_limit(ctx, true, ctx->mmio, id);
    check_overlap(ctx, false, 0x2000, id, other);
    check_limit(ctx, false, 0x2000, id);
    check_devices(ctx, id, other);
    destroy(ctx, other);
    destroy(ctx, id);
}

static const char *eport_text(const struct server *server, unsigned int vcpus)
{
    for (unsigned int i = 0; i < vcpus; i++) {
        if (server->page->vcpu_ioreq[i].vp_eport == 0) {
            return "0 in a slot";
        }
        for (unsigned int j = 0; j < i; j++) {
            if (server->page->vcpu_ioreq[i].vp_eport == server->page->vcpu_ioreq[j].vp_eport) {
                return "not distinct";
            }
        }
    }
    return server->page->vcpu_ioreq[vcpus].vp_eport ? "also beyond the vCPUs" : "distinct, one a vCPU";
}

void rule_vp_eport(struct context *ctx, const char *rule)
{
    struct server server;
    uint32_t first;

    if (server_create(ctx, &server, HVM_IOREQSRV_BUFIOREQ_OFF)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    say("R6.vcpus", "%u", ctx->vcpus);
    say("R6.before-enable", "%u", server.page->vcpu_ioreq[0].vp_eport);
    say("R6.disable-disabled", "%s", outcome(set_state(ctx, (unsigned int)server.id, 0)));
    say("R6.enable", "%s", outcome(set_state(ctx, (unsigned int)server.id, 1)));
    say("R6.after-enable", "%s", eport_text(&server, ctx->vcpus));
    first = server.page->vcpu_ioreq[0].vp_eport;
    say("R6.enable-again", "%s", outcome(set_state(ctx, (unsigned int)server.id, 1)));
    say("R6.disable", "%s", outcome(set_state(ctx, (unsigned int)server.id, 0)));
    say("R6.after-disable", "%s", server.page->vcpu_ioreq[0].vp_eport == first ? "same" : "changed");
    server.page->vcpu_ioreq[0].vp_eport = 0;
    say("R6.enable-after-disable", "%s", outcome(set_state(ctx, (unsigned int)server.id, 1)));
    say("R6.after-second-enable", "%s", server.page->vcpu_ioreq[0].vp_eport == first ? "same" : "changed");
    server_close(ctx, &server);
}
