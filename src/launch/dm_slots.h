/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI slots that two owners want: found in QEMU's arguments before it runs, and in its query-pci when it
 * does. */
#ifndef LAUNCH_DM_SLOTS_H
#define LAUNCH_DM_SLOTS_H

#include <ioreqd/error.h>

#include "launch/dm_args.h"
#include "launch/query_pci.h"

/* Do QEMU's -device arguments place something where a spec of ours is (addr= of both)? 0 or -EEXIST. */
int dm_slots_check_arguments(const struct dm_args *args, struct iod_error *error);
/*
 * The same with what QEMU says that it has on its first bus, and what living ioreqds hold of the guest by their
 * records (record_dir: where ioreqd keeps them unless it is told otherwise). 0 or -EEXIST.
 */
int dm_slots_check_owners(const struct dm_args *args, const char *record_dir, const struct pci_owner *owners,
                          unsigned count, struct iod_error *error);

#endif
