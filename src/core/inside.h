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
#include "core/neighbours.h"
#include "core/record.h"
#include "core/watch.h"

struct server;

/* A claim on a PCI function, wanted or made. */
struct function_claim {
    struct list link; /* of the guest */
    uint16_t sbdf;
    bool wanted;
    const struct iod_device *hidden; /* who it waits for to be shown; NULL: nobody */
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
    struct access_watch watch;
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
    uint32_t record_port;     /* as it says */
    bool record_stale;        /* what the server holds has changed since it was written */
    struct list link;
    struct server_watch watch;
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
    bool later;                 /* of a device that is not shown yet: goes to `base` when it is */
    uint64_t base;
    struct list link;           /* of the device */
    struct region_watch watch;
};

/* ---- devices ---- */

/* Somebody who opens an image that is locked. */
struct lock_wait {
    uint64_t since; /* daemon->endings when the wait began; 0: it has not */
    uint64_t ended; /* daemon->ended when the present open began, which takes its time */
};

struct iod_device {
    struct guest *guest;          /* who serves it */
    struct guest *owner;          /* in whose spec it is: guest, or one joined to it; NULL: nobody's, it is going */
    const struct iod_device_class *class;
    struct device_spec spec;
    struct device_keys keys;
    char bus_name[16];
    char *id;
    struct iod_options *options;
    void *self, *regs;
    enum device_state state;
    bool lock_wait;               /* its image is still held by one of ours that ends: it is made anew soon */
    struct lock_wait lock_from;   /* of letting_go */
    uint64_t ending;              /* with detach: which of daemon->endings */
    bool broken;
    char why[160];                /* why it is broken */
    struct list link;             /* of the guest */

    struct list regions, irqs, timers, watches, tasks, windows, parts, backends;
    const struct iod_option *schemas[8]; /* of the class and its backends, for unknown keys */
    unsigned schema_count;

    struct iod_access *current;   /* inside a handler of this device */
    bool deferred_now;            /* the handler deferred */
    /* the deferred access; `handle` itself: nobody waits for it any more, but the device has not completed it */
    struct iod_access *busy;
    struct iod_access handle;     /* what the device holds of a deferred access: state and device only */
    bool unanswering;             /* it kept a vCPU waiting too long: reads get all ones while it is not ready */
    struct device_watch watch;
    struct list waiters;          /* parked accesses */

    /* the life (device.c) */
    struct list stops;            /* struct device_stop not yet answered */
    /* iod_device_broken's, the guest's end's, and daemon_pause_guest's */
    struct device_stop broken_stop, guest_stop, pause_stop;
    unsigned stopped;             /* answered, not yet resumed */
    enum iod_drain drain;
    struct device_backend *backend_at; /* being opened or quiesced */
    enum { LIFE_IDLE, LIFE_OPEN_BACKENDS, LIFE_OPEN_CLASS, LIFE_QUIESCE } life;
    bool class_quiet, backends_begun, backends_quiet; /* LIFE_QUIESCE */
    void (*opened)(void *self, struct iod_device *device, int error, const char *why);
    void *opened_self;
    struct detach *detach;        /* under way */
    struct asking *asking;        /* the guest was asked to let go of it */
    bool hidden;                  /* added to a running guest and not open yet: it has no ranges */
    bool pulled;                  /* taken off by force: its driver may still touch it */
    unsigned mappings;            /* iod_mapping in the device's hands */
    uint64_t guest_errors;
    uint64_t guest_errors_until_ns; /* no line is printed before */
};

/* ---- guests ---- */

/* What another ioreqd holds of the domain. */
struct foreign_claim {
    struct record_claim claim;
    uint64_t pid;
};

enum guest_state {
    GUEST_WAITING,   /* for its domain, or for xenstore's word on its type */
    GUEST_CLEANING,  /* a dead daemon's servers are being removed */
    GUEST_OPENING,   /* devices open their backends */
    GUEST_RUNNING,
    GUEST_STOPPING,  /* devices finish (SIGTERM) or cancel (domain gone, failure) */
    GUEST_GONE,
    GUEST_JOINED,    /* its domain is served by another guest of ours, which has its devices */
    GUEST_FAILED,    /* kept, to be shown: until its spec changes or its domain ends */
};

struct guest {
    struct daemon *daemon;
    struct guest_spec spec;
    enum guest_state state;
    char name[64];           /* for the log: domid, or what the user said while it waits */
    char *source;            /* daemon_apply's; NULL: added alone */
    const char *shown_state; /* the named state */
    char why[240];           /* what is missing, or the last failure */
    char domain_name[128];   /* xenstore's; empty: not known */
    bool have_domid, named;  /* named: the user gave a name or uuid, a reboot brings another domid */
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
    struct iod_device *hidden; /* inside create of a hidden device */
    struct list ready;       /* accesses to serve */
    struct list behind_ring; /* slots whose server's buffered ring comes first */
    struct list run_link;    /* of the daemon's run queue */
    struct list link;        /* of the daemon */
    struct loop_timer *retry; /* unbound slots, cleaning, waiting for answers */
    unsigned opening, stopping; /* devices not yet open, not yet quiet */
    unsigned retries;
    struct cleanup *cleanup;
    struct foreign_claim *foreign; /* as of the last look */
    unsigned foreign_count;
    void *neighbour_query;         /* under way */
    void (*neighbours_known)(struct guest *guest); /* follows */
    struct neighbour_claim *neighbours; /* what the other emulator said last */
    unsigned neighbour_count;
    struct guest *host;      /* of one that is joined: who serves its domain */
    struct list joined;      /* guests whose host this is, by join_link */
    struct list join_link;
    struct list additions;   /* devices that are being added to it */
    struct answer *removal;  /* of daemon_remove_guest */
    struct answer *pausing;  /* of daemon_pause_guest, until all is quiet */
    unsigned pause_left;     /* devices not yet quiet */
    bool paused;             /* or becoming so */
    bool forget;             /* it ends for good: it is not waited for again */
    uint64_t ending;         /* stopping or to be forgotten: which of daemon->endings */
    bool parted;             /* the guest it was joined to is no more, or its spec changed: begins anew, soon */
    bool leaving;            /* its devices go, and then it, or what is left is handed to one joined to it */
    bool lock_wait;          /* a device's: opened again soon */
    uint64_t clock_offset_ns; /* host monotonic minus guest clock */
    bool dead;               /* the domain is gone: no hypercall can help it */
    bool fail;               /* it ends because of an error */
    bool stop_wanted;        /* as soon as its devices are open */
    uint64_t unclaimed, malformed; /* counted for people */
    struct guest_watch watch;
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
    struct daemon_watch watch;
    struct list listeners, answers;
    struct loop_task *answer_task, *leave_task;
    struct loop_timer *record_timer;
    bool record_due;           /* it is set */
    struct list services;
    struct list mapping_pool[3];
    bool stopping;
    bool store_lost;
    uint64_t endings;          /* guests and devices that began to end, counted from 1 */
    uint64_t ended;            /* and that have ended */
    void (*stopped)(void *self);
    void *stopped_self;
    struct loop_task *stopped_task;
};

/* ---- who does what ---- */

/* events.c */
struct answer;
/* Memory for a `done` that is called later; NULL (with *error filled): out of memory. done may be NULL. */
struct answer *answer_make(struct daemon *daemon, daemon_done *done, void *self, struct iod_error *error);
/* Now it may be called, from the loop. NULL: nobody asked. */
void answer_give(struct answer *answer, int error, const char *why);
void answer_drop(struct answer *answer);  /* the call itself failed: done is not called */
void answers_deliver(struct daemon *daemon);
int events_begin(struct daemon *daemon); /* -ENOMEM */
void events_end(struct daemon *daemon);
void guest_named_state(struct guest *guest, const char *state);
void device_tell(const struct iod_device *device, enum daemon_event_kind kind, const char *text);

/* status.c */
/* By the text it was added as, or its domain's domid, name, uuid; NULL with *error filled. */
struct guest *guest_find(struct daemon *daemon, const char *domain, struct iod_error *error);
void guest_status_of(struct guest *guest, struct guest_status *status);
struct guest *guest_host(struct guest *guest); /* who serves its domain: itself, or the one it is joined to */
/* Notes why not all is well, for daemon_guest_status. */
void guest_note(struct guest *guest, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* guest_change.c */
/* What the spec says becomes so: devices it lacks go, devices that are missing come. Any state. */
void guest_reconcile(struct guest *guest);
void additions_end(struct guest *guest);    /* the guest is being taken apart */
void additions_move(struct guest *from, struct guest *to);
void additions_retry(struct guest *guest);  /* what failed may be tried again */
void guest_forget(struct guest *guest);     /* it goes for good, soon */
/*
 * An image is locked: is something of ours on its way out that may hold the lock, or has it just gone? Only what was so
 * when the wait began counts, or a foreign lock would be awaited for ever where guests end all the time.
 */
bool letting_go(struct daemon *daemon, struct lock_wait *from);
struct iod_device *guest_device(struct guest *host, const char *id); /* or NULL */

/* guest_pause.c */
void guest_pause_device(struct iod_device *device); /* of a guest that is paused, just added */

/* spec_change.c */
int spec_name_devices(struct guest_spec *spec); /* gives ids to those that have none. -ENOMEM */
/* An id for one of the spec's devices that neither the spec nor the host's domain (may be NULL) has. */
int spec_give_id(struct guest_spec *spec, struct device_spec *device, struct guest *host);
int spec_set_id(struct device_spec *device, const char *id); /* that the text does not have. -ENOMEM */
/* Other ids for those that the core named, where the host has a device of that id already. -ENOMEM */
int spec_rename(struct guest_spec *spec, struct guest *host);
int spec_append(struct guest_spec *spec, const struct device_spec *device); /* a copy */
void spec_drop(struct guest_spec *spec, const char *id);
const struct device_spec *spec_find(const struct guest_spec *spec, const char *id);

/* guest_join.c */
bool guest_join(struct guest *guest);       /* true: its domain is served by another one: joined, or waits for that */
void guest_part(struct guest *guest);       /* the host ends: who was joined goes its own way again */
void guest_leave(struct guest *guest);      /* daemon_remove_guest's way, from the loop */
void guest_unjoin(struct guest *guest);     /* if it is joined: its host keeps serving its devices, for nobody */
bool guest_leave_step(struct guest *guest); /* a device of it has gone. True: the guest may be no more */

/* guest.c */
struct guest *guest_create(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error);
void guest_destroy(struct guest *guest);
void guest_restart(struct guest *guest, bool failed); /* all of it goes but the spec; then it waits, or shows why */
void guest_begin(struct guest *guest);                                      /* its domid is known: attach */
void guest_log(struct guest *guest, enum iod_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void guest_open_devices(struct guest *guest); /* leftovers are gone, neighbours are known */
int guest_check_spec(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error);
void guest_retry_in(struct guest *guest, uint64_t ns); /* the guest's one timer */
void guest_bind_later(struct guest *guest); /* event channels are missing: look again by the timer */
bool guest_is_arm(const struct guest *guest);
void guest_try_again(struct guest *guest);  /* its spec changed: if it had failed, it is attached anew, soon */

/* guest_wait.c */
void guest_await(struct guest *guest);      /* just added, or xenstore got lost */
void guest_wait_step(struct guest *guest);  /* by its timer, while it waits */
void guest_failed_step(struct guest *guest); /* likewise, while it is shown as failed */
/* xenstore's news */
void guest_domains(struct guest *guest, const struct store_domain *domains, unsigned count);

/* guest_end.c */
void guest_stop(struct guest *guest); /* SIGTERM: finish, then on_exit */
void guest_gone(struct guest *guest); /* the domain died */
void guest_fail(struct guest *guest, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Why it fails is kept and told; device: its id, or NULL. The caller ends the guest. */
void guest_failing(struct guest *guest, const char *device, const char *why);
void guest_check_alive(struct guest *guest);
void guest_give_up_opens(struct guest *guest); /* device_give_up, all of them */
void guest_stop_devices(struct guest *guest, enum iod_drain drain); /* then the guest ends, by its timer */
void guest_end_step(struct guest *guest);
void guest_finish(struct guest *guest); /* nothing of it is left in the hypervisor; frees it, or it waits again */

/* daemon.c */
void daemon_guest_ended(struct daemon *daemon);
void daemon_take_on(struct daemon *daemon, struct guest *guest); /* checked and made: it is waited for */
void daemon_check_all(struct daemon *daemon); /* which domains are dead? */
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
/* False: its port is not to be unmasked now. */
bool dispatch_event(struct daemon *daemon, uint32_t port);
void dispatch_ready(struct iod_access *access);   /* puts it on its guest's ready list */
void dispatch_run(struct daemon *daemon);         /* serves the run queue once, then notifies */
void dispatch_forget_device(struct iod_device *device); /* ends its deferred access, wakes its waiters */
void dispatch_wake_waiters(struct iod_device *device);
void dispatch_flush(struct daemon *daemon);
void dispatch_turn(struct guest *guest);          /* a limited guest's accesses, as long as its credit lasts */
void dispatch_resume(struct guest *guest);        /* it is limited no more */
void dispatch_unmask(struct guest *guest);        /* all its ports: accesses come by events again */

/* cursor.c */
void dispatch_give_up(struct iod_access *access); /* a read waits for its device no more, and gets all ones */
void dispatch_forget_access(struct iod_access *access); /* a handler's late end included finds it no more */

/* device_keys.c */
int device_parse_keys(struct iod_device *device, unsigned index, struct iod_error *error);

/* device.c */
struct iod_device *device_create(struct guest *guest, const struct device_spec *spec, unsigned index,
                                 struct iod_error *error);
void device_open(struct iod_device *device,
                 void (*opened)(void *self, struct iod_device *, int, const char *), void *self);
void device_start(struct iod_device *device);  /* opened and attached: accesses may come */
void device_give_up(struct iod_device *device); /* its open, if that is under way: it ends soon, if its backend can */
void device_destroy(struct iod_device *device);
void device_cancel(struct iod_device *device); /* a stop under way turns into a cancel */
bool device_answers(const struct iod_device *device); /* accesses may reach it now */

/* dma.c */
void mapping_pools_destroy(struct daemon *daemon);

bool device_is_removable(struct iod_device *device, struct iod_error *error); /* do all of its parts agree? */
int device_show(struct iod_device *device);    /* it was hidden: its ranges and functions are claimed now */

/* detach.c */
int detach_begin(struct iod_device *device, const char *why, struct answer *answer);

/* ask.c */
int ask_begin(struct iod_device *device, struct answer *answer); /* 0 or -ENOMEM; the answer is its own then */
void ask_end(struct iod_device *device, const char *why);
void detach_end(struct detach *detach); /* the device is being destroyed */

/* record_file.c */
int record_write(struct server *server, uint32_t port, struct iod_error *error);
void record_remove(struct server *server);
void record_unlock(struct server *server); /* this process is its owner no more */
void record_note(struct server *server);   /* what it holds has changed: the record is written again, soon */
void records_write(void *self);            /* the daemon's: those that are due */
void foreign_read(struct guest *guest);    /* what other living ioreqds hold of its domain, by their records */
void foreign_forget(struct guest *guest);

/* neighbours.c */
/* Asks the guest's other emulator; `then` follows, later. False: there is none that could be asked. */
bool neighbours_ask(struct guest *guest, void (*then)(struct guest *guest));
void neighbours_forget(struct guest *guest);
/* Who of them holds some of it, as text ("virtio-blk0 of ioreqd pid 12"); or NULL. */
const char *foreign_owner(const struct guest *guest, enum claim_kind kind, uint64_t start, uint64_t end, char *text,
                          size_t size);

/* record.c */
struct cleanup;
/* Removes what a dead daemon left on this domain; done(self, error) is called, maybe at once. */
struct cleanup *cleanup_begin(struct guest *guest, void (*done)(void *self, int error, const char *why),
                              void *self);
void cleanup_cancel(struct cleanup *cleanup);

#endif
