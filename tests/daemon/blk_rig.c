/* SPDX-License-Identifier: BSD-2-Clause */
#include "blk_rig.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PCI_WINDOW 0xe0000000u
#define OTHER_PCI_WINDOW 0xe4000000u

struct place {
    const char *name;
    enum mock_profile profile;
    const char *keys, *other_keys;
    enum virtio_interrupt interrupt;
    bool legacy;
    uint64_t base, other_base; /* 0: PCI */
    unsigned line, other_line;
};

static const struct place places[PLACES] = {
    [PLACE_MMIO_HVM] = {"mmio hvm", MOCK_HVM, "bus=mmio,base=0xd0000000,irq=10",
                        "bus=mmio,base=0xd0000200,irq=11", VIRTIO_GSI, false, 0xd0000000, 0xd0000200, 10, 11},
    [PLACE_MMIO_LEGACY_HVM] = {"mmio-legacy hvm", MOCK_HVM, "bus=mmio-legacy,base=0xd0000000,irq=10",
                               "bus=mmio-legacy,base=0xd0000200,irq=11", VIRTIO_GSI, true, 0xd0000000,
                               0xd0000200, 10, 11},
    [PLACE_MMIO_PVH] = {"mmio pvh", MOCK_PVH, "bus=mmio,base=0xd0000000,irq=none",
                        "bus=mmio,base=0xd0000200,irq=none", VIRTIO_POLL, false, 0xd0000000, 0xd0000200, 0,
                        0},
    [PLACE_MMIO_ARM] = {"mmio arm64", MOCK_ARM64, "bus=mmio,base=0x2000000,irq=33",
                        "bus=mmio,base=0x2000200,irq=34", VIRTIO_SPI, false, 0x2000000, 0x2000200, 33, 34},
    [PLACE_MMIO_LEGACY_ARM] = {"mmio-legacy arm64", MOCK_ARM64, "bus=mmio-legacy,base=0x2000000,irq=33",
                               "bus=mmio-legacy,base=0x2000200,irq=34", VIRTIO_SPI, true, 0x2000000,
                               0x2000200, 33, 34},
    [PLACE_PCI_MSIX_HVM] = {"pci msix hvm", MOCK_HVM, "bus=pci,addr=5", "bus=pci,addr=6", VIRTIO_MSIX, false,
                            0, 0, 0, 0},
    [PLACE_PCI_INTX_HVM] = {"pci intx hvm", MOCK_HVM, "bus=pci,addr=5", "bus=pci,addr=6", VIRTIO_GSI, false,
                            0, 0, 0, 0},
    [PLACE_PCI_MSIX_PVH] = {"pci msix pvh", MOCK_PVH, "bus=pci,addr=5", "bus=pci,addr=6", VIRTIO_MSIX, false,
                            0, 0, 0, 0},
};

const char *rig_place_name(enum rig_place place)
{
    return places[place].name;
}

bool rig_is_pci(enum rig_place place)
{
    return places[place].base == 0;
}

bool rig_is_legacy(enum rig_place place)
{
    return places[place].legacy;
}

static void open_driver(struct rig *rig, struct virtio_driver *driver, bool other)
{
    const struct place *place = &places[rig->place];
    struct mock_guest *guest = rig->f.guest;
    uint64_t ram = mock_ram_base(guest) + RIG_ARENA_OFFSET;
    struct virtio_arena arena =
        virtio_arena_make(guest, ram + (other ? RIG_ARENA_SIZE / 2 : 0), RIG_ARENA_SIZE / 2);
    int result;
    if (place->base) {
        result = virtio_mmio_open(driver, guest, 0, other ? place->other_base : place->base,
                                  VIRTIO_ID_BLOCK_DEVICE, place->interrupt,
                                  other ? place->other_line : place->line, arena);
    } else {
        uint16_t sbdf = (uint16_t)((other ? 6 : 5) << 3);
        ck_assert_int_eq(virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, other ? 5 << 3 : -1), sbdf);
        result = virtio_pci_open(driver, guest, 0, sbdf, VIRTIO_ID_BLOCK_DEVICE, place->interrupt,
                                 other ? OTHER_PCI_WINDOW : PCI_WINDOW, arena);
    }
    ck_assert_msg(result == 0, "%s: the driver found no disk: %s", place->name, strerror(-result));
    ck_assert_int_eq(driver->legacy, place->legacy);
}

static void start_daemon(struct rig *rig, enum rig_place place, const char *options)
{
    char spec[400], other[400];
    rig->place = place;
    fixture_start(&rig->f, places[place].profile, 2);
    snprintf(rig->image, sizeof(rig->image), "%s", fixture_image(&rig->f, "disk.img", RIG_IMAGE_SIZE));
    snprintf(spec, sizeof(spec), "virtio-blk,id=disk,path=%s,%s%s", rig->image, places[place].keys, options);
    snprintf(other, sizeof(other), "virtio-blk,id=other,path=%s,%s",
             fixture_image(&rig->f, "other.img", RIG_IMAGE_SIZE), places[place].other_keys);
    /* What these guests do wrong is for the devices to see: test_attack has those who are slowed down for it. */
    if (rig->pair) {
        fixture_run(&rig->f, "--unlimited", "--device", spec, "--device", other, NULL);
    } else {
        fixture_run(&rig->f, "--unlimited", "--device", spec, NULL);
    }
    if (places[place].interrupt == VIRTIO_GSI && !rig_is_pci(place)) {
        mock_gsi_config(rig->f.guest, places[place].line, false, false);
        mock_gsi_config(rig->f.guest, places[place].other_line, false, false);
    }
}

void rig_open(struct rig *rig, enum rig_place place, const char *options)
{
    memset(rig, 0, sizeof(*rig));
    start_daemon(rig, place, options);
    open_driver(rig, &rig->driver, false);
}

void rig_start_disk(struct rig *rig, uint64_t features, unsigned queues, unsigned queue_size)
{
    int result = virtio_blk_start(&rig->blk, &rig->driver, features, queues, queue_size);
    ck_assert_msg(result == 0, "%s: the disk does not start: %s", places[rig->place].name, strerror(-result));
}

void rig_start(struct rig *rig, enum rig_place place, const char *options)
{
    rig_open(rig, place, options);
    rig_start_disk(rig, VIRTIO_BLK_ALL, 1, 0);
}

void rig_start_pair(struct rig *rig, enum rig_place place, const char *options)
{
    memset(rig, 0, sizeof(*rig));
    rig->pair = true;
    start_daemon(rig, place, options);
    open_driver(rig, &rig->driver, false);
    open_driver(rig, &rig->other_driver, true);
    rig_start_disk(rig, VIRTIO_BLK_ALL, 1, 0);
    ck_assert_int_eq(virtio_blk_start(&rig->other, &rig->other_driver, VIRTIO_BLK_ALL, 1, 0), 0);
}

void rig_restart(struct rig *rig)
{
    virtio_blk_finish(&rig->blk);
    rig_start_disk(rig, VIRTIO_BLK_ALL, 1, 0);
}

void rig_stop(struct rig *rig)
{
    rig_expect_daemon_lives(rig);
    virtio_blk_finish(&rig->blk);
    virtio_close(&rig->driver);
    if (rig->pair) {
        virtio_blk_finish(&rig->other);
        virtio_close(&rig->other_driver);
    }
    fixture_stop(&rig->f);
}

void rig_expect_disk_works(struct virtio_blk *blk)
{
    uint8_t bytes[4096], back[4096];
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 256);
    }
    ck_assert_int_eq(virtio_blk_write(blk, 1000, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_read(blk, 1000, back, sizeof(back)), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(bytes, back, sizeof(bytes));
    ck_assert_uint_eq(virtio_status(blk->driver) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}

void rig_expect_daemon_lives(struct rig *rig)
{
    ck_assert_msg(kill(mock_daemon_pid(rig->f.daemon), 0) == 0 &&
                      mock_daemon_wait(rig->f.daemon, 0, NULL) == -ETIMEDOUT,
                  "ioreqd is gone:\n%s", mock_daemon_log(rig->f.daemon));
}

void rig_read_image(struct rig *rig, uint64_t offset, void *to, size_t length)
{
    int fd = open(rig->image, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, to, length, (off_t)offset), (ssize_t)length);
    close(fd);
}

uint64_t rig_memory(struct rig *rig, size_t length, void *at)
{
    uint64_t gpa = virtio_arena_take(&rig->driver.arena, length, 16, at);
    ck_assert_uint_ne(gpa, 0);
    return gpa;
}
