/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside src/xen: what xenstore helper and daemon say to each other, one SOCK_SEQPACKET packet a message. */
#ifndef XEN_STORE_MESSAGE_H
#define XEN_STORE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/store.h"

#define STORE_HELPER_OPTION "--xenstore-helper"

/* The helper says something at least so often; a daemon that heard nothing for the limit holds it for stuck.
 */
#ifndef STORE_ALIVE_MS /* a test has less patience */
#define STORE_ALIVE_MS 5000
#define STORE_STALL_MS 20000
#endif

#define STORE_DOMAINS_MAX 4096u /* of one snapshot */
#define STORE_DOMID_END 0x7ff0u /* DOMID_FIRST_RESERVED: no domain has this or a higher id */
#define STORE_BRANCH_BYTES (256u << 10) /* paths and values of one branch */
#define STORE_DEPTH_MAX 4u

/* ---- to the daemon ---- */

enum store_message_kind {
    STORE_ALIVE = 1,  /* nothing new */
    STORE_DOMAIN,     /* one domain of the snapshot being sent */
    STORE_END,        /* the snapshot is complete: all that came since the last END */
    STORE_LOST,       /* xenstored is away: why says how; trying again. Trees and commands are forgotten */
    STORE_TREE_BEGIN, /* all branches follow; domain.domid is our own */
    STORE_NODE,       /* one node of the branch that comes next */
    STORE_BRANCH,     /* the branch is complete */
    STORE_TREE_END,
    STORE_CHANGED,    /* a change was made, or not */
};

struct store_message {
    uint32_t kind;
    uint32_t epoch; /* END: counts the helper's connections */
    uint32_t id;    /* of the tree, or of the change */
    int32_t error;  /* CHANGED */
    union {
        struct store_domain domain;
        char why[160];
        struct {
            char name[STORE_PATH_MAX + 1];
            bool whole, introduced;
            struct store_domain domain; /* if introduced */
        } branch;
        struct {
            uint32_t path_size, value_size; /* with their NULs; value_size 0: it is no text */
            char bytes[STORE_PATH_MAX + STORE_VALUE_MAX + 2];
        } node;
    };
};
/* How much of the message is sent. 0: no such kind. */
size_t store_message_size(const struct store_message *message);

/* ---- to the helper ---- */

enum store_command_kind {
    STORE_TREE = 1,  /* watch the tree whose path is in bytes */
    STORE_TREE_FREE, /* tell no more of it */
    STORE_CHANGE,    /* bytes: per change its kind, path, value and was (the last two as the kind says) */
};
/* Kinds of one change. */
#define STORE_WRITE 'w'
#define STORE_REPLACE 'c' /* has a was, too */
#define STORE_REMOVE 'r'  /* only a path */
#define STORE_REMOVE_IF 'i' /* path and was */

struct store_command {
    uint32_t kind;
    uint32_t epoch; /* the connection it is meant for; another one's is dropped */
    uint32_t id;
    uint32_t depth; /* TREE */
    uint32_t size;  /* of bytes */
    char bytes[8192];
};

/* Is it text that may be compared and printed: ended within size, no control characters? */
bool store_text_valid(const char *text, size_t size);
/* Is it a path that xenstored takes, no longer than STORE_PATH_MAX? */
bool store_path_valid(const char *path);

#endif
