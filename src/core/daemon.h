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
#include "core/inspect.h"
#include "core/list.h"
#include "core/loop.h"
#include "core/module.h"
#include "core/spec.h"
#include "core/store.h"

struct daemon;
struct guest;

/* What a listener hears. New kinds come at the end. */
enum daemon_event_kind {
    EVENT_GUEST_STATE,    /* text: the named state ("waiting", "attaching", "running", "paused", "gone", ...) */
    EVENT_DEVICE_ADDED,   /* it answers the guest */
    EVENT_DEVICE_REMOVED, /* it is gone; text: why */
    EVENT_DEVICE_ERROR,   /* it is broken, or could not be opened; text: why. Without device: the guest fails */
    EVENT_BACKEND,        /* text: what happened to it ("lost: ...", "back") */
    EVENT_STUCK,          /* an access waits longer than the guest's limit; text: which */
    EVENT_LIMITED,        /* the guest's answers are delayed now, or no more; text: why */
};
struct daemon_event {
    enum daemon_event_kind kind;
    const char *domain; /* as the guest was named when it was added */
    int domid;          /* -1: not known (yet) */
    const char *device; /* its id, or NULL */
    const char *text;   /* one line; holds until the listener returns */
};
/* Embedded in the listener's object. It may remove itself, and call any verb below, when it is called. */
struct daemon_listener {
    struct list link;
    void (*event)(struct daemon_listener *listener, const struct daemon_event *event);
};

struct neighbours;

struct daemon_config {
    struct loop *loop;             /* the embedder's; outlives the daemon */
    struct hypervisor *hypervisor; /* likewise */
    struct store *store;           /* likewise, but never run after it: it reports to it. NULL: no xenstore */
    struct modules *modules;       /* likewise */
    struct neighbours *neighbours; /* likewise (core/neighbours.h); NULL: nobody is asked */
    const char *record_dir;        /* "/run/ioreqd"; NULL: no records */
    const char *slot_device;       /* what a spec's slots=N makes N of: "pcie-root-port"; NULL: nothing */
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
 * Checks the spec against the schemas, then takes the guest on (waiting for it, if told so), with a slot_device for each
 * of its slots. The spec is copied. -EEXIST: the same origin has added a guest by this text (or, with `alone`, any origin
 * that is no list). A domain that a guest of another origin serves gets the devices of both; each goes with its own.
 */
int daemon_add_guest(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error);
/* The check alone: do its devices and their options exist, do they fit together? Touches nothing. */
int daemon_check_guest(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error);
/*
 * What follows finds a guest by the text it was added as, or by the name, domid or uuid ("uuid:...") of its
 * domain. Each `done` is called exactly once, later, never inside the call, unless the call itself fails:
 * error 0 or a negative errno with one line of `why` ("" without error). Calls: 0 or a negative errno with
 * *error filled (-ENOENT: no such guest or device, -EBUSY: it is being ended).
 */
typedef void daemon_done(void *self, int error, const char *why);

/*
 * Lets the guest go as its on_exit says (the domain itself is not touched), and forgets it: it is not waited for again.
 */
int daemon_remove_guest(struct daemon *daemon, const char *domain, daemon_done *done, void *self,
                        struct iod_error *error);
/*
 * One more device, while the guest runs or waits: checked, opened, started, then its ranges are claimed. It
 * stays in the guest's spec: after a reboot it is there again. -EEXIST: the id is taken.
 */
int daemon_add_device(struct daemon *daemon, const char *domain, const struct device_spec *spec,
                      daemon_done *done, void *self, struct iod_error *error);
enum removal {
    REMOVAL_ASK,   /* -EBUSY while the guest's driver still drives it; behind a PCIe slot the guest is asked first */
    REMOVAL_FORCE, /* surprise removal: its I/O is cancelled */
};
/* Takes the device off the guest and its spec. */
int daemon_remove_device(struct daemon *daemon, const char *domain, const char *id, enum removal how,
                         daemon_done *done, void *self, struct iod_error *error);
/*
 * Makes the guests of this `source` ("file", ...) what the list says, with the least change: a guest or device that
 * stays the same does not notice. All is checked first: on an error nothing has changed. Each spec's origin is named in
 * errors. Devices that another source gave a guest stay. Refused are changes that a running guest would suffer from:
 * taking off a device (one that changed goes and comes) as REMOVAL_ASK would refuse it, and other values of arch, type,
 * beside, bufioreq, map_limit and slots. Guests that failed are tried again.
 */
int daemon_apply(struct daemon *daemon, const char *source, const struct guest_spec *guests, unsigned count,
                 struct iod_error *error);
/* Stops the guest's devices as for a save (I/O in flight finishes; accesses wait), and starts them again. */
int daemon_pause_guest(struct daemon *daemon, const char *domain, daemon_done *done, void *self,
                       struct iod_error *error);
int daemon_resume_guest(struct daemon *daemon, const char *domain, struct iod_error *error);
/* Looks at the size of the device's backend again, and tells the guest. -EOPNOTSUPP: it has none that could change. */
int daemon_resize_device(struct daemon *daemon, const char *domain, const char *id, struct iod_error *error);

struct guest_status {
    const char *domain; /* as added */
    char name[128];     /* of the domain; empty: not known */
    int domid;          /* -1: not known */
    const char *state;  /* the named state */
    bool served;        /* every device of its spec answers the guest */
    char why[240];      /* what is missing, or the last failure; empty: nothing */
};
int daemon_guest_status(struct daemon *daemon, const char *domain, struct guest_status *status,
                        struct iod_error *error);
/* One object per guest (domain NULL: all, as a list): servers, ranges, devices, queues, memory; see inspect.h. */
int daemon_inspect(struct daemon *daemon, const char *domain, struct inspector *inspector,
                   struct iod_error *error);

void daemon_listen(struct daemon *daemon, struct daemon_listener *listener);
void daemon_unlisten(struct daemon_listener *listener);
/* Tells all listeners; for the core and the rooms. */
void daemon_tell(struct daemon *daemon, const struct daemon_event *event);
void daemon_set_log_level(struct daemon *daemon, enum iod_log_level level);

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
