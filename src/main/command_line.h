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
    COMMAND_SERVICE,      /* --service: the hardware domain's daemon */
    COMMAND_CHECK,        /* --check [FILE] */
    COMMAND_PREFLIGHT,    /* --preflight [DOMID] */
    COMMAND_PRINT_DT,     /* --print-dt GUEST */
    COMMAND_LIST,         /* --list FILE */
    COMMAND_HELP,         /* --help */
    COMMAND_HELP_DEVICES, /* --help device=? */
    COMMAND_HELP_DEVICE,  /* --help device=NAME */
    COMMAND_VERSION,
};

#define SLOT_DEVICE "pcie-root-port" /* the device that slots=N makes N of */

struct command_line {
    enum command command;
    const char *help_device; /* COMMAND_HELP_DEVICE; a piece of argv */
    const char *subject;     /* of --check, --preflight, --print-dt, --list; a piece of argv, or NULL */
    const char *config;      /* --config; a piece of argv, or NULL: none */
    const char *config_later; /* of a service, not there at its start: a reload looks again; NULL: none */
    const char *host_dtb;    /* --host-dtb; "running": the machine's own; NULL: none */
    const char *dtb;         /* --dtb, for --check */
    const char *control;     /* --control: path of the socket; NULL: none */
    const char *control_group; /* --control-group; NULL: root alone */
    const char *pidfile;     /* --pidfile; NULL: none */
    struct guest_spec *guests;
    unsigned guest_count;
    enum guest_arch arch; /* of guests that no --domain names: this host's, or --arch before the first */
    const char **modules; /* pieces of argv */
    unsigned module_count;
    const char *record_dir; /* NULL: no records */
    enum iod_log_level log_level;
    int ready_fd; /* -1: none */
    bool record_dir_given, log_given, control_given; /* else the configuration may say */
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

/* ---- command_guest.c: the options that belong to one guest ---- */
enum guest_flag {
    FLAG_TYPE = 512, /* past the other flags */
    FLAG_WAIT,
    FLAG_BESIDE,
    FLAG_ON_EXIT,
    FLAG_MAP_LIMIT,
    FLAG_BUFIOREQ,
    FLAG_SLOTS,
    FLAG_STUCK,
    FLAG_STUCK_LIMIT,
    FLAG_UNLIMITED,
    FLAG_DEVICE,
};
/* The value of option --NAME; text is NULL for one without a value. */
int command_guest_set(struct guest_spec *guest, enum guest_flag flag, const char *name, const char *text,
                      struct iod_error *error);
bool command_is_domid(const char *domain);
/* Do the options of this guest fit each other? */
int command_guest_check(const struct guest_spec *guest, bool no_xenstore, struct iod_error *error);
/* The index of text in choices (ends with NULL), or -EINVAL. */
int command_choice(const char *option, const char *text, const char *const *choices, struct iod_error *error);

#endif
