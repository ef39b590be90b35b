/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Byte streams: pty, socket, file, stdio. A device asks for one in create by iod_chardev_attach; options
 * `chardev=CLASS,chardev.KEY=...` choose and set it.
 */
#ifndef IOREQD_CHARDEV_H
#define IOREQD_CHARDEV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <ioreqd/device.h>

struct iod_chardev;

/*
 * What a device hears. New members come at the end only. Called on the loop, never inside a call of the
 * device's.
 */
struct iod_chardev_events {
    size_t size;
    /* Required. Bytes came; never more than the device accepts (iod_chardev_accept). */
    void (*receive)(void *self, const uint8_t *bytes, size_t count);
    /* Optional. After a short write: there is room again. */
    void (*writable)(void *self);
    /* Optional. A peer came (1) or went (0). A stream without peers tells 1 once, after open. */
    void (*connected)(void *self, int connected);
};

/* A backend. New members come at the end only. */
struct iod_chardev_class {
    size_t size;
    const char *name, *summary;
    size_t self_size;
    const struct iod_option *options;
    /* Required. Once. 0 or a negative errno with *error filled. */
    int (*open)(struct iod_chardev *chardev, struct iod_error *error);
    /*
     * Required. Takes up to count bytes and returns how many (0: full or no peer; a writable event follows).
     */
    size_t (*write)(struct iod_chardev *chardev, const uint8_t *bytes, size_t count);
    /* Optional. The device's limit rose from 0: read from the host again. */
    void (*accept)(struct iod_chardev *chardev);
    /*
     * Optional; may finish later (iod_chardev_done): all that write took has gone to the host, or (cancel) is
     * dropped.
     */
    enum iod_when (*quiesce)(struct iod_chardev *chardev, enum iod_drain drain);
    /* Optional. Also after a failed open. */
    void (*close)(struct iod_chardev *chardev);
};

/*
 * For devices. `fallback`: the class when the user names none (NULL: a null device that swallows and never
 * sends).
 */
struct iod_chardev *iod_chardev_attach(struct iod_device *device, const char *key, const char *fallback,
                                       const struct iod_chardev_events *events, void *self,
                                       struct iod_error *error);
size_t iod_chardev_write(struct iod_chardev *chardev, const uint8_t *bytes, size_t count);
/*
 * How many bytes the device can take now (replaces the earlier number; each receive lowers it). Starts at 0,
 * and a quiesce takes it back to 0: say it again in start.
 */
void iod_chardev_accept(struct iod_chardev *chardev, size_t count);

/* For backends. */
void *iod_chardev_self(const struct iod_chardev *chardev);
struct iod_device *iod_chardev_device(const struct iod_chardev *chardev);
const struct iod_options *iod_chardev_options(const struct iod_chardev *chardev);
size_t iod_chardev_accepts(const struct iod_chardev *chardev); /* bytes the device can take now */
/* count <= accepts */
void iod_chardev_receive(struct iod_chardev *chardev, const uint8_t *bytes, size_t count);
void iod_chardev_writable(struct iod_chardev *chardev);
void iod_chardev_connected(struct iod_chardev *chardev, int connected);
void iod_chardev_done(struct iod_chardev *chardev, int error); /* ends a quiesce that answered "later" */

#endif
