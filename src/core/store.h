/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the core wants to know of xenstore: which domains are introduced. libxenstore blocks without limit, so
 * the implementation (src/xen/store.c) keeps it in a helper process; all of this is answered later, on the
 * loop.
 */
#ifndef CORE_STORE_H
#define CORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

struct store;

struct store_domain {
    uint16_t domid;
    char name[128]; /* /local/domain/ID/name; empty if none */
    char type[16];  /* /libxl/ID/type: "hvm", "pvh", "pv"; empty if none */
    char uuid[40];  /* from /local/domain/ID/vm; empty if none */
};

struct store_events {
    /* All introduced domains, at the beginning and after each @introduceDomain and @releaseDomain. */
    void (*domains)(void *self, const struct store_domain *domains, unsigned count);
    /* xenstored can't be reached (again); tried again by itself. `why` is one line. */
    void (*lost)(void *self, const char *why);
};

struct store_ops {
    /* Begins to report. Once. */
    int (*watch)(struct store *store, const struct store_events *events, void *self);
    /* Ends the helper. */
    void (*destroy)(struct store *store);
};

struct store {
    const struct store_ops *ops;
};

#endif
