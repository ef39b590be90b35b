/* SPDX-License-Identifier: BSD-2-Clause */
/* Offloads as the backend knows them, and the features that stand for them. */
#include "virtio_net.h"

struct offload {
    uint32_t offload;   /* IOD_NET_... */
    uint64_t send, receive; /* features that stand for it: all must be there */
    uint32_t needs;     /* one of these too */
};

/* Section 5.1.3.1 says which needs which; in an order in which each stands behind what it needs. */
static const struct offload offloads[] = {
    { IOD_NET_CSUM, BIT64(VIRTIO_NET_F_CSUM), BIT64(VIRTIO_NET_F_GUEST_CSUM), 0 },
    { IOD_NET_TSO4, BIT64(VIRTIO_NET_F_HOST_TSO4), BIT64(VIRTIO_NET_F_GUEST_TSO4), IOD_NET_CSUM },
    { IOD_NET_TSO6, BIT64(VIRTIO_NET_F_HOST_TSO6), BIT64(VIRTIO_NET_F_GUEST_TSO6), IOD_NET_CSUM },
    { IOD_NET_TSO_ECN, BIT64(VIRTIO_NET_F_HOST_ECN), BIT64(VIRTIO_NET_F_GUEST_ECN),
      IOD_NET_TSO4 | IOD_NET_TSO6 },
    { IOD_NET_UFO, BIT64(VIRTIO_NET_F_HOST_UFO), BIT64(VIRTIO_NET_F_GUEST_UFO), IOD_NET_CSUM },
    { IOD_NET_USO, BIT64(VIRTIO_NET_F_HOST_USO),
      BIT64(VIRTIO_NET_F_GUEST_USO4) | BIT64(VIRTIO_NET_F_GUEST_USO6), IOD_NET_CSUM },
};
#define OFFLOADS (sizeof(offloads) / sizeof(offloads[0]))

static uint64_t to_features(uint32_t wanted, bool send)
{
    uint64_t features = 0;
    uint32_t given = 0;

    for (size_t i = 0; i < OFFLOADS; i++) {
        if ((wanted & offloads[i].offload) && (!offloads[i].needs || (given & offloads[i].needs))) {
            given |= offloads[i].offload;
            features |= send ? offloads[i].send : offloads[i].receive;
        }
    }
    return features;
}

uint32_t features_receive(uint64_t features)
{
    uint32_t result = 0;

    for (size_t i = 0; i < OFFLOADS; i++) {
        if ((features & offloads[i].receive) == offloads[i].receive &&
            (!offloads[i].needs || (result & offloads[i].needs))) {
            result |= offloads[i].offload;
        }
    }
    return result;
}

uint64_t send_features(uint32_t wanted)
{
    return to_features(wanted, true);
}

uint64_t receive_features(uint32_t wanted)
{
    return to_features(wanted, false);
}
