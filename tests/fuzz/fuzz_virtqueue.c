/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as the memory of a guest with a virtqueue in it: two bytes of ring features and choices, then memory
 * from the descriptor table on. Whatever they are, chains keep within their bounds and a drain ends.
 */
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/fake_guest.h"
#include "fuzz.h"

#define SIZE 16u
#define EXTENTS 24u
#define DESC FAKE_BASE
#define AVAIL (FAKE_BASE + 16 * SIZE)
#define USED (AVAIL + 64)
#define MEMORY 4096u

struct target {
    struct guest *guest;
    struct iod_virtio *virtio;
    struct iod_virtq *queue;
    const uint8_t *later; /* bytes that another vCPU writes between two looks */
    size_t later_length;
    unsigned pops;
};

static uint64_t no_features(void *self)
{
    return 0;
}

static void check_chain(const struct iod_chain *chain)
{
    uint64_t out = 0, in = 0;

    FUZZ_CHECK(chain->out + chain->in <= EXTENTS && chain->head < SIZE);
    for (unsigned i = 0; i < chain->out + chain->in; i++) {
        FUZZ_CHECK(chain->extents[i].length > 0);
        FUZZ_CHECK(chain->extents[i].address + chain->extents[i].length >= chain->extents[i].address);
        *(i < chain->out ? &out : &in) += chain->extents[i].length;
    }
    FUZZ_CHECK(out == chain->out_length && in == chain->in_length && out + in <= UINT64_C(1) << 32);
}

/* The guest's other hand: three bytes say where and what. */
static void scribble(struct target *target)
{
    if (target->later_length >= 3) {
        target->guest->memory[(target->later[0] | target->later[1] << 8) % MEMORY] = target->later[2];
        target->later += 3;
        target->later_length -= 3;
    }
}

static void drain(void *self, unsigned index)
{
    struct target *target = self;
    struct iod_extent extents[EXTENTS];
    struct iod_chain chain = {.extents = extents, .max = EXTENTS};
    unsigned popped = 0;

    while (iod_virtq_pop(target->queue, &chain)) {
        FUZZ_CHECK(++popped <= SIZE); /* the drain ends, however fast the ring fills */
        check_chain(&chain);
        scribble(target);
        if (popped % 3 == 2) {
            iod_virtq_unpop(target->queue);
            FUZZ_CHECK(iod_virtq_pop(target->queue, &chain) == 0 || chain.out + chain.in <= EXTENTS);
        }
        if (popped % 4) {
            iod_virtq_push(target->queue, chain.head, (uint32_t)chain.in_length);
        }
    }
    target->pops += popped;
    iod_virtq_flush(target->queue);
}

static const struct iod_virtio_class fuzz_class = {
    .size = sizeof(struct iod_virtio_class),
    .device_id = 1,
    .queues = 1,
    .features = no_features,
    .notify = drain,
};

static void bring_up(struct iod_region *region, uint8_t choice)
{
    const struct {
        uint32_t offset, value;
    } writes[] = {
        {VIRTIO_MMIO_STATUS, 3},
        {VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0},
        {VIRTIO_MMIO_DRIVER_FEATURES, (choice & 1u) << VIRTIO_RING_F_INDIRECT_DESC |
                                          (choice >> 1 & 1u) << VIRTIO_RING_F_EVENT_IDX},
        {VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1},
        {VIRTIO_MMIO_DRIVER_FEATURES, 1},
        {VIRTIO_MMIO_STATUS, 11},
        {VIRTIO_MMIO_QUEUE_SEL, 0},
        {VIRTIO_MMIO_QUEUE_NUM, SIZE >> (choice >> 2 & 3)},
        {VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)DESC},
        {VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)AVAIL},
        {VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)USED},
        {VIRTIO_MMIO_QUEUE_READY, 1},
        {VIRTIO_MMIO_STATUS, 15},
    };

    for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
        FUZZ_CHECK(fake_write(region, writes[i].offset, 4, writes[i].value));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const uint16_t sizes[] = {SIZE};
    struct iod_error error = {0};
    struct target target = {0};

    if (length < 2) {
        return 0;
    }
    struct guest *guest = fake_guest(ARCH_ARM, GUEST_UNKNOWN);
    struct iod_device *device = fake_device(guest, "fuzz");
    size_t memory = length - 2 < MEMORY ? length - 2 : MEMORY;
    memcpy(guest->memory, bytes + 2, memory);
    target.guest = guest;
    target.later = bytes + 2;
    target.later_length = length - 2;
    device->keys.has_base = device->keys.has_irq = true;
    device->self = &target;
    target.virtio = iod_virtio_add(device, &fuzz_class, 1, sizes, &error);
    FUZZ_CHECK(target.virtio);
    target.queue = iod_virtio_queue(target.virtio, 0);
    fake_start(device);
    bring_up(fake_region(device, 0), bytes[0]);
    for (unsigned i = 0; i < 8 && fake_tasks(device); i++) {
        if (bytes[1] & 1u << i) {
            fake_write(fake_region(device, 0), VIRTIO_MMIO_QUEUE_NOTIFY, 4, 0);
        }
    }
    if (bytes[0] & 0x80 && !fake_write(fake_region(device, 0), VIRTIO_MMIO_QUEUE_READY, 4, 0)) {
        FUZZ_CHECK(device->access); /* it waits for what was not pushed */
    }
    fake_stop(device);
    FUZZ_CHECK(!device->access);
    fake_device_free(device);
    fake_guest_free(guest);
    return 0;
}
