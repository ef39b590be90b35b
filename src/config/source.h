/* SPDX-License-Identifier: BSD-2-Clause */
/* Files of the configuration, read whole and within bounds. */
#ifndef CONFIG_SOURCE_H
#define CONFIG_SOURCE_H

#include <stddef.h>

#include "config/config.h"

/*
 * The bytes of a regular file of at most `limit`, with a 0 behind them; to be freed. NULL with a fatal
 * finding at the path; *error is then the negative errno. A file that everyone can write is a warning.
 */
char *source_read(const char *path, size_t limit, size_t *size, int *error, struct findings *findings);
/* `name` as seen from the folder that `path` lies in; to be freed. NULL: out of memory. */
char *source_beside(const char *path, const char *name);

#endif
