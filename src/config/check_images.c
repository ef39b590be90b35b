/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "core/options.h"

enum { SECTOR = 512 };

struct image {
    const struct guest_spec *guest;
    const struct device_spec *device;
    const char *path;
    bool readonly;
    dev_t device_number; /* with the inode: which file it is; a block device is its number */
    ino_t inode;
    unsigned order;
};

struct images {
    struct image *list;
    unsigned count;
    struct findings *findings;
};

/* A key of the block backend, with its prefix or bare: of several the last, as the backend itself takes it. */
static const char *block_option(const struct device_spec *device, const char *key)
{
    static const char prefix[] = "block.";
    const char *value = NULL;
    for (unsigned i = 0; i < device->count; i++) {
        const char *name = device->pairs[i].key;
        name += strncmp(name, prefix, sizeof(prefix) - 1) == 0 ? sizeof(prefix) - 1 : 0;
        value = strcmp(name, key) == 0 ? device->pairs[i].value : value;
    }
    return value;
}

/*
 * The image file of a disk. Which devices are disks is told by what they are given (block...=) or by their
 * name: a device says so itself only when it is made.
 */
static const char *image_path(const struct device_spec *device)
{
    const char *backend = device_spec_get(device, "block");
    size_t length = strlen(device->name);
    bool disk = backend || device_spec_get(device, "block.path") ||
                (length > 4 && strcmp(device->name + length - 4, "-blk") == 0);
    if (!disk || (backend && strcmp(backend, "file") != 0)) {
        return NULL;
    }
    return block_option(device, "path");
}

#define FIND(images, image, fatal, remedy, ...)                                                              \
    findings_add((images)->findings, fatal, check_where((image)->guest, (image)->device), remedy, __VA_ARGS__)

/* ---- one image ---- */

static void check_size(const struct images *images, const struct image *image, uint64_t size)
{
    const char *text = block_option(image->device, "sector");
    uint64_t sector;
    if (!text || option_parse_size(text, &sector) || !sector) {
        sector = SECTOR;
    }
    if (sector & (sector - 1)) {
        FIND(images, image, true, "expected 512, 1024, 2048 or 4096",
             "%.60s: sector=%.20s is no power of two", image->device->name, text);
        return;
    }
    if (size < sector) {
        FIND(images, image, true, "make it larger (truncate -s), or name another",
             "%.60s: path=%.200s: of %llu bytes: the guest would see a disk without sectors",
             image->device->name, image->path, (unsigned long long)size);
    } else if (size % sector) {
        FIND(images, image, false, "make its size a multiple of the sector's",
             "%.60s: path=%.200s: the guest can't reach its last %llu bytes", image->device->name,
             image->path, (unsigned long long)(size % sector));
    }
}

static void refuse_image(const struct images *images, const struct image *image)
{
    FIND(images, image, true, errno == ENOENT ? "make it, or mend the path" : "mend its mode, owner or path",
         "%.60s: path=%.200s: %s", image->device->name, image->path, strerror(errno));
}

/* A disk's size is only known of the open disk; opened for reading, nothing is taken: it may be in use. */
static bool find_size(const struct images *images, const struct image *image, const struct stat *status)
{
    uint64_t size = (uint64_t)status->st_size;
    int fd = open(image->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        refuse_image(images, image);
        return false;
    }
    if (!S_ISBLK(status->st_mode) || ioctl(fd, BLKGETSIZE64, &size) == 0) {
        check_size(images, image, size);
    }
    close(fd);
    return true;
}

/* False: it can't be compared with others. */
static bool check_image(const struct images *images, struct image *image)
{
    struct stat status;
    if (stat(image->path, &status)) {
        refuse_image(images, image);
        return false;
    }
    bool block = S_ISBLK(status.st_mode);
    if (!block && !S_ISREG(status.st_mode)) {
        FIND(images, image, true, "expected an image file or a block device",
             "%.60s: path=%.200s: is neither a file nor a disk", image->device->name, image->path);
        return false;
    }
    if (find_size(images, image, &status) && !image->readonly &&
        faccessat(AT_FDCWD, image->path, W_OK, AT_EACCESS)) {
        FIND(images, image, true, "readonly=on, or mend its mode or owner",
             "%.60s: path=%.200s: can't be written: %s", image->device->name, image->path, strerror(errno));
    }
    image->device_number = block ? status.st_rdev : status.st_dev;
    image->inode = block ? 0 : status.st_ino;
    return true;
}

/* ---- one image and another ---- */

static int compare_files(const struct image *one, const struct image *other)
{
    if (one->device_number != other->device_number) {
        return one->device_number < other->device_number ? -1 : 1;
    }
    return (one->inode > other->inode) - (one->inode < other->inode);
}

/* Of one file in the order of the configuration. */
static int compare_images(const void *one, const void *other)
{
    const struct image *first = one, *second = other;
    int order = compare_files(first, second);
    return order ? order : (first->order > second->order) - (first->order < second->order);
}

static void check_sharing(const struct images *images, const struct image *image, const struct image *before)
{
    if (!image->readonly || !before->readonly) {
        FIND(images, image, true,
             "an image has one writer and then no reader: readonly=on in all, or an image each",
             "%.60s: path=%.200s: %s by %.60s of domain %.60s (%s) too", image->device->name, image->path,
             before->readonly ? "is read" : "is written", before->device->name, before->guest->domain,
             check_where(before->guest, before->device));
    }
}

static void check_all_sharing(struct images *images)
{
    qsort(images->list, images->count, sizeof(*images->list), compare_images);
    for (unsigned i = 1, first = 0; i < images->count; i++) {
        if (compare_files(&images->list[first], &images->list[i]) == 0) {
            check_sharing(images, &images->list[i], &images->list[first]);
        } else {
            first = i;
        }
    }
}

static void add_image(struct images *images, const struct guest_spec *guest, const struct device_spec *device)
{
    struct image image = {
        .guest = guest, .device = device, .path = image_path(device), .order = images->count};
    const char *readonly = block_option(device, "readonly");
    if (!image.path || (readonly && option_parse_bool(readonly, &image.readonly)) ||
        !check_image(images, &image)) {
        return; /* an odd readonly= is the core's to refuse */
    }
    struct image *list = reallocarray(images->list, images->count + 1, sizeof(*list));
    if (!list) {
        images->findings->cut = true;
        return;
    }
    images->list = list;
    list[images->count++] = image;
}

void check_images(const struct config *config, struct findings *findings)
{
    struct images images = {.findings = findings};
    for (unsigned i = 0; i < config->count; i++) {
        for (unsigned k = 0; k < config->guests[i].device_count; k++) {
            add_image(&images, &config->guests[i], &config->guests[i].devices[k]);
        }
    }
    if (images.count) {
        check_all_sharing(&images);
    }
    free(images.list);
}
