/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The device model of a guest as several processes: one or more ioreqds first, one after the other, while the
 * guest is still paused; then QEMU. They end together, whoever is the first.
 */
#ifndef LAUNCH_DM_H
#define LAUNCH_DM_H

#include <ioreqd/error.h>
#include <ioreqd/log.h>

#include "core/loop.h"
#include "launch/dm_args.h"

struct dm;

struct dm_config {
    struct loop *loop;
    struct dm_args *args;       /* outlives it; QEMU's arguments are changed */
    const char *ioreqd_program;
    const char *qemu_program;   /* as is args->qemu[0] */
    void (*log)(void *self, enum iod_log_level level, const char *text);
    /* A line of a child's stderr; name: "ioreqd", "ioreqd 2". */
    void (*line)(void *self, const char *name, const char *text);
    /* No child is left (or none that could be ended): the status to exit with. Once. */
    void (*ended)(void *self, int status);
    void *self;
};

/* Starts the first ioreqd. NULL with *error filled. */
struct dm *dm_start(const struct dm_config *config, struct iod_error *error);
/* A signal came: QEMU gets the same, the ioreqds SIGTERM; then `ended`. */
void dm_end(struct dm *dm, int signo);
void dm_destroy(struct dm *dm); /* after `ended`; NULL is fine */

#endif
