/* SPDX-License-Identifier: BSD-2-Clause */
/* A driver's life, the same over every transport (VIRTIO 1.2, sections 2.1, 2.2, 2.4, 2.5, 3.1). */
#include "virtio_driver.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define STEP_NS 200000

static int64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void rest(void)
{
    struct timespec time = {.tv_nsec = STEP_NS};
    nanosleep(&time, NULL);
}

struct virtio_arena virtio_arena_make(struct mock_guest *guest, uint64_t base, uint64_t size)
{
    return (struct virtio_arena){.guest = guest, .next = base, .end = base + size};
}

uint64_t virtio_arena_take(struct virtio_arena *arena, size_t size, size_t align, void **at)
{
    uint64_t gpa = (arena->next + align - 1) / align * align;
    void *memory = gpa + size <= arena->end ? mock_guest_ram(arena->guest, gpa, size) : NULL;
    if (!memory) {
        return 0;
    }
    memset(memory, 0, size);
    arena->next = gpa + size;
    if (at) {
        *at = memory;
    }
    return gpa;
}

uint8_t virtio_status(struct virtio_driver *driver)
{
    return driver->transport->status(driver);
}

/* Waits until (status & mask) == value. */
static int wait_status(struct virtio_driver *driver, uint8_t mask, uint8_t value, int timeout_ms)
{
    int64_t deadline = now_ms() + timeout_ms;
    while ((virtio_status(driver) & mask) != value) {
        if (now_ms() > deadline) {
            return -ETIMEDOUT;
        }
        rest();
    }
    return 0;
}

int virtio_wait_needs_reset(struct virtio_driver *driver, int timeout_ms)
{
    return wait_status(driver, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_CONFIG_S_NEEDS_RESET, timeout_ms);
}

static void forget_queues(struct virtio_driver *driver)
{
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        virtio_ring_free(driver->queues[i]);
        driver->queues[i] = NULL;
    }
}

int virtio_reset(struct virtio_driver *driver)
{
    driver->transport->set_status(driver, 0);
    int result = wait_status(driver, 0xff, 0, VIRTIO_TIMEOUT_MS);
    driver->features = 0;
    forget_queues(driver);
    return result;
}

void virtio_close(struct virtio_driver *driver)
{
    forget_queues(driver);
}

int virtio_negotiate(struct virtio_driver *driver, uint64_t wanted)
{
    uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE;
    int result = virtio_reset(driver);
    if (result) {
        return result;
    }
    driver->transport->set_status(driver, status);
    status |= VIRTIO_CONFIG_S_DRIVER;
    driver->transport->set_status(driver, status);
    uint64_t features = driver->transport->device_features(driver) & wanted;
    driver->transport->set_driver_features(driver, features);
    if (!driver->legacy) {
        status |= VIRTIO_CONFIG_S_FEATURES_OK;
        driver->transport->set_status(driver, status);
        if (!(virtio_status(driver) & VIRTIO_CONFIG_S_FEATURES_OK)) {
            driver->transport->set_status(driver, status | VIRTIO_CONFIG_S_FAILED);
            return -ENOTSUP;
        }
    }
    driver->features = features;
    return 0;
}

bool virtio_has(const struct virtio_driver *driver, unsigned feature)
{
    return driver->features >> feature & 1;
}

int virtio_queue_set_up(struct virtio_driver *driver, unsigned index, unsigned size)
{
    if (index >= VIRTIO_QUEUES_MAX || driver->queues[index]) {
        return -EINVAL;
    }
    unsigned most = driver->transport->queue_size_max(driver, index);
    if (most == 0) {
        return -ENODEV;
    }
    size = size ? size : most;
    if (size > most || size > 32768 || (size & (size - 1))) {
        return -EINVAL;
    }
    struct virtio_queue *queue = virtio_ring_make(driver, index, (uint16_t)size);
    if (!queue) {
        return -ENOMEM;
    }
    driver->queues[index] = queue;
    return driver->transport->queue_enable(queue);
}

void virtio_start(struct virtio_driver *driver)
{
    driver->transport->set_status(driver, virtio_status(driver) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void virtio_config(struct virtio_driver *driver, void *to, size_t length)
{
    const struct virtio_transport *transport = driver->transport;
    uint8_t *bytes = to;
    uint32_t before, after;
    do {
        before = transport->config_generation ? transport->config_generation(driver) : 0;
        for (size_t i = 0; i < length; i++) {
            bytes[i] = (uint8_t)transport->config_read(driver, (unsigned)i, 1);
        }
        after = transport->config_generation ? transport->config_generation(driver) : 0;
    } while (before != after);
}

/* ---- interrupts ---- */

/* A new delivery on the queue's wire or vector; it is looked at but not acknowledged. */
static int wait_delivery(struct virtio_queue *queue, int timeout_ms)
{
    struct virtio_driver *driver = queue->driver;
    int result;
    switch (driver->interrupt) {
    case VIRTIO_GSI:
        result = mock_gsi_wait(driver->guest, driver->line, queue->interrupts + 1, timeout_ms);
        queue->interrupts = mock_gsi_count(driver->guest, driver->line);
        return result;
    case VIRTIO_SPI: return mock_spi_take(driver->guest, driver->line, timeout_ms);
    case VIRTIO_MSIX:
        result = mock_msi_wait(driver->guest, VIRTIO_MSI_ADDRESS, driver->msi_data + queue->vector,
                               queue->interrupts + 1, timeout_ms);
        queue->interrupts =
            mock_msi_count(driver->guest, VIRTIO_MSI_ADDRESS, driver->msi_data + queue->vector);
        return result;
    case VIRTIO_POLL: break;
    }
    return -ETIMEDOUT;
}

int virtio_queue_wait_interrupt(struct virtio_queue *queue, int timeout_ms)
{
    struct virtio_driver *driver = queue->driver;
    int result = wait_delivery(queue, timeout_ms);
    if (result == 0 && driver->interrupt != VIRTIO_MSIX) {
        driver->transport->interrupt_status(driver);
        if (driver->interrupt == VIRTIO_GSI) {
            mock_gsi_eoi(driver->guest, driver->line);
        }
    }
    return result;
}

static bool has_used(const struct virtio_queue *queue)
{
    return __atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE) != queue->next_used;
}

/* Where the driver says from which used element on it wants an interrupt (2.7.7). */
static void arm(struct virtio_queue *queue)
{
    if (virtio_has(queue->driver, VIRTIO_RING_F_EVENT_IDX)) {
        __atomic_store_n(&queue->avail->ring[queue->size], queue->next_used, __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* One step of waiting: an interrupt, or when polling a rest. True: something may have changed. */
static bool wait_step(struct virtio_queue *queue, int64_t left_ms)
{
    if (queue->driver->interrupt == VIRTIO_POLL) {
        rest();
        return true;
    }
    /* In slices, so that a device that broke is noticed: it may not be able to interrupt any more. */
    return virtio_queue_wait_interrupt(queue, left_ms < 500 ? (int)left_ms : 500) == 0;
}

int virtio_queue_wait(struct virtio_queue *queue, int timeout_ms)
{
    int64_t deadline = now_ms() + timeout_ms;
    bool spun = false;
    while (!has_used(queue)) {
        int64_t left = deadline - now_ms();
        arm(queue);
        if (has_used(queue)) {
            break;
        }
        if (left < 0) {
            return -ETIMEDOUT;
        }
        if (spun && queue->vcpu == queue->driver->vcpu &&
            (virtio_status(queue->driver) & VIRTIO_CONFIG_S_NEEDS_RESET)) {
            return -EIO;
        }
        spun = true;
        if (!wait_step(queue, left) && has_used(queue) && virtio_queue_wait_interrupt(queue, 2000)) {
            return -ENOMSG;
        }
    }
    uint16_t used = __atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE);
    return (uint16_t)(used - queue->next_used) > virtio_queue_pending(queue) ? -EBADMSG : 0;
}
