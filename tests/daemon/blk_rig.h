/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest with an ioreqd-served virtio disk on one of the transports, and the tests' own driver for it. */
#ifndef BLK_RIG_H
#define BLK_RIG_H

#include "fixture.h"
#include "virtio_blk_driver.h"

#define RIG_IMAGE_SIZE (8u << 20)
#define RIG_SECTORS (RIG_IMAGE_SIZE / VIRTIO_BLK_SECTOR)
#define RIG_ARENA_OFFSET (2u << 20) /* of the arena in the guest's RAM; what is below is the test's */
#define RIG_ARENA_SIZE (12u << 20)

/* Where the disk sits. */
enum rig_place {
    PLACE_MMIO_HVM, /* virtio-mmio, an ISA line */
    PLACE_MMIO_LEGACY_HVM,
    PLACE_MMIO_PVH, /* no line there: polled */
    PLACE_MMIO_ARM, /* an SPI */
    PLACE_MMIO_LEGACY_ARM,
    PLACE_PCI_MSIX_HVM,
    PLACE_PCI_INTX_HVM,
    PLACE_PCI_MSIX_PVH,
    PLACES,
};

struct rig {
    struct fixture f;
    enum rig_place place;
    char image[160];
    struct virtio_driver driver;
    struct virtio_blk blk;
    struct virtio_driver other_driver; /* a second disk beside it, see rig_start_pair() */
    struct virtio_blk other;
    bool pair;
};

const char *rig_place_name(enum rig_place place);
bool rig_is_pci(enum rig_place place);
bool rig_is_legacy(enum rig_place place);

/*
 * Starts mock, guest (two vCPUs), ioreqd with `virtio-blk,path=IMAGE<options>` (options begin with a comma,
 * or are "") and opens the driver. The image is filled with fixture_pattern(). Ends the test on failure.
 */
void rig_open(struct rig *rig, enum rig_place place, const char *options);
/* The same, and the disk is started with all features. */
void rig_start(struct rig *rig, enum rig_place place, const char *options);
/* rig_start with a second disk of the same kind for the same guest, started too. */
void rig_start_pair(struct rig *rig, enum rig_place place, const char *options);
/* Negotiates, sets up `queues` queues and starts. */
void rig_start_disk(struct rig *rig, uint64_t features, unsigned queues, unsigned queue_size);
/* Resets and starts again with all features. */
void rig_restart(struct rig *rig);
/* Ends all; checks that the daemon ended well and that the mock saw nothing forbidden. */
void rig_stop(struct rig *rig);

/* Fails the test unless this disk reads and writes. */
void rig_expect_disk_works(struct virtio_blk *blk);
/* Fails unless the daemon's process lives. */
void rig_expect_daemon_lives(struct rig *rig);
/* Reads the image file behind the daemon's back. */
void rig_read_image(struct rig *rig, uint64_t offset, void *to, size_t length);
/* `length` zeroed bytes of guest memory; the address. */
uint64_t rig_memory(struct rig *rig, size_t length, void *at);

#endif
