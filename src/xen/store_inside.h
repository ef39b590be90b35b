/* SPDX-License-Identifier: BSD-2-Clause */
/* The daemon's side of xenstore: store.c (the helper's life) and store_mailbox.c (trees, changes). */
#ifndef XEN_STORE_INSIDE_H
#define XEN_STORE_INSIDE_H

#include <sys/types.h>

#include "core/list.h"
#include "core/loop.h"
#include "core/store.h"
#include "xen/store_message.h"

/* What the daemon wants done, kept until the helper has said that it is. */
struct mailbox_change {
    struct list link;
    bool sent; /* on this connection */
    void (*done)(void *self, int error); /* NULL: forgotten */
    void *self;
    size_t size;
    struct store_command command; /* allocated only as far as its bytes go */
};

struct store_tree {
    struct list link;
    struct mailbox *mailbox;
    uint32_t id;
    unsigned depth;
    bool sent;
    const struct store_tree_events *events;
    void *self;
    char path[STORE_PATH_MAX + 1];
};

struct mailbox {
    struct loop *loop;
    bool connected;  /* xenstored can be asked: commands may be sent */
    uint32_t epoch;
    int fd;          /* of the helper; -1: none */
    struct loop_watch *watch; /* the helper's; events are set by us */
    struct list trees, changes; /* oldest first */
    unsigned tree_count, change_count;
    uint32_t next_id;

    /* the branch being received */
    uint32_t branch_tree;
    char *bytes;
    size_t used, room;
    unsigned nodes;
    struct store_node *table; /* STORE_NODES_MAX of them, made when the first one comes */
};

void mailbox_init(struct mailbox *mailbox, struct loop *loop);
void mailbox_finish(struct mailbox *mailbox);
/* A snapshot of the domains came over the helper's connection `epoch`. */
void mailbox_connected(struct mailbox *mailbox, uint32_t epoch);
/* The connection, or the helper with it, is gone. */
void mailbox_lost(struct mailbox *mailbox);
/* Sends what waits; by the helper's watch, too. */
void mailbox_flush(struct mailbox *mailbox);
/* One message of the mailbox's kinds. False: it breaks the protocol. It may have called back. */
bool mailbox_hear(struct mailbox *mailbox, const struct store_message *message);

struct store_tree *mailbox_tree_add(struct mailbox *mailbox, const char *path, unsigned depth,
                                    const struct store_tree_events *events, void *self);
void mailbox_tree_remove(struct store_tree *tree);
int mailbox_change(struct mailbox *mailbox, const struct store_change *changes, unsigned count,
                   void (*done)(void *self, int error), void *self);
void mailbox_forget(struct mailbox *mailbox, void *self);

/* Is it a domain as the helper may tell it: a possible domid, and printable text? */
bool store_domain_valid(const struct store_domain *domain);

#endif
