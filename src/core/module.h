/* SPDX-License-Identifier: BSD-2-Clause */
/* The classes at hand: those built in (the embedder hands in the list) and those loaded with --module. */
#ifndef CORE_MODULE_H
#define CORE_MODULE_H

#include <stdio.h>

#include <ioreqd/block.h>
#include <ioreqd/chardev.h>
#include <ioreqd/module.h>
#include <ioreqd/netdev.h>

struct modules;

struct modules *modules_create(void); /* NULL: out of memory */
void modules_destroy(struct modules *modules); /* no object of any class may be left */
/* Checks size, abi, names (no class twice) and the tables' required callbacks; `from` names it in errors. */
int modules_add(struct modules *modules, const struct iod_module *module, const char *from,
                struct iod_error *error);
/*
 * The same for what is built in, after all modules were loaded: a class that a loaded one has already is
 * skipped.
 */
int modules_add_builtin(struct modules *modules, const struct iod_module *module, const char *from,
                        struct iod_error *error);
/* FILE.so, in this directory if it has no slash; or NAME: an installed module. */
int modules_load(struct modules *modules, const char *path, struct iod_error *error);

/* NULL with *error filled (it lists what there is). */
const struct iod_device_class *modules_device(const struct modules *modules, const char *name,
                                              struct iod_error *error);
const struct iod_block_class *modules_block(const struct modules *modules, const char *name,
                                            struct iod_error *error);
const struct iod_chardev_class *modules_chardev(const struct modules *modules, const char *name,
                                                struct iod_error *error);
const struct iod_netdev_class *modules_netdev(const struct modules *modules, const char *name,
                                              struct iod_error *error);

/* The file that holds the class's table: a module's, or what the core is linked into. */
const char *modules_origin(const void *class);

/* --help device=?, and --help device=NAME. */
void modules_list(const struct modules *modules, FILE *to);
int modules_help(const struct modules *modules, const char *device, FILE *to, struct iod_error *error);

/* A member of a table that an older module may not have: NULL-safe. */
#define TABLE_GET(table, member) \
    ((table)->size >= offsetof(__typeof__(*(table)), member) + sizeof((table)->member) ? (table)->member : NULL)
#define TABLE_HAS(table, member) (TABLE_GET(table, member) != NULL)

#endif
