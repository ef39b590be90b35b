/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/fd_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union control {
    struct cmsghdr header; /* for its alignment */
    char space[CMSG_SPACE(FD_PASS_MAX * sizeof(int))];
};

void fd_pass_close(struct fd_pass *pass)
{
    while (pass->count > 0) {
        close(pass->fds[--pass->count]);
    }
}

static void take_fds(struct msghdr *message, struct fd_pass *pass)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS || part->cmsg_len < CMSG_LEN(0)) {
            continue;
        }
        size_t size = part->cmsg_len - CMSG_LEN(0);
        if (size > sizeof(pass->fds)) { /* the kernel gives no more than there was space for */
            size = sizeof(pass->fds);
        }
        fd_pass_close(pass);
        memcpy(pass->fds, CMSG_DATA(part), size);
        pass->count = (unsigned)(size / sizeof(int));
    }
}

ssize_t fd_stream_read(int fd, void *bytes, size_t size, struct fd_pass *pass)
{
    union control control;
    struct iovec part = {bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (count >= 0) {
        take_fds(&message, pass);
    }
    return count;
}

ssize_t fd_stream_write(int fd, struct iovec *parts, unsigned count, struct fd_pass *pass)
{
    union control control = {0};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};

    if (pass->count > 0) {
        size_t size = pass->count * sizeof(int);
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(header), pass->fds, size);
    }
    ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
        fd_pass_close(pass);
    }
    return sent;
}

static int address_of(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address->sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address->sun_path, path, strlen(path));
    return 0;
}

int fd_stream_connect(const char *path)
{
    struct sockaddr_un address;
    int error = address_of(path, &address);
    int fd = error ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return error ? error : -errno;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* Only a socket is taken away: the path may be somebody's typing error. */
static void remove_socket(const char *path)
{
    struct stat status;

    if (!lstat(path, &status) && S_ISSOCK(status.st_mode)) {
        unlink(path);
    }
}

int fd_stream_listen(const char *path, int backlog)
{
    struct sockaddr_un address;
    int error = address_of(path, &address);
    int fd = error ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return error ? error : -errno;
    }
    remove_socket(path);
    mode_t mask = umask(0177);
    error = bind(fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
    umask(mask);
    if (!error && listen(fd, backlog)) {
        error = -errno;
    }
    if (error) {
        close(fd);
        return error;
    }
    return fd;
}
