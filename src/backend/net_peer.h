/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A network backend whose other end is a process that comes and goes: link down while it is away, what the
 * guest sends then dropped and counted, tried again with growing pauses. Embedded first in the backend's
 * object, so that the class's members below serve it.
 */
#ifndef BACKEND_NET_PEER_H
#define BACKEND_NET_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/netdev.h>

#include "backend/net_stream.h"

struct loop_timer;

struct net_peer {
    struct iod_netdev *netdev;
    struct net_stream stream;
    struct loop_timer *retry;
    uint64_t pause_ns;    /* before the next try */
    uint64_t since_ns;    /* when it came last */
    uint16_t mtu;
    bool said;            /* that it is away: once until it has been there for a while */
    const char *name;     /* for people; the options' */
    /* A new descriptor of the stream, or a negative errno with *error filled. */
    int (*reach)(struct net_peer *peer, struct iod_error *error);
    /* Optional. The stream has ended. True: net_peer_went follows, with a better reason. */
    bool (*left)(struct net_peer *peer, const char *why);
};

/* 0 or a negative errno with *error filled; net_peer_close is due in both cases. The link is down. */
int net_peer_open(struct net_peer *peer, struct iod_netdev *netdev, const char *name,
                  struct iod_error *error);
/* Takes the descriptor: the link is up. A negative one is `reach`'s answer: it is tried again later. */
void net_peer_came(struct net_peer *peer, int fd, const struct iod_error *error);
/* It is gone: the link is down, and it is tried again later. Never inside a call of the device's. */
void net_peer_went(struct net_peer *peer, const char *why);
void net_peer_close(struct net_peer *peer);

/* For a unix stream socket with this name: a descriptor or a negative errno with *error filled. */
int net_peer_connect(const char *path, struct iod_error *error);

/* For struct iod_netdev_class. */
int net_peer_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count,
                  size_t length);
void net_peer_send_end(struct iod_netdev *netdev, unsigned pair);
void net_peer_receive_again(struct iod_netdev *netdev, unsigned pair);
enum iod_when net_peer_quiesce(struct iod_netdev *netdev, enum iod_drain drain);

#endif
