/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The split ring. Guest memory is read once and never trusted: indices are bounded by the ring's size, chains
 * by the descriptors there are, and whatever breaks the rules ends in NEEDS_RESET.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>

#include "core/module.h"
#include "core/probe.h"
#include "virtio/virtq.h"
#include "virtio/walk.h"

/* Offsets in the driver (available) and device (used) areas; section 2.7.6 and 2.7.8. */
enum { AVAIL_FLAGS = 0, AVAIL_INDEX = 2, AVAIL_RING = 4, USED_FLAGS = 0, USED_INDEX = 2, USED_RING = 4 };

static unsigned avail_entry(uint16_t slot)
{
    return AVAIL_RING + 2u * slot;
}

static unsigned used_entry(uint16_t slot)
{
    return USED_RING + 8u * slot;
}

static bool has_events(const struct iod_virtq *queue)
{
    return virtio_negotiated(queue->virtio, VIRTIO_RING_F_EVENT_IDX);
}

static void unreachable_ring(struct iod_virtq *queue)
{
    iod_virtio_broken(queue->virtio, "queue %u: its ring is not in memory", queue->index);
}

static bool read16(struct iod_virtq *queue, struct iod_window *window, unsigned offset, uint16_t *value)
{
    if (iod_window_read(window, offset, value, sizeof(*value)) < 0) {
        unreachable_ring(queue);
        return false;
    }
    return true;
}

static bool write16(struct iod_virtq *queue, struct iod_window *window, unsigned offset, uint16_t value)
{
    if (iod_window_write(window, offset, &value, sizeof(value)) < 0) {
        unreachable_ring(queue);
        return false;
    }
    return true;
}

/* ---- taking chains ---- */

/* Looks at the driver's index. The number of new entries; 0 also when the ring is broken. */
static unsigned look(struct iod_virtq *queue)
{
    const struct virtq_regs *regs = virtq_regs(queue);
    uint16_t index;
    int count;

    if (!read16(queue, queue->driver, AVAIL_INDEX, &index)) {
        return 0;
    }
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the entries are read after the index that covers them */
    count = walk_available(index, regs->next_avail, regs->size);
    if (count < 0) {
        iod_virtio_broken(queue->virtio, "queue %u: available index %u is ahead of %u by more than %u",
                          queue->index, index, regs->next_avail, regs->size);
        return 0;
    }
    queue->avail = index;
    return (unsigned)count;
}

/*
 * Not since it was popped last: an entry may have been popped before its own kick. Entries that wait (a network's
 * receive buffers) are none that were added.
 */
bool virtq_grew(struct iod_virtq *queue)
{
    uint16_t index, before = queue->grown;

    if (!read16(queue, queue->driver, AVAIL_INDEX, &index)) {
        return false;
    }
    queue->grown = index;
    return index != before;
}

/*
 * Asks for a kick at the first entry that we have not seen, then looks once more: the driver may have added it
 * before it saw the wish. How many it added. Entries that were seen and put back (iod_virtq_unpop) are none: a
 * device that waits for more of them would be woken for nothing, or by EVENT_IDX never.
 */
static unsigned look_with_kicks_on(struct iod_virtq *queue)
{
    const struct virtq_regs *regs = virtq_regs(queue);
    const uint16_t seen = queue->avail;
    bool ok = true;

    if (has_events(queue)) {
        ok = write16(queue, queue->device, used_entry(regs->size), seen);
    } else if (queue->unnotified) {
        ok = write16(queue, queue->device, USED_FLAGS, 0);
        queue->unnotified = false;
    }
    if (!ok) {
        return 0;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    look(queue);
    return (uint16_t)(queue->avail - seen);
}

/*
 * The ring is empty. While something is in flight its end may come within this batch (a disk's hot read), and
 * a driver that is told of it adds the next entry at once: kicks are asked for last, that entry needs none.
 * When the batch is over they are asked for in any case, for what is in flight may take long.
 */
static unsigned look_when_empty(struct iod_virtq *queue)
{
    if (queue->in_flight) {
        virtio_ask_last(queue->virtio, queue->index);
        return 0;
    }
    return look_with_kicks_on(queue);
}

void virtq_ask(struct iod_virtq *queue)
{
    if (iod_virtq_ready(queue) && look_with_kicks_on(queue)) {
        virtio_look_again(queue->virtio, queue->index);
    }
}

/* With EVENT_IDX the stale event does the same by itself. */
static void kicks_off(struct iod_virtq *queue)
{
    if (!has_events(queue) && !queue->unnotified) {
        queue->unnotified = write16(queue, queue->device, USED_FLAGS, VRING_USED_F_NO_NOTIFY);
    }
}

static const char *walk_table(struct iod_virtq *queue, struct walk *walk)
{
    struct virtq_desc table[VIRTQ_TABLE_MAX];
    enum walk_step step = WALK_NEXT;

    if (iod_dma_read(queue->virtio->device, walk->table, table, walk->table_entries * sizeof(table[0])) < 0) {
        return "an indirect table that is not in memory";
    }
    walk->next = 0;
    while (step == WALK_NEXT) {
        step = walk_take(walk, &table[walk->next]);
    }
    return step == WALK_END ? NULL : walk->why;
}

/* Fills the chain that starts at `head`; NULL, or what is wrong with it. */
static const char *walk_chain(struct iod_virtq *queue, struct iod_chain *chain, uint16_t head)
{
    const uint16_t size = virtq_regs(queue)->size;
    enum walk_step step = WALK_NEXT;
    struct virtq_desc desc;
    struct walk walk;

    if (head >= size) {
        return "a head beyond the descriptor table";
    }
    walk_begin(&walk, chain, size, virtio_negotiated(queue->virtio, VIRTIO_RING_F_INDIRECT_DESC));
    walk.next = head;
    while (step == WALK_NEXT) {
        if (iod_window_read(queue->desc, (size_t)walk.next * sizeof(desc), &desc, sizeof(desc)) < 0) {
            return "its descriptors are not in memory";
        }
        step = walk_take(&walk, &desc);
    }
    if (step == WALK_TABLE) {
        return walk_table(queue, &walk);
    }
    return step == WALK_END ? NULL : walk.why;
}

int iod_virtq_pop(struct iod_virtq *queue, struct iod_chain *chain)
{
    struct virtq_regs *regs = virtq_regs(queue);
    const char *why;
    uint16_t head;

    if (!iod_virtq_ready(queue)) {
        return 0;
    }
    if (queue->budget == 0) {
        virtio_look_again(queue->virtio, queue->index); /* later: other devices and guests come first */
        return 0;
    }
    if (queue->avail == regs->next_avail && !look(queue) &&
        (!iod_virtq_ready(queue) || !look_when_empty(queue))) {
        return 0;
    }
    if (!read16(queue, queue->driver, avail_entry(regs->next_avail & (regs->size - 1)), &head)) {
        return 0;
    }
    why = walk_chain(queue, chain, head);
    if (why) {
        iod_virtio_broken(queue->virtio, "queue %u: %s", queue->index, why);
        return 0;
    }
    chain->head = head;
    kicks_off(queue);
    regs->next_avail++;
    queue->in_flight++;
    queue->budget--;
    probe_pop(queue->virtio->device, queue->index, head, chain->out_length + chain->in_length);
    return 1;
}

/* ---- giving chains back ---- */

static void close_windows(struct iod_virtq *queue)
{
    iod_window_close(queue->desc);
    iod_window_close(queue->driver);
    iod_window_close(queue->device);
    queue->desc = queue->driver = queue->device = NULL;
}

/* A queue that is being disabled ends when nothing of it is in flight. */
static void settle(struct iod_virtq *queue)
{
    struct iod_access *access = queue->access;

    if (!queue->closing || queue->in_flight) {
        return;
    }
    virtq_clear(queue);
    if (access) {
        iod_access_complete(access, 0);
    }
}

void iod_virtq_unpop(struct iod_virtq *queue)
{
    if (queue->in_flight) {
        virtq_regs(queue)->next_avail--;
        queue->in_flight--;
        queue->budget++;
    }
}

void iod_virtq_push(struct iod_virtq *queue, uint16_t head, uint32_t written)
{
    struct virtq_regs *regs = virtq_regs(queue);
    struct vring_used_elem element = { .id = head, .len = written };

    if (!queue->in_flight || !queue->device) {
        return;
    }
    queue->in_flight--;
    if (iod_window_write(queue->device, used_entry(regs->used & (regs->size - 1)), &element,
                         sizeof(element)) < 0) {
        unreachable_ring(queue);
        return;
    }
    probe_push(queue->virtio->device, queue->index, head, written);
    regs->used++;
}

/* Does the driver want to hear of the entries from `before` on? */
static bool interrupt_wanted(struct iod_virtq *queue, uint16_t before)
{
    const struct virtq_regs *regs = virtq_regs(queue);
    uint16_t value;

    /* The driver publishes its wish, then looks at our index; we do it the other way round. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (has_events(queue)) {
        return read16(queue, queue->driver, avail_entry(regs->size), &value) &&
               walk_event_passed(value, regs->used, before);
    }
    return read16(queue, queue->driver, AVAIL_FLAGS, &value) && !(value & VRING_AVAIL_F_NO_INTERRUPT);
}

void iod_virtq_flush(struct iod_virtq *queue)
{
    struct virtq_regs *regs = virtq_regs(queue);
    uint16_t before = queue->published;

    if (queue->device && regs->used != before) {
        __atomic_thread_fence(__ATOMIC_RELEASE); /* data and entries before the index that shows them */
        queue->published = regs->used;
        if (write16(queue, queue->device, USED_INDEX, regs->used) && interrupt_wanted(queue, before)) {
            probe_interrupt(queue->virtio->device, queue->index, regs->used, 0);
            queue->virtio->transport->interrupt(queue->virtio, queue->index);
        }
    }
    virtq_refill(queue);
    settle(queue);
}

unsigned iod_virtq_size(const struct iod_virtq *queue)
{
    return virtq_regs(queue)->enabled ? virtq_regs(queue)->size : 0;
}

bool iod_virtq_ready(const struct iod_virtq *queue)
{
    const struct iod_virtio *virtio = queue->virtio;

    return virtq_regs(queue)->enabled && !queue->closing && !virtio->quiet && iod_virtio_live(virtio) &&
           (!virtio->transport->may_dma || virtio->transport->may_dma(virtio));
}

/* ---- life ---- */

static bool open_windows(struct iod_virtq *queue)
{
    const struct virtq_regs *regs = virtq_regs(queue);
    struct iod_device *device = queue->virtio->device;
    const uint16_t size = regs->size;

    queue->desc = iod_window_open(device, regs->desc, 16u * size);
    queue->driver = iod_window_open(device, regs->driver, avail_entry(size) + 2);
    queue->device = iod_window_open(device, regs->device, used_entry(size) + 2);
    if (!queue->desc || !queue->driver || !queue->device) {
        close_windows(queue);
        return false;
    }
    return true;
}

bool virtq_enable(struct iod_virtq *queue)
{
    struct virtq_regs *regs = virtq_regs(queue);
    const char *why = walk_ring_check(regs->size, queue->max, regs->desc, regs->driver, regs->device);

    if (regs->enabled) {
        return true;
    }
    if (why) {
        iod_guest_error(queue->virtio->device, "queue %u is not enabled: %s", queue->index, why);
        return false;
    }
    if (!open_windows(queue)) {
        iod_log(queue->virtio->device, IOD_LOG_ERROR, "queue %u: out of memory", queue->index);
        return false;
    }
    regs->enabled = 1;
    regs->next_avail = regs->used = 0;
    queue->avail = queue->published = queue->grown = 0;
    queue->unnotified = false;
    virtq_refill(queue);
    virtio_look_again(queue->virtio, queue->index);
    return true;
}

void virtq_disable(struct iod_virtq *queue)
{
    queue->closing = true;
    iod_virtq_flush(queue);
    if (queue->closing) {
        queue->access = iod_access_defer(queue->virtio->device);
    }
}

void virtq_clear(struct iod_virtq *queue)
{
    struct iod_virtio *virtio = queue->virtio;
    bool enabled = virtq_regs(queue)->enabled;

    close_windows(queue);
    memset(virtq_regs(queue), 0, sizeof(struct virtq_regs));
    virtq_regs(queue)->size = queue->max;
    virtq_regs(queue)->vector = VIRTIO_NO_VECTOR;
    queue->avail = queue->published = queue->grown = 0;
    queue->unnotified = queue->closing = false;
    queue->access = NULL;
    queue->in_flight = queue->kicks = 0;
    if (enabled && TABLE_HAS(virtio->class, queue_reset)) {
        virtio->class->queue_reset(iod_self(virtio->device), queue->index);
    }
}

void virtq_stopped(struct iod_virtq *queue)
{
    queue->in_flight = 0; /* what a cancelled device did not push it has given up */
    iod_virtq_flush(queue);
}

void virtq_refill(struct iod_virtq *queue)
{
    queue->budget = virtq_regs(queue)->size;
}

static void virtq_reset(struct device_part *part)
{
    virtq_clear(list_entry(part, struct iod_virtq, part));
}

static int virtq_load(struct device_part *part, struct iod_reader *reader, struct iod_error *error)
{
    struct iod_virtq *queue = list_entry(part, struct iod_virtq, part);
    struct virtq_regs *regs = virtq_regs(queue);
    const char *why = NULL;

    if (regs->enabled > 1) {
        why = "enabled is neither 0 nor 1";
    } else if (regs->enabled) {
        why = walk_ring_check(regs->size, queue->max, regs->desc, regs->driver, regs->device);
    }
    if (why) {
        return iod_fail(error, EINVAL, "saved state of %s: %s", queue->name, why);
    }
    if (regs->enabled && !open_windows(queue)) {
        return iod_fail(error, ENOMEM, "saved state of %s: out of memory", queue->name);
    }
    queue->avail = queue->grown = regs->next_avail;
    queue->published = regs->used;
    queue->unnotified = true; /* not known: the next look says it */
    virtq_refill(queue);
    return 0;
}

static void virtq_destroy(struct device_part *part)
{
    close_windows(list_entry(part, struct iod_virtq, part)); /* the object is the iod_virtio's */
}

static const struct iod_field virtq_fields[] = {
    IOD_FIELD(struct virtq_regs, desc, 1),
    IOD_FIELD(struct virtq_regs, driver, 1),
    IOD_FIELD(struct virtq_regs, device, 1),
    IOD_FIELD(struct virtq_regs, pfn, 1),
    IOD_FIELD(struct virtq_regs, align, 1),
    IOD_FIELD(struct virtq_regs, size, 1),
    IOD_FIELD(struct virtq_regs, vector, 1),
    IOD_FIELD(struct virtq_regs, next_avail, 1),
    IOD_FIELD(struct virtq_regs, used, 1),
    IOD_FIELD(struct virtq_regs, enabled, 1),
    { .name = NULL },
};

int virtq_init(struct iod_virtq *queue, struct iod_virtio *virtio, unsigned index, uint16_t max)
{
    int result;

    snprintf(queue->name, sizeof(queue->name), "queue%u", index);
    queue->ops = (struct device_part_ops){
        .name = queue->name,
        .fields = virtq_fields,
        .regs_size = sizeof(struct virtq_regs),
        .reset = virtq_reset,
        .load = virtq_load,
        .destroy = virtq_destroy,
    };
    queue->virtio = virtio;
    queue->index = (uint16_t)index;
    queue->max = max;
    result = device_part_add(virtio->device, &queue->part, &queue->ops);
    if (result == 0) {
        virtq_clear(queue);
    }
    return result;
}
