/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The image behind the block backend "file": opened, locked and measured, which takes as long as its disk or server
 * likes. So a thread does it (opening_begin), and image.c touches nothing but its struct.
 */
#ifndef BACKEND_IMAGE_H
#define BACKEND_IMAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/block.h>
#include <ioreqd/error.h>

struct loop;

enum file_cache { FILE_WRITEBACK, FILE_WRITETHROUGH, FILE_NONE, FILE_UNSAFE };

struct image {
    /* asked */
    char *path;
    bool readonly;
    enum file_cache cache;
    /* found */
    int fd;              /* -1: none; whoever takes it sets it so */
    bool device;         /* a block device */
    bool no_punch;       /* its file system or disk gives no space back */
    bool remote;         /* a server's: whatever is done to it may hang */
    unsigned direct;     /* what direct I/O needs: alignment of offset and length in the file; 0: buffered */
    unsigned memory;     /* and of memory */
    struct iod_block_limits limits; /* capacity, sector, physical, optimal */
    struct iod_error error; /* code 0: all is well */
    char warning[200];   /* or empty */
};

/* Blocks. Fills what is found; given_up: looked at on the way, then the image is left alone. */
void image_open(struct image *image, const atomic_bool *given_up);

struct opening;
/*
 * image_open in a thread; done(self, image) follows on the loop, once. After limit_ns, with ETIMEDOUT: the thread may hang
 * on. The asked part is copied. NULL with *error filled.
 */
struct opening *opening_begin(struct loop *loop, const struct image *asked, uint64_t limit_ns,
                              void (*done)(void *self, struct image *found), void *self, struct iod_error *error);
/* Before done was called: it is soon, with ECANCELED or what has been found. NULL: nothing. */
void opening_give_up(struct opening *opening);
/* Before done was called: it will not be. NULL: nothing. */
void opening_cancel(struct opening *opening);
/*
 * Closes it, now or, where that may hang (what was written goes to a server first), in a thread: then the lock is given up
 * a little later, and image_open has some patience with that.
 */
void image_close(int fd, bool remote);

#endif
