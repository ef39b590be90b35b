/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as what a driver, and the world behind its network card, do to virtio-net: memory written while it is read,
 * kicks, frames, a backend without room, links, saved states. Nothing of the guest's is held when a step is over, no
 * piece of a frame lies outside its memory, and the registers stay what a load would take.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/module.h>

#include "../../devices/virtio_net/virtio_net.h"
#include "../unit/fake_guest.h"
#include "fuzz.h"
#include "virtio/virtq.h"

#define SIZE 8u
#define QUEUES 5u                  /* two pairs, control */
#define PLACE(queue) (FAKE_BASE + 0x400u * (queue))
#define BUFFERS (FAKE_BASE + 0x2000u)
#define STEPS_MAX 200u

extern const struct iod_module iod_module_virtio_net;

static struct { /* one input after the other: all of it is set anew */
    struct guest *guest;
    struct iod_device *device;
    const struct iod_netdev_events *events;
    struct iod_netdev_limits limits;
    struct iod_netdev_counters counters;
    void *self;
    unsigned room;                 /* frames that the backend takes now */
    bool accepts[IOD_NET_PAIRS_MAX];
} world;

/* ---- the core's part that the fake guest has not ---- */

const struct iod_options *iod_device_options(const struct iod_device *device)
{
    return NULL;
}

const char *iod_option_string(const struct iod_options *options, const char *name)
{
    return strcmp(name, "mac") ? NULL : "02:00:00:00:00:01";
}

uint64_t iod_option_number(const struct iod_options *options, const char *name)
{
    return !strcmp(name, "pairs") ? 2 : !strcmp(name, "queue-size") ? SIZE : 0;
}

bool iod_option_bool(const struct iod_options *options, const char *name)
{
    return true;
}

void iod_random(struct iod_device *device, void *to, size_t length)
{
    memset(to, 7, length);
}

struct iod_mapping {
    unsigned count;
    struct iovec iov[CHAIN_ROOM];
};

int iod_dma_map(struct iod_device *device, const struct iod_extent *extents, unsigned count,
                enum iod_dma_dir dir, struct iod_mapping **mapping)
{
    struct iod_mapping *made = calloc(1, sizeof(*made));
    FUZZ_CHECK(made && count <= CHAIN_ROOM);
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = extents[i].address - FAKE_BASE;
        if (extents[i].address < FAKE_BASE || extents[i].length > FAKE_MEMORY || at > FAKE_MEMORY - extents[i].length) {
            free(made);
            return -EFAULT;
        }
        made->iov[made->count++] = (struct iovec){world.guest->memory + at, extents[i].length};
    }
    *mapping = made;
    return 0;
}

const struct iovec *iod_mapping_iov(const struct iod_mapping *mapping, unsigned *count)
{
    *count = mapping->count;
    return mapping->iov;
}

void iod_mapping_put(struct iod_mapping *mapping, size_t written)
{
    free(mapping);
}

/* ---- the backend ---- */

struct iod_netdev *iod_netdev_attach(struct iod_device *device, const char *key, const char *fallback,
                                     unsigned pairs, const struct iod_netdev_events *events, void *self,
                                     struct iod_error *error)
{
    world.events = events;
    world.self = self;
    return (struct iod_netdev *)&world;
}

const struct iod_netdev_limits *iod_netdev_limits(const struct iod_netdev *netdev)
{
    return &world.limits;
}

const struct iod_netdev_counters *iod_netdev_counters(const struct iod_netdev *netdev)
{
    return &world.counters;
}

int iod_netdev_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count)
{
    size_t length = 0;
    static volatile uint8_t sum; /* every byte is there to be read */
    FUZZ_CHECK(pair < world.limits.pairs && count <= IOD_NET_PIECES_MAX);
    if (world.room == 0) {
        return -EAGAIN;
    }
    world.room--;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *at = iov[i].iov_base;
        length += iov[i].iov_len;
        for (size_t byte = 0; byte < iov[i].iov_len; byte++) {
            sum = (uint8_t)(sum + at[byte]);
        }
    }
    FUZZ_CHECK(length >= IOD_NET_HEADER + ETH_HLEN && length <= IOD_NET_HEADER + IOD_NET_FRAME_MAX);
    return 0;
}

void iod_netdev_send_end(struct iod_netdev *netdev, unsigned pair)
{
    FUZZ_CHECK(pair < world.limits.pairs);
}

void iod_netdev_receive_again(struct iod_netdev *netdev, unsigned pair)
{
    FUZZ_CHECK(pair < world.limits.pairs);
    world.accepts[pair] = true;
}

int iod_netdev_set_offloads(struct iod_netdev *netdev, uint32_t offloads)
{
    FUZZ_CHECK(!(offloads & ~world.limits.gives));
    return 0;
}

int iod_netdev_set_pairs(struct iod_netdev *netdev, unsigned pairs)
{
    FUZZ_CHECK(pairs >= 1 && pairs <= world.limits.pairs);
    return 0;
}

/* ---- the steps ---- */

struct input {
    const uint8_t *bytes;
    size_t left;
};

static unsigned take(struct input *input, unsigned bytes)
{
    unsigned value = 0;
    for (; bytes; bytes--) {
        value = value << 8 | (input->left ? *input->bytes : 0);
        input->bytes += input->left ? 1 : 0;
        input->left -= input->left ? 1 : 0;
    }
    return value;
}

static void reg(unsigned offset, uint32_t value)
{
    fake_write(fake_region(world.device, 0), offset, 4, value);
}

/* Rings with a buffer in each descriptor, and a control command, that a step may show or spoil. */
static void fill_rings(void)
{
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        struct vring_desc *desc = fake_at(world.guest, PLACE(queue), 0x400);
        uint16_t *avail = fake_at(world.guest, PLACE(queue) + 0x100, 64);
        memset(desc, 0, 0x400);
        for (unsigned i = 0; i < SIZE; i++) {
            desc[i] = (struct vring_desc){.addr = BUFFERS + (queue * SIZE + i) * 0x800u, .len = 0x600,
                                          .flags = queue % 2 ? 0 : VRING_DESC_F_WRITE,
                                          .next = (uint16_t)((i + 1) % SIZE)};
            avail[2 + i] = (uint16_t)i;
        }
    }
    for (unsigned queue = 2; queue < QUEUES; queue += 2) { /* without MQ the third is the control queue */
        struct vring_desc *desc = fake_at(world.guest, PLACE(queue), 0x400);
        desc[0] = (struct vring_desc){.addr = BUFFERS, .len = 2, .flags = VRING_DESC_F_NEXT, .next = 1};
        desc[1] = (struct vring_desc){.addr = BUFFERS + 2, .len = 8, .flags = VRING_DESC_F_NEXT, .next = 2};
        desc[2] = (struct vring_desc){.addr = BUFFERS + 0x100, .len = 1, .flags = VRING_DESC_F_WRITE};
    }
}

static void bring_up(unsigned choice)
{
    uint64_t features = UINT64_MAX;
    features &= choice & 1 ? UINT64_MAX : ~BIT64(VIRTIO_NET_F_MRG_RXBUF);
    features &= choice & 2 ? UINT64_MAX : ~BIT64(VIRTIO_NET_F_MQ);
    features &= choice & 4 ? UINT64_MAX : ~BIT64(VIRTIO_RING_F_EVENT_IDX);
    features &= choice & 8 ? UINT64_MAX : ~BIT64(VIRTIO_NET_F_CTRL_VLAN);
    reg(VIRTIO_MMIO_STATUS, 0);
    reg(VIRTIO_MMIO_STATUS, 3);
    for (unsigned half = 0; half < 2; half++) {
        reg(VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
        reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        uint64_t offered = fake_read(fake_region(world.device, 0), VIRTIO_MMIO_DEVICE_FEATURES, 4);
        reg(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * half) & (uint32_t)offered);
    }
    reg(VIRTIO_MMIO_STATUS, 11);
    fill_rings();
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        reg(VIRTIO_MMIO_QUEUE_SEL, queue);
        reg(VIRTIO_MMIO_QUEUE_NUM, SIZE);
        reg(VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)PLACE(queue));
        reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)PLACE(queue) + 0x100);
        reg(VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)PLACE(queue) + 0x200);
        reg(VIRTIO_MMIO_QUEUE_READY, 1);
    }
    reg(VIRTIO_MMIO_STATUS, 15);
}

static void offer(struct input *input)
{
    static uint8_t frame[IOD_NET_HEADER + IOD_NET_FRAME_MAX];
    unsigned pair = take(input, 1) % 2;
    size_t length = IOD_NET_HEADER + ETH_HLEN + take(input, 2);
    length = length < sizeof(frame) ? length : sizeof(frame);
    for (unsigned i = 0; i < 32; i++) {
        frame[i] = (uint8_t)take(input, 1);
    }
    if (world.accepts[pair]) {
        world.accepts[pair] = world.events->receive(world.self, pair, frame, length);
        world.events->receive_end(world.self, pair);
    }
}

static bool valid(void)
{
    const struct iod_device_class *class = iod_module_virtio_net.devices[0];
    for (const struct iod_field *field = class->fields; field->name; field++) {
        if (field->valid && !field->valid(world.device->regs)) {
            return false;
        }
    }
    return true;
}

static void load(struct input *input)
{
    const struct iod_device_class *class = iod_module_virtio_net.devices[0];
    struct iod_error error = {0};
    FUZZ_CHECK(class->quiesce(world.device, IOD_FINISH) == IOD_NOW);
    fake_stop(world.device);
    memset(world.accepts, 0, sizeof(world.accepts));
    for (unsigned count = take(input, 1) % 8; count; count--) {
        unsigned at = take(input, 2) % sizeof(struct net_regs);
        ((uint8_t *)world.device->regs)[at] = (uint8_t)take(input, 1);
    }
    if (!valid() || class->load(world.device, NULL, &error) < 0) {
        memset(world.device->regs, 0, sizeof(struct net_regs));
        class->reset(world.device);
    }
    fake_start(world.device);
    class->start(world.device);
}

static void write_memory(struct input *input)
{
    unsigned at = take(input, 2), count = take(input, 1) % 24;
    for (; count; count--) {
        world.guest->memory[at++ % 0x10000] = (uint8_t)take(input, 1);
    }
}

static void step(struct input *input)
{
    unsigned what = take(input, 1), queue = what / 8 % (QUEUES + 1);
    switch (what % 8) {
    case 0:
        write_memory(input);
        break;
    case 1: /* more entries are shown */
        if (queue < QUEUES) {
            ((uint16_t *)fake_at(world.guest, PLACE(queue) + 0x100, 64))[1] += (uint16_t)(1 + take(input, 1) % SIZE);
        }
        /* fall through */
    case 2:
        reg(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
        break;
    case 3:
    case 4:
        offer(input);
        break;
    case 5:
        world.room = take(input, 1);
        world.events->writable(world.self, 0);
        break;
    case 6:
        world.limits.link = what & 8;
        world.events->changed(world.self);
        fake_read(fake_region(world.device, 0), 0x100 + what / 16, 1);
        fake_write(fake_region(world.device, 0), 0x100 + what / 16, 1, what);
        break;
    default:
        if (what & 0x80) {
            bring_up(what >> 3);
        } else {
            load(input);
        }
        break;
    }
}

static void check(void)
{
    const struct net *net = world.device->self;
    for (unsigned i = 0; i < net->count; i++) {
        FUZZ_CHECK(net->pairs[i].receive->in_flight == 0 && net->pairs[i].transmit->in_flight == 0);
    }
    FUZZ_CHECK(valid());
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const struct iod_device_class *class = iod_module_virtio_net.devices[0];
    struct input input = {.bytes = bytes, .left = length};
    struct iod_error error = {0};

    memset(&world, 0, sizeof(world));
    world.limits = (struct iod_netdev_limits){.pairs = 2, .takes = 0x3f, .gives = 0x3f, .mtu = 9000, .link = true};
    world.guest = fake_guest(ARCH_ARM, GUEST_UNKNOWN);
    world.device = fake_device(world.guest, "fuzz");
    world.device->keys.has_base = world.device->keys.has_irq = true;
    world.device->keys.irq = 33;
    world.device->self = calloc(1, class->self_size);
    world.device->regs = calloc(1, class->regs_size);
    FUZZ_CHECK(class->create(world.device, &error) == 0);
    class->reset(world.device);
    FUZZ_CHECK(class->open(world.device, &error) == 0);
    fake_start(world.device);
    class->start(world.device);
    bring_up(take(&input, 1));
    fake_tasks(world.device);
    for (unsigned i = 0; i < STEPS_MAX && input.left; i++) {
        step(&input);
        fake_tasks(world.device);
        check();
    }
    fake_stop(world.device);
    ((struct net *)world.device->self)->started = false; /* no summary in the log */
    class->destroy(world.device);
    free(world.device->self);
    free(world.device->regs);
    fake_device_free(world.device);
    fake_guest_free(world.guest);
    return 0;
}
