/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The layer between devices and network backends: who receives when, what a header may ask for, counters.
 * A sent frame's header is copied, and only the copy is checked and used: the guest can change its own
 * at any time.
 */
#include "backend/netdev.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/daemon.h"
#include "core/device.h"
#include "core/guest.h"
#include "core/limit.h"
#include "core/module.h"
#include "core/options.h"
#include "core/probe.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* virtio 1.3, section 5.1.6; headers older than Linux 6.2 lack it */
#endif

_Static_assert(sizeof(struct virtio_net_hdr_v1) == IOD_NET_HEADER, "the header of virtio 1.x");

struct iod_netdev {
    struct device_backend backend;
    const struct iod_netdev_class *class;
    struct iod_device *device;
    struct daemon *daemon;
    struct iod_options *options;
    void *self;
    const struct iod_netdev_events *events;
    void *events_self;
    struct iod_netdev_limits limits;
    struct iod_netdev_counters counters;
    uint32_t accepts;       /* the device takes frames of these pairs; bit n: pair n */
    uint32_t again;         /* of those, the backend was not told yet */
    uint32_t offloads;      /* that received frames may ask for */
    unsigned pairs;         /* that the device can use */
    unsigned pairs_set;     /* what it asked for last */
    struct loop_task *task; /* tells: the backend of `again`, the device of `changed` */
    bool changed;
    bool tried, opened;
    bool opening, stopping; /* open, quiesce was answered with later */
    char prefix[32], name[64];
};

/* ---- life ---- */

static void netdev_destroy(struct device_backend *backend)
{
    struct iod_netdev *netdev = list_entry(backend, struct iod_netdev, backend);
    if (netdev->tried && TABLE_HAS(netdev->class, close)) {
        netdev->class->close(netdev);
    }
    daemon_loop(netdev->daemon)->ops->task_remove(netdev->task);
    options_destroy(netdev->options);
    free(netdev->self);
    free(netdev);
}

static int netdev_open(struct device_backend *backend, struct iod_error *error)
{
    struct iod_netdev *netdev = list_entry(backend, struct iod_netdev, backend);
    netdev->tried = true;
    int result = netdev->class->open(netdev, error);
    netdev->opened = result == 0;
    netdev->opening = result > 0;
    return result;
}

static enum iod_when netdev_quiesce(struct device_backend *backend, enum iod_drain drain)
{
    struct iod_netdev *netdev = list_entry(backend, struct iod_netdev, backend);
    netdev->accepts = netdev->again = 0;
    if (!netdev->opened || !TABLE_HAS(netdev->class, quiesce) ||
        netdev->class->quiesce(netdev, drain) == IOD_NOW) {
        netdev->stopping = false;
        return IOD_NOW;
    }
    netdev->stopping = true;
    return IOD_LATER;
}

static void netdev_inspect(const struct device_backend *backend, struct inspector *to)
{
    const struct iod_netdev *netdev = list_entry(backend, struct iod_netdev, backend);
    const struct iod_netdev_counters *counters = iod_netdev_counters(netdev);
    to->text(to, "netdev", netdev->class->name);
    to->text(to, "name", netdev->name);
    to->boolean(to, "link", netdev->limits.link);
    to->number(to, "mtu", netdev->limits.mtu);
    to->number(to, "pairs", netdev->limits.pairs);
    to->number(to, "received", counters->received);
    to->number(to, "received-bytes", counters->received_bytes);
    to->number(to, "received-dropped", counters->receive_dropped);
    to->number(to, "sent", counters->sent);
    to->number(to, "sent-bytes", counters->sent_bytes);
    to->number(to, "sent-dropped", counters->send_dropped);
}

static const struct device_backend_ops netdev_ops = {
    .open = netdev_open,
    .quiesce = netdev_quiesce,
    .destroy = netdev_destroy,
    .inspect = netdev_inspect,
};

/* What is owed to either side, said where no call of theirs is under way. */
static void tell(void *self)
{
    struct iod_netdev *netdev = self;
    for (unsigned pair = 0; netdev->again != 0 && pair < IOD_NET_PAIRS_MAX; pair++) {
        uint32_t bit = UINT32_C(1) << pair;
        if ((netdev->again & bit) != 0) {
            netdev->again &= ~bit;
            netdev->class->receive_again(netdev, pair);
        }
    }
    if (netdev->changed) {
        netdev->changed = false;
        if (device_state(netdev->device) == DEVICE_RUNNING && TABLE_HAS(netdev->events, changed)) {
            netdev->events->changed(netdev->events_self);
        }
    }
}

static int netdev_fill(struct iod_netdev *netdev, const char *key, const char *fallback,
                       struct iod_error *error)
{
    const char *name = device_spec_take(netdev->device, key);
    if (name == NULL) {
        name = fallback != NULL ? fallback : "null";
    }
    netdev->class = modules_netdev(daemon_modules(netdev->daemon), name, error);
    if (netdev->class == NULL) {
        return -EINVAL;
    }
    char what[64];
    snprintf(what, sizeof(what), "network backend %s", name);
    netdev->options =
        device_backend_options(netdev->device, netdev->class->options, what, netdev->prefix, error);
    if (netdev->options == NULL) {
        return -EINVAL;
    }
    struct loop *loop = daemon_loop(netdev->daemon);
    netdev->self = calloc(1, netdev->class->self_size > 0 ? netdev->class->self_size : 1);
    netdev->task = loop->ops->task_add(loop, tell, netdev);
    return netdev->self != NULL && netdev->task != NULL ? 0 : iod_fail(error, ENOMEM, "out of memory");
}

struct iod_netdev *iod_netdev_attach(struct iod_device *device, const char *key, const char *fallback,
                                     unsigned pairs, const struct iod_netdev_events *events, void *self,
                                     struct iod_error *error)
{
    struct iod_netdev *netdev = calloc(1, sizeof(*netdev));
    if (netdev == NULL) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    netdev->device = device;
    netdev->daemon = guest_daemon(device_guest(device));
    netdev->events = events;
    netdev->events_self = self;
    netdev->pairs = pairs < 1 ? 1 : pairs > IOD_NET_PAIRS_MAX ? IOD_NET_PAIRS_MAX : pairs;
    netdev->limits.pairs = 1;
    snprintf(netdev->prefix, sizeof(netdev->prefix), "%s.", key);
    if (netdev_fill(netdev, key, fallback, error) != 0) {
        netdev_destroy(&netdev->backend);
        return NULL;
    }
    device_backend_add(device, &netdev->backend, &netdev_ops, netdev->class->options);
    return netdev;
}

void iod_netdev_done(struct iod_netdev *netdev, int error)
{
    if (netdev->opening) {
        netdev->opening = false;
        netdev->opened = error == 0;
        device_backend_done(&netdev->backend, error);
    } else if (netdev->stopping) {
        netdev->stopping = false;
        device_backend_done(&netdev->backend, error);
    }
}

void iod_netdev_failed(struct iod_netdev *netdev, const struct iod_error *error)
{
    if (netdev->opening) {
        netdev->opening = false;
        device_backend_failed(&netdev->backend, error);
    }
}

/* ---- headers ---- */

/* The offload that a gso_type stands for; 0: none such. */
static uint32_t gso_offload(uint8_t type)
{
    uint32_t ecn = (type & VIRTIO_NET_HDR_GSO_ECN) != 0 ? IOD_NET_TSO_ECN : 0;
    switch (type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
        return IOD_NET_TSO4 | ecn;
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return IOD_NET_TSO6 | ecn;
    case VIRTIO_NET_HDR_GSO_UDP:
        return ecn == 0 ? IOD_NET_UFO : 0;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
        return ecn == 0 ? IOD_NET_USO : 0;
    default:
        return 0;
    }
}

/* May this header stand before a frame of so many bytes (without it), for a taker of these offloads? */
static bool header_good(const struct virtio_net_hdr_v1 *header, size_t length, uint32_t may)
{
    if ((header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0) {
        size_t end = (size_t)le16toh(header->csum_start) + le16toh(header->csum_offset) + 2;
        if ((may & IOD_NET_CSUM) == 0 || end > length) {
            return false;
        }
    }
    if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        uint32_t offload = gso_offload(header->gso_type);
        return offload != 0 && (offload & ~may) == 0 && header->gso_size != 0 &&
               le16toh(header->hdr_len) <= length;
    }
    return true;
}

static bool length_good(size_t length)
{
    return length >= IOD_NET_HEADER + ETHER_HDR_LEN && length <= IOD_NET_HEADER + IOD_NET_FRAME_MAX;
}

/*
 * Copies the header out of the pieces and lets frame[] point at what follows it. The value is the number of
 * pieces in frame[]; 0: there are none, or too many. *length is of all.
 */
static unsigned split(const struct iovec *iov, unsigned count, struct virtio_net_hdr_v1 *header,
                      struct iovec *frame, size_t *length)
{
    unsigned pieces = 0;
    size_t have = 0, all = 0;
    for (unsigned i = 0; i < count; i++) {
        const char *base = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        all += left;
        if (have < sizeof(*header)) {
            size_t part = sizeof(*header) - have < left ? sizeof(*header) - have : left;
            memcpy((char *)header + have, base, part);
            have += part;
            base += part;
            left -= part;
        }
        if (left > 0) {
            if (pieces == IOD_NET_PIECES_MAX || left > IOD_NET_FRAME_MAX) {
                return 0;
            }
            frame[pieces++] = (struct iovec){ .iov_base = (char *)base, .iov_len = left };
        }
    }
    *length = all;
    return pieces;
}

/* ---- from the guest ---- */

static int drop_sent(struct iod_netdev *netdev)
{
    netdev->counters.send_dropped++;
    return 0;
}

int iod_netdev_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count)
{
    struct iovec pieces[1 + IOD_NET_PIECES_MAX];
    struct virtio_net_hdr_v1 header;
    size_t length;
    if (!netdev->opened || pair >= netdev->limits.pairs) {
        return drop_sent(netdev);
    }
    unsigned frame = split(iov, count, &header, pieces + 1, &length);
    if (frame == 0 || !length_good(length) ||
        !header_good(&header, length - IOD_NET_HEADER, netdev->limits.takes)) {
        return drop_sent(netdev);
    }
    header.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM; /* the others are to be ignored */
    header.num_buffers = 0;
    if (header.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        header.hdr_len = header.gso_size = 0;
    }
    pieces[0] = (struct iovec){ .iov_base = &header, .iov_len = sizeof(header) };

    uint64_t dropped = netdev->counters.send_dropped;
    int result = netdev->class->send(netdev, pair, pieces, 1 + frame, length);
    if (result == -EAGAIN) {
        return result;
    }
    if (result != 0) {
        return drop_sent(netdev);
    }
    if (netdev->counters.send_dropped == dropped) {
        probe_send(netdev->device, pair, pieces, 1 + frame, length);
        netdev->counters.sent++;
        netdev->counters.sent_bytes += length - IOD_NET_HEADER;
    }
    return 0;
}

void iod_netdev_send_end(struct iod_netdev *netdev, unsigned pair)
{
    if (netdev->opened && TABLE_HAS(netdev->class, send_end)) {
        netdev->class->send_end(netdev, pair);
    }
}

void iod_netdev_writable(struct iod_netdev *netdev, unsigned pair)
{
    enum device_state state = device_state(netdev->device);
    if ((state == DEVICE_RUNNING || state == DEVICE_STOPPING) && TABLE_HAS(netdev->events, writable)) {
        netdev->events->writable(netdev->events_self, pair);
    }
}

/* ---- to the guest ---- */

void iod_netdev_receive_again(struct iod_netdev *netdev, unsigned pair)
{
    uint32_t bit = UINT32_C(1) << pair;
    if (netdev->opened && pair < netdev->limits.pairs && (netdev->accepts & bit) == 0) {
        netdev->accepts |= bit;
        netdev->again |= bit;
        daemon_loop(netdev->daemon)->ops->task_soon(netdev->task);
    }
}

bool iod_netdev_accepts(const struct iod_netdev *netdev, unsigned pair)
{
    return (netdev->accepts >> pair & 1) != 0;
}

bool iod_netdev_receive(struct iod_netdev *netdev, unsigned pair, const uint8_t *frame, size_t length)
{
    if (!iod_netdev_accepts(netdev, pair)) {
        return false;
    }
    struct virtio_net_hdr_v1 header;
    if (!length_good(length)) {
        iod_netdev_dropped(netdev, false);
        return true;
    }
    memcpy(&header, frame, sizeof(header));
    if (!header_good(&header, length - IOD_NET_HEADER, netdev->offloads)) {
        iod_netdev_dropped(netdev, false);
        return true;
    }
    if (!netdev->events->receive(netdev->events_self, pair, frame, length)) {
        netdev->accepts &= ~(UINT32_C(1) << pair);
        return false;
    }
    struct iovec taken = { .iov_base = (uint8_t *)(uintptr_t)frame, .iov_len = length };
    probe_receive(netdev->device, pair, &taken, 1, length);
    netdev->counters.received++;
    netdev->counters.received_bytes += length - IOD_NET_HEADER;
    return true;
}

void iod_netdev_receive_end(struct iod_netdev *netdev, unsigned pair)
{
    if (TABLE_HAS(netdev->events, receive_end)) {
        netdev->events->receive_end(netdev->events_self, pair);
    }
}

void iod_netdev_dropped(struct iod_netdev *netdev, bool sending)
{
    if (sending) {
        netdev->counters.send_dropped++;
    } else {
        netdev->counters.receive_dropped++;
    }
}

void iod_netdev_host_dropped(struct iod_netdev *netdev, uint64_t frames)
{
    netdev->counters.receive_dropped += frames;
}

const struct iod_netdev_counters *iod_netdev_counters(const struct iod_netdev *netdev)
{
    if (netdev->opened && TABLE_HAS(netdev->class, count)) {
        netdev->class->count((struct iod_netdev *)netdev); /* to the outside nothing but a number changes */
    }
    return &netdev->counters;
}

/* ---- settings ---- */

int iod_netdev_set_offloads(struct iod_netdev *netdev, uint32_t offloads)
{
    if (!netdev->opened || (offloads & ~netdev->limits.gives) != 0) {
        return -EINVAL;
    }
    if (offloads != netdev->offloads && TABLE_HAS(netdev->class, set_offloads)) {
        limit_charge_device(netdev->device, DEED_SETTING, 1);
        int result = netdev->class->set_offloads(netdev, offloads);
        if (result != 0) {
            return result;
        }
    }
    netdev->offloads = offloads;
    return 0;
}

int iod_netdev_set_pairs(struct iod_netdev *netdev, unsigned pairs)
{
    if (!netdev->opened || pairs < 1 || pairs > netdev->limits.pairs) {
        return -EINVAL;
    }
    if (!TABLE_HAS(netdev->class, set_pairs)) {
        return 0;
    }
    if (pairs != netdev->pairs_set) {
        limit_charge_device(netdev->device, DEED_SETTING, 1);
        netdev->pairs_set = pairs;
    }
    return netdev->class->set_pairs(netdev, pairs);
}

void iod_netdev_set_limits(struct iod_netdev *netdev, const struct iod_netdev_limits *limits)
{
    bool link = netdev->limits.link;
    netdev->limits = *limits;
    if (netdev->opened && link != limits->link) {
        device_backend_tell(&netdev->backend, limits->link ? "back: the link is up" : "lost: the link is down");
    }
    if (limits->pairs < 1 || limits->pairs > netdev->pairs) {
        netdev->limits.pairs = limits->pairs < 1 ? 1 : netdev->pairs;
    }
    if (netdev->opened) {
        netdev->changed = true;
        daemon_loop(netdev->daemon)->ops->task_soon(netdev->task);
    }
}

void netdev_set_name(struct iod_netdev *netdev, const char *name)
{
    snprintf(netdev->name, sizeof(netdev->name), "%s", name);
}

/* ---- getters ---- */

const struct iod_netdev_limits *iod_netdev_limits(const struct iod_netdev *netdev)
{
    return &netdev->limits;
}

unsigned iod_netdev_pairs(const struct iod_netdev *netdev)
{
    return netdev->pairs;
}

void *iod_netdev_self(const struct iod_netdev *netdev)
{
    return netdev->self;
}

struct iod_device *iod_netdev_device(const struct iod_netdev *netdev)
{
    return netdev->device;
}

const struct iod_options *iod_netdev_options(const struct iod_netdev *netdev)
{
    return netdev->options;
}

struct daemon *netdev_daemon(const struct iod_netdev *netdev)
{
    return netdev->daemon;
}

struct loop *netdev_loop(const struct iod_netdev *netdev)
{
    return daemon_loop(netdev->daemon);
}
