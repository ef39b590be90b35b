/* SPDX-License-Identifier: BSD-2-Clause */
/* The source's objects, for xenstore*.c alone. */
#ifndef CONFIG_XENSTORE_INSIDE_H
#define CONFIG_XENSTORE_INSIDE_H

#include "config/xenstore.h"
#include "config/xenstore_node.h"
#include "core/list.h"

#define ERRORS_MAX 32u /* error nodes that are kept, for people to read */

struct source_guest;

enum source_life {
    LIFE_OUT,      /* the daemon does not have it */
    LIFE_ADDING,   /* asked for */
    LIFE_SERVED,   /* it answers the guest as soon as that runs */
    LIFE_REMOVING, /* asked for */
    LIFE_REFUSED,  /* why says it */
};

/* What one device is to show in xenstore: our own kind only. */
enum source_status { STATUS_NONE, STATUS_WAITING, STATUS_RUNNING, STATUS_ERROR };

/* A call whose answer is still to come; outlives its device if that has to go. */
struct source_call {
    struct source_device *device; /* NULL: nobody listens any more */
};

struct source_device {
    struct list link; /* of the guest, by kind and name */
    struct source_guest *guest;
    enum xenstore_kind kind;
    char name[XENSTORE_NAME_MAX + 1];
    bool seen;                 /* in the branch or the listing that is being told */
    bool missed;               /* missing in a listing: is it removed, or has xenstored lost its memory? */
    bool gone;                 /* the node is not there any more */
    bool stale;                /* it was read for another type of guest: it is told again */
    struct xenstore_node node; /* as it stands; spec belongs to it */
    enum source_life life;
    char *text;                /* the spec that was added or refused; NULL: none yet */
    char id[64];               /* of what was added */
    char why[240];             /* REFUSED, or broken while it is served */
    bool broken;
    bool clash;                /* the node was written anew while its device is served (said once) */
    struct source_call *call;  /* ADDING, REMOVING */
    bool given_up;             /* ADDING, and not wanted any more: the daemon knows */
    bool writing;              /* a change of ours in xenstore is on its way */
    bool retry;                /* the last one failed: again, by the timer */
    bool answered;             /* the node's state has our answer */
    bool parting;              /* it has said 6; a second later its directory is ours to remove */
    enum source_status shown;
    char shown_why[240];
};

struct source_guest {
    struct list link; /* of the source */
    struct xenstore_source *source;
    uint16_t domid;
    char text[8];     /* the domid in hexadecimal: a file may name the same domain by its domid */
    bool introduced;  /* xenstored knows the domain; else `domain` is empty */
    struct store_domain domain;
    uint64_t since_ns; /* it exists in Xen since (at least), without being introduced; 0: it does not */
    bool in;          /* the daemon has it */
    bool running;     /* devices can be added */
    char why[240];    /* of a failure, heard before it */
    bool leaving;     /* the daemon was told to forget it */
    bool over;        /* this domain was served and is gone, or was taken away: not again */
    bool drop;        /* the last device that went was of our own tree: the guest goes with it */
    bool host_asked;  /* for a pci-host */
    bool look;        /* something has changed */
    char *options;    /* the node's text, or NULL */
    struct list devices;
};

struct xenstore_source {
    struct daemon *daemon;
    struct store *store;
    enum guest_arch arch;
    uint16_t own;     /* our own domid */
    bool begun;       /* a listing was told */
    struct daemon_listener listener;
    struct source_tree {
        struct xenstore_source *source;
        enum xenstore_kind kind;
        struct store_tree *tree;
    } trees[XENSTORE_KINDS];
    struct list guests;
    struct loop_timer *timer; /* looks again at what waits or is to be retried */
    struct loop_task *task;   /* goes through the guests, outside of others' calls */
    char *errors[ERRORS_MAX]; /* paths of error nodes, a ring */
    unsigned error_next;
};

/* ---- xenstore.c ---- */
void source_soon(struct source_guest *guest); /* it is looked at, from the loop */
void source_later(struct xenstore_source *source); /* all are, in a second */
void source_log(const struct source_device *device, enum iod_log_level level, const char *text);
/* Below our own domain's path: "backend/virtio_disk/5/51712", "ioreqd/5/N". */
void source_path(const struct source_device *device, char *path, size_t size);
#define SOURCE_PATH_MAX 128

/* ---- xenstore_guest.c ---- */
struct source_guest *source_guest_get(struct xenstore_source *source, uint16_t domid, bool make);
void source_guest_free(struct source_guest *guest);
struct source_device *source_device_get(struct source_guest *guest, enum xenstore_kind kind, const char *name,
                                        bool make);
void source_device_free(struct source_device *device);
/* What xenstore says of its domain. */
void source_guest_domain(struct source_guest *guest, const struct store_domain *domain);
/* The daemon says so. */
void source_guest_state(struct source_guest *guest, const char *state);
/* Does what can be done now; may free the guest. */
void source_guest_step(struct source_guest *guest);
void source_place(const struct source_guest *guest, struct xenstore_place *place);
/* Has the guest a host bridge, or gets it one now? */
void source_guest_need_host(struct source_guest *guest);

/* ---- xenstore_device.c ---- */
/* Its branch was read: `node` (which it takes over) is what stands there now. */
void source_device_news(struct source_device *device, struct xenstore_node *node);
void source_device_step(struct source_device *device);
void source_device_refuse(struct source_device *device, const char *why);
void source_device_lost(struct source_device *device); /* the guest is gone, and the device with it */
bool source_device_wants(const struct source_device *device); /* to be added */
void source_device_broken(struct source_device *device, const char *why); /* while it is served */
/* Nothing of it is left, neither in xenstore nor in the daemon. */
bool source_device_over(const struct source_device *device);

/* ---- xenstore_report.c: what we write. Each starts one change, then the device is stepped again ---- */
bool source_report_state(struct source_device *device, const char *state);
bool source_report_refusal(struct source_device *device);
bool source_report_closed(struct source_device *device); /* takes the backend's directory away */
bool source_report_broken(struct source_device *device);
bool source_report_status(struct source_device *device, enum source_status status, const char *why);
bool source_report_gone(struct source_device *device); /* takes the status away */
bool source_report_removed(struct source_device *device); /* the same, unless xenstored has lost its memory */
void source_report_domain_gone(struct source_guest *guest); /* takes the domain's part of our own tree away */
void source_report_begin(struct xenstore_source *source);   /* takes away what an earlier ioreqd left */

#endif
