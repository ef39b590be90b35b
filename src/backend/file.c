/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <ioreqd/log.h>

#include "backend/backends.h"
#include "backend/block.h"

enum {
    MAX_DISCARD = 1 << 30,
    MAX_ZERO = 64 << 20, /* may have to be written */
};

static const char *const cache_choices[] = { "writeback", "writethrough", "none", "unsafe", NULL };

static const struct iod_option file_options[] = {
    { .name = "path", .type = IOD_OPTION_STRING, .required = true, .help = "image file or block device" },
    { .name = "readonly",
      .type = IOD_OPTION_BOOL,
      .fallback = "off",
      .help = "refuse writes; the image may be shared" },
    { .name = "cache",
      .type = IOD_OPTION_CHOICE,
      .fallback = "writeback",
      .choices = cache_choices,
      .help = "writeback: the guest flushes; writethrough: each write is durable; none: direct I/O; unsafe: "
              "never flush" },
    { .name = "discard",
      .type = IOD_OPTION_BOOL,
      .fallback = "on",
      .help = "give space back when the guest discards" },
    { .name = "sector",
      .type = IOD_OPTION_SIZE,
      .min = 512,
      .max = 4096,
      .help = "logical sector in bytes, a power of two (default: 512, or what direct I/O needs)" },
    { .name = NULL },
};

static const char *path_of(const struct file *file)
{
    return iod_option_string(iod_block_options(file->block), "path");
}

/* A block device that is mounted, or a part of something else, is refused by O_EXCL. */
static int open_path(struct file *file, struct iod_error *error)
{
    const char *path = path_of(file);
    struct stat st;
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (file->readonly ? O_RDONLY : O_RDWR);
    if (file->cache == FILE_NONE) {
        flags |= O_DIRECT;
    }
    if (!file->readonly && stat(path, &st) == 0 && S_ISBLK(st.st_mode)) {
        flags |= O_EXCL;
    }
    file->fd = open(path, flags);
    if (file->fd >= 0) {
        /* Non-blocking only kept a FIFO from hanging us here: io_uring would hand EAGAIN back instead of
         * waiting. */
        fcntl(file->fd, F_SETFL, flags & O_DIRECT);
        return 0;
    }
    int code = errno;
    const char *hint = "";
    if (code == EINVAL && file->cache == FILE_NONE) {
        hint = " (its file system does no direct I/O? cache=writeback)";
    } else if ((code == EROFS || code == EACCES || code == EPERM) && !file->readonly) {
        hint = " (readonly=on needs less)";
    } else if (code == EBUSY) {
        hint = " (mounted, or part of another device)";
    }
    return iod_fail(error, code, "%s: can't be opened for %s: %s%s", path,
                    file->readonly ? "reading" : "writing", strerror(code), hint);
}

/* A lock of the open file, not of the process: a second disk in this process is refused like anyone else. */
static int lock_image(struct file *file, struct iod_error *error)
{
    struct flock lock = { .l_type = file->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(file->fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    if (errno != EAGAIN && errno != EACCES) {
        iod_log(iod_block_device(file->block), IOD_LOG_WARNING,
                "%s: can't be locked (%s): nothing keeps a second "
                "user out",
                path_of(file), strerror(errno));
        return 0;
    }
    char owner[32] = "";
    if (fcntl(file->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0) {
        snprintf(owner, sizeof(owner), " (pid %ld)", (long)lock.l_pid);
    }
    return iod_fail(error, EBUSY, "%s: is in use by another process or device%s; %s", path_of(file), owner,
                    file->readonly ? "a writer keeps readers out" : "an image has one writer");
}

/* Would a read of `length` bytes at 0 be taken? What can't be known from statx is tried. */
static bool direct_works(int fd, unsigned length)
{
    void *buffer;
    if (posix_memalign(&buffer, 4096, 4096) != 0) {
        return false;
    }
    ssize_t got = pread(fd, buffer, length, 0);
    free(buffer);
    return got >= 0;
}

static int measure_direct(struct file *file, struct iod_error *error)
{
    file->direct = 0;
    if (file->cache != FILE_NONE) {
        return 0;
    }
    struct statx stx;
    if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) != 0 && stx.stx_dio_offset_align > 0) {
        file->direct = stx.stx_dio_offset_align;
        file->memory = stx.stx_dio_mem_align;
    } else {
        file->direct = direct_works(file->fd, 512) ? 512 : 4096;
        file->memory = file->direct;
    }
    if (file->direct > 4096 || file->memory > BOUNCE_PAGE) {
        return iod_fail(error, EINVAL,
                        "%s: direct I/O needs an alignment of %u bytes, at most 4096 is possible; "
                        "cache=writeback",
                        path_of(file), file->direct);
    }
    return 0;
}

/* A number from the block device's queue directory in sysfs (a partition's is its disk's); `fallback` if
 * unreadable. */
static uint64_t queue_value(dev_t device, const char *name, uint64_t fallback)
{
    static const char *const places[] = { "/sys/dev/block/%u:%u/queue/%s",
                                          "/sys/dev/block/%u:%u/../queue/%s" };
    for (unsigned i = 0; i < 2; i++) {
        char path[128];
        uint64_t value;
        snprintf(path, sizeof(path), i == 0 ? places[0] : places[1], major(device), minor(device), name);
        FILE *from = fopen(path, "re");
        if (from == NULL) {
            continue;
        }
        int got = fscanf(from, "%" SCNu64, &value);
        fclose(from);
        if (got == 1) {
            return value;
        }
    }
    return fallback;
}

static int measure_device(struct file *file, const struct stat *st, struct iod_block_limits *limits,
                          struct iod_error *error)
{
    int sector = 512;
    unsigned physical = 512, optimal = 0;
    if (ioctl(file->fd, BLKGETSIZE64, &limits->capacity) != 0 || ioctl(file->fd, BLKSSZGET, &sector) != 0) {
        return iod_fail(error, errno, "%s: its size can't be read: %s", path_of(file), strerror(errno));
    }
    ioctl(file->fd, BLKPBSZGET, &physical);
    ioctl(file->fd, BLKIOOPT, &optimal);
    limits->sector = (uint32_t)sector;
    limits->physical = physical;
    limits->optimal = optimal;
    /* Punching a hole in a block device is a write of zeros that may unmap: without that it is refused. */
    if (queue_value(st->st_rdev, "write_zeroes_max_bytes", 1) == 0) {
        file->no_punch = true;
    }
    return 0;
}

static int measure_file(struct file *file, const struct stat *st, struct iod_block_limits *limits)
{
    limits->capacity = (uint64_t)st->st_size;
    limits->sector = 512;
    limits->physical = st->st_blksize >= 4096 ? 4096 : 512;
    limits->optimal = 0;
    /* Far behind the end there is nothing to lose, and the answer is the same. */
    off_t beyond = (off_t)((limits->capacity + (1u << 20) - 1) & ~(uint64_t)((1u << 20) - 1));
    if (!file->readonly &&
        fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, 4096) != 0 &&
        errno == EOPNOTSUPP) {
        file->no_punch = true;
    }
    return 0;
}

/* Whole sectors alone are shown. */
static void round_capacity(struct file *file, struct iod_block_limits *limits)
{
    uint64_t rest = limits->capacity % limits->sector;
    if (rest != 0) {
        iod_log(iod_block_device(file->block), IOD_LOG_WARNING,
                "%s: its size is not a multiple of %u: the last %" PRIu64 " bytes are not shown",
                path_of(file), limits->sector, rest);
        limits->capacity -= rest;
    }
    if (limits->capacity == 0) {
        iod_log(iod_block_device(file->block), IOD_LOG_WARNING, "%s: is empty: the disk has no sectors",
                path_of(file));
    }
}

static int choose_sector(struct file *file, struct iod_block_limits *limits, struct iod_error *error)
{
    uint64_t asked = iod_option_number(iod_block_options(file->block), "sector");
    uint32_t least = limits->sector > file->direct ? limits->sector : file->direct;
    if (asked != 0) {
        if ((asked & (asked - 1)) != 0 || asked < 512) {
            return iod_fail(error, EINVAL, "sector=%" PRIu64 ": is not 512, 1024, 2048 or 4096", asked);
        }
        /* Through the page cache any sector goes; direct I/O takes what the disk takes. */
        if (file->direct != 0 && asked < least) {
            return iod_fail(error, EINVAL,
                            "sector=%" PRIu64 ": direct I/O on %s needs %u; sector=%u or cache=writeback",
                            asked, path_of(file), least, least);
        }
        limits->sector = (uint32_t)asked;
    } else {
        limits->sector = least;
    }
    if (limits->physical < limits->sector) {
        limits->physical = limits->sector;
    }
    round_capacity(file, limits);
    return 0;
}

static int measure(struct file *file, struct iod_error *error)
{
    struct iod_block_limits limits = { 0 };
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        return iod_fail(error, errno, "%s: %s", path_of(file), strerror(errno));
    }
    file->device = S_ISBLK(st.st_mode);
    if (!file->device && !S_ISREG(st.st_mode)) {
        return iod_fail(error, EINVAL, "%s: is neither a file nor a block device", path_of(file));
    }
    int result = measure_direct(file, error);
    if (result == 0) {
        result = file->device ? measure_device(file, &st, &limits, error) : measure_file(file, &st, &limits);
    }
    if (result == 0) {
        result = choose_sector(file, &limits, error);
    }
    if (result != 0) {
        return result;
    }
    limits.depth = FILE_DEPTH;
    limits.readonly = file->readonly;
    limits.volatile_cache = file->cache != FILE_WRITETHROUGH;
    limits.max_discard = file->readonly || !file->discard || file->no_punch ? 0 : MAX_DISCARD;
    limits.max_zero = file->readonly ? 0 : MAX_ZERO;
    iod_block_set_limits(file->block, &limits);
    return 0;
}

/* The sector and all else stay as the guest knows them: only the size may be another one. */
static int file_resize(struct iod_block *block, struct iod_error *error)
{
    struct file *file = iod_block_self(block);
    struct iod_block_limits limits = *iod_block_limits(block);
    uint64_t before = limits.capacity;
    struct stat st;
    if (file->device ? ioctl(file->fd, BLKGETSIZE64, &limits.capacity) != 0 : fstat(file->fd, &st) != 0) {
        return iod_fail(error, errno, "%s: its size can't be read: %s", path_of(file), strerror(errno));
    }
    if (!file->device) {
        limits.capacity = (uint64_t)st.st_size;
    }
    round_capacity(file, &limits);
    if (limits.capacity == before) {
        return 0;
    }
    iod_log(iod_block_device(block), limits.capacity < before ? IOD_LOG_WARNING : IOD_LOG_INFO,
            "%s: has %" PRIu64 " bytes now, after %" PRIu64 "%s", path_of(file), limits.capacity, before,
            limits.capacity < before ? ": what the guest had behind is gone" : "");
    iod_block_set_limits(block, &limits);
    return 0;
}

static int file_open(struct iod_block *block, struct iod_block *below, struct iod_error *error)
{
    struct file *file = iod_block_self(block);
    const struct iod_options *options = iod_block_options(block);
    file->block = block;
    file->fd = -1;
    file->cache = (enum file_cache)iod_option_choice(options, "cache");
    file->readonly = iod_option_bool(options, "readonly");
    file->discard = iod_option_bool(options, "discard");
    list_init(&file->requests);
    ring_client_init(&file->client, FILE_DEPTH);
    int result = open_path(file, error);
    if (result == 0) {
        result = lock_image(file, error);
    }
    if (result == 0) {
        result = measure(file, error);
    }
    if (result == 0) {
        file->ring = daemon_service_get(block_daemon(block), &ring_service, error);
        result = file->ring != NULL ? 0 : -EIO;
    }
    return result;
}

static void file_close(struct iod_block *block)
{
    struct file *file = iod_block_self(block);
    if (file->errors > 1) {
        iod_log(iod_block_device(block), IOD_LOG_WARNING, "%s: %" PRIu64 " requests failed in all",
                path_of(file), file->errors);
    }
    if (file->ring != NULL) {
        daemon_service_put(block_daemon(block), &ring_service);
    }
    if (file->fd >= 0) {
        close(file->fd);
    }
}

const struct iod_block_class file_block_class = {
    .size = sizeof(struct iod_block_class),
    .name = "file",
    .summary = "raw image file or block device",
    .self_size = sizeof(struct file),
    .request_size = sizeof(struct file_request),
    .options = file_options,
    .open = file_open,
    .submit = file_submit,
    .kick = file_kick,
    .quiesce = file_quiesce,
    .close = file_close,
    .resize = file_resize,
};
