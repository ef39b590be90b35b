/* SPDX-License-Identifier: BSD-2-Clause */
/* One connection through the filter: a client's socket, QEMU's socket, and what is on its way between. */
#ifndef LAUNCH_QMP_CLIENT_H
#define LAUNCH_QMP_CLIENT_H

#include "core/loop.h"

struct qmp_client;

/*
 * fd: the client's socket, non-blocking; taken, also on failure. server: QEMU's path, which must outlive it.
 * closed(self) is called once, later, when either side has gone and all was passed on; then it is to be
 * freed. NULL: out of memory.
 */
struct qmp_client *qmp_client_create(struct loop *loop, int fd, const char *server,
                                     void (*closed)(void *self, struct qmp_client *client), void *self);
void qmp_client_destroy(struct qmp_client *client); /* NULL is fine */

#endif
