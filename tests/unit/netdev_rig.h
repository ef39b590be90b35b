/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network card for the tests of the network layer and its backends: the real core over a fake hypervisor, a device
 * that sends and takes what the test says. Each test is a process of its own.
 */
#ifndef NETDEV_RIG_H
#define NETDEV_RIG_H

#include <linux/virtio_net.h>

#include <ioreqd/netdev.h>

#include "core/device.h"
#include "core/guest.h"
#include "fake_xen.h"
#include "unit.h"

enum { NIC_KEPT = 64, NIC_SHORT = 2048 };

struct nic_frame {
    unsigned pair;
    size_t length;             /* with its header */
    struct virtio_net_hdr_v1 header;
    uint8_t bytes[NIC_SHORT];  /* the frame's first ones */
    uint32_t sum;              /* of all its bytes */
};

struct nic {
    struct iod_device *device;
    struct iod_netdev *netdev;
    unsigned room;             /* frames that it takes before it says no */
    unsigned received, refused, ends, writable, changed, starts;
    uint64_t received_bytes;
    uint64_t digest;           /* of all frames received, in their order: see nic_digest */
    unsigned of_pair[IOD_NET_PAIRS_MAX];
    struct nic_frame frames[NIC_KEPT]; /* the last ones: number n is at n % NIC_KEPT */
    bool inside, called_inside;
};

extern struct nic *nic;      /* the one under test, once it is open */
extern unsigned nic_pairs;   /* that it asks for */
extern bool nic_waits;       /* it does not say receive_again in start */
extern void (*nic_created)(void); /* called when the card is about to ask for its backend; may be NULL */

/* A guest with one card, running. `options`: after "test-nic,". */
struct fake_xen *nic_start(const char *options);
/* The same that may fail; false: it did, and nothing is left. */
bool nic_tries(const char *options);
/* The same that must fail, with this in its log; nothing is left. */
void nic_fails(const char *options, const char *says);
void nic_stop(struct fake_xen *fake);
extern const struct iod_module nic_module; /* the class test-nic, and the backend "probe" if probe_class is set */
extern const struct iod_netdev_class *nic_probe;

/* Sends it in one piece, as the device; the value is iod_netdev_send's. header NULL: all zeros. */
int nic_send(unsigned pair, const struct virtio_net_hdr_v1 *header, const void *frame, size_t length);
void nic_take(unsigned pair, unsigned room); /* receive_again, with so much room */
const struct nic_frame *nic_last(void);
const struct iod_netdev_counters *nic_counters(void);

/* Runs the loop until the number is reached; ten seconds at most. */
void nic_await(struct fake_xen *fake, const unsigned *number, unsigned least);
void nic_await_count(struct fake_xen *fake, const uint64_t *number, uint64_t least);
void nic_await_link(struct fake_xen *fake, bool up);

/* A frame of `length` bytes that names its number, of a local experimental Ethernet type. */
void frame_fill(uint8_t *frame, size_t length, uint32_t number);
bool frame_good(const uint8_t *frame, size_t length, uint32_t number);
uint32_t bytes_sum(const uint8_t *bytes, size_t length);
/* The digest after one more frame with this sum. */
uint64_t nic_digest(uint64_t before, uint32_t sum);

/* Changes of settings that its guest was charged for. */
uint64_t nic_settings(void);

#endif
