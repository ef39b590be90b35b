/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device as the core and the rooms above it (pci, virtio, backend) see it. The life of every device is
 * driven by device.c alone.
 */
#ifndef CORE_DEVICE_H
#define CORE_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/device.h>
#include <ioreqd/region.h>

#include "core/inspect.h"
#include "core/list.h"
#include "core/spec.h"

struct guest;
struct iod_device;

/* What the user said with the core's own keys. */
struct device_keys {
    bool has_base, has_irq, has_slot;
    uint64_t base;          /* base= */
    int irq;                /* irq=; -1: irq=none */
    unsigned slot, function; /* addr=SLOT[.FN] (hexadecimal or 0x...) */
    const char *bus;        /* bus=; NULL: the default */
    bool has_port;
    unsigned port;          /* slot=: behind the PCIe root port of this number */
};

enum device_state {
    DEVICE_MADE,      /* create was called */
    DEVICE_OPENING,   /* backends, then class->open */
    DEVICE_STOPPED,   /* quiesced: nothing in flight */
    DEVICE_RUNNING,
    DEVICE_STOPPING,  /* quiesce is under way */
    DEVICE_BROKEN,    /* open failed, or iod_device_broken: quiesced, reads all ones */
};

/*
 * A part that another room adds to a device (its PCI function, its virtio transport): it has guest-visible
 * state and a share in the device's life. The part is embedded in the adder's object.
 */
struct device_part;
struct device_part_ops {
    const char *name; /* stable: key of the saved form ("pci", "virtio") */
    const struct iod_field *fields;
    size_t regs_size;
    void (*start)(struct device_part *part);                               /* optional; before class->start */
    /* optional; before class->quiesce: take on nothing new */
    void (*stop)(struct device_part *part);
    /* optional; all is quiet: give back what is mapped */
    void (*stopped)(struct device_part *part);
    /* optional; regs zeroed by device.c before it */
    void (*reset)(struct device_part *part);
    int (*save)(const struct device_part *part, struct iod_writer *writer); /* optional: beyond fields */
    /* optional: after the fields */
    int (*load)(struct device_part *part, struct iod_reader *reader, struct iod_error *error);
    /* required; frees the adder's object */
    void (*destroy)(struct device_part *part);
    /* optional: shows itself in the object that is open (inspect.h) */
    void (*inspect)(const struct device_part *part, struct inspector *inspector);
    /*
     * Optional: may the device be taken off now? False: the guest still drives it; *error says what to do.
     * A part that can ask the guest (a PCIe slot) begins to do so.
     */
    bool (*removable)(struct device_part *part, struct iod_error *error);
};
struct device_part {
    const struct device_part_ops *ops;
    struct iod_device *device;
    void *regs;
    struct list link;
};
/*
 * Allocates part->regs; destroyed with the device, in reverse order of adding. -ENOMEM: destroy is not
 * called.
 */
int device_part_add(struct iod_device *device, struct device_part *part, const struct device_part_ops *ops);

/*
 * A backend (iod_block, iod_chardev) of a device: opened before class->open, quiesced after class->quiesce.
 */
struct device_backend;
struct device_backend_ops {
    /* 0, -errno, 1: later by device_backend_done */
    int (*open)(struct device_backend *backend, struct iod_error *error);
    /*
     * Optional; may finish later by device_backend_done. IOD_CANCEL may come while the class still waits for
     * its requests.
     */
    enum iod_when (*quiesce)(struct device_backend *backend, enum iod_drain drain);
    void (*destroy)(struct device_backend *backend); /* required: closes and frees */
    void (*inspect)(const struct device_backend *backend, struct inspector *inspector); /* optional */
    /* Optional: looks at its size again. 0 or a negative errno with *error filled. */
    int (*resize)(struct device_backend *backend, struct iod_error *error);
    void (*give_up)(struct device_backend *backend); /* optional: as iod_block_class.give_up */
};
struct device_backend {
    const struct device_backend_ops *ops;
    struct iod_device *device;
    struct list link;
};
void device_backend_add(struct iod_device *device, struct device_backend *backend,
                        const struct device_backend_ops *ops, const struct iod_option *schema);
/* ends an open or quiesce that answered later */
void device_backend_done(struct device_backend *backend, int error);
void device_backend_failed(struct device_backend *backend, const struct iod_error *error); /* such an open, with why */
/* Tells the daemon's listeners what happened to it: "lost: ...", "back: ..." (EVENT_BACKEND). */
void device_backend_tell(struct device_backend *backend, const char *text);
/*
 * Makes a backend's options from the device's spec: prefix "block." (bare keys allowed). See options_parse.
 */
struct iod_options *device_backend_options(struct iod_device *device, const struct iod_option *schema,
                                           const char *what, const char *prefix, struct iod_error *error);
/*
 * The text of the pair `key` ("block", "chardev", "block.filter") in the device's spec, marked as used; or
 * NULL.
 */
const char *device_spec_take(struct iod_device *device, const char *key);

/* Is it plugged into a guest that runs already? */
bool device_is_hot(const struct iod_device *device);
/*
 * The guest let go of a device whose removal it was asked for (a part's `removable` said -EINPROGRESS): now
 * it is taken off.
 */
void device_let_go(struct iod_device *device);
bool device_asked(const struct iod_device *device); /* it was, and has neither let go of it nor had its time */

/* ---- the device itself; guest.c makes it, the rest is for device.c and the rooms above ---- */
const struct device_keys *device_keys(const struct iod_device *device);
struct guest *device_guest(const struct iod_device *device);
enum device_state device_state(const struct iod_device *device);
uint64_t region_length(const struct iod_region *region); /* bytes, as given to iod_region_add */

/*
 * A stop: counted. `stopped(self)` is called once nothing is in flight any more, always later or before
 * device_stop returns; the device stays quiet until each stop was answered by device_resume. A transport
 * resets with device_stop(CANCEL) -> device_reset -> device_resume.
 */
struct device_stop {
    struct list link; /* of the device, until answered; then the caller may free or use the stop again */
    void (*stopped)(void *self);
    void *self;
};
void device_stop(struct iod_device *device, struct device_stop *stop, enum iod_drain drain,
                 void (*stopped)(void *self), void *self);
void device_resume(struct iod_device *device);
/*
 * While stopped: zeroes regs and calls class->reset. parts: the parts' regs and reset too (not for a virtio
 * reset).
 */
void device_reset(struct iod_device *device, bool parts);

/* Like iod_task_queue, but it runs when the batch has no other task left. No-op for a task that is queued. */
struct iod_task;
void device_task_last(struct iod_task *task);

/* ---- saved form (device_state.c); while stopped. -EBUSY, -ENOMEM, or what the class said ---- */
int device_save(const struct iod_device *device, struct iod_writer *writer);
/* The input is hostile. After an error the device must be reset or destroyed. */
int device_load(struct iod_device *device, struct iod_reader *reader, struct iod_error *error);

#endif
