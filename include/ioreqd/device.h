/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device's life: create -> open -> [load] -> start -> quiesce -> save | reset | start | destroy.
 * The core calls everything on the loop's one thread; a device needs no lock. One access at a time reaches a
 * device: while one is deferred, later ones wait.
 */
#ifndef IOREQD_DEVICE_H
#define IOREQD_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include <ioreqd/error.h>
#include <ioreqd/option.h>
#include <ioreqd/state.h>

struct iod_device;

enum iod_when {
    IOD_NOW,   /* done when the callback returns */
    IOD_LATER, /* not done yet: exactly one iod_device_done() follows, never from inside the callback */
};

enum iod_drain {
    IOD_FINISH, /* pause, save, update, SIGTERM: let what is in flight end as usual, take on nothing new */
    /* reset, unplug, a dead domain: give up what has not begun, wait for what can't be called back */
    IOD_CANCEL,
};

/* The kinds of backends. */
enum { IOD_BACKEND_BLOCK = 1, IOD_BACKEND_CHARDEV = 2, IOD_BACKEND_NETDEV = 4 };

/* A number of a device's own that only grows, shown by `ioreqctl stats` and `show` at any time. */
struct iod_counter {
    const char *name; /* lower-case words with '-': "received-bad"; NULL: the end of the table */
    size_t offset;    /* in self, of a uint64_t */
};

/* One kind of device. New members come at the end only; a module's table may be shorter than the core's. */
struct iod_device_class {
    size_t size;                      /* sizeof(struct iod_device_class) */
    const char *name;                 /* as in --device NAME */
    const char *summary;              /* one line for --help */
    size_t self_size;                 /* the private object (pointers, handles): zeroed, freed by the core */
    /* what the guest can see: plain data, no pointers, zeroed; the core's memory */
    size_t regs_size;
    uint32_t version;                 /* of the saved form, from 1; see struct iod_field.since */
    const struct iod_option *options; /* may be NULL: none */
    const struct iod_field *fields;   /* of regs; may be NULL if regs_size is 0 */

    /*
     * Required, synchronous. Declares regions, interrupts, timers, backends, PCI function or virtio device.
     * Touches neither the host nor the guest. Returns 0, or a negative errno with *error filled; destroy
     * follows either way.
     */
    int (*create)(struct iod_device *device, struct iod_error *error);
    /*
     * Optional. Called once, when all the backends that create asked for are open (their limits are known
     * now). Returns 0, a negative errno with *error filled, or 1: later, by iod_device_done(device, error
     * code).
     */
    int (*open)(struct iod_device *device, struct iod_error *error);
    /*
     * Optional, synchronous. Accesses may come from now on. Called after open or load and after each quiesce.
     */
    void (*start)(struct iod_device *device);
    /*
     * Optional; may finish later. When it is done, the device has no I/O in flight, holds no mapping and
     * writes no guest memory until start. A device without I/O of its own leaves it out. The core quiesces
     * the backends after it.
     */
    enum iod_when (*quiesce)(struct iod_device *device, enum iod_drain drain);
    /*
     * Optional, synchronous, while quiesced: regs are zeroed by the core before it; set what is not zero at
     * reset.
     */
    void (*reset)(struct iod_device *device);
    /*
     * Optional, synchronous, while quiesced, without side effect: what fields can't say. 0 or a negative
     * errno.
     */
    int (*save)(const struct iod_device *device, struct iod_writer *writer);
    /*
     * Optional, synchronous, before start, after the fields were loaded. The input is hostile. As create
     * returns.
     */
    int (*load)(struct iod_device *device, struct iod_reader *reader, struct iod_error *error);
    /*
     * Optional, synchronous, while quiesced; also after a failed create or open. self and regs are freed
     * after it.
     */
    void (*destroy)(struct iod_device *device);
    /* Optional. The kinds of backends that create may ask for (IOD_BACKEND_...): --help shows the options of these. */
    unsigned backends;
    const struct iod_counter *counters; /* of self; may be NULL: none */
};

/* self_size and regs_size bytes; never NULL, the core's, the same until destroy has returned. */
void *iod_self(const struct iod_device *device);
void *iod_regs(const struct iod_device *device);
/*
 * The user's values for class->options (option.h), and id= (or the core's choice): both live as long as the
 * device.
 */
const struct iod_options *iod_device_options(const struct iod_device *device);
const char *iod_device_id(const struct iod_device *device);

/* Ends an open or quiesce that answered "later". error: 0 or a negative errno (quiesce: always 0). */
void iod_device_done(struct iod_device *device, int error);

/*
 * This device can't go on (a lost backend, a broken promise of the host): it is stopped with a cancel and
 * reported; nothing else is. From any state and any callback, the first call counts. The device stays quiet
 * until destroy; every access to it, a deferred one included, reads all ones.
 */
void iod_device_broken(struct iod_device *device, const char *why, ...) __attribute__((format(printf, 2, 3)));

#endif
