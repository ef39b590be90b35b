/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio devices, whatever the transport: the core's key bus=pci|mmio (and mmio-legacy) chooses it. The
 * transport owns status, features, queues and interrupts; the device owns its configuration structure and
 * what its requests mean. Names: Virtual I/O Device (VIRTIO) Version 1.2.
 */
#ifndef IOREQD_VIRTIO_H
#define IOREQD_VIRTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ioreqd/device.h>
#include <ioreqd/dma.h>

struct iod_virtio;
struct iod_virtq;

/* New members come at the end only. All callbacks are synchronous; self is the device's private object. */
struct iod_virtio_class {
    size_t size;
    uint16_t device_id;       /* section 5 */
    uint32_t pci_class;       /* class code of the PCI function, 24 bits */
    uint16_t config_size;     /* bytes of the configuration structure */
    uint16_t queues;          /* the most that any instance has */
    /* Required. The device's own feature bits (0-23, 41 up); the transport adds its own. Called once open. */
    uint64_t (*features)(void *self);
    /*
     * Required if config_size. Fills the whole structure, little-endian (legacy guests are little-endian
     * too).
     */
    void (*config_read)(void *self, void *config);
    /* Optional. The guest wrote a part of the structure; without it writes are dropped and counted. */
    void (*config_write)(void *self, unsigned offset, const void *bytes, unsigned length);
    /*
     * Optional. DRIVER_OK: the negotiated features are final (iod_virtio_features). 0, or a negative errno:
     * NEEDS_RESET.
     */
    int (*driver_ok)(void *self);
    /*
     * Required. Queue `index` may have new buffers: pop until there are none (or until the device is full).
     */
    void (*notify)(void *self, unsigned index);
    /* Optional. Queue `index` was disabled and is quiet: forget what was kept for it (a chain half done). */
    void (*queue_reset)(void *self, unsigned index);
};

/*
 * Makes the virtio device; only in create. sizes[i]: the largest queue size (a power of two up to 1024) of
 * queue i, count of them. NULL with *error filled: unknown bus, base or irq missing, no room. Owned by the
 * device.
 */
struct iod_virtio *iod_virtio_add(struct iod_device *device, const struct iod_virtio_class *class,
                                  unsigned count, const uint16_t *sizes, struct iod_error *error);

uint64_t iod_virtio_features(const struct iod_virtio *virtio);  /* negotiated; 0 before FEATURES_OK */
bool iod_virtio_live(const struct iod_virtio *virtio);          /* DRIVER_OK and not NEEDS_RESET */
void iod_virtio_config_changed(struct iod_virtio *virtio);      /* new generation, configuration interrupt */
/*
 * The guest broke the protocol: DEVICE_NEEDS_RESET, no queue is served until a reset. Counted as a guest
 * error.
 */
void iod_virtio_broken(struct iod_virtio *virtio, const char *why, ...) __attribute__((format(printf, 2, 3)));

/*
 * One descriptor chain. The caller gives extents and max; pop fills the rest: first `out` readable ones, then
 * `in`.
 */
struct iod_chain {
    struct iod_extent *extents;
    unsigned max;
    unsigned out, in;              /* device-readable, device-writable */
    uint64_t out_length, in_length; /* bytes */
    uint16_t head;                 /* for iod_virtq_push */
};

struct iod_virtq *iod_virtio_queue(struct iod_virtio *virtio, unsigned index);
unsigned iod_virtq_size(const struct iod_virtq *queue);  /* entries now in use; 0: not enabled */
bool iod_virtq_ready(const struct iod_virtq *queue);     /* enabled and the device live: may be popped */
/*
 * The next chain: 1, or 0: none (notifications are on again). A malformed ring or a chain of more than
 * chain->max extents: 0 and NEEDS_RESET.
 */
int iod_virtq_pop(struct iod_virtq *queue, struct iod_chain *chain);
/* Puts the chain popped last back, to be popped again. */
void iod_virtq_unpop(struct iod_virtq *queue);
/* Hands a chain back with `written` bytes; the guest sees it at the next flush. */
void iod_virtq_push(struct iod_virtq *queue, uint16_t head, uint32_t written);
/* The end of a drain: publishes what was pushed, interrupts if the driver wants it. Once per batch. */
void iod_virtq_flush(struct iod_virtq *queue);

#endif
