/* SPDX-License-Identifier: BSD-2-Clause */
/* The netdev "tap". tap_interface.c finds or makes the interface, net_tap.c moves the frames. */
#ifndef BACKEND_TAP_H
#define BACKEND_TAP_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/netdev.h>

#include "backend/child.h"
#include "backend/link.h"

struct loop_watch;
struct tap;

/* One queue pair: one descriptor. */
struct tap_pair {
    struct tap *tap;
    unsigned number;
    int fd;
    struct loop_watch *watch;
    bool attached;   /* the kernel sends and takes frames here */
    bool stuck;      /* a send found no room: a writable event is owed */
    size_t kept;     /* bytes of the frame in `buffer` that the device had no room for; 0: none */
    uint8_t *buffer; /* IOD_NET_HEADER + IOD_NET_FRAME_MAX bytes */
};

struct tap {
    struct iod_netdev *netdev;
    struct links *links;
    struct link_listener listener;
    char name[IFNAMSIZ];
    unsigned count;        /* of pairs */
    struct tap_pair pairs[IOD_NET_PAIRS_MAX];
    bool made;             /* the interface is ours: it goes with our descriptors */
    bool bridged;          /* we put it in its bridge */
    bool lost;             /* somebody deleted it */
    bool drops_hints;      /* DATA_VALID is not for this device */
    bool scripted;         /* the script ran with "add" */
    int header_before;     /* of an interface that was there: its vnet header's size, to be given back */
    struct child *script;
    struct loop_timer *retry; /* the interface's last script is still at work */
    uint32_t takes, gives; /* offloads */
    uint64_t host_dropped; /* frames for the guest, as the host has counted them */
};

/*
 * Opens the interface that the options name, with up to `wanted` pairs, all but the first detached; fills
 * name, count, pairs[].fd, made, header_before, takes, gives. 0 or a negative errno with *error filled; what
 * is open then is closed by tap_interface_close.
 */
int tap_interface_open(struct tap *tap, unsigned wanted, struct iod_error *error);
/* Address, MTU, bridge, up. */
int tap_interface_set_up(struct tap *tap, struct iod_error *error);
void tap_interface_close(struct tap *tap);
/* 0 or a negative errno. */
int tap_attach_pair(struct tap_pair *pair, bool attach);
int tap_set_offloads(struct tap *tap, uint32_t offloads);

/* Runs the script with "add"; `done` is called later. 0 or a negative errno with *error filled. */
int tap_script_add(struct tap *tap, void (*done)(void *self, const struct child_end *end),
                   struct iod_error *error);
/* Starts the script with "remove"; the interface stays until it has ended, and the next one of its name waits for that. */
void tap_script_remove(struct tap *tap);
/* Does the script of a card that had this interface still run? Then it must not be opened yet. */
bool tap_must_wait(const struct tap *tap);

extern const struct iod_option tap_options[];

#endif
