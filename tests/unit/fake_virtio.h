/* SPDX-License-Identifier: BSD-2-Clause */
/* A virtio device that records what happens to it, and a driver's view of its first queue's rings. */
#ifndef FAKE_VIRTIO_H
#define FAKE_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "fake_guest.h"
#include "unit.h"

#define FAKE_FEATURE 3u /* a device feature that the fake offers */
#define FAKE_DESC (FAKE_BASE + 0x1000)
#define FAKE_AVAIL (FAKE_BASE + 0x2000)
#define FAKE_USED (FAKE_BASE + 0x3000)
#define FAKE_SIZE 8u

struct fake_virtio {
    struct iod_device *device;
    struct iod_virtio *virtio;
    unsigned notified[2], driver_oks, queue_resets;
    int driver_ok_result;
    bool keep; /* notify pops nothing */
    unsigned popped;
    struct iod_extent extents[16];
    struct iod_chain chain; /* popped last */
    uint8_t config[8];
    unsigned config_writes;
};

static uint64_t fake_features(void *self)
{
    return UINT64_C(1) << FAKE_FEATURE;
}

static void fake_config_fill(void *self, void *config)
{
    memcpy(config, ((struct fake_virtio *)self)->config, 8);
}

static void fake_config_store(void *self, unsigned offset, const void *bytes, unsigned length)
{
    struct fake_virtio *fake = self;

    memcpy(fake->config + offset, bytes, length);
    fake->config_writes++;
}

static int fake_driver_ok(void *self)
{
    struct fake_virtio *fake = self;

    fake->driver_oks++;
    return fake->driver_ok_result;
}

static int fake_pop(struct fake_virtio *fake)
{
    fake->chain = (struct iod_chain){.extents = fake->extents, .max = 16};
    return iod_virtq_pop(iod_virtio_queue(fake->virtio, 0), &fake->chain);
}

/* Every chain comes back at once, with 7 bytes written. */
static void fake_notify(void *self, unsigned index)
{
    struct fake_virtio *fake = self;

    fake->notified[index]++;
    while (!fake->keep && index == 0 && fake_pop(fake)) {
        fake->popped++;
        iod_virtq_push(iod_virtio_queue(fake->virtio, 0), fake->chain.head, 7);
    }
    iod_virtq_flush(iod_virtio_queue(fake->virtio, index));
}

static void fake_queue_reset(void *self, unsigned index)
{
    ((struct fake_virtio *)self)->queue_resets++;
}

static const struct iod_virtio_class fake_class = {
    .size = sizeof(struct iod_virtio_class),
    .device_id = 42,
    .pci_class = 0xff0000,
    .config_size = 8,
    .queues = 2,
    .features = fake_features,
    .config_read = fake_config_fill,
    .config_write = fake_config_store,
    .driver_ok = fake_driver_ok,
    .notify = fake_notify,
    .queue_reset = fake_queue_reset,
};

/* The device has its keys already. NULL with *error: as iod_virtio_add. */
static inline struct iod_virtio *fake_virtio_add(struct fake_virtio *fake, struct iod_device *device,
                                                 struct iod_error *error)
{
    static const uint16_t sizes[2] = {FAKE_SIZE, 16};

    *fake = (struct fake_virtio){.device = device};
    device->self = fake;
    fake->virtio = iod_virtio_add(device, &fake_class, 2, sizes, error);
    return fake->virtio;
}

/* ---- the driver's side of queue 0, straight in memory ---- */

static inline struct vring_desc *fake_desc(struct guest *guest, unsigned index)
{
    return (struct vring_desc *)fake_at(guest, FAKE_DESC, 4096) + index;
}

static inline void fake_set(struct guest *guest, unsigned index, uint64_t address, uint32_t length,
                            uint16_t flags, uint16_t next)
{
    *fake_desc(guest, index) =
        (struct vring_desc){.addr = address, .len = length, .flags = flags, .next = next};
}

static inline uint16_t *fake_avail(struct guest *guest) /* flags, index, ring, used event */
{
    return fake_at(guest, FAKE_AVAIL, 4096);
}

static inline uint16_t *fake_used(struct guest *guest) /* flags, index, then elements */
{
    return fake_at(guest, FAKE_USED, 4096);
}

static inline struct vring_used_elem *fake_used_element(struct guest *guest, unsigned index)
{
    return (struct vring_used_elem *)(fake_used(guest) + 2) + index;
}

static inline uint16_t *fake_avail_event(struct guest *guest)
{
    return (uint16_t *)fake_used_element(guest, FAKE_SIZE);
}

static inline void fake_offer(struct guest *guest, uint16_t head)
{
    uint16_t *avail = fake_avail(guest);

    avail[2 + avail[1] % FAKE_SIZE] = head;
    avail[1]++;
}

#endif
