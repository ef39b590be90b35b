/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Quarantine. A guest whose requests make no sense, or too many of the kind that cost the daemon, has its
 * answers delayed: what it asks is served in order and in full, but it gets no more than LIMIT_SHARE_PPM of
 * the loop's time.
 *
 * Each guest has an account. What costs charges points to it; a guest without such deeds, however busy, has
 * none, and no clock is read for it. An account that fills within a second makes its guest suspicious: its
 * time is measured. Points and the time that went into what was charged, both above their bounds within one
 * second, make it limited: reported by a line and EVENT_LIMITED. That ends after some seconds with hardly a
 * point; more of them after each relapse.
 */
#ifndef CORE_LIMIT_H
#define CORE_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct guest;
struct iod_device;

#define LIMIT_SHARE_PPM 10000u /* of the loop's time, while limited */

/* What is charged; the points are in limit.c. */
enum limit_deed {
    DEED_MALFORMED,   /* a request that Xen never makes */
    DEED_UNCLAIMED,   /* an address that no device has */
    DEED_HOLE,        /* data where there is no memory */
    DEED_GUEST_ERROR, /* what no driver does */
    DEED_RESET,       /* of a device */
    DEED_COMMIT,      /* ranges changed: hypercalls */
    DEED_INVALIDATE,  /* all mappings dropped */
    DEED_MISS,        /* memory mapped that no I/O of its asked for */
    DEED_EMPTY_KICK,  /* a notification without new buffers */
    DEED_CONFIG,      /* a configuration cycle */
    DEED_SETTING,     /* pairs or offloads of a network card changed: the kernel may wait for all CPUs */
    DEED_COUNT,
};

/* For the rooms above the core: `times` such deeds by the device's guest. */
void limit_charge_device(struct iod_device *device, enum limit_deed deed, unsigned times);
/*
 * Around work that the device's guest has set off, outside its accesses, tasks and timers: an I/O's
 * completion.
 */
void limit_device_begins(struct iod_device *device);
void limit_device_ends(struct iod_device *device);

#endif
