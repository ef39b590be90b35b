/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests of the block backend "file". A request is one or more operations on the ring, one at a time: data
 * (gone on with after a short result), fallocate, fdatasync. Data goes straight from and to the caller's
 * mapping; only direct I/O on memory the kernel can't pin, or that is not aligned, passes through the bounce
 * pool.
 */
#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <string.h>

#include <ioreqd/dma.h>
#include <ioreqd/log.h>

#include "backend/block.h"
#include "backend/file.h"

enum step { STEP_DATA, STEP_ALLOCATE, STEP_SYNC };
enum {
    MODE_PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    MODE_ZERO = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
};
enum { ATTEMPTS = 100 }; /* at one piece, after EAGAIN or EINTR */

static const char *op_name(enum iod_block_op op)
{
    static const char *const names[] = { "read", "write", "flush", "discard", "write of zeros" };
    return (unsigned)op < sizeof(names) / sizeof(names[0]) ? names[op] : "request";
}

/* ---- ends ---- */

/* The host's trouble is said once for each kind; a full disk must not fill the log's too. */
static void note_error(struct file *file, const struct iod_block_request *request, int result)
{
    unsigned kind = result == -ENOSPC || result == -EDQUOT ? 1 : result == -EFAULT ? 2 : 4;
    file->errors++;
    if ((file->told & kind) != 0) {
        return;
    }
    file->told |= kind;
    iod_log(iod_block_device(file->block), IOD_LOG_ERROR,
            "%s: %s at %" PRIu64 ", %" PRIu64 " bytes: %s; the guest was "
            "told; more of this kind are only counted",
            iod_option_string(iod_block_options(file->block), "path"), op_name(request->op), request->offset,
            request->length, strerror(-result));
}

static void forget(struct file_request *own)
{
    list_remove(&own->link);
    if (own->bounce != NULL) {
        void *bounce = own->bounce;
        own->bounce = NULL;
        bounce_give(ring_bounce(own->file->ring), bounce, own->bounce_length);
    }
}

static void finish(struct file_request *own, int result)
{
    struct file *file = own->file;
    struct iod_block_request *request = own->request;
    forget(own);
    if (result < 0) {
        note_error(file, request, result);
    }
    iod_block_complete(file->block, request, result);
    file->in_flight--;
    if (file->quiescing && file->in_flight == 0) {
        file->quiescing = false;
        iod_block_done(file->block, 0); /* file may be gone after it */
    }
}

/* For what never reaches the kernel. The block layer counts it until it is delivered. */
static void finish_later(struct file_request *own, int result)
{
    struct file *file = own->file;
    forget(own);
    file->in_flight--;
    block_complete_later(file->block, own->request, result);
}

/* ---- data ---- */

/* The piece that holds byte `at`; *inside is how far in. */
static const struct iovec *locate(const struct iod_mapping *data, uint64_t at, size_t *inside, unsigned *left)
{
    unsigned count;
    const struct iovec *iov = iod_mapping_iov(data, &count);
    while (count > 0 && at >= iov->iov_len) {
        at -= iov->iov_len;
        iov++;
        count--;
    }
    *inside = (size_t)at;
    *left = count;
    return iov;
}

/* Copies between the mapping, from byte `at` on, and the bounce memory. */
static void bounce_copy(const struct file_request *own, size_t length, bool to_guest)
{
    size_t inside;
    unsigned left;
    uint8_t *bounce = own->bounce;
    const struct iovec *iov = locate(own->request->data, own->done, &inside, &left);
    for (; length > 0 && left > 0; iov++, left--, inside = 0) {
        size_t part = iov->iov_len - inside < length ? iov->iov_len - inside : length;
        uint8_t *guest = (uint8_t *)iov->iov_base + inside;
        memcpy(to_guest ? guest : bounce, to_guest ? bounce : guest, part);
        bounce += part;
        length -= part;
    }
}

/* May direct I/O use the mapping itself? */
static bool direct_fits(const struct file *file, const struct iod_mapping *data)
{
    unsigned count;
    const struct iovec *iov = iod_mapping_iov(data, &count);
    if (!iod_mapping_pinnable(data)) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if ((uintptr_t)iov[i].iov_base % file->memory != 0 || iov[i].iov_len % file->direct != 0) {
            return false;
        }
    }
    return true;
}

static bool wants_durable(const struct file_request *own)
{
    const struct file *file = own->file;
    if (file->cache == FILE_UNSAFE ||
        (own->request->op != IOD_BLOCK_WRITE && own->request->op != IOD_BLOCK_ZERO)) {
        return false;
    }
    return file->cache == FILE_WRITETHROUGH || (own->request->flags & IOD_BLOCK_FUA) != 0;
}

static void prepare_zeros(struct file_request *own, struct io_uring_sqe *sqe, uint64_t offset, uint64_t left)
{
    const struct iovec *zeros = ring_zeros(own->file->ring);
    if (left < RING_ZERO_BYTES) {
        io_uring_prep_write(sqe, own->file->fd, zeros->iov_base, (unsigned)left, offset);
        return;
    }
    uint64_t count = left / RING_ZERO_BYTES;
    io_uring_prep_writev(sqe, own->file->fd, zeros, count < RING_ZEROS ? (unsigned)count : RING_ZEROS,
                         offset);
}

static void prepare_mapped(struct file_request *own, struct io_uring_sqe *sqe, uint64_t offset, bool write)
{
    size_t inside;
    unsigned count;
    int fd = own->file->fd;
    const struct iovec *iov = locate(own->request->data, own->done, &inside, &count);
    if (inside > 0 || count == 1) {
        void *at = (uint8_t *)iov->iov_base + inside;
        unsigned length = (unsigned)(iov->iov_len - inside);
        if (write) {
            io_uring_prep_write(sqe, fd, at, length, offset);
        } else {
            io_uring_prep_read(sqe, fd, at, length, offset);
        }
    } else if (write) {
        io_uring_prep_writev(sqe, fd, iov, count, offset);
    } else {
        io_uring_prep_readv(sqe, fd, iov, count, offset);
    }
}

static void prepare_data(struct file_request *own, struct io_uring_sqe *sqe)
{
    const struct iod_block_request *request = own->request;
    uint64_t offset = request->offset + own->done;
    if (request->op == IOD_BLOCK_ZERO) {
        prepare_zeros(own, sqe, offset, request->length - own->done);
        return;
    }
    bool write = request->op == IOD_BLOCK_WRITE;
    if (!own->bounced) {
        prepare_mapped(own, sqe, offset, write);
    } else if (write) {
        io_uring_prep_write(sqe, own->file->fd, own->bounce, own->piece, offset);
    } else {
        io_uring_prep_read(sqe, own->file->fd, own->bounce, own->piece, offset);
    }
    if (write && wants_durable(own) && !own->file->no_dsync) {
        sqe->rw_flags = RWF_DSYNC;
    }
}

static void prepare(struct ring_op *op, struct io_uring_sqe *sqe)
{
    struct file_request *own = list_entry(op, struct file_request, op);
    const struct iod_block_request *request = own->request;
    own->begun = true;
    switch ((enum step)own->step) {
    case STEP_DATA:
        prepare_data(own, sqe);
        break;
    case STEP_ALLOCATE:
        io_uring_prep_fallocate(sqe, own->file->fd, own->mode, (off_t)request->offset,
                                (off_t)request->length);
        break;
    case STEP_SYNC:
        io_uring_prep_fsync(sqe, own->file->fd, IORING_FSYNC_DATASYNC);
        break;
    }
}

/* ---- from one operation to the next ---- */

static void bounce_ready(struct bounce_waiter *waiter);

/* Queues the request's next operation. What has begun goes before what has not. */
static void go_on(struct file_request *own)
{
    struct file *file = own->file;
    if (own->step == STEP_DATA && own->bounced) {
        uint64_t left = own->request->length - own->done;
        uint32_t want = left < BOUNCE_MAX ? (uint32_t)left : BOUNCE_MAX;
        if (own->bounce == NULL) {
            own->bounce = bounce_take(ring_bounce(file->ring), want);
            if (own->bounce == NULL) {
                bounce_wait(ring_bounce(file->ring), &own->waiter);
                return;
            }
            own->bounce_length = want;
        }
        own->piece = want < own->bounce_length ? want : own->bounce_length;
        if (own->request->op == IOD_BLOCK_WRITE) {
            bounce_copy(own, own->piece, false);
        }
    }
    ring_queue(file->ring, &file->client, &own->op, own->begun);
}

static void bounce_ready(struct bounce_waiter *waiter)
{
    struct file_request *own = list_entry(waiter, struct file_request, waiter);
    go_on(own);
    ring_kick(
        own->file->ring); /* memory may have come from a cancelled request, outside the ring's own round */
}

/* How this zero or discard is done now, with what was learnt of the file system. */
static int choose_mode(const struct file_request *own)
{
    const struct file *file = own->file;
    const struct iod_block_request *request = own->request;
    if (request->op == IOD_BLOCK_DISCARD ||
        ((request->flags & IOD_BLOCK_UNMAP) != 0 && file->discard && !file->no_punch)) {
        return MODE_PUNCH;
    }
    return file->no_zero_range ? 0 : MODE_ZERO;
}

static void start_zero(struct file_request *own)
{
    own->mode = choose_mode(own);
    own->step = own->mode != 0 ? STEP_ALLOCATE : STEP_DATA;
    go_on(own);
}

static void data_done(struct file_request *own, int result)
{
    struct file *file = own->file;
    struct iod_block_request *request = own->request;
    if (result == -EOPNOTSUPP && request->op == IOD_BLOCK_WRITE && wants_durable(own) && !file->no_dsync) {
        file->no_dsync = true; /* then by fdatasync after each write */
        go_on(own);
        return;
    }
    if (result <= 0) {
        /* Nothing below the capacity can be read or written: the file was made shorter under us. */
        finish(own, result < 0 ? result : -EIO);
        return;
    }
    if (own->bounced && request->op == IOD_BLOCK_READ) {
        bounce_copy(own, (size_t)result, true);
    }
    own->done += (unsigned)result;
    own->attempts = 0;
    if (own->done < request->length) {
        if (file->direct != 0 && own->done % file->direct != 0) {
            finish(own, -EIO);
            return;
        }
        go_on(own);
        return;
    }
    if (wants_durable(own) && (request->op == IOD_BLOCK_ZERO || file->no_dsync)) {
        own->step = STEP_SYNC;
        go_on(own);
        return;
    }
    finish(own, 0);
}

static void allocate_done(struct file_request *own, int result)
{
    struct file *file = own->file;
    if (result == -EOPNOTSUPP && own->request->op == IOD_BLOCK_ZERO) {
        if (own->mode == MODE_PUNCH) {
            file->no_punch = true;
        } else {
            file->no_zero_range = true;
        }
        start_zero(own);
        return;
    }
    if (result == 0 && wants_durable(own)) {
        own->step = STEP_SYNC;
        go_on(own);
        return;
    }
    finish(own, result);
}

static void op_done(struct ring_op *op, int result)
{
    struct file_request *own = list_entry(op, struct file_request, op);
    if ((result == -EAGAIN || result == -EINTR) && ++own->attempts < ATTEMPTS) {
        go_on(own);
        return;
    }
    switch ((enum step)own->step) {
    case STEP_DATA:
        data_done(own, result);
        break;
    case STEP_ALLOCATE:
        allocate_done(own, result);
        break;
    case STEP_SYNC:
        finish(own, result < 0 ? result : 0);
        break;
    }
}

/* ---- what the block layer calls ---- */

void file_submit(struct iod_block *block, struct iod_block_request *request)
{
    struct file *file = iod_block_self(block);
    struct file_request *own = iod_block_request_own(block, request);
    memset(own, 0, sizeof(*own));
    own->op.prepare = prepare;
    own->op.done = op_done;
    own->waiter.ready = bounce_ready;
    list_init(&own->op.link);
    list_init(&own->waiter.link);
    own->file = file;
    own->request = request;
    list_add_tail(&file->requests, &own->link);
    file->in_flight++;
    switch (request->op) {
    case IOD_BLOCK_READ:
    case IOD_BLOCK_WRITE:
        own->bounced = file->direct != 0 && !direct_fits(file, request->data);
        go_on(own);
        break;
    case IOD_BLOCK_FLUSH:
        own->step = STEP_SYNC;
        if (file->cache == FILE_UNSAFE || file->readonly) {
            finish_later(own, 0);
        } else {
            go_on(own);
        }
        break;
    default:
        start_zero(own);
        break;
    }
}

void file_kick(struct iod_block *block)
{
    struct file *file = iod_block_self(block);
    ring_kick(file->ring);
}

static void cancel_waiting(struct file *file)
{
    struct file_request *own;
    list_for_each(own, &file->requests, struct file_request, link) {
        if (own->begun) {
            continue; /* may be half done: it ends as it ends */
        }
        if (!ring_withdraw(&own->op)) {
            bounce_leave(&own->waiter);
        }
        finish_later(own, -ECANCELED);
    }
}

enum iod_when file_quiesce(struct iod_block *block, enum iod_drain drain)
{
    struct file *file = iod_block_self(block);
    if (drain == IOD_CANCEL) {
        cancel_waiting(file);
    }
    if (file->in_flight == 0) {
        return IOD_NOW;
    }
    ring_kick(file->ring);
    file->quiescing = true;
    return IOD_LATER;
}
