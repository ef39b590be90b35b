/* SPDX-License-Identifier: BSD-2-Clause */
/* The chardev "socket": a unix socket that listens; one client at a time, the next one waits until it has
 * gone. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <ioreqd/log.h>
#include <ioreqd/loop.h>

#include "backend/backends.h"
#include "backend/chardev.h"

struct char_socket {
    struct iod_chardev *chardev;
    int listener, client;
    bool bound; /* the name in the file system is ours */
    struct loop_watch *listen_watch;
    struct stream stream;
};

static const struct iod_option socket_options[] = {
    { .name = "path", .type = IOD_OPTION_STRING, .required = true, .help = "unix socket to listen on" },
    { .name = NULL },
};

static void client_ended(void *self)
{
    struct char_socket *sock = self;
    close(sock->client);
    sock->client = -1;
    chardev_loop(sock->chardev)->ops->watch_set(sock->listen_watch, IOD_READABLE);
    iod_chardev_connected(sock->chardev, 0);
}

static void client_came(void *self, unsigned events)
{
    struct char_socket *sock = self;
    int fd = accept4(sock->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return; /* gone again already; or no descriptor is left, which only others can change */
    }
    if (stream_open(&sock->stream, sock->chardev, fd, fd) != 0) {
        close(fd);
        return;
    }
    sock->client = fd;
    chardev_loop(sock->chardev)->ops->watch_set(sock->listen_watch, 0);
    iod_chardev_connected(sock->chardev, 1);
}

/* A name whose owner died is left behind in the file system: nobody answers there, so it may be taken over. A plain
 * file refuses a connection just like that, but is somebody's. */
static bool is_stale(const struct sockaddr_un *address)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    bool stale =
        connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int listen_at(struct char_socket *sock, const char *path, struct iod_error *error)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path)) {
        return iod_fail(error, ENAMETOOLONG, "%s: a socket's path has at most %zu characters", path,
                        sizeof(address.sun_path) - 1);
    }
    strcpy(address.sun_path, path);
    sock->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock->listener < 0) {
        return iod_fail(error, errno, "%s: no socket: %s", path, strerror(errno));
    }
    int result = bind(sock->listener, (const struct sockaddr *)&address, sizeof(address));
    if (result != 0 && errno == EADDRINUSE && is_stale(&address)) {
        unlink(path);
        result = bind(sock->listener, (const struct sockaddr *)&address, sizeof(address));
    }
    if (result != 0) {
        return iod_fail(error, errno, "%s: can't be bound: %s%s", path, strerror(errno),
                        errno == EADDRINUSE ? " (another process listens there, or it is not a socket)" : "");
    }
    sock->bound = true;
    if (listen(sock->listener, 1) != 0) {
        return iod_fail(error, errno, "%s: can't listen: %s", path, strerror(errno));
    }
    return 0;
}

static int socket_open(struct iod_chardev *chardev, struct iod_error *error)
{
    struct char_socket *sock = iod_chardev_self(chardev);
    const char *path = iod_option_string(iod_chardev_options(chardev), "path");
    struct loop *loop = chardev_loop(chardev);
    sock->chardev = chardev;
    sock->listener = sock->client = -1;
    sock->stream.socket = true;
    sock->stream.ended = client_ended;
    sock->stream.self = sock;
    int result = listen_at(sock, path, error);
    if (result != 0) {
        return result;
    }
    sock->listen_watch = loop->ops->watch_add(loop, sock->listener, IOD_READABLE, client_came, sock);
    if (sock->listen_watch == NULL) {
        return iod_fail(error, ENOMEM, "%s: out of memory", path);
    }
    iod_log(iod_chardev_device(chardev), IOD_LOG_INFO, "console at unix socket %s", path);
    return 0;
}

static size_t socket_write(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    struct char_socket *sock = iod_chardev_self(chardev);
    return sock->client >= 0 ? stream_write(&sock->stream, bytes, count) : 0;
}

static void socket_accept(struct iod_chardev *chardev)
{
    struct char_socket *sock = iod_chardev_self(chardev);
    stream_accept(&sock->stream);
}

static void socket_close(struct iod_chardev *chardev)
{
    struct char_socket *sock = iod_chardev_self(chardev);
    stream_close(&sock->stream);
    chardev_loop(chardev)->ops->watch_remove(sock->listen_watch);
    if (sock->client >= 0) {
        close(sock->client);
    }
    if (sock->bound) {
        unlink(iod_option_string(iod_chardev_options(chardev), "path"));
    }
    if (sock->listener >= 0) {
        close(sock->listener);
    }
}

const struct iod_chardev_class socket_chardev_class = {
    .size = sizeof(struct iod_chardev_class),
    .name = "socket",
    .summary = "listening unix socket, one client at a time",
    .self_size = sizeof(struct char_socket),
    .options = socket_options,
    .open = socket_open,
    .write = socket_write,
    .accept = socket_accept,
    .close = socket_close,
};
