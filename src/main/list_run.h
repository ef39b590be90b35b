/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd --list FILE: several emulators for one guest (src/launch/list.h), as a process. */
#ifndef MAIN_LIST_RUN_H
#define MAIN_LIST_RUN_H

#include "main/application.h"

enum exit_code list_run(const struct command_line *line, struct logger *logger);

#endif
