/* SPDX-License-Identifier: BSD-2-Clause */
/* A request queue: the pool of its requests, draining the ring, and giving chains back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio_blk.h"

/* ---- the pool ---- */

bool blk_pool_make(struct queue *queue)
{
    struct blk *blk = queue->blk;
    unsigned depth = iod_block_limits(blk->block)->depth;

    if (!queue->pool) {
        queue->room = depth && depth < blk->queue_size ? depth : blk->queue_size;
        queue->made = 0;
        queue->free = NULL;
        queue->pool = malloc(queue->room * blk->stride);
    }
    return queue->pool;
}

static struct request *request_get(struct queue *queue)
{
    struct request *request = queue->free;

    if (request) {
        queue->free = request->next;
    } else if (queue->made < queue->room) {
        request = (struct request *)(queue->pool + queue->made++ * queue->blk->stride);
    } else {
        return NULL;
    }
    memset(request, 0, sizeof(*request));
    request->queue = queue;
    return request;
}

static void request_put(struct request *request)
{
    request->next = request->queue->free;
    request->queue->free = request;
}

/* ---- ending a request ---- */

void blk_finish(struct request *request, uint8_t status)
{
    struct queue *queue = request->queue;
    struct blk *blk = queue->blk;

    if (iod_dma_write(blk->device, request->status_at, &status, 1) < 0) {
        iod_guest_error(blk->device, "a status byte at 0x%llx, where no memory is",
                        (unsigned long long)request->status_at);
    }
    iod_virtq_push(queue->virtq, request->head, (uint32_t)(request->in_length + 1));
    queue->pushed = true;
    free(request->parts);
    request_put(request);
}

void blk_flush_pushed(struct blk *blk)
{
    for (unsigned i = 0; i < blk->count; i++) {
        if (blk->queues[i].pushed) {
            blk->queues[i].pushed = false;
            iod_virtq_flush(blk->queues[i].virtq);
        }
    }
}

/* ---- draining ---- */

/* One chain. false: stop draining. */
static bool take_one(struct queue *queue, struct request *request)
{
    struct iod_extent extents[CHAIN_ROOM];
    struct iod_chain chain = { .extents = extents, .max = CHAIN_ROOM };
    struct parsed parsed;
    int result;

    if (!iod_virtq_pop(queue->virtq, &chain)) {
        request_put(request);
        return false;
    }
    if (!blk_parse(queue->blk, &chain, &parsed)) {
        request_put(request);
        iod_virtq_push(queue->virtq, chain.head, 0);
        queue->pushed = true;
        iod_virtio_broken(queue->blk->virtio, "a request without header or without room for its status");
        return false;
    }
    request->head = chain.head;
    request->status_at = parsed.status_at;
    request->in_length = parsed.in_length;
    result = blk_begin(request, &parsed);
    if (result == -EAGAIN) {
        request_put(request);
        iod_virtq_unpop(queue->virtq);
        queue->full = true;
        return false;
    }
    if (result != 0) {
        blk_finish(request, blk_status(result > 0 ? 0 : result));
    }
    return true;
}

static void drain(struct queue *queue)
{
    struct request *request;

    queue->full = false;
    if (!blk_pool_make(queue)) {
        iod_log(queue->blk->device, IOD_LOG_ERROR, "out of memory for requests");
        iod_virtio_broken(queue->blk->virtio, "queue not served: out of memory");
        return;
    }
    do {
        request = request_get(queue);
        if (!request) {
            queue->full = true; /* a completion goes on */
        }
    } while (request && take_one(queue, request));
    iod_block_kick(queue->blk->block);
}

void blk_notify(void *self, unsigned index)
{
    struct blk *blk = self;

    drain(&blk->queues[index]);
    blk_flush_pushed(blk);
}

void blk_after_completions(void *self)
{
    struct blk *blk = self;

    blk_flush_pushed(blk);
    for (unsigned i = 0; i < blk->count; i++) {
        if (blk->queues[i].full && !blk->stopping) {
            drain(&blk->queues[i]);
        }
    }
    blk_flush_pushed(blk);
}
