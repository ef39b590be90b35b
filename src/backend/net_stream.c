/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/net_stream.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "backend/netdev.h"
#include "core/loop.h"

enum {
    PREFIX = 4,
    /* A frame's vnet header takes the place of its length and of eight bytes before, which are done with. */
    HEADROOM = IOD_NET_HEADER - PREFIX,
    IN_BYTES = HEADROOM + PREFIX + IOD_NET_FRAME_MAX + 8192,
    SMALL = 2048,             /* frames up to this size wait for the end of the batch */
    BATCH_BYTES = 32 << 10,   /* or until there is so much */
    OUT_BYTES = BATCH_BYTES + PREFIX + IOD_NET_FRAME_MAX,
    /* What one peer may take of a turn of the loop. */
    READS_A_TURN = 16,
    FRAMES_A_TURN = 128,
    /* Some of the longest frames. With the kernel's three each third one is cut, copied and waited for. */
    SEND_ROOM = 1 << 20,
};

static void watch_again(struct net_stream *stream)
{
    if (stream->watch != NULL) {
        bool reads = iod_netdev_accepts(stream->netdev, 0);
        netdev_loop(stream->netdev)->ops->watch_set(stream->watch,
                                                    (reads ? IOD_READABLE : 0) |
                                                        (stream->full ? IOD_WRITABLE : 0));
    }
}

/* ---- the end ---- */

static size_t prefix_at(const struct net_stream *stream, size_t at)
{
    uint32_t length;
    memcpy(&length, stream->in + at, sizeof(length));
    return be32toh(length);
}

static void drop_all(struct net_stream *stream)
{
    for (; stream->out_frames > 0; stream->out_frames--) {
        iod_netdev_dropped(stream->netdev, true);
    }
    while (stream->in_end - stream->in_start >= PREFIX) {
        size_t length = prefix_at(stream, stream->in_start);
        if (length > IOD_NET_FRAME_MAX || stream->in_end - stream->in_start - PREFIX < length) {
            break;
        }
        stream->in_start += PREFIX + length;
        iod_netdev_dropped(stream->netdev, false);
    }
    stream->in_start = stream->in_end = HEADROOM;
    stream->out_start = stream->out_end = 0;
}

void net_stream_detach(struct net_stream *stream)
{
    if (stream->fd < 0) {
        return;
    }
    const struct loop_ops *ops = netdev_loop(stream->netdev)->ops;
    ops->task_cancel(stream->end_task);
    ops->task_cancel(stream->more_task);
    ops->watch_remove(stream->watch);
    stream->watch = NULL;
    close(stream->fd);
    stream->fd = -1;
    stream->full = false;
    drop_all(stream);
    if (stream->stuck) { /* the next frame is dropped, and so is not waited for */
        stream->stuck = false;
        iod_netdev_writable(stream->netdev, 0);
    }
}

static void tell_end(void *self)
{
    struct net_stream *stream = self;
    if (stream->fd >= 0) {
        net_stream_detach(stream);
        stream->ended(stream->self, stream->why);
    }
}

static void end(struct net_stream *stream, const char *why)
{
    stream->why = why;
    netdev_loop(stream->netdev)->ops->task_soon(stream->end_task);
}

/* ---- to the guest ---- */

/*
 * Offers the frames that are whole. The value is how many were taken. A frame that the device has no room for
 * stays where it is, with its length written anew.
 */
static unsigned offer_frames(struct net_stream *stream, unsigned most)
{
    unsigned taken = 0;
    while (taken < most && stream->why == NULL && stream->in_end - stream->in_start >= PREFIX &&
           iod_netdev_accepts(stream->netdev, 0)) {
        size_t length = prefix_at(stream, stream->in_start);
        if (length > IOD_NET_FRAME_MAX) {
            end(stream, "announced a frame that is longer than any");
            break;
        }
        if (stream->in_end - stream->in_start - PREFIX < length) {
            break;
        }
        uint8_t *frame = stream->in + stream->in_start - HEADROOM;
        memset(frame, 0, IOD_NET_HEADER);
        if (!iod_netdev_receive(stream->netdev, 0, frame, IOD_NET_HEADER + length)) {
            uint32_t prefix = htobe32((uint32_t)length);
            memcpy(stream->in + stream->in_start, &prefix, sizeof(prefix));
            break;
        }
        stream->in_start += PREFIX + length;
        taken++;
    }
    return taken;
}

/* Room for the longest frame behind what is there. */
static void make_room(struct net_stream *stream)
{
    size_t have = stream->in_end - stream->in_start;
    if (have == 0 || stream->in_start + PREFIX + IOD_NET_FRAME_MAX > IN_BYTES) {
        memmove(stream->in + HEADROOM, stream->in + stream->in_start, have);
        stream->in_start = HEADROOM;
        stream->in_end = HEADROOM + have;
    }
}

/* False: there is nothing more for now. */
static bool read_some(struct net_stream *stream)
{
    make_room(stream);
    ssize_t got = recv(stream->fd, stream->in + stream->in_end, IN_BYTES - stream->in_end, MSG_DONTWAIT);
    if (got > 0) {
        stream->in_end += (size_t)got;
        return true;
    }
    if (got == 0) {
        end(stream, "closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
        end(stream, strerror(errno));
    }
    return false;
}

static void receive(struct net_stream *stream)
{
    unsigned taken = offer_frames(stream, FRAMES_A_TURN), reads = 0;
    while (iod_netdev_accepts(stream->netdev, 0) && stream->why == NULL && reads++ < READS_A_TURN &&
           taken < FRAMES_A_TURN && read_some(stream)) {
        taken += offer_frames(stream, FRAMES_A_TURN - taken);
    }
    if (taken >= FRAMES_A_TURN) { /* whole ones may be left, which no event will tell of */
        netdev_loop(stream->netdev)->ops->task_again(stream->more_task);
    }
    if (taken > 0) {
        iod_netdev_receive_end(stream->netdev, 0);
    }
}

/* ---- from the guest ---- */

/* What a send took, off the front of what waits. */
static void sent(struct net_stream *stream, size_t bytes)
{
    stream->out_start += bytes;
    if (stream->out_start == stream->out_end) {
        stream->out_start = stream->out_end = 0;
        stream->out_frames = 0;
    }
}

/* The value is the bytes sent; less than there are: the socket is full, or gone. */
static size_t put(struct net_stream *stream, struct iovec *iov, unsigned count)
{
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };
    ssize_t done = sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (done < 0 && errno != EAGAIN && errno != EINTR) {
        end(stream, strerror(errno));
    }
    return done > 0 ? (size_t)done : 0;
}

static void flush(struct net_stream *stream)
{
    size_t waits = stream->out_end - stream->out_start;
    if (waits > 0 && !stream->full) {
        struct iovec piece = { .iov_base = stream->out + stream->out_start, .iov_len = waits };
        size_t done = put(stream, &piece, 1);
        stream->full = done < waits;
        sent(stream, done);
    }
}

/* Behind what waits; from the byte `skip` on. There is room: send looks after that. */
static void append(struct net_stream *stream, const struct iovec *iov, unsigned count, size_t skip)
{
    if (stream->out_start > 0) {
        memmove(stream->out, stream->out + stream->out_start, stream->out_end - stream->out_start);
        stream->out_end -= stream->out_start;
        stream->out_start = 0;
    }
    for (unsigned i = 0; i < count; i++) {
        size_t begin = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        memcpy(stream->out + stream->out_end, (const char *)iov[i].iov_base + begin, iov[i].iov_len - begin);
        stream->out_end += iov[i].iov_len - begin;
        skip -= begin;
    }
    stream->out_frames++;
}

int net_stream_send(struct net_stream *stream, const struct iovec *iov, unsigned count, size_t length)
{
    struct iovec pieces[2 + IOD_NET_PIECES_MAX]; /* what waits, the prefix, the frame */
    uint32_t prefix = htobe32((uint32_t)(length - IOD_NET_HEADER));
    if (stream->fd < 0) {
        iod_netdev_dropped(stream->netdev, true);
        return 0;
    }
    if (stream->full) {
        stream->stuck = true;
        return -EAGAIN;
    }
    size_t waits = stream->out_end - stream->out_start, whole = length - IOD_NET_HEADER + PREFIX;
    pieces[0] = (struct iovec){ .iov_base = stream->out + stream->out_start, .iov_len = waits };
    pieces[1] = (struct iovec){ .iov_base = &prefix, .iov_len = PREFIX };
    memcpy(pieces + 2, iov + 1, (count - 1) * sizeof(*iov));
    if (whole <= SMALL && waits + whole <= BATCH_BYTES) {
        append(stream, pieces + 1, count, 0);
        return 0;
    }
    size_t done = put(stream, pieces, 1 + count);
    sent(stream, done < waits ? done : waits);
    if (done == waits + whole) {
        return 0;
    }
    stream->full = true;
    if (done <= waits) { /* nothing of this one is on its way: it stays the device's */
        stream->stuck = true;
        watch_again(stream);
        return -EAGAIN;
    }
    append(stream, pieces + 1, count, done - waits);
    watch_again(stream);
    return 0;
}

void net_stream_send_end(struct net_stream *stream)
{
    if (stream->fd >= 0) {
        flush(stream);
        watch_again(stream);
    }
}

/* ---- events ---- */

static void stream_ready(void *self, unsigned events)
{
    struct net_stream *stream = self;
    if ((events & IOD_WRITABLE) != 0 && stream->full) {
        stream->full = false;
        flush(stream);
        if (!stream->full && stream->stuck) {
            stream->stuck = false;
            iod_netdev_writable(stream->netdev, 0);
        }
    }
    if ((events & IOD_READABLE) != 0) {
        receive(stream);
    }
    watch_again(stream);
}

static void receive_more(void *self)
{
    net_stream_receive_again(self);
}

void net_stream_receive_again(struct net_stream *stream)
{
    if (stream->fd >= 0) {
        receive(stream);
        watch_again(stream);
    }
}

/* What the device gave is still sent while it is stopped; nothing comes in. */
void net_stream_quiesce(struct net_stream *stream)
{
    stream->stuck = false;
    if (stream->fd >= 0) {
        flush(stream);
        watch_again(stream);
    }
}

/* ---- life ---- */

int net_stream_init(struct net_stream *stream, struct iod_netdev *netdev,
                    void (*ended)(void *self, const char *why), void *self)
{
    struct loop *loop = netdev_loop(netdev);
    *stream = (struct net_stream){
        .netdev = netdev, .fd = -1, .in_start = HEADROOM, .in_end = HEADROOM, .ended = ended, .self = self };
    stream->in = malloc(IN_BYTES);
    stream->out = malloc(OUT_BYTES);
    stream->end_task = loop->ops->task_add(loop, tell_end, stream);
    stream->more_task = loop->ops->task_add(loop, receive_more, stream);
    bool memory = stream->in != NULL && stream->out != NULL;
    return memory && stream->end_task != NULL && stream->more_task != NULL ? 0 : -ENOMEM;
}

void net_stream_finish(struct net_stream *stream)
{
    if (stream->netdev != NULL) {
        stream->stuck = false;
        net_stream_detach(stream);
        netdev_loop(stream->netdev)->ops->task_remove(stream->end_task);
        netdev_loop(stream->netdev)->ops->task_remove(stream->more_task);
        free(stream->in);
        free(stream->out);
    }
}

int net_stream_attach(struct net_stream *stream, int fd)
{
    struct loop *loop = netdev_loop(stream->netdev);
    const int room = SEND_ROOM;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) != 0) {
        /* without the right to that: the host's limit */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    }
    net_stream_detach(stream);
    stream->watch = loop->ops->watch_add(loop, fd, 0, stream_ready, stream);
    if (stream->watch == NULL) {
        close(fd);
        return -ENOMEM;
    }
    stream->fd = fd;
    stream->why = NULL;
    watch_again(stream);
    return 0;
}
