/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio block device (virtio 1.2, section 5.2). A request is a chain: a 16-byte header, data, a status byte
 * at the very end, each cut into buffers as the driver likes. Requests live in a pool per queue, made when
 * the driver starts; when it is empty no more is taken from the ring, so a guest's load is bounded by the
 * pool.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/module.h>

#include "virtio_blk.h"

/* ---- the virtio device ---- */

static uint64_t blk_features(void *self)
{
    const struct blk *blk = self;
    const struct iod_block_limits *limits = iod_block_limits(blk->block);
    uint64_t features = BIT64(VIRTIO_BLK_F_SEG_MAX) | BIT64(VIRTIO_BLK_F_BLK_SIZE) |
                        BIT64(VIRTIO_BLK_F_TOPOLOGY) | BIT64(VIRTIO_BLK_F_FLUSH);

    if (blk->count > 1) {
        features |= BIT64(VIRTIO_BLK_F_MQ);
    }
    if (limits->readonly) {
        return features | BIT64(VIRTIO_BLK_F_RO);
    }
    if (limits->volatile_cache) {
        features |= BIT64(VIRTIO_BLK_F_CONFIG_WCE);
    }
    if (limits->max_discard) {
        features |= BIT64(VIRTIO_BLK_F_DISCARD);
    }
    if (limits->max_zero) {
        features |= BIT64(VIRTIO_BLK_F_WRITE_ZEROES);
    }
    return features;
}

static uint32_t sectors(uint64_t bytes)
{
    return bytes / SECTOR > UINT32_MAX ? UINT32_MAX : (uint32_t)(bytes / SECTOR);
}

static uint8_t log2_of(uint32_t value)
{
    return value ? (uint8_t)(31 - __builtin_clz(value)) : 0;
}

static void blk_config_read(void *self, void *config)
{
    const struct blk *blk = self;
    const struct iod_block_limits *limits = iod_block_limits(blk->block);
    const uint32_t physical = limits->physical > limits->sector ? limits->physical : limits->sector;
    struct virtio_blk_config out = {
        .capacity = limits->capacity / SECTOR,
        .seg_max = blk->queue_size - 2u,
        .blk_size = limits->sector,
        .physical_block_exp = log2_of(physical / limits->sector),
        .min_io_size = (uint16_t)(physical / limits->sector),
        .opt_io_size = limits->optimal / limits->sector,
        .wce = limits->volatile_cache && !(blk_write_flags(blk) & IOD_BLOCK_FUA),
        .num_queues = (uint16_t)blk->count,
        .max_discard_sectors = sectors(limits->max_discard),
        .max_discard_seg = 1,
        .discard_sector_alignment = physical / SECTOR,
        .max_write_zeroes_sectors = sectors(limits->max_zero),
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };

    memcpy(config, &out, sizeof(out));
}

static void blk_config_write(void *self, unsigned offset, const void *bytes, unsigned length)
{
    struct blk *blk = self;
    struct blk_regs *regs = iod_regs(blk->device);

    if (offset != offsetof(struct virtio_blk_config, wce) || length != 1 ||
        !(iod_virtio_features(blk->virtio) & BIT64(VIRTIO_BLK_F_CONFIG_WCE))) {
        iod_guest_error(blk->device, "a write of %u bytes to its configuration at %u", length, offset);
        return;
    }
    regs->cache = *(const uint8_t *)bytes ? CACHE_WRITEBACK : CACHE_WRITETHROUGH;
}

static int blk_driver_ok(void *self)
{
    struct blk *blk = self;

    for (unsigned i = 0; i < blk->count; i++) {
        if (iod_virtq_size(blk->queues[i].virtq) && !blk_pool_make(&blk->queues[i])) {
            return -ENOMEM;
        }
    }
    return 0;
}

static const struct iod_virtio_class blk_virtio = {
    .size = sizeof(struct iod_virtio_class),
    .device_id = 2,
    .pci_class = 0x010000, /* SCSI controller: what drivers of a virtio disk expect */
    .config_size = sizeof(struct virtio_blk_config),
    .queues = QUEUES_MAX,
    .features = blk_features,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .driver_ok = blk_driver_ok,
    .notify = blk_notify,
};

/* ---- life ---- */

static void limits_changed(void *self)
{
    struct blk *blk = self;

    iod_virtio_config_changed(blk->virtio);
}

static int make_queues(struct blk *blk, struct iod_error *error)
{
    uint16_t sizes[QUEUES_MAX];

    blk->queues = calloc(blk->count, sizeof(*blk->queues));
    blk->task = iod_task_add(blk->device, blk_after_completions, blk);
    if (!blk->queues || !blk->task) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(blk->device));
    }
    for (unsigned i = 0; i < blk->count; i++) {
        sizes[i] = blk->queue_size;
    }
    blk->virtio = iod_virtio_add(blk->device, &blk_virtio, blk->count, sizes, error);
    if (!blk->virtio) {
        return -(error->code ? error->code : EINVAL);
    }
    for (unsigned i = 0; i < blk->count; i++) {
        blk->queues[i].blk = blk;
        blk->queues[i].virtq = iod_virtio_queue(blk->virtio, i);
    }
    return 0;
}

static int blk_create(struct iod_device *device, struct iod_error *error)
{
    const struct iod_options *options = iod_device_options(device);
    const char *serial = iod_option_string(options, "serial");
    struct blk *blk = iod_self(device);

    blk->device = device;
    blk->count = (unsigned)iod_option_number(options, "queues");
    blk->queue_size = (uint16_t)iod_option_number(options, "queue-size");
    if (blk->queue_size & (blk->queue_size - 1)) {
        return iod_fail(error, EINVAL, "%s: queue-size=%u: must be a power of two", iod_device_id(device),
                        blk->queue_size);
    }
    if (serial && strlen(serial) > VIRTIO_BLK_ID_BYTES) {
        return iod_fail(error, EINVAL, "%s: serial=%s: must be at most %d bytes", iod_device_id(device),
                        serial, VIRTIO_BLK_ID_BYTES);
    }
    blk->block = iod_block_attach(device, "block", error);
    if (!blk->block) {
        return -(error->code ? error->code : EINVAL);
    }
    iod_block_on_change(blk->block, limits_changed, blk);
    return make_queues(blk, error);
}

static int blk_open(struct iod_device *device, struct iod_error *error)
{
    struct blk *blk = iod_self(device);
    const struct iod_block_limits *limits = iod_block_limits(blk->block);
    const size_t align = _Alignof(max_align_t);

    if (limits->sector < SECTOR || (limits->sector & (limits->sector - 1))) {
        return iod_fail(error, EINVAL, "%s: sectors of %u bytes: must be a power of two from 512 up",
                        iod_device_id(device), limits->sector);
    }
    blk->stride = offsetof(struct request, block) + iod_block_request_size(blk->block);
    blk->stride = (blk->stride + align - 1) & ~(align - 1);
    return 0;
}

static void blk_start(struct iod_device *device)
{
    struct blk *blk = iod_self(device);

    blk->stopping = blk->cancelled = false;
    for (unsigned i = 0; i < blk->count; i++) {
        blk->queues[i].full = false; /* the transport looks at all queues now */
    }
}

/* To cancel is the backend's, which the core asks too: each request's done follows from there. */
static enum iod_when blk_quiesce(struct iod_device *device, enum iod_drain drain_how)
{
    struct blk *blk = iod_self(device);

    blk->stopping = true;
    blk->cancelled = drain_how == IOD_CANCEL;
    if (blk->in_flight) {
        blk->waiting = true;
        return IOD_LATER;
    }
    blk_flush_pushed(blk);
    return IOD_NOW;
}

static void blk_destroy(struct iod_device *device)
{
    struct blk *blk = iod_self(device);

    for (unsigned i = 0; blk->queues && i < blk->count; i++) {
        free(blk->queues[i].pool);
    }
    free(blk->queues);
}

static bool valid_cache(const void *regs)
{
    return ((const struct blk_regs *)regs)->cache <= CACHE_WRITEBACK;
}

static const struct iod_field blk_fields[] = {
    IOD_FIELD_CHECKED(struct blk_regs, cache, 1, valid_cache),
    { .name = NULL },
};

static const struct iod_option blk_options[] = {
    { .name = "serial", .type = IOD_OPTION_STRING,
      .help = "what the guest reads as the disk's id, at most 20 bytes (default: the device's id)" },
    { .name = "queues", .type = IOD_OPTION_NUMBER, .fallback = "1", .min = 1, .max = QUEUES_MAX,
      .help = "number of request queues" },
    { .name = "queue-size", .type = IOD_OPTION_NUMBER, .fallback = "128", .min = 4, .max = QUEUE_SIZE_MAX,
      .help = "largest size of a queue, a power of two" },
    { .name = NULL },
};

static const struct iod_device_class blk_class = {
    .size = sizeof(struct iod_device_class),
    .name = "virtio-blk",
    .summary = "virtio disk (PCI or MMIO)",
    .backends = IOD_BACKEND_BLOCK,
    .self_size = sizeof(struct blk),
    .regs_size = sizeof(struct blk_regs),
    .version = 1,
    .options = blk_options,
    .fields = blk_fields,
    .create = blk_create,
    .open = blk_open,
    .start = blk_start,
    .quiesce = blk_quiesce,
    .destroy = blk_destroy,
};

static const struct iod_device_class *const blk_devices[] = { &blk_class, NULL };

IOD_MODULE(virtio_blk) = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .devices = blk_devices,
};
