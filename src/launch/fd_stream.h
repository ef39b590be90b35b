/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes over a unix stream socket, and the descriptors that travel with them (SCM_RIGHTS). Never blocks. */
#ifndef LAUNCH_FD_STREAM_H
#define LAUNCH_FD_STREAM_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#define FD_PASS_MAX 16u /* QEMU takes as many with one message */

/* Descriptors on their way: ours until they are sent on or closed. */
struct fd_pass {
    int fds[FD_PASS_MAX];
    unsigned count;
};

void fd_pass_close(struct fd_pass *pass);
/*
 * As read(2). Descriptors that come with the bytes take the place of those that are in pass (they are
 * close-on-exec); more than FD_PASS_MAX of one message are closed.
 */
ssize_t fd_stream_read(int fd, void *bytes, size_t size, struct fd_pass *pass);
/* As writev(2), without SIGPIPE. With the first byte go the descriptors in pass, which are closed then. */
ssize_t fd_stream_write(int fd, struct iovec *parts, unsigned count, struct fd_pass *pass);

/* A non-blocking socket connected to path, or a negative errno; -EAGAIN: its queue is full, try later. */
int fd_stream_connect(const char *path);
/*
 * A listening non-blocking socket of mode 0600 at path; what stood there as a socket is replaced. A negative
 * errno; -ENAMETOOLONG: a path of 107 characters at most is possible.
 */
int fd_stream_listen(const char *path, int backlog);

#endif
