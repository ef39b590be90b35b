/* SPDX-License-Identifier: BSD-2-Clause */
/* Half a TCP for generators: one connection, data one way, frames of up to 64 KiB made by nothing but their headers. */
#ifndef BENCH_TCP_H
#define BENCH_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_net.h>

#define TCP_HEADERS 54u /* Ethernet, IPv4, TCP */
#define WAIT_MS 100

/* How frames travel. A frame lies in one of `slots` pieces of memory: vnet header, then TCP_HEADERS, then zeroes. */
struct carrier {
    void *self;
    const char *name;
    unsigned slots;
    /* The frame's memory in a slot that is free; *slot says which. NULL: none now. */
    uint8_t *(*take)(void *self, unsigned *slot);
    /* Sends it: `length` bytes behind the vnet header. */
    void (*send)(void *self, unsigned slot, size_t length);
    void (*submit)(void *self); /* the end of a batch */
    /* The next frame of the other side without its vnet header; its length. 0: none; with `wait`: after WAIT_MS. */
    size_t (*receive)(void *self, uint8_t *frame, size_t room, bool wait);
};

struct tcp {
    const struct carrier *carrier;
    uint8_t mac[6], peer_mac[6];
    uint32_t address, peer;   /* host order */
    uint16_t port, peer_port;
    uint16_t mss;
    size_t segment;           /* bytes of payload in a frame */
    bool offload;             /* checksum and segmentation are left to the kernel; else full checksums */
    uint32_t next, sent, acknowledged, peer_next; /* sequence numbers; sent: the furthest that next ever was */
    uint32_t window;
    unsigned scale, repeated, silent; /* the peer's window scale; acknowledgements of the same byte; waits in vain */
    uint64_t frames, resent;
};

/* Opens the connection; the members down to `offload` are set. Ends the program if nobody answers. */
void tcp_connect(struct tcp *tcp);
/* Sends so many bytes and waits until all are acknowledged. */
void tcp_send(struct tcp *tcp, uint64_t bytes);

#endif
