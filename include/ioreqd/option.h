/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Options: a device or backend declares a table; the core parses `name,key=value,...` against it, makes the
 * error texts and the output of `--help device=NAME` from it, and keeps the values. The keys id, bus, slot,
 * addr, base, irq and type belong to the core and never reach a device.
 */
#ifndef IOREQD_OPTION_H
#define IOREQD_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum iod_option_type {
    IOD_OPTION_STRING,
    IOD_OPTION_BOOL,   /* on, off, yes, no, true, false, 1, 0 */
    IOD_OPTION_NUMBER, /* decimal, 0x... or 0... ; min to max */
    IOD_OPTION_SIZE,   /* a number of bytes with an optional K, M, G or T (powers of 1024); min to max */
    IOD_OPTION_CHOICE, /* one of choices */
};

/* One option. A table ends with an entry whose name is NULL. */
struct iod_option {
    const char *name;
    enum iod_option_type type;
    const char *fallback;         /* the default as text; NULL: none (string NULL, number 0, choice 0) */
    const char *help;             /* one line, no full stop */
    uint64_t min, max;            /* numbers and sizes; max 0: no upper bound */
    const char *const *choices;   /* IOD_OPTION_CHOICE: ends with NULL */
    bool required;
};

/*
 * The values that one device or backend was given; owned by the core, lives as long as its device or backend.
 */
struct iod_options;

/*
 * The getters take a name from the table of the options' owner; a name that is not in it, or is of another
 * type, yields NULL, 0 or false. The text stays the core's.
 */
const char *iod_option_string(const struct iod_options *options, const char *name);
/* numbers and sizes (bytes) */
uint64_t iod_option_number(const struct iod_options *options, const char *name);
bool iod_option_bool(const struct iod_options *options, const char *name);
unsigned iod_option_choice(const struct iod_options *options, const char *name); /* index into choices */
/* named by the user, not the default */
bool iod_option_given(const struct iod_options *options, const char *name);

#endif
