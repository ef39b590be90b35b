/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device module: one constant table, found by its symbol. Built in (Meson writes the list) or loaded with
 * --module FILE.so; for NAME.so or libNAME.so the symbol is iod_module_NAME with '-' as '_'.
 */
#ifndef IOREQD_MODULE_H
#define IOREQD_MODULE_H

#include <stddef.h>

#include <ioreqd/device.h>

#define IOD_ABI 1 /* changes only when an old module could not work any more */

struct iod_block_class;
struct iod_chardev_class;
struct iod_netdev_class;

struct iod_module {
    size_t size;                                      /* sizeof(struct iod_module) */
    unsigned abi;                                     /* IOD_ABI */
    const struct iod_device_class *const *devices;    /* each list ends with NULL; NULL: none */
    const struct iod_block_class *const *blocks;
    const struct iod_chardev_class *const *chardevs;
    const struct iod_netdev_class *const *netdevs;    /* a module's table may end before it */
};

#define IOD_MODULE(name) \
    extern const struct iod_module iod_module_##name; \
    __attribute__((visibility("default"))) const struct iod_module iod_module_##name

#endif
