/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole core in one process, over a hypervisor table of a few lines: for tests of backends and devices
 * that want the real life cycle, options and guest memory but no mock hypervisor beside them. One guest, one
 * vCPU.
 */
#ifndef FAKE_XEN_H
#define FAKE_XEN_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/error.h>
#include <ioreqd/module.h>

#include "core/daemon.h"

enum { FAKE_RAM = 64 << 20 };

struct fake_xen;

/*
 * A daemon with one HVM guest and these devices (each a text as for --device), run until the guest is
 * "running". `module` (may be NULL) is added to what is built in. NULL with *error filled when the specs are
 * refused; when the guest fails later, fake_running is false and the log says why.
 */
struct fake_xen *fake_start(const struct iod_module *module, enum guest_type type, const char *const *devices,
                            unsigned count, struct iod_error *error);
/* The daemon alone, with this xenstore (NULL: none); the test adds its guests. */
struct fake_xen *fake_create(const struct iod_module *module, struct store *store, struct iod_error *error);
/* SIGTERM's way: all I/O finishes, the guest goes. Then frees everything. */
void fake_stop(struct fake_xen *fake);
/* Frees everything; no guest is left. */
void fake_free(struct fake_xen *fake);
/* The domain dies: what can be cancelled is. Runs the loop until the guest is gone. */
void fake_kill(struct fake_xen *fake);
bool fake_running(const struct fake_xen *fake);
/* The domain of this domid is gone from now on (-1: none), as the daemon will find out by itself. */
void fake_mark_dead(struct fake_xen *fake, int domid);

/* What the hypervisor counts, and is told to refuse. */
struct fake_ranges {
    unsigned mapped;  /* ranges, merged or not */
    uint64_t last;    /* begin of the last one mapped */
    uint64_t fail;    /* a range that begins here can't be mapped; 0: none */
    unsigned failed;
    unsigned bound;   /* event channels, ever */
    unsigned pages;   /* of guest memory, mapped now */
    unsigned maps;    /* calls to map guest memory, ever */
};
struct fake_ranges *fake_ranges(struct fake_xen *fake);
/* Servers but the first have no event channels yet. */
void fake_hide_ports(struct fake_xen *fake, bool hidden);
/* The vCPU's slot of the first server. */
enum slot_state fake_slot(const struct fake_xen *fake);

/* Runs the loop until reached(self) says so; fails the test after ten seconds. */
void fake_run(struct fake_xen *fake, bool (*reached)(void *self), void *self);
void fake_run_ms(struct fake_xen *fake, unsigned ms);

/* One access of the vCPU, from begin to end: of a port up to 0xffff, of memory above. */
uint64_t fake_in(struct fake_xen *fake, uint64_t address, unsigned size);
void fake_out(struct fake_xen *fake, uint64_t address, unsigned size, uint64_t value);
/* Begins one and leaves it; fake_answered says when it has ended. */
void fake_begin_out(struct fake_xen *fake, uint64_t address, unsigned size, uint64_t value);
/* The same for a REP whose data is in guest memory. */
void fake_begin_rep(struct fake_xen *fake, bool read, uint64_t address, unsigned size, unsigned count, uint64_t data);
bool fake_answered(const struct fake_xen *fake);

/* Guest memory, FAKE_RAM bytes from address 0. */
uint8_t *fake_ram(struct fake_xen *fake);
/* The line's level, and how often it was raised. */
bool fake_line(const struct fake_xen *fake, unsigned irq);
unsigned fake_raises(const struct fake_xen *fake, unsigned irq);
/* Everything logged so far; how often `part` is in it. */
const char *fake_log(const struct fake_xen *fake);
unsigned fake_logged(const struct fake_xen *fake, const char *part);
struct loop *fake_loop(struct fake_xen *fake);
struct daemon *fake_daemon(struct fake_xen *fake);

#endif
