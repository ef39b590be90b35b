/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/file.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ioreqd/log.h>

#include "backend/backends.h"
#include "backend/block.h"
#include "core/daemon.h"

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
    { .name = "open-timeout",
      .type = IOD_OPTION_NUMBER,
      .fallback = "30",
      .min = 1,
      .max = 3600,
      .help = "seconds that its disk or server may take to open it" },
    { .name = NULL },
};

static const char *path_of(const struct file *file)
{
    return iod_option_string(iod_block_options(file->block), "path");
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

/* ---- life ---- */

static int take_image(struct file *file, struct image *image, struct iod_error *error)
{
    struct iod_block_limits limits = image->limits;
    if (image->error.code != 0) {
        *error = image->error;
        return -error->code;
    }
    file->fd = image->fd;
    image->fd = -1;
    file->device = image->device;
    file->remote = image->remote;
    file->no_punch = image->no_punch;
    file->direct = image->direct;
    file->memory = image->memory;
    if (image->warning[0] != '\0') {
        iod_log(iod_block_device(file->block), IOD_LOG_WARNING, "%s: %s", image->path, image->warning);
    }
    int result = choose_sector(file, &limits, error);
    if (result != 0) {
        return result;
    }
    limits.depth = FILE_DEPTH;
    limits.readonly = file->readonly;
    limits.volatile_cache = file->cache != FILE_WRITETHROUGH;
    limits.max_discard = file->readonly || !file->discard || file->no_punch ? 0 : MAX_DISCARD;
    limits.max_zero = file->readonly ? 0 : MAX_ZERO;
    iod_block_set_limits(file->block, &limits);
    file->ring = daemon_service_get(block_daemon(file->block), &ring_service, error);
    return file->ring != NULL ? 0 : -EIO;
}

static void image_opened(void *self, struct image *image)
{
    struct file *file = self;
    struct iod_error error = { 0 };
    file->opening = NULL;
    if (take_image(file, image, &error) == 0) {
        iod_block_done(file->block, 0);
    } else {
        block_failed(file->block, &error);
    }
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
    const struct image asked = { .path = (char *)(uintptr_t)path_of(file), .readonly = file->readonly, .cache = file->cache };
    uint64_t limit_ns = iod_option_number(options, "open-timeout") * UINT64_C(1000000000);
    file->opening = opening_begin(daemon_loop(block_daemon(block)), &asked, limit_ns, image_opened, file, error);
    return file->opening != NULL ? 1 : -error->code;
}

static void file_give_up(struct iod_block *block)
{
    struct file *file = iod_block_self(block);
    opening_give_up(file->opening);
}

static void file_close(struct iod_block *block)
{
    struct file *file = iod_block_self(block);
    opening_cancel(file->opening);
    if (file->errors > 1) {
        iod_log(iod_block_device(block), IOD_LOG_WARNING, "%s: %" PRIu64 " requests failed in all",
                path_of(file), file->errors);
    }
    if (file->ring != NULL) {
        daemon_service_put(block_daemon(block), &ring_service);
    }
    if (file->fd >= 0) {
        image_close(file->fd, file->remote);
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
    .give_up = file_give_up,
    .submit = file_submit,
    .kick = file_kick,
    .quiesce = file_quiesce,
    .close = file_close,
    .resize = file_resize,
};
