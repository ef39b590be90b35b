/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stands before QEMU's QMP socket: every connection is passed on to a connection of its own, bytes,
 * descriptors and all, but for commands that would do harm while ioreqd serves devices of the guest, which
 * are answered with an error here. One connection never waits for another but in QEMU, which serves one at a
 * time.
 */
#ifndef LAUNCH_QMP_FILTER_H
#define LAUNCH_QMP_FILTER_H

#include <stddef.h>

#include <ioreqd/error.h>

#include "core/loop.h"

#define QMP_CLIENTS_MAX 16u              /* more wait in the listener's queue */
#define QMP_COMMAND_MAX (1024u * 1024u)  /* bytes; a longer one is an error, as is what is no JSON object */

struct qmp_filter;

/*
 * listener: a listening non-blocking unix socket, the filter's from then on; NULL leaves it to the caller.
 * server: the path of QEMU's own socket, copied. Nobody is let in before qmp_filter_open.
 */
struct qmp_filter *qmp_filter_create(struct loop *loop, int listener, const char *server,
                                     struct iod_error *error);
void qmp_filter_open(struct qmp_filter *filter);
void qmp_filter_destroy(struct qmp_filter *filter); /* NULL is fine */

/*
 * Judges one command, as text. 0: QEMU may have it. 1: *reply (a line with CR LF, the caller's to free) is to
 * be said instead. -1: out of memory.
 */
int qmp_filter_judge(const char *text, size_t length, char **reply);
/* The answer to a command that is too long; as above. */
int qmp_filter_too_long(char **reply);

#endif
