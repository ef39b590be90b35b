/* SPDX-License-Identifier: BSD-2-Clause */
/* include/ioreqd/dma.h over guest_memory: copies, mappings for one I/O, windows for rings. */
#include <ioreqd/dma.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

/*
 * Mappings come in three sizes and are kept for the next I/O when given back: no allocation on the hot path.
 * How many there ever are is bounded by the requests that the devices' queues can hold.
 */
static const unsigned pool_pieces[3] = {16, 128, IOD_MAP_MAX_PIECES};

struct iod_mapping {
    struct list link; /* of the pool, while free */
    struct iod_device *device;
    unsigned pool;
    unsigned count;   /* iovecs */
    unsigned chunk_count;
    size_t length;
    struct iovec *iov;
    struct chunk **chunks;
};

static struct daemon *daemon_of(const struct iod_device *device)
{
    return device->guest->daemon;
}

/*
 * A device that is quiet has said that it touches no guest memory: whatever it forgot to call off finds none.
 */
static bool may_touch(const struct iod_device *device)
{
    return device->guest->memory && (device->state == DEVICE_RUNNING || device->state == DEVICE_STOPPING);
}

static int dma_copy(struct iod_device *device, uint64_t address, void *bytes, size_t length, bool to_guest)
{
    return may_touch(device) ? memory_copy(device->guest->memory, address, bytes, length, to_guest) : -EFAULT;
}

int iod_dma_read(struct iod_device *device, uint64_t address, void *to, size_t length)
{
    return dma_copy(device, address, to, length, false);
}

int iod_dma_write(struct iod_device *device, uint64_t address, const void *from, size_t length)
{
    return dma_copy(device, address, (void *)(uintptr_t)from, length, true);
}

/* ---- mappings ---- */

static struct iod_mapping *mapping_take(struct iod_device *device, unsigned pieces)
{
    unsigned pool = pieces <= pool_pieces[0] ? 0 : pieces <= pool_pieces[1] ? 1 : 2;
    struct list *free_list = &daemon_of(device)->mapping_pool[pool];
    struct iod_mapping *mapping = list_first(free_list, struct iod_mapping, link);
    if (mapping) {
        list_remove(&mapping->link);
    } else {
        unsigned room = pool_pieces[pool];
        mapping = calloc(1, sizeof(*mapping) + room * (sizeof(struct iovec) + sizeof(struct chunk *)));
        if (!mapping) {
            return NULL;
        }
        mapping->iov = (struct iovec *)(mapping + 1);
        mapping->chunks = (struct chunk **)(mapping->iov + room);
        mapping->pool = pool;
        list_init(&mapping->link);
    }
    mapping->device = device;
    mapping->count = mapping->chunk_count = 0;
    mapping->length = 0;
    return mapping;
}

static void mapping_release(struct iod_mapping *mapping)
{
    for (unsigned i = 0; i < mapping->chunk_count; i++) {
        memory_put(mapping->device->guest->memory, mapping->chunks[i]);
    }
    list_add_head(&daemon_of(mapping->device)->mapping_pool[mapping->pool], &mapping->link);
}

/* The most pieces that the extents can need: one per page boundary crossed. */
static int count_pieces(const struct iod_extent *extents, unsigned count, unsigned *pieces)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!extents[i].length) {
            continue;
        }
        uint64_t last = extents[i].address + (extents[i].length - 1);
        if (last < extents[i].address) {
            return -EFAULT;
        }
        sum += (last >> HV_PAGE_SHIFT) - (extents[i].address >> HV_PAGE_SHIFT) + 1;
        if (sum > IOD_MAP_MAX_PIECES) {
            return -E2BIG;
        }
    }
    *pieces = (unsigned)sum;
    return 0;
}

static int map_extent(struct iod_mapping *mapping, const struct iod_extent *extent)
{
    uint64_t address = extent->address;
    size_t length = extent->length;
    while (length) {
        size_t room;
        struct chunk *chunk;
        uint8_t *at = memory_get(mapping->device->guest->memory, address, &room, &chunk);
        if (!at) {
            return -EFAULT;
        }
        mapping->chunks[mapping->chunk_count++] = chunk;
        size_t part = length < room ? length : room;
        struct iovec *last = mapping->count ? &mapping->iov[mapping->count - 1] : NULL;
        if (last && (uint8_t *)last->iov_base + last->iov_len == at) {
            last->iov_len += part;
        } else {
            mapping->iov[mapping->count++] = (struct iovec){.iov_base = at, .iov_len = part};
        }
        mapping->length += part;
        address += part;
        length -= part;
    }
    return 0;
}

int iod_dma_map(struct iod_device *device, const struct iod_extent *extents, unsigned count,
                enum iod_dma_dir dir, struct iod_mapping **result)
{
    unsigned pieces;
    if (!may_touch(device)) {
        return -EFAULT;
    }
    int error = count_pieces(extents, count, &pieces);
    if (error) {
        return error;
    }
    struct iod_mapping *mapping = mapping_take(device, pieces);
    if (!mapping) {
        return -ENOMEM;
    }
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += extents[i].length;
    }
    watch_allow(device->guest, bytes); /* devices without virtqueues do I/O, too */
    (void)dir; /* a foreign mapping is read-write; grants will ask */
    for (unsigned i = 0; i < count; i++) {
        error = map_extent(mapping, &extents[i]);
        if (error) {
            mapping_release(mapping);
            return error;
        }
    }
    device->mappings++;
    *result = mapping;
    return 0;
}

const struct iovec *iod_mapping_iov(const struct iod_mapping *mapping, unsigned *count)
{
    *count = mapping->count;
    return mapping->iov;
}

size_t iod_mapping_length(const struct iod_mapping *mapping)
{
    return mapping->length;
}

bool iod_mapping_pinnable(const struct iod_mapping *mapping)
{
    (void)mapping;
    return false; /* foreign mappings are VM_IO | VM_PFNMAP */
}

void iod_mapping_put(struct iod_mapping *mapping, size_t written)
{
    (void)written; /* no dirty log runs yet: migration is not served */
    mapping->device->mappings--;
    mapping_release(mapping);
}

void mapping_pools_destroy(struct daemon *daemon)
{
    for (unsigned i = 0; i < 3; i++) {
        struct iod_mapping *mapping;
        list_for_each(mapping, &daemon->mapping_pool[i], struct iod_mapping, link) {
            list_remove(&mapping->link);
            free(mapping);
        }
    }
}

/* ---- windows ---- */

struct window_page {
    uint8_t *at; /* NULL: not mapped now */
    struct chunk *chunk;
};

struct iod_window {
    struct iod_device *device;
    struct list link; /* of the device */
    uint64_t address;
    size_t length;
    unsigned page_count;
    struct window_page pages[];
};

struct iod_window *iod_window_open(struct iod_device *device, uint64_t address, size_t length)
{
    uint64_t in_page = address & (HV_PAGE_SIZE - 1);
    unsigned pages = (unsigned)((in_page + length + HV_PAGE_SIZE - 1) >> HV_PAGE_SHIFT);
    struct iod_window *window = calloc(1, sizeof(*window) + pages * sizeof(window->pages[0]));
    if (!window) {
        return NULL;
    }
    window->device = device;
    window->address = address;
    window->length = length;
    window->page_count = pages;
    list_add_tail(&device->windows, &window->link);
    return window;
}

static void window_release(struct iod_window *window)
{
    for (unsigned i = 0; i < window->page_count; i++) {
        if (window->pages[i].at) {
            memory_put(window->device->guest->memory, window->pages[i].chunk);
            window->pages[i] = (struct window_page){0};
        }
    }
}

void windows_release(struct iod_device *device)
{
    struct iod_window *window;
    list_for_each(window, &device->windows, struct iod_window, link) {
        window_release(window);
    }
}

void windows_destroy(struct iod_device *device)
{
    struct iod_window *window;
    list_for_each(window, &device->windows, struct iod_window, link) {
        iod_window_close(window);
    }
}

void iod_window_close(struct iod_window *window)
{
    if (window) {
        window_release(window);
        list_remove(&window->link);
        free(window);
    }
}

/* The mapped byte at `offset`, and how many follow in its page. */
static uint8_t *window_at(struct iod_window *window, size_t offset, size_t *room)
{
    uint64_t address = window->address + offset;
    if (address < window->address) {
        return NULL; /* over the top of the address space */
    }
    uint64_t first = window->address >> HV_PAGE_SHIFT;
    struct window_page *page = &window->pages[(address >> HV_PAGE_SHIFT) - first];
    if (!page->at) {
        size_t run;
        if (!may_touch(window->device)) {
            return NULL;
        }
        page->at = memory_get(window->device->guest->memory, address & ~(uint64_t)(HV_PAGE_SIZE - 1), &run,
                              &page->chunk);
        if (!page->at) {
            return NULL;
        }
    }
    size_t in_page = address & (HV_PAGE_SIZE - 1);
    *room = HV_PAGE_SIZE - in_page;
    return page->at + in_page;
}

/*
 * The guest writes the same memory at the same time: an aligned number must be one load or store, never
 * bytes.
 */
#define COPY_NUMBER(type) \
    do { \
        type number; \
        if (write) { \
            memcpy(&number, bytes, sizeof(number)); \
            __atomic_store_n((type *)shared, number, __ATOMIC_RELAXED); \
        } else { \
            number = __atomic_load_n((const type *)shared, __ATOMIC_RELAXED); \
            memcpy(bytes, &number, sizeof(number)); \
        } \
    } while (0)

static void copy_once(void *shared, uint8_t *bytes, size_t length, bool write)
{
    if (length == 2 && (uintptr_t)shared % 2 == 0) {
        COPY_NUMBER(uint16_t);
    } else if (length == 4 && (uintptr_t)shared % 4 == 0) {
        COPY_NUMBER(uint32_t);
    } else if (length == 8 && (uintptr_t)shared % 8 == 0) {
        COPY_NUMBER(uint64_t);
    } else if (write) {
        memcpy(shared, bytes, length);
    } else {
        memcpy(bytes, shared, length);
    }
}

/* Inline: the rings' fields are read and written one by one, several for each request. */
static inline __attribute__((always_inline)) int window_copy(struct iod_window *window, size_t offset,
                                                            uint8_t *bytes, size_t length, bool write)
{
    if (offset > window->length || length > window->length - offset) {
        return -EFAULT;
    }
    while (length) {
        size_t room;
        uint8_t *at = window_at(window, offset, &room);
        if (!at) {
            return -EFAULT;
        }
        size_t part = length < room ? length : room;
        copy_once(at, bytes, part, write);
        offset += part;
        bytes += part;
        length -= part;
    }
    return 0;
}

int iod_window_read(struct iod_window *window, size_t offset, void *to, size_t length)
{
    return window_copy(window, offset, to, length, false);
}

int iod_window_write(struct iod_window *window, size_t offset, const void *from, size_t length)
{
    return window_copy(window, offset, (void *)(uintptr_t)from, length, true);
}
