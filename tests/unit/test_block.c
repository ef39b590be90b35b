/* SPDX-License-Identifier: BSD-2-Clause */
/* The block layer, the backend "file" over its io_uring, and the filters, under the real core. */
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
#include "fake_xen.h"
#include "unit.h"

enum { IMAGE = 4 << 20, PART = IMAGE / 16, MAX_REQUESTS = 1024 };

/* ---- what goes to the kernel: looked at, and spoilt on demand ---- */

enum fault { FAULT_NONE, FAULT_SHORT, FAULT_UNSUPPORTED, FAULT_BAD_SYNC };

static struct {
    enum fault fault;
    unsigned durable_writes, writes, syncs, pinned;
} kernel;

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

struct ticket {
    struct iod_mapping *data;
    int result;
    bool done, to_guest, early;
    struct iod_block_request block; /* the layers' parts follow */
};

struct disk {
    struct iod_device *device;
    struct iod_block *block;
    void *requests[MAX_REQUESTS];
    unsigned count, done;
    bool submitting, quiet_owed, asked_finish, asked_cancel;
};

static struct disk *disks[2]; /* of the guest under test; each test is a process of its own */
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
static const struct iod_module module = { .size = sizeof(module), .abi = IOD_ABI, .devices = classes };

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
static struct ticket *submit(struct disk *disk, enum iod_block_op op, unsigned flags, uint64_t offset,
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

static bool all_done(void *self)
{
    const struct disk *disk = self;
    return disk->done == disk->count;
}

static int run_one(struct fake_xen *fake, enum iod_block_op op, unsigned flags, uint64_t offset,
                   uint64_t length, uint64_t address)
{
    struct ticket *request = submit(disks[0], op, flags, offset, length, address, 1 << 16);
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    return request->result;
}

/* ---- the image ---- */

static char directory[64], image[96];

static void make_image(void)
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

static void remove_image(void)
{
    unlink(image);
    rmdir(directory);
}

static uint32_t word_of(uint64_t offset)
{
    return (uint32_t)(offset / 4) * 2654435761u;
}

static void read_image(uint64_t offset, void *to, size_t length)
{
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, to, length, (off_t)offset), (ssize_t)length);
    close(fd);
}

static void check_words(const uint8_t *memory, uint64_t offset, uint64_t length)
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
static struct fake_xen *try_disk(const char *options, struct iod_error *error)
{
    char text[256];
    const char *devices[] = { text };
    snprintf(text, sizeof(text), "test-disk,path=%s%s%s", image, options[0] != 0 ? "," : "", options);
    return fake_start(&module, GUEST_HVM, devices, 1, error);
}

static struct fake_xen *start_disk(const char *options)
{
    struct iod_error error = { 0 };
    struct fake_xen *fake = try_disk(options, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    ck_assert_msg(fake_running(fake), "%s", fake_log(fake));
    return fake;
}

/* ---- tests ---- */

static const char *const caches[] = { "cache=writeback", "cache=writethrough", "cache=none", "cache=unsafe" };

START_TEST(reads_and_writes)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    const struct iod_block_limits *limits = iod_block_limits(disks[0]->block);
    uint8_t *ram = fake_ram(fake), back[8192];
    ck_assert_uint_eq(limits->capacity, IMAGE);
    ck_assert(limits->volatile_cache == (_i != 1));
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 8192, 1 << 20, 0x10000), 0);
    check_words(ram + 0x10000, 8192, 1 << 20);
    memset(ram + 0x10000, 0x5a, 8192);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, IOD_BLOCK_FUA, 4096, 8192, 0x10000), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), 0);
    read_image(4096, back, sizeof(back));
    ck_assert_mem_eq(back, ram + 0x10000, sizeof(back));
    fake_stop(fake);
    remove_image();
}
END_TEST

/* Odd pieces, that neither direct I/O nor one vector could take as they are. */
START_TEST(scattered)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    struct ticket *request = submit(disks[0], IOD_BLOCK_READ, 0, 512 * 3, 512 * 77, 0x10003, 517);
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    ck_assert_int_eq(request->result, 0);
    check_words(fake_ram(fake) + 0x10003, 512 * 3, 512 * 77);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(refuses_what_is_wrong)
{
    struct fake_xen *fake = start_disk("");
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, IMAGE, 512, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, IMAGE - 512, 1024, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, UINT64_MAX - 511, 1024, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 1, 512, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 100, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, 0, UINT64_C(1) << 40, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, (enum iod_block_op)99, 0, 0, 512, 0), -EOPNOTSUPP);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(readonly_is_kept)
{
    struct fake_xen *fake = start_disk("readonly=on");
    ck_assert(iod_block_limits(disks[0]->block)->readonly);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 512, 0), -EROFS);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, 0, 512, 0), -EROFS);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 512, 0), 0);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(discard_and_zero)
{
    uint8_t *back = malloc(IMAGE);
    struct stat before, after;
    struct fake_xen *fake = start_disk(caches[_i]);
    stat(image, &before);
    ck_assert_uint_gt(iod_block_limits(disks[0]->block)->max_discard, 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, PART, 4 * PART, 0), 0);
    stat(image, &after);
    ck_assert_int_le(after.st_blocks + 4 * PART / 512, before.st_blocks);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_ZERO, IOD_BLOCK_FUA, 8 * PART, PART, 0), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_ZERO, IOD_BLOCK_UNMAP, 10 * PART, 512, 0), 0);
    fake_stop(fake);
    read_image(0, back, IMAGE);
    check_words(back, 0, PART);
    check_words(back + 5 * PART, 5 * PART, 3 * PART);
    check_words(back + 9 * PART, 9 * PART, PART);
    check_words(back + 10 * PART + 512, 10 * PART + 512, PART);
    uint8_t *zeros = calloc(1, PART);
    ck_assert_mem_eq(back + PART, zeros, PART);
    ck_assert_mem_eq(back + 8 * PART, zeros, PART);
    ck_assert_mem_eq(back + 10 * PART, zeros, 512);
    free(zeros);
    free(back);
    remove_image();
}
END_TEST

/* More than the ring, the quota and (direct) the bounce pool hold: all wait their turn, none is lost. */
START_TEST(many_at_once)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    struct iod_error error;
    struct ring *ring = daemon_service_get(fake_daemon(fake), &ring_service, &error);
    const struct ring_stats *stats = ring_stats(ring);
    unsigned count = 600;
    for (unsigned i = 0; i < count; i++) {
        submit(disks[0], IOD_BLOCK_READ, 0, (i * 7919ull % 1000) * 4096, 4096, 0x100000 + i * 4096, 4096);
    }
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(((struct ticket *)disks[0]->requests[i])->result, 0);
        check_words(fake_ram(fake) + 0x100000 + i * 4096, (i * 7919ull % 1000) * 4096, 4096);
    }
    ck_assert_uint_eq(stats->operations, count);
    ck_assert_msg(stats->enters * 2 < count, "%lu calls for %u requests", (unsigned long)stats->enters,
                  count);
    daemon_service_put(fake_daemon(fake), &ring_service);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(bounce_pool_runs_out)
{
    struct fake_xen *fake = start_disk("cache=none");
    for (unsigned i = 0; i < 12; i++) { /* 12 MiB through a pool of 4 */
        submit(disks[0], IOD_BLOCK_READ, 0, (uint64_t)(i % 4) << 20, 1 << 20, 0x100000 + ((uint64_t)i << 20),
               1 << 16);
    }
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    for (unsigned i = 0; i < 12; i++) {
        ck_assert_int_eq(((struct ticket *)disks[0]->requests[i])->result, 0);
        check_words(fake_ram(fake) + 0x100000 + ((size_t)i << 20), (uint64_t)(i % 4) << 20, 1 << 20);
    }
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(second_writer_is_refused)
{
    struct iod_error error = { 0 };
    struct fake_xen *first = start_disk("");
    struct fake_xen *second = try_disk(_i == 0 ? "" : "readonly=on", &error);
    ck_assert_ptr_nonnull(second);
    ck_assert(!fake_running(second));
    ck_assert_int_eq(fake_logged(second, "disk.img: is in use by another process"), 1);
    fake_stop(second);
    ck_assert(fake_running(first));
    fake_stop(first);
    struct fake_xen *reader = start_disk("readonly=on"), *other = start_disk("readonly=on");
    fake_stop(reader);
    fake_stop(other);
    remove_image();
}
END_TEST

/* Two disks of one guest are no different: the lock belongs to the open file. */
START_TEST(same_image_twice)
{
    struct iod_error error = { 0 };
    char text[128];
    snprintf(text, sizeof(text), "test-disk,path=%s", image);
    const char *devices[] = { text, text };
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, devices, 2, &error);
    ck_assert_ptr_nonnull(fake);
    ck_assert(!fake_running(fake));
    ck_assert_int_eq(fake_logged(fake, "is in use by another process or device"), 1);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(truncated_under_us)
{
    struct fake_xen *fake = start_disk("");
    ck_assert_int_eq(truncate(image, 1 << 20), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 2 << 20, 4096, 0), -EIO);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, (1 << 20) - 4096, 8192, 0), -EIO);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 4096, 0), 0);
    ck_assert_int_eq(fake_logged(fake, "Input/output error"), 1); /* said once */
    fake_stop(fake);
    remove_image();
}
END_TEST

/* A full disk as a small file-size limit shows it: part of the write goes, then none. */
START_TEST(no_room)
{
    struct fake_xen *fake = start_disk("");
    struct rlimit limit = { 1 << 20, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, (1 << 20) - 4096, 8192, 0), -EFBIG);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, (1 << 20) - 4096, 4096, 0), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 2 << 20, 4096, 0), -EFBIG);
    ck_assert_int_eq(fake_logged(fake, "File too large"), 1);
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(odd_size)
{
    ck_assert_int_eq(truncate(image, IMAGE - 100), 0);
    struct fake_xen *fake = start_disk(caches[_i]);
    const struct iod_block_limits *limits = iod_block_limits(disks[0]->block);
    ck_assert_uint_eq(limits->capacity, IMAGE / limits->sector * limits->sector - limits->sector);
    ck_assert_int_eq(fake_logged(fake, "not a multiple"), 1);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, limits->capacity - limits->sector, limits->sector, 0),
                     0);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(bad_options)
{
    static const struct {
        const char *options, *says;
    } cases[] = {
        { "block=nosuch", "nosuch" },
        { "block=delay", "is a filter" },
        { "block.filter=file", "not a filter" },
        { "cache=maybe", "cache" },
        { "block.nokey=1", "nokey" },
    };
    struct iod_error error = { 0 };
    ck_assert_ptr_null(try_disk(cases[_i].options, &error));
    ck_says(error, cases[_i].says);
    remove_image();
}
END_TEST

START_TEST(bad_paths)
{
    static const struct {
        const char *path, *says;
    } cases[] = { { "/nonexistent/disk.img", "No such file" },
                  { "/dev/null", "neither a file nor" },
                  { "/tmp", "directory" } };
    struct iod_error error = { 0 };
    char text[128];
    snprintf(text, sizeof(text), "test-disk,path=%s", cases[_i].path);
    const char *devices[] = { text };
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, devices, 1, &error);
    ck_assert_ptr_nonnull(fake);
    ck_assert(!fake_running(fake));
    ck_assert_msg(fake_logged(fake, cases[_i].says) >= 1, "%s", fake_log(fake));
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(error_filter)
{
    struct fake_xen *fake =
        start_disk("block.filter=error,block.filter.error=ENOSPC,block.filter.every=3,block.filter.op=read");
    for (unsigned i = 1; i <= 9; i++) {
        ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 512, 0), i % 3 == 0 ? -ENOSPC : 0);
        ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 512, 0), 0);
    }
    fake_stop(fake);
    remove_image();
}
END_TEST

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

START_TEST(delay_filter)
{
    struct fake_xen *fake =
        start_disk(_i == 0 ? "block.filter=delay,block.filter.delay=50"
                           : "block.filter=delay,block.filter.delay=50,block.filter.when=before");
    uint64_t before = now_ms();
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 4096, 4096, 0), 0);
    ck_assert_uint_ge(now_ms() - before, 50);
    check_words(fake_ram(fake), 4096, 4096);
    fake_stop(fake);
    remove_image();
}
END_TEST

/* SIGTERM: what is in flight is done, however long it takes. */
START_TEST(finish_waits)
{
    uint8_t back[4096];
    struct fake_xen *fake =
        start_disk(_i == 0 ? "block.filter=delay,block.filter.delay=200"
                           : "block.filter=delay,block.filter.delay=200,block.filter.when=before");
    memset(fake_ram(fake), 0x77, 4096);
    submit(disks[0], IOD_BLOCK_WRITE, 0, 0, 4096, 0, 4096);
    iod_block_kick(disks[0]->block);
    uint64_t before = now_ms();
    fake_stop(fake);
    ck_assert_uint_ge(now_ms(), before + 195);
    read_image(0, back, sizeof(back));
    ck_assert_int_eq(back[0], 0x77);
    ck_assert_int_eq(back[4095], 0x77);
    remove_image();
}
END_TEST

static void set_true(void *self)
{
    *(bool *)self = true;
}

static bool is_true(void *self)
{
    return *(bool *)self;
}

/*
 * A reset under delayed requests: what has not begun is given back and never touches image or memory; what is
 * done is told as it ended. Then the disk goes on.
 */
START_TEST(cancel_gives_back)
{
    bool before = _i != 0, quiet = false;
    struct fake_xen *fake =
        start_disk(before ? "block.filter=delay,block.filter.delay=3600000,block.filter.when=before"
                          : "block.filter=delay,block.filter.delay=3600000");
    uint8_t *ram = fake_ram(fake), back[4096];
    memset(ram, 0x77, 4096);
    struct ticket *write = submit(disks[0], IOD_BLOCK_WRITE, 0, 0, 4096, 0, 4096);
    struct ticket *read = submit(disks[0], IOD_BLOCK_READ, 0, 4096, 4096, 0x10000, 4096);
    iod_block_kick(disks[0]->block);
    fake_run_ms(fake, 50);
    ck_assert(!write->done && !read->done);
    struct device_stop stop;
    device_stop(disks[0]->device, &stop, IOD_CANCEL, set_true, &quiet);
    fake_run(fake, is_true, &quiet);
    ck_assert(write->done && read->done && disks[0]->asked_cancel);
    ck_assert_int_eq(write->result, before ? -ECANCELED : 0);
    ck_assert_int_eq(read->result, before ? -ECANCELED : 0);
    fake_run_ms(fake, 20);
    read_image(0, back, sizeof(back));
    if (before) {
        check_words(back, 0, sizeof(back));
        ck_assert_int_eq(ram[0x10000] | ram[0x10001] | ram[0x10002] | ram[0x10003] | ram[0x10fff], 0);
    } else {
        ck_assert_int_eq(back[0], 0x77);
        check_words(ram + 0x10000, 4096, 4096);
    }
    device_resume(disks[0]->device);
    submit(disks[0], IOD_BLOCK_READ, 0, 8192, 4096, 0x20000, 4096);
    iod_block_kick(disks[0]->block);
    fake_kill(fake); /* and death under them ends too */
    fake_stop(fake);
    remove_image();
}
END_TEST

/* More than the quota: the kernel's share ends as it ends, the rest is given back, each exactly once. */
START_TEST(cancel_without_filter)
{
    bool quiet = false;
    unsigned good = 0, given_back = 0, count = 500;
    struct fake_xen *fake = start_disk(_i == 0 ? "cache=none" : "");
    for (unsigned i = 0; i < count; i++) {
        submit(disks[0], IOD_BLOCK_READ, 0, (i % 64) << 16, 1 << 16, (uint64_t)(i % 64) << 16, 1 << 16);
    }
    if (_i != 2) {
        iod_block_kick(disks[0]->block);
    }
    if (_i == 0) {
        fake_run_ms(fake, 0);
    }
    struct device_stop stop;
    device_stop(disks[0]->device, &stop, IOD_CANCEL, set_true, &quiet);
    fake_run(fake, is_true, &quiet);
    for (unsigned i = 0; i < count; i++) {
        const struct ticket *ticket = disks[0]->requests[i];
        ck_assert(ticket->done);
        good += ticket->result == 0;
        given_back += ticket->result == -ECANCELED;
    }
    ck_assert_uint_eq(good + given_back, count);
    ck_assert(_i == 0 || given_back == count);
    device_resume(disks[0]->device);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 4096, 0), 0);
    fake_stop(fake);
    remove_image();
}
END_TEST

/* ---- the bounce pool by itself ---- */

struct waiter {
    struct bounce_waiter base;
    struct bounce *bounce;
    size_t length;
    void *got;
};

static void waiter_ready(struct bounce_waiter *base)
{
    struct waiter *waiter = (struct waiter *)base;
    waiter->got = bounce_take(waiter->bounce, waiter->length);
    if (waiter->got == NULL) {
        bounce_wait(waiter->bounce, base);
    }
}

START_TEST(bounce_in_order)
{
    struct bounce bounce = { 0 };
    void *pieces[BOUNCE_PAGES];
    ck_assert_int_eq(bounce_init(&bounce), 0);
    for (unsigned i = 0; i < BOUNCE_PAGES; i++) {
        pieces[i] = bounce_take(&bounce, 1 + i % BOUNCE_PAGE);
        ck_assert_ptr_nonnull(pieces[i]);
        ck_assert_uint_eq((uintptr_t)pieces[i] % BOUNCE_PAGE, 0);
        memset(pieces[i], (int)i, BOUNCE_PAGE);
    }
    ck_assert_ptr_null(bounce_take(&bounce, 1));
    struct waiter waiters[3];
    for (unsigned i = 0; i < 3; i++) {
        waiters[i] = (struct waiter){ .base.ready = waiter_ready,
                                      .bounce = &bounce,
                                      .length = i == 0 ? 3 * BOUNCE_PAGE : 1 };
        bounce_wait(&bounce, &waiters[i].base);
    }
    bounce_give(&bounce, pieces[100], BOUNCE_PAGE);
    ck_assert_ptr_null(waiters[1].got); /* not past the first, though it would fit */
    bounce_give(&bounce, pieces[101], BOUNCE_PAGE);
    ck_assert_ptr_null(bounce_take(&bounce, 1));
    bounce_give(&bounce, pieces[102], BOUNCE_PAGE);
    ck_assert_ptr_eq(waiters[0].got, pieces[100]);
    ck_assert_ptr_null(waiters[1].got);
    bounce_leave(&waiters[1].base);
    bounce_give(&bounce, pieces[1023], BOUNCE_PAGE);
    ck_assert_ptr_null(waiters[1].got);
    ck_assert_ptr_eq(waiters[2].got, pieces[1023]);
    bounce_finish(&bounce);
}
END_TEST

/* Which writes and zeros are durable before they complete, and what a flush does. */
START_TEST(durability)
{
    /* of a write, a write with FUA, a zero, a zero with FUA, a flush: durable writes, then syncs */
    static const unsigned expected[4][5][2] = {
        { { 0, 0 }, { 1, 0 }, { 0, 0 }, { 0, 1 }, { 0, 1 } }, /* writeback */
        { { 1, 0 }, { 1, 0 }, { 0, 1 }, { 0, 1 }, { 0, 1 } }, /* writethrough */
        { { 0, 0 }, { 1, 0 }, { 0, 0 }, { 0, 1 }, { 0, 1 } }, /* none */
        { { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } }, /* unsafe */
    };
    static const struct {
        enum iod_block_op op;
        unsigned flags;
    } requests[5] = { { IOD_BLOCK_WRITE, 0 },
                      { IOD_BLOCK_WRITE, IOD_BLOCK_FUA },
                      { IOD_BLOCK_ZERO, 0 },
                      { IOD_BLOCK_ZERO, IOD_BLOCK_FUA },
                      { IOD_BLOCK_FLUSH, 0 } };
    struct fake_xen *fake = start_disk(caches[_i]);
    for (unsigned i = 0; i < 5; i++) {
        memset(&kernel, 0, sizeof(kernel));
        ck_assert_int_eq(run_one(fake, requests[i].op, requests[i].flags, 0, i < 4 ? 4096 : 0, 0), 0);
        ck_assert_uint_eq(kernel.durable_writes, expected[_i][i][0]);
        ck_assert_uint_eq(kernel.syncs, expected[_i][i][1]);
    }
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(short_results)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    kernel.fault = FAULT_SHORT;
    struct ticket *scatter = submit(disks[0], IOD_BLOCK_READ, 0, 8192, 1 << 18, 0x10000, 4096);
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    ck_assert_int_eq(scatter->result, 0);
    check_words(fake_ram(fake) + 0x10000, 8192, 1 << 18);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 8192, 1 << 18, 0x10000), 0);
    ck_assert_uint_gt(kernel.writes, 2);
    fake_stop(fake);
    uint8_t *back = malloc(IMAGE);
    read_image(0, back, IMAGE);
    check_words(back, 0, IMAGE);
    free(back);
    remove_image();
}
END_TEST

/* A file system that does neither RWF_DSYNC nor fallocate: the same promises by other means. */
START_TEST(unsupported_by_file_system)
{
    uint8_t *back = malloc(IMAGE);
    struct fake_xen *fake = start_disk(caches[_i]);
    memset(&kernel, 0, sizeof(kernel));
    kernel.fault = FAULT_UNSUPPORTED;
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, IOD_BLOCK_FUA, 0, 4096, 0), 0);
    ck_assert_uint_eq(kernel.syncs, _i != 3);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_ZERO, IOD_BLOCK_UNMAP | IOD_BLOCK_FUA, PART, 3 * PART - 512, 0),
                     0);
    ck_assert_uint_eq(kernel.syncs, _i != 3 ? 2 : 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, 8 * PART, PART, 0), -EOPNOTSUPP);
    fake_stop(fake);
    read_image(0, back, IMAGE);
    for (unsigned i = PART; i < 4 * PART - 512; i++) {
        ck_assert_int_eq(back[i], 0);
    }
    check_words(back + 4096, 4096, PART - 4096);
    check_words(back + 4 * PART - 512, 4 * PART - 512, 12 * PART + 512);
    free(back);
    remove_image();
}
END_TEST

START_TEST(failed_flush_is_told)
{
    struct fake_xen *fake = start_disk("");
    kernel.fault = FAULT_BAD_SYNC;
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), -EBADF);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), -EBADF);
    ck_assert_int_eq(fake_logged(fake, "flush at 0"), 1);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(direct_io_is_bounced)
{
    struct fake_xen *fake = start_disk("cache=none");
    memset(&kernel, 0, sizeof(kernel));
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 1 << 16, 0x10000), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 1 << 16, 0x10000), 0);
    ck_assert_uint_eq(kernel.writes, 1);
    ck_assert_uint_eq(kernel.pinned, 0);
    fake_stop(fake);
    remove_image();
}
END_TEST

/* on-exit=leave: the guest, its disk and the ring go inside the ring's own completion. */
START_TEST(last_completion_frees_all)
{
    uint8_t back[4096];
    struct fake_xen *fake = start_disk(caches[_i]);
    struct guest *guest = list_first(&fake_daemon(fake)->guests, struct guest, link);
    guest->spec.on_exit = ON_EXIT_LEAVE;
    memset(fake_ram(fake), 0x3c, 4096);
    for (unsigned i = 0; i < 40; i++) {
        submit(disks[0], IOD_BLOCK_WRITE, IOD_BLOCK_FUA, (uint64_t)i * 4096, 4096, 0, 4096);
    }
    iod_block_kick(disks[0]->block);
    fake_stop(fake);
    read_image(39 * 4096, back, sizeof(back));
    ck_assert_int_eq(back[0] & back[4095], 0x3c);
    remove_image();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("block");
    TCase *c = tcase_create("block");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, make_image, NULL);
    tcase_add_loop_test(c, reads_and_writes, 0, 4);
    tcase_add_loop_test(c, scattered, 0, 4);
    tcase_add_test(c, refuses_what_is_wrong);
    tcase_add_test(c, readonly_is_kept);
    tcase_add_loop_test(c, discard_and_zero, 0, 4);
    tcase_add_loop_test(c, many_at_once, 0, 4);
    tcase_add_test(c, bounce_pool_runs_out);
    tcase_add_loop_test(c, second_writer_is_refused, 0, 2);
    tcase_add_test(c, same_image_twice);
    tcase_add_test(c, truncated_under_us);
    tcase_add_test(c, no_room);
    tcase_add_loop_test(c, odd_size, 0, 4);
    tcase_add_loop_test(c, bad_options, 0, 5);
    tcase_add_loop_test(c, bad_paths, 0, 3);
    tcase_add_test(c, error_filter);
    tcase_add_loop_test(c, delay_filter, 0, 2);
    tcase_add_loop_test(c, finish_waits, 0, 2);
    tcase_add_loop_test(c, cancel_gives_back, 0, 2);
    tcase_add_loop_test(c, cancel_without_filter, 0, 3);
    tcase_add_test(c, bounce_in_order);
    tcase_add_loop_test(c, durability, 0, 4);
    tcase_add_loop_test(c, short_results, 0, 4);
    tcase_add_loop_test(c, unsupported_by_file_system, 0, 4);
    tcase_add_test(c, failed_flush_is_told);
    tcase_add_test(c, direct_io_is_bounced);
    tcase_add_loop_test(c, last_completion_frees_all, 0, 4);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
