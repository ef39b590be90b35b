/* SPDX-License-Identifier: BSD-2-Clause */
/* The process around the library: signals, readiness, exit code. */
#ifndef MAIN_APPLICATION_H
#define MAIN_APPLICATION_H

#include "main/command_line.h"
#include "main/logger.h"

/* What the process says at its end; ioreqd(8) has the table. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_USAGE = 1,   /* command line, module or device options */
    EXIT_HOST = 2,    /* Xen, xenstore's helper, memory, descriptors */
    EXIT_GUEST = 3,   /* at least one guest failed */
    EXIT_AT_ONCE = 4, /* a second signal: guests were left as they were */
};

/* Serves the guests of the line until there is none left, or a signal ends it. */
enum exit_code application_run(const struct command_line *line, struct logger *logger);
/* --help device=?, --help device=NAME: to stdout. */
enum exit_code application_help(const struct command_line *line, struct logger *logger);

#endif
