/* SPDX-License-Identifier: BSD-2-Clause */
/* One ioreq server as a device model uses it: in the order that Xen demands. */
#include "conformance.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define POLL_MS 5

static int map_pages(struct context *ctx, struct server *server)
{
    bool ring = server->bufioreq != HVM_IOREQSRV_BUFIOREQ_OFF;
    void *address = NULL;

    server->resource = xenforeignmemory_map_resource(
        ctx->memory, (domid_t)ctx->domid, XENMEM_resource_ioreq_server, (unsigned int)server->id,
        ring ? XENMEM_resource_ioreq_server_frame_bufioreq : XENMEM_resource_ioreq_server_frame_ioreq(0),
        ring ? 2 : 1, &address, PROT_READ | PROT_WRITE, 0);
    if (!server->resource) {
        return -1;
    }
    server->ring = ring ? address : NULL;
    server->page = (struct shared_iopage *)((char *)address + (ring ? GUEST_PAGE : 0));
    return 0;
}

int server_create(struct context *ctx, struct server *server, int bufioreq)
{
    ioservid_t id;

    *server = (struct server){ .id = -1, .bufioreq = bufioreq, .ring_port = -1 };
    for (unsigned int i = 0; i < MAX_VCPUS; i++) {
        server->port[i] = -1;
    }
    if (xendevicemodel_create_ioreq_server(ctx->dm, (domid_t)ctx->domid, bufioreq, &id)) {
        return -1;
    }
    server->id = id;
    return map_pages(ctx, server);
}

int server_enable(struct context *ctx, struct server *server)
{
    evtchn_port_t ring_port = 0;

    if (xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id, 1)) {
        return -1;
    }
    for (unsigned int i = 0; i < ctx->vcpus; i++) {
        server->port[i] = xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid,
                                                     server->page->vcpu_ioreq[i].vp_eport);
        if (server->port[i] < 0) {
            return -1;
        }
    }
    if (!server->ring) {
        return 0;
    }
    if (xendevicemodel_get_ioreq_server_info(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id, NULL, NULL,
                                             &ring_port)) {
        return -1;
    }
    server->ring_port = xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, ring_port);
    return server->ring_port < 0 ? -1 : 0;
}

int server_open(struct context *ctx, struct server *server, bool mmio, uint64_t start, uint64_t end)
{
    if (server_create(ctx, server, HVM_IOREQSRV_BUFIOREQ_OFF)) {
        return -1;
    }
    if (xendevicemodel_map_io_range_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id,
                                                    mmio, start, end)) {
        return -1;
    }
    return server_enable(ctx, server);
}

void server_forget(struct context *ctx, struct server *server)
{
    for (unsigned int i = 0; i < MAX_VCPUS; i++) {
        if (server->port[i] > 0) {
            xenevtchn_unbind(ctx->evtchn, (evtchn_port_t)server->port[i]);
        }
        server->port[i] = -1;
    }
    if (server->ring_port > 0) {
        xenevtchn_unbind(ctx->evtchn, (evtchn_port_t)server->ring_port);
    }
    server->ring_port = -1;
    if (server->resource) {
        xenforeignmemory_unmap_resource(ctx->memory, server->resource);
    }
    server->resource = NULL;
    server->page = NULL;
    server->ring = NULL;
}

void server_close(struct context *ctx, struct server *server)
{
    if (server->id < 0) {
        return;
    }
    xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id, 0);
    server_forget(ctx, server);
    xendevicemodel_destroy_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id);
    server->id = -1;
}

static void note_event(struct server *servers, unsigned int count, int port)
{
    for (unsigned int s = 0; s < count; s++) {
        if (servers[s].id < 0) {
            continue;
        }
        if (port == servers[s].ring_port) {
            servers[s].ring_events++;
        }
        for (unsigned int i = 0; i < MAX_VCPUS; i++) {
            if (port == servers[s].port[i]) {
                servers[s].events[i]++;
            }
        }
    }
}

void servers_pump(struct context *ctx, struct server *servers, unsigned int count, unsigned int ms)
{
    struct pollfd fd = { .fd = xenevtchn_fd(ctx->evtchn), .events = POLLIN };

    while (poll(&fd, 1, (int)ms) > 0) {
        int port = xenevtchn_pending(ctx->evtchn);

        if (port < 0) {
            return;
        }
        note_event(servers, count, port);
        xenevtchn_unmask(ctx->evtchn, (evtchn_port_t)port);
        ms = 0;
    }
}

/*
 * The state shares its byte with three flags, and Xen itself accesses it as a bit field: one byte is
 * loaded and stored whole.
 */
static uint8_t *state_byte(const struct server *server, unsigned int vcpu)
{
    return (uint8_t *)&server->page->vcpu_ioreq[vcpu] + 30;
}

unsigned int slot_state(const struct server *server, unsigned int vcpu)
{
    return __atomic_load_n(state_byte(server, vcpu), __ATOMIC_ACQUIRE) & 0xf;
}

void slot_answer(struct context *ctx, struct server *server, unsigned int vcpu, uint64_t data,
                 unsigned int state, bool notify)
{
    uint8_t *byte = state_byte(server, vcpu);

    server->page->vcpu_ioreq[vcpu].data = data;
    __atomic_store_n(byte, (uint8_t)((*byte & 0xf0) | state), __ATOMIC_RELEASE);
    if (notify) {
        xenevtchn_notify(ctx->evtchn, (evtchn_port_t)server->port[vcpu]);
    }
}

bool slot_wait(struct context *ctx, struct server *server, unsigned int vcpu, struct ioreq *request)
{
    for (unsigned int waited = 0; waited < ctx->patience_ms; waited += POLL_MS) {
        if (slot_state(server, vcpu) == STATE_IOREQ_READY) {
            memcpy(request, (const void *)&server->page->vcpu_ioreq[vcpu], sizeof(*request));
            return true;
        }
        servers_pump(ctx, server, 1, POLL_MS);
    }
    return false;
}
