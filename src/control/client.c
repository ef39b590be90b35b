/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One connection. It has one command under way; the ones behind it wait in the input buffer, and when that is
 * full, in the kernel. Its next command also waits until it has read most of the answers. One command a turn.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "control/inside.h"

/* Its input, as long as there is room; output, as long as there is some. */
static void watch_client(struct client *client)
{
    const struct loop_ops *ops = client->control->loop->ops;
    bool room = !client->ended && client->in.length < FRAME_MAX;

    ops->watch_set(client->watch, (room ? IOD_READABLE : 0) | (client->out.length ? IOD_WRITABLE : 0));
}

static bool is_hung_up(const struct client *client)
{
    struct pollfd fd = {.fd = client->fd};

    return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLHUP | POLLERR | POLLNVAL));
}

/* The stalled timer runs while output waits, and while nothing is read: the loop tells of no end then. */
static void arm(struct client *client)
{
    const struct loop_ops *ops = client->control->loop->ops;

    if (client->out.length || client->ended || client->in.length >= FRAME_MAX) {
        ops->timer_set(client->stalled, ops->now_ns(client->control->loop) + STALLED_NS);
    } else {
        ops->timer_cancel(client->stalled);
    }
}

static void stalled(void *self)
{
    struct client *client = self;

    if (client->out.length || is_hung_up(client)) {
        client_destroy(client);
    } else {
        arm(client);
    }
}

/* ---- output ---- */

/* False: the connection is broken. */
static bool flush(struct client *client)
{
    size_t sent = 0;
    bool good = true;

    while (sent < client->out.length) {
        ssize_t did = send(client->fd, client->out.bytes + sent, client->out.length - sent,
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        if (did < 0 && errno == EINTR) {
            continue;
        }
        if (did <= 0) {
            good = errno == EAGAIN || errno == EWOULDBLOCK;
            break;
        }
        sent += (size_t)did;
    }
    if (sent) {
        buffer_drop(&client->out, sent);
        arm(client);
    }
    return good;
}

static int add_output(const char *bytes, size_t length, void *self)
{
    struct client *client = self;

    return buffer_add(&client->out, bytes, length, REPLY_MAX + OUT_EVENTS) ? 0 : -1;
}

/* Whole lines only: what did not fit is taken back. */
static bool queue_line(struct client *client, json_t *message, bool event)
{
    size_t before = client->out.length;

    if (!message || (event && before > OUT_EVENTS)) {
        return false;
    }
    if (json_dump_callback(message, add_output, client, JSON_COMPACT) || add_output("\r\n", 2, client)) {
        client->out.length = before;
        return false;
    }
    return true;
}

static void tell_dropped(struct client *client)
{
    json_t *data = json_pack("{s:i}", "count", (int)client->dropped);
    json_t *message = event_message("EVENTS_DROPPED", data);

    if (queue_line(client, message, true)) {
        client->dropped = 0;
    }
    json_decref(message);
}

/* After output was added; the turn that runs sends by itself. */
static void wake(struct client *client, bool idle)
{
    if (idle && client->out.length) {
        arm(client);
    }
    if (!client->running) {
        client->control->loop->ops->task_soon(client->turn);
    }
}

/* In the place of an answer that does not fit; NULL: there was no memory for it. */
static void send_no_answer(struct client *client, const json_t *message)
{
    static const char error[] = "{\"error\":{\"class\":\"GenericError\",\"desc\":\"out of memory\"}}\r\n";
    json_t *id = json_object_get(message, "id");
    json_t *large = message ? json_pack("{s:{s:s,s:s}}", "error", "class", "AnswerTooLarge", "desc",
                                        "the answer is too large: ask about one guest, or about fewer at a time")
                            : NULL;

    if (large && id) {
        json_object_set(large, "id", id);
    }
    if (!queue_line(client, large, false)) {
        add_output(error, sizeof(error) - 1, client);
    }
    json_decref(large);
}

void client_send(struct client *client, json_t *message, bool event)
{
    bool idle = client->out.length == 0;

    if (event && client->dropped) {
        tell_dropped(client);
    }
    if (event && client->dropped) { /* in their order: not before the notice */
        client->dropped++;
    } else if (!queue_line(client, message, event)) {
        if (event) {
            client->dropped++;
        } else {
            send_no_answer(client, message);
        }
    }
    wake(client, idle);
}

void client_send_line(struct client *client, const char *line, size_t length)
{
    bool idle = client->out.length == 0;

    add_output(line, length, client);
    wake(client, idle);
}

void client_refuse(struct client *client, const char *class, const char *why)
{
    json_t *message = json_pack("{s:{s:s,s:o}}", "error", "class", class, "desc", text_json(why));

    client_send(client, message, false);
    json_decref(message);
}

/* ---- input ---- */

/* An error of the framing; the rest of the line is skipped. */
static void refuse_frame(struct client *client, enum frame_result result)
{
    client_refuse(client, "GenericError",
                  result == FRAME_TOO_DEEP   ? "JSON nested too deeply: expected at most 16 levels"
                  : result == FRAME_TOO_LONG ? "command too long: expected at most 65536 bytes"
                                             : "expected a JSON object: {\"execute\": ...}");
    buffer_drop(&client->in, client->frame.at);
    client->frame = (struct frame){.skip = true};
}

/* Carries out the next command that is complete. False: there is none. */
static bool step(struct client *client)
{
    enum frame_result result = frame_scan(&client->frame, client->in.bytes, client->in.length);
    struct frame frame = client->frame;
    size_t drop;

    switch (result) {
    case FRAME_MORE: /* blanks in front, and what is skipped, are not kept */
        drop = frame.skip ? frame.at : frame.begin;
        buffer_drop(&client->in, drop);
        client->frame.at -= drop;
        client->frame.begin = 0;
        return false;
    case FRAME_COMPLETE:
        client->running = true; /* its answer is sent by the turn that runs it */
        command_run(client, client->in.bytes + frame.begin, frame.at - frame.begin);
        client->running = false;
        break;
    case FRAME_SKIPPED:
        break;
    default:
        refuse_frame(client, result);
        return true;
    }
    buffer_drop(&client->in, frame.at);
    client->frame = (struct frame){0};
    return true;
}

/* Reads what is there, at most READ_MAX. False: the connection is broken. */
static bool take_input(struct client *client)
{
    char bytes[READ_MAX];
    size_t room = FRAME_MAX - client->in.length;
    ssize_t got = recv(client->fd, bytes, room < sizeof(bytes) ? room : sizeof(bytes), MSG_DONTWAIT);

    if (got > 0) {
        bool good = buffer_add(&client->in, bytes, (size_t)got, FRAME_MAX);
        if (good && client->in.length >= FRAME_MAX) {
            arm(client);
        }
        return good;
    }
    if (got < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    }
    client->ended = true;
    arm(client);
    return !is_hung_up(client); /* else it only sends no more: `echo ... | socat` */
}

/*
 * Carries out a command if it is this client's turn; does it want another turn? Who waits longest is the next: one that
 * sends without end waits behind all the others after each command.
 */
static bool take_turn(struct client *client)
{
    struct control *control = client->control;

    if (client->call || !client->in.length || client->out.length > OUT_HIGH) {
        list_remove(&client->waiting);
        return false;
    }
    if (list_empty(&client->waiting)) {
        list_add_tail(&control->waiting, &client->waiting);
    }
    if (!control->taken && control->waiting.next == &client->waiting) {
        list_remove(&client->waiting);
        control->taken = true;
        control->loop->ops->task_again(control->next_turn);
        return step(client);
    }
    return true;
}

/* One turn: a command, then what there is to send. */
static void turn(void *self)
{
    struct client *client = self;
    bool full = client->out.length > OUT_HIGH, more = take_turn(client);

    if (client->out.length && !flush(client)) {
        client_destroy(client);
        return;
    }
    more = more || (full && client->out.length <= OUT_HIGH);
    client_trace_resume(client);
    if (client->ended && !client->call && !client->out.length && !more) {
        client_destroy(client);
        return;
    }
    watch_client(client);
    if (more && !client->call) {
        client->control->loop->ops->task_again(client->turn);
    }
}

static void ready(void *self, unsigned events)
{
    struct client *client = self;

    if ((events & IOD_READABLE) && !client->ended && client->in.length < FRAME_MAX && !take_input(client)) {
        client_destroy(client);
        return;
    }
    client->control->loop->ops->task_soon(client->turn);
}

/* ---- life ---- */

static void greet(struct client *client)
{
    const struct control_config *config = &client->control->config;
    unsigned major = 0, minor = 0, micro = 0;

    sscanf(config->version ? config->version : "", "%u.%u.%u", &major, &minor, &micro);
    json_t *message = json_pack("{s:{s:{s:{s:i,s:i,s:i},s:s},s:[]}}", "QMP", "version", "ioreqd", "major",
                                (int)major, "minor", (int)minor, "micro", (int)micro, "package",
                                config->build ? config->build : "", "capabilities");
    client_send(client, message, false);
    json_decref(message);
}

bool client_create(struct control *control, int fd, bool member)
{
    const struct loop_ops *ops = control->loop->ops;
    struct client *client = calloc(1, sizeof(*client));

    if (!client) {
        close(fd);
        return false;
    }
    client->control = control;
    client->fd = fd;
    client->member = member;
    list_init(&client->waiting);
    list_add_tail(&control->clients, &client->link);
    control->client_count++;
    control->member_count += member;
    client->turn = ops->task_add(control->loop, turn, client);
    client->stalled = ops->timer_add(control->loop, stalled, client);
    client->watch = ops->watch_add(control->loop, fd, IOD_READABLE, ready, client);
    if (!client->turn || !client->stalled || !client->watch) {
        client_destroy(client);
        return false;
    }
    greet(client);
    return true;
}

void client_destroy(struct client *client)
{
    const struct loop_ops *ops = client->control->loop->ops;
    struct call *call = client->call;

    if (call) {
        call->client = NULL;
        if (call->forget) {
            call->forget(call);
        }
    }
    client_trace_end(client);
    ops->task_remove(client->turn);
    ops->timer_remove(client->stalled);
    ops->watch_remove(client->watch);
    list_remove(&client->link);
    list_remove(&client->waiting);
    client->control->client_count--;
    client->control->member_count -= client->member;
    buffer_free(&client->in);
    buffer_free(&client->out);
    close(client->fd);
    free(client);
}
