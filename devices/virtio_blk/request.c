/* SPDX-License-Identifier: BSD-2-Clause */
/* One request: its chain taken apart, what it asks for begun, its end. */
#include <errno.h>
#include <string.h>

#include "virtio_blk.h"

/* ---- parsing ---- */

/*
 * Takes `length` bytes off the front of the extents and copies them. 0, -EFAULT, or -EINVAL: fewer are there.
 */
static int take_front(struct blk *blk, struct iod_extent **extents, unsigned *count, void *to, size_t length)
{
    uint8_t *at = to;

    while (length) {
        struct iod_extent *first = *extents;
        uint32_t piece;

        if (*count == 0) {
            return -EINVAL;
        }
        piece = first->length < length ? first->length : (uint32_t)length;
        if (iod_dma_read(blk->device, first->address, at, piece) < 0) {
            return -EFAULT;
        }
        at += piece;
        length -= piece;
        first->address += piece;
        first->length -= piece;
        if (first->length == 0) {
            (*extents)++;
            (*count)--;
        }
    }
    return 0;
}

/* false: there is no place for a status, or no header to answer. */
bool blk_parse(struct blk *blk, struct iod_chain *chain, struct parsed *parsed)
{
    struct iod_extent *last;

    if (chain->in_length < 1 || chain->out_length < sizeof(parsed->header)) {
        return false;
    }
    parsed->out = chain->extents;
    parsed->out_count = chain->out;
    parsed->out_length = chain->out_length - sizeof(parsed->header);
    parsed->in = chain->extents + chain->out;
    parsed->in_count = chain->in;
    parsed->in_length = chain->in_length - 1;
    last = &parsed->in[parsed->in_count - 1]; /* pop hands out no empty extents */
    last->length--;
    parsed->status_at = last->address + last->length;
    if (last->length == 0) {
        parsed->in_count--;
    }
    return take_front(blk, &parsed->out, &parsed->out_count, &parsed->header, sizeof(parsed->header)) == 0;
}

/* ---- its end ---- */

uint8_t blk_status(int error)
{
    return error == 0 ? VIRTIO_BLK_S_OK : error == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static void done(struct iod_block_request *block, int result)
{
    struct request *request = block->owner;
    struct blk *blk = request->queue->blk;

    if (request->data) {
        iod_mapping_put(request->data, block->op == IOD_BLOCK_READ ? block->length : 0);
        request->data = NULL;
    }
    blk->in_flight--;
    if (result == 0 && request->parts && request->parts->left) {
        if (!blk->cancelled && blk_next_part(request)) {
            iod_block_kick(blk->block);
            return;
        }
        result = -EIO;
    }
    blk_finish(request, blk_status(result));
    iod_task_queue(blk->task);
    if (blk->waiting && blk->in_flight == 0) {
        blk->waiting = false;
        blk_flush_pushed(blk);
        iod_device_done(blk->device, 0);
    }
}

/* ---- beginning one ---- */

void blk_submit(struct request *request)
{
    request->block.owner = request;
    request->block.done = done;
    request->queue->blk->in_flight++;
    iod_block_submit(request->queue->blk->block, &request->block);
}

/*
 * A completed write must be durable unless the driver took on to flush: no FLUSH, or its cache is switched
 * off.
 */
uint32_t blk_write_flags(const struct blk *blk)
{
    const struct blk_regs *regs = iod_regs(blk->device);
    uint64_t features = iod_virtio_features(blk->virtio);

    if (!(features & BIT64(VIRTIO_BLK_F_FLUSH))) {
        return IOD_BLOCK_FUA;
    }
    return (features & BIT64(VIRTIO_BLK_F_CONFIG_WCE)) && regs->cache == CACHE_WRITETHROUGH ? IOD_BLOCK_FUA
                                                                                            : 0;
}

/* Is the range whole sectors of the disk, and on it? */
static bool in_range(const struct blk *blk, uint64_t sector, uint64_t length)
{
    const struct iod_block_limits *limits = iod_block_limits(blk->block);

    return sector <= limits->capacity / SECTOR && length <= limits->capacity - sector * SECTOR &&
           length % limits->sector == 0 && sector * SECTOR % limits->sector == 0;
}

/* 0: submitted; 1: nothing to do; a negative errno: it fails with IOERR (-EAGAIN: later). */
static int begin_data(struct request *request, const struct parsed *parsed)
{
    struct blk *blk = request->queue->blk;
    bool read = parsed->header.type == VIRTIO_BLK_T_IN;
    const struct iod_extent *extents = read ? parsed->in : parsed->out;
    unsigned count = read ? parsed->in_count : parsed->out_count;
    uint64_t length = read ? parsed->in_length : parsed->out_length;
    int result;

    if (!in_range(blk, parsed->header.sector, length) || (!read && iod_block_limits(blk->block)->readonly)) {
        return -EINVAL;
    }
    if (length == 0) {
        return 1;
    }
    request->block.op = read ? IOD_BLOCK_READ : IOD_BLOCK_WRITE;
    request->block.flags = read ? 0 : blk_write_flags(blk);
    request->block.offset = parsed->header.sector * SECTOR;
    if (length > blk_part_bytes(blk)) {
        return blk_begin_parts(request, extents, count, length);
    }
    result = iod_dma_map(blk->device, extents, count, blk_direction(request), &request->data);
    if (result < 0) {
        request->data = NULL;
        return result == -ENOMEM && blk->in_flight ? -EAGAIN
                                                   : result; /* others will give their mappings back */
    }
    request->block.length = length;
    request->block.data = request->data;
    blk_submit(request);
    return 0;
}

/* DISCARD and WRITE_ZEROES, one segment a request as the configuration says. Results as begin_data. */
static int begin_range(struct request *request, struct parsed *parsed)
{
    struct blk *blk = request->queue->blk;
    const struct iod_block_limits *limits = iod_block_limits(blk->block);
    bool zero = parsed->header.type == VIRTIO_BLK_T_WRITE_ZEROES;
    struct virtio_blk_discard_write_zeroes segment;
    uint64_t length;

    if (!(iod_virtio_features(blk->virtio) &
          BIT64(zero ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD))) {
        return -EOPNOTSUPP;
    }
    if (parsed->out_length != sizeof(segment) || limits->readonly ||
        take_front(blk, &parsed->out, &parsed->out_count, &segment, sizeof(segment)) < 0) {
        return -EINVAL;
    }
    if (segment.flags & ~(zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u)) {
        return -EOPNOTSUPP;
    }
    length = (uint64_t)segment.num_sectors * SECTOR;
    if (!in_range(blk, segment.sector, length) || length > (zero ? limits->max_zero : limits->max_discard)) {
        return -EINVAL;
    }
    if (length == 0) {
        return 1;
    }
    request->block.op = zero ? IOD_BLOCK_ZERO : IOD_BLOCK_DISCARD;
    request->block.flags = zero ? blk_write_flags(blk) | (segment.flags ? IOD_BLOCK_UNMAP : 0) : 0;
    request->block.offset = segment.sector * SECTOR;
    request->block.length = length;
    blk_submit(request);
    return 0;
}

static int get_id(struct blk *blk, const struct parsed *parsed)
{
    const char *serial = iod_option_string(iod_device_options(blk->device), "serial");
    char id[VIRTIO_BLK_ID_BYTES] = { 0 };
    size_t done_bytes = 0;

    serial = serial ? serial : iod_device_id(blk->device);
    memcpy(id, serial, strnlen(serial, sizeof(id)));
    for (unsigned i = 0; i < parsed->in_count && done_bytes < sizeof(id); i++) {
        size_t left = sizeof(id) - done_bytes;
        size_t piece = parsed->in[i].length < left ? parsed->in[i].length : left;

        if (iod_dma_write(blk->device, parsed->in[i].address, id + done_bytes, piece) < 0) {
            return -EFAULT;
        }
        done_bytes += piece;
    }
    return 1;
}

int blk_begin(struct request *request, struct parsed *parsed)
{
    switch (parsed->header.type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        return begin_data(request, parsed);
    case VIRTIO_BLK_T_FLUSH:
        request->block.op = IOD_BLOCK_FLUSH;
        blk_submit(request);
        return 0;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return begin_range(request, parsed);
    case VIRTIO_BLK_T_GET_ID:
        return get_id(request->queue->blk, parsed);
    default:
        return -EOPNOTSUPP;
    }
}
