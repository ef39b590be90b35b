/* SPDX-License-Identifier: BSD-2-Clause */
/* The chardev "null": swallows what is written and never sends. */
#include "backend/backends.h"

static int null_open(struct iod_chardev *chardev, struct iod_error *error)
{
    iod_chardev_connected(chardev, 1);
    return 0;
}

static size_t null_write(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    return count;
}

const struct iod_chardev_class null_chardev_class = {
    .size = sizeof(struct iod_chardev_class),
    .name = "null",
    .summary = "swallows everything, sends nothing",
    .open = null_open,
    .write = null_write,
};
