/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests longer than what is mapped at once (a driver with large segments): in parts, one after the other. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio_blk.h"

/* With 254 segments that straddle a page at both ends still within IOD_MAP_MAX_PIECES. */
#define PART_BYTES (UINT64_C(2) << 20)

uint64_t blk_part_bytes(const struct blk *blk)
{
    const struct iod_block_limits *limits = iod_block_limits(blk->block);

    if (limits->max_length == 0 || limits->max_length >= PART_BYTES) {
        return PART_BYTES;
    }
    return limits->max_length < limits->sector ? limits->sector
                                               : limits->max_length & ~(uint64_t)(limits->sector - 1);
}

enum iod_dma_dir blk_direction(const struct request *request)
{
    return request->block.op == IOD_BLOCK_READ ? IOD_TO_GUEST : IOD_FROM_GUEST;
}

/* Maps and submits the next part of a long request; false: it can't go on. */
bool blk_next_part(struct request *request)
{
    struct parts *parts = request->parts;
    struct blk *blk = request->queue->blk;
    struct iod_extent extents[CHAIN_ROOM];
    uint64_t want = parts->left < blk_part_bytes(blk) ? parts->left : blk_part_bytes(blk);
    uint64_t length = 0;
    unsigned count = 0;

    while (length < want) {
        struct iod_extent *extent = &parts->extents[parts->next];
        uint32_t piece = extent->length < want - length ? extent->length : (uint32_t)(want - length);

        extents[count++] = (struct iod_extent){ extent->address, piece };
        extent->address += piece;
        extent->length -= piece;
        length += piece;
        if (extent->length == 0) {
            parts->next++;
        }
    }
    if (iod_dma_map(blk->device, extents, count, blk_direction(request), &request->data) < 0) {
        request->data = NULL;
        return false;
    }
    request->block.offset += request->block.length; /* of the part before; 0 at first */
    request->block.length = length;
    request->block.data = request->data;
    parts->left -= length;
    blk_submit(request);
    return true;
}

int blk_begin_parts(struct request *request, const struct iod_extent *extents, unsigned count,
                    uint64_t length)
{
    struct parts *parts = malloc(sizeof(*parts) + count * sizeof(*extents));

    if (!parts) {
        return -ENOMEM;
    }
    *parts = (struct parts){ .left = length, .count = count };
    memcpy(parts->extents, extents, count * sizeof(*extents));
    request->parts = parts;
    request->block.length = 0;
    return blk_next_part(request) ? 0 : -EIO;
}
