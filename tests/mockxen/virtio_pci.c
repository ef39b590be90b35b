/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-pci, modern only (VIRTIO 1.2, section 4.1), and the little of PCI that its driver needs: 0xcf8
 * cycles, BARs, MSI-X. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "virtio_driver.h"

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_DEVICE_BASE 0x1040
#define SLOTS 32
#define CAPABILITIES_MAX 48 /* as many as fit: a list that is longer has a loop */

/* ---- configuration space ---- */

static uint32_t config_get(struct virtio_driver *driver, unsigned offset, unsigned width)
{
    return vcpu_pci_read(driver->guest, driver->vcpu, driver->pci.sbdf, offset, width);
}

static void config_set(struct virtio_driver *driver, unsigned offset, unsigned width, uint32_t value)
{
    vcpu_pci_write(driver->guest, driver->vcpu, driver->pci.sbdf, offset, width, value);
}

int virtio_pci_find(struct mock_guest *guest, unsigned vcpu, uint16_t device, int after)
{
    for (int slot = after < 0 ? 0 : (after >> 3) + 1; slot < SLOTS; slot++) {
        uint16_t sbdf = (uint16_t)(slot << 3);
        uint32_t id = vcpu_pci_read(guest, vcpu, sbdf, PCI_VENDOR_ID, 4);
        if (id == ((uint32_t)(VIRTIO_DEVICE_BASE + device) << 16 | VIRTIO_VENDOR)) {
            return sbdf;
        }
    }
    return -ENODEV;
}

/* Writes ones into a BAR and reads back which of them stay; the old value is put back. */
static uint32_t size_mask(struct virtio_driver *driver, unsigned offset)
{
    uint32_t old = config_get(driver, offset, 4);
    config_set(driver, offset, 4, 0xffffffff);
    uint32_t mask = config_get(driver, offset, 4);
    config_set(driver, offset, 4, old);
    return mask;
}

/* Sizes and places BAR `index`; *window moves behind it. How many BARs it takes (1 or 2), or a negative
 * errno. */
static int place_bar(struct virtio_driver *driver, unsigned index, uint64_t *window)
{
    unsigned offset = PCI_BASE_ADDRESS_0 + 4 * index;
    uint32_t mask = size_mask(driver, offset);
    if (mask == 0 || (mask & PCI_BASE_ADDRESS_SPACE_IO)) {
        return 1;
    }
    bool wide = (mask & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
    uint64_t bits = mask & ~0xfu;
    if (wide && index == 5) {
        return -EPROTO;
    }
    bits |= wide ? (uint64_t)size_mask(driver, offset + 4) << 32 : 0xffffffffull << 32;
    uint64_t size = ~bits + 1;
    if (size == 0 || (size & (size - 1))) {
        return -EPROTO;
    }
    uint64_t at = (*window + size - 1) / size * size;
    config_set(driver, offset, 4, (uint32_t)at);
    if (wide) {
        config_set(driver, offset + 4, 4, (uint32_t)(at >> 32));
    }
    if ((config_get(driver, offset, 4) & ~0xfu) != (uint32_t)at) {
        return -EPROTO;
    }
    driver->pci.bars[index] = at;
    driver->pci.bar_sizes[index] = size;
    *window = at + size;
    return wide ? 2 : 1;
}

static int place_bars(struct virtio_driver *driver, uint64_t window)
{
    uint32_t command = config_get(driver, PCI_COMMAND, 2);
    config_set(driver, PCI_COMMAND, 2, command & ~(uint32_t)(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    for (unsigned index = 0; index < 6;) {
        int taken = place_bar(driver, index, &window);
        if (taken < 0) {
            return taken;
        }
        index += (unsigned)taken;
    }
    command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    command = driver->interrupt == VIRTIO_GSI ? command & ~(uint32_t)PCI_COMMAND_INTX_DISABLE
                                              : command | PCI_COMMAND_INTX_DISABLE;
    config_set(driver, PCI_COMMAND, 2, command);
    return 0;
}

/* ---- capabilities ---- */

/* Notes where a virtio structure is. The first of a type counts (4.1.4). */
static void note_structure(struct virtio_driver *driver, unsigned at)
{
    struct virtio_pci_place *pci = &driver->pci;
    unsigned type = config_get(driver, at + VIRTIO_PCI_CAP_CFG_TYPE, 1);
    unsigned bar = config_get(driver, at + VIRTIO_PCI_CAP_BAR, 1);
    uint32_t offset = config_get(driver, at + VIRTIO_PCI_CAP_OFFSET, 4);
    uint32_t length = config_get(driver, at + VIRTIO_PCI_CAP_LENGTH, 4);
    if (type == VIRTIO_PCI_CAP_PCI_CFG) {
        pci->config_window = pci->config_window ? pci->config_window : at;
        return;
    }
    if (bar > 5 || !pci->bars[bar] || (uint64_t)offset + length > pci->bar_sizes[bar]) {
        return;
    }
    uint64_t gpa = pci->bars[bar] + offset;
    uint64_t *where = type == VIRTIO_PCI_CAP_COMMON_CFG   ? &pci->common
                      : type == VIRTIO_PCI_CAP_NOTIFY_CFG ? &pci->notify
                      : type == VIRTIO_PCI_CAP_ISR_CFG    ? &pci->isr
                      : type == VIRTIO_PCI_CAP_DEVICE_CFG ? &pci->device
                                                          : NULL;
    if (!where || *where) {
        return;
    }
    *where = gpa;
    if (type == VIRTIO_PCI_CAP_NOTIFY_CFG) {
        pci->notify_multiplier = config_get(driver, at + sizeof(struct virtio_pci_cap), 4);
    }
}

static void note_msix(struct virtio_driver *driver, unsigned at)
{
    uint32_t table = config_get(driver, at + PCI_MSIX_TABLE, 4);
    unsigned bar = table & PCI_MSIX_TABLE_BIR;
    driver->pci.msix = at;
    driver->pci.msix_vectors = (config_get(driver, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
    if (bar <= 5 && driver->pci.bars[bar]) {
        driver->pci.msix_table = driver->pci.bars[bar] + (table & PCI_MSIX_TABLE_OFFSET);
    }
}

static int walk_capabilities(struct virtio_driver *driver)
{
    if (!(config_get(driver, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST)) {
        return -EPROTO;
    }
    unsigned at = config_get(driver, PCI_CAPABILITY_LIST, 1) & ~3u;
    for (unsigned count = 0; at && count < CAPABILITIES_MAX; count++) {
        unsigned id = config_get(driver, at, 1);
        if (id == PCI_CAP_ID_VNDR) {
            note_structure(driver, at);
        } else if (id == PCI_CAP_ID_MSIX) {
            note_msix(driver, at);
        }
        at = config_get(driver, at + PCI_CAP_LIST_NEXT, 1) & ~3u;
    }
    const struct virtio_pci_place *pci = &driver->pci;
    return at == 0 && pci->common && pci->notify && pci->isr ? 0 : -EPROTO;
}

/* ---- MSI-X ---- */

void virtio_pci_set_vector(struct virtio_driver *driver, unsigned vector, uint64_t address, uint32_t data,
                           bool masked)
{
    uint64_t entry = driver->pci.msix_table + (uint64_t)vector * PCI_MSIX_ENTRY_SIZE;
    const uint32_t words[] = {(uint32_t)address, (uint32_t)(address >> 32), data,
                              masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0};
    for (unsigned i = 0; i < 4; i++) {
        vcpu_mmio_write(driver->guest, driver->vcpu, entry + 4 * i, 4, words[i]);
    }
}

static int enable_msix(struct virtio_driver *driver)
{
    struct virtio_pci_place *pci = &driver->pci;
    if (!pci->msix || !pci->msix_table) {
        return -ENODEV;
    }
    config_set(driver, pci->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    for (unsigned vector = 0; vector < pci->msix_vectors && vector <= VIRTIO_QUEUES_MAX; vector++) {
        virtio_pci_set_vector(driver, vector, VIRTIO_MSI_ADDRESS, driver->msi_data + vector, false);
    }
    config_set(driver, pci->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    return 0;
}

/* ---- the common configuration structure ---- */

static uint64_t common_get(struct virtio_driver *driver, unsigned offset, unsigned width)
{
    return vcpu_mmio_read(driver->guest, driver->vcpu, driver->pci.common + offset, width);
}

static void common_set(struct virtio_driver *driver, unsigned offset, unsigned width, uint64_t value)
{
    vcpu_mmio_write(driver->guest, driver->vcpu, driver->pci.common + offset, width, value);
}

static uint8_t status(struct virtio_driver *driver)
{
    return (uint8_t)common_get(driver, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_status(struct virtio_driver *driver, uint8_t value)
{
    common_set(driver, VIRTIO_PCI_COMMON_STATUS, 1, value);
}

static uint64_t device_features(struct virtio_driver *driver)
{
    common_set(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
    uint64_t high = common_get(driver, VIRTIO_PCI_COMMON_DF, 4);
    common_set(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
    return high << 32 | common_get(driver, VIRTIO_PCI_COMMON_DF, 4);
}

static void set_driver_features(struct virtio_driver *driver, uint64_t features)
{
    common_set(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
    common_set(driver, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)features);
    common_set(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
    common_set(driver, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> 32));
}

static unsigned queue_size_max(struct virtio_driver *driver, unsigned index)
{
    if (index >= common_get(driver, VIRTIO_PCI_COMMON_NUMQ, 2)) {
        return 0;
    }
    common_set(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
    return (unsigned)common_get(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2);
}

static void set_address(struct virtio_driver *driver, unsigned low, uint64_t gpa)
{
    common_set(driver, low, 4, (uint32_t)gpa);
    common_set(driver, low + 4, 4, (uint32_t)(gpa >> 32));
}

/* The queue's vector is its own if there are enough; it must read back (4.1.5.1.3). */
static int set_queue_vector(struct virtio_queue *queue)
{
    struct virtio_driver *driver = queue->driver;
    if (driver->interrupt != VIRTIO_MSIX) {
        return 0;
    }
    queue->vector = (uint16_t)(queue->index + 1 < driver->pci.msix_vectors ? queue->index + 1 : 0);
    queue->interrupts = mock_msi_count(driver->guest, VIRTIO_MSI_ADDRESS, driver->msi_data + queue->vector);
    common_set(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, queue->vector);
    if (common_get(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2) != queue->vector) {
        return -EIO;
    }
    common_set(driver, VIRTIO_PCI_COMMON_MSIX, 2, 0);
    return common_get(driver, VIRTIO_PCI_COMMON_MSIX, 2) == 0 ? 0 : -EIO;
}

static int queue_enable(struct virtio_queue *queue)
{
    struct virtio_driver *driver = queue->driver;
    common_set(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue->index);
    if (common_get(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2)) {
        return -EBUSY;
    }
    common_set(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, queue->size);
    set_address(driver, VIRTIO_PCI_COMMON_Q_DESCLO, queue->desc_gpa);
    set_address(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, queue->avail_gpa);
    set_address(driver, VIRTIO_PCI_COMMON_Q_USEDLO, queue->used_gpa);
    queue->notify_gpa =
        driver->pci.notify + common_get(driver, VIRTIO_PCI_COMMON_Q_NOFF, 2) * driver->pci.notify_multiplier;
    int result = set_queue_vector(queue);
    if (result) {
        return result;
    }
    common_set(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    return common_get(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2) == 1 ? 0 : -EIO;
}

static bool queue_enabled(struct virtio_driver *driver, unsigned index)
{
    common_set(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, index);
    return common_get(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2) != 0;
}

static void notify(struct virtio_queue *queue)
{
    vcpu_mmio_write(queue->driver->guest, queue->vcpu, queue->notify_gpa, 2, queue->index);
}

static uint32_t config_generation(struct virtio_driver *driver)
{
    return (uint32_t)common_get(driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1);
}

static uint64_t config_read(struct virtio_driver *driver, unsigned offset, unsigned width)
{
    return vcpu_mmio_read(driver->guest, driver->vcpu, driver->pci.device + offset, width);
}

static void config_write(struct virtio_driver *driver, unsigned offset, unsigned width, uint64_t value)
{
    vcpu_mmio_write(driver->guest, driver->vcpu, driver->pci.device + offset, width, value);
}

/* Reading it lowers the wire (4.1.4.5). */
static uint32_t interrupt_status(struct virtio_driver *driver)
{
    return (uint32_t)vcpu_mmio_read(driver->guest, driver->vcpu, driver->pci.isr, 1);
}

static const struct virtio_transport transport = {
    .name = "virtio-pci",
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

int virtio_pci_open(struct virtio_driver *driver, struct mock_guest *guest, unsigned vcpu, uint16_t sbdf,
                    uint32_t device_id, enum virtio_interrupt interrupt, uint64_t window,
                    struct virtio_arena arena)
{
    *driver = (struct virtio_driver){.guest = guest, .vcpu = vcpu, .arena = arena, .interrupt = interrupt};
    driver->transport = &transport;
    driver->device_id = device_id;
    driver->pci.sbdf = sbdf;
    unsigned slot = sbdf >> 3 & 31, function = sbdf & 7;
    /* A vector number of each slot's own as far as the 8 bits reach. */
    driver->msi_data = 0x30 + slot * 18 % 190;
    if (config_get(driver, PCI_VENDOR_ID, 4) != ((VIRTIO_DEVICE_BASE + device_id) << 16 | VIRTIO_VENDOR)) {
        return -ENODEV;
    }
    if (interrupt == VIRTIO_GSI) {
        unsigned pin = config_get(driver, PCI_INTERRUPT_PIN, 1);
        if (pin < 1 || pin > 4 || function > 7) {
            return -ENODEV;
        }
        driver->line = mock_intx_gsi(slot, pin - 1);
    }
    int result = place_bars(driver, window);
    result = result ? result : walk_capabilities(driver);
    if (result == 0 && interrupt == VIRTIO_MSIX) {
        result = enable_msix(driver);
    } else if (driver->pci.msix) {
        config_set(driver, driver->pci.msix + PCI_MSIX_FLAGS, 2,
                   0); /* whoever was here before may have left it on */
    }
    return result;
}
