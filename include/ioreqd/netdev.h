/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Network: frames between a device and a backend (tap, socket, passt, null). A device asks for one in create
 * by iod_netdev_attach; options `netdev=CLASS,netdev.KEY=...` choose and set it. Each frame has a vnet header
 * of IOD_NET_HEADER bytes in front, in both directions: struct virtio_net_hdr_v1 (virtio 1.2, section 5.1.6),
 * little-endian. A backend that can't pass it on says so in its limits and strips it.
 */
#ifndef IOREQD_NETDEV_H
#define IOREQD_NETDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <ioreqd/device.h>

struct iod_netdev;

#define IOD_NET_HEADER 12u
#define IOD_NET_FRAME_MAX 65550u /* bytes of a frame without its header: 64 KiB of IP behind Ethernet */
#define IOD_NET_PAIRS_MAX 16u
#define IOD_NET_PIECES_MAX 1023u /* of one frame in iod_netdev_send */

/* What a frame's vnet header may ask of whoever takes the frame. */
enum {
    IOD_NET_CSUM = 1,     /* a checksum left to be filled in (NEEDS_CSUM) */
    IOD_NET_TSO4 = 2,
    IOD_NET_TSO6 = 4,
    IOD_NET_TSO_ECN = 8,
    IOD_NET_UFO = 16,     /* whole UDP datagrams that are to be fragmented */
    IOD_NET_USO = 32,     /* UDP segmentation, both versions of IP */
};

struct iod_netdev_limits {
    unsigned pairs;      /* queue pairs that the backend can serve, 1 to IOD_NET_PAIRS_MAX */
    uint32_t takes;      /* offloads that iod_netdev_send may ask for */
    uint32_t gives;      /* offloads that received frames can be made to ask for (iod_netdev_set_offloads) */
    uint16_t mtu;        /* bytes of payload of an Ethernet frame; 0: not known */
    bool link;           /* up */
};

/*
 * What a device hears. New members come at the end only. Called on the loop, never inside a call of the
 * device's.
 */
struct iod_netdev_events {
    size_t size;
    /*
     * Required. One frame: header and frame in `length` bytes, which are the backend's and hold until the
     * return. True: taken (or dropped by the device, which counts it). False: no room; the backend keeps this
     * frame, sends nothing more to this queue, and offers it again after iod_netdev_receive_again. The header
     * asks for no more than iod_netdev_set_offloads allows, and says DATA_VALID only with IOD_NET_CSUM in it;
     * num_buffers is 0.
     */
    bool (*receive)(void *self, unsigned pair, const uint8_t *frame, size_t length);
    /* Optional. The batch of frames is over: tell the guest. */
    void (*receive_end)(void *self, unsigned pair);
    /* Optional. After iod_netdev_send said -EAGAIN: there is room again. Not said to a stopped device. */
    void (*writable)(void *self, unsigned pair);
    /*
     * Optional. The limits changed: link, mtu; a peer came or went. Not said to a stopped device: look in
     * start.
     */
    void (*changed)(void *self);
};

struct iod_netdev_counters {
    uint64_t received, received_bytes, sent, sent_bytes;
    /* By the backend: no link, too long, the host refused; and by the host, whose queue was full. */
    uint64_t receive_dropped, send_dropped;
};

/* A backend. New members come at the end only. */
struct iod_netdev_class {
    size_t size;
    const char *name, *summary;
    size_t self_size;                 /* private object: zeroed, freed by the core */
    const struct iod_option *options;
    /*
     * Required. Once. Sets the limits (iod_netdev_set_limits) before it succeeds. 0, a negative errno with
     * *error filled, or 1: later, by iod_netdev_done or iod_netdev_failed.
     */
    int (*open)(struct iod_netdev *netdev, struct iod_error *error);
    /*
     * Required. iov[0] is the header, checked and out of the guest's reach; the frame is in the others, at
     * most IOD_NET_PIECES_MAX; length is of all. 0: taken (or dropped and counted: iod_netdev_dropped);
     * -EAGAIN: no room now, a writable event follows. It keeps nothing of iov after the return.
     */
    int (*send)(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count,
                size_t length);
    /*
     * Required. The device takes frames again on this pair: offer the one kept, read the host again. Called
     * on the loop, never inside a call of the device's.
     */
    void (*receive_again)(struct iod_netdev *netdev, unsigned pair);
    /* Optional. What received frames may ask for from now on; a subset of limits.gives. */
    int (*set_offloads)(struct iod_netdev *netdev, uint32_t offloads);
    /* Optional. How many pairs the guest uses now, 1 to limits.pairs. */
    int (*set_pairs)(struct iod_netdev *netdev, unsigned pairs);
    /* Optional. The end of a batch of sends on this pair: now go to the kernel. */
    void (*send_end)(struct iod_netdev *netdev, unsigned pair);
    /* Optional; may finish later (iod_netdev_done). Done: receives nothing until resume. */
    enum iod_when (*quiesce)(struct iod_netdev *netdev, enum iod_drain drain);
    /* Optional. Also after a failed open. */
    void (*close)(struct iod_netdev *netdev);
    /*
     * Optional. Somebody looks at the counters: add what the host has dropped by itself since the last time
     * (iod_netdev_host_dropped).
     */
    void (*count)(struct iod_netdev *netdev);
};

/*
 * For devices. `key`: the options' prefix, usually "netdev"; `fallback`: the class when the user names none.
 * NULL with *error filled: no such class, bad options. `pairs`: the most the device can use.
 */
struct iod_netdev *iod_netdev_attach(struct iod_device *device, const char *key, const char *fallback,
                                     unsigned pairs, const struct iod_netdev_events *events, void *self,
                                     struct iod_error *error);
const struct iod_netdev_limits *iod_netdev_limits(const struct iod_netdev *netdev); /* valid once open */
/* The pairs the device asked for. For backends, in open. */
unsigned iod_netdev_pairs(const struct iod_netdev *netdev);
/*
 * Header and frame in the pieces of iov, which may be guest memory. 0: taken; -EAGAIN: a writable event
 * follows. A frame with a header that asks for more than limits.takes or makes no sense, that is too short or
 * too long, or in too many pieces: dropped, counted, 0.
 */
int iod_netdev_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count);
void iod_netdev_send_end(struct iod_netdev *netdev, unsigned pair);
/*
 * The device takes frames on this pair (again). Nothing is received before the first call; a quiesce takes
 * it back: say it again after start.
 */
void iod_netdev_receive_again(struct iod_netdev *netdev, unsigned pair);
int iod_netdev_set_offloads(struct iod_netdev *netdev, uint32_t offloads); /* 0 or a negative errno */
int iod_netdev_set_pairs(struct iod_netdev *netdev, unsigned pairs);       /* 0 or a negative errno */
/* Up to date. Asks the host: not for every frame. */
const struct iod_netdev_counters *iod_netdev_counters(const struct iod_netdev *netdev);

/* For backends. */
void *iod_netdev_self(const struct iod_netdev *netdev);
struct iod_device *iod_netdev_device(const struct iod_netdev *netdev); /* for timers, watches, log */
const struct iod_options *iod_netdev_options(const struct iod_netdev *netdev);
/* In open, or later: then the device's `changed` is called. */
void iod_netdev_set_limits(struct iod_netdev *netdev, const struct iod_netdev_limits *limits);
void iod_netdev_done(struct iod_netdev *netdev, int error); /* ends an open or quiesce that was "later" */
/* Ends an open that answered "later", with the reason. */
void iod_netdev_failed(struct iod_netdev *netdev, const struct iod_error *error);
bool iod_netdev_accepts(const struct iod_netdev *netdev, unsigned pair); /* may a frame be offered now? */
/*
 * Offers one frame; as events.receive. Counts it. One that is too short or too long, or whose header asks for
 * more than the device wants, is dropped and counted: true. False also while the device does not accept.
 */
bool iod_netdev_receive(struct iod_netdev *netdev, unsigned pair, const uint8_t *frame, size_t length);
void iod_netdev_receive_end(struct iod_netdev *netdev, unsigned pair);
void iod_netdev_writable(struct iod_netdev *netdev, unsigned pair);
/* A frame that went nowhere. */
void iod_netdev_dropped(struct iod_netdev *netdev, bool sending);
/* So many for the guest that the host dropped by itself. */
void iod_netdev_host_dropped(struct iod_netdev *netdev, uint64_t frames);

#endif
