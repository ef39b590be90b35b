/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio block device (virtio 1.2, section 5.2). A request is a chain: a 16-byte header, data, a status byte
 * at the very end, each cut into buffers as the driver likes. Requests live in a pool per queue, made when
 * the driver starts; when it is empty no more is taken from the ring, so a guest's load is bounded by the
 * pool.
 */
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/block.h>
#include <ioreqd/device.h>
#include <ioreqd/dma.h>
#include <ioreqd/log.h>
#include <ioreqd/loop.h>
#include <ioreqd/module.h>
#include <ioreqd/virtio.h>

#define SECTOR 512u        /* the unit of all sector numbers, whatever the disk's own */
#define QUEUES_MAX 32u
#define QUEUE_SIZE_MAX 256u
#define CHAIN_ROOM QUEUE_SIZE_MAX
#define BIT64(bit) (UINT64_C(1) << (bit))
/*
 * Bytes mapped at once: with 254 segments that straddle a page at both ends still within IOD_MAP_MAX_PIECES.
 * A longer request (a driver with large segments) is done in parts, one after the other.
 */
#define PART_BYTES (UINT64_C(2) << 20)

struct blk_regs {
    uint8_t cache; /* CONFIG_WCE: what the driver wrote */
};
enum { CACHE_DEFAULT, CACHE_WRITETHROUGH, CACHE_WRITEBACK };

struct parts; /* of a request longer than PART_BYTES */

struct request {
    struct request *next; /* in the free list */
    struct queue *queue;
    struct iod_mapping *data;
    struct parts *parts;
    uint64_t status_at;   /* guest address of the status byte */
    uint64_t in_length;   /* writable bytes before the status */
    uint16_t head;
    struct iod_block_request block; /* last: the backend's own part is behind it */
};

struct parts {
    uint64_t left;       /* bytes */
    unsigned count, next;
    struct iod_extent extents[];
};

struct queue {
    struct blk *blk;
    struct iod_virtq *virtq;
    uint8_t *pool;
    unsigned room;        /* requests that the pool holds */
    unsigned made;        /* those that were ever used: an idle pool stays untouched */
    struct request *free;
    bool full;            /* the ring may hold more than we could take */
    bool pushed;          /* a flush is due */
};

struct blk {
    struct iod_device *device;
    struct iod_virtio *virtio;
    struct iod_block *block;
    struct iod_task *task;
    struct queue *queues;
    unsigned count;
    uint16_t queue_size;
    size_t stride;        /* bytes of one request in a pool */
    unsigned in_flight;
    bool stopping, waiting; /* quiesce was called; it answered "later" */
};

/* A request as parsed: what is left of the chain when header and status are taken off. */
struct parsed {
    struct virtio_blk_outhdr header;
    struct iod_extent *out, *in;
    unsigned out_count, in_count;
    uint64_t out_length, in_length;
    uint64_t status_at;
};

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
static bool parse(struct blk *blk, struct iod_chain *chain, struct parsed *parsed)
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

/* ---- the pool ---- */

static bool pool_make(struct queue *queue)
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

static void finish(struct request *request, uint8_t status)
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

static void flush_pushed(struct blk *blk)
{
    for (unsigned i = 0; i < blk->count; i++) {
        if (blk->queues[i].pushed) {
            blk->queues[i].pushed = false;
            iod_virtq_flush(blk->queues[i].virtq);
        }
    }
}

static bool next_part(struct request *request);

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
        if (!blk->stopping && next_part(request)) {
            iod_block_kick(blk->block);
            return;
        }
        result = -EIO;
    }
    finish(request, result == 0             ? VIRTIO_BLK_S_OK
                    : result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
                                            : VIRTIO_BLK_S_IOERR);
    iod_task_queue(blk->task);
    if (blk->waiting && blk->in_flight == 0) {
        blk->waiting = false;
        flush_pushed(blk);
        iod_device_done(blk->device, 0);
    }
}

/* ---- beginning one ---- */

static void submit(struct request *request)
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
static uint32_t write_flags(const struct blk *blk)
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

static uint64_t part_bytes(const struct blk *blk)
{
    const struct iod_block_limits *limits = iod_block_limits(blk->block);

    if (limits->max_length == 0 || limits->max_length >= PART_BYTES) {
        return PART_BYTES;
    }
    return limits->max_length < limits->sector ? limits->sector
                                               : limits->max_length & ~(uint64_t)(limits->sector - 1);
}

static enum iod_dma_dir direction(const struct request *request)
{
    return request->block.op == IOD_BLOCK_READ ? IOD_TO_GUEST : IOD_FROM_GUEST;
}

/* Maps and submits the next part of a long request; false: it can't go on. */
static bool next_part(struct request *request)
{
    struct parts *parts = request->parts;
    struct blk *blk = request->queue->blk;
    struct iod_extent extents[CHAIN_ROOM];
    uint64_t want = parts->left < part_bytes(blk) ? parts->left : part_bytes(blk);
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
    if (iod_dma_map(blk->device, extents, count, direction(request), &request->data) < 0) {
        request->data = NULL;
        return false;
    }
    request->block.offset += request->block.length; /* of the part before; 0 at first */
    request->block.length = length;
    request->block.data = request->data;
    parts->left -= length;
    submit(request);
    return true;
}

static int begin_parts(struct request *request, const struct iod_extent *extents, unsigned count,
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
    return next_part(request) ? 0 : -EIO;
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
    request->block.flags = read ? 0 : write_flags(blk);
    request->block.offset = parsed->header.sector * SECTOR;
    if (length > part_bytes(blk)) {
        return begin_parts(request, extents, count, length);
    }
    result = iod_dma_map(blk->device, extents, count, direction(request), &request->data);
    if (result < 0) {
        request->data = NULL;
        return result == -ENOMEM && blk->in_flight ? -EAGAIN
                                                   : result; /* others will give their mappings back */
    }
    request->block.length = length;
    request->block.data = request->data;
    submit(request);
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
    request->block.flags = zero ? write_flags(blk) | (segment.flags ? IOD_BLOCK_UNMAP : 0) : 0;
    request->block.offset = segment.sector * SECTOR;
    request->block.length = length;
    submit(request);
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

static int begin(struct request *request, struct parsed *parsed)
{
    switch (parsed->header.type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        return begin_data(request, parsed);
    case VIRTIO_BLK_T_FLUSH:
        request->block.op = IOD_BLOCK_FLUSH;
        submit(request);
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
    if (!parse(queue->blk, &chain, &parsed)) {
        request_put(request);
        iod_virtq_push(queue->virtq, chain.head, 0);
        queue->pushed = true;
        iod_virtio_broken(queue->blk->virtio, "a request without header or without room for its status");
        return false;
    }
    request->head = chain.head;
    request->status_at = parsed.status_at;
    request->in_length = parsed.in_length;
    result = begin(request, &parsed);
    if (result == -EAGAIN) {
        request_put(request);
        iod_virtq_unpop(queue->virtq);
        queue->full = true;
        return false;
    }
    if (result != 0) {
        finish(request, result > 0 ? VIRTIO_BLK_S_OK
                      : result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
    }
    return true;
}

static void drain(struct queue *queue)
{
    struct request *request;

    queue->full = false;
    if (!pool_make(queue)) {
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

static void blk_notify(void *self, unsigned index)
{
    struct blk *blk = self;

    drain(&blk->queues[index]);
    flush_pushed(blk);
}

/* After a batch of completions: one flush a queue, and on with what did not fit. */
static void after_completions(void *self)
{
    struct blk *blk = self;

    flush_pushed(blk);
    for (unsigned i = 0; i < blk->count; i++) {
        if (blk->queues[i].full && !blk->stopping) {
            drain(&blk->queues[i]);
        }
    }
    flush_pushed(blk);
}

/* ---- the virtio device ---- */

static uint64_t blk_features(void *self)
{
    const struct blk *blk = self;
    const struct iod_block_limits *limits = iod_block_limits(blk->block);
    uint64_t features = BIT64(VIRTIO_BLK_F_SEG_MAX) | BIT64(VIRTIO_BLK_F_BLK_SIZE) |
                        BIT64(VIRTIO_BLK_F_TOPOLOGY) | BIT64(VIRTIO_BLK_F_FLUSH);

    if (blk->count > 1) {
        features |= BIT64(VIRTIO_BLK_F_MQ);
    }
    if (limits->readonly) {
        return features | BIT64(VIRTIO_BLK_F_RO);
    }
    if (limits->volatile_cache) {
        features |= BIT64(VIRTIO_BLK_F_CONFIG_WCE);
    }
    if (limits->max_discard) {
        features |= BIT64(VIRTIO_BLK_F_DISCARD);
    }
    if (limits->max_zero) {
        features |= BIT64(VIRTIO_BLK_F_WRITE_ZEROES);
    }
    return features;
}

static uint32_t sectors(uint64_t bytes)
{
    return bytes / SECTOR > UINT32_MAX ? UINT32_MAX : (uint32_t)(bytes / SECTOR);
}

static uint8_t log2_of(uint32_t value)
{
    return value ? (uint8_t)(31 - __builtin_clz(value)) : 0;
}

static void blk_config_read(void *self, void *config)
{
    const struct blk *blk = self;
    const struct iod_block_limits *limits = iod_block_limits(blk->block);
    const uint32_t physical = limits->physical > limits->sector ? limits->physical : limits->sector;
    struct virtio_blk_config out = {
        .capacity = limits->capacity / SECTOR,
        .seg_max = blk->queue_size - 2u,
        .blk_size = limits->sector,
        .physical_block_exp = log2_of(physical / limits->sector),
        .min_io_size = (uint16_t)(physical / limits->sector),
        .opt_io_size = limits->optimal / limits->sector,
        .wce = limits->volatile_cache && !(write_flags(blk) & IOD_BLOCK_FUA),
        .num_queues = (uint16_t)blk->count,
        .max_discard_sectors = sectors(limits->max_discard),
        .max_discard_seg = 1,
        .discard_sector_alignment = physical / SECTOR,
        .max_write_zeroes_sectors = sectors(limits->max_zero),
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };

    memcpy(config, &out, sizeof(out));
}

static void blk_config_write(void *self, unsigned offset, const void *bytes, unsigned length)
{
    struct blk *blk = self;
    struct blk_regs *regs = iod_regs(blk->device);

    if (offset != offsetof(struct virtio_blk_config, wce) || length != 1 ||
        !(iod_virtio_features(blk->virtio) & BIT64(VIRTIO_BLK_F_CONFIG_WCE))) {
        iod_guest_error(blk->device, "a write of %u bytes to its configuration at %u", length, offset);
        return;
    }
    regs->cache = *(const uint8_t *)bytes ? CACHE_WRITEBACK : CACHE_WRITETHROUGH;
}

static int blk_driver_ok(void *self)
{
    struct blk *blk = self;

    for (unsigned i = 0; i < blk->count; i++) {
        if (iod_virtq_size(blk->queues[i].virtq) && !pool_make(&blk->queues[i])) {
            return -ENOMEM;
        }
    }
    return 0;
}

static const struct iod_virtio_class blk_virtio = {
    .size = sizeof(struct iod_virtio_class),
    .device_id = 2,
    .pci_class = 0x010000, /* SCSI controller: what drivers of a virtio disk expect */
    .config_size = sizeof(struct virtio_blk_config),
    .queues = QUEUES_MAX,
    .features = blk_features,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .driver_ok = blk_driver_ok,
    .notify = blk_notify,
};

/* ---- life ---- */

static void limits_changed(void *self)
{
    struct blk *blk = self;

    iod_virtio_config_changed(blk->virtio);
}

static int make_queues(struct blk *blk, struct iod_error *error)
{
    uint16_t sizes[QUEUES_MAX];

    blk->queues = calloc(blk->count, sizeof(*blk->queues));
    blk->task = iod_task_add(blk->device, after_completions, blk);
    if (!blk->queues || !blk->task) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(blk->device));
    }
    for (unsigned i = 0; i < blk->count; i++) {
        sizes[i] = blk->queue_size;
    }
    blk->virtio = iod_virtio_add(blk->device, &blk_virtio, blk->count, sizes, error);
    if (!blk->virtio) {
        return -(error->code ? error->code : EINVAL);
    }
    for (unsigned i = 0; i < blk->count; i++) {
        blk->queues[i].blk = blk;
        blk->queues[i].virtq = iod_virtio_queue(blk->virtio, i);
    }
    return 0;
}

static int blk_create(struct iod_device *device, struct iod_error *error)
{
    const struct iod_options *options = iod_device_options(device);
    const char *serial = iod_option_string(options, "serial");
    struct blk *blk = iod_self(device);

    blk->device = device;
    blk->count = (unsigned)iod_option_number(options, "queues");
    blk->queue_size = (uint16_t)iod_option_number(options, "queue-size");
    if (blk->queue_size & (blk->queue_size - 1)) {
        return iod_fail(error, EINVAL, "%s: queue-size=%u: must be a power of two", iod_device_id(device),
                        blk->queue_size);
    }
    if (serial && strlen(serial) > VIRTIO_BLK_ID_BYTES) {
        return iod_fail(error, EINVAL, "%s: serial=%s: must be at most %d bytes", iod_device_id(device),
                        serial, VIRTIO_BLK_ID_BYTES);
    }
    blk->block = iod_block_attach(device, "block", error);
    if (!blk->block) {
        return -(error->code ? error->code : EINVAL);
    }
    iod_block_on_change(blk->block, limits_changed, blk);
    return make_queues(blk, error);
}

static int blk_open(struct iod_device *device, struct iod_error *error)
{
    struct blk *blk = iod_self(device);
    const struct iod_block_limits *limits = iod_block_limits(blk->block);
    const size_t align = _Alignof(max_align_t);

    if (limits->sector < SECTOR || (limits->sector & (limits->sector - 1))) {
        return iod_fail(error, EINVAL, "%s: sectors of %u bytes: must be a power of two from 512 up",
                        iod_device_id(device), limits->sector);
    }
    blk->stride = offsetof(struct request, block) + iod_block_request_size(blk->block);
    blk->stride = (blk->stride + align - 1) & ~(align - 1);
    return 0;
}

static void blk_start(struct iod_device *device)
{
    struct blk *blk = iod_self(device);

    blk->stopping = false;
    for (unsigned i = 0; i < blk->count; i++) {
        blk->queues[i].full = false; /* the transport looks at all queues now */
    }
}

/* To cancel is the backend's, which the core asks too: each request's done follows from there. */
static enum iod_when blk_quiesce(struct iod_device *device, enum iod_drain drain_how)
{
    struct blk *blk = iod_self(device);

    blk->stopping = true;
    if (blk->in_flight) {
        blk->waiting = true;
        return IOD_LATER;
    }
    flush_pushed(blk);
    return IOD_NOW;
}

static void blk_destroy(struct iod_device *device)
{
    struct blk *blk = iod_self(device);

    for (unsigned i = 0; blk->queues && i < blk->count; i++) {
        free(blk->queues[i].pool);
    }
    free(blk->queues);
}

static bool valid_cache(const void *regs)
{
    return ((const struct blk_regs *)regs)->cache <= CACHE_WRITEBACK;
}

static const struct iod_field blk_fields[] = {
    IOD_FIELD_CHECKED(struct blk_regs, cache, 1, valid_cache),
    { .name = NULL },
};

static const struct iod_option blk_options[] = {
    { .name = "serial", .type = IOD_OPTION_STRING,
      .help = "what the guest reads as the disk's id, at most 20 bytes (default: the device's id)" },
    { .name = "queues", .type = IOD_OPTION_NUMBER, .fallback = "1", .min = 1, .max = QUEUES_MAX,
      .help = "number of request queues" },
    { .name = "queue-size", .type = IOD_OPTION_NUMBER, .fallback = "128", .min = 4, .max = QUEUE_SIZE_MAX,
      .help = "largest size of a queue, a power of two" },
    { .name = NULL },
};

static const struct iod_device_class blk_class = {
    .size = sizeof(struct iod_device_class),
    .name = "virtio-blk",
    .summary = "virtio disk (PCI or MMIO)",
    .self_size = sizeof(struct blk),
    .regs_size = sizeof(struct blk_regs),
    .version = 1,
    .options = blk_options,
    .fields = blk_fields,
    .create = blk_create,
    .open = blk_open,
    .start = blk_start,
    .quiesce = blk_quiesce,
    .destroy = blk_destroy,
};

static const struct iod_device_class *const blk_devices[] = { &blk_class, NULL };

IOD_MODULE(virtio_blk) = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .devices = blk_devices,
};
