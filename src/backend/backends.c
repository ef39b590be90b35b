/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/backends.h"

static const struct iod_block_class *const blocks[] = {
    &file_block_class, &delay_block_class, &error_block_class, NULL,
};

static const struct iod_chardev_class *const chardevs[] = {
    &pty_chardev_class,   &socket_chardev_class, &file_chardev_class,
    &stdio_chardev_class, &null_chardev_class,   NULL,
};

static const struct iod_netdev_class *const netdevs[] = {
    &tap_netdev_class, &socket_netdev_class, &passt_netdev_class, &null_netdev_class, NULL,
};

const struct iod_module iod_module_backends = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .blocks = blocks,
    .chardevs = chardevs,
    .netdevs = netdevs,
};
