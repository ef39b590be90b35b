/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ioreqd --list: the emulators of one guest, started one after the other, each when the one before is ready.
 * They end together: with the guest, by a signal, or when the first of them ends.
 */
#ifndef LAUNCH_LIST_H
#define LAUNCH_LIST_H

#include <ioreqd/error.h>
#include <ioreqd/log.h>

#include "core/hypervisor.h"
#include "core/loop.h"
#include "core/store.h"
#include "launch/list_file.h"

struct list_run;

enum list_result {
    LIST_ENDED,  /* the guest is gone, a signal came, or an emulator ended with status 0 */
    LIST_FAILED, /* an emulator did not get ready, or ended in another way while the guest was there */
};

struct list_config {
    struct loop *loop;
    struct hypervisor *hypervisor; /* says that the guest is gone */
    struct store *store;           /* says it sooner, and what is in xenstore; not yet watched; NULL: none */
    const struct list_file *file;  /* outlives it */
    /* As struct daemon_config.log; prefix: the emulator's name, or NULL. */
    void (*log)(void *self, enum iod_log_level level, const char *prefix, const char *text);
    void *log_self;
    void (*ready)(void *self); /* all are; once */
    void (*ended)(void *self, enum list_result result); /* none is left; once, then it may be destroyed */
    void *self;
};

/* NULL with *error filled: no such domain, or what the first one needs is not there. */
struct list_run *list_start(const struct list_config *config, struct iod_error *error);
void list_end(struct list_run *run); /* a signal came; again: whoever is left is killed */
void list_destroy(struct list_run *run); /* NULL is fine */

#endif
