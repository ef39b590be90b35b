/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts of config_check. Each marks in `bad` (by device of the guest) what it found fault with. */
#ifndef CONFIG_CHECK_H
#define CONFIG_CHECK_H

#include "config/places.h"

/* Addresses and interrupts of an Arm guest, against each other, Xen's memory map and the guest's tree (or
 * NULL). */
void check_places(const struct guest_spec *guest, const struct device_tree *tree, bool *bad,
                  struct findings *findings);
/* How many ioreq servers its ranges need. */
void check_servers(const struct guest_spec *guest, struct findings *findings);
/* Image files of all guests: there, large enough, and no two writers. */
void check_images(const struct config *config, struct findings *findings);

/* A guest's xl.cfg(5), which has its disks by specification=virtio. As config_check. */
int check_xl_cfg(const char *path, struct findings *findings);

/* Where a device was asked for, for findings. */
const char *check_where(const struct guest_spec *guest, const struct device_spec *device);

#endif
