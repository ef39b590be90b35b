/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Accesses that wait. One that was not answered within its batch is noted with the time; one that waits
 * longer than its guest's limit (guest_spec.stuck_ms) is reported once: a line, EVENT_STUCK, and the guest's
 * policy:
 *
 *   STUCK_WAIT    no more than the report.
 *   STUCK_ONES    A read gets all ones; the device reads all ones from then on, until it ends what it had deferred.
 *                 A write is never ended early: its end may be the device's word that it touches guest memory
 *                 no more (a reset, a queue's disabling), and a driver frees that memory then.
 *   STUCK_DETACH  The device is broken (iod_device_broken): its I/O is cancelled, and it reads all ones at once. A
 *                 write ends when the cancel is done, for the same reason.
 *
 * While a guest is paused or limited its accesses wait by intent: they are listed, not reported.
 */
#ifndef CORE_STUCK_H
#define CORE_STUCK_H

#include <ioreqd/error.h>

#include "core/inspect.h"

struct daemon;

#define STUCK_DEFAULT_MS 10000u

/*
 * A list into the object that is open, by this key, longest wait first (domain NULL: of all guests): {
 * domain, domid, vcpu (or ring: true), server, type ("pio", "mmio", "pci-config"), write (boolean), address,
 * size, count, element, value (of a write), device, region (if they are known), state ("deferred", "parked",
 * "behind-ring", "ready", "delayed"), waits-ns, reported (boolean) }. -ENOENT.
 */
int stuck_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error);

#endif
