/* SPDX-License-Identifier: BSD-2-Clause */
#include "virtio_blk_driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUFFERS_MAX 1024 /* of one chain, header and status included */
#define BOUNCE_SIZE 65536u

/* Header, ranges and status lie in one piece of guest memory, each at its own alignment. */
struct piece {
    struct virtio_blk_outhdr head;
    struct virtio_blk_discard_write_zeroes ranges;
    uint8_t status;
};

static void read_config(struct virtio_blk *blk)
{
    virtio_config(blk->driver, &blk->config, sizeof(blk->config));
    blk->capacity = blk->config.capacity;
    if (!virtio_has(blk->driver, VIRTIO_BLK_F_MQ)) {
        blk->config.num_queues = 0;
    }
}

int virtio_blk_start(struct virtio_blk *blk, struct virtio_driver *driver, uint64_t features, unsigned queues,
                     unsigned size)
{
    *blk = (struct virtio_blk){.driver = driver, .queues = 1};
    int result = virtio_negotiate(driver, features);
    if (result) {
        return result;
    }
    read_config(blk);
    if (blk->config.num_queues && queues > 1) {
        blk->queues = queues < blk->config.num_queues ? queues : blk->config.num_queues;
    }
    for (unsigned i = 0; i < blk->queues && result == 0; i++) {
        result = virtio_queue_set_up(driver, i, size);
    }
    if (result == 0) {
        virtio_start(driver);
    }
    return result;
}

void virtio_blk_finish(struct virtio_blk *blk)
{
    while (blk->made) {
        struct virtio_blk_request *request = blk->made;
        blk->made = request->next_made;
        free(request);
    }
    blk->spare = NULL;
}

int virtio_blk_reset(struct virtio_blk *blk)
{
    return virtio_reset(blk->driver);
}

static struct virtio_blk_request *make_request(struct virtio_blk *blk)
{
    struct virtio_blk_request *request = calloc(1, sizeof(*request));
    struct piece *piece = NULL;
    uint64_t gpa = request ? virtio_arena_take(&blk->driver->arena, sizeof(*piece), 8, (void **)&piece) : 0;
    if (!gpa) {
        free(request);
        return NULL;
    }
    request->head_gpa = gpa;
    request->ranges_gpa = gpa + offsetof(struct piece, ranges);
    request->status_gpa = gpa + offsetof(struct piece, status);
    request->head = &piece->head;
    request->ranges = &piece->ranges;
    request->status = &piece->status;
    request->next_made = blk->made;
    blk->made = request;
    return request;
}

struct virtio_blk_request *virtio_blk_begin(struct virtio_blk *blk, uint32_t type, uint64_t sector)
{
    struct virtio_blk_request *request = blk->spare;
    if (request) {
        blk->spare = request->next;
    } else {
        request = make_request(blk);
    }
    if (request) {
        *request->head = (struct virtio_blk_outhdr){.type = type, .sector = sector};
        *request->status = 0xff;
        request->next = NULL;
        request->written = 0;
        request->owner = NULL;
    }
    return request;
}

int virtio_blk_put(struct virtio_blk *blk, unsigned queue, struct virtio_blk_request *request,
                   const struct virtio_buffer *data, unsigned count, bool indirect)
{
    struct virtio_buffer buffers[BUFFERS_MAX];
    if (count + 2 > BUFFERS_MAX || queue >= blk->queues || !blk->driver->queues[queue]) {
        return -EINVAL;
    }
    buffers[0] = (struct virtio_buffer){.gpa = request->head_gpa, .length = sizeof(*request->head)};
    if (count) {
        memcpy(&buffers[1], data, count * sizeof(*data));
    }
    buffers[count + 1] = (struct virtio_buffer){.gpa = request->status_gpa, .length = 1, .write = true};
    int head = virtio_queue_put(blk->driver->queues[queue], buffers, count + 2, indirect, request);
    return head < 0 ? head : 0;
}

struct virtio_blk_request *virtio_blk_reap(struct virtio_blk *blk, unsigned queue, int timeout_ms, int *error)
{
    uint32_t written = 0;
    int result = virtio_queue_wait(blk->driver->queues[queue], timeout_ms);
    struct virtio_blk_request *request =
        result ? NULL : virtio_queue_take(blk->driver->queues[queue], &written);
    if (request) {
        request->written = written;
    }
    if (error) {
        *error = result || request ? result : -EBADMSG;
    }
    return request;
}

uint8_t virtio_blk_end(struct virtio_blk *blk, struct virtio_blk_request *request)
{
    uint8_t status = *request->status;
    request->next = blk->spare;
    blk->spare = request;
    return status;
}

/* Puts the request, waits for it alone, and gives it back. */
static int finish(struct virtio_blk *blk, unsigned queue, struct virtio_blk_request *request,
                  const struct virtio_buffer *data, unsigned count, bool indirect)
{
    int result = virtio_blk_put(blk, queue, request, data, count, indirect);
    if (result) {
        virtio_blk_end(blk, request);
        return result;
    }
    virtio_queue_kick(blk->driver->queues[queue]);
    struct virtio_blk_request *done = virtio_blk_reap(blk, queue, VIRTIO_TIMEOUT_MS, &result);
    if (!done) {
        return result; /* the device still has it: not given back */
    }
    return done == request ? virtio_blk_end(blk, request) : -EBADMSG;
}

int virtio_blk_io(struct virtio_blk *blk, unsigned queue, uint32_t type, uint64_t sector,
                  const struct virtio_buffer *data, unsigned count, bool indirect)
{
    struct virtio_blk_request *request = virtio_blk_begin(blk, type, sector);
    return request ? finish(blk, queue, request, data, count, indirect) : -ENOMEM;
}

/* Copies in pieces of at most BOUNCE_SIZE through guest memory that is taken for this call. */
static int copy_io(struct virtio_blk *blk, uint32_t type, uint64_t sector, uint8_t *bytes, size_t length)
{
    struct virtio_arena mark = blk->driver->arena;
    void *bounce;
    uint64_t gpa = virtio_arena_take(&blk->driver->arena, BOUNCE_SIZE, 4096, &bounce);
    bool indirect = virtio_has(blk->driver, VIRTIO_RING_F_INDIRECT_DESC);
    int result = gpa ? 0 : -ENOMEM;
    for (size_t at = 0; at < length && result == 0;) {
        size_t now = length - at < BOUNCE_SIZE ? length - at : BOUNCE_SIZE;
        struct virtio_buffer data = {.gpa = gpa, .length = (uint32_t)now, .write = type == VIRTIO_BLK_T_IN};
        if (type == VIRTIO_BLK_T_OUT) {
            memcpy(bounce, bytes + at, now);
        }
        struct virtio_blk_request *request = virtio_blk_begin(blk, type, sector + at / VIRTIO_BLK_SECTOR);
        result = request ? finish(blk, 0, request, &data, 1, indirect) : -ENOMEM;
        if (result == 0 && type == VIRTIO_BLK_T_IN) {
            memcpy(bytes + at, bounce, now);
        }
        at += now;
    }
    /* The bounce buffer is given back if nothing else was taken behind it. */
    if (gpa && result >= 0 && blk->driver->arena.next == gpa + BOUNCE_SIZE) {
        blk->driver->arena.next = mark.next;
    }
    return result;
}

int virtio_blk_read(struct virtio_blk *blk, uint64_t sector, void *to, size_t length)
{
    return copy_io(blk, VIRTIO_BLK_T_IN, sector, to, length);
}

int virtio_blk_write(struct virtio_blk *blk, uint64_t sector, const void *from, size_t length)
{
    return copy_io(blk, VIRTIO_BLK_T_OUT, sector, (uint8_t *)(uintptr_t)from, length);
}

int virtio_blk_flush(struct virtio_blk *blk)
{
    return virtio_blk_io(blk, 0, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, false);
}

static int range_io(struct virtio_blk *blk, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
    struct virtio_blk_request *request = virtio_blk_begin(blk, type, 0);
    if (!request) {
        return -ENOMEM;
    }
    *request->ranges =
        (struct virtio_blk_discard_write_zeroes){.sector = sector, .num_sectors = sectors, .flags = flags};
    struct virtio_buffer data = {.gpa = request->ranges_gpa, .length = sizeof(*request->ranges)};
    return finish(blk, 0, request, &data, 1, false);
}

int virtio_blk_discard(struct virtio_blk *blk, uint64_t sector, uint32_t sectors)
{
    return range_io(blk, VIRTIO_BLK_T_DISCARD, sector, sectors, 0);
}

int virtio_blk_write_zeroes(struct virtio_blk *blk, uint64_t sector, uint32_t sectors, bool unmap)
{
    return range_io(blk, VIRTIO_BLK_T_WRITE_ZEROES, sector, sectors,
                    unmap ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0);
}

int virtio_blk_get_id(struct virtio_blk *blk, char id[VIRTIO_BLK_ID_BYTES + 1])
{
    void *memory;
    uint64_t gpa = virtio_arena_take(&blk->driver->arena, VIRTIO_BLK_ID_BYTES, 4, &memory);
    struct virtio_buffer data = {.gpa = gpa, .length = VIRTIO_BLK_ID_BYTES, .write = true};
    int result = gpa ? virtio_blk_io(blk, 0, VIRTIO_BLK_T_GET_ID, 0, &data, 1, false) : -ENOMEM;
    if (result == 0) {
        memcpy(id, memory, VIRTIO_BLK_ID_BYTES);
        id[VIRTIO_BLK_ID_BYTES] = '\0';
    }
    return result;
}
