/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How long vCPUs wait: from the event that brings a request to its answer, as histograms per guest, device
 * and region (of the part served last). In powers of two of nanoseconds. Off, it costs nothing; on, two
 * readings of the clock an access.
 */
#ifndef CORE_LATENCY_H
#define CORE_LATENCY_H

#include <stdbool.h>

#include <ioreqd/error.h>

#include "core/inspect.h"

struct daemon;

/* For all guests, also those to come. What was gathered stays until latency_reset. */
void latency_set(struct daemon *daemon, bool on);
bool latency_on(const struct daemon *daemon);
/* Forgets what was gathered. domain NULL: of all guests. -ENOENT. */
int latency_reset(struct daemon *daemon, const char *domain, struct iod_error *error);
/*
 * A list as stats_list: per guest { domain, domid, HISTOGRAM, devices [ { id, HISTOGRAM, regions [ { name,
 * HISTOGRAM } ] } ] }; HISTOGRAM: count, sum-ns, max-ns, p50-ns, p90-ns, p99-ns (upper ends of their
 * buckets), buckets [ { below-ns, count } ] (those that hold any, ascending; not cumulative).
 */
int latency_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
                 struct iod_error *error);

#endif
