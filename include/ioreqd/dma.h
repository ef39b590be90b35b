/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The only ways to guest memory. Addresses are what the guest's driver uses for DMA; the core knows what they
 * mean. A page that is not there is an error (-EFAULT), never a fault. DMA never reaches a region. All of
 * this works while the device runs and until its quiesce is done; before start, and while it is stopped,
 * everything is -EFAULT.
 */
#ifndef IOREQD_DMA_H
#define IOREQD_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct iod_device;
struct iod_mapping;
struct iod_window;

enum iod_dma_dir { IOD_FROM_GUEST, IOD_TO_GUEST };

struct iod_extent {
    uint64_t address;
    uint32_t length; /* bytes */
};

/* One copy. 0 or -EFAULT; a failed write may have written a part. */
int iod_dma_read(struct iod_device *device, uint64_t address, void *to, size_t length);
int iod_dma_write(struct iod_device *device, uint64_t address, const void *from, size_t length);

/*
 * Maps the extents for one I/O, all or nothing. IOD_TO_GUEST: the I/O will write guest memory. The mapping is
 * given back by iod_mapping_put, at the latest when the device is quiesced. -EFAULT, -ENOMEM, -E2BIG (over
 * IOD_MAP_MAX pieces or bytes).
 */
#define IOD_MAP_MAX_PIECES 1024
int iod_dma_map(struct iod_device *device, const struct iod_extent *extents, unsigned count,
                enum iod_dma_dir dir, struct iod_mapping **mapping);
/* The pieces in order; they stay the mapping's. */
const struct iovec *iod_mapping_iov(const struct iod_mapping *mapping, unsigned *count);
size_t iod_mapping_length(const struct iod_mapping *mapping); /* bytes in all */
/*
 * May the kernel pin it (direct I/O, registered buffers)? A foreign mapping never, so such I/O must be
 * bounced.
 */
bool iod_mapping_pinnable(const struct iod_mapping *mapping);
/*
 * Gives it back; `written` bytes from its start were written (0 for IOD_FROM_GUEST): the dirty log needs to
 * know.
 */
void iod_mapping_put(struct iod_mapping *mapping, size_t written);

/*
 * A long-held view, for rings. Stays open over a quiesce but holds nothing mapped then; maps again by itself
 * when the guest's memory map changed. Reads and writes of naturally aligned 1, 2, 4 and 8 bytes are single
 * loads and stores. NULL: out of memory. Closing NULL is fine.
 */
struct iod_window *iod_window_open(struct iod_device *device, uint64_t address, size_t length);
/* 0 or -EFAULT */
int iod_window_read(struct iod_window *window, size_t offset, void *to, size_t length);
/* 0 or -EFAULT */
int iod_window_write(struct iod_window *window, size_t offset, const void *from, size_t length);
void iod_window_close(struct iod_window *window);

#endif
