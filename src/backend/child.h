/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs that backends run: a script, passt. A child is a process group of its own with /dev/null as its
 * standard input, none of our descriptors but the one it is given, and no signal blocked or ignored. It is
 * reaped by the loop, never waited for.
 */
#ifndef BACKEND_CHILD_H
#define BACKEND_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/error.h>

struct child;
struct daemon;

enum { CHILD_FD = 3 }; /* the descriptor that a child is given */

struct child_plan {
    const char *const *arguments;   /* [0]: the program, sought in PATH if it has no slash; ends with NULL */
    const char *const *environment; /* KEY=VALUE, beside our own; ends with NULL; NULL: none */
    int fd;                         /* becomes CHILD_FD; stays the caller's; -1: none */
    uint64_t limit_ns;              /* then it is killed, its children too; 0: none */
};

struct child_end {
    bool good;        /* it exited with status 0 */
    bool timed_out;   /* it was killed at its limit */
    const char *how;  /* "exited with status 3", "was killed by signal 9 (Killed)", ...; holds in the call */
    /* The first and the last line that it wrote to standard output or error; "" if none; likewise. */
    const char *first, *last;
};

/*
 * `ended` is called once, on the loop, never inside this call; the child is freed after it. NULL with *error
 * filled: it could not be started.
 */
struct child *child_start(struct daemon *daemon, const struct child_plan *plan,
                          void (*ended)(void *self, const struct child_end *end), void *self,
                          struct iod_error *error);
void child_kill(struct child *child); /* and its children; `ended` follows */
/* Nobody is told any more; its limit holds, and it is reaped. kill: now. NULL is fine. */
void child_let_go(struct child *child, bool kill);

#endif
