/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest with an ioreqd-served network card at a real tap, in a network namespace of the test's own, and the
 * host's end of the tap: a packet socket that gives and takes whole frames with their vnet header.
 */
#ifndef NIC_RIG_H
#define NIC_RIG_H

#include "fixture.h"
#include "virtio_net_driver.h"

#define NIC_TAP "ioreqdtap"
#define NIC_TYPE 0x88b5 /* of the tests' own frames: for local experiments, IEEE 802 */
#define NIC_ARENA_OFFSET (2u << 20)
#define NIC_ARENA_SIZE (12u << 20)

enum nic_place {
    NIC_PCI_HVM, /* MSI-X */
    NIC_MMIO_ARM,
    NIC_MMIO_LEGACY_ARM,
    NIC_MMIO_PVH, /* polled */
    NIC_PLACES,
};

struct nic_rig {
    struct fixture f;
    enum nic_place place;
    struct virtio_driver driver;
    struct virtio_net net;
    int host;             /* the packet socket */
};

extern const uint8_t nic_mac[6], nic_host_mac[6];

/* A namespace of its own for this process and its children. What is missing, or NULL. */
const char *nic_enter_namespace(void);
/*
 * Runs ioreqd with `virtio-net,mac=...,ifname=...<options>` (which begin with a comma, or are "") and opens
 * the driver.
 */
void nic_open(struct nic_rig *rig, enum nic_place place, const char *options);
/* The two ends alone, of a guest (rig->f.guest, rig->place) that is served already. */
void nic_attach(struct nic_rig *rig);
/* nic_open; then starts the card with `features` and gives it `buffers` receive buffers of `length` bytes. */
void nic_start(struct nic_rig *rig, enum nic_place place, const char *options, uint64_t features, unsigned buffers,
               uint32_t length);
void nic_stop(struct nic_rig *rig);
/* The daemon is gone or to go; ends all else. */
void nic_abandon(struct nic_rig *rig);

/* Fills a frame of `length` bytes: to `to`, from the other end, NIC_TYPE, the number, a pattern that depends on it. */
void nic_frame(uint8_t *frame, size_t length, const uint8_t *to, uint32_t number);
/* Fails unless the frame is that one. */
void nic_expect_frame(const uint8_t *frame, size_t length, size_t expected, uint32_t number);
/* A TCP segment of IPv4, `payload` bytes in one, and the header that asks for its segmentation by `mss`. */
size_t nic_tcp_frame(uint8_t *frame, const uint8_t *to, size_t payload, uint16_t mss, struct virtio_net_hdr_v1 *header);

/* The host's end. 0, or a negative errno. */
int nic_host_send(struct nic_rig *rig, const struct virtio_net_hdr_v1 *header, const uint8_t *frame, size_t length);
/* The next frame of the guest's, or -ETIMEDOUT. */
int nic_host_receive(struct nic_rig *rig, struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t room,
                     int timeout_ms);
/* Frames in both directions work. */
void nic_expect_works(struct nic_rig *rig);
/* The tap up or down; its MTU. */
void nic_host_link(struct nic_rig *rig, bool up);
void nic_host_mtu(struct nic_rig *rig, int mtu);

#endif
