/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library's front door: a daemon is a loop, a hypervisor and guests. No globals, no signals, no exit: the
 * embedder (src/main.c, a stub domain, a test) owns the process. Two daemons can live in one process.
 */
#ifndef CORE_DAEMON_H
#define CORE_DAEMON_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/error.h>
#include <ioreqd/log.h>

#include "core/hypervisor.h"
#include "core/loop.h"
#include "core/module.h"
#include "core/spec.h"
#include "core/store.h"

struct daemon;
struct guest;

struct daemon_config {
    struct loop *loop;             /* the embedder's; outlives the daemon */
    struct hypervisor *hypervisor; /* likewise */
    struct store *store;           /* likewise, but never run after it: it reports to it. NULL: no xenstore */
    struct modules *modules;       /* likewise */
    const char *record_dir;        /* "/run/ioreqd"; NULL: no records */
    enum iod_log_level log_level;
    /* One line without newline; prefix says domid and device. NULL: silence. */
    void (*log)(void *self, enum iod_log_level level, const char *prefix, const char *text);
    void *log_self;
    /*
     * A guest reached a named state ("running", "gone", "failed", ...); for readiness and exit codes. May be
     * NULL.
     */
    void (*guest_state)(void *self, const char *domain, const char *state);
    void *guest_self;
};

struct daemon *daemon_create(const struct daemon_config *config, struct iod_error *error);
/* Only when no guest is left (see daemon_stop). */
void daemon_destroy(struct daemon *daemon);

/*
 * Checks the spec against the schemas, then takes the guest on (waiting for it, if told so). The spec is
 * copied.
 */
int daemon_add_guest(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error);
/*
 * Takes the device `id` off the running guest that was added as `domain`, surprise removal: its I/O is
 * cancelled. done is called, later, when it is gone (with its guest at the latest). -ENOENT, -EBUSY.
 */
int daemon_detach_device(struct daemon *daemon, const char *domain, const char *id, void (*done)(void *self),
                         void *self, struct iod_error *error);
/*
 * Ends all guests: I/O in flight finishes, accesses are answered, then each guest's on_exit. Calls
 * stopped(self) later.
 */
void daemon_stop(struct daemon *daemon, void (*stopped)(void *self), void *self);
unsigned daemon_guests(const struct daemon *daemon);

/* For the rooms. */
struct loop *daemon_loop(const struct daemon *daemon);
struct hypervisor *daemon_hypervisor(const struct daemon *daemon);
struct modules *daemon_modules(const struct daemon *daemon);
void daemon_log(struct daemon *daemon, enum iod_log_level level, const char *prefix, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/*
 * Something that all devices of a loop share (the io_uring): made at the first get, destroyed with the last
 * put.
 */
struct service_class {
    const char *name;
    void *(*create)(struct daemon *daemon, struct iod_error *error);
    void (*destroy)(void *service);
};
void *daemon_service_get(struct daemon *daemon, const struct service_class *class, struct iod_error *error);
void daemon_service_put(struct daemon *daemon, const struct service_class *class);

#endif
