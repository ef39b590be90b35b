/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conformance program: one line a rule of /ioreq.md section 7/, the same on Xen and on the mock.
 * Here: what the rules share: a guest that takes commands, an ioreq server, printing.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define __XEN_TOOLS__ 1 /* hvm_op.h shows HVM_IOREQSRV_* to tools only */
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xen/hvm/ioreq.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/hvm_op.h>
#include <xen/memory.h>

#include "guest/mailbox.h"

#define NO_DOMAIN 0x7fe0 /* a domid below DOMID_FIRST_RESERVED that nobody has */
#define MAX_VCPUS 128
#define RUN_REQUESTS 64
#define SERVERS 8

enum profile { PROFILE_HVM, PROFILE_PVH, PROFILE_ARM64 };

/* Bit of each profile, for the tables that say where a rule applies. */
#define ON_HVM (1u << PROFILE_HVM)
#define ON_PVH (1u << PROFILE_PVH)
#define ON_ARM64 (1u << PROFILE_ARM64)
#define ON_X86 (ON_HVM | ON_PVH)
#define ON_ALL (ON_X86 | ON_ARM64)

struct context;

/* One command for the guest; the members mean what enum guest_op says. */
struct command {
    enum guest_op op;
    uint32_t size, count, down;
    uint64_t addr, value, buffer;
};

/* The guest: on Xen the freestanding program, under the mock a thread on its guest C API. */
struct guest_ops {
    /* Waits until vCPU 0 takes commands; 0 or -1. */
    int (*open)(struct context *);
    /* Starts a command on a vCPU that is idle; never waits. */
    void (*start)(struct context *, unsigned int vcpu, const struct command *);
    /* True once the last command of that vCPU is done; its result and count of aborts. */
    bool (*done)(struct context *, unsigned int vcpu, uint64_t *result, bool *aborted);
    /* Ends the domain: destroyed by its toolstack. */
    int (*kill)(struct context *);
    /* Gives back every mapping of the guest; the guest is not used any more. */
    void (*close)(struct context *);
};

extern const struct guest_ops guest_on_xen;

/* ---- guest_mock.c; guest_none.c in a build without the mock ---- */

/* Starts a mock and a domain of the profile; sets domid, guest and quiet_ms. 0, or -1 after a line. */
int mock_prepare(struct context *);
/* Ends what mock_prepare() started, if anything. */
void mock_finish(struct context *);
/* Runs the rules that would kill a real host, each against a mock of its own. Exit status. */
int mock_only_run(void);
/* Prints the names of those rules. */
void mock_only_list(void);

/* What the command line and the profile say, and the open handles. One for the whole run. */
struct context {
    enum profile profile;
    unsigned int domid;
    const char *kill_command; /* Xen: shell command that destroys the domain */
    bool mock;                /* against the mock instead of Xen */
    const char *broken;       /* mock: the rule that it is to break, or NULL */
    unsigned int quiet_ms;    /* how long nothing must happen before "nothing happens" is said */
    unsigned int patience_ms; /* how long is waited for what must happen */
    unsigned int vcpus;
    uint64_t ram;             /* gpa of the first RAM byte */
    uint64_t mmio;            /* gpa of two pages that are neither RAM nor Xen's */
    uint64_t port;            /* 16 PIO ports that nobody but us claims */
    const struct guest_ops *guest;
    void *guest_state;        /* owned by `guest` */
    void *mock_state;         /* owned by guest_mock.c */
    xendevicemodel_handle *dm;
    xenevtchn_handle *evtchn;
    xenforeignmemory_handle *memory;
    const char *only;         /* the only rule to run, or NULL */
};

/* One ioreq server with its pages and bound ports. `id` is -1 while there is none. */
struct server {
    int id;
    int bufioreq; /* HVM_IOREQSRV_BUFIOREQ_* */
    xenforeignmemory_resource_handle *resource;
    struct shared_iopage *page;
    struct buffered_iopage *ring; /* NULL if OFF */
    int port[MAX_VCPUS];          /* local ports, -1 unbound */
    int ring_port;
    unsigned int events[MAX_VCPUS]; /* events taken per vCPU since the caller last cleared them */
    unsigned int ring_events;
};

#define NO_SERVER { .id = -1 }

/* What a command made happen. */
struct run {
    unsigned int requests;                /* how many synchronous requests came */
    struct ioreq request[RUN_REQUESTS];   /* as Xen wrote them */
    unsigned int server[RUN_REQUESTS];    /* which of the servers got each */
    uint64_t result;
    bool finished;
    bool aborted;                         /* Arm: the access ended in a data abort */
};

/* ---- main.c ---- */

/* Sets the addresses of a profile. */
void context_set_profile(struct context *, enum profile);
/* Opens the Xen interfaces and the guest. 0, or -1 after a line on stderr; context_close() either way. */
int context_open(struct context *);
/* Gives back all of that. */
void context_close(struct context *);

/* ---- print.c ---- */

/* Prints "NAME: text"; `format` as in printf. */
void say(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The outcome of a library call: "0" or the errno's name. `status` < 0 means errno is set. */
const char *outcome(int status);
/* Name of an errno value. */
const char *error_name(int error);
/* Prints the requests of a run as one text after `name`: "[type dir size count ...] result". */
void say_run(const struct context *, const char *name, const struct run *, const char *result);

/* True if a line applies to the profile; else prints "NAME: n/a". `profiles`: ON_* bits. */
bool applies(const struct context *, unsigned int profiles, const char *name);

/* ---- server.c ---- */

/* Creates a server, maps its pages, leaves it disabled. 0 or -1 with errno. */
int server_create(struct context *, struct server *, int bufioreq);
/* Enables it and binds every port. 0 or -1 with errno. */
int server_enable(struct context *, struct server *);
/* server_create and server_enable with one range of the access's type: a frequent pair. */
int server_open(struct context *, struct server *, bool mmio, uint64_t start, uint64_t end);
/* Unbinds, unmaps, destroys; harmless on one that is not there. */
void server_close(struct context *, struct server *);
/* Unbinds all ports and unmaps the pages but leaves Xen's server as it is. */
void server_forget(struct context *, struct server *);
/* Takes events until `ms` passed without any that were for `count` servers; notes them in them. */
void servers_pump(struct context *, struct server *servers, unsigned int count, unsigned int ms);
/* The state of a slot, with acquire semantics. */
unsigned int slot_state(const struct server *, unsigned int vcpu);
/* Writes data, then the state, then notifies if wanted. */
void slot_answer(struct context *, struct server *, unsigned int vcpu, uint64_t data, unsigned int state,
                 bool notify);
/* Waits until a slot is READY and copies it; false after a few seconds. */
bool slot_wait(struct context *, struct server *, unsigned int vcpu, struct ioreq *);

/* ---- run.c ---- */

/* Waits for a started command; false after `ms`. */
bool command_wait(struct context *, unsigned int vcpu, unsigned int ms, uint64_t *result, bool *aborted);
/* Runs a command on vCPU 0 and answers every request with `answer` until it is done. */
void run(struct context *, struct server *servers, unsigned int count, const struct command *,
         uint64_t answer, struct run *);
/* The same without any server: for accesses that nobody claims. */
uint64_t run_alone(struct context *, const struct command *, bool *aborted);
/* Sleeps. */
void pause_ms(unsigned int ms);

/* ---- commands, for short rules ---- */

static inline struct command pio_out(unsigned int size, uint64_t port, uint64_t value)
{
    return (struct command){ .op = GUEST_PIO_OUT, .size = size, .addr = port, .value = value };
}

static inline struct command pio_in(unsigned int size, uint64_t port)
{
    return (struct command){ .op = GUEST_PIO_IN, .size = size, .addr = port };
}

static inline struct command mem_write(unsigned int size, uint64_t gpa, uint64_t value)
{
    return (struct command){ .op = GUEST_WRITE, .size = size, .addr = gpa, .value = value };
}

static inline struct command mem_read(unsigned int size, uint64_t gpa)
{
    return (struct command){ .op = GUEST_READ, .size = size, .addr = gpa };
}

/* The plainest access of the profile: PIO at ctx->port on x86, MMIO at ctx->mmio on Arm. */
struct command plain_write(const struct context *, unsigned int size, uint64_t value);
struct command plain_read(const struct context *, unsigned int size);
/* A server, enabled and bound, that claims the first 16 bytes of that range. 0 or -1 with errno. */
int plain_server(struct context *, struct server *);

/* ---- rules_*.c: each runs one rule and prints its lines ---- */

void rule_ids(struct context *, const char *rule);
void rule_targets(struct context *, const char *rule);
void rule_info(struct context *, const char *rule);
void rule_resource(struct context *, const char *rule);
void rule_ranges(struct context *, const char *rule);
void rule_vp_eport(struct context *, const char *rule);
void rule_bind(struct context *, const char *rule);
void rule_notify(struct context *, const char *rule);
void rule_masked(struct context *, const char *rule);
void rule_fields(struct context *, const char *rule);
void rule_answers(struct context *, const char *rule);
void rule_silent_answer(struct context *, const char *rule);
void rule_two_vcpus(struct context *, const char *rule);
void rule_bad_state(struct context *, const char *rule);
void rule_other_ops(struct context *, const char *rule);
void rule_mem_type(struct context *, const char *rule);
void rule_own(struct context *, const char *rule);
void rule_event_fd(struct context *, const char *rule);
void rule_exec(struct context *, const char *rule);
void rule_misused_slot(struct context *, const char *rule);
void rule_destroyed_pending(struct context *, const char *rule);
void rule_priority(struct context *, const char *rule);
void rule_partial(struct context *, const char *rule);
void rule_rep(struct context *, const char *rule);
void rule_crossing(struct context *, const char *rule);
void rule_config(struct context *, const char *rule);
void rule_config_latch(struct context *, const char *rule);
void rule_invalidate(struct context *, const char *rule);
void rule_killed(struct context *, const char *rule);
void rule_foreign(struct context *, const char *rule);
void rule_ballooned(struct context *, const char *rule);
void rule_spi(struct context *, const char *rule);
void rule_msi(struct context *, const char *rule);
void rule_intx(struct context *, const char *rule);
/* Bodies of child processes (hidden options --child-...): exit status. child_adopt takes an fd first. */
int child_exec(unsigned int domid, unsigned int port);
int child_adopt(unsigned int fd, unsigned int port);
int child_hold(unsigned int domid, unsigned int port);
int child_restricted(unsigned int domid, unsigned int port);
void rule_restrict(struct context *, const char *rule);
void rule_ring(struct context *, const char *rule);
void rule_gone(struct context *, const char *rule);

#endif
