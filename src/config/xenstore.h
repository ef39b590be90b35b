/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xenstore as a source of guests: what stock libxl writes for virtio disks and devices, and a tree of our own
 * that anything able to write xenstore can use. Paths below are relative to the domain that runs ioreqd
 * (/local/domain/DOMID).
 *
 * libxl's:
 *   backend/virtio_disk/ID/DEVID/...  disk=['specification=virtio, backendtype=standalone, ...'] (libxl 4.17)
 *   backend/virtio/ID/DEVID/...       virtio=['type=virtio,deviceX, ...'] (libxl 4.18)
 * state 1 becomes 2 when the device answers the guest (libxl's create waits for just that), 5 (or online=0)
 * becomes 6 when its last I/O has ended. What can't be served: the reason goes to
 * error/backend/KIND/ID/DEVID/error and the log, and `state` is removed, which ends libxl's wait. In a domain
 * other than 0 the backend's directory is ours to remove after the 6.
 *
 * Our own:
 *   ioreqd/ID/N                a device spec, as on the command line: "virtio-blk,path=/srv/disk.img". N is up
 *                              to 32 letters, digits, "-" and "_". Written: the device comes, also while the
 *                              guest runs; removed: it goes, whether the guest's driver has let go of it or
 *                              not. Written anew: an error if the device is served, else another try.
 *   ioreqd/ID/options          of the guest, read when its first device comes: type=hvm|pvh, beside=on|off,
 *                              pci-host=on|off, slots=N, map-limit=SIZE
 *   ioreqd-status/ID/N/state   ours: "waiting", "running" or "error"; a tree beside the other one, so that we
 *   ioreqd-status/ID/N/error   don't hear what we write. error: why
 * ioreqd/ID may be written before domain ID exists; when that domain is gone, ioreqd removes it (domids come
 * again).
 *
 * A guest is added by its domid and goes with its domain; if a file's guest is served there already, the core
 * joins them. An x86 guest that no other emulator serves gets a pci-host with its first PCI device; an HVM
 * guest is taken to have QEMU (beside). xenstored may stall, die, lose all it knew: devices are served on,
 * and libxl's nodes or ours that are gone with it take no device away.
 */
#ifndef CONFIG_XENSTORE_H
#define CONFIG_XENSTORE_H

#include <ioreqd/error.h>

#include "core/daemon.h"
#include "core/spec.h"
#include "core/store.h"

struct xenstore_source;

/*
 * Begins to listen. `arch` is that of all guests it finds (guest_spec_init's default is this host's). Daemon
 * and store outlive it. NULL with *error filled: out of memory.
 */
struct xenstore_source *xenstore_source_create(struct daemon *daemon, struct store *store,
                                               enum guest_arch arch, struct iod_error *error);
/* Its guests stay in the daemon; xenstore is left as it is. NULL is fine. */
void xenstore_source_destroy(struct xenstore_source *source);

#endif
