/* SPDX-License-Identifier: BSD-2-Clause */
/* What needs no Xen: ioreqd --check and --print-dt. */
#ifndef MAIN_OFFLINE_H
#define MAIN_OFFLINE_H

#include "main/application.h"

/* Findings go to stdout, one a line. EXIT_OK, or EXIT_USAGE when one is fatal. */
enum exit_code offline_check(const struct command_line *line, struct logger *logger);
/* The tree's source goes to stdout. */
enum exit_code offline_print_dt(const struct command_line *line, struct logger *logger);

#endif
