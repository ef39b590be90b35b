/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the daemon wants of xenstore: which domains are introduced, what stands in a few trees, and changes.
 * libxenstore blocks without limit, so the implementation (src/xen/store.c) keeps it in a helper process; all
 * of this is answered later, on the loop.
 */
#ifndef CORE_STORE_H
#define CORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

struct store;
struct store_tree;

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

/* ---- trees: PATH/BRANCH/..., of which whole branches are told ---- */

#define STORE_PATH_MAX 255   /* characters of a path, of a node below its branch, and of a branch's name */
#define STORE_VALUE_MAX 2047 /* characters of a value */
#define STORE_NODES_MAX 1024 /* of one branch */
#define STORE_TREES_MAX 8

struct store_node {
    const char *path;  /* below the branch: "51712/state" */
    const char *value; /* NULL: not text without control characters of at most STORE_VALUE_MAX bytes */
};

struct store_branch {
    const char *name; /* printable */
    const struct store_domain *domain; /* the introduced domain whose domid the name is; else NULL */
    const struct store_node *nodes;    /* those at the tree's depth; read at one point in time */
    unsigned count;   /* 0: there are none (any more) */
    bool whole;       /* false: there are more than fit; none is told */
};

/* All of it holds until the callback returns. */
struct store_tree_events {
    /* What follows until `end` is everything that there is. `own`: the domid of the domain that runs us. */
    void (*begin)(void *self, uint16_t own);
    /* Its nodes have changed (or not), or its domain came, went, or has another type now. Also before the first begin. */
    void (*branch)(void *self, const struct store_branch *branch);
    void (*end)(void *self);
};

/* One of the changes that are made together, or not at all. */
struct store_change {
    const char *path;  /* absolute, or relative to our own domain's */
    const char *value; /* NULL: the node, and all below it, is removed; one that is not there is fine */
    const char *was;   /* the node must hold this, else -ESTALE (no node: -ENOENT); NULL: whatever */
};

struct store_ops {
    /* Begins to report. Once. */
    int (*watch)(struct store *store, const struct store_events *events, void *self);
    /* Ends the helper. Changes that wait are dropped without a word, trees are forgotten. */
    void (*destroy)(struct store *store);
    /*
     * Begins to tell of the tree at `path` (absolute, or relative to our own domain's): its nodes `depth` (1
     * to 4) levels below each branch. While xenstored is away, nothing is told; it begins anew when it is
     * back. `events` must last. NULL: out of memory, the path is bad, or there are STORE_TREES_MAX.
     */
    struct store_tree *(*tree_add)(struct store *store, const char *path, unsigned depth,
                                   const struct store_tree_events *events, void *self);
    void (*tree_remove)(struct store_tree *tree); /* also inside its events; NULL is fine */
    /*
     * Makes the changes, in one transaction, after the ones asked for before; while xenstored is away they
     * wait. One that was made when the connection was lost may be made again (with `was`: is -ESTALE then).
     * done(self, error) is called once, later: 0 or a negative errno. Returns 0; else nothing will be done:
     * -EINVAL (bad path or text), -E2BIG (too much for one message), -ENOBUFS (too many wait), -ENOMEM.
     */
    int (*change)(struct store *store, const struct store_change *changes, unsigned count,
                  void (*done)(void *self, int error), void *self);
    /* No `done` is called for this self any more; the changes themselves go on. */
    void (*forget)(struct store *store, void *self);
};

struct store {
    const struct store_ops *ops;
};

#endif
