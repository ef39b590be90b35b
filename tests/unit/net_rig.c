/* SPDX-License-Identifier: BSD-2-Clause */
#include "net_rig.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>

#include <ioreqd/module.h>

extern const struct iod_module iod_module_virtio_net;

struct rig rig;

/* ---- options ---- */

static struct {
    const char *name, *value;
} given[8];

void rig_option(const char *name, const char *value)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!given[i].name || !strcmp(given[i].name, name)) {
            given[i].name = name;
            given[i].value = value;
            return;
        }
    }
    abort();
}

const char *iod_option_string(const struct iod_options *options, const char *name)
{
    for (unsigned i = 0; i < 8 && given[i].name; i++) {
        if (!strcmp(given[i].name, name) && given[i].value) {
            return given[i].value;
        }
    }
    for (const struct iod_option *option = rig.class->options; option->name; option++) {
        if (!strcmp(option->name, name)) {
            return option->fallback;
        }
    }
    abort(); /* not in the table */
}

uint64_t iod_option_number(const struct iod_options *options, const char *name)
{
    const char *text = iod_option_string(options, name);

    return text ? strtoull(text, NULL, 0) : 0;
}

bool iod_option_bool(const struct iod_options *options, const char *name)
{
    const char *text = iod_option_string(options, name);

    return text && !strcmp(text, "on");
}

const struct iod_options *iod_device_options(const struct iod_device *device)
{
    return NULL;
}

void iod_random(struct iod_device *device, void *to, size_t length)
{
    memset(to, 0xff, length);
}

/* ---- mappings ---- */

struct iod_mapping {
    unsigned count;
    size_t length;
    struct iovec iov[CHAIN_ROOM];
};

int iod_dma_map(struct iod_device *device, const struct iod_extent *extents, unsigned count,
                enum iod_dma_dir dir, struct iod_mapping **mapping)
{
    struct iod_mapping *made = calloc(1, sizeof(*made));

    for (unsigned i = 0; i < count; i++) {
        uint8_t byte;

        if (iod_dma_read(device, extents[i].address, &byte, 1) < 0) {
            free(made);
            return -EFAULT;
        }
        made->iov[made->count++] = (struct iovec){
            fake_at(device->guest, extents[i].address, extents[i].length), extents[i].length};
        made->length += extents[i].length;
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
    ck_assert_str_eq(key, "netdev");
    ck_assert_str_eq(fallback, "tap");
    rig.backend.asked_pairs = pairs;
    rig.backend.events = events;
    rig.backend.self = self;
    return (struct iod_netdev *)&rig.backend;
}

const struct iod_netdev_limits *iod_netdev_limits(const struct iod_netdev *netdev)
{
    return &rig.backend.limits;
}

const struct iod_netdev_counters *iod_netdev_counters(const struct iod_netdev *netdev)
{
    return &rig.backend.counters;
}

int iod_netdev_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count)
{
    size_t length = 0, at = 0;

    if (rig.backend.sent >= rig.backend.takes_frames) {
        return -EAGAIN;
    }
    for (unsigned i = 0; i < count; i++) {
        length += iov[i].iov_len;
    }
    ck_assert_uint_lt(rig.backend.sent, RIG_SENT);
    uint8_t *bytes = malloc(length ? length : 1);
    for (unsigned i = 0; i < count; i++) {
        memcpy(bytes + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    rig.backend.frames[rig.backend.sent].pair = pair;
    rig.backend.frames[rig.backend.sent].length = length;
    rig.backend.frames[rig.backend.sent].bytes = bytes;
    rig.backend.sent++;
    return 0;
}

void iod_netdev_send_end(struct iod_netdev *netdev, unsigned pair)
{
    rig.backend.send_ends++;
}

void iod_netdev_receive_again(struct iod_netdev *netdev, unsigned pair)
{
    rig.backend.again[pair]++;
}

int iod_netdev_set_offloads(struct iod_netdev *netdev, uint32_t offloads)
{
    if (rig.backend.offloads_result == 0) {
        rig.backend.offloads = offloads;
    }
    return rig.backend.offloads_result;
}

int iod_netdev_set_pairs(struct iod_netdev *netdev, unsigned pairs)
{
    rig.backend.pairs = pairs;
    return 0;
}

uint8_t rig_byte(size_t at, uint8_t seed)
{
    return (uint8_t)(at * 7 + at / 256 + seed);
}

uint8_t *rig_frame(size_t length, uint8_t seed)
{
    static uint8_t frame[RIG_FRAME_ROOM];

    memset(frame, 0, IOD_NET_HEADER);
    for (size_t i = 0; i < length; i++) {
        frame[IOD_NET_HEADER + i] = rig_byte(i, seed);
    }
    frame[IOD_NET_HEADER] &= 0xfe; /* not to a group */
    return frame;
}

bool rig_offer(unsigned pair, const uint8_t *frame, size_t length)
{
    bool taken = rig.backend.events->receive(rig.backend.self, pair, frame, IOD_NET_HEADER + length);

    rig.backend.events->receive_end(rig.backend.self, pair);
    fake_tasks(rig.device);
    return taken;
}

/* ---- life ---- */

int rig_make(const char *bus, struct iod_error *error)
{
    int result;

    rig.class = iod_module_virtio_net.devices[0];
    rig.guest = fake_guest(ARCH_ARM, GUEST_UNKNOWN);
    rig.device = fake_device(rig.guest, "nic");
    rig.device->keys.has_base = rig.device->keys.has_irq = true;
    rig.device->keys.base = 0x02000000;
    rig.device->keys.irq = 33;
    rig.device->keys.bus = bus;
    rig.device->self = calloc(1, rig.class->self_size);
    rig.device->regs = calloc(1, rig.class->regs_size);
    rig.next_buffer = RIG_BUFFERS;
    rig.backend.takes_frames = RIG_SENT;
    result = rig.class->create(rig.device, error);
    if (result == 0) {
        rig.class->reset(rig.device);
        result = rig.class->open(rig.device, error);
    }
    if (result == 0) {
        rig.region = fake_region(rig.device, 0);
        fake_start(rig.device);
        rig.class->start(rig.device);
    }
    return result;
}

void rig_setup(const char *bus, const char *pairs)
{
    struct iod_error error = {0};

    rig.backend.limits = (struct iod_netdev_limits){
        .pairs = 4, .takes = RIG_ALL_OFFLOADS, .gives = RIG_ALL_OFFLOADS, .mtu = 1500, .link = true};
    rig_option("pairs", pairs);
    ck_assert_msg(rig_make(bus, &error) == 0, "%s", error.text);
}

void rig_teardown(void)
{
    if (rig.device) {
        rig.class->destroy(rig.device);
        free(rig.device->self);
        free(rig.device->regs);
        fake_device_free(rig.device);
        fake_guest_free(rig.guest);
    }
    for (unsigned i = 0; i < rig.backend.sent; i++) {
        free(rig.backend.frames[i].bytes);
    }
}

struct net *rig_net(void)
{
    return rig.device->self;
}

struct net_regs *rig_regs(void)
{
    return rig.device->regs;
}

/* ---- the driver ---- */

static uint64_t desc_at(unsigned queue)
{
    return FAKE_BASE + 0x1000 * (uint64_t)queue;
}

static struct vring_desc *desc(unsigned queue)
{
    return fake_at(rig.guest, desc_at(queue), 4096);
}

static uint16_t *avail(unsigned queue)
{
    return fake_at(rig.guest, desc_at(queue) + 0x400, 256);
}

static struct vring_used *used(unsigned queue)
{
    return fake_at(rig.guest, desc_at(queue) + 0x800, 1024);
}

static void reg(unsigned offset, uint32_t value)
{
    fake_write(rig.region, offset, 4, value);
}

uint64_t rig_offered(void)
{
    uint64_t features;

    reg(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    features = fake_read(rig.region, VIRTIO_MMIO_DEVICE_FEATURES, 4) << 32;
    reg(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    return features | fake_read(rig.region, VIRTIO_MMIO_DEVICE_FEATURES, 4);
}

static void enable(unsigned queue)
{
    uint64_t at = desc_at(queue);

    reg(VIRTIO_MMIO_QUEUE_SEL, queue);
    reg(VIRTIO_MMIO_QUEUE_NUM, RIG_SIZE);
    reg(VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)at);
    reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)at + 0x400);
    reg(VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)at + 0x800);
    memset(fake_at(rig.guest, at, 4096), 0, 4096);
    rig.rings[queue] = (struct rig_ring){0};
    reg(VIRTIO_MMIO_QUEUE_READY, 1);
}

void rig_start(uint64_t features, unsigned queues)
{
    rig.features = features & rig_offered();
    reg(VIRTIO_MMIO_STATUS, 0);
    reg(VIRTIO_MMIO_STATUS, 3);
    for (unsigned half = 0; half < 2; half++) {
        reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        reg(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(rig.features >> (32 * half)));
    }
    reg(VIRTIO_MMIO_STATUS, 11);
    ck_assert_uint_eq(rig_status(), 11);
    for (unsigned i = 0; i < queues; i++) {
        enable(i);
    }
    reg(VIRTIO_MMIO_STATUS, 15);
    fake_tasks(rig.device);
}

uint32_t rig_status(void)
{
    return (uint32_t)fake_read(rig.region, VIRTIO_MMIO_STATUS, 4);
}

uint64_t rig_take(size_t length)
{
    uint64_t at = rig.next_buffer;

    memset(fake_at(rig.guest, at, length), 0, length);
    rig.next_buffer += (length + 15) & ~UINT64_C(15);
    return at;
}

void rig_put(unsigned queue, unsigned out, unsigned count, const struct iod_extent *extents)
{
    struct rig_ring *ring = &rig.rings[queue];
    unsigned head = ring->next_desc;

    for (unsigned i = 0; i < count; i++) {
        unsigned at = ring->next_desc++ % RIG_SIZE;

        desc(queue)[at] = (struct vring_desc){
            .addr = extents[i].address, .len = extents[i].length,
            .flags = (uint16_t)((i >= out ? VRING_DESC_F_WRITE : 0) | (i + 1 < count ? VRING_DESC_F_NEXT : 0)),
            .next = (uint16_t)((at + 1) % RIG_SIZE)};
    }
    avail(queue)[2 + ring->next_avail % RIG_SIZE] = (uint16_t)(head % RIG_SIZE);
    avail(queue)[1] = ++ring->next_avail;
}

uint64_t rig_receive_buffer(unsigned queue, uint32_t length)
{
    struct iod_extent extent = {rig_take(length), length};

    rig_put(queue, 0, 1, &extent);
    return extent.address;
}

void rig_put_frame(unsigned queue, size_t length, uint8_t seed)
{
    struct iod_extent extent = {rig_take(IOD_NET_HEADER + length), (uint32_t)(IOD_NET_HEADER + length)};

    memcpy(fake_at(rig.guest, extent.address, extent.length), rig_frame(length, seed), extent.length);
    rig_put(queue, 1, 1, &extent);
}

void rig_kick(unsigned queue)
{
    reg(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
    fake_tasks(rig.device);
}

bool rig_used(unsigned queue, uint32_t *head, uint32_t *written)
{
    struct rig_ring *ring = &rig.rings[queue];

    if (used(queue)->idx == ring->next_used) {
        return false;
    }
    struct vring_used_elem element = used(queue)->ring[ring->next_used++ % RIG_SIZE];
    if (head) {
        *head = element.id;
    }
    if (written) {
        *written = element.len;
    }
    return true;
}

int rig_command(unsigned queue, uint8_t class, uint8_t what, const void *data, size_t length)
{
    uint64_t at = rig_take(2 + length + 1), mark = at;
    uint8_t *bytes = fake_at(rig.guest, at, 2 + length + 1);
    struct iod_extent extents[3] = {{at, 2}, {at + 2, (uint32_t)length}, {at + 2 + length, 1}};

    bytes[0] = class;
    bytes[1] = what;
    if (length) {
        memcpy(bytes + 2, data, length);
    }
    bytes[2 + length] = 0x55;
    rig_put(queue, 2, 3, extents);
    rig_kick(queue);
    rig.next_buffer = mark;
    return rig_used(queue, NULL, NULL) && bytes[2 + length] != 0x55 ? bytes[2 + length] : -1;
}
