/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `ioreqd --service` over the real xenstored, and a toolstack: what libxl writes for virtio disks and
 * devices, and how it waits (toolstack.md, section 2). Relative paths are dom0's.
 */
#ifndef XENSTORE_RIG_H
#define XENSTORE_RIG_H

#include <xenstore.h>

#include "fixture.h"
#include "virtio_blk_driver.h"
#include "xenstore/mock_xenstore.h"

#define LIBXL_MS 10000 /* how long libxl waits for a state */
#define SOON_MS 8000   /* "at once" (10 to 100 ms), on a very busy machine; less than libxl waits */
#define IMAGE_SIZE (2u << 20)

struct xenstore_rig {
    struct fixture f; /* its mock and its daemon; no guest */
    struct xs_handle *xs;
    bool arm;
    char image[160];
};

/* A mock with xenstored, an image, and a libxenstore connection of ours; the daemon is not started. */
void rig_start(struct xenstore_rig *rig, bool arm);
/* Ends all; checks that the daemon ended well and that the mock saw nothing forbidden. */
void rig_stop(struct xenstore_rig *rig);
/* ioreqd --service MORE... (ends with NULL); waits until it is ready. */
void rig_daemon(struct xenstore_rig *rig, ...) __attribute__((sentinel));
/* SIGTERM (or SIGKILL); it must end with status 0. */
void rig_kill_daemon(struct xenstore_rig *rig);
void rig_end_daemon(struct xenstore_rig *rig);
/* Our connection died with xenstored: another one. */
void rig_reconnect(struct xenstore_rig *rig);
void rig_expect_log(struct xenstore_rig *rig, const char *text);
/* The daemon's xenstore helper; 0: none. */
pid_t rig_helper(struct xenstore_rig *rig);
/* Another image in the mock's directory; its path is the caller's to keep (`size` bytes at `path`). */
void rig_image(struct xenstore_rig *rig, const char *name, char *path, size_t size);

/* A domain as `xl create` makes it, up to its introduction; still paused. */
struct mock_guest *rig_domain(struct xenstore_rig *rig, enum mock_profile profile, const char *name);
/* What libxl does after the devices are gone: the domain dies, its nodes go. */
void rig_destroy_domain(struct xenstore_rig *rig, struct mock_guest *guest);

struct rig_disk {
    unsigned devid; /* 0: of xvde */
    const char *dev, *params, *mode, *base, *irq; /* NULL: "xvde", the image, "w", "0", "0" */
    const char *grant_usage; /* NULL: none, as 4.17 */
};
/* All keys in one transaction, as libxl. */
void rig_disk(struct xenstore_rig *rig, unsigned domid, const struct rig_disk *disk);
void rig_virtio(struct xenstore_rig *rig, unsigned domid, unsigned devid, const char *type, const char *base,
                const char *irq);
/* The begin of a removal: the frontend goes, online=0, state=5. */
void rig_close(struct xenstore_rig *rig, unsigned domid, const char *kind, unsigned devid);
/* The whole of it: state 6 within the time, then the backend's directory goes. */
void rig_remove(struct xenstore_rig *rig, unsigned domid, const char *kind, unsigned devid);
#define XVDE 51776
/* Nobody holds the image any more: the last request has ended. */
void rig_expect_free(const char *image);
const char *rig_state(unsigned domid, const char *kind, unsigned devid); /* the path of its state; static */

void rig_write(struct xenstore_rig *rig, const char *path, const char *value);
void rig_rm(struct xenstore_rig *rig, const char *path);
/* Waits until the node holds the value (NULL: until there is none); fails the test after `ms`. */
void rig_expect(struct xenstore_rig *rig, const char *path, const char *value, int ms);
/* Waits until the node holds a text with this in it. */
void rig_expect_part(struct xenstore_rig *rig, const char *path, const char *part, int ms);
/* It must hold the value for this long. */
void rig_expect_still(struct xenstore_rig *rig, const char *path, const char *value, int ms);

/* A driver for the guest's disk at virtio-pci (base 0) or virtio-mmio, started; compares a few blocks with
 * the image. */
struct rig_driver {
    struct virtio_driver driver;
    struct virtio_blk blk;
};
void rig_drive(struct xenstore_rig *rig, struct rig_driver *driver, struct mock_guest *guest, uint64_t base,
               unsigned irq);
void rig_read(struct rig_driver *driver); /* one block, compared */
void rig_undrive(struct rig_driver *driver);

#endif
