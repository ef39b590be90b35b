/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "backend/chardev.h"

enum { CHUNK = 4096 };

static void end(struct stream *stream)
{
    stream_close(stream);
    stream->ended(stream->self);
}

/* What is to be watched follows from what the device accepts and from what is stuck. */
static void watch_again(struct stream *stream)
{
    const struct loop_ops *ops = chardev_loop(stream->chardev)->ops;
    unsigned in = stream->broken || iod_chardev_accepts(stream->chardev) > 0 ? IOD_READABLE : 0;
    unsigned out = stream->broken || stream->stuck ? IOD_WRITABLE : 0;
    if (stream->in_watch != NULL && stream->in_watch == stream->out_watch) {
        ops->watch_set(stream->in_watch, in | out);
        return;
    }
    if (stream->in_watch != NULL) {
        ops->watch_set(stream->in_watch, in);
    }
    if (stream->out_watch != NULL) {
        ops->watch_set(stream->out_watch, out);
    }
}

/* False: the peer is gone. One chunk a turn: a peer that never stops sending must not hold the loop. */
static bool take_input(struct stream *stream)
{
    uint8_t bytes[CHUNK];
    size_t room = iod_chardev_accepts(stream->chardev);
    if (room == 0) {
        return true;
    }
    room = room < CHUNK ? room : CHUNK;
    ssize_t got =
        stream->socket ? recv(stream->in, bytes, room, MSG_DONTWAIT) : read(stream->in, bytes, room);
    if (got > 0) {
        iod_chardev_receive(stream->chardev, bytes, (size_t)got);
        return true;
    }
    return got < 0 && (errno == EAGAIN || errno == EINTR);
}

static void stream_ready(void *self, unsigned events)
{
    struct stream *stream = self;
    if (stream->broken) {
        end(stream);
        return;
    }
    if ((events & IOD_READABLE) != 0 && !take_input(stream)) {
        if (stream->in == stream->out || stream->out < 0) {
            end(stream);
            return;
        }
        chardev_loop(stream->chardev)->ops->watch_remove(stream->in_watch);
        stream->in_watch = NULL;
        stream->in = -1;
    }
    if ((events & IOD_WRITABLE) != 0 && stream->stuck) {
        stream->stuck = false;
        iod_chardev_writable(stream->chardev);
    }
    watch_again(stream);
}

int stream_open(struct stream *stream, struct iod_chardev *chardev, int in, int out)
{
    struct loop *loop = chardev_loop(chardev);
    stream->chardev = chardev;
    stream->in = in;
    stream->out = out;
    stream->stuck = stream->broken = false;
    if (in >= 0) {
        stream->in_watch = loop->ops->watch_add(loop, in, 0, stream_ready, stream);
    }
    if (out >= 0) {
        stream->out_watch =
            out == in ? stream->in_watch : loop->ops->watch_add(loop, out, 0, stream_ready, stream);
    }
    if ((in >= 0 && stream->in_watch == NULL) || (out >= 0 && stream->out_watch == NULL)) {
        stream_close(stream);
        return -ENOMEM;
    }
    watch_again(stream);
    return 0;
}

void stream_close(struct stream *stream)
{
    if (stream->chardev == NULL) {
        return; /* never opened */
    }
    const struct loop_ops *ops = chardev_loop(stream->chardev)->ops;
    if (stream->out_watch != stream->in_watch) {
        ops->watch_remove(stream->out_watch);
    }
    ops->watch_remove(stream->in_watch);
    stream->in_watch = stream->out_watch = NULL;
    stream->in = stream->out = -1;
    stream->stuck = false;
}

/* write() to a pipe without a reader, with the signal it would raise kept from the embedder, who owns the
 * signals. */
static ssize_t write_pipe(int fd, const uint8_t *bytes, size_t count)
{
    sigset_t broken, before, pending;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &broken, &before);
    ssize_t put = write(fd, bytes, count);
    int code = errno;
    if (put < 0 && code == EPIPE && !sigismember(&pending, SIGPIPE)) {
        struct timespec none = { 0 };
        sigtimedwait(&broken, NULL, &none);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return put;
}

size_t stream_write(struct stream *stream, const uint8_t *bytes, size_t count)
{
    if (stream->out < 0 || stream->stuck || stream->broken) {
        return 0;
    }
    ssize_t put;
    if (stream->socket) {
        put = send(stream->out, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        put = stream->pipe ? write_pipe(stream->out, bytes, count) : write(stream->out, bytes, count);
    }
    size_t taken = put > 0 ? (size_t)put : 0;
    if (put < 0 && errno != EAGAIN && errno != EINTR) {
        stream->broken = true; /* the device hears of it on the loop, never inside a call of its own */
        watch_again(stream);
        return 0;
    }
    if (taken < count) {
        stream->stuck = true;
        watch_again(stream);
    }
    return taken;
}

void stream_accept(struct stream *stream)
{
    if (stream->chardev != NULL) {
        watch_again(stream);
    }
}
