/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk for the tests of the block layer: the real core over a fake hypervisor, a device that sends what the
 * test says, an image on a real file system, and a look at what goes to the kernel. Each test is a process of
 * its own.
 */
#ifndef BLOCK_RIG_H
#define BLOCK_RIG_H

#include <ioreqd/block.h>

#include "core/inside.h"
#include "fake_xen.h"

enum { IMAGE = 4 << 20, PART = IMAGE / 16, MAX_REQUESTS = 1024 };

enum fault { FAULT_NONE, FAULT_SHORT, FAULT_UNSUPPORTED, FAULT_BAD_SYNC };

/* What went to the kernel so far, and how it is spoilt from now on. */
struct kernel_watch {
    enum fault fault;
    unsigned durable_writes, writes, syncs, pinned;
};
extern struct kernel_watch kernel;

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

extern const char *const caches[4]; /* the options of the cache modes */
extern const struct iod_module disk_module; /* the class test-disk */
extern struct disk *disks[2]; /* of the guest under test */
extern char directory[64], image[96];

/* Sends a request whose data are pieces of guest memory at `address`; it belongs to the disk. */
struct ticket *submit(struct disk *disk, enum iod_block_op op, unsigned flags, uint64_t offset,
                             uint64_t length, uint64_t address, uint32_t piece);
/* For fake_run_until: the disk has had all its answers. */
bool all_done(void *self);
/* One request on the first disk, to its end: its result. */
int run_one(struct fake_xen *fake, enum iod_block_op op, unsigned flags, uint64_t offset,
                   uint64_t length, uint64_t address);
/* A fixture: a fresh image of IMAGE bytes of words that name their place. */
void make_image(void);
void remove_image(void);
/* The word that make_image puts at this offset. */
uint32_t word_of(uint64_t offset);
/* Behind the backend's back. */
void read_image(uint64_t offset, void *to, size_t length);
/* Fails unless `memory` holds the words of [offset, offset + length). */
void check_words(const uint8_t *memory, uint64_t offset, uint64_t length);
/* Starts a guest whose one disk is `image` with these further options; with or without success. */
struct fake_xen *try_disk(const char *options, struct iod_error *error);
/* The same; fails the test without success. */
struct fake_xen *start_disk(const char *options);

#endif
