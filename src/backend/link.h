/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's network interfaces: settings by ioctl, and news of them by one netlink socket. The calls
 * work on an interface's name; each answers 0 or a negative errno.
 */
#ifndef BACKEND_LINK_H
#define BACKEND_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/error.h>

#include "core/list.h"

struct daemon;
struct links;

struct link_state {
    bool up;      /* administratively, and it has a carrier */
    unsigned mtu; /* bytes */
};

/* Who wants to hear of an interface; in its owner's memory. */
struct link_listener {
    struct list link;
    int index; /* of the interface */
    void (*changed)(void *self);
    void *self;
};

/* NULL with *error filled. Given back with links_put. */
struct links *links_get(struct daemon *daemon, struct iod_error *error);
void links_put(struct daemon *daemon);

void links_listen(struct links *links, struct link_listener *listener);
void links_forget(struct link_listener *listener); /* a listener of zeros is fine */

/*
 * An interface that is being taken down: a script still works on it. Holds the links until it is forgotten. NULL: out of
 * memory.
 */
struct link_leaving;
struct link_leaving *link_leaving_add(struct daemon *daemon, const char *name);
void link_leaving_end(struct link_leaving *leaving); /* NULL: nothing */
bool link_is_leaving(const struct links *links, const char *name);

int link_index(struct links *links, const char *name); /* from 1; -ENODEV */
int link_look(struct links *links, const char *name, struct link_state *state);
/* Frames for the interface that it dropped (IFLA_STATS_LINK_64's tx_dropped), since it was made. */
int link_dropped(struct links *links, int index, uint64_t *frames);
int link_set_mtu(struct links *links, const char *name, unsigned mtu);
int link_set_up(struct links *links, const char *name);
/* As a port of a bridge that must not take the interface's address for its own. */
int link_set_port_address(struct links *links, const char *name);
int bridge_add(struct links *links, const char *bridge, const char *name);    /* -EBUSY: it is in one */
int bridge_remove(struct links *links, const char *bridge, const char *name);

#endif
