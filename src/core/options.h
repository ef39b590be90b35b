/* SPDX-License-Identifier: BSD-2-Clause */
/* Options: from the text of a device_spec to the values of a schema (ioreqd/option.h). */
#ifndef CORE_OPTIONS_H
#define CORE_OPTIONS_H

#include <stdio.h>

#include <ioreqd/error.h>
#include <ioreqd/option.h>

#include "core/spec.h"

/*
 * Makes the values for `schema` (may be NULL) out of the pairs whose key is prefix + name ("" or "block.");
 * marks the pairs it used. Defaults are filled in; required, bounds and choices checked. `what` names the
 * owner in errors
 * ("virtio-blk", "block backend file"). With `bare`, a key without the prefix is taken too when it is not
 * used yet (virtio-blk,path=X for block.path=X). Returns NULL with *error filled; the result is freed by
 * options_destroy.
 */
struct iod_options *options_parse(const struct iod_option *schema, const char *what, struct device_spec *spec,
                                  const char *prefix, bool bare, struct iod_error *error);
void options_destroy(struct iod_options *options);

/* After all schemas took theirs: an unused pair is an error that names the key and the nearest known one. */
int options_check_unused(const struct device_spec *spec, const char *what,
                         const struct iod_option *const *schemas, unsigned count, struct iod_error *error);

/* Which of the names (ends with NULL) is most likely meant; NULL: there are none. */
const char *options_nearest(const char *name, const char *const *names);

/* Is the table sound: names, choices, defaults, no name of the core's? A module's is checked once. */
int options_check_schema(const struct iod_option *schema, const char *what, struct iod_error *error);

/*
 * One line an option: name=type, default, bounds, help. For --help device=NAME. `prefix` stands before each
 * name.
 */
void options_help(FILE *to, const struct iod_option *schema, const char *prefix);

/* Parses one number as IOD_OPTION_NUMBER, or size as IOD_OPTION_SIZE (suffixes). 0 or -EINVAL / -ERANGE. */
int option_parse_number(const char *text, uint64_t *value);
int option_parse_size(const char *text, uint64_t *value);
int option_parse_bool(const char *text, bool *value);

#endif
