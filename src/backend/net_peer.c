/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/net_peer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <ioreqd/log.h>

#include "backend/netdev.h"
#include "core/loop.h"

#define MS UINT64_C(1000000)
#define PAUSE_FIRST_NS (100 * MS)
#define PAUSE_MOST_NS (5000 * MS) /* also how long a peer must stay to be trusted again */

static void set_link(struct net_peer *peer, bool up)
{
    const struct iod_netdev_limits limits = { .pairs = 1, .mtu = peer->mtu, .link = up };
    iod_netdev_set_limits(peer->netdev, &limits);
}

static uint64_t now(const struct net_peer *peer)
{
    struct loop *loop = netdev_loop(peer->netdev);
    return loop->ops->now_ns(loop);
}

static void try_later(struct net_peer *peer)
{
    if (peer->reach == NULL) {
        return;
    }
    netdev_loop(peer->netdev)->ops->timer_set(peer->retry, now(peer) + peer->pause_ns);
    peer->pause_ns = peer->pause_ns < PAUSE_MOST_NS / 2 ? peer->pause_ns * 2 : PAUSE_MOST_NS;
}

static void say_away(struct net_peer *peer, const char *why)
{
    if (!peer->said) {
        peer->said = true;
        iod_log(iod_netdev_device(peer->netdev), IOD_LOG_WARNING, "network peer %s: %s; the link is down%s",
                peer->name, why, peer->reach != NULL ? ", tried again" : "");
    }
}

void net_peer_came(struct net_peer *peer, int fd, const struct iod_error *error)
{
    if (fd >= 0 && net_stream_attach(&peer->stream, fd) == 0) {
        peer->since_ns = now(peer);
        iod_log(iod_netdev_device(peer->netdev), peer->said ? IOD_LOG_INFO : IOD_LOG_DEBUG,
                "network peer %s: connected", peer->name);
        set_link(peer, true);
        return;
    }
    say_away(peer, fd >= 0 ? "out of memory" : error->text);
    try_later(peer);
}

static void retry(void *self)
{
    struct net_peer *peer = self;
    struct iod_error error = { 0 };
    int fd = peer->reach(peer, &error);
    net_peer_came(peer, fd, &error);
}

void net_peer_went(struct net_peer *peer, const char *why)
{
    net_stream_detach(&peer->stream);
    if (now(peer) - peer->since_ns >= PAUSE_MOST_NS) {
        peer->said = false;
        peer->pause_ns = PAUSE_FIRST_NS;
    }
    say_away(peer, why);
    set_link(peer, false);
    try_later(peer);
}

static void stream_ended(void *self, const char *why)
{
    struct net_peer *peer = self;
    if (peer->left != NULL && peer->left(peer, why)) {
        set_link(peer, false);
        return;
    }
    net_peer_went(peer, why);
}

int net_peer_open(struct net_peer *peer, struct iod_netdev *netdev, const char *name,
                  struct iod_error *error)
{
    struct loop *loop = netdev_loop(netdev);
    peer->netdev = netdev;
    peer->name = name;
    peer->pause_ns = PAUSE_FIRST_NS;
    peer->mtu = (uint16_t)iod_option_number(iod_netdev_options(netdev), "mtu");
    peer->retry = loop->ops->timer_add(loop, retry, peer);
    int result = net_stream_init(&peer->stream, netdev, stream_ended, peer);
    if (result != 0 || peer->retry == NULL) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    netdev_set_name(netdev, name);
    set_link(peer, false);
    return 0;
}

void net_peer_close(struct net_peer *peer)
{
    if (peer->netdev != NULL) {
        net_stream_finish(&peer->stream);
        netdev_loop(peer->netdev)->ops->timer_remove(peer->retry);
    }
}

int net_peer_connect(const char *path, struct iod_error *error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path)) {
        return iod_fail(error, ENAMETOOLONG, "%s: a socket's path has at most %zu characters", path,
                        sizeof(address.sun_path) - 1);
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return iod_fail(error, errno, "no socket: %s", strerror(errno));
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
        return fd;
    }
    int code = errno;
    close(fd);
    return iod_fail(error, code, "can't be connected to: %s", strerror(code));
}

/* ---- the class's members ---- */

int net_peer_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count,
                  size_t length)
{
    struct net_peer *peer = iod_netdev_self(netdev);
    return net_stream_send(&peer->stream, iov, count, length);
}

void net_peer_send_end(struct iod_netdev *netdev, unsigned pair)
{
    struct net_peer *peer = iod_netdev_self(netdev);
    net_stream_send_end(&peer->stream);
}

void net_peer_receive_again(struct iod_netdev *netdev, unsigned pair)
{
    struct net_peer *peer = iod_netdev_self(netdev);
    net_stream_receive_again(&peer->stream);
}

enum iod_when net_peer_quiesce(struct iod_netdev *netdev, enum iod_drain drain)
{
    struct net_peer *peer = iod_netdev_self(netdev);
    net_stream_quiesce(&peer->stream);
    return IOD_NOW;
}
