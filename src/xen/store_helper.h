/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside the xenstore helper: store_helper.c (connection, domains), store_trees.c, store_changes.c. */
#ifndef XEN_STORE_HELPER_H
#define XEN_STORE_HELPER_H

#include <xenstore.h>

#include "xen/store_message.h"

#define TREE_BRANCHES_MAX 4096u /* that wait to be told, of one tree */

struct helper_tree {
    uint32_t id; /* 0: free */
    unsigned depth;
    bool watched;
    bool all;     /* what branches there are must be looked up: everything is told again */
    bool ending;  /* BEGIN was said; END is due when no branch waits */
    char **dirty; /* names of branches to be told, oldest first */
    unsigned dirty_count;
    char path[STORE_PATH_MAX + 1];
};

struct helper {
    int fd; /* to the daemon, blocking: a slow daemon slows us down */
    struct xs_handle *xs;
    uint32_t epoch;                      /* counts connections to xenstored */
    bool watching;                       /* @introduceDomain and @releaseDomain are ours to watch */
    bool domains_dirty;                  /* a reason to look at the domains */
    struct store_domain *domains, *sent; /* the snapshot being made, and the last one told */
    unsigned count, sent_count;
    bool told;                           /* the daemon has a snapshot of this connection */
    uint16_t *place;                     /* by domid: its index in sent, plus 1 */
    struct helper_tree trees[STORE_TREES_MAX];
    unsigned next_tree;
    char *bytes; /* STORE_BRANCH_BYTES: the branch being read */
};

enum helper_step {
    STEP_IDLE,  /* there was nothing to do */
    STEP_DONE,  /* there may be more */
    STEP_LATER, /* there is more, but not just now */
    STEP_DEAD,  /* the connection to xenstored */
    STEP_END,   /* the daemon is gone */
};

/* False: the daemon is gone. */
bool helper_put(struct helper *h, const struct store_message *message);
/* Is the connection to xenstored alive? Asks. */
bool helper_alive(struct helper *h);
/* One command of the daemon's, if there is one. Of another connection's epoch it is dropped. */
enum helper_step helper_command(struct helper *h);

/* store_trees.c */
int tree_begin(struct helper *h, uint32_t id, const char *path, unsigned depth);
void tree_end(struct helper *h, uint32_t id);
void trees_forget(struct helper *h); /* before a connection */
/* xenstored says that something at `path` has changed; `token` is as in the watch. */
void trees_event(struct helper *h, const char *path, const char *token);
void trees_domain(struct helper *h, unsigned domid); /* the domain came, went or changed */
/* Those that can't be watched are looked at again. */
void trees_poll(struct helper *h);
/* Tells of one branch. */
enum helper_step trees_step(struct helper *h);

/* store_changes.c: 0 or a negative errno; a dead connection shows in helper_alive. */
int changes_make(struct helper *h, const char *bytes, uint32_t size);

#endif
