/* SPDX-License-Identifier: BSD-2-Clause */
/* Where guests come from when no command line names them: the configuration file and the host's device tree. */
#ifndef MAIN_SOURCES_H
#define MAIN_SOURCES_H

#include "config/config.h"
#include "core/daemon.h"
#include "main/command_line.h"
#include "main/logger.h"

/*
 * What the files say; *config is the caller's (config_finish), empty without files. All findings go to the log; 0 or a
 * negative errno with *error filled (the first of them).
 */
int sources_load(const struct command_line *line, struct logger *logger, struct config *config,
                 struct iod_error *error);
/* Loads anew, checks all of it, then applies the difference. After an error nothing has changed. */
int sources_reload(const struct command_line *line, struct logger *logger, struct daemon *daemon,
                   struct iod_error *error);
/* Hands the guests to the daemon, as the source "file". */
int sources_apply(struct daemon *daemon, const struct config *config, struct iod_error *error);

#endif
