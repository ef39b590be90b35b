/* SPDX-License-Identifier: BSD-2-Clause */
/* The netdev "null": a cable to nowhere. It swallows whatever the guest sends and never sends. */
#include "backend/backends.h"

static int null_open(struct iod_netdev *netdev, struct iod_error *error)
{
    const struct iod_netdev_limits limits = {
        .pairs = iod_netdev_pairs(netdev),
        .takes = IOD_NET_CSUM | IOD_NET_TSO4 | IOD_NET_TSO6 | IOD_NET_TSO_ECN | IOD_NET_UFO | IOD_NET_USO,
        .gives = IOD_NET_CSUM | IOD_NET_TSO4 | IOD_NET_TSO6 | IOD_NET_TSO_ECN | IOD_NET_UFO | IOD_NET_USO,
        .link = true,
    };
    iod_netdev_set_limits(netdev, &limits);
    return 0;
}

static int null_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count,
                     size_t length)
{
    return 0;
}

static void null_receive_again(struct iod_netdev *netdev, unsigned pair)
{
}

const struct iod_netdev_class null_netdev_class = {
    .size = sizeof(struct iod_netdev_class),
    .name = "null",
    .summary = "swallows what the guest sends, never sends",
    .open = null_open,
    .send = null_send,
    .receive_again = null_receive_again,
};
