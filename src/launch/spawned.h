/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program that runs for us: started on the loop, its last words kept, its end noticed by a pidfd. The loop
 * never waits for it. A child that outlives its starter is signalled by the kernel (death_signal).
 */
#ifndef LAUNCH_SPAWNED_H
#define LAUNCH_SPAWNED_H

#include <stdbool.h>
#include <sys/types.h>

#include <ioreqd/error.h>
#include <ioreqd/log.h>

#include "core/loop.h"

struct spawned;

struct spawned_spec {
    const char *name;        /* for messages; copied */
    const char *program;     /* a path, or a name that PATH is searched for */
    char *const *arguments;  /* its argv, NULL at the end */
    const int *keep;         /* descriptors it gets under their numbers, whatever their close-on-exec says */
    unsigned keep_count;
    bool close_rest;         /* of the others it gets only 0, 1 and 2; else all that are not close-on-exec */
    bool unlimited; /* RLIMIT_FSIZE and RLIMIT_MEMLOCK, which libxl sets for QEMU's sake, are lifted */
    bool default_pipe;       /* SIGPIPE, which we ignore, is not ignored by it */
    int death_signal;        /* what it gets when this process dies; 0: nothing */
    /*
     * One line of its stderr, without newline, made printable. It is told ($JOURNAL_STREAM) that its lines
     * may begin with <PRIORITY>, as the journal reads them; else they count as info. NULL: its stderr is
     * ours.
     */
    void (*line)(void *self, enum iod_log_level level, const char *text);
    /* It has ended, and all it said was told; spawned_free is allowed from here on. */
    void (*ended)(void *self);
    void *self;
};

/* NULL with *error filled. A program that can't be executed ends at once, with status 127 and a line. */
struct spawned *spawned_start(struct loop *loop, const struct spawned_spec *spec, struct iod_error *error);
pid_t spawned_pid(const struct spawned *child);
void spawned_signal(struct spawned *child, int signo); /* one that has ended, or NULL, is fine */
bool spawned_ended(const struct spawned *child);
int spawned_status(const struct spawned *child); /* as of waitpid; once it has ended */
/* "ended with status 3: the last error it told, else its last line", "was killed by signal 9 (Killed)"; the
 * child's memory. */
const char *spawned_reason(struct spawned *child);
/* One that still runs is killed and left to the kernel. NULL is fine. */
void spawned_free(struct spawned *child);

#endif
