/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Block storage: one interface for backends (file, ...) and for filters over them. A device asks for one in
 * create by iod_block_attach; options `block=CLASS,block.KEY=...` choose and set it, `block.filter=CLASS`
 * puts filters on top.
 */
#ifndef IOREQD_BLOCK_H
#define IOREQD_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ioreqd/device.h>

struct iod_block;
struct iod_mapping;

enum iod_block_op { IOD_BLOCK_READ, IOD_BLOCK_WRITE, IOD_BLOCK_FLUSH, IOD_BLOCK_DISCARD, IOD_BLOCK_ZERO };
enum { IOD_BLOCK_FUA = 1,      /* write, zero: durable before it completes */
       IOD_BLOCK_UNMAP = 2 };  /* zero: may give the space back */

/*
 * One request, in the caller's memory of iod_block_request_size() bytes (filters and the backend keep theirs
 * behind it). The caller fills the first part; it must not touch it between submit and done.
 */
struct iod_block_request {
    enum iod_block_op op;
    uint32_t flags;           /* IOD_BLOCK_FUA ... */
    /* bytes; multiples of limits.sector; within the capacity (the block layer checks again) */
    uint64_t offset, length;
    struct iod_mapping *data; /* read, write: exactly length bytes; stays the caller's */
    void *owner;              /* the caller's */
    /* Called once, always later, never inside submit. result: 0 or a negative errno. */
    void (*done)(struct iod_block_request *request, int result);
};

struct iod_block_limits {
    uint64_t capacity;      /* bytes */
    uint32_t sector;        /* logical, bytes: requests are multiples of it */
    uint32_t physical;      /* bytes */
    uint32_t optimal;       /* preferred I/O size, bytes; 0: not known */
    uint64_t max_length;    /* of one read or write, bytes; 0: no limit */
    uint64_t max_discard;   /* of one discard, bytes; 0: discard not supported */
    uint64_t max_zero;      /* of one zero, bytes; 0: not supported */
    uint32_t depth;         /* requests worth having in flight */
    bool readonly;
    bool volatile_cache;    /* a completed write may be lost until a flush (cache=writeback, none) */
};

/* A backend or filter. New members come at the end only. */
struct iod_block_class {
    size_t size;
    const char *name, *summary;
    size_t self_size;                 /* private object: zeroed, freed by the core */
    size_t request_size;              /* its own part of each request, bytes */
    const struct iod_option *options;
    bool filter;                      /* needs one below */
    /*
     * Required. Once. below: NULL unless a filter. Fills the limits (iod_block_set_limits) before it
     * succeeds. 0, a negative errno with *error filled, or 1: later, by iod_block_done.
     */
    int (*open)(struct iod_block *block, struct iod_block *below, struct iod_error *error);
    /* Required. Takes the request over; may hold it until kick. */
    void (*submit)(struct iod_block *block, struct iod_block_request *request);
    /* Optional. The end of a batch: now go to the kernel. */
    void (*kick)(struct iod_block *block);
    /* Optional; may finish later (iod_block_done). Done: every request taken has had its done called. */
    enum iod_when (*quiesce)(struct iod_block *block, enum iod_drain drain);
    /* Optional. Quiesced; also after a failed open. */
    void (*close)(struct iod_block *block);
    /*
     * Optional. Looks at its size again, I/O may be in flight; a new one is said by iod_block_set_limits. 0, or a
     * negative errno with *error filled: nothing has changed.
     */
    int (*resize)(struct iod_block *block, struct iod_error *error);
    /*
     * Optional. An open that answered "later" is not wanted any more (its guest or device ends): it ends soon, with an
     * error, by iod_block_done, never from inside. Without it, it is waited for as long as it takes.
     */
    void (*give_up)(struct iod_block *block);
};

/*
 * For devices. The key is the options' prefix, usually "block". NULL with *error filled: no such class, bad
 * options.
 */
struct iod_block *iod_block_attach(struct iod_device *device, const char *key, struct iod_error *error);
size_t iod_block_request_size(const struct iod_block *block);
const struct iod_block_limits *iod_block_limits(const struct iod_block *block); /* valid once open */
/*
 * Submits to this backend or filter. Out of bounds, unaligned or a write to a read-only one: done with
 * -EINVAL, -EROFS.
 */
void iod_block_submit(struct iod_block *block, struct iod_block_request *request);
void iod_block_kick(struct iod_block *block);
/* Calls changed(self) when the limits changed (resized, lost, back). */
void iod_block_on_change(struct iod_block *block, void (*changed)(void *self), void *self);

/* For backends. */
void *iod_block_self(const struct iod_block *block);
struct iod_device *iod_block_device(const struct iod_block *block); /* for timers, watches, log */
const struct iod_options *iod_block_options(const struct iod_block *block);
/* in or after open */
void iod_block_set_limits(struct iod_block *block, const struct iod_block_limits *limits);
void iod_block_done(struct iod_block *block, int error);  /* ends an open or quiesce that answered "later" */
/* This backend's own part of the request (request_size bytes). */
void *iod_block_request_own(struct iod_block *block, struct iod_block_request *request);
/* Ends a request. May be called from anywhere but submit itself. */
void iod_block_complete(struct iod_block *block, struct iod_block_request *request, int result);

#endif
