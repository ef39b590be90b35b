/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio over PCI, modern only (virtio 1.2, section 4.1): BAR 0 holds the four structures, a page each; BAR 1
 * MSI-X. Both are 32-bit memory BARs, as a guest without firmware finds room for these most surely.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <string.h>

#include "virtio/virtio.h"
#include "virtio/virtq.h"

#define BIT64(bit) (UINT64_C(1) << (bit))
enum {
    PAGE_COMMON = 0x0000,
    PAGE_ISR = 0x1000,
    PAGE_DEVICE = 0x2000,
    PAGE_NOTIFY = 0x3000,
    BAR_LENGTH = 0x4000,
    PAGE_MASK = 0xfff
};
enum { BAR_REGISTERS = 0, BAR_MSIX = 1 };
#define NOTIFY_STRIDE 4u /* bytes between two queues' notification addresses */
#define COMMON_LENGTH (VIRTIO_PCI_COMMON_Q_RESET + 2u)

/* ---- the common configuration structure (4.1.4.3): every field by its own width ---- */

static const struct {
    uint8_t offset, width;
} common_fields[] = {
    { VIRTIO_PCI_COMMON_DFSELECT, 4 },  { VIRTIO_PCI_COMMON_DF, 4 },
    { VIRTIO_PCI_COMMON_GFSELECT, 4 },  { VIRTIO_PCI_COMMON_GF, 4 },
    { VIRTIO_PCI_COMMON_MSIX, 2 },      { VIRTIO_PCI_COMMON_NUMQ, 2 },
    { VIRTIO_PCI_COMMON_STATUS, 1 },    { VIRTIO_PCI_COMMON_CFGGENERATION, 1 },
    { VIRTIO_PCI_COMMON_Q_SELECT, 2 },  { VIRTIO_PCI_COMMON_Q_SIZE, 2 },
    { VIRTIO_PCI_COMMON_Q_MSIX, 2 },    { VIRTIO_PCI_COMMON_Q_ENABLE, 2 },
    { VIRTIO_PCI_COMMON_Q_NOFF, 2 },    { VIRTIO_PCI_COMMON_Q_DESCLO, 4 },
    { VIRTIO_PCI_COMMON_Q_DESCHI, 4 },  { VIRTIO_PCI_COMMON_Q_AVAILLO, 4 },
    { VIRTIO_PCI_COMMON_Q_AVAILHI, 4 }, { VIRTIO_PCI_COMMON_Q_USEDLO, 4 },
    { VIRTIO_PCI_COMMON_Q_USEDHI, 4 },  { VIRTIO_PCI_COMMON_Q_NDATA, 2 },
    { VIRTIO_PCI_COMMON_Q_RESET, 2 },
};

static uint32_t read_queue(const struct iod_virtq *queue, unsigned field)
{
    const struct virtq_regs *regs = virtq_regs(queue);

    switch (field) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        return regs->size;
    case VIRTIO_PCI_COMMON_Q_MSIX:
        return regs->vector;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        return regs->enabled;
    case VIRTIO_PCI_COMMON_Q_NOFF:
    case VIRTIO_PCI_COMMON_Q_NDATA:
        return queue->index;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
        return (uint32_t)regs->desc;
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        return (uint32_t)(regs->desc >> 32);
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
        return (uint32_t)regs->driver;
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        return (uint32_t)(regs->driver >> 32);
    case VIRTIO_PCI_COMMON_Q_USEDLO:
        return (uint32_t)regs->device;
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        return (uint32_t)(regs->device >> 32);
    default: /* Q_RESET: the write ends when the reset is complete */
        return 0;
    }
}

static uint32_t read_field(const struct iod_virtio *virtio, unsigned field)
{
    const struct virtio_regs *regs = virtio_regs(virtio);
    const struct iod_virtq *queue;

    switch (field) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        return regs->device_features_select;
    case VIRTIO_PCI_COMMON_DF:
        return virtio_device_features(virtio);
    case VIRTIO_PCI_COMMON_GFSELECT:
        return regs->driver_features_select;
    case VIRTIO_PCI_COMMON_GF:
        return regs->driver_features_select > 1
             ? 0 : (uint32_t)(regs->driver_features >> (32 * regs->driver_features_select));
    case VIRTIO_PCI_COMMON_MSIX:
        return regs->config_vector;
    case VIRTIO_PCI_COMMON_NUMQ:
        return virtio->count;
    case VIRTIO_PCI_COMMON_STATUS:
        return regs->status;
    case VIRTIO_PCI_COMMON_CFGGENERATION:
        return regs->generation & 0xff;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        return regs->queue_select;
    default:
        queue = virtio_selected(virtio);
        return queue ? read_queue(queue, field) : 0; /* size 0: no such queue */
    }
}

/* Byte by byte, so that any width at any offset answers what the bytes are. */
static uint32_t read_common(const struct iod_virtio *virtio, unsigned offset, unsigned width)
{
    uint32_t value = 0;

    for (size_t i = 0; i < sizeof(common_fields) / sizeof(common_fields[0]); i++) {
        unsigned field = common_fields[i].offset, length = common_fields[i].width;
        uint64_t bytes;

        if (field + length <= offset || field >= offset + width) {
            continue;
        }
        bytes = read_field(virtio, field);
        if (length < 4) {
            bytes &= (UINT64_C(1) << (8 * length)) - 1;
        }
        value |=
            (uint32_t)(field >= offset ? bytes << (8 * (field - offset)) : bytes >> (8 * (offset - field)));
    }
    return width < 4 ? value & ((UINT32_C(1) << (8 * width)) - 1) : value;
}

static uint16_t vector_or_none(const struct iod_virtio *virtio, uint32_t value)
{
    return value <= virtio->count ? (uint16_t)value
                                  : VIRTIO_NO_VECTOR; /* a vector a queue, and one for configuration */
}

static void half(uint64_t *address, bool high, uint32_t value)
{
    *address = high ? (uint32_t)*address | (uint64_t)value << 32 : (*address & ~(uint64_t)UINT32_MAX) | value;
}

/* The registers that may change only while the queue is disabled. */
static void write_ring(struct iod_virtq *queue, unsigned field, uint32_t value)
{
    struct virtq_regs *regs = virtq_regs(queue);

    if (regs->enabled) {
        iod_guest_error(queue->virtio->device, "queue %u is configured while it is enabled", queue->index);
        return;
    }
    switch (field) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        regs->size = value > queue->max ? 0 : (uint16_t)value; /* 0: refused when it is enabled */
        break;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        half(&regs->desc, field == VIRTIO_PCI_COMMON_Q_DESCHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        half(&regs->driver, field == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        half(&regs->device, field == VIRTIO_PCI_COMMON_Q_USEDHI, value);
        break;
    default:
        break; /* read-only */
    }
}

static void write_queue(struct iod_virtq *queue, unsigned field, uint32_t value)
{
    switch (field) {
    case VIRTIO_PCI_COMMON_Q_MSIX:
        virtq_regs(queue)->vector = vector_or_none(queue->virtio, value);
        break;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        if (value == 1) { /* a driver must not write 0: that is what Q_RESET is for */
            virtq_enable(queue);
        }
        break;
    case VIRTIO_PCI_COMMON_Q_RESET:
        if (value == 1) {
            virtq_disable(queue);
        }
        break;
    default:
        write_ring(queue, field, value);
        break;
    }
}

static void write_field(struct iod_virtio *virtio, unsigned field, uint32_t value)
{
    struct virtio_regs *regs = virtio_regs(virtio);
    struct iod_virtq *queue;

    switch (field) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        regs->device_features_select = value;
        break;
    case VIRTIO_PCI_COMMON_GFSELECT:
        regs->driver_features_select = value;
        break;
    case VIRTIO_PCI_COMMON_GF:
        virtio_driver_features(virtio, value);
        break;
    case VIRTIO_PCI_COMMON_MSIX:
        regs->config_vector = vector_or_none(virtio, value);
        break;
    case VIRTIO_PCI_COMMON_STATUS:
        virtio_status_write(virtio, (uint8_t)value);
        break;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        regs->queue_select = (uint16_t)value;
        break;
    default:
        queue = virtio_selected(virtio);
        if (queue) {
            write_queue(queue, field, value);
        }
        break;
    }
}

static void write_common(struct iod_virtio *virtio, unsigned offset, unsigned width, uint32_t value)
{
    for (size_t i = 0; i < sizeof(common_fields) / sizeof(common_fields[0]); i++) {
        if (common_fields[i].offset == offset && common_fields[i].width == width) {
            write_field(virtio, offset, value);
            return;
        }
    }
    iod_guest_error(virtio->device, "a write of %u bytes to 0x%x of the common configuration", width, offset);
}

/* ---- BAR 0 ---- */

static uint32_t read_isr(struct iod_virtio *virtio)
{
    uint8_t isr = virtio_regs(virtio)->isr;

    virtio_regs(virtio)->isr = 0;
    if (virtio->irq) {
        iod_irq_lower(virtio->irq);
    }
    return isr;
}

static uint64_t bar_read(void *self, uint64_t offset, unsigned width)
{
    struct iod_virtio *virtio = self;
    unsigned at = offset & PAGE_MASK;

    switch (offset & ~(uint64_t)PAGE_MASK) {
    case PAGE_COMMON:
        return read_common(virtio, at, width);
    case PAGE_ISR:
        return at == 0 ? read_isr(virtio) : 0;
    case PAGE_DEVICE:
        return virtio_config_read(virtio, at, width);
    default:
        return 0;
    }
}

static void bar_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct iod_virtio *virtio = self;
    unsigned at = offset & PAGE_MASK;

    switch (offset & ~(uint64_t)PAGE_MASK) {
    case PAGE_COMMON:
        write_common(virtio, at, width, (uint32_t)value);
        break;
    case PAGE_DEVICE:
        virtio_config_write(virtio, at, width, (uint32_t)value);
        break;
    case PAGE_NOTIFY:
        virtio_kick(virtio, at / NOTIFY_STRIDE);
        break;
    default:
        break;
    }
}

static const struct iod_region_ops bar_ops = {
    .size = sizeof(struct iod_region_ops),
    .widths = 1 | 2 | 4,
    .read = bar_read,
    .write = bar_write,
};

/* ---- configuration space: the access capability (4.1.4.9), and bus mastering ---- */

/* What the guest's window points at: false unless it is a whole aligned access in BAR 0. */
static bool window_target(const struct iod_virtio *virtio, uint32_t *offset, unsigned *width)
{
    struct virtio_pci_cap cap;

    iod_pci_config_get(virtio->pci, virtio->window, &cap, sizeof(cap));
    *offset = cap.offset;
    *width = cap.length;
    return cap.bar == BAR_REGISTERS && (cap.length == 1 || cap.length == 2 || cap.length == 4) &&
           cap.offset % cap.length == 0 && cap.offset < BAR_LENGTH;
}

static unsigned window_data(const struct iod_virtio *virtio)
{
    return virtio->window + (unsigned)offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
}

static bool config_space_read(void *self, unsigned offset, unsigned width, uint32_t *value)
{
    struct iod_virtio *virtio = self;
    uint32_t target;
    unsigned length;

    if (!virtio->window || offset != window_data(virtio) || !window_target(virtio, &target, &length)) {
        return false;
    }
    *value = (uint32_t)bar_read(virtio, target, length);
    if (width < 4) {
        *value &= (UINT32_C(1) << (8 * width)) - 1;
    }
    return true;
}

static void config_space_write(void *self, unsigned offset, unsigned width, uint32_t value)
{
    struct iod_virtio *virtio = self;
    uint32_t target;
    unsigned length;

    if (offset <= PCI_COMMAND && offset + width > PCI_COMMAND && iod_pci_bus_master(virtio->pci)) {
        virtio_look_at_all(virtio); /* kicks came while we could not reach memory */
    }
    if (!virtio->window || offset != window_data(virtio) || !window_target(virtio, &target, &length)) {
        return;
    }
    if (width >= length) {
        bar_write(virtio, target, length, length < 4 ? value & ((UINT32_C(1) << (8 * length)) - 1) : value);
    }
}

static const struct iod_pci_ops function_ops = {
    .size = sizeof(struct iod_pci_ops),
    .config_read = config_space_read,
    .config_write = config_space_write,
};

/* ---- the transport ---- */

static void pci_interrupt(struct iod_virtio *virtio, int queue)
{
    bool config = queue == VIRTIO_CONFIG_INTERRUPT;

    if (iod_pci_msix_enabled(virtio->pci)) {
        uint16_t vector =
            config ? virtio_regs(virtio)->config_vector : virtq_regs(&virtio->queues[queue])->vector;

        if (vector != VIRTIO_NO_VECTOR) {
            iod_msi_send(virtio->pci, vector);
        }
        return;
    }
    virtio_regs(virtio)->isr |= config ? ISR_CONFIG : ISR_QUEUE;
    if (virtio->irq) {
        iod_irq_raise(virtio->irq);
    }
}

static void pci_reset(struct iod_virtio *virtio)
{
    if (virtio->irq) {
        iod_irq_lower(virtio->irq);
    }
}

static bool pci_may_dma(const struct iod_virtio *virtio)
{
    return iod_pci_bus_master(virtio->pci);
}

/* One structure's capability (4.1.4): `extra` is what follows the common part. */
static int add_capability(struct iod_virtio *virtio, uint8_t type, uint32_t offset, uint32_t length,
                          size_t extra)
{
    struct virtio_pci_notify_cap cap = { .cap = { .cfg_type = type,
                                                  .bar = BAR_REGISTERS,
                                                  .offset = offset,
                                                  .length = length,
                                                  .cap_len = (uint8_t)(sizeof(cap.cap) + extra) } };
    struct virtio_pci_cfg_cap writable = { .cap = { .bar = 0xff, .offset = UINT32_MAX, .length = UINT32_MAX },
                                           .pci_cfg_data = { 0xff, 0xff, 0xff, 0xff } };
    const size_t head = offsetof(struct virtio_pci_cap, cap_len);

    cap.notify_off_multiplier = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? NOTIFY_STRIDE : 0;
    return iod_pci_capability(virtio->pci, PCI_CAP_ID_VNDR, (const uint8_t *)&cap + head,
                              type == VIRTIO_PCI_CAP_PCI_CFG ? (const uint8_t *)&writable + head : NULL,
                              sizeof(cap.cap) + extra - head);
}

static int add_capabilities(struct iod_virtio *virtio)
{
    int window;

    if (add_capability(virtio, VIRTIO_PCI_CAP_COMMON_CFG, PAGE_COMMON, COMMON_LENGTH, 0) < 0 ||
        add_capability(virtio, VIRTIO_PCI_CAP_ISR_CFG, PAGE_ISR, 1, 0) < 0 ||
        add_capability(virtio, VIRTIO_PCI_CAP_NOTIFY_CFG, PAGE_NOTIFY, virtio->count * NOTIFY_STRIDE, 4) <
            0 ||
        (virtio->class->config_size &&
         add_capability(virtio, VIRTIO_PCI_CAP_DEVICE_CFG, PAGE_DEVICE, virtio->class->config_size, 0) < 0)) {
        return -ENOSPC;
    }
    window = add_capability(virtio, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);
    if (window < 0) {
        return window;
    }
    virtio->window = (uint8_t)window;
    return 0;
}

static int pci_attach(struct iod_virtio *virtio, struct iod_error *error)
{
    const struct iod_pci_ids ids = {
        .vendor = 0x1af4,
        .device = (uint16_t)(0x1040 + virtio->class->device_id),
        .subsystem_vendor = 0x5853, /* XenSource */
        .subsystem = (uint16_t)(0x1040 + virtio->class->device_id), /* 0x40 or more: not transitional */
        .class_code = virtio->class->pci_class,
        .revision = 1,
    };
    int result;

    virtio->pci = iod_pci_add(virtio->device, &ids, -1, &function_ops, virtio, error);
    if (!virtio->pci) {
        return error && error->code ? -error->code : -EINVAL;
    }
    virtio->region = iod_region_add(virtio->device, "virtio-pci", BAR_LENGTH, &bar_ops, virtio);
    if (!virtio->region) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(virtio->device));
    }
    result = iod_pci_bar(virtio->pci, BAR_REGISTERS, IOD_PCI_BAR_MEM32, virtio->region, error);
    if (result == 0) {
        result = iod_pci_msix(virtio->pci, virtio->count + 1, BAR_MSIX, error);
    }
    if (result < 0) {
        return result;
    }
    if (add_capabilities(virtio) < 0) {
        return iod_fail(error, ENOSPC, "%s: no room for the virtio capabilities",
                        iod_device_id(virtio->device));
    }
    virtio->irq = iod_pci_intx(virtio->pci, NULL); /* NULL on PVH: messages only */
    return 0;
}

const struct virtio_transport transport_pci = {
    .name = "pci",
    .features = BIT64(VIRTIO_F_VERSION_1) | BIT64(VIRTIO_RING_F_INDIRECT_DESC) |
                BIT64(VIRTIO_RING_F_EVENT_IDX) | BIT64(VIRTIO_F_RING_RESET),
    .interrupt = pci_interrupt,
    .reset = pci_reset,
    .may_dma = pci_may_dma,
    .attach = pci_attach,
};
