/* SPDX-License-Identifier: BSD-2-Clause */
/* The classes of this folder; iod_module_backends lists them. The embedder adds it to its modules first. */
#ifndef BACKEND_BACKENDS_H
#define BACKEND_BACKENDS_H

#include <ioreqd/block.h>
#include <ioreqd/chardev.h>
#include <ioreqd/module.h>
#include <ioreqd/netdev.h>

extern const struct iod_module iod_module_backends;

extern const struct iod_block_class file_block_class, delay_block_class, error_block_class;
extern const struct iod_chardev_class pty_chardev_class, socket_chardev_class, file_chardev_class,
    stdio_chardev_class, null_chardev_class;
extern const struct iod_netdev_class tap_netdev_class, socket_netdev_class, passt_netdev_class,
    null_netdev_class;

#endif
