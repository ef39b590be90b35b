/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Our ioreq servers. The order is a must: acquire the pages, map the ranges, enable, read vp_eport, bind (an
 * enabled server without its page makes Xen dereference NULL); and at the end: disable, answer all, wait for
 * NONE, destroy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

/* ---- event channel ports ---- */

static int ports_reserve(struct daemon *daemon, uint32_t port)
{
    if (port < daemon->port_room) {
        return 0;
    }
    uint32_t room = daemon->port_room ? daemon->port_room : 64;
    while (room <= port) {
        room *= 2;
    }
    struct iod_access **ports = realloc(daemon->ports, room * sizeof(*ports));
    if (!ports) {
        return -ENOMEM;
    }
    memset(ports + daemon->port_room, 0, (room - daemon->port_room) * sizeof(*ports));
    daemon->ports = ports;
    daemon->port_room = room;
    return 0;
}

static int bind(struct iod_access *access, uint32_t remote)
{
    struct daemon *daemon = access->server->guest->daemon;
    uint32_t local;
    int error = daemon->hv->ops->event_bind(daemon->hv, access->server->guest->domid, remote, &local);
    if (error) {
        return error;
    }
    error = ports_reserve(daemon, local);
    if (error) {
        daemon->hv->ops->event_unbind(daemon->hv, local);
        return error;
    }
    access->local = local;
    daemon->ports[local] = access;
    return 0;
}

static void unbind(struct iod_access *access)
{
    struct daemon *daemon = access->server->guest->daemon;
    if (!access->local) {
        return;
    }
    dispatch_flush(daemon); /* no notify may go to a port that is ours no more */
    daemon->ports[access->local] = NULL;
    daemon->hv->ops->event_unbind(daemon->hv, access->local);
    access->local = 0;
}

void server_bind(struct server *server)
{
    struct guest *guest = server->guest;
    struct hypervisor *hv = guest->daemon->hv;
    server->unbound = 0;
    for (unsigned i = 0; i < guest->vcpus; i++) {
        struct iod_access *slot = &server->slots[i];
        if (slot->local) {
            continue;
        }
        uint32_t remote = hv->ops->slot_port(server->pages, i);
        int error = remote ? bind(slot, remote) : -EAGAIN;
        if (error) {
            server->unbound++;
            if (error != -EAGAIN && guest->retries == 0) {
                guest_log(guest, IOD_LOG_WARNING,
                          "ioreq server %u: can't bind vCPU %u's event channel %u: %s; trying again",
                          server->id, i, remote, strerror(-error));
            }
        } else {
            dispatch_ready(slot); /* what came before it was bound */
        }
    }
}

/* ---- making ---- */

static enum bufioreq wanted_ring(const struct guest *guest)
{
    switch (guest->spec.bufioreq) {
    case BUF_LEGACY:
        return BUFIOREQ_LEGACY;
    case BUF_ATOMIC:
        return BUFIOREQ_ATOMIC;
    case BUF_DEFAULT:
    case BUF_OFF:
        break;
    }
    return BUFIOREQ_OFF;
}

static void access_init(struct iod_access *access, struct server *server, uint16_t vcpu)
{
    access->server = server;
    access->vcpu = vcpu;
    list_init(&access->link);
    watch_access_begin(access);
}

static void pages_unmap(struct server *server)
{
    struct hypervisor *hv = server->guest->daemon->hv;
    if (server->pages) {
        hv->ops->pages_unmap(hv, server->pages);
        server->pages = NULL;
    }
}

void server_free(struct server *server)
{
    pages_unmap(server);
    list_remove(&server->link);
    interval_set_clear(&server->ranges[0]);
    interval_set_clear(&server->ranges[1]);
    free(server->slots);
    record_unlock(server);
    free(server->record);
    free(server);
}

static int create_failed(struct guest *guest, int error, struct iod_error *out)
{
    if (error == -ENOSPC) {
        return iod_fail(out, ENOSPC,
                        "the domain has %u ioreq servers already, Xen's limit: end another emulator",
                        SERVERS_MAX);
    }
    if (error == -ENOSYS) {
        return iod_fail(out, ENOSYS,
                        "this Xen has no ioreq servers: on Arm it must be built with CONFIG_IOREQ_SERVER");
    }
    if (error == -EPERM || error == -EACCES) {
        return iod_fail(
            out, EPERM,
            "no right to emulate for domid %u: run in the hardware domain or as its device model domain",
            guest->domid);
    }
    return iod_fail(out, -error, "can't create an ioreq server for domid %u: %s", guest->domid,
                    strerror(-error));
}

int server_create(struct guest *guest, struct server **result, struct iod_error *error)
{
    struct hypervisor *hv = guest->daemon->hv;
    struct server *server = calloc(1, sizeof(*server));
    if (server) {
        server->slots = calloc(guest->vcpus, sizeof(*server->slots));
    }
    if (!server || !server->slots) {
        free(server);
        return iod_fail(error, ENOMEM, "out of memory");
    }
    server->guest = guest;
    server->buf = wanted_ring(guest);
    server->record_fd = -1;
    list_init(&server->link);
    for (unsigned i = 0; i < guest->vcpus; i++) {
        access_init(&server->slots[i], server, (uint16_t)i);
    }
    access_init(&server->ring, server, RING_VCPU);
    int result_code = hv->ops->server_create(hv, guest->domid, server->buf, &server->id);
    if (result_code) {
        server_free(server);
        return create_failed(guest, result_code, error);
    }
    result_code = hv->ops->pages_map(hv, guest->domid, server->id, server->buf, &server->pages);
    if (result_code) {
        uint16_t id = server->id;
        hv->ops->server_destroy(hv, guest->domid, id); /* never enabled: nothing can be pending */
        server_free(server);
        return iod_fail(
            error, -result_code, "can't map the pages of ioreq server %u of domid %u: %s%s", id, guest->domid,
            strerror(-result_code),
            result_code == -EOPNOTSUPP ? ": ioreqd needs XENMEM_acquire_resource (Xen 4.11 or newer)" : "");
    }
    list_add_tail(&guest->servers, &server->link);
    *result = server;
    return 0;
}

int server_enable(struct server *server, struct iod_error *error)
{
    struct guest *guest = server->guest;
    struct hypervisor *hv = guest->daemon->hv;
    int result = record_write(server, 0, error);
    if (result) {
        return result;
    }
    result = hv->ops->server_enable(hv, guest->domid, server->id, true);
    if (result) {
        return iod_fail(error, -result, "can't enable ioreq server %u of domid %u: %s", server->id,
                        guest->domid, strerror(-result));
    }
    server->enabled = true;
    uint32_t port = hv->ops->slot_port(server->pages, 0);
    if (port && record_write(server, port, error)) {
        guest_log(guest, IOD_LOG_WARNING, "%s", error->text);
    }
    if (server->buf != BUFIOREQ_OFF) {
        uint32_t ring_port = 0;
        result = hv->ops->server_info(hv, guest->domid, server->id, &ring_port);
        if (!result) {
            result = bind(&server->ring, ring_port);
        }
        if (result) {
            return iod_fail(error, -result,
                            "can't bind the buffered ring's event channel of ioreq server %u: %s", server->id,
                            strerror(-result));
        }
    }
    server_bind(server);
    return 0;
}

/* ---- ending ---- */

/* A vCPU that waits for an answer gets all ones; without one it would be blocked for ever. */
void server_answer_all(struct server *server)
{
    struct guest *guest = server->guest;
    struct hypervisor *hv = guest->daemon->hv;
    struct request request;
    for (unsigned i = 0; i < guest->vcpus; i++) {
        struct iod_access *slot = &server->slots[i];
        if (!slot->active && hv->ops->slot_take(server->pages, i, true, &request) <= 0) {
            continue;
        }
        dispatch_forget_access(slot);
        hv->ops->slot_answer(server->pages, i, UINT64_MAX);
        if (slot->local) {
            hv->ops->event_notify(hv, slot->local);
        }
    }
}

bool server_quiet(const struct server *server)
{
    struct hypervisor *hv = server->guest->daemon->hv;
    for (unsigned i = 0; i < server->guest->vcpus; i++) {
        if (hv->ops->slot_state(server->pages, i) != SLOT_NONE) {
            return false;
        }
    }
    return true;
}

void server_close(struct server *server, bool keep)
{
    struct guest *guest = server->guest;
    struct hypervisor *hv = guest->daemon->hv;
    if (!server->pages) {
        return; /* closed before */
    }
    for (unsigned i = 0; i < guest->vcpus; i++) {
        dispatch_forget_access(&server->slots[i]);
        unbind(&server->slots[i]);
    }
    dispatch_forget_access(&server->ring);
    unbind(&server->ring);
    pages_unmap(server);
    if (!keep) {
        int error = guest->dead ? 0 : hv->ops->server_destroy(hv, guest->domid, server->id);
        if (error && error != -ESRCH && error != -ENOENT) {
            guest_log(guest, IOD_LOG_WARNING, "can't destroy ioreq server %u: %s", server->id,
                      strerror(-error));
        }
        record_remove(server);
    }
}
