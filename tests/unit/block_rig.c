/* SPDX-License-Identifier: BSD-2-Clause */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <ioreqd/block.h>
#include <ioreqd/dma.h>

#include "backend/bounce.h"
#include "backend/ring.h"
#include "core/device.h"
#include "core/inside.h"
#include "block_rig.h"
#include "fake_xen.h"
#include "unit.h"

/* ---- what goes to the kernel: looked at, and spoilt on demand ---- */

struct kernel_watch kernel;

/* Direct I/O on a foreign mapping is EFAULT under Xen; only the bounce pool is ordinary memory here. */
static bool is_foreign(const void *at)
{
    char line[256];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end;
        found = sscanf(line, "%lx-%lx", &start, &end) == 2 && (uintptr_t)at >= start && (uintptr_t)at < end &&
                strstr(line, "memfd:ram") != NULL;
    }
    fclose(maps);
    return found;
}

static void look_at_data(struct io_uring_sqe *sqe)
{
    bool vector = sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV;
    bool write = sqe->opcode == IORING_OP_WRITE || sqe->opcode == IORING_OP_WRITEV;
    const void *at = (const void *)(uintptr_t)sqe->addr;
    kernel.writes += write;
    kernel.durable_writes += write && (sqe->rw_flags & RWF_DSYNC) != 0;
    if ((fcntl(sqe->fd, F_GETFL) & O_DIRECT) != 0) {
        kernel.pinned += is_foreign(vector ? ((const struct iovec *)at)->iov_base : at);
    }
    if (kernel.fault == FAULT_SHORT) {
        sqe->len = vector ? 1 : sqe->len > 4096 ? sqe->len / 2 / 4096 * 4096 : sqe->len;
    } else if (kernel.fault == FAULT_UNSUPPORTED && sqe->rw_flags != 0) {
        sqe->rw_flags = 1 << 30;
    }
}

static void look_at(struct io_uring_sqe *sqe)
{
    switch (sqe->opcode) {
    case IORING_OP_FSYNC:
        kernel.syncs++;
        sqe->fd = kernel.fault == FAULT_BAD_SYNC ? -1 : sqe->fd;
        break;
    case IORING_OP_FALLOCATE:
        sqe->len = kernel.fault == FAULT_UNSUPPORTED ? 1 << 30 : sqe->len; /* the mode */
        break;
    default:
        look_at_data(sqe);
        break;
    }
}

/* Stands before liburing's. */
int io_uring_submit(struct io_uring *ring)
{
    int (*next)(struct io_uring *) = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_submit");
    for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
        look_at(&ring->sq.sqes[i & *ring->sq.kring_mask]);
    }
    return next(ring);
}

/* ---- a device that does what the test says ---- */

struct disk *disks[2];
static unsigned disk_count;

static int disk_create(struct iod_device *device, struct iod_error *error)
{
    struct disk *disk = iod_self(device);
    disk->device = device;
    disk->block = iod_block_attach(device, "block", error);
    return disk->block != NULL ? 0 : -EINVAL;
}

static int disk_open(struct iod_device *device, struct iod_error *error)
{
    disks[disk_count++ % 2] = iod_self(device);
    return 0;
}

static enum iod_when disk_quiesce(struct iod_device *device, enum iod_drain drain)
{
    struct disk *disk = iod_self(device);
    disk->asked_finish |= drain == IOD_FINISH;
    disk->asked_cancel |= drain == IOD_CANCEL;
    disk->quiet_owed = disk->done < disk->count;
    return disk->quiet_owed ? IOD_LATER : IOD_NOW;
}

static void disk_destroy(struct iod_device *device)
{
    struct disk *disk = iod_self(device);
    for (unsigned i = 0; i < disk->count; i++) {
        free(disk->requests[i]);
    }
}

static const struct iod_device_class disk_class = {
    .size = sizeof(struct iod_device_class), .name = "test-disk", .summary = "a disk for tests", .version = 1,
    .self_size = sizeof(struct disk), .create = disk_create, .open = disk_open, .quiesce = disk_quiesce,
    .destroy = disk_destroy,
};
static const struct iod_device_class *const classes[] = { &disk_class, NULL };
const struct iod_module disk_module = { .size = sizeof(disk_module), .abi = IOD_ABI, .devices = classes };

static void request_done(struct iod_block_request *block, int result)
{
    struct ticket *request = (struct ticket *)((char *)block - offsetof(struct ticket, block));
    struct disk *disk = block->owner;
    request->early = disk->submitting;
    ck_assert(!request->done);
    request->done = true;
    request->result = result;
    if (request->data != NULL) {
        iod_mapping_put(request->data, request->to_guest && result == 0 ? block->length : 0);
        request->data = NULL;
    }
    disk->done++;
    if (disk->quiet_owed && disk->done == disk->count) {
        disk->quiet_owed = false;
        iod_device_done(disk->device, 0);
    }
}

/* length bytes at `address` of guest memory, in pieces of `piece` bytes. */
struct ticket *submit(struct disk *disk, enum iod_block_op op, unsigned flags, uint64_t offset,
                             uint64_t length, uint64_t address, uint32_t piece)
{
    struct ticket *request = calloc(1, offsetof(struct ticket, block) + iod_block_request_size(disk->block));
    struct iod_extent extents[256];
    unsigned count = 0;
    request->to_guest = op == IOD_BLOCK_READ;
    if (op == IOD_BLOCK_READ || op == IOD_BLOCK_WRITE) {
        for (uint64_t at = 0; at < length; at += piece) {
            extents[count++] =
                (struct iod_extent){ address + at, (uint32_t)(length - at < piece ? length - at : piece) };
        }
        ck_assert_int_eq(iod_dma_map(disk->device, extents, count,
                                     request->to_guest ? IOD_TO_GUEST : IOD_FROM_GUEST, &request->data),
                         0);
    }
    request->block = (struct iod_block_request){
        .op = op, .flags = flags, .offset = offset, .length = length, .data = request->data, .owner = disk,
        .done = request_done,
    };
    disk->requests[disk->count++] = request;
    disk->submitting = true;
    iod_block_submit(disk->block, &request->block);
    disk->submitting = false;
    ck_assert(!request->done);
    return request;
}

bool all_done(void *self)
{
    const struct disk *disk = self;
    return disk->done == disk->count;
}

int run_one(struct fake_xen *fake, enum iod_block_op op, unsigned flags, uint64_t offset,
                   uint64_t length, uint64_t address)
{
    struct ticket *request = submit(disks[0], op, flags, offset, length, address, 1 << 16);
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    return request->result;
}

const char *const caches[4] = { "cache=writeback", "cache=writethrough", "cache=none", "cache=unsafe" };

/* ---- the image ---- */

char directory[64], image[96];

void make_image(void)
{
    disk_count = 0;
    snprintf(directory, sizeof(directory), "/tmp/test_block.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(image, sizeof(image), "%s/disk.img", directory);
    int fd = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    uint32_t *words = malloc(IMAGE);
    for (uint32_t i = 0; i < IMAGE / 4; i++) {
        words[i] = i * 2654435761u; /* each place differs */
    }
    ck_assert_int_eq(pwrite(fd, words, IMAGE, 0), IMAGE);
    free(words);
    close(fd);
}

void remove_image(void)
{
    unlink(image);
    rmdir(directory);
}

uint32_t word_of(uint64_t offset)
{
    return (uint32_t)(offset / 4) * 2654435761u;
}

void read_image(uint64_t offset, void *to, size_t length)
{
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, to, length, (off_t)offset), (ssize_t)length);
    close(fd);
}

void check_words(const uint8_t *memory, uint64_t offset, uint64_t length)
{
    for (uint64_t at = 0; at < length; at += 4) {
        uint32_t word;
        memcpy(&word, memory + at, 4);
        if (word != word_of(offset + at)) { /* Check writes a message for each assertion: one a word costs minutes */
            ck_abort_msg("byte %lu of the image differs", (unsigned long)(offset + at));
        }
    }
}

/* Starts a guest whose one disk is `image` with these further options; with or without success. */
struct fake_xen *try_disk(const char *options, struct iod_error *error)
{
    char text[256];
    const char *devices[] = { text };
    snprintf(text, sizeof(text), "test-disk,path=%s%s%s", image, options[0] != 0 ? "," : "", options);
    return fake_start(&disk_module, GUEST_HVM, devices, 1, error);
}

struct fake_xen *start_disk(const char *options)
{
    struct iod_error error = { 0 };
    struct fake_xen *fake = try_disk(options, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    ck_assert_msg(fake_running(fake), "%s", fake_log(fake));
    return fake;
}
