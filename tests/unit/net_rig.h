/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The virtio-net device over a guest of plain memory (fake_guest.h) and a backend that records: frames go nowhere but
 * into the test. The driver's side: rings of RIG_SIZE entries in guest memory, over virtio-mmio.
 */
#ifndef NET_RIG_H
#define NET_RIG_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "../../devices/virtio_net/virtio_net.h"
#include "fake_guest.h"
#include "unit.h"

#define RIG_SIZE 32u
#define RIG_QUEUES 9u
#define RIG_BUFFERS (FAKE_BASE + 0x20000) /* guest memory for buffers begins here */
#define RIG_FRAME_ROOM (IOD_NET_HEADER + IOD_NET_FRAME_MAX)
#define RIG_SENT 64u

/* What the backend has seen, and what it shall say. */
struct rig_backend {
    struct iod_netdev_limits limits;
    struct iod_netdev_counters counters;
    const struct iod_netdev_events *events;
    void *self;
    unsigned takes_frames;          /* frames to take before -EAGAIN */
    unsigned sent, send_ends;
    struct {
        unsigned pair;
        size_t length;
        uint8_t *bytes;             /* header and frame */
    } frames[RIG_SENT];
    unsigned again[IOD_NET_PAIRS_MAX]; /* calls of receive_again */
    uint32_t offloads;
    unsigned pairs, asked_pairs;
    int offloads_result;
};

struct rig_ring {
    uint16_t next_avail, next_used;
    unsigned next_desc;
};

struct rig {
    struct guest *guest;
    struct iod_device *device;
    struct iod_region *region;
    const struct iod_device_class *class;
    struct rig_backend backend;
    struct rig_ring rings[RIG_QUEUES];
    uint64_t next_buffer;
    uint64_t features;
};
extern struct rig rig; /* each test is a process of its own */

#define RIG_ALL_OFFLOADS \
    (IOD_NET_CSUM | IOD_NET_TSO4 | IOD_NET_TSO6 | IOD_NET_TSO_ECN | IOD_NET_UFO | IOD_NET_USO)

/* An option of the device, as text; NULL: the default. Before rig_make. */
void rig_option(const char *name, const char *value);
/* Makes and opens the device; options and rig.backend.limits are set. The result of create or open. */
int rig_make(const char *bus, struct iod_error *error);
/* With pairs=`pairs`, all offloads, link up, started; not negotiated. */
void rig_setup(const char *bus, const char *pairs);
void rig_teardown(void);
struct net *rig_net(void);
struct net_regs *rig_regs(void);

/* ---- the driver ---- */

uint64_t rig_offered(void);
/* Negotiates these of the features offered, sets up all queues up to `queues`, DRIVER_OK. */
void rig_start(uint64_t features, unsigned queues);
uint32_t rig_status(void);
/* Zeroed guest memory. */
uint64_t rig_take(size_t length);
/* Puts a chain into the queue: pairs of address and length, the first `out` of them readable. */
void rig_put(unsigned queue, unsigned out, unsigned count, const struct iod_extent *extents);
/* A receive buffer of one piece; its address. */
uint64_t rig_receive_buffer(unsigned queue, uint32_t length);
/* A frame of `length` bytes behind a header that asks for nothing, on the queue; byte i is i * 7 + seed. */
void rig_put_frame(unsigned queue, size_t length, uint8_t seed);
void rig_kick(unsigned queue);
/* The next used element; false: none. */
bool rig_used(unsigned queue, uint32_t *head, uint32_t *written);
/* Sends a command with its data; the answer, or -1: none. */
int rig_command(unsigned queue, uint8_t class, uint8_t what, const void *data, size_t length);

/* ---- the backend ---- */

/* Fills a frame as rig_put_frame: `length` bytes without the header; returns header and frame. */
uint8_t *rig_frame(size_t length, uint8_t seed);
/* Offers it to the device and ends the batch. */
bool rig_offer(unsigned pair, const uint8_t *frame, size_t length);
uint8_t rig_byte(size_t at, uint8_t seed);

#endif
