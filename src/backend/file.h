/* SPDX-License-Identifier: BSD-2-Clause */
/* The block backend "file": raw files and block devices. file.c opens (by image.h), file_io.c moves the data. */
#ifndef BACKEND_FILE_H
#define BACKEND_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/block.h>

#include "backend/image.h"
#include "backend/ring.h"

enum {
    FILE_DEPTH = 128, /* operations of one disk in the kernel */
};

struct file {
    struct iod_block *block;
    struct ring *ring;
    struct ring_client client;
    struct opening *opening; /* under way, or NULL */
    int fd;
    enum file_cache cache;
    bool device;         /* a block device */
    bool remote;         /* its close may hang */
    bool readonly, discard;
    bool quiescing;      /* iod_block_done is owed */
    unsigned direct;     /* what direct I/O needs: alignment of offset and length in the file; 0: buffered */
    unsigned memory;     /* and of memory */
    bool no_dsync, no_zero_range, no_punch; /* learnt: the file system refused it */
    unsigned in_flight;  /* requests taken and not yet ended */
    struct list requests;
    uint64_t errors;
    unsigned told;       /* which kinds of error were logged */
};

/* This backend's part of a request. */
struct file_request {
    struct ring_op op;
    struct bounce_waiter waiter;
    struct list link; /* in file->requests */
    struct file *file;
    struct iod_block_request *request;
    uint64_t done;    /* bytes */
    void *bounce;
    uint32_t bounce_length, piece; /* bytes: of the bounce memory; of the operation in the kernel */
    int mode;         /* of fallocate */
    uint8_t step, attempts;
    bool bounced;     /* its data goes through the bounce pool */
    bool begun;       /* the kernel had a part of it */
};

void file_submit(struct iod_block *block, struct iod_block_request *request);
void file_kick(struct iod_block *block);
enum iod_when file_quiesce(struct iod_block *block, enum iod_drain drain);

#endif
