/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The real core over the fake hypervisor with a device whose every step is the test's, for what only the
 * core's inside can be asked. Each test is a process of its own.
 */
#ifndef CORE_RIG_H
#define CORE_RIG_H

#include <ioreqd/module.h>
#include <ioreqd/region.h>

#include "core/inside.h"
#include "fake_xen.h"
#include "unit.h"

/*
 * The registers of the class "probe", of 4 bytes each: HOLD defers; PLAIN reads 0x42 and, written, places the
 * second region at SECOND + value; BREAK, written, breaks the device. The second region is nowhere at first.
 */
enum { BASE = 0xf0000000, HOLD = BASE, PLAIN = BASE + 4, BREAK = BASE + 8, SECOND = 0xf1000000 };

struct testee {
    struct iod_device *device;
    struct iod_access *access;
    struct iod_timer *timer;
    struct iod_region *second;
};

/* What the device is to do (set before it does it), and what it did. */
extern struct hooks {
    struct testee *probe; /* made last */
    bool quiesce_later, break_in_open, open_later;
    unsigned extra; /* regions, each alone */
    unsigned fired, destroyed;
    int dma;        /* what a DMA in destroy said */
} hooks;

extern const struct iod_module rig_module; /* with the class "probe" */

/* A daemon with one HVM guest, domain 7, and one "probe" in it; fake_stop or fake_free ends it. */
struct fake_xen *rig_start(void);
/* The daemon's first guest. */
struct guest *guest_of(struct fake_xen *fake);

/* Ends of a stop: one of no interest, and one that sets the bool at `self`. */
void nothing(void *self);
void set_true(void *self);

#endif
