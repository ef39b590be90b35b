/* SPDX-License-Identifier: BSD-2-Clause */
/* The netdev "socket": a unix stream socket that another process listens on, or one that was inherited. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>


#include "backend/backends.h"
#include "backend/net_peer.h"

struct net_socket {
    struct net_peer peer; /* first: its functions are the class's */
};

static const struct iod_option socket_options[] = {
    { .name = "path", .type = IOD_OPTION_STRING,
      .help = "unix stream socket to connect to (QEMU's framing)" },
    { .name = "fd", .type = IOD_OPTION_NUMBER, .min = 3, .max = 1 << 20,
      .help = "or a connected one that ioreqd inherited: its descriptor" },
    { .name = "mtu", .type = IOD_OPTION_NUMBER, .min = 68, .max = 65535,
      .help = "that the guest is told of" },
    { .name = NULL },
};

static int reach(struct net_peer *peer, struct iod_error *error)
{
    return net_peer_connect(iod_option_string(iod_netdev_options(peer->netdev), "path"), error);
}

/* Our own copy of a descriptor that the user names: is it what it should be? */
static int inherit(int fd, struct iod_error *error)
{
    int type = 0, domain = 0, listens = 0;
    socklen_t size = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0) {
        return iod_fail(error, errno, "fd=%d: %s", fd, strerror(errno));
    }
    if (domain != AF_UNIX || type != SOCK_STREAM || listens) {
        return iod_fail(error, EINVAL, "fd=%d: expected a connected unix stream socket", fd);
    }
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return own >= 0 ? own : iod_fail(error, errno, "fd=%d: %s", fd, strerror(errno));
}

static int socket_open(struct iod_netdev *netdev, struct iod_error *error)
{
    struct net_socket *sock = iod_netdev_self(netdev);
    const struct iod_options *options = iod_netdev_options(netdev);
    const char *path = iod_option_string(options, "path");
    bool inherited = iod_option_given(options, "fd");
    if ((path != NULL && path[0] != '\0') == inherited) {
        return iod_fail(error, EINVAL, "network backend socket: expected path= or fd=");
    }
    int fd = inherited ? inherit((int)iod_option_number(options, "fd"), error) : -1;
    if (inherited && fd < 0) {
        return fd;
    }
    int result = net_peer_open(&sock->peer, netdev, inherited ? "inherited" : path, error);
    if (result != 0) {
        if (inherited) {
            close(fd);
        }
        return result;
    }
    struct iod_error away = { 0 };
    if (!inherited) {
        sock->peer.reach = reach;
        fd = reach(&sock->peer, &away);
        if (fd == -ENAMETOOLONG) {
            *error = away;
            return fd;
        }
    }
    net_peer_came(&sock->peer, fd, &away);
    return 0;
}

static void socket_close(struct iod_netdev *netdev)
{
    struct net_socket *sock = iod_netdev_self(netdev);
    net_peer_close(&sock->peer);
}

const struct iod_netdev_class socket_netdev_class = {
    .size = sizeof(struct iod_netdev_class),
    .name = "socket",
    .summary = "unix stream socket of another process (QEMU, a switch)",
    .self_size = sizeof(struct net_socket),
    .options = socket_options,
    .open = socket_open,
    .send = net_peer_send,
    .receive_again = net_peer_receive_again,
    .send_end = net_peer_send_end,
    .quiesce = net_peer_quiesce,
    .close = socket_close,
};
