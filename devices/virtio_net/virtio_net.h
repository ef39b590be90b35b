/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the virtio network device share; virtio_net.c says what it is. */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>

#include <ioreqd/device.h>
#include <ioreqd/dma.h>
#include <ioreqd/log.h>
#include <ioreqd/loop.h>
#include <ioreqd/netdev.h>
#include <ioreqd/virtio.h>

/* Of virtio 1.3; the kernel's headers of today's Debian end before them. */
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56
#endif

#define BIT64(bit) (UINT64_C(1) << (bit))
#define CHAIN_ROOM 256u        /* buffers of a chain: a driver's frame has some 20 */
#define QUEUE_SIZE_MAX 1024u
#define CONTROL_QUEUE_SIZE 64u
#define COMMANDS_MAX 8u        /* obeyed in one go, for one may take the host a millisecond: then others come first */
#define QUEUES_MAX (2 * IOD_NET_PAIRS_MAX + 1)
#define MAC_TABLE_MAX 64u      /* addresses, both kinds together; a longer table lets all of its kind in */
#define VLANS 4096u
#define TRANSMIT_MAX (1u << 20) /* bytes sent in one go: then others come first */
#define LEGACY_HEADER 10u      /* a legacy driver without mergeable buffers knows no num_buffers */

/* What the guest can see, and what it asked for. */
struct net_regs {
    uint64_t offloads;         /* GUEST_... bits that the driver wants on: all, or what its command says */
    uint64_t vlans[VLANS / 64];
    uint8_t macs[MAC_TABLE_MAX][ETH_ALEN]; /* unicast ones, then multicast ones */
    uint8_t mac[ETH_ALEN];
    uint8_t own_mac[ETH_ALEN]; /* what mac is after a reset */
    uint16_t pairs;            /* in use */
    uint16_t max_pairs, mtu;
    uint8_t unicast, multicast; /* addresses in macs */
    uint8_t overflow;          /* OVERFLOW_... : the driver's table was longer than ours */
    uint8_t rx_mode;           /* bit VIRTIO_NET_CTRL_RX_... */
    uint8_t announce;          /* VIRTIO_NET_S_ANNOUNCE is asked for */
};
enum { OVERFLOW_UNICAST = 1, OVERFLOW_MULTICAST = 2 };

/* Nothing is lost in silence. Not the guest's to see: since the device was made. */
struct net_counters {
    uint64_t received, received_bytes;
    uint64_t sent, sent_bytes;
    uint64_t waited;          /* times that a frame waited for receive buffers */
    uint64_t filtered;        /* received, but not for this guest: MAC, VLAN */
    uint64_t receive_long;    /* longer than the MTU, or than the buffers that the driver gave */
    uint64_t receive_bad;     /* for a queue that is not in use; into buffers that are not there */
    uint64_t send_bad;        /* too long, too short, not in memory */
};

/* A receive queue and a transmit queue. */
struct pair {
    struct net *net;
    unsigned index;
    struct iod_virtq *receive, *transmit;
    bool accepting;           /* the backend may offer frames */
    bool blocked;             /* the backend takes no more: writable goes on */
    bool cut;                 /* there is more to send: the task goes on */
};

struct net {
    struct iod_device *device;
    struct iod_virtio *virtio;
    struct iod_netdev *netdev;
    struct iod_task *more;
    struct pair *pairs;
    unsigned count;           /* pairs made */
    unsigned max_pairs;       /* that guest and backend may use */
    uint16_t queue_size, mtu; /* mtu 0: not told */
    uint8_t mac[ETH_ALEN];    /* after a reset */
    bool link;                /* as the guest was told */
    bool loaded;              /* a saved state: the guest has moved */
    bool started;             /* ever */
    bool control_cut;         /* there are more commands: the task goes on */
    /* Of the driver, once it runs. */
    unsigned header;          /* bytes of the header in the guest's buffers */
    bool mergeable, vlan_filter;
    size_t frame_max;         /* bytes of a received frame, but of one that is to be segmented */
    struct net_counters counters;
};

/* ---- offloads.c ---- */

/* What features allow frames to the driver to ask for: IOD_NET_... */
uint32_t features_receive(uint64_t features);
/* The features that stand for offloads of frames from the driver, and of frames to it. */
uint64_t send_features(uint32_t offloads);
uint64_t receive_features(uint32_t offloads);

/* ---- filter.c ---- */

/* Does the guest want the frame (at least ETH_HLEN bytes)? Virtio 1.2, section 5.1.6.5. */
bool frame_wanted(const struct net_regs *regs, bool vlan_filter, const uint8_t *frame, size_t length);

/* ---- receive.c, transmit.c, control.c ---- */

/* iod_netdev_events.receive */
bool net_receive(void *self, unsigned pair, const uint8_t *frame, size_t length);
void net_receive_end(void *self, unsigned pair);
/* The driver added receive buffers. */
void net_buffers(struct pair *pair);
/* Sends what is on the ring. */
void net_transmit(struct pair *pair);
/* Serves the control queue. */
void net_control(struct net *net, struct iod_virtq *queue);
/* Tells the backend what received frames may ask for now. 0 or a negative errno. */
int net_apply_offloads(struct net *net);

#endif
