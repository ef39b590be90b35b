/* SPDX-License-Identifier: BSD-2-Clause */
/* A split virtqueue: ring state, and its enabling and disabling by a transport. */
#ifndef VIRTIO_VIRTQ_H
#define VIRTIO_VIRTQ_H

#include "virtio/virtio.h"

/* What the guest can see, and what a successor needs to go on. */
struct virtq_regs {
    uint64_t desc, driver, device; /* guest addresses of the three parts */
    uint32_t pfn, align;           /* legacy: as written */
    uint16_t size;
    uint16_t vector;
    uint16_t next_avail;           /* the next entry of the available ring to take */
    uint16_t used;                 /* the next entry of the used ring to fill */
    uint8_t enabled;
};

struct iod_virtq {
    struct device_part part;
    struct device_part_ops ops;
    char name[12];
    struct iod_virtio *virtio;
    uint16_t index, max;
    struct iod_window *desc, *driver, *device;
    uint16_t avail;       /* entries before it may be taken without looking at the ring */
    uint16_t published;   /* used idx as the guest sees it */
    uint16_t grown;       /* avail idx as it was at the last kick */
    unsigned kicks;       /* that no drain has looked at yet */
    uint16_t budget;      /* chains left in this drain: a guest can fill as fast as we empty */
    bool unnotified;      /* we told the driver not to kick (without EVENT_IDX) */
    bool closing;         /* being disabled: nothing is popped */
    unsigned in_flight;   /* popped, not pushed */
    struct iod_access *access; /* the write that disables, waiting for in_flight */
};

static inline struct virtq_regs *virtq_regs(const struct iod_virtq *queue)
{
    return queue->part.regs;
}

int virtq_init(struct iod_virtq *queue, struct iod_virtio *virtio, unsigned index, uint16_t max);
/* With the addresses and size in regs. false: they are not acceptable; the queue stays disabled. */
bool virtq_enable(struct iod_virtq *queue);
/* May defer the access: it ends when nothing of the queue is in flight. */
void virtq_disable(struct iod_virtq *queue);
void virtq_clear(struct iod_virtq *queue);   /* the state after a reset; nothing may be in flight */
void virtq_stopped(struct iod_virtq *queue); /* all is quiet: publish what was pushed */
void virtq_refill(struct iod_virtq *queue);  /* a new drain begins */
bool virtq_grew(struct iod_virtq *queue);    /* has the driver added entries since it was asked last? */
void virtq_ask(struct iod_virtq *queue);     /* for kicks; what came meanwhile is looked at again */

#endif
