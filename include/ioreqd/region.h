/* SPDX-License-Identifier: BSD-2-Clause */
/* What the guest touches: ranges of ports or guest physical addresses, and how one access ends. */
#ifndef IOREQD_REGION_H
#define IOREQD_REGION_H

#include <stddef.h>
#include <stdint.h>

#include <ioreqd/error.h>

struct iod_device;
struct iod_region;
struct iod_access;

enum iod_space { IOD_PIO, IOD_MMIO };

/* New members come at the end only. */
struct iod_region_ops {
    size_t size;    /* sizeof(struct iod_region_ops) */
    uint8_t widths; /* sum of the widths the handlers take: 1, 2, 4, 8. The core splits a wider access into
                       the widest that fit, reads a whole register for a narrower read, drops and counts a
                       narrower write. */
    uint8_t unaligned; /* not 0: the handlers take accesses that are not aligned to their width */
    /*
     * Required. offset is in the region; offset + width never passes its end. Returns the value in the low
     * bytes.
     */
    uint64_t (*read)(void *self, uint64_t offset, unsigned width);
    /* Required. value has nothing above `width` bytes. Both may end later: see iod_access_defer. */
    void (*write)(void *self, uint64_t offset, unsigned width, uint64_t value);
};

/*
 * Makes a region of `length` bytes, in no address space yet. Owned by the device, freed with it. Only in
 * create. NULL: out of memory.
 */
struct iod_region *iod_region_add(struct iod_device *device, const char *name, uint64_t length,
                                  const struct iod_region_ops *ops, void *self);

/*
 * Shows the region at `base` (moves it if it is shown elsewhere) as of the next access: the one being handled
 * ends under the old map. An overlap is no error: the region placed last is on top, the other comes back when
 * it goes. -ERANGE: beyond the space's end.
 */
int iod_region_place(struct iod_region *region, enum iod_space space, uint64_t base, struct iod_error *error);
/* Takes it out of its space, as of the next access. */
void iod_region_hide(struct iod_region *region);

/*
 * Places the region where the core's key base= says; `fallback` is used if the user gave none (-EINVAL if
 * UINT64_MAX).
 */
int iod_region_place_base(struct iod_region *region, enum iod_space space, uint64_t fallback,
                          struct iod_error *error);

/*
 * Inside read or write only: the access does not end when the handler returns (its value is ignored); the
 * vCPU waits. Exactly one iod_access_complete() follows, from anywhere but the handler itself; value is the
 * read's answer. While an access is deferred no other access reaches the device. NULL: there is no access
 * (the core itself called). The device ends it at the latest before its quiesce is done, or keeps it for the
 * time after start; a device that is broken or destroyed has it ended by the core (all ones), and completing
 * it then does nothing.
 */
struct iod_access *iod_access_defer(struct iod_device *device);
void iod_access_complete(struct iod_access *access, uint64_t value);

#endif
