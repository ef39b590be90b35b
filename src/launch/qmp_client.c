/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A command is passed on when it is whole, and as it came. An answer of our own must come in its turn: when
 * QEMU has answered all that came before, and not inside one of its lines. So the lines that QEMU sends are
 * looked at, too: one for its greeting, one for each command, and events, which nobody waits for.
 *
 * One thing at a time goes each way, and no more is read before it is gone: a client that doesn't read, or
 * that sends for ever, costs what one command and one buffer take.
 */
#include "launch/qmp_client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#include <ioreqd/loop.h>

#include "launch/fd_stream.h"
#include "launch/json_cut.h"
#include "launch/qmp_filter.h"

#define LINE_MAX_BYTES (1024u * 1024u) /* a longer line of QEMU's is an answer: events are short */
#define CONNECT_AGAIN_NS UINT64_C(20000000)

struct side {
    int fd; /* -1: not connected */
    struct loop_watch *watch;
    bool ended; /* it sends no more */
};

struct qmp_client {
    struct loop *loop;
    const char *path;
    void (*closed)(void *self, struct qmp_client *client);
    void *self;
    struct loop_task *end;
    struct loop_timer *again; /* QEMU's queue was full */
    struct side client, server;
    bool failed, shut; /* shut: QEMU knows that the client sends no more */

    /* client to server */
    char in[4096];
    size_t in_at, in_end;
    struct json_cut cut;    /* the command; it stays here while it is sent */
    bool sending;
    size_t sent;
    struct fd_pass fds;     /* they go with the next command */
    char *reply;            /* instead of one */
    size_t reply_length, replied;

    /* server to client */
    char back[16384];
    size_t back_at, back_end;
    struct fd_pass back_fds;
    struct json_cut line;   /* what QEMU sends, value by value; the bytes themselves are passed on */
    bool within;            /* the last byte passed on is inside one of QEMU's lines */
    unsigned waiting;       /* answers that QEMU owes, its greeting too */
};

static void fail(struct qmp_client *client)
{
    client->failed = true;
}

/* ---- from QEMU ---- */

static void judge_line(struct qmp_client *client)
{
    struct json_cut *line = &client->line;
    json_t *value = line->overlong ? NULL : json_loadb(line->text, line->length, 0, NULL);

    if (!json_object_get(value, "event") && client->waiting > 0) {
        client->waiting--;
    }
    json_decref(value);
}

static void look_at(struct qmp_client *client, const char *bytes, size_t count)
{
    for (size_t at = 0; at < count;) {
        bool whole;
        at += json_cut_feed(&client->line, bytes + at, count - at, &whole);
        if (whole) {
            judge_line(client);
            json_cut_next(&client->line);
        }
    }
    client->within = bytes[count - 1] != '\n';
}

static void read_server(struct qmp_client *client)
{
    ssize_t count = fd_stream_read(client->server.fd, client->back, sizeof(client->back), &client->back_fds);

    if (count > 0) {
        client->back_at = 0;
        client->back_end = (size_t)count;
        look_at(client, client->back, (size_t)count);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        client->server.ended = true;
    }
}

/* True: some of it went out. */
static bool write_client(struct qmp_client *client, const char *bytes, size_t *at, size_t end,
                         struct fd_pass *fds)
{
    struct iovec part = {(void *)(uintptr_t)(bytes + *at), end - *at};
    ssize_t count = part.iov_len ? fd_stream_write(client->client.fd, &part, 1, fds) : 0;

    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        fail(client);
    }
    *at += count > 0 ? (size_t)count : 0;
    return count > 0;
}

static bool back_empty(const struct qmp_client *client)
{
    return client->back_at == client->back_end;
}

static bool reply_is_due(const struct qmp_client *client)
{
    return client->reply && !client->waiting && !client->within && back_empty(client);
}

static bool go_back(struct qmp_client *client)
{
    struct fd_pass none = {.count = 0};

    if (!back_empty(client)) {
        return write_client(client, client->back, &client->back_at, client->back_end, &client->back_fds);
    }
    if (!reply_is_due(client) ||
        !write_client(client, client->reply, &client->replied, client->reply_length, &none)) {
        return false;
    }
    if (client->replied == client->reply_length) {
        free(client->reply);
        client->reply = NULL;
        json_cut_next(&client->cut);
    }
    return true;
}

/* ---- to QEMU ---- */

static void read_client(struct qmp_client *client)
{
    ssize_t count = fd_stream_read(client->client.fd, client->in, sizeof(client->in), &client->fds);

    if (count > 0) {
        client->in_at = 0;
        client->in_end = (size_t)count;
    } else if (count == 0) {
        client->client.ended = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        fail(client);
    }
}

static void judge_command(struct qmp_client *client)
{
    struct json_cut *cut = &client->cut;
    int verdict = cut->overlong ? qmp_filter_too_long(&client->reply)
                                : qmp_filter_judge(cut->text, cut->length, &client->reply);

    if (verdict < 0) {
        fail(client);
    } else if (verdict > 0) {
        client->reply_length = strlen(client->reply);
        client->replied = 0;
        fd_pass_close(&client->fds); /* they were its own */
    } else {
        client->sending = true;
        client->sent = 0;
        client->waiting++;
    }
}

/* Takes the next command out of what was read. True: there was something to take. */
static bool take_command(struct qmp_client *client)
{
    bool whole;

    if (client->sending || client->reply || client->in_at == client->in_end) {
        return false;
    }
    client->in_at += json_cut_feed(&client->cut, client->in + client->in_at, client->in_end - client->in_at,
                                   &whole);
    if (whole) {
        judge_command(client);
    }
    return true;
}

static bool send_command(struct qmp_client *client)
{
    struct json_cut *cut = &client->cut;
    size_t at = client->sent < cut->length ? client->sent : cut->length;
    struct iovec parts[2] = {{cut->text + at, cut->length - at}, {(void *)(uintptr_t) "\n", 1}};

    if (!client->sending || client->server.fd < 0) {
        return false;
    }
    ssize_t count = fd_stream_write(client->server.fd, parts, 2, &client->fds);
    if (count < 0 && errno != EAGAIN && errno != EINTR) {
        client->sending = false; /* QEMU has gone: what it said last is still to be read */
        json_cut_next(cut);
        client->client.ended = true;
        return false;
    }
    client->sent += count > 0 ? (size_t)count : 0;
    if (client->sent > cut->length) {
        client->sending = false;
        json_cut_next(cut);
    }
    return count > 0;
}

/* ---- both ---- */

static void interest(struct qmp_client *client)
{
    const struct loop_ops *ops = client->loop->ops;
    bool room = client->in_at == client->in_end && !client->sending && !client->reply &&
                !client->client.ended && client->server.fd >= 0;
    bool words = !back_empty(client) || reply_is_due(client);

    ops->watch_set(client->client.watch, (room ? IOD_READABLE : 0u) | (words ? IOD_WRITABLE : 0u));
    if (client->server.watch) {
        bool more = back_empty(client) && !client->server.ended;
        ops->watch_set(client->server.watch,
                       (more ? IOD_READABLE : 0u) | (client->sending ? IOD_WRITABLE : 0u));
    }
}

static void go_on(struct qmp_client *client)
{
    while (!client->failed && (go_back(client) || take_command(client) || send_command(client))) {
    }
    if (client->client.ended && !client->sending && !client->reply && !client->shut &&
        client->server.fd >= 0) {
        client->shut = true;
        shutdown(client->server.fd, SHUT_WR); /* QEMU closes when it has seen it; then we do */
    }
    if (client->failed || (client->server.ended && back_empty(client))) {
        client->loop->ops->watch_set(client->client.watch, 0);
        if (client->server.watch) {
            client->loop->ops->watch_set(client->server.watch, 0);
        }
        client->loop->ops->task_soon(client->end);
        return;
    }
    interest(client);
}

static void client_ready(void *self, unsigned events)
{
    struct qmp_client *client = self;

    if ((events & IOD_READABLE) && client->in_at == client->in_end && !client->sending && !client->reply) {
        read_client(client);
    }
    go_on(client);
}

static void server_ready(void *self, unsigned events)
{
    struct qmp_client *client = self;

    if ((events & IOD_READABLE) && back_empty(client)) {
        read_server(client);
    }
    go_on(client);
}

static void connect_server(void *self)
{
    struct qmp_client *client = self;
    struct loop *loop = client->loop;
    int fd = fd_stream_connect(client->path);

    if (fd == -EAGAIN) {
        loop->ops->timer_set(client->again, loop->ops->now_ns(loop) + CONNECT_AGAIN_NS);
        return;
    }
    client->server.fd = fd < 0 ? -1 : fd;
    client->server.watch = fd < 0 ? NULL : loop->ops->watch_add(loop, fd, IOD_READABLE, server_ready, client);
    if (!client->server.watch) {
        fail(client);
    }
    go_on(client);
}

static void at_end(void *self)
{
    struct qmp_client *client = self;

    client->closed(client->self, client);
}

struct qmp_client *qmp_client_create(struct loop *loop, int fd, const char *server,
                                     void (*closed)(void *self, struct qmp_client *client), void *self)
{
    struct qmp_client *client = calloc(1, sizeof(*client));

    if (!client) {
        close(fd);
        return NULL;
    }
    *client = (struct qmp_client){.loop = loop, .path = server, .closed = closed, .self = self,
                                  .client = {.fd = fd}, .server = {.fd = -1}, .waiting = 1};
    json_cut_init(&client->cut, QMP_COMMAND_MAX);
    json_cut_init(&client->line, LINE_MAX_BYTES);
    client->end = loop->ops->task_add(loop, at_end, client);
    client->again = loop->ops->timer_add(loop, connect_server, client);
    client->client.watch = loop->ops->watch_add(loop, fd, 0, client_ready, client);
    if (!client->end || !client->again || !client->client.watch) {
        qmp_client_destroy(client);
        return NULL;
    }
    loop->ops->timer_set(client->again, loop->ops->now_ns(loop));
    return client;
}

static void close_side(struct qmp_client *client, struct side *side)
{
    client->loop->ops->watch_remove(side->watch);
    if (side->fd >= 0) {
        close(side->fd);
    }
}

void qmp_client_destroy(struct qmp_client *client)
{
    if (!client) {
        return;
    }
    client->loop->ops->task_remove(client->end);
    client->loop->ops->timer_remove(client->again);
    close_side(client, &client->client);
    close_side(client, &client->server);
    fd_pass_close(&client->fds);
    fd_pass_close(&client->back_fds);
    json_cut_finish(&client->cut);
    json_cut_finish(&client->line);
    free(client->reply);
    free(client);
}
