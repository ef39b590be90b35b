/* SPDX-License-Identifier: BSD-2-Clause */
/* A flattened device tree, reduced to what a guest's emulator needs: where its devices are, and dom0less
 * domains. */
#ifndef CONFIG_DEVICE_TREE_H
#define CONFIG_DEVICE_TREE_H

#include <stddef.h>

#include "config/config.h"

/* Xen's phandle of the interrupt controller that it makes for a guest (GUEST_PHANDLE_GIC). */
#define GIC_PHANDLE 0xfde8u
/* The property of a virtio,mmio node that says what serves it: a text as for --device, without base= and
 * irq=. */
#define DEVICE_PROPERTY "ioreqd,device"

/* A node with a `reg`. */
struct tree_node {
    char *path;
    const char *unit;    /* the last part of the path: "virtio@2000000" */
    bool virtio;         /* compatible "virtio,mmio" */
    bool disabled;       /* status says that the guest leaves it alone */
    bool edge;           /* its interrupt is edge rising */
    uint64_t base, size; /* guest physical */
    int irq;             /* INTID; -1: none */
    char *device;        /* DEVICE_PROPERTY, or NULL */
    char *problem;       /* why base or irq can't be told; or NULL */
};

/* A dom0less domain of the host's tree. */
struct tree_domain {
    char *path;
    unsigned domid; /* 1 for the first, as Xen counts */
    char **devices; /* "ioreqd,devices" */
    unsigned device_count;
    char *tree; /* "ioreqd,device-tree": a file with the domain's partial tree; or NULL */
};

struct device_tree {
    char *name; /* the file, for findings */
    struct tree_node *nodes;
    unsigned count;
    struct tree_domain *domains;
    unsigned domain_count;
};

/* From a .dtb file, or from bytes. NULL with a fatal finding. */
struct device_tree *device_tree_read(const char *path, struct findings *findings);
struct device_tree *device_tree_parse(const void *bytes, size_t size, const char *name,
                                      struct findings *findings);
void device_tree_destroy(struct device_tree *tree);

/* By whole path or by its last part; NULL with *why ("has no node ...", "has several nodes ..."). */
const struct tree_node *device_tree_find(const struct device_tree *tree, const char *name, const char **why);
const struct tree_node *device_tree_at(const struct device_tree *tree, uint64_t base);

#endif
