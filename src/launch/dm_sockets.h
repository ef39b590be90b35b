/* SPDX-License-Identifier: BSD-2-Clause */
/* QMP's sockets: the one that libxl connects to, ours now, and one that only this process can reach, QEMU's
 * now. */
#ifndef LAUNCH_DM_SOCKETS_H
#define LAUNCH_DM_SOCKETS_H

#include <ioreqd/error.h>

#include "core/loop.h"
#include "launch/dm_args.h"
#include "launch/qmp_filter.h"

struct dm_socket {
    struct qmp_filter *filter;
    const char *public_path; /* to be removed at the end; NULL: it is libxl's */
    int server;              /* QEMU's listening socket, for it to inherit; -1: none */
    int handle;              /* O_PATH of that socket's file, which has no name any more */
    char path[32];           /* by which it is reached all the same */
};

/* All zero but server and handle, which are -1. */
void dm_socket_init(struct dm_socket *socket);
/* Makes both for one monitor and puts QEMU's into its arguments. The filter lets nobody in yet. */
int dm_socket_open(struct dm_socket *socket, struct loop *loop, struct dm_args *args,
                   const struct dm_qmp *qmp, struct iod_error *error);
void dm_socket_close(struct dm_socket *socket);

#endif
