/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside the virtio room: the device's status and features (virtio.c), its queues (virtq.c) and what a
 * transport adds. Hosts are little-endian here, as virtio is.
 */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include <linux/virtio_config.h>

#include <ioreqd/irq.h>
#include <ioreqd/log.h>
#include <ioreqd/loop.h>
#include <ioreqd/pci.h>
#include <ioreqd/region.h>
#include <ioreqd/virtio.h>

#include "core/device.h"
#include "core/guest.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio structures are used in place");

#define VIRTIO_QUEUES_MAX 64u
#define VIRTIO_CONFIG_MAX 256u  /* bytes of a device's configuration structure */
#define VIRTIO_NO_VECTOR 0xffffu
#define VIRTIO_CONFIG_INTERRUPT (-1) /* in place of a queue */
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

/* What the guest can see of the device; of a queue: struct virtq_regs. */
struct virtio_regs {
    uint64_t driver_features;
    uint32_t device_features_select, driver_features_select;
    uint32_t generation;
    uint32_t guest_page_size; /* legacy; 0: not told */
    uint16_t queue_select;
    uint16_t config_vector;
    uint8_t status, isr;
};

struct virtio_transport {
    const char *name; /* as in bus= */
    bool legacy;      /* no VERSION_1, no FEATURES_OK */
    uint64_t features;
    /* Required. queue, or VIRTIO_CONFIG_INTERRUPT. */
    void (*interrupt)(struct iod_virtio *virtio, int queue);
    /* Optional. The registers are those after a reset: no cause is left. */
    void (*reset)(struct iod_virtio *virtio);
    /* Optional. After a load: the wire has to be told. */
    void (*start)(struct iod_virtio *virtio);
    /* Optional. May the device use the guest's memory? */
    bool (*may_dma)(const struct iod_virtio *virtio);
    /* Required. Makes regions, function, wire. */
    int (*attach)(struct iod_virtio *virtio, struct iod_error *error);
};
extern const struct virtio_transport transport_mmio, transport_mmio_legacy, transport_pci;

struct iod_virtio {
    struct device_part part;
    struct iod_device *device;
    const struct iod_virtio_class *class;
    const struct virtio_transport *transport;
    struct iod_virtq *queues;
    unsigned count;
    struct iod_task *task;  /* drains the queues in `kicked` */
    uint64_t kicked;        /* by queue */
    struct iod_task *last;  /* asks for kicks of the queues in `unasked`, when the batch is over */
    uint64_t unasked;       /* by queue */
    bool quiet;             /* between stop and start: nothing is popped */
    bool configured;        /* class->driver_ok was called since the last reset */
    struct {
        struct device_stop stop;
        bool asking, quiet; /* inside device_stop; it has answered */
        struct iod_access *access;
    } resetting;
    struct iod_region *region; /* the transport's registers */
    struct iod_irq *irq;       /* NULL: polled, or messages only */
    struct iod_pci *pci;
    uint8_t window;            /* offset of the PCI configuration access capability */
};

static inline struct virtio_regs *virtio_regs(const struct iod_virtio *virtio)
{
    return virtio->part.regs;
}

/* ---- virtio.c: what the transports' registers do ---- */
uint64_t virtio_offered(const struct iod_virtio *virtio);
uint32_t virtio_device_features(const struct iod_virtio *virtio); /* the half that is selected */
void virtio_driver_features(struct iod_virtio *virtio, uint32_t value);
void virtio_status_write(struct iod_virtio *virtio, uint8_t value); /* 0: resets; may defer the access */
struct iod_virtq *virtio_selected(const struct iod_virtio *virtio);  /* NULL: no such queue */
void virtio_kick(struct iod_virtio *virtio, uint32_t queue);         /* the driver's notification */
void virtio_look_again(struct iod_virtio *virtio, unsigned queue);   /* the same, of our own accord */
void virtio_ask_last(struct iod_virtio *virtio, unsigned queue);     /* for kicks, when the batch is over */
void virtio_look_at_all(struct iod_virtio *virtio);
uint32_t virtio_config_read(struct iod_virtio *virtio, uint64_t offset, unsigned width);
void virtio_config_write(struct iod_virtio *virtio, uint64_t offset, unsigned width, uint32_t value);
bool virtio_negotiated(const struct iod_virtio *virtio, unsigned bit); /* negotiated? */

#endif
