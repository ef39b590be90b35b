/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The netdev "tap": frames to and from an interface of the host's. A frame is read into the pair's buffer and
 * offered; one that the device has no room for stays there, and the kernel queues the others (and counts what
 * it has to drop) until the device takes frames again.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <ioreqd/log.h>
#include <ioreqd/loop.h>

#include "backend/backends.h"
#include "backend/netdev.h"
#include "backend/tap.h"
#include "core/loop.h"

enum {
    BUFFER_BYTES = IOD_NET_HEADER + IOD_NET_FRAME_MAX,
    /* What one pair may take of a turn of the loop. */
    FRAMES_A_TURN = 64,
    BYTES_A_TURN = 512 << 10,
    /* Up to here a copy of a frame costs less than what the kernel does for each piece of a writev. */
    SMALL_FRAME = 2048,
};

#define RETRY_NS UINT64_C(20000000) /* a look whether a script has ended */

static void tap_limits(struct tap *tap, bool link, unsigned mtu)
{
    const struct iod_netdev_limits limits = {
        .pairs = tap->count,
        .takes = tap->takes,
        .gives = tap->gives,
        .mtu = (uint16_t)(mtu > UINT16_MAX ? UINT16_MAX : mtu),
        .link = link,
    };
    iod_netdev_set_limits(tap->netdev, &limits);
}

/* ---- watching ---- */

static void watch_again(struct tap_pair *pair)
{
    struct tap *tap = pair->tap;
    if (pair->watch == NULL) {
        return;
    }
    bool reads = pair->attached && !tap->lost && pair->kept == 0 &&
                 iod_netdev_accepts(tap->netdev, pair->number);
    /* Without a queue a descriptor is always "writable": whoever waits sends again, and it is dropped. */
    unsigned events = (reads ? IOD_READABLE : 0) | (pair->stuck ? IOD_WRITABLE : 0);
    netdev_loop(tap->netdev)->ops->watch_set(pair->watch, events);
}

/* The interface went away under us. Its descriptors are always "ready" then. */
static void tap_lost(struct tap *tap, int code)
{
    if (tap->lost) {
        return;
    }
    tap->lost = true;
    iod_log(iod_netdev_device(tap->netdev), IOD_LOG_ERROR, "tap %s is gone (%s): the link is down", tap->name,
            strerror(code));
    for (unsigned i = 0; i < tap->count; i++) {
        watch_again(&tap->pairs[i]);
    }
    tap_limits(tap, false, iod_netdev_limits(tap->netdev)->mtu);
}

static void link_changed(void *self)
{
    struct tap *tap = self;
    const struct iod_netdev_limits *limits = iod_netdev_limits(tap->netdev);
    struct link_state state = { 0 };
    int result = tap->lost ? -ENODEV : link_look(tap->links, tap->name, &state);
    if (result == -ENODEV) {
        tap_lost(tap, ENODEV);
    } else if (result == 0 && (state.up != limits->link || state.mtu != limits->mtu)) {
        tap_limits(tap, state.up, state.mtu);
    }
}

/* ---- to the guest ---- */

static bool offer(struct tap_pair *pair, size_t length)
{
    struct tap *tap = pair->tap;
    struct virtio_net_hdr *header = (struct virtio_net_hdr *)pair->buffer;
    if (tap->drops_hints) {
        header->flags &= (uint8_t)~VIRTIO_NET_HDR_F_DATA_VALID;
    }
    bool taken = iod_netdev_receive(tap->netdev, pair->number, pair->buffer, length);
    pair->kept = taken ? 0 : length;
    return taken;
}

/* Reads and offers what there is, within the budget. True: something was offered and taken. */
static bool read_frames(struct tap_pair *pair)
{
    struct tap *tap = pair->tap;
    size_t bytes = 0;
    unsigned frames = 0;
    while (frames < FRAMES_A_TURN && bytes < BYTES_A_TURN && pair->attached &&
           iod_netdev_accepts(tap->netdev, pair->number)) {
        ssize_t got = read(pair->fd, pair->buffer, BUFFER_BYTES);
        if (got < 0 && errno != EAGAIN && errno != EINTR) {
            tap_lost(tap, errno);
        }
        if (got <= 0 || !offer(pair, (size_t)got)) {
            break;
        }
        frames++;
        bytes += (size_t)got;
    }
    return frames > 0;
}

static void receive(struct tap_pair *pair)
{
    struct tap *tap = pair->tap;
    bool any = pair->kept > 0 && offer(pair, pair->kept);
    if (pair->kept == 0 && !tap->lost) {
        any |= read_frames(pair);
    }
    if (any) {
        iod_netdev_receive_end(tap->netdev, pair->number);
    }
}

static void pair_ready(void *self, unsigned events)
{
    struct tap_pair *pair = self;
    if ((events & IOD_WRITABLE) != 0 && pair->stuck) {
        pair->stuck = false;
        iod_netdev_writable(pair->tap->netdev, pair->number);
    }
    if ((events & IOD_READABLE) != 0) {
        receive(pair);
    }
    watch_again(pair);
}

static void tap_receive_again(struct iod_netdev *netdev, unsigned number)
{
    struct tap *tap = iod_netdev_self(netdev);
    struct tap_pair *pair = &tap->pairs[number];
    receive(pair);
    watch_again(pair);
}

/* ---- from the guest ---- */

static ssize_t write_frame(int fd, const struct iovec *iov, unsigned count, size_t length)
{
    uint8_t whole[SMALL_FRAME];
    size_t done = 0;
    if (length > sizeof(whole)) {
        return writev(fd, iov, (int)count);
    }
    for (unsigned i = 0; i < count; i++) {
        memcpy(whole + done, iov[i].iov_base, iov[i].iov_len);
        done += iov[i].iov_len;
    }
    return write(fd, whole, done);
}

static int tap_send(struct iod_netdev *netdev, unsigned number, const struct iovec *iov, unsigned count,
                    size_t length)
{
    struct tap *tap = iod_netdev_self(netdev);
    struct tap_pair *pair = &tap->pairs[number];
    if (tap->lost || !pair->attached) {
        iod_netdev_dropped(netdev, true);
        return 0;
    }
    if (pair->stuck) {
        return -EAGAIN;
    }
    if (write_frame(pair->fd, iov, count, length) >= 0) {
        return 0;
    }
    if (errno == EAGAIN) {
        pair->stuck = true;
        watch_again(pair);
        return -EAGAIN;
    }
    if (errno == EBADFD) {
        tap_lost(tap, errno);
    }
    iod_netdev_dropped(netdev, true); /* the interface is down, or the kernel does not like the frame */
    return 0;
}

/* What the kernel dropped because its queue to us was full. */
static void tap_count(struct iod_netdev *netdev)
{
    struct tap *tap = iod_netdev_self(netdev);
    uint64_t dropped;
    if (!tap->lost && link_dropped(tap->links, tap->listener.index, &dropped) == 0 &&
        dropped > tap->host_dropped) {
        iod_netdev_host_dropped(netdev, dropped - tap->host_dropped);
        tap->host_dropped = dropped;
    }
}

/* ---- settings ---- */

static int tap_offloads(struct iod_netdev *netdev, uint32_t offloads)
{
    struct tap *tap = iod_netdev_self(netdev);
    int result = tap->lost ? 0 : tap_set_offloads(tap, offloads);
    if (result == 0) {
        tap->drops_hints = (offloads & IOD_NET_CSUM) == 0;
    }
    return result;
}

static int tap_set_pairs(struct iod_netdev *netdev, unsigned pairs)
{
    struct tap *tap = iod_netdev_self(netdev);
    for (unsigned i = 0; i < tap->count && !tap->lost; i++) {
        struct tap_pair *pair = &tap->pairs[i];
        int result = tap_attach_pair(pair, i < pairs);
        if (result != 0) {
            return result;
        }
        if (i >= pairs && pair->kept > 0) {
            pair->kept = 0;
            iod_netdev_dropped(netdev, false);
        }
        watch_again(pair);
    }
    return 0;
}

static enum iod_when tap_quiesce(struct iod_netdev *netdev, enum iod_drain drain)
{
    struct tap *tap = iod_netdev_self(netdev);
    for (unsigned i = 0; i < tap->count; i++) {
        tap->pairs[i].stuck = false; /* the device begins anew, and is told again if there is still no room */
        watch_again(&tap->pairs[i]);
    }
    return IOD_NOW;
}

/* ---- life ---- */

static void begin(struct tap *tap)
{
    struct link_state state = { 0 };
    int index = link_index(tap->links, tap->name);
    link_look(tap->links, tap->name, &state);
    tap->listener = (struct link_listener){ .index = index, .changed = link_changed, .self = tap };
    links_listen(tap->links, &tap->listener);
    link_dropped(tap->links, index, &tap->host_dropped); /* what happened before is nobody's loss */
    tap_limits(tap, state.up, state.mtu);
    iod_log(iod_netdev_device(tap->netdev), IOD_LOG_INFO, "network at tap %s%s", tap->name,
            tap->made ? "" : ", which was there");
}

static void script_ended(void *self, const struct child_end *end)
{
    struct tap *tap = self;
    struct iod_error error = { 0 };
    tap->script = NULL;
    if (end->good) {
        begin(tap);
        iod_netdev_done(tap->netdev, 0);
        return;
    }
    iod_fail(&error, end->timed_out ? ETIMEDOUT : EIO, "tap %s: script %s %s%s%s", tap->name,
             iod_option_string(iod_netdev_options(tap->netdev), "script"), end->how,
             end->last[0] != '\0' ? ": " : "", end->last);
    iod_netdev_failed(tap->netdev, &error);
}

static int make_pairs(struct tap *tap, struct iod_error *error)
{
    struct loop *loop = netdev_loop(tap->netdev);
    for (unsigned i = 0; i < tap->count; i++) {
        struct tap_pair *pair = &tap->pairs[i];
        pair->buffer = calloc(1, BUFFER_BYTES); /* the kernel never writes a header's last two bytes */
        pair->watch = loop->ops->watch_add(loop, pair->fd, 0, pair_ready, pair);
        if (pair->buffer == NULL || pair->watch == NULL) {
            return iod_fail(error, ENOMEM, "tap %s: out of memory", tap->name);
        }
    }
    return 0;
}

/* As iod_netdev_class.open. */
static int open_interface(struct tap *tap, struct iod_error *error)
{
    struct iod_netdev *netdev = tap->netdev;
    int result = tap_interface_open(tap, iod_netdev_pairs(netdev), error);
    if (result == 0) {
        netdev_set_name(netdev, tap->name);
        result = make_pairs(tap, error);
    }
    if (result == 0) {
        result = tap_interface_set_up(tap, error);
    }
    if (result != 0) {
        return result;
    }
    const char *script = iod_option_string(iod_netdev_options(netdev), "script");
    if (script != NULL && script[0] != '\0') {
        result = tap_script_add(tap, script_ended, error);
        return result == 0 ? 1 : result;
    }
    begin(tap);
    return 0;
}

static void await_last_script(struct tap *tap)
{
    struct loop *loop = netdev_loop(tap->netdev);
    loop->ops->timer_set(tap->retry, loop->ops->now_ns(loop) + RETRY_NS);
}

static void open_again(void *self)
{
    struct tap *tap = self;
    struct iod_error error = { 0 };
    if (tap_must_wait(tap)) {
        await_last_script(tap);
        return;
    }
    int result = open_interface(tap, &error);
    if (result == 0) {
        iod_netdev_done(tap->netdev, 0);
    } else if (result < 0) {
        iod_netdev_failed(tap->netdev, &error);
    }
}

static int tap_open(struct iod_netdev *netdev, struct iod_error *error)
{
    struct tap *tap = iod_netdev_self(netdev);
    struct loop *loop = netdev_loop(netdev);
    tap->netdev = netdev;
    tap->drops_hints = true;
    tap->links = links_get(netdev_daemon(netdev), error);
    if (tap->links == NULL) {
        return -error->code;
    }
    if (!tap_must_wait(tap)) {
        return open_interface(tap, error);
    }
    tap->retry = loop->ops->timer_add(loop, open_again, tap);
    if (tap->retry == NULL) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    await_last_script(tap);
    return 1;
}

static void tap_close(struct iod_netdev *netdev)
{
    struct tap *tap = iod_netdev_self(netdev);
    const struct loop_ops *ops = netdev_loop(netdev)->ops;
    if (tap->links == NULL) {
        return;
    }
    ops->timer_remove(tap->retry);
    child_let_go(tap->script, true);
    links_forget(&tap->listener);
    for (unsigned i = 0; i < IOD_NET_PAIRS_MAX; i++) {
        ops->watch_remove(tap->pairs[i].watch);
        free(tap->pairs[i].buffer);
    }
    if (tap->scripted && !tap->lost) {
        tap_script_remove(tap);
    }
    tap_interface_close(tap);
    links_put(netdev_daemon(netdev));
}

const struct iod_netdev_class tap_netdev_class = {
    .size = sizeof(struct iod_netdev_class),
    .name = "tap",
    .summary = "interface of the host, alone or in a bridge",
    .self_size = sizeof(struct tap),
    .options = tap_options,
    .open = tap_open,
    .send = tap_send,
    .receive_again = tap_receive_again,
    .set_offloads = tap_offloads,
    .set_pairs = tap_set_pairs,
    .quiesce = tap_quiesce,
    .close = tap_close,
    .count = tap_count,
};
