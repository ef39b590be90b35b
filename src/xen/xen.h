/* SPDX-License-Identifier: BSD-2-Clause */
/* Xen as the embedder gets it: the tables of core/hypervisor.h and core/store.h over Xen's stable libraries.
 */
#ifndef XEN_XEN_H
#define XEN_XEN_H

#include <ioreqd/error.h>

#include "core/hypervisor.h"
#include "core/loop.h"
#include "core/store.h"

/*
 * Opens all Xen handles that a daemon needs (close-on-exec). NULL with *error filled: what, why, remedy.
 * Grants are optional: without /dev/xen/gntdev only grant_map fails.
 */
struct hypervisor *xen_hypervisor_create(struct iod_error *error);

/*
 * libxenstore in a process of its own. helper_exe: a program that, started as `EXE --xenstore-helper FD`,
 * calls xen_store_helper(FD); NULL: this very executable. The helper starts with `watch` and is restarted
 * when it dies.
 */
struct store *xen_store_create(struct loop *loop, const char *helper_exe, struct iod_error *error);

/* The helper's main: serves the socket `fd` until its other end closes. The process's exit code. */
int xen_store_helper(int fd);

#endif
