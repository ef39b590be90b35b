/* SPDX-License-Identifier: BSD-2-Clause */
/* The core's objects as the core's own files see them. Nothing outside src/core includes this. */
#ifndef CORE_INSIDE_H
#define CORE_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ioreqd/device.h>
#include <ioreqd/log.h>
#include <ioreqd/region.h>

#include "core/address_space.h"
#include "core/daemon.h"
#include "core/device.h"
#include "core/guest.h"
#include "core/hypervisor.h"
#include "core/list.h"
#include "core/loop.h"
#include "core/memory.h"

struct server;

/* A claim on a PCI function, wanted or made. */
struct function_claim {
    struct list link; /* of the guest */
    uint16_t sbdf;
    bool wanted;
    struct server *server; /* NULL: not made */
};

/* ---- accesses ---- */

enum access_state {
    ACCESS_IDLE,     /* waits for an event */
    ACCESS_READY,    /* on the guest's ready list */
    ACCESS_PARKED,   /* on a device's waiters list: the device is busy or quiet */
    ACCESS_DEFERRED, /* the device's handler will end it later */
};

/*
 * The cursor over one ioreq: one per vCPU of each server, and one for its buffered ring. The device
 * contract's `struct iod_access` is the same object: deferring stops the cursor, completing moves it on.
 */
struct iod_access {
    struct server *server;
    uint16_t vcpu;          /* slot; RING_VCPU: the buffered ring */
    uint32_t local;         /* event channel; 0: not bound */
    enum access_state state;
    bool active;            /* request holds a request that is not answered yet */
    struct request request;
    uint32_t element;       /* of request.count */
    uint8_t done;           /* bytes of the element that are done */
    bool fetched;           /* value holds the element's data */
    uint64_t value;         /* the element's data */
    /* The part that a handler has now: */
    uint8_t part_bytes;     /* of the element that it covers */
    uint8_t part_shift;     /* bits of the handler's value below them */
    struct iod_device *device;
    struct list link;       /* guest's ready list, or the device's waiters */
};
#define RING_VCPU UINT16_MAX

/* ---- servers ---- */

struct server {
    struct guest *guest;
    uint16_t id;
    enum bufioreq buf;
    struct ioreq_pages *pages;
    bool enabled;
    struct iod_access *slots; /* guest->vcpus of them */
    struct iod_access ring;
    unsigned unbound;         /* slots without an event channel yet */
    struct interval_set ranges[2]; /* by enum iod_space */
    unsigned functions;
    char *record;             /* path of its record, or NULL */
    int record_fd;            /* the record, locked while we live; -1: none */
    struct list link;
};
#define SERVER_RANGES_MAX 256u /* per type, xen: MAX_NR_IO_RANGES */
#define SERVERS_MAX 8u         /* per domain, xen: MAX_NR_IOREQ_SERVERS */

/* ---- regions ---- */

struct iod_region {
    struct iod_device *device;
    const char *name;
    uint64_t length;
    const struct iod_region_ops *ops;
    void *self;
    enum iod_space space;
    struct placement placement; /* linked: shown */
    struct list link;           /* of the device */
};

/* ---- devices ---- */

struct iod_device {
    struct guest *guest;
    const struct iod_device_class *class;
    struct device_spec spec;
    struct device_keys keys;
    char bus_name[16];
    char *id;
    struct iod_options *options;
    void *self, *regs;
    enum device_state state;
    bool broken;
    char why[160];                /* why it is broken */
    struct list link;             /* of the guest */

    struct list regions, irqs, timers, watches, tasks, windows, parts, backends;
    const struct iod_option *schemas[8]; /* of the class and its backends, for unknown keys */
    unsigned schema_count;

    struct iod_access *current;   /* inside a handler of this device */
    bool deferred_now;            /* the handler deferred */
    struct iod_access *busy;      /* the deferred access */
    struct list waiters;          /* parked accesses */

    /* the life (device.c) */
    struct list stops;            /* struct device_stop not yet answered */
    struct device_stop broken_stop, guest_stop; /* iod_device_broken's, and the guest's end's */
    unsigned stopped;             /* answered, not yet resumed */
    enum iod_drain drain;
    struct device_backend *backend_at; /* being opened or quiesced */
    enum { LIFE_IDLE, LIFE_OPEN_BACKENDS, LIFE_OPEN_CLASS, LIFE_QUIESCE } life;
    bool class_quiet, backends_begun, backends_quiet; /* LIFE_QUIESCE */
    void (*opened)(void *self, struct iod_device *device, int error, const char *why);
    void *opened_self;
    struct detach *detach;        /* under way */
    unsigned mappings;            /* iod_mapping in the device's hands */
    uint64_t guest_errors;
    uint64_t guest_errors_until_ns; /* no line is printed before */
};

/* ---- guests ---- */

enum guest_state {
    GUEST_WAITING,   /* for its domain, or for xenstore's word on its type */
    GUEST_CLEANING,  /* a dead daemon's servers are being removed */
    GUEST_OPENING,   /* devices open their backends */
    GUEST_RUNNING,
    GUEST_STOPPING,  /* devices finish (SIGTERM) or cancel (domain gone, failure) */
    GUEST_GONE,
};

struct guest {
    struct daemon *daemon;
    struct guest_spec spec;
    enum guest_state state;
    char name[64];           /* for the log: domid, or what the user said while it waits */
    bool have_domid, named;  /* named: the user gave a name, a reboot brings another domid */
    bool introduced;         /* xenstore told of it */
    uint16_t domid;
    char uuid[40];
    enum guest_type type;
    unsigned vcpus;
    struct list servers;     /* first made first */
    struct list devices;
    struct address_space spaces[2]; /* by enum iod_space */
    struct guest_memory *memory;
    void *bus;
    const struct config_space_ops *bus_ops;
    struct list functions;   /* claims that wait for the commit or are made */
    bool functions_dirty;
    struct list ready;       /* accesses to serve */
    struct list behind_ring; /* slots whose server's buffered ring comes first */
    struct list run_link;    /* of the daemon's run queue */
    struct list link;        /* of the daemon */
    struct loop_timer *retry; /* unbound slots, cleaning, waiting for answers */
    unsigned opening, stopping; /* devices not yet open, not yet quiet */
    unsigned retries;
    struct cleanup *cleanup;
    uint64_t clock_offset_ns; /* host monotonic minus guest clock */
    bool dead;               /* the domain is gone: no hypercall can help it */
    bool fail;               /* it ends because of an error */
    bool stop_wanted;        /* as soon as its devices are open */
    uint64_t unclaimed, malformed; /* counted for people */
};

/* ---- the daemon ---- */

#define EVENT_BATCH 256u

struct daemon {
    struct daemon_config config;
    struct loop *loop;
    struct hypervisor *hv;
    struct list guests;
    unsigned guest_count;
    struct iod_access **ports; /* by local port */
    uint32_t port_room;
    struct list run_queue;     /* guests with ready accesses */
    struct loop_watch *event_watch;
    struct loop_task *run_task;
    struct loop_timer *health;
    struct store_domain *domains; /* xenstore's last word; NULL: none yet, or none introduced */
    unsigned domain_count;
    bool domains_known;
    uint32_t notify[EVENT_BATCH];
    unsigned notify_count;
    struct list services;
    struct list mapping_pool[3];
    bool stopping;
    bool store_lost;
    void (*stopped)(void *self);
    void *stopped_self;
    struct loop_task *stopped_task;
};

/* ---- who does what ---- */

/* guest.c */
struct guest *guest_create(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error);
void guest_destroy(struct guest *guest);
void guest_begin(struct guest *guest);                                      /* its domid is known: attach */
/* xenstore's news */
void guest_domains(struct guest *guest, const struct store_domain *domains, unsigned count);
void guest_log(struct guest *guest, enum iod_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int guest_check_spec(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error);
/* just added, or xenstore got lost */
void guest_await(struct guest *guest);
void guest_named_state(struct guest *guest, const char *state);
void guest_retry_in(struct guest *guest, uint64_t ns); /* the guest's one timer */
void guest_bind_later(struct guest *guest); /* event channels are missing: look again by the timer */
bool guest_is_arm(const struct guest *guest);

/* guest_end.c */
void guest_stop(struct guest *guest); /* SIGTERM: finish, then on_exit */
void guest_gone(struct guest *guest); /* the domain died */
void guest_fail(struct guest *guest, const char *format, ...) __attribute__((format(printf, 2, 3)));
void guest_check_alive(struct guest *guest);
void guest_stop_devices(struct guest *guest, enum iod_drain drain); /* then the guest ends, by its timer */
void guest_end_step(struct guest *guest);

/* daemon.c */
void daemon_guest_ended(struct daemon *daemon);
void daemon_forget_domain(struct daemon *daemon, uint16_t domid); /* dead, whatever xenstore said last */

/* ranges.c */
int guest_commit(struct guest *guest); /* what changed reaches the hypervisor, and look-ups */
bool guest_dirty(const struct guest *guest);
void functions_forget(struct guest *guest);

/* server.c */
int server_create(struct guest *guest, struct server **server, struct iod_error *error);
int server_enable(struct server *server, struct iod_error *error);
void server_bind(struct server *server);      /* binds what has a port by now */
void server_answer_all(struct server *server); /* all ones for whatever is pending */
bool server_quiet(const struct server *server); /* every slot is NONE */
/* Lets go of the pages and ports. keep: on-exit=leave, the hypervisor's side stays as it is. */
void server_close(struct server *server, bool keep);
void server_free(struct server *server); /* after the devices: they may still hold a deferred access of it */

/* dispatch.c */
void dispatch_event(struct daemon *daemon, uint32_t port);
void dispatch_ready(struct iod_access *access);   /* puts it on its guest's ready list */
void dispatch_run(struct daemon *daemon);         /* serves the run queue once, then notifies */
void dispatch_forget_device(struct iod_device *device); /* ends its deferred access, wakes its waiters */
void dispatch_wake_waiters(struct iod_device *device);
void dispatch_flush(struct daemon *daemon);

/* device_keys.c */
int device_parse_keys(struct iod_device *device, unsigned index, struct iod_error *error);

/* device.c */
struct iod_device *device_create(struct guest *guest, const struct device_spec *spec, unsigned index,
                                 struct iod_error *error);
void device_open(struct iod_device *device,
                 void (*opened)(void *self, struct iod_device *, int, const char *), void *self);
void device_start(struct iod_device *device);  /* opened and attached: accesses may come */
void device_destroy(struct iod_device *device);
void device_cancel(struct iod_device *device); /* a stop under way turns into a cancel */
bool device_answers(const struct iod_device *device); /* accesses may reach it now */

/* dma.c */
void mapping_pools_destroy(struct daemon *daemon);

/* detach.c */
void detach_end(struct detach *detach);

/* record.c */
struct cleanup;
int record_write(struct server *server, uint32_t port, struct iod_error *error);
void record_remove(struct server *server);
void record_unlock(struct server *server); /* this process is its owner no more */
/* Removes what a dead daemon left on this domain; done(self, error) is called, maybe at once. */
struct cleanup *cleanup_begin(struct guest *guest, void (*done)(void *self, int error, const char *why),
                              void *self);
void cleanup_cancel(struct cleanup *cleanup);

#endif
