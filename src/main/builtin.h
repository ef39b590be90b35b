/* SPDX-License-Identifier: BSD-2-Clause */
/* The modules that are part of this build: the backends and devices/. Meson writes their list from
 * builtin.c.in. */
#ifndef MAIN_BUILTIN_H
#define MAIN_BUILTIN_H

#include <ioreqd/error.h>

#include "core/module.h"

/* Adds all of them, but for classes that a module loaded before has too. 0, or a negative errno with *error
 * filled. */
int builtin_modules_add(struct modules *modules, struct iod_error *error);

#endif
