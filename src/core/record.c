/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records: what this daemon made in Xen, so that its successor can tell its own leftovers from another
 * emulator's. One file per ioreq server, RECORD_DIR/DOMID.ID, of key=value lines, locked as long as its owner
 * lives. And the removal of such leftovers.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/inside.h"

#define CLEANUP_INTERVAL_NS UINT64_C(5000000)
#define CLEANUP_RETRIES 400 /* 2 s */

struct record {
    uint16_t domid, id;
    uint32_t port; /* vp_eport[0]; 0: died before it was known */
    char uuid[40];
};

static char *record_path(const struct daemon *daemon, uint16_t domid, uint16_t id)
{
    char *path;
    return !daemon->config.record_dir || asprintf(&path, "%s/%u.%u", daemon->config.record_dir, domid, id) < 0
               ? NULL
               : path;
}

int record_write(struct server *server, uint32_t port, struct iod_error *error)
{
    struct guest *guest = server->guest;
    struct daemon *daemon = guest->daemon;
    char temporary[512];
    if (!daemon->config.record_dir) {
        return 0;
    }
    if (!server->record) {
        server->record = record_path(daemon, guest->domid, server->id);
    }
    if (!server->record ||
        snprintf(temporary, sizeof(temporary), "%s.new", server->record) >= (int)sizeof(temporary)) {
        return iod_fail(error, ENOMEM, "record directory %s: the path is too long",
                        daemon->config.record_dir);
    }
    if (mkdir(daemon->config.record_dir, 0700) && errno != EEXIST) {
        return iod_fail(error, errno, "can't make the record directory %s: %s", daemon->config.record_dir,
                        strerror(errno));
    }
    unlink(temporary); /* whatever stands there, a FIFO that would block us included */
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return iod_fail(error, errno, "can't write the record %s: %s", temporary, strerror(errno));
    }
    int length = dprintf(fd, "domid=%u\nserver=%u\nvp_eport=%u\nuuid=%s\n", guest->domid, server->id, port,
                         guest->uuid);
    int failed = length < 0 || flock(fd, LOCK_EX | LOCK_NB) || rename(temporary, server->record) ? errno : 0;
    if (failed) {
        close(fd);
        unlink(temporary);
        return iod_fail(error, failed, "can't write the record %s: %s", server->record, strerror(failed));
    }
    record_unlock(server);
    server->record_fd = fd;
    return 0;
}

void record_unlock(struct server *server)
{
    if (server->record_fd >= 0) {
        close(server->record_fd);
        server->record_fd = -1;
    }
}

void record_remove(struct server *server)
{
    if (server->record) {
        unlink(server->record);
    }
}

/* Reads what a daemon wrote: a plain file, root's or our own user's. False: there is none. */
static bool read_text(const char *path, char *text, size_t size)
{
    struct stat status;
    ssize_t length = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    if (!fstat(fd, &status) && S_ISREG(status.st_mode) && (!status.st_uid || status.st_uid == geteuid())) {
        length = read(fd, text, size - 1);
    }
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* Does the process that wrote it live? Also when its server has no event channel yet that could say so. */
static bool owner_lives(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool locked = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
    if (fd >= 0) {
        close(fd);
    }
    return locked;
}

static bool record_read(const char *path, struct record *record)
{
    char text[256];
    uint64_t domid, id, port;
    memset(record, 0, sizeof(*record));
    if (!read_text(path, text, sizeof(text)) ||
        sscanf(text, "domid=%8" SCNu64 " server=%8" SCNu64 " vp_eport=%10" SCNu64 " uuid=%39s", &domid, &id,
               &port, record->uuid) < 3 ||
        domid > UINT16_MAX || id > UINT16_MAX || port > UINT32_MAX) {
        return false;
    }
    record->domid = (uint16_t)domid;
    record->id = (uint16_t)id;
    record->port = (uint32_t)port;
    return true;
}

/* ---- removing what a dead daemon left ---- */

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
    bool ours = cleanup->path && record_read(cleanup->path, &record) && record.domid == guest->domid &&
                record.id == id;
    if (ours && record.uuid[0] && guest->uuid[0] && strcmp(record.uuid, guest->uuid)) {
        ours = false; /* an older domain had this domid */
    }
    int error = ours ? hv->ops->pages_map(hv, guest->domid, id, BUFIOREQ_OFF, &cleanup->pages) : 0;
    if (ours && !error && record.port && hv->ops->slot_port(cleanup->pages, 0) != record.port) {
        ours = false; /* the id was used again by someone else */
    }
    if (!ours) {
        guest_log(guest, IOD_LOG_INFO, "ioreq server %u is not ours (no matching record): left alone", id);
        return false;
    }
    if (!error) {
        error = owner_lives(cleanup->path) ? -EINVAL : bind_all(cleanup);
    }
    if (error == -EINVAL) {
        guest_log(guest, IOD_LOG_INFO, "ioreq server %u is another ioreqd's, which lives (record %s): left alone",
                  id, cleanup->path);
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
        cleanup->path = record_path(guest->daemon, guest->domid, id);
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
