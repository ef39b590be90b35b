/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the nodes of one device in xenstore to a device spec. Pure functions: what stands in xenstore was
 * written by a toolstack, but anything may stand there.
 */
#ifndef CONFIG_XENSTORE_NODE_H
#define CONFIG_XENSTORE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ioreqd/error.h>

#include "core/spec.h"
#include "core/store.h"

enum xenstore_kind {
    XENSTORE_DISK,   /* backend/virtio_disk/DOMID/DEVID/KEY: libxl's disk=[specification=virtio], 4.17 */
    XENSTORE_VIRTIO, /* backend/virtio/DOMID/DEVID/KEY: libxl's virtio=[...], 4.18 */
    XENSTORE_OWN,    /* ioreqd/DOMID/N: a device spec, our own */
};
#define XENSTORE_KINDS 3
#define XENSTORE_NAME_MAX 32 /* characters of DEVID or N */
#define XENSTORE_OPTIONS "options" /* the N that is none */

/* Where the device is to be. */
struct xenstore_place {
    uint16_t domid;
    uint16_t own; /* the domid of the domain that runs us */
    enum guest_arch arch;
    enum guest_type type;
    bool pv; /* the domain is a PV guest, which nothing can be emulated for */
};

enum xenstore_verdict {
    XENSTORE_IGNORE, /* not for us, or not (or no more) asking */
    XENSTORE_SERVE,
    XENSTORE_CLOSE,  /* libxl takes it away */
    XENSTORE_REFUSE,
};
struct xenstore_node {
    enum xenstore_verdict verdict;
    char state[4]; /* the node's xenbus state ("1" to "6"); empty: it has none */
    char *spec;    /* SERVE: the device's text, with an id=; the caller frees it */
    char id[64];   /* SERVE */
    bool pci;      /* SERVE: the device sits on PCI */
    char why[200]; /* REFUSE: one line; what was expected is in it */
};

/* Is it a name of a device: of DEVID's or N's characters, no longer than XENSTORE_NAME_MAX? */
bool xenstore_name_valid(enum xenstore_kind kind, const char *name, size_t length);

/*
 * Reads the device `name` out of its branch (nodes are as struct store_branch has them). 0, or -ENOMEM; the
 * node is the caller's all the same.
 */
int xenstore_node_read(struct xenstore_node *node, enum xenstore_kind kind, const char *name,
                       const struct store_branch *branch, const struct xenstore_place *place);

/* What ioreqd/DOMID/options says of the guest. */
struct xenstore_options {
    enum guest_type type; /* GUEST_UNKNOWN: not said */
    bool has_beside, beside;
    bool has_pci_host, pci_host;
    unsigned slots;
    uint64_t map_limit;
};
/* `text` is KEY=VALUE,...; NULL or "": nothing is said. 0 or -EINVAL, -ENOMEM with *error filled. */
int xenstore_options_read(struct xenstore_options *options, const char *text, struct iod_error *error);

#endif
