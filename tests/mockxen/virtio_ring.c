/* SPDX-License-Identifier: BSD-2-Clause */
/* Split rings as the driver sees them (VIRTIO 1.2, section 2.7). */
#include <errno.h>
#include <stdlib.h>

#include "virtio_driver.h"

#define TABLE_SIZE 64 /* descriptors in an indirect table, unless a chain needs more */
#define LEGACY_ALIGN 4096

static void set_pointers(struct virtio_queue *queue, struct mock_guest *guest)
{
    unsigned size = queue->size;
    queue->desc = mock_guest_ram(guest, queue->desc_gpa, sizeof(struct vring_desc) * size);
    queue->avail = mock_guest_ram(guest, queue->avail_gpa, 6 + 2 * size);
    queue->used = mock_guest_ram(guest, queue->used_gpa, 6 + sizeof(struct vring_used_elem) * size);
}

/* Modern rings need only their own alignment, so they are put close: they cross pages where they happen
 * to. */
static bool place_modern(struct virtio_queue *queue, struct virtio_arena *arena)
{
    unsigned size = queue->size;
    queue->desc_gpa = virtio_arena_take(arena, sizeof(struct vring_desc) * size, VRING_DESC_ALIGN_SIZE, NULL);
    queue->avail_gpa = virtio_arena_take(arena, 6 + 2 * size, VRING_AVAIL_ALIGN_SIZE, NULL);
    queue->used_gpa =
        virtio_arena_take(arena, 6 + sizeof(struct vring_used_elem) * size, VRING_USED_ALIGN_SIZE, NULL);
    return queue->desc_gpa && queue->avail_gpa && queue->used_gpa;
}

/* Legacy: one piece, the used ring on the next aligned address (2.7.2). */
static bool place_legacy(struct virtio_queue *queue, struct virtio_arena *arena)
{
    size_t first = sizeof(struct vring_desc) * queue->size + 6 + 2 * queue->size;
    size_t used = (first + LEGACY_ALIGN - 1) / LEGACY_ALIGN * LEGACY_ALIGN;
    size_t whole = used + 6 + sizeof(struct vring_used_elem) * queue->size;
    queue->desc_gpa = virtio_arena_take(arena, whole, LEGACY_ALIGN, NULL);
    queue->avail_gpa = queue->desc_gpa + sizeof(struct vring_desc) * queue->size;
    queue->used_gpa = queue->desc_gpa + used;
    return queue->desc_gpa != 0;
}

struct virtio_queue *virtio_ring_make(struct virtio_driver *driver, unsigned index, uint16_t size)
{
    struct virtio_queue *queue = calloc(1, sizeof(*queue));
    if (!queue) {
        return NULL;
    }
    queue->driver = driver;
    queue->index = index;
    queue->vcpu = driver->vcpu;
    queue->size = size;
    queue->tokens = calloc(size, sizeof(*queue->tokens));
    queue->tables = calloc(size, sizeof(*queue->tables));
    queue->table_sizes = calloc(size, sizeof(*queue->table_sizes));
    if (!queue->tokens || !queue->tables || !queue->table_sizes ||
        !(driver->legacy ? place_legacy(queue, &driver->arena) : place_modern(queue, &driver->arena))) {
        virtio_ring_free(queue);
        return NULL;
    }
    set_pointers(queue, driver->guest);
    for (unsigned i = 0; i < size; i++) {
        queue->desc[i].next = (uint16_t)(i + 1);
    }
    queue->free_count = size;
    if (driver->interrupt == VIRTIO_POLL) {
        queue->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    }
    return queue;
}

void virtio_ring_free(struct virtio_queue *queue)
{
    if (queue) {
        free(queue->tokens);
        free(queue->tables);
        free(queue->table_sizes);
        free(queue);
    }
}

unsigned virtio_queue_pending(const struct virtio_queue *queue)
{
    return (uint16_t)(queue->published - queue->next_used);
}

static void fill(struct vring_desc *desc, const struct virtio_buffer *buffer, bool more)
{
    desc->addr = buffer->gpa;
    desc->len = buffer->length;
    desc->flags = (uint16_t)((buffer->write ? VRING_DESC_F_WRITE : 0) | (more ? VRING_DESC_F_NEXT : 0));
}

/* The indirect table of a head, with room for `count`; NULL: no memory. */
static struct vring_desc *table_of(struct virtio_queue *queue, uint16_t head, unsigned count)
{
    if (queue->table_sizes[head] < count) {
        unsigned size = count > TABLE_SIZE ? count : TABLE_SIZE;
        queue->tables[head] =
            virtio_arena_take(&queue->driver->arena, size * sizeof(struct vring_desc), 16, NULL);
        queue->table_sizes[head] = (uint16_t)(queue->tables[head] ? size : 0);
    }
    return queue->tables[head]
               ? mock_guest_ram(queue->driver->guest, queue->tables[head], count * sizeof(struct vring_desc))
               : NULL;
}

static int put_indirect(struct virtio_queue *queue, const struct virtio_buffer *buffers, unsigned count)
{
    uint16_t head = queue->free_head;
    struct vring_desc *table = table_of(queue, head, count);
    if (!table) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        fill(&table[i], &buffers[i], i + 1 < count);
        table[i].next = (uint16_t)(i + 1);
    }
    struct vring_desc *desc = &queue->desc[head];
    queue->free_head = desc->next;
    queue->free_count--;
    desc->addr = queue->tables[head];
    desc->len = (uint32_t)(count * sizeof(struct vring_desc));
    desc->flags = VRING_DESC_F_INDIRECT;
    return head;
}

static int put_direct(struct virtio_queue *queue, const struct virtio_buffer *buffers, unsigned count)
{
    uint16_t head = queue->free_head, at = head;
    for (unsigned i = 0; i < count; i++) {
        fill(&queue->desc[at], &buffers[i], i + 1 < count);
        at = queue->desc[at].next; /* stays as the free list had it */
    }
    queue->free_head = at;
    queue->free_count = (uint16_t)(queue->free_count - count);
    return head;
}

void virtio_queue_put_head(struct virtio_queue *queue, uint16_t head)
{
    queue->avail->ring[queue->next_avail % queue->size] = head;
    queue->next_avail++;
}

int virtio_queue_put(struct virtio_queue *queue, const struct virtio_buffer *buffers, unsigned count,
                     bool indirect, void *token)
{
    if (count == 0 || !token || (indirect && !virtio_has(queue->driver, VIRTIO_RING_F_INDIRECT_DESC))) {
        return -EINVAL;
    }
    if (queue->free_count < (indirect ? 1 : count)) {
        return -ENOSPC;
    }
    int head = indirect ? put_indirect(queue, buffers, count) : put_direct(queue, buffers, count);
    if (head >= 0) {
        queue->tokens[head] = token;
        virtio_queue_put_head(queue, (uint16_t)head);
    }
    return head;
}

void virtio_queue_publish(struct virtio_queue *queue)
{
    __atomic_store_n(&queue->avail->idx, queue->next_avail, __ATOMIC_RELEASE);
    queue->published = queue->next_avail;
}

void virtio_queue_notify(struct virtio_queue *queue)
{
    queue->notifications++;
    queue->driver->transport->notify(queue);
}

void virtio_queue_kick(struct virtio_queue *queue)
{
    uint16_t before = queue->published;
    virtio_queue_publish(queue);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    bool wanted;
    if (virtio_has(queue->driver, VIRTIO_RING_F_EVENT_IDX)) {
        const uint16_t *avail_event = (const uint16_t *)&queue->used->ring[queue->size];
        wanted = vring_need_event(__atomic_load_n(avail_event, __ATOMIC_RELAXED), queue->published, before);
    } else {
        wanted = !(__atomic_load_n(&queue->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
    }
    if (wanted) {
        virtio_queue_notify(queue);
    }
}

/* Gives the chain's descriptors back to the free list. */
static void release(struct virtio_queue *queue, uint16_t head)
{
    uint16_t at = head, count = 1;
    while (queue->desc[at].flags & VRING_DESC_F_NEXT && count < queue->size) {
        at = queue->desc[at].next;
        count++;
    }
    queue->desc[at].next = queue->free_head;
    queue->free_head = head;
    queue->free_count = (uint16_t)(queue->free_count + count);
}

void *virtio_queue_take(struct virtio_queue *queue, uint32_t *written)
{
    if (__atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE) == queue->next_used) {
        return NULL;
    }
    struct vring_used_elem element = queue->used->ring[queue->next_used % queue->size];
    void *token = element.id < queue->size ? queue->tokens[element.id] : NULL;
    if (!token) {
        return NULL; /* the device made it up: the test sees a chain that never ends */
    }
    queue->tokens[element.id] = NULL;
    queue->next_used++;
    if (written) {
        *written = element.len;
    }
    release(queue, (uint16_t)element.id);
    return token;
}
