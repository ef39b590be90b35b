/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio over MMIO: version 2 (virtio 1.2, section 4.2.2) and the legacy version 1 (4.2.4). */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "virtio/virtio.h"
#include "virtio/virtq.h"

#define MAGIC 0x74726976u  /* "virt" */
#define VENDOR 0x44524f49u /* "IORD" */
#define REGION_LENGTH 0x200u
#define BIT64(bit) (UINT64_C(1) << (bit))

/* Registers that newer headers name. */
#define QUEUE_RESET 0x0c0u

static void set_low(uint64_t *address, uint32_t value)
{
    *address = (*address & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(uint64_t *address, uint32_t value)
{
    *address = (uint32_t)*address | (uint64_t)value << 32;
}

/* ---- reading ---- */

static uint32_t read_queue(const struct iod_virtio *virtio, uint64_t offset)
{
    const struct iod_virtq *queue = virtio_selected(virtio);

    if (!queue) {
        return 0;
    }
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return queue->max;
    case VIRTIO_MMIO_QUEUE_READY:
        return virtio->transport->legacy ? 0 : virtq_regs(queue)->enabled;
    case VIRTIO_MMIO_QUEUE_PFN:
        return virtio->transport->legacy ? virtq_regs(queue)->pfn : 0;
    default: /* QUEUE_RESET: the write ends when the reset is complete */
        return 0;
    }
}

static uint32_t read_register(const struct iod_virtio *virtio, uint64_t offset)
{
    const struct virtio_regs *regs = virtio_regs(virtio);

    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
    case VIRTIO_MMIO_VERSION:
        return virtio->transport->legacy ? 1 : 2;
    case VIRTIO_MMIO_DEVICE_ID:
        return virtio->class->device_id;
    case VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return virtio_device_features(virtio);
    case VIRTIO_MMIO_INTERRUPT_STATUS:
        return regs->isr;
    case VIRTIO_MMIO_STATUS:
        return regs->status;
    case VIRTIO_MMIO_CONFIG_GENERATION:
        return virtio->transport->legacy ? 0 : regs->generation;
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
        return UINT32_MAX; /* no such region */
    default:
        return read_queue(virtio, offset);
    }
}

static uint64_t mmio_read(void *self, uint64_t offset, unsigned width)
{
    struct iod_virtio *virtio = self;

    if (offset >= VIRTIO_MMIO_CONFIG) {
        return virtio_config_read(virtio, offset - VIRTIO_MMIO_CONFIG, width);
    }
    return (read_register(virtio, offset & ~UINT64_C(3)) >> (8 * (offset & 3))) &
           (UINT64_MAX >> (64 - 8 * width));
}

/* ---- writing ---- */

static void acknowledge(struct iod_virtio *virtio, uint32_t value)
{
    struct virtio_regs *regs = virtio_regs(virtio);

    regs->isr &= (uint8_t)~value;
    if (!virtio->irq) {
        return;
    }
    iod_irq_lower(virtio->irq);
    if (regs->isr) {
        iod_irq_raise(virtio->irq); /* a cause that came meanwhile needs an edge of its own */
    }
}

/* The registers of the modern layout that may change only while the queue is disabled. */
static void write_queue(struct iod_virtq *queue, uint64_t offset, uint32_t value)
{
    struct virtq_regs *regs = virtq_regs(queue);

    if (regs->enabled) {
        iod_guest_error(queue->virtio->device, "queue %u is configured while it is enabled", queue->index);
        return;
    }
    switch (offset) {
    case VIRTIO_MMIO_QUEUE_NUM:
        regs->size = value > queue->max ? 0 : (uint16_t)value; /* 0: refused when it is enabled */
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
        set_low(&regs->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_high(&regs->desc, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        set_low(&regs->driver, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        set_high(&regs->driver, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
        set_low(&regs->device, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        set_high(&regs->device, value);
        break;
    case VIRTIO_MMIO_QUEUE_ALIGN:
        regs->align = value;
        break;
    default:
        break;
    }
}

static void queue_ready(struct iod_virtq *queue, uint32_t value)
{
    if (value & 1) {
        virtq_enable(queue);
    } else if (virtq_regs(queue)->enabled) {
        virtq_disable(queue);
    }
}

/* The legacy queue: one block of memory, its three parts behind one another (section 2.7.2). */
static void queue_pfn(struct iod_virtq *queue, uint32_t pfn)
{
    struct virtq_regs *regs = virtq_regs(queue);
    uint64_t page = virtio_regs(queue->virtio)->guest_page_size, align = regs->align;

    if (pfn == 0) {
        if (regs->enabled) {
            virtq_disable(queue);
        }
        return;
    }
    if (regs->enabled || page == 0 || (page & (page - 1)) || align < 4 || (align & (align - 1)) ||
        regs->size > queue->max) {
        iod_guest_error(queue->virtio->device,
                        "queue %u: page number 0x%x with page size %llu and alignment %llu", queue->index,
                        pfn, (unsigned long long)page, (unsigned long long)align);
        return;
    }
    regs->desc = pfn * page;
    regs->driver = regs->desc + 16u * regs->size;
    regs->device = (regs->driver + 6u + 2u * regs->size + align - 1) & ~(align - 1);
    if (virtq_enable(queue)) {
        regs->pfn = pfn;
    }
}

static void write_selected(struct iod_virtio *virtio, uint64_t offset, uint32_t value)
{
    struct iod_virtq *queue = virtio_selected(virtio);
    bool legacy = virtio->transport->legacy;

    if (!queue) {
        return;
    }
    if (offset == VIRTIO_MMIO_QUEUE_PFN || offset == VIRTIO_MMIO_QUEUE_ALIGN) {
        if (legacy && offset == VIRTIO_MMIO_QUEUE_PFN) {
            queue_pfn(queue, value);
        } else if (legacy) {
            write_queue(queue, offset, value);
        }
        return;
    }
    if (legacy && offset != VIRTIO_MMIO_QUEUE_NUM) {
        return;
    }
    if (offset == VIRTIO_MMIO_QUEUE_READY) {
        queue_ready(queue, value);
    } else if (offset == QUEUE_RESET) {
        if ((value & 1) && virtq_regs(queue)->enabled) {
            virtq_disable(queue);
        }
    } else {
        write_queue(queue, offset, value);
    }
}

static void write_register(struct iod_virtio *virtio, uint64_t offset, uint32_t value)
{
    struct virtio_regs *regs = virtio_regs(virtio);

    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        regs->device_features_select = value;
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES:
        virtio_driver_features(virtio, value);
        break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        regs->driver_features_select = value;
        break;
    case VIRTIO_MMIO_GUEST_PAGE_SIZE:
        regs->guest_page_size = value;
        break;
    case VIRTIO_MMIO_QUEUE_SEL:
        regs->queue_select = value > UINT16_MAX ? UINT16_MAX : (uint16_t)value;
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY:
        virtio_kick(virtio, value);
        break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        acknowledge(virtio, value);
        break;
    case VIRTIO_MMIO_STATUS:
        virtio_status_write(virtio, (uint8_t)value);
        break;
    default:
        write_selected(virtio, offset, value);
        break;
    }
}

static void mmio_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct iod_virtio *virtio = self;

    if (offset >= VIRTIO_MMIO_CONFIG) {
        virtio_config_write(virtio, offset - VIRTIO_MMIO_CONFIG, width, (uint32_t)value);
    } else if (width == 4) {
        write_register(virtio, offset, (uint32_t)value);
    } else {
        iod_guest_error(virtio->device, "a write of %u bytes to register 0x%x", width, (unsigned)offset);
    }
}

static const struct iod_region_ops mmio_ops = {
    .size = sizeof(struct iod_region_ops),
    .widths = 1 | 2 | 4,
    .read = mmio_read,
    .write = mmio_write,
};

/* ---- the transport ---- */

static void mmio_interrupt(struct iod_virtio *virtio, int queue)
{
    virtio_regs(virtio)->isr |= queue == VIRTIO_CONFIG_INTERRUPT ? ISR_CONFIG : ISR_QUEUE;
    if (virtio->irq) {
        iod_irq_raise(virtio->irq);
    }
}

static void mmio_reset(struct iod_virtio *virtio)
{
    if (virtio->irq) {
        iod_irq_lower(virtio->irq);
    }
}

static void mmio_start(struct iod_virtio *virtio)
{
    if (virtio->irq) {
        iod_irq_raise(virtio->irq);
    }
}

static int mmio_attach(struct iod_virtio *virtio, struct iod_error *error)
{
    const struct device_keys *keys = device_keys(virtio->device);
    struct iod_error wire = { 0 };

    if (!keys->has_base) {
        return iod_fail(error, EINVAL,
                        "%s: bus=%s needs base=ADDRESS, as the guest's device tree or command line says",
                        iod_device_id(virtio->device), virtio->transport->name);
    }
    if (!keys->has_irq) {
        return iod_fail(error, EINVAL, "%s: bus=%s needs irq=: an INTID on Arm, an ISA line on x86, or none",
                        iod_device_id(virtio->device), virtio->transport->name);
    }
    virtio->irq = iod_irq_get(virtio->device, -1, &wire);
    if (!virtio->irq && wire.code) {
        return iod_fail(error, wire.code, "%s", wire.text);
    }
    virtio->region = iod_region_add(virtio->device, "virtio-mmio", REGION_LENGTH, &mmio_ops, virtio);
    if (!virtio->region) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(virtio->device));
    }
    return iod_region_place_base(virtio->region, IOD_MMIO, UINT64_MAX, error);
}

const struct virtio_transport transport_mmio = {
    .name = "mmio",
    .features = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) |
                BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VIRTIO_F_RING_RESET),
    .interrupt = mmio_interrupt,
    .reset = mmio_reset,
    .start = mmio_start,
    .attach = mmio_attach,
};

const struct virtio_transport transport_mmio_legacy = {
    .name = "mmio-legacy",
    .legacy = true,
    .features =
        BIT64(VIRTIO_F_ANY_LAYOUT) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) | BIT64(VIRTIO_RING_F_EVENT_IDX),
    .interrupt = mmio_interrupt,
    .reset = mmio_reset,
    .start = mmio_start,
    .attach = mmio_attach,
};
