/* SPDX-License-Identifier: BSD-2-Clause */
/* A file with our pid, locked (fcntl) as long as we live: how xenopsd and others tell that a daemon is there. */
#ifndef MAIN_PIDFILE_H
#define MAIN_PIDFILE_H

#include <ioreqd/error.h>

/* The descriptor that holds the lock, or a negative errno with *error filled (-EAGAIN: another process has it). */
int pidfile_lock(const char *path, struct iod_error *error);
void pidfile_remove(const char *path, int fd); /* fd < 0: nothing to do */

#endif
