/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-mmio, version 2 (VIRTIO 1.2, section 4.2.2) and legacy (4.2.4). */
#include <errno.h>
#include <linux/virtio_mmio.h>

#include "virtio_driver.h"

#define MAGIC 0x74726976u
#define LEGACY_PAGE 4096u

static uint32_t read_register(struct virtio_driver *driver, unsigned offset)
{
    return (uint32_t)vcpu_mmio_read(driver->guest, driver->vcpu, driver->mmio.base + offset, 4);
}

static void write_register(struct virtio_driver *driver, unsigned offset, uint32_t value)
{
    vcpu_mmio_write(driver->guest, driver->vcpu, driver->mmio.base + offset, 4, value);
}

static uint8_t status(struct virtio_driver *driver)
{
    return (uint8_t)read_register(driver, VIRTIO_MMIO_STATUS);
}

static void set_status(struct virtio_driver *driver, uint8_t value)
{
    write_register(driver, VIRTIO_MMIO_STATUS, value);
}

static uint64_t device_features(struct virtio_driver *driver)
{
    write_register(driver, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    uint64_t high = driver->legacy ? 0 : read_register(driver, VIRTIO_MMIO_DEVICE_FEATURES);
    write_register(driver, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    return high << 32 | read_register(driver, VIRTIO_MMIO_DEVICE_FEATURES);
}

static void set_driver_features(struct virtio_driver *driver, uint64_t features)
{
    write_register(driver, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    write_register(driver, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
    if (!driver->legacy) {
        write_register(driver, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        write_register(driver, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
    }
}

static unsigned queue_size_max(struct virtio_driver *driver, unsigned index)
{
    write_register(driver, VIRTIO_MMIO_QUEUE_SEL, index);
    return read_register(driver, VIRTIO_MMIO_QUEUE_NUM_MAX);
}

static void write_address(struct virtio_driver *driver, unsigned low, uint64_t gpa)
{
    write_register(driver, low, (uint32_t)gpa);
    write_register(driver, low + 4, (uint32_t)(gpa >> 32));
}

static int queue_enable(struct virtio_queue *queue)
{
    struct virtio_driver *driver = queue->driver;
    write_register(driver, VIRTIO_MMIO_QUEUE_SEL, queue->index);
    if (read_register(driver, VIRTIO_MMIO_QUEUE_READY)) {
        return -EBUSY;
    }
    write_register(driver, VIRTIO_MMIO_QUEUE_NUM, queue->size);
    write_address(driver, VIRTIO_MMIO_QUEUE_DESC_LOW, queue->desc_gpa);
    write_address(driver, VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue->avail_gpa);
    write_address(driver, VIRTIO_MMIO_QUEUE_USED_LOW, queue->used_gpa);
    write_register(driver, VIRTIO_MMIO_QUEUE_READY, 1);
    return read_register(driver, VIRTIO_MMIO_QUEUE_READY) == 1 ? 0 : -EIO;
}

static bool queue_enabled(struct virtio_driver *driver, unsigned index)
{
    write_register(driver, VIRTIO_MMIO_QUEUE_SEL, index);
    return read_register(driver, VIRTIO_MMIO_QUEUE_READY) != 0;
}

static int legacy_queue_enable(struct virtio_queue *queue)
{
    struct virtio_driver *driver = queue->driver;
    write_register(driver, VIRTIO_MMIO_GUEST_PAGE_SIZE, LEGACY_PAGE);
    write_register(driver, VIRTIO_MMIO_QUEUE_SEL, queue->index);
    if (read_register(driver, VIRTIO_MMIO_QUEUE_PFN)) {
        return -EBUSY;
    }
    write_register(driver, VIRTIO_MMIO_QUEUE_NUM, queue->size);
    write_register(driver, VIRTIO_MMIO_QUEUE_ALIGN, LEGACY_PAGE);
    uint32_t pfn = (uint32_t)(queue->desc_gpa / LEGACY_PAGE);
    write_register(driver, VIRTIO_MMIO_QUEUE_PFN, pfn);
    return read_register(driver, VIRTIO_MMIO_QUEUE_PFN) == pfn ? 0 : -EIO;
}

static bool legacy_queue_enabled(struct virtio_driver *driver, unsigned index)
{
    write_register(driver, VIRTIO_MMIO_QUEUE_SEL, index);
    return read_register(driver, VIRTIO_MMIO_QUEUE_PFN) != 0;
}

static void notify(struct virtio_queue *queue)
{
    vcpu_mmio_write(queue->driver->guest, queue->vcpu, queue->driver->mmio.base + VIRTIO_MMIO_QUEUE_NOTIFY, 4,
                    queue->index);
}

static uint32_t config_generation(struct virtio_driver *driver)
{
    return read_register(driver, VIRTIO_MMIO_CONFIG_GENERATION);
}

static uint64_t config_read(struct virtio_driver *driver, unsigned offset, unsigned width)
{
    return vcpu_mmio_read(driver->guest, driver->vcpu, driver->mmio.base + VIRTIO_MMIO_CONFIG + offset,
                          width);
}

static void config_write(struct virtio_driver *driver, unsigned offset, unsigned width, uint64_t value)
{
    vcpu_mmio_write(driver->guest, driver->vcpu, driver->mmio.base + VIRTIO_MMIO_CONFIG + offset, width,
                    value);
}

static uint32_t interrupt_status(struct virtio_driver *driver)
{
    uint32_t bits = read_register(driver, VIRTIO_MMIO_INTERRUPT_STATUS);
    write_register(driver, VIRTIO_MMIO_INTERRUPT_ACK, bits);
    return bits;
}

static const struct virtio_transport modern = {
    .name = "virtio-mmio",
    .status = status,
    .set_status = set_status,
    .device_features = device_features,
    .set_driver_features = set_driver_features,
    .queue_size_max = queue_size_max,
    .queue_enable = queue_enable,
    .queue_enabled = queue_enabled,
    .notify = notify,
    .config_generation = config_generation,
    .config_read = config_read,
    .config_write = config_write,
    .interrupt_status = interrupt_status,
};

static const struct virtio_transport legacy = {
    .name = "virtio-mmio (legacy)",
    .status = status,
    .set_status = set_status,
    .device_features = device_features,
    .set_driver_features = set_driver_features,
    .queue_size_max = queue_size_max,
    .queue_enable = legacy_queue_enable,
    .queue_enabled = legacy_queue_enabled,
    .notify = notify,
    .config_read = config_read,
    .config_write = config_write,
    .interrupt_status = interrupt_status,
};

int virtio_mmio_open(struct virtio_driver *driver, struct mock_guest *guest, unsigned vcpu, uint64_t base,
                     uint32_t device_id, enum virtio_interrupt interrupt, unsigned line,
                     struct virtio_arena arena)
{
    *driver = (struct virtio_driver){.guest = guest, .vcpu = vcpu, .arena = arena, .interrupt = interrupt};
    driver->line = line;
    driver->mmio.base = base;
    if (read_register(driver, VIRTIO_MMIO_MAGIC_VALUE) != MAGIC) {
        return -ENODEV;
    }
    uint32_t version = read_register(driver, VIRTIO_MMIO_VERSION);
    if (version != 1 && version != 2) {
        return -EPROTO;
    }
    driver->legacy = version == 1;
    driver->transport = driver->legacy ? &legacy : &modern;
    driver->device_id = read_register(driver, VIRTIO_MMIO_DEVICE_ID);
    return driver->device_id == device_id ? 0 : -ENODEV;
}
