/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/query_pci.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include <ioreqd/loop.h>

#include "launch/fd_stream.h"
#include "launch/json_cut.h"

#define ANSWER_MAX (1024u * 1024u)
#define CONNECT_AGAIN_NS UINT64_C(20000000)
#define BRIDGES_MAX 8 /* buses below buses */

/* What is said, and when: each after an answer to the one before. */
static const char *const commands[] = {"{\"execute\":\"qmp_capabilities\"}\n",
                                       "{\"execute\":\"query-pci\"}\n"};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

struct query_pci {
    struct loop *loop;
    char *path;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *limit, *connect;
    uint64_t limit_ns;
    struct json_cut cut;
    unsigned said; /* commands that were sent */
    struct pci_owner owners[QUERY_PCI_MAX];
    unsigned count;
    void (*done)(void *self, const struct pci_owner *owners, unsigned count, const struct iod_error *error);
    void *self;
};

void query_pci_path(uint16_t domid, char *path, unsigned size)
{
    const char *folder = getenv("XEN_RUN_DIR");

    snprintf(path, size, "%s/qmp-libxl-%" PRIu16, folder ? folder : "/var/run/xen", domid);
}

static void finish(struct query_pci *query, const struct iod_error *error)
{
    query->done(query->self, query->owners, error ? 0 : query->count, error);
    query_pci_cancel(query);
}

static void finish_failed(struct query_pci *query, int code, const char *why)
{
    struct iod_error error;

    iod_fail(&error, code, "query-pci at %s: %s", query->path, why);
    finish(query, &error);
}

/* ---- the answer ---- */

static void take_name(char *to, size_t size, const json_t *device)
{
    const char *id = json_string_value(json_object_get(device, "qdev_id"));
    const char *class = json_string_value(json_object_get(json_object_get(device, "class_info"), "desc"));

    snprintf(to, size, "%s", id && id[0] ? id : class && class[0] ? class : "device");
    for (; *to; to++) {
        if ((unsigned char)*to < 0x20 || *to == 0x7f) {
            *to = '?';
        }
    }
}

static void take_devices(struct query_pci *query, const json_t *devices, unsigned depth);

/* The number at key, or -1: none below limit. */
static int place_of(const json_t *device, const char *key, json_int_t limit)
{
    const json_t *value = json_object_get(device, key);
    bool good = json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) < limit;

    return good ? (int)json_integer_value(value) : -1;
}

static void take_device(struct query_pci *query, const json_t *device, unsigned depth)
{
    int bus = place_of(device, "bus", 256), slot = place_of(device, "slot", 32);
    int function = place_of(device, "function", 8);

    if (query->count < QUERY_PCI_MAX && bus >= 0 && slot >= 0 && function >= 0) {
        struct pci_owner *owner = &query->owners[query->count++];
        *owner = (struct pci_owner){(uint8_t)bus, (uint8_t)slot, (uint8_t)function, ""};
        take_name(owner->name, sizeof(owner->name), device);
    }
    take_devices(query, json_object_get(json_object_get(device, "pci_bridge"), "devices"), depth + 1);
}

static void take_devices(struct query_pci *query, const json_t *devices, unsigned depth)
{
    for (size_t i = 0; depth <= BRIDGES_MAX && i < json_array_size(devices); i++) {
        take_device(query, json_array_get(devices, i), depth);
    }
}

static bool take_buses(struct query_pci *query, const json_t *buses)
{
    if (!json_is_array(buses)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(buses); i++) {
        take_devices(query, json_object_get(json_array_get(buses, i), "devices"), 0);
    }
    return true;
}

/* ---- the talk ---- */

static int say_next(struct query_pci *query)
{
    const char *text = commands[query->said++];
    struct fd_pass none = {.count = 0};
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};

    /* An empty socket's buffer takes a line at once. */
    return fd_stream_write(query->fd, &part, 1, &none) == (ssize_t)strlen(text) ? 0 : -1;
}

/* True: the query has ended, and was freed. */
static bool take_value(struct query_pci *query)
{
    json_t *value = query->cut.overlong ? NULL : json_loadb(query->cut.text, query->cut.length, 0, NULL);
    const json_t *error = json_object_get(value, "error");
    bool event = json_object_get(value, "event") != NULL;
    bool expected = json_object_get(value, query->said ? "return" : "QMP") != NULL;
    bool last = query->said == COMMANDS;
    bool good = expected && (last ? take_buses(query, json_object_get(value, "return")) : !say_next(query));
    char why[160];

    snprintf(why, sizeof(why), "%.100s",
             error ? json_string_value(json_object_get(error, "desc")) ?: "an error" : "this is not QMP");
    json_decref(value);
    if (event || (good && !last)) {
        return false;
    }
    if (good) {
        finish(query, NULL);
    } else {
        finish_failed(query, EPROTO, why);
    }
    return true;
}

static void ready(void *self, unsigned events)
{
    struct query_pci *query = self;
    char bytes[4096];
    struct fd_pass fds = {.count = 0};
    ssize_t count = fd_stream_read(query->fd, bytes, sizeof(bytes), &fds);

    fd_pass_close(&fds);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (count <= 0) {
        finish_failed(query, ECONNRESET, "QEMU closed the connection");
        return;
    }
    for (size_t at = 0; at < (size_t)count;) {
        bool whole;
        at += json_cut_feed(&query->cut, bytes + at, (size_t)count - at, &whole);
        if (whole && take_value(query)) {
            return;
        }
        if (whole) {
            json_cut_next(&query->cut);
        }
    }
}

static void try_connect(void *self)
{
    struct query_pci *query = self;
    struct loop *loop = query->loop;
    int fd = fd_stream_connect(query->path);

    if (fd == -EAGAIN) { /* others wait for it, too */
        loop->ops->timer_set(query->connect, loop->ops->now_ns(loop) + CONNECT_AGAIN_NS);
        return;
    }
    if (fd < 0) {
        finish_failed(query, -fd, strerror(-fd));
        return;
    }
    query->fd = fd;
    query->watch = loop->ops->watch_add(loop, fd, IOD_READABLE, ready, query);
    if (!query->watch) {
        finish_failed(query, ENOMEM, "out of memory");
    }
}

static void too_late(void *self)
{
    finish_failed(self, ETIMEDOUT, "no answer within the time limit");
}

struct query_pci *query_pci_start(struct loop *loop, const char *path, uint64_t limit_ns,
                                  void (*done)(void *self, const struct pci_owner *owners, unsigned count,
                                               const struct iod_error *error),
                                  void *self, struct iod_error *error)
{
    struct query_pci *query = calloc(1, sizeof(*query));

    if (query) {
        query->loop = loop;
        query->fd = -1;
        query->done = done;
        query->self = self;
        query->path = strdup(path);
        json_cut_init(&query->cut, ANSWER_MAX);
        query->limit = loop->ops->timer_add(loop, too_late, query);
        query->connect = loop->ops->timer_add(loop, try_connect, query);
    }
    if (!query || !query->path || !query->limit || !query->connect) {
        query_pci_cancel(query);
        iod_fail(error, ENOMEM, "query-pci: out of memory");
        return NULL;
    }
    uint64_t now = loop->ops->now_ns(loop);
    loop->ops->timer_set(query->limit, now + limit_ns);
    loop->ops->timer_set(query->connect, now);
    return query;
}

void query_pci_cancel(struct query_pci *query)
{
    if (!query) {
        return;
    }
    query->loop->ops->timer_remove(query->limit);
    query->loop->ops->timer_remove(query->connect);
    query->loop->ops->watch_remove(query->watch);
    if (query->fd >= 0) {
        close(query->fd);
    }
    json_cut_finish(&query->cut);
    free(query->path);
    free(query);
}
