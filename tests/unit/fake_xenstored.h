/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process that speaks xenstored's protocol, as far as the helper asks, with whatever a test wants it to
 * answer: what no honest xenstored would say, or nothing at all. (The real one runs in
 * tests/mockxen/xenstore.)
 */
#ifndef FAKE_XENSTORED_H
#define FAKE_XENSTORED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define FAKE_DOMAINS 64

struct fake_node {
    char value[512];
    size_t length; /* 0: there is no such node */
};

struct fake_domain {
    char entry[16]; /* its name in /local/domain; empty: none */
    unsigned domid;
    bool introduced;
    struct fake_node name, vm, type;
};

/* Shared between the test and the fake. */
struct fake_state {
    struct fake_domain domains[FAKE_DOMAINS];
    unsigned generation;    /* raised by the test: @introduceDomain fires */
    bool watch_refused;     /* EACCES */
    unsigned requests_left; /* then the connection is cut; 0: no limit */
    unsigned requests;      /* served so far */
};

/* Memory for the state, then the process on the socket `path` (which it makes). */
struct fake_state *fake_state_create(void);
void fake_state_destroy(struct fake_state *state);
pid_t fake_start(struct fake_state *state, const char *path);
void fake_stop(pid_t pid); /* SIGKILL, also when it is stopped */

/* A domain as libxl writes it. */
void fake_set(struct fake_domain *domain, unsigned domid, const char *name, const char *type,
              const char *uuid);
void fake_node_set(struct fake_node *node, const void *value, size_t length);

#endif
