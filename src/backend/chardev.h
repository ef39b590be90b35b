/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the character backends of this folder share. A struct stream moves bytes between a chardev and a pair
 * of non-blocking descriptors and keeps none of its own: what a write takes is the kernel's already, so there
 * is nothing to flush when a device stops, and a peer that does not read can't hold a stop up.
 */
#ifndef BACKEND_CHARDEV_H
#define BACKEND_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ioreqd/chardev.h>

#include "core/loop.h"

struct daemon;

struct daemon *chardev_daemon(const struct iod_chardev *chardev);
struct loop *chardev_loop(const struct iod_chardev *chardev);

struct stream {
    struct iod_chardev *chardev;
    int in, out;                  /* may be the same; -1: none */
    bool socket;                  /* send and recv rather than write and read */
    bool pipe;                    /* out is a pipe: SIGPIPE has to be kept off by hand */
    bool stuck;                   /* a write fell short: a writable event is owed */
    bool broken;                  /* a write failed: `ended` is owed */
    struct loop_watch *in_watch, *out_watch; /* the same one if in and out are */
    /* The peer is gone; the stream is closed (its descriptors are not). Where in is not out, the end of in is
     * no end. */
    void (*ended)(void *self);
    void *self;
};

/* Watches the descriptors, which stay the caller's. 0 or -ENOMEM. */
int stream_open(struct stream *stream, struct iod_chardev *chardev, int in, int out);
/* Stops watching; fine when never opened. */
void stream_close(struct stream *stream);
size_t stream_write(struct stream *stream, const uint8_t *bytes, size_t count);
/* The device accepts bytes again. */
void stream_accept(struct stream *stream);

#endif
