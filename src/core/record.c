/* SPDX-License-Identifier: BSD-2-Clause */
/* Removing what a dead ioreqd left behind on a domain, as its records (record.h) say. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/inside.h"
#include "core/record.h"

#define CLEANUP_INTERVAL_NS UINT64_C(5000000)
#define CLEANUP_RETRIES 400 /* 2 s */

struct cleanup {
    struct guest *guest;
    void (*done)(void *self, int error, const char *why);
    void *self;
    struct loop_timer *timer;
    unsigned next_id; /* the server looked at */
    struct ioreq_pages *pages;
    uint32_t ports[PAGES_SLOTS];
    unsigned bound;
    unsigned retries;
    char *path;
};

static void cleanup_step(void *self);

static void release(struct cleanup *cleanup)
{
    struct hypervisor *hv = cleanup->guest->daemon->hv;
    while (cleanup->bound) {
        uint32_t port = cleanup->ports[--cleanup->bound];
        if (port) {
            hv->ops->event_unbind(hv, port);
        }
    }
    if (cleanup->pages) {
        hv->ops->pages_unmap(hv, cleanup->pages);
        cleanup->pages = NULL;
    }
    free(cleanup->path);
    cleanup->path = NULL;
}

void cleanup_cancel(struct cleanup *cleanup)
{
    if (cleanup) {
        release(cleanup);
        cleanup->guest->daemon->loop->ops->timer_remove(cleanup->timer);
        free(cleanup);
    }
}

static void cleanup_end(struct cleanup *cleanup, int error, const char *why)
{
    void (*done)(void *, int, const char *) = cleanup->done;
    void *self = cleanup->self;
    cleanup_cancel(cleanup);
    done(self, error, why);
}

static void again(struct cleanup *cleanup)
{
    struct loop *loop = cleanup->guest->daemon->loop;
    loop->ops->timer_set(cleanup->timer, loop->ops->now_ns(loop) + CLEANUP_INTERVAL_NS);
}

/* All ports, or none: a port that is bound already belongs to a living process. 0, or -EINVAL. */
static int bind_all(struct cleanup *cleanup)
{
    struct guest *guest = cleanup->guest;
    struct hypervisor *hv = guest->daemon->hv;
    for (unsigned i = 0; i < guest->vcpus; i++) {
        uint32_t remote = hv->ops->slot_port(cleanup->pages, i), local = 0;
        int error = remote ? hv->ops->event_bind(hv, guest->domid, remote, &local) : 0;
        if (error) {
            return error;
        }
        cleanup->ports[cleanup->bound++] = local;
    }
    return 0;
}

static bool answer_pending(struct cleanup *cleanup)
{
    struct guest *guest = cleanup->guest;
    struct hypervisor *hv = guest->daemon->hv;
    struct request request;
    bool quiet = true;
    for (unsigned i = 0; i < guest->vcpus; i++) {
        if (hv->ops->slot_take(cleanup->pages, i, true, &request) > 0) {
            hv->ops->slot_answer(cleanup->pages, i, UINT64_MAX);
        }
        quiet = quiet && hv->ops->slot_state(cleanup->pages, i) == SLOT_NONE;
        /* Also where an answer was stored by the dead one and its notification was not sent. */
        if (!quiet && cleanup->ports[i]) {
            hv->ops->event_notify(hv, cleanup->ports[i]);
        }
    }
    return quiet;
}

/* Is it ours? Then take its ports, and disable it. True: go on to wait for its vCPUs. */
static bool take_over(struct cleanup *cleanup, uint16_t id)
{
    struct guest *guest = cleanup->guest;
    struct hypervisor *hv = guest->daemon->hv;
    struct record record;
    bool ours = record_read(guest->daemon->config.record_dir, guest->domid, id, &record);
    uint32_t port = record.port;
    if (ours && record.uuid[0] && guest->uuid[0] && strcmp(record.uuid, guest->uuid)) {
        ours = false; /* an older domain had this domid */
    }
    record_finish(&record);
    int error = ours ? hv->ops->pages_map(hv, guest->domid, id, BUFIOREQ_OFF, &cleanup->pages) : 0;
    if (ours && !error && port && hv->ops->slot_port(cleanup->pages, 0) != port) {
        ours = false; /* the id was used again by someone else */
    }
    if (!ours) {
        guest_log(guest, IOD_LOG_INFO, "ioreq server %u is not ours (no matching record): left alone", id);
        return false;
    }
    if (!error) {
        error = record.alive ? -EINVAL : bind_all(cleanup);
    }
    if (error == -EINVAL) {
        guest_log(guest, IOD_LOG_INFO,
                  "ioreq server %u is another ioreqd's, which lives (record %s): left alone", id,
                  cleanup->path);
        return false;
    }
    if (error) {
        guest_log(guest, IOD_LOG_WARNING, "ioreq server %u of a dead ioreqd can't be removed: %s", id,
                  strerror(-error));
        return false;
    }
    hv->ops->server_enable(hv, guest->domid, id, false);
    cleanup->retries = 0;
    again(cleanup);
    return true;
}

static void await_vcpus(struct cleanup *cleanup)
{
    struct guest *guest = cleanup->guest;
    struct hypervisor *hv = guest->daemon->hv;
    uint16_t id = (uint16_t)cleanup->next_id;
    if (!answer_pending(cleanup)) {
        if (cleanup->retries++ < CLEANUP_RETRIES) {
            again(cleanup);
            return;
        }
        guest_log(guest, IOD_LOG_WARNING,
                  "ioreq server %u of a dead ioreqd stays, disabled: a vCPU does not take its answer", id);
    } else {
        hv->ops->server_destroy(hv, guest->domid, id);
        unlink(cleanup->path);
        guest_log(guest, IOD_LOG_INFO, "removed ioreq server %u, left behind by a dead ioreqd", id);
    }
    release(cleanup);
    cleanup->next_id++;
    cleanup_step(cleanup);
}

static void cleanup_step(void *self)
{
    struct cleanup *cleanup = self;
    struct guest *guest = cleanup->guest;
    struct hypervisor *hv = guest->daemon->hv;
    if (cleanup->pages) {
        await_vcpus(cleanup);
        return;
    }
    for (; cleanup->next_id < SERVERS_MAX; cleanup->next_id++) {
        uint16_t id = (uint16_t)cleanup->next_id;
        int error = hv->ops->server_info(hv, guest->domid, id, NULL);
        cleanup->path = record_path(guest->daemon->config.record_dir, guest->domid, id);
        if (error) {
            if (cleanup->path && (error == -ENOENT || error == -EPERM)) {
                unlink(cleanup->path); /* of a server that is no more: it must not match a later one */
            }
            release(cleanup);
            continue;
        }
        if (take_over(cleanup, id)) {
            return;
        }
        release(cleanup);
    }
    cleanup_end(cleanup, 0, NULL);
}

struct cleanup *cleanup_begin(struct guest *guest, void (*done)(void *self, int error, const char *why),
                              void *self)
{
    struct loop *loop = guest->daemon->loop;
    struct cleanup *cleanup = calloc(1, sizeof(*cleanup));
    if (!cleanup) {
        done(self, -ENOMEM, "out of memory");
        return NULL;
    }
    *cleanup = (struct cleanup){.guest = guest, .done = done, .self = self};
    cleanup->timer = loop->ops->timer_add(loop, cleanup_step, cleanup);
    if (!cleanup->timer) {
        free(cleanup);
        done(self, -ENOMEM, "out of memory");
        return NULL;
    }
    /* later: the caller keeps what we return */
    loop->ops->timer_set(cleanup->timer, loop->ops->now_ns(loop));
    return cleanup;
}
