/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chardev "stdio": the daemon's own standard input and output, for one device. They are opened anew by
 * /proc where that goes: O_NONBLOCK belongs to the open file, which is shared with the shell that started us.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "backend/backends.h"
#include "backend/chardev.h"
#include "core/daemon.h"

/* Shared by all devices of the daemon: there is one standard output. */
struct stdio_claim {
    bool taken;
};

struct char_stdio {
    struct iod_chardev *chardev;
    struct stdio_claim *claim;
    bool claimed;
    int in, out;
    bool raw;
    struct termios before;
    struct stream stream;
};

static void *claim_create(struct daemon *daemon, struct iod_error *error)
{
    struct stdio_claim *claim = calloc(1, sizeof(*claim));
    if (claim == NULL) {
        iod_fail(error, ENOMEM, "out of memory");
    }
    return claim;
}

static const struct service_class claim_service = { .name = "stdio",
                                                    .create = claim_create,
                                                    .destroy = free };

static void stdio_ended(void *self)
{
    struct char_stdio *stdio = self;
    iod_chardev_connected(stdio->chardev, 0);
}

/* Our own open file of descriptor fd, -1 if it has none that can be waited for. */
static int reopen(int fd, int flags, bool *is_socket)
{
    struct stat st;
    char name[32];
    *is_socket = false;
    if (fstat(fd, &st) != 0) {
        return -1;
    }
    if (S_ISSOCK(st.st_mode)) {
        *is_socket = true; /* MSG_DONTWAIT does without O_NONBLOCK */
        return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    }
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    return open(name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (S_ISREG(st.st_mode) ? O_APPEND : 0));
}

/* A regular file or /dev/null is always ready and can't be watched. (For a log that must not hold the loop up
 * while a slow disk takes it there is the chardev "file".) */
static bool can_wait(int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(fd));
}

static void make_raw(struct char_stdio *stdio)
{
    if (stdio->in >= 0 && isatty(stdio->in) && tcgetattr(stdio->in, &stdio->before) == 0) {
        struct termios settings = stdio->before;
        cfmakeraw(&settings);
        settings.c_lflag |= ISIG; /* ^C still ends the daemon */
        settings.c_oflag |= OPOST; /* its log lines keep their shape */
        stdio->raw = tcsetattr(stdio->in, TCSANOW, &settings) == 0;
    }
}

static int stdio_open(struct iod_chardev *chardev, struct iod_error *error)
{
    struct char_stdio *stdio = iod_chardev_self(chardev);
    bool in_socket, out_socket;
    stdio->chardev = chardev;
    stdio->in = stdio->out = -1;
    stdio->claim = daemon_service_get(chardev_daemon(chardev), &claim_service, error);
    if (stdio->claim == NULL) {
        return -ENOMEM;
    }
    if (stdio->claim->taken) {
        return iod_fail(error, EBUSY, "stdio: is used by another device; one can have it");
    }
    stdio->claim->taken = stdio->claimed = true;
    stdio->in = reopen(STDIN_FILENO, O_RDONLY, &in_socket);
    stdio->out = reopen(STDOUT_FILENO, O_WRONLY, &out_socket);
    if (stdio->out < 0) {
        return iod_fail(error, EBADF, "stdio: standard output is closed");
    }
    if (!can_wait(stdio->in) || in_socket != out_socket) {
        if (stdio->in >= 0) {
            close(stdio->in);
        }
        stdio->in = -1;
    }
    struct stat st;
    stdio->stream.socket = out_socket;
    stdio->stream.pipe = fstat(stdio->out, &st) == 0 && S_ISFIFO(st.st_mode);
    stdio->stream.ended = stdio_ended;
    stdio->stream.self = stdio;
    make_raw(stdio);
    if (stream_open(&stdio->stream, chardev, stdio->in, can_wait(stdio->out) ? stdio->out : -1) != 0) {
        return iod_fail(error, ENOMEM, "stdio: out of memory");
    }
    stdio->stream.out = stdio->out;
    iod_chardev_connected(chardev, 1);
    return 0;
}

static size_t stdio_write(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    struct char_stdio *stdio = iod_chardev_self(chardev);
    return stream_write(&stdio->stream, bytes, count);
}

static void stdio_accept(struct iod_chardev *chardev)
{
    struct char_stdio *stdio = iod_chardev_self(chardev);
    stream_accept(&stdio->stream);
}

static void stdio_close(struct iod_chardev *chardev)
{
    struct char_stdio *stdio = iod_chardev_self(chardev);
    stream_close(&stdio->stream);
    if (stdio->raw) {
        tcsetattr(stdio->in, TCSANOW, &stdio->before);
    }
    if (stdio->in >= 0) {
        close(stdio->in);
    }
    if (stdio->out >= 0) {
        close(stdio->out);
    }
    if (stdio->claim != NULL) {
        if (stdio->claimed) {
            stdio->claim->taken = false;
        }
        daemon_service_put(chardev_daemon(chardev), &claim_service);
    }
}

const struct iod_chardev_class stdio_chardev_class = {
    .size = sizeof(struct iod_chardev_class),
    .name = "stdio",
    .summary = "the daemon's standard input and output",
    .self_size = sizeof(struct char_stdio),
    .options = NULL,
    .open = stdio_open,
    .write = stdio_write,
    .accept = stdio_accept,
    .close = stdio_close,
};
