/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the core's objects carry for whoever looks at them: counters, latency, waiting accesses, traces,
 * accounts. Included by inside.h; the functions are for the core's own files.
 */
#ifndef CORE_WATCH_H
#define CORE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/inspect.h"
#include "core/limit.h"
#include "core/list.h"
#include "core/probe.h"

struct daemon;
struct guest;
struct iod_access;
struct iod_device;
struct iod_error;
struct iod_region;
struct loop_timer;
struct server;

struct histogram; /* latency.c; NULL until something was gathered */
#define REQUEST_TYPES 6u

struct daemon_watch {
    struct list traces;
    unsigned trace_count;
    bool latency;
    struct list fresh;              /* accesses that the present batch leaves unanswered, not stamped yet */
    struct list waiting;            /* the stamped ones, oldest first */
    struct loop_timer *stuck_timer;
    uint64_t stuck_at_ns;           /* when it fires; UINT64_MAX: not armed */
    struct list suspicious, limited; /* guests, by watch.account.link */
    unsigned limited_count;
    struct loop_timer *limit_timer;
    uint64_t limit_at_ns;           /* likewise */
};

/* A guest's account; see limit.h. */
struct account {
    uint32_t points;      /* charged in the present window of a second */
    uint32_t check;       /* as soon as points reach it, the clock is read */
    uint64_t window_ns;   /* when the window began */
    uint64_t spent_ns;    /* of the loop's time in the window, while it is measured */
    uint64_t costly_ns;   /* of it, for what was charged */
    uint64_t begun_ns;    /* of the piece of work being measured */
    uint32_t begun_points;
    unsigned depth;       /* pieces of work inside one another */
    bool measured;        /* suspicious or limited: the clock is read */
    bool limited;
    struct list link;     /* of the daemon's suspicious or limited guests */
    unsigned events, costly_events; /* of a suspicious guest, in the present batch */
    struct list tasks;    /* of its devices, that wait for its turn */
    unsigned masked;      /* accesses that are */
    int64_t credit_ns;    /* of the loop's time */
    uint64_t credit_at_ns, turn_at_ns;
    uint64_t began_ns, ended_ns, limited_ns;
    unsigned hold_s, calm_s; /* calm seconds that end it; so far */
    unsigned pieces, seen_points; /* of its work as a limited guest, not judged yet */
    uint64_t window_deeds[DEED_COUNT]; /* the counters when the window began */
    uint64_t times, delayed, total_ns; /* ever; total_ns: spent while it was measured */
    uint32_t share_ppm;   /* in the last window measured */
};

/* Map misses that an I/O explains: some for a chain, one for so many bytes; and how many are kept. */
#define ALLOWANCE_CHAIN 3u
#define ALLOWANCE_BYTES 512u
#define ALLOWANCE_MAX 4096u
/* What the kernel does for a request or a frame, which is not measured: at least this. */
#define SUBMIT_NS 1000u
#define SUBMIT_BYTES_PER_NS 4u

struct guest_watch {
    uint32_t mask;                /* points that somebody looks at */
    uint8_t traces;               /* bits: those that see it */
    uint64_t points[PROBE_COUNT]; /* how often each was passed */
    uint64_t types[REQUEST_TYPES];
    uint64_t deeds[DEED_COUNT];
    uint64_t stuck, stuck_ended;
    unsigned allowance;           /* map misses that its own I/O explains */
    struct histogram *latency;
    struct account account;
};

struct server_watch {
    uint64_t taken, ring;
};

struct device_watch {
    uint64_t accesses;
    uint64_t kicks, pops, pushes, interrupts, resets, submits, finishes, submitted_bytes;
    uint64_t reads, read_bytes, writes, written_bytes; /* of the submits */
    uint64_t received, received_bytes, sent, sent_bytes;
    struct histogram *latency;
};

struct region_watch {
    uint64_t hits;
    struct histogram *latency;
};

struct access_watch {
    struct list link;          /* of the daemon's fresh or waiting ones */
    uint64_t since_ns;         /* it waits; 0: not stamped */
    uint64_t event_ns;         /* 0: not known */
    struct iod_device *device; /* that its last part reached, or waits for */
    struct iod_region *region; /* likewise; NULL: none, or configuration space */
    bool reported;             /* as stuck */
    uint8_t knocks;            /* events since its limited guest's last turn */
    bool masked;               /* its port is: too many of them; it is looked at in the guest's turns */
};

/* ---- life of the above: watch.c ---- */
int watch_daemon_begin(struct daemon *daemon); /* -ENOMEM */
void watch_daemon_end(struct daemon *daemon);
void watch_guest_begin(struct guest *guest);
void watch_guest_end(struct guest *guest);     /* its servers are closed */
void watch_guest_known(struct guest *guest);   /* its domid or name changed: which traces see it? */
void watch_device_end(struct iod_device *device); /* before its regions go */
/* An I/O of so many bytes explains map misses: a piece for its ring, its header, and each sector. */
void watch_allow(struct guest *guest, uint64_t bytes);
void watch_access_begin(struct iod_access *access);
void watch_access_end(struct iod_access *access); /* it is over, however */

/* ---- when somebody looks (points.h decides) ---- */
struct trace_record;
struct capture_frame;
void watch_access(enum probe probe, struct iod_access *access, uint64_t value);
void watch_call(enum probe probe, struct iod_access *access, struct iod_device *device, const char *where,
                uint64_t offset, unsigned width, uint64_t value);
void watch_guest(enum probe probe, struct guest *guest, uint64_t first, uint64_t second);
void watch_text(enum probe probe, struct guest *guest, const struct iod_device *device, const char *text);
/* Fills in what the guest and the device (may be NULL) know, and gives it to whoever traces. */
void watch_record(struct guest *guest, const struct iod_device *device, struct trace_record *record);

/*
 * Calls show for the guest, or for all (domain NULL), each in an object of a list that begins with its
 * names.
 */
int watch_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error, void (*show)(struct guest *guest, struct inspector *inspector));
void watch_names(const struct guest *guest, struct inspector *inspector);

/* ---- trace.c ---- */
uint32_t trace_mask(struct guest *guest);
void trace_note(struct guest *guest, const struct trace_record *record);
void trace_frame(struct guest *guest, const struct iod_device *device, struct capture_frame *frame);

/* ---- latency.c ---- */
void latency_note(struct iod_access *access, uint64_t ns);

/* ---- stuck.c ---- */
void stuck_note(struct iod_access *access); /* the batch leaves it unanswered */
void stuck_stamp(struct daemon *daemon);    /* the batch is over, and some are fresh */
int stuck_begin(struct daemon *daemon);
void stuck_end(struct daemon *daemon);

/* ---- limit.c ---- */
int limit_begin(struct daemon *daemon);
void limit_end(struct daemon *daemon);
void limit_open(struct guest *guest);  /* its account */
void limit_check(struct guest *guest); /* its points have reached the account's check */
void limit_lift(struct guest *guest);  /* nothing of it waits for a turn any more: it ends, or has calmed down */
void limit_wait(struct guest *guest);  /* something of a limited guest waits for its turn */
/* Around a piece of work for the guest, only while account.measured; they may be inside one another. */
void limit_work_begins(struct guest *guest);
void limit_work_ends(struct guest *guest);
void limit_spend(struct guest *guest, uint64_t ns); /* of the loop's time, known otherwise */
uint64_t limit_debt(const struct account *account, uint64_t now); /* ns that were spent before they were earned */
/* Around what a batch of events costs beside the accesses; began_ns 0: nobody is suspicious. */
uint64_t limit_batch_begins(struct daemon *daemon);
void limit_batch_ends(struct daemon *daemon, uint64_t began_ns, unsigned events);

#endif
