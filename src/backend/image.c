/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/image.h"

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
#include <sys/vfs.h>
#include <unistd.h>

#include "backend/bounce.h"

enum { PATIENCE = 10, PATIENCE_US = 50000 }; /* tries, and between them */

/* A block device that is mounted, or a part of something else, is refused by O_EXCL. */
static int open_path(struct image *image)
{
    const char *path = image->path;
    struct stat st;
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (image->readonly ? O_RDONLY : O_RDWR);
    if (image->cache == FILE_NONE) {
        flags |= O_DIRECT;
    }
    if (!image->readonly && stat(path, &st) == 0 && S_ISBLK(st.st_mode)) {
        flags |= O_EXCL;
    }
    image->fd = open(path, flags);
    if (image->fd >= 0) {
        /* Non-blocking only kept a FIFO from hanging us here: io_uring would hand EAGAIN back instead of
         * waiting. */
        fcntl(image->fd, F_SETFL, flags & O_DIRECT);
        return 0;
    }
    int code = errno;
    const char *hint = "";
    if (code == EINVAL && image->cache == FILE_NONE) {
        hint = " (its file system does no direct I/O? cache=writeback)";
    } else if ((code == EROFS || code == EACCES || code == EPERM) && !image->readonly) {
        hint = " (readonly=on needs less)";
    } else if (code == EBUSY) {
        hint = " (mounted, or part of another device)";
    }
    return iod_fail(&image->error, code, "%s: can't be opened for %s: %s%s", path,
                    image->readonly ? "reading" : "writing", strerror(code), hint);
}

/* Those whose close waits for a server (linux/magic.h does not know them all). */
static bool is_remote(int fd)
{
    static const uint32_t types[] = { 0x6969 /* NFS */, 0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */, 0x65735546 /* FUSE */,
                                      0x00c36400 /* Ceph */, 0x01021997 /* 9P */, 0x5346414f /* AFS */,
                                      0x0bd00bd0 /* Lustre */ };
    struct statfs fs;
    bool remote = fstatfs(fd, &fs) != 0; /* who does not say is none of the kernel's own */
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]) && !remote; i++) {
        remote = (uint32_t)fs.f_type == types[i];
    }
    return remote;
}

/* An image_close of ours may be under way. */
static int try_lock(const struct image *image, struct flock *lock, const atomic_bool *given_up)
{
    int result;
    for (unsigned i = 0; (result = fcntl(image->fd, F_OFD_SETLK, lock)) != 0 && image->remote && !*given_up; i++) {
        if ((errno != EAGAIN && errno != EACCES) || i == PATIENCE) {
            break;
        }
        usleep(PATIENCE_US);
        errno = EAGAIN;
    }
    return result;
}

/* A lock of the open file, not of the process: a second disk in this process is refused like anyone else. */
static int lock_image(struct image *image, const atomic_bool *given_up)
{
    struct flock lock = { .l_type = image->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
    if (try_lock(image, &lock, given_up) == 0) {
        return 0;
    }
    if (errno != EAGAIN && errno != EACCES) {
        snprintf(image->warning, sizeof(image->warning), "can't be locked (%s): nothing keeps a second user out",
                 strerror(errno));
        return 0;
    }
    char owner[32] = "";
    if (fcntl(image->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0) {
        snprintf(owner, sizeof(owner), " (pid %ld)", (long)lock.l_pid);
    }
    return iod_fail(&image->error, EBUSY, "%s: is in use by another process or device%s; %s", image->path, owner,
                    image->readonly ? "a writer keeps readers out" : "an image has one writer");
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

static int measure_direct(struct image *image)
{
    image->direct = 0;
    if (image->cache != FILE_NONE) {
        return 0;
    }
    struct statx stx;
    if (statx(image->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) != 0 && stx.stx_dio_offset_align > 0) {
        image->direct = stx.stx_dio_offset_align;
        image->memory = stx.stx_dio_mem_align;
    } else {
        image->direct = direct_works(image->fd, 512) ? 512 : 4096;
        image->memory = image->direct;
    }
    if (image->direct > 4096 || image->memory > BOUNCE_PAGE) {
        return iod_fail(&image->error, EINVAL,
                        "%s: direct I/O needs an alignment of %u bytes, at most 4096 is possible; "
                        "cache=writeback",
                        image->path, image->direct);
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

static int measure_device(struct image *image, const struct stat *st)
{
    int sector = 512;
    unsigned physical = 512, optimal = 0;
    if (ioctl(image->fd, BLKGETSIZE64, &image->limits.capacity) != 0 || ioctl(image->fd, BLKSSZGET, &sector) != 0) {
        return iod_fail(&image->error, errno, "%s: its size can't be read: %s", image->path, strerror(errno));
    }
    ioctl(image->fd, BLKPBSZGET, &physical);
    ioctl(image->fd, BLKIOOPT, &optimal);
    image->limits.sector = (uint32_t)sector;
    image->limits.physical = physical;
    image->limits.optimal = optimal;
    /* Punching a hole in a block device is a write of zeros that may unmap: without that it is refused. */
    if (queue_value(st->st_rdev, "write_zeroes_max_bytes", 1) == 0) {
        image->no_punch = true;
    }
    return 0;
}

static int measure_file(struct image *image, const struct stat *st)
{
    image->limits.capacity = (uint64_t)st->st_size;
    image->limits.sector = 512;
    image->limits.physical = st->st_blksize >= 4096 ? 4096 : 512;
    image->limits.optimal = 0;
    /* Far behind the end there is nothing to lose, and the answer is the same. */
    off_t beyond = (off_t)((image->limits.capacity + (1u << 20) - 1) & ~(uint64_t)((1u << 20) - 1));
    if (!image->readonly &&
        fallocate(image->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, 4096) != 0 &&
        errno == EOPNOTSUPP) {
        image->no_punch = true;
    }
    return 0;
}

static int measure(struct image *image)
{
    struct stat st;
    if (fstat(image->fd, &st) != 0) {
        return iod_fail(&image->error, errno, "%s: %s", image->path, strerror(errno));
    }
    image->device = S_ISBLK(st.st_mode);
    if (!image->device && !S_ISREG(st.st_mode)) {
        return iod_fail(&image->error, EINVAL, "%s: is neither a file nor a block device", image->path);
    }
    int result = measure_direct(image);
    return result != 0 ? result : image->device ? measure_device(image, &st) : measure_file(image, &st);
}

void image_open(struct image *image, const atomic_bool *given_up)
{
    int result = open_path(image);
    if (result == 0 && *given_up) { /* nobody may meet a lock that nobody wants any more */
        result = iod_fail(&image->error, ECANCELED, "%s: given up", image->path);
    }
    if (result == 0) {
        image->remote = is_remote(image->fd);
        result = lock_image(image, given_up);
    }
    if (result == 0) {
        measure(image);
    }
}
