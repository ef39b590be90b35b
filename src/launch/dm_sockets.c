/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/dm_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launch/fd_stream.h"

#define BACKLOG 16

void dm_socket_init(struct dm_socket *socket)
{
    *socket = (struct dm_socket){.server = -1, .handle = -1};
}

/*
 * A unix socket needs a name only to be found: it is bound in a folder of mode 0700, opened, and its name
 * removed before anybody could use it. What is left is reached through /proc/self/fd, by this process, and
 * nothing is left behind however we end.
 */
static int make_nameless(struct dm_socket *socket)
{
    char folder[] = "/run/ioreqd-dm.XXXXXX", elsewhere[] = "/tmp/ioreqd-dm.XXXXXX", path[48];
    const char *made = mkdtemp(folder);

    made = made ? made : mkdtemp(elsewhere);
    if (!made) {
        return -errno;
    }
    snprintf(path, sizeof(path), "%s/qmp", made);
    socket->server = fd_stream_listen(path, BACKLOG);
    int error = socket->server < 0 ? socket->server : 0;
    if (!error) {
        socket->handle = open(path, O_PATH | O_CLOEXEC);
        error = socket->handle < 0 ? -errno : 0;
        unlink(path);
    }
    rmdir(made);
    snprintf(socket->path, sizeof(socket->path), "/proc/self/fd/%d", socket->handle);
    return error;
}

/* libxl's own socket came as a descriptor: QEMU is not to have it. */
static int take_listener(int fd, struct iod_error *error)
{
    int listens = 0;
    socklen_t size = sizeof(listens);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens) {
        return iod_fail(error, EINVAL, "-chardev fd=%d: expected a listening socket", fd);
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static int make_public(struct dm_socket *socket, const struct dm_qmp *qmp, struct iod_error *error)
{
    if (!qmp->path) {
        return take_listener(qmp->fd, error);
    }
    int fd = fd_stream_listen(qmp->path, BACKLOG);
    if (fd < 0) {
        return iod_fail(error, -fd, "QMP socket %.150s: %s", qmp->path, strerror(-fd));
    }
    socket->public_path = qmp->path;
    return fd;
}

int dm_socket_open(struct dm_socket *socket, struct loop *loop, struct dm_args *args,
                   const struct dm_qmp *qmp, struct iod_error *error)
{
    int failed = make_nameless(socket);
    int listener = failed ? failed : make_public(socket, qmp, error);

    if (failed) {
        iod_fail(error, -failed, "a socket for QEMU's QMP: %s", strerror(-failed));
    }
    if (listener < 0) {
        return listener;
    }
    socket->filter = qmp_filter_create(loop, listener, socket->path, error);
    if (!socket->filter) {
        close(listener);
        return -ENOMEM;
    }
    if (dm_args_set_qmp(args, qmp, socket->server)) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    return 0;
}

void dm_socket_close(struct dm_socket *socket)
{
    qmp_filter_destroy(socket->filter);
    if (socket->public_path) {
        unlink(socket->public_path);
    }
    if (socket->server >= 0) {
        close(socket->server);
    }
    if (socket->handle >= 0) {
        close(socket->handle);
    }
    dm_socket_init(socket);
}
