/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "ioreqctl.h"

#define PAGE 250u     /* guests asked about at a time: the daemon's loop serves guests between two answers */
#define FILL 65536u   /* bytes asked for at a time */
#define GREETING_S 10 /* for the greeting; answers may take as long as the daemon likes */

static bool say_no_daemon(const char *path, const char *why)
{
    fprintf(stderr, "ioreqctl: %s: %s\n", path, why);
    return false;
}

static const char *connect_hint(int error)
{
    switch (error) {
    case ENOENT:
        return "no ioreqd runs with this control socket (see --socket)";
    case ECONNREFUSED:
        return "the ioreqd of this socket has ended";
    case EACCES:
        return "permission denied: expected root or a member of the control group";
    default:
        return strerror(error);
    }
}

static void set_timeout(int fd, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

/* What a terminal would take for orders: a guest, or who named it, may have put them there. */
static bool is_control(const unsigned char *at)
{
    return *at < 0x20 || *at == 0x7f || (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0);
}

static void make_text_printable(json_t *text)
{
    char *copy = strdup(json_string_value(text));

    for (unsigned char *at = (unsigned char *)copy; at && *at; at++) {
        if (is_control(at)) {
            at[1] = *at == 0xc2 ? '?' : at[1];
            *at = '?';
        }
    }
    json_string_set(text, copy ? copy : "?");
    free(copy);
}

static void make_printable(json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_string(value)) {
        make_text_printable(value);
    }
    json_object_foreach(value, key, member)
    {
        make_printable(member);
    }
    json_array_foreach(value, i, member)
    {
        make_printable(member);
    }
}

/* Room for FILL bytes more, at the cost of what was taken already. */
static bool make_room(struct connection *connection)
{
    connection->length -= connection->taken;
    memmove(connection->bytes, connection->bytes + connection->taken, connection->length);
    connection->taken = 0;
    if (connection->size - connection->length < FILL) {
        size_t size = connection->size + connection->size / 2 + FILL;
        char *larger = realloc(connection->bytes, size);
        if (!larger) {
            return false;
        }
        connection->bytes = larger;
        connection->size = size;
    }
    return true;
}

/* More of what comes. False: the connection has ended, or time is up. */
static bool fill(struct connection *connection)
{
    ssize_t got;

    if (!make_room(connection)) {
        return false;
    }
    do { /* a signal may come meanwhile: top's window changes its size */
        got = recv(connection->fd, connection->bytes + connection->length, FILL, 0);
    } while (got < 0 && errno == EINTR);
    connection->length += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* The next line, with its end, and its length. NULL: there is none. */
static const char *next_line(struct connection *connection, size_t *length)
{
    size_t looked = 0;
    char *line, *end;

    while (line = connection->bytes + connection->taken,
           !(end = memchr(line + looked, '\n', connection->length - connection->taken - looked))) {
        looked = connection->length - connection->taken;
        if (!fill(connection)) {
            return NULL;
        }
    }
    *length = (size_t)(end - line) + 1;
    connection->taken += *length;
    return line;
}

/* The next message; NULL: none. */
static json_t *receive(struct connection *connection)
{
    json_t *message = NULL;

    while (!message) {
        size_t length;
        const char *line = next_line(connection, &length);
        if (!line) {
            return NULL;
        }
        message = json_loadb(line, length, 0, NULL);
    }
    if (connection->printable) {
        make_printable(message);
    }
    return message;
}

static bool take_greeting(struct connection *connection, const char *path)
{
    set_timeout(connection->fd, GREETING_S);
    json_t *greeting = receive(connection);
    set_timeout(connection->fd, 0);
    json_t *error = json_object_get(greeting, "error");
    bool good = json_object_get(greeting, "QMP") != NULL;

    if (!good) {
        say_no_daemon(path, error ? member_text(error, "desc")
                                  : "what listens there does not answer as ioreqd does");
    }
    json_decref(greeting);
    return good;
}

bool connection_open(struct connection *connection, const char *path, bool printable)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    *connection = (struct connection){.fd = -1, .printable = printable};
    if (strlen(path) >= sizeof(address.sun_path)) {
        return say_no_daemon(path, "a socket's path has at most 107 bytes");
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof(address))) {
        say_no_daemon(path, connect_hint(errno));
        connection_close(connection);
        return false;
    }
    connection->bytes = malloc(FILL);
    connection->size = connection->bytes ? FILL : 0;
    if (!connection->bytes || !take_greeting(connection, path)) {
        connection_close(connection);
        return false;
    }
    return true;
}

void connection_close(struct connection *connection)
{
    if (connection->fd >= 0) {
        close(connection->fd);
    }
    free(connection->bytes);
    *connection = (struct connection){.fd = -1};
}

static bool send_all(int fd, const char *bytes, size_t length)
{
    while (length) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return false;
        }
        bytes += sent > 0 ? sent : 0;
        length -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

static bool send_command(struct connection *connection, const char *command, json_t *arguments)
{
    json_t *message = json_pack("{s:s,s:i}", "execute", command, "id", (int)++connection->id);

    if (arguments) {
        json_object_set_new(message, "arguments", arguments);
    }
    char *text = json_dumps(message, JSON_COMPACT);
    bool good = text && send_all(connection->fd, text, strlen(text)) && send_all(connection->fd, "\n", 1);
    free(text);
    json_decref(message);
    return good;
}

static enum status say_lost(void)
{
    fprintf(stderr, "ioreqctl: ioreqd closed the connection\n");
    return STATUS_NO_DAEMON;
}

/* The answer, be it an error (the caller's). */
static enum status ask(struct connection *connection, const char *command, json_t *arguments, json_t **answer)
{
    json_t *message = NULL;

    *answer = NULL;
    if (!send_command(connection, command, arguments)) {
        return say_lost();
    }
    while ((message = receive(connection)) && json_object_get(message, "event")) {
        if (connection->event) {
            connection->event(connection->self, message);
        }
        json_decref(message);
    }
    *answer = message;
    return message ? STATUS_OK : say_lost();
}

/* Takes over the answer. */
static enum status open_answer(json_t *answer, json_t **value)
{
    const json_t *error = json_object_get(answer, "error");
    enum status status = error ? say_failed("%s", member_text(error, "desc")) : STATUS_OK;

    *value = error ? NULL : json_incref(json_object_get(answer, "return"));
    json_decref(answer);
    return status;
}

enum status connection_call(struct connection *connection, const char *command, json_t *arguments,
                            json_t **value)
{
    json_t *answer;
    enum status status = ask(connection, command, arguments, &answer);

    *value = NULL;
    return status ? status : open_answer(answer, value);
}

enum status connection_try(struct connection *connection, const char *command, json_t *arguments,
                           json_t **value, char *why, size_t size)
{
    json_t *answer;
    enum status status = ask(connection, command, arguments, &answer);
    const json_t *error = json_object_get(answer, "error");

    *value = NULL;
    if (!status && error) {
        snprintf(why, size, "%s", member_text(error, "desc"));
        json_decref(answer);
        return STATUS_FAILED;
    }
    return status ? status : open_answer(answer, value);
}

json_t *connection_next(struct connection *connection)
{
    return receive(connection);
}

/* How many members the answer's list has, joined to those of the pages before. */
static size_t join(json_t **all, json_t *page, const char *key)
{
    json_t *members = json_object_get(page, key);
    size_t count = json_array_size(members);

    if (*all) {
        json_array_extend(json_object_get(*all, key), members);
        json_decref(page);
    } else {
        *all = page;
    }
    return count;
}

static bool is_too_large(const json_t *answer)
{
    return !strcmp(member_text(json_object_get(answer, "error"), "class"), "AnswerTooLarge");
}

enum status connection_list(struct connection *connection, const char *command, json_t *arguments,
                            const char *key, json_t **value)
{
    enum status status = STATUS_OK;
    size_t first = 0, wanted = PAGE, count = PAGE;
    json_t *answer, *page;

    *value = NULL;
    while (!status && count == wanted) {
        json_t *these = arguments ? json_deep_copy(arguments) : json_object();
        json_object_set_new(these, "first", json_integer((json_int_t)first));
        json_object_set_new(these, "count", json_integer((json_int_t)wanted));
        status = ask(connection, command, these, &answer);
        if (!status && is_too_large(answer) && wanted > 1) { /* guests with many devices */
            json_decref(answer);
            wanted /= 2;
            count = wanted;
            continue;
        }
        status = status ? status : open_answer(answer, &page);
        count = status ? 0 : join(value, page, key);
        first += count;
    }
    json_decref(arguments);
    if (status) { /* no half of it */
        json_decref(*value);
        *value = NULL;
    }
    return status;
}
