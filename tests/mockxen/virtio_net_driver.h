/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio-net driver over virtio_driver.h (VIRTIO 1.2, section 5.1): receive buffers of one size, frames sent by copy.
 * Queues are used by one thread each; functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef MOCKXEN_VIRTIO_NET_DRIVER_H
#define MOCKXEN_VIRTIO_NET_DRIVER_H

#include <linux/virtio_net.h>

#include "virtio_driver.h"

#define VIRTIO_ID_NETWORK_CARD 1
#define VIRTIO_NET_PAIRS_MAX 16u
#define VIRTIO_NET_HEADER_MAX 12u
#define VIRTIO_NET_FRAME_MAX 65550u
/** All that the driver understands. */
#define VIRTIO_NET_ALL                                                                                       \
    (VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) |                           \
     VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | VIRTIO_FEATURE(VIRTIO_NET_F_MTU) |                   \
     VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |                            \
     VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ECN) |                      \
     VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO6) |                       \
     VIRTIO_FEATURE(VIRTIO_NET_F_HOST_ECN) | VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) |                        \
     VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) | VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_VQ) |                            \
     VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_RX) | VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_VLAN) |                         \
     VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_RX_EXTRA) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE) |              \
     VIRTIO_FEATURE(VIRTIO_NET_F_MQ) | VIRTIO_FEATURE(VIRTIO_NET_F_CTRL_MAC_ADDR) |                          \
     VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |                      \
     VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX))

/** A piece of guest memory: a receive buffer, or a frame to send. */
struct virtio_net_buffer {
    struct virtio_net_buffer *next, *next_made;
    uint64_t gpa;
    uint8_t *memory;
    uint32_t length;
};

struct virtio_net {
    struct virtio_driver *driver;
    struct virtio_net_config config; /* as far as mtu */
    unsigned pairs;                  /* set up; the first one is in use until virtio_net_set_pairs() */
    unsigned control;                /* queue index */
    size_t header;                   /* bytes */
    struct virtio_net_buffer *made;
    struct virtio_net_buffer *spare[VIRTIO_NET_PAIRS_MAX]; /* sent ones of each pair */
};

/**
 * Negotiates, sets up the queues of `pairs` pairs (as many as the device has) and of control, all with `size` entries
 * (0: the most), and starts the device. It has no receive buffers yet.
 */
int virtio_net_start(struct virtio_net *net, struct virtio_driver *driver, uint64_t features, unsigned pairs,
                     unsigned size);
/** Frees all buffers' records; the driver is not closed. */
void virtio_net_finish(struct virtio_net *net);
void virtio_net_read_config(struct virtio_net *net);

struct virtio_queue *virtio_net_receive_queue(struct virtio_net *net, unsigned pair);
struct virtio_queue *virtio_net_send_queue(struct virtio_net *net, unsigned pair);

/** Gives the device `count` new receive buffers of `length` bytes. */
int virtio_net_fill(struct virtio_net *net, unsigned pair, unsigned count, uint32_t length);
/**
 * The next received frame, of all its buffers, which go back to the device: its header in *header, at most `room` bytes
 * of it in `frame`. Its length, -ETIMEDOUT after `timeout_ms`, -EBADMSG: not as the standard has it, or as
 * virtio_queue_wait().
 */
int virtio_net_receive(struct virtio_net *net, unsigned pair, struct virtio_net_hdr_v1 *header, void *frame,
                       size_t room, int timeout_ms);
/**
 * Puts a frame into the send queue, in `pieces` descriptors of which the first holds the header, without a kick. NULL
 * for a header that asks for nothing. -ENOSPC: the ring is full; virtio_net_sent() makes room.
 */
int virtio_net_put(struct virtio_net *net, unsigned pair, const struct virtio_net_hdr_v1 *header, const void *frame,
                   size_t length, unsigned pieces);
/** Takes back what was sent; how many. */
unsigned virtio_net_sent(struct virtio_net *net, unsigned pair);
/** Puts one, kicks, and waits until it was taken. */
int virtio_net_send(struct virtio_net *net, unsigned pair, const struct virtio_net_hdr_v1 *header, const void *frame,
                    size_t length);
/** A control command. VIRTIO_NET_OK, VIRTIO_NET_ERR or a negative errno. */
int virtio_net_command(struct virtio_net *net, uint8_t class, uint8_t what, const void *data, size_t length);
int virtio_net_set_pairs(struct virtio_net *net, uint16_t pairs);

#endif
