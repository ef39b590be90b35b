/* SPDX-License-Identifier: BSD-2-Clause */
/* What the network layer gives to the backends of this folder and to the rooms above. */
#ifndef BACKEND_NETDEV_H
#define BACKEND_NETDEV_H

#include <ioreqd/netdev.h>

struct daemon;
struct loop;

struct daemon *netdev_daemon(const struct iod_netdev *netdev);
struct loop *netdev_loop(const struct iod_netdev *netdev);
/* What people call it: the interface, the socket's path. Copied. */
void netdev_set_name(struct iod_netdev *netdev, const char *name);

#endif
