/* SPDX-License-Identifier: BSD-2-Clause */
/* libxl's argument vector for a device model, taken apart: what is ours, what is QEMU's, where QMP is. */
#ifndef LAUNCH_DM_ARGS_H
#define LAUNCH_DM_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/error.h>

#define DM_IOREQDS_MAX 7u /* Xen has 8 ioreq servers a domain, and one is QEMU's */
#define DM_QMPS_MAX 4u

/* One ioreqd process; the pointers in the arrays are pieces of argv. */
struct dm_ioreqd {
    const char **specs;
    unsigned spec_count;
    const char **arguments; /* for ioreqd itself, before its --domain */
    unsigned argument_count;
};

/* One QMP monitor of QEMU's on a listening unix socket. */
struct dm_qmp {
    unsigned argument; /* index in qemu[] of the -chardev's value */
    char *rest;        /* that value without path= and fd= */
    char *path;        /* NULL: the socket is there already, as fd */
    int fd;
};

struct dm_args {
    bool has_domid; /* else it is libxl's probe run, or a user's */
    uint16_t domid;
    bool paravirtual; /* -xen-attach: no HVM guest */
    struct dm_ioreqd ioreqds[DM_IOREQDS_MAX];
    unsigned ioreqd_count;
    const char *ioreqd_program, *qemu_program; /* NULL: the default */
    uint64_t limit_ns; /* for each ioreqd to be ready */
    char **qemu;       /* argv without what is ours, NULL at the end; [0] is the program, to be set */
    unsigned qemu_count;
    struct dm_qmp qmps[DM_QMPS_MAX];
    unsigned qmp_count;
};

/* Freed by dm_args_finish, also after an error. argv must outlive it. 0 or a negative errno with *error
 * filled. */
int dm_args_parse(struct dm_args *args, int argc, char **argv, struct iod_error *error);
void dm_args_finish(struct dm_args *args);

/*
 * ioreqd's argv for args->ioreqds[index], with LIST_READY_FD for the number of its descriptor; freed by
 * dm_args_free_command. NULL: out of memory.
 */
char **dm_args_ioreqd(const struct dm_args *args, unsigned index, const char *program);
void dm_args_free_command(char **command);
/* Puts the socket fd in the place of qmp's path or descriptor in args->qemu. 0 or -ENOMEM. */
int dm_args_set_qmp(struct dm_args *args, const struct dm_qmp *qmp, int fd);

/* The QEMU to run: what was asked for, else the first of a list that exists. NULL with *error filled. */
const char *dm_args_find_qemu(const struct dm_args *args, struct iod_error *error);

/*
 * Text of the form FIRST,KEY=VALUE,FLAG,...: the value of KEY, with doubled commas made single, in a new
 * string.
 * "" for a flag without value; NULL: no such key, or out of memory.
 */
char *dm_option_value(const char *text, const char *key);

#endif
