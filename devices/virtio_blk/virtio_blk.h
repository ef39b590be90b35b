/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the virtio block device share; virtio_blk.c says what a request is. */
#ifndef VIRTIO_BLK_H
#define VIRTIO_BLK_H

#include <linux/virtio_blk.h>

#include <ioreqd/block.h>
#include <ioreqd/device.h>
#include <ioreqd/dma.h>
#include <ioreqd/log.h>
#include <ioreqd/loop.h>
#include <ioreqd/virtio.h>

#define SECTOR 512u /* the unit of all sector numbers, whatever the disk's own */
#define QUEUES_MAX 32u
#define QUEUE_SIZE_MAX 256u
#define CHAIN_ROOM QUEUE_SIZE_MAX
#define BIT64(bit) (UINT64_C(1) << (bit))

struct blk_regs {
    uint8_t cache; /* CONFIG_WCE: what the driver wrote */
};
enum { CACHE_DEFAULT, CACHE_WRITETHROUGH, CACHE_WRITEBACK };

struct parts; /* of a request longer than PART_BYTES */

struct request {
    struct request *next; /* in the free list */
    struct queue *queue;
    struct iod_mapping *data;
    struct parts *parts;
    uint64_t status_at;   /* guest address of the status byte */
    uint64_t in_length;   /* writable bytes before the status */
    uint16_t head;
    struct iod_block_request block; /* last: the backend's own part is behind it */
};

struct parts {
    uint64_t left;       /* bytes */
    unsigned count, next;
    struct iod_extent extents[];
};

struct queue {
    struct blk *blk;
    struct iod_virtq *virtq;
    uint8_t *pool;
    unsigned room;        /* requests that the pool holds */
    unsigned made;        /* those that were ever used: an idle pool stays untouched */
    struct request *free;
    bool full;            /* the ring may hold more than we could take */
    bool pushed;          /* a flush is due */
};

struct blk {
    struct iod_device *device;
    struct iod_virtio *virtio;
    struct iod_block *block;
    struct iod_task *task;
    struct queue *queues;
    unsigned count;
    uint16_t queue_size;
    size_t stride;        /* bytes of one request in a pool */
    unsigned in_flight;
    bool stopping, waiting; /* quiesce was called; it answered "later" */
    bool cancelled;         /* quiesce is to cancel: a long request's other parts are given up */
};

/* A request as parsed: what is left of the chain when header and status are taken off. */
struct parsed {
    struct virtio_blk_outhdr header;
    struct iod_extent *out, *in;
    unsigned out_count, in_count;
    uint64_t out_length, in_length;
    uint64_t status_at;
};

/* ---- request.c: one request from its chain to its status ---- */

/* Splits the chain; false: there is no place for a status, or no header to answer. */
bool blk_parse(struct blk *blk, struct iod_chain *chain, struct parsed *parsed);
/*
 * 0: submitted, its end comes by itself; 1: it is over and good; a negative errno: it is over and bad
 * (-EAGAIN: not begun, for want of mappings that others hold: later).
 */
int blk_begin(struct request *request, struct parsed *parsed);
/* Submits to the backend: op, flags, offset, length and data are set. */
void blk_submit(struct request *request);
/* VIRTIO_BLK_S_... of 0 or a negative errno. */
uint8_t blk_status(int error);
/* Of a write now: IOD_BLOCK_FUA or 0. */
uint32_t blk_write_flags(const struct blk *blk);

/* ---- parts.c: a request longer than what is mapped at once ---- */

/* The bytes that one part has at most: all of a request that is no longer. */
uint64_t blk_part_bytes(const struct blk *blk);
/* 0, or a negative errno: nothing was submitted. The extents are copied. */
int blk_begin_parts(struct request *request, const struct iod_extent *extents, unsigned count,
                    uint64_t length);
/* Maps and submits the next part; false: it can't go on. */
bool blk_next_part(struct request *request);
/* Which way the request's data goes. */
enum iod_dma_dir blk_direction(const struct request *request);

/* ---- queue.c: from the ring and back ---- */

/* Makes the queue's pool if there is none; false: out of memory. */
bool blk_pool_make(struct queue *queue);
/* Answers: writes the status byte, pushes the chain, and gives the request back to its pool. */
void blk_finish(struct request *request, uint8_t status);
/* Shows the driver what was pushed. */
void blk_flush_pushed(struct blk *blk);
/* A queue was kicked (iod_virtio_class.notify). */
void blk_notify(void *self, unsigned index);
/* After a batch of completions: one flush a queue, and on with what did not fit. */
void blk_after_completions(void *self);

#endif
