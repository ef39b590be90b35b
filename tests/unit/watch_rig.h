/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest (domain 7) with two devices that keep an access for as long as the test wants, and what an
 * inspector sees.
 */
#ifndef WATCH_RIG_H
#define WATCH_RIG_H

#include <ioreqd/module.h>

#include "core/inside.h"
#include "fake_xen.h"
#include "unit.h"

/*
 * Of "first" and of "second"; registers of 4 bytes: HOLD defers, PLAIN reads 0x42, a read of ERROR is a
 * guest error.
 */
enum { FIRST = 0xf0000000, SECOND = 0xf1000000, HOLD = 0, PLAIN = 4, ERROR = 8 };

struct keeper {
    struct iod_device *device;
    struct iod_access *access; /* deferred last */
    uint64_t last;             /* written last */
};
extern struct keeper *keepers[2];
extern struct fake_xen *fake;
extern struct guest *guest;
extern struct daemon *daemon_;

void rig_begin(void);
void rig_end(void);

/* An inspector that makes lines, "outer.member=value"; a list's members are numbered. */
struct inspector *make_lines(void);
typedef int show_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
                      struct iod_error *error);
const char *shown(show_list *show); /* of domain 7, key "list" */
void expect(const char *lines, const char *line); /* it is one of them */
uint64_t number_of(const char *lines, const char *key);

#endif
