/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line, taken apart: what src/main/ioreqd.8 describes. No globals but getopt's own. */
#ifndef MAIN_COMMAND_LINE_H
#define MAIN_COMMAND_LINE_H

#include <stdbool.h>
#include <stdio.h>

#include <ioreqd/error.h>
#include <ioreqd/log.h>

#include "core/spec.h"

enum command {
    COMMAND_RUN,
    COMMAND_HELP,         /* --help */
    COMMAND_HELP_DEVICES, /* --help device=? */
    COMMAND_HELP_DEVICE,  /* --help device=NAME */
    COMMAND_VERSION,
};

struct command_line {
    enum command command;
    const char *help_device; /* COMMAND_HELP_DEVICE; a piece of argv */
    struct guest_spec *guests;
    unsigned guest_count;
    const char **modules; /* pieces of argv */
    unsigned module_count;
    const char *record_dir; /* NULL: no records */
    enum iod_log_level log_level;
    int ready_fd; /* -1: none */
    bool no_xenstore;
    bool exit_when_gone;
};

/* The caller frees it with command_line_finish, also after an error. 0 or a negative errno with *error
 * filled. */
int command_line_parse(struct command_line *line, int argc, char **argv, struct iod_error *error);
void command_line_finish(struct command_line *line);

/* Must xenstore be asked: is a guest named, waited for, or of unknown type? */
bool command_line_needs_store(const struct command_line *line);

void command_line_usage(FILE *to);

#endif
