/* SPDX-License-Identifier: BSD-2-Clause */
/* What the network layer gives to the backends of this folder and to the rooms above. */
#ifndef BACKEND_NETDEV_H
#define BACKEND_NETDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <ioreqd/netdev.h>

struct daemon;
struct device_backend;
struct loop;

struct daemon *netdev_daemon(const struct iod_netdev *netdev);
struct loop *netdev_loop(const struct iod_netdev *netdev);
/* What people call it: the interface, the socket's path. Copied. */
void netdev_set_name(struct iod_netdev *netdev, const char *name);
const char *netdev_name(const struct iod_netdev *netdev); /* "" while there is none */

/*
 * Tracing. `frame` sees every frame that the backend took (sent) or the device took, with its header first,
 * in pieces that hold until it returns; it must not call the netdev. NULL: off. Off costs one branch a frame.
 */
void netdev_capture(struct iod_netdev *netdev,
                    void (*frame)(void *self, bool sent, const struct iovec *iov, unsigned count,
                                  size_t length),
                    void *self);
/* The netdev behind one of a device's backends; NULL: it is of another kind. */
struct iod_netdev *netdev_of_backend(struct device_backend *backend);

#endif
