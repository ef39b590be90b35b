/* SPDX-License-Identifier: BSD-2-Clause */
/* A virtio-blk driver over virtio_driver.h (VIRTIO 1.2, section 5.2). Sectors are 512 bytes, always. */
#ifndef MOCKXEN_VIRTIO_BLK_DRIVER_H
#define MOCKXEN_VIRTIO_BLK_DRIVER_H

#include <linux/virtio_blk.h>

#include "virtio_driver.h"

#define VIRTIO_ID_BLOCK_DEVICE 2
#define VIRTIO_BLK_SECTOR 512u
#define VIRTIO_BLK_FEATURES                                                                                  \
    (VIRTIO_FEATURE(VIRTIO_BLK_F_SIZE_MAX) | VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX) |                          \
     VIRTIO_FEATURE(VIRTIO_BLK_F_RO) | VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE) |                               \
     VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) | VIRTIO_FEATURE(VIRTIO_BLK_F_TOPOLOGY) |                            \
     VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE) | VIRTIO_FEATURE(VIRTIO_BLK_F_MQ) |                             \
     VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) | VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES) |                      \
     VIRTIO_FEATURE(VIRTIO_F_VERSION_1))
/** All that the driver understands. */
#define VIRTIO_BLK_ALL                                                                                       \
    (VIRTIO_BLK_FEATURES | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |                                     \
     VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX))

struct virtio_blk {
    struct virtio_driver *driver;
    struct virtio_blk_config config; /* fields whose feature was not negotiated are 0 */
    uint64_t capacity;               /* sectors */
    unsigned queues;
    struct virtio_blk_request *made;  /* all requests, also those that a reset lost */
    struct virtio_blk_request *spare; /* those whose guest memory can be used again */
};

/** One request under way; made by virtio_blk_begin(), given back by virtio_blk_end(). */
struct virtio_blk_request {
    struct virtio_blk_request *next, *next_made;
    uint64_t head_gpa; /* the header's */
    struct virtio_blk_outhdr *head;
    volatile uint8_t *status;                       /* 0xff until the device wrote it */
    struct virtio_blk_discard_write_zeroes *ranges; /* one, for discard and write zeroes */
    uint64_t status_gpa, ranges_gpa;
    uint32_t written; /* by the device, as the used ring said */
    void *owner;      /* the test's */
};

/**
 * Negotiates `features` (with VIRTIO_BLK_F_MQ: up to `queues` queues), sets up the queues with `size` entries
 * (0: the most) and starts the device.
 */
int virtio_blk_start(struct virtio_blk *blk, struct virtio_driver *driver, uint64_t features, unsigned queues,
                     unsigned size);
/** Frees all requests, those under way too; the driver is not closed. */
void virtio_blk_finish(struct virtio_blk *blk);
/** Resets the device: all requests under way are lost. */
int virtio_blk_reset(struct virtio_blk *blk);

/* ---- one request, by hand ---- */

/** A request without data yet; NULL: no memory. */
struct virtio_blk_request *virtio_blk_begin(struct virtio_blk *blk, uint32_t type, uint64_t sector);
/** Puts it into queue `queue` with these data buffers between header and status, not yet shown to the
 * device. */
int virtio_blk_put(struct virtio_blk *blk, unsigned queue, struct virtio_blk_request *request,
                   const struct virtio_buffer *data, unsigned count, bool indirect);
/** The next finished request, or NULL after `timeout_ms`; *error (may be NULL): what virtio_queue_wait()
 * said. */
struct virtio_blk_request *virtio_blk_reap(struct virtio_blk *blk, unsigned queue, int timeout_ms,
                                           int *error);
/** Its status byte (VIRTIO_BLK_S_*), and the request is given back. */
uint8_t virtio_blk_end(struct virtio_blk *blk, struct virtio_blk_request *request);

/* ---- whole requests on queue 0: VIRTIO_BLK_S_* or a negative errno ---- */

int virtio_blk_io(struct virtio_blk *blk, unsigned queue, uint32_t type, uint64_t sector,
                  const struct virtio_buffer *data, unsigned count, bool indirect);
/** Reads or writes through a bounce buffer in the arena: `length` bytes from `sector`. */
int virtio_blk_read(struct virtio_blk *blk, uint64_t sector, void *to, size_t length);
int virtio_blk_write(struct virtio_blk *blk, uint64_t sector, const void *from, size_t length);
int virtio_blk_flush(struct virtio_blk *blk);
int virtio_blk_discard(struct virtio_blk *blk, uint64_t sector, uint32_t sectors);
int virtio_blk_write_zeroes(struct virtio_blk *blk, uint64_t sector, uint32_t sectors, bool unmap);
/** The 20 bytes of the id, and a NUL. */
int virtio_blk_get_id(struct virtio_blk *blk, char id[VIRTIO_BLK_ID_BYTES + 1]);

#endif
