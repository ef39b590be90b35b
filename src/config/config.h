/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What stands in files: the configuration file with its conf.d, and device trees. Both produce guest_specs;
 * what is wrong with them is a list of findings, each with its place and its remedy. Nothing here needs Xen.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <ioreqd/error.h>
#include <ioreqd/log.h>

#include "core/spec.h"

/* ---- findings ---- */

struct finding {
    bool fatal;   /* else a warning: the configuration works, but perhaps not as was meant */
    char *where;  /* "FILE:LINE", "FILE" or "FILE:NODE" */
    char *what;   /* one line, printable */
    char *remedy; /* likewise; NULL: what says it all */
};
/* Starts as all zeros. */
struct findings {
    struct finding *list;
    unsigned count;
    bool cut; /* there are more than the list holds (too many, or out of memory); counts as fatal */
};

void findings_add(struct findings *findings, bool fatal, const char *where, const char *remedy,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Is one of them fatal? */
bool findings_fatal(const struct findings *findings);
/* One of those behind the first `before` ones? */
bool findings_fatal_since(const struct findings *findings, unsigned before);
/* One line each: `WHERE: WHAT; REMEDY`, a warning's WHAT begins with "warning: ". */
void findings_print(const struct findings *findings, FILE *to);
/* The first fatal one as an error ("WHERE: WHAT; REMEDY"); its negative errno, or 0: there is none. */
int findings_error(const struct findings *findings, struct iod_error *error);
void findings_finish(struct findings *findings);

/* ---- the configuration ---- */

struct device_tree;

struct config {
    struct guest_spec *guests;  /* each domain once; each waits; no node= is left in its devices */
    struct device_tree **trees; /* by guest: the device tree that it boots with; NULL: none is known */
    unsigned count;
    /* Of the daemon; NULL or !has_...: not said. */
    char *record_dir;    /* "none": no records */
    char *control;       /* path of the control socket; "none": no socket */
    char *control_group; /* who may use it besides root */
    char *device_tree;   /* the host's: a .dtb file or /sys/firmware/fdt; its guests are in `guests` */
    char **modules;      /* module_count paths */
    unsigned module_count;
    bool has_log_level, has_xenstore;
    enum iod_log_level log_level;
    bool xenstore;
};

/*
 * Reads the file at `path` and conf.d/NAME.conf beside it (C locale order; hidden files are left out), and
 * the device trees that they name. *config is filled on success and is the caller's, to be given to
 * config_finish; after an error it is empty. 0; -ENOENT: the file does not exist; -EINVAL, -ENOMEM or what
 * else went wrong: findings say why. On success findings may hold warnings. It reads files and may so take a
 * while: /etc is trusted to answer.
 */
int config_load(const char *path, struct config *config, struct findings *findings);
/* The same for a text that stands nowhere else; `name` stands for the file in findings. No conf.d. */
int config_load_text(const char *text, const char *name, struct config *config, struct findings *findings);
void config_finish(struct config *config);

/*
 * Adds the guests of the host's device tree (dom0less: /chosen's nodes "xen,domain", domids from 1 in their
 * order) with the devices that "ioreqd,devices" names. `path`: a .dtb file, or the running machine's
 * /sys/firmware/fdt. A guest that *config has already gets the devices, too. 0, or -EINVAL with findings:
 * *config is then good for config_finish only. config_load does it by itself for the file's `device-tree`.
 */
int device_tree_load(const char *path, struct config *config, struct findings *findings);

/* ---- checks, without Xen ---- */

struct config_check {
    const char *dtb; /* the tree of each guest that has none of its own; NULL: none */
    /*
     * The core's own trial of a guest (do its devices and options exist, do they fit together): 0 or a
     * negative errno with *error. NULL: not tried. It is called many times for a guest with an error: with
     * fewer devices, to find out which one it is.
     */
    int (*check_guest)(void *self, const struct guest_spec *guest, struct iod_error *error);
    void *self;
};
/*
 * config_load's findings, and those about what the configuration names: image files, places in the guest's
 * address space, interrupts, ranges and servers, names without xenstore. A `path` that ends with .cfg is a
 * guest's xl.cfg(5): its disks with specification=virtio are looked at. Returns 0, or -EINVAL if there is a
 * fatal finding.
 */
int config_check(const char *path, const struct config_check *check, struct findings *findings);

/*
 * Prints the partial device tree (source, for dtc) that the guest named `domain` needs for its virtio-mmio
 * devices: "multiboot,device-tree" for dom0less, device_tree= for xl. A device without base= gets the next
 * free place of Xen's virtio-mmio window. 0, -ENOENT: no such guest, or -EINVAL (findings).
 */
int config_print_dt(const struct config *config, const char *domain, FILE *to, struct findings *findings);

#endif
