/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One emulator of a guest: a program that we start, or a process that runs already; how it gets ready, that
 * it ended and why. All is noticed on the loop.
 */
#ifndef LAUNCH_EMULATOR_H
#define LAUNCH_EMULATOR_H

#include <stdbool.h>

#include <ioreqd/error.h>
#include <ioreqd/log.h>

#include "core/loop.h"
#include "core/store.h"
#include "launch/list_file.h"

struct emulator;

struct emulator_config {
    struct loop *loop;
    struct store *store;            /* whose watch was begun; NULL: no xenstore */
    const struct list_entry *entry; /* outlives it */
    /* A line that it said on stderr. */
    void (*line)(void *self, enum iod_log_level level, const char *name, const char *text);
    /* Once: it is ready (why NULL), or will not be in time; then it still runs. */
    void (*ready)(void *self, struct emulator *emulator, const char *why);
    /* Once: it is gone; also before it was ready. */
    void (*ended)(void *self, struct emulator *emulator);
    void *self;
};

/* NULL with *error filled. */
struct emulator *emulator_start(const struct emulator_config *config, struct iod_error *error);
/* Signals it; one that runs already and is not to be ended is let go: `ended` follows. */
void emulator_end(struct emulator *emulator, int signo);
bool emulator_is_ready(const struct emulator *emulator);
bool emulator_has_ended(const struct emulator *emulator);
/* Status 0, or a running process that ended in whatever way. */
bool emulator_ended_well(const struct emulator *emulator);
const char *emulator_name(const struct emulator *emulator);
/* "ended with status 3: its last line"; the emulator's memory. */
const char *emulator_reason(struct emulator *emulator);
void emulator_destroy(struct emulator *emulator); /* a child that still runs is killed; NULL is fine */

#endif
