/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Counters, kept since a guest was attached; they only grow, but for those marked "now". Keys are stable:
 *
 * stats of a guest:
 *   accesses { pio, mmio, pci-config, timeoffset, invalidate, other }  requests taken, by type
 *   ring          requests among them that came by the buffered ring
 *   points { event, take, ..., guest_error }   how often each probe point (probe.h) was passed
 *   handler-calls, deferred, parked, notifies  (points of that name, for people)
 *   malformed, unclaimed, guest-errors, map-misses, invalidates, commits, resets, empty-kicks
 *   stuck         accesses that waited longer than the guest's limit; stuck-ended of them: read all ones early
 *   waiting       now: accesses that were not answered within their batch
 *   limit { limited (boolean, now), times, limited-ns (in all), delayed (requests served in its turns),
 *           points (now: of this second), spent-ns (of the loop's time, while it was measured), debt-ns (of it, more
 *           than its share so far: it waits until that is earned), share-ppm (in the last second measured) }
 * stats of a device: accesses (handler calls), guest-errors, kicks, pops, pushes, interrupts, submits,
 *   finishes,
 *   submitted-bytes; of them reads, read-bytes, writes, written-bytes; frames-received, bytes-received, frames-sent,
 *   bytes-sent, counters { those of its class }, regions [ { name, hits } ]
 * stats of a server: accesses (requests taken), ring (of them by the buffered ring)
 */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include <stdint.h>

#include <ioreqd/error.h>

#include "core/inspect.h"

struct daemon;
struct guest;
struct iod_device;
struct iod_region;
struct server;

/* Each names its members into the object that is open. For daemon_inspect. */
void stats_inspect(const struct guest *guest, struct inspector *inspector);
void stats_inspect_device(const struct iod_device *device, struct inspector *inspector);
void stats_inspect_counters(const struct iod_device *device, struct inspector *inspector); /* of its class */
void stats_inspect_server(const struct server *server, struct inspector *inspector);
uint64_t stats_region_hits(const struct iod_region *region); /* handler calls */

/*
 * A list into the object that is open, by this key (NULL: into the list that is open): per guest (domain
 * NULL: all) { domain, name (if known), domid (if known), stats {}, servers [ { id, accesses, ring } ],
 * devices [ { id, class, ... } ] }. -ENOENT: no such guest.
 */
int stats_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error);
/* Members of the daemon's own: guests, limited (now), waiting (now), traces (now), latency (boolean). */
void stats_daemon(const struct daemon *daemon, struct inspector *inspector);

#endif
