/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chardev "file": output to a file. A write to a regular file can block for long (a full page cache, a
 * slow disk), which would stop every guest of the loop; so it goes through the ring: one piece is in the
 * kernel while the next one gathers. When both are full the device waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ioreqd/log.h>

#include "backend/backends.h"
#include "backend/chardev.h"
#include "backend/ring.h"

enum { PIECE = 2048 };

struct char_file {
    struct iod_chardev *chardev;
    struct ring *ring;
    struct ring_client client;
    struct ring_op op;
    int fd;
    uint8_t *pieces[2];  /* made at the first write */
    unsigned filling;    /* index of the piece that gathers */
    size_t filled;       /* bytes in it */
    size_t sending, sent; /* bytes of the other one: in all, and written */
    bool busy;           /* the kernel has the other one */
    bool owed;           /* a writable event */
    bool quiescing, complained;
};

static const struct iod_option file_options[] = {
    { .name = "path",
      .type = IOD_OPTION_STRING,
      .required = true,
      .help = "file to write to; made if missing" },
    { .name = "append", .type = IOD_OPTION_BOOL, .fallback = "on", .help = "off: begin with an empty file" },
    { .name = NULL },
};

static void send_piece(struct char_file *file)
{
    file->busy = true;
    ring_queue(file->ring, &file->client, &file->op, false);
    ring_kick(file->ring);
}

/* Turns the two pieces round, if there is something to send and nothing being sent. */
static void turn(struct char_file *file)
{
    if (file->busy || file->filled == 0) {
        return;
    }
    file->sending = file->filled;
    file->sent = 0;
    file->filling ^= 1;
    file->filled = 0;
    send_piece(file);
}

static void file_prepare(struct ring_op *op, struct io_uring_sqe *sqe)
{
    struct char_file *file = list_entry(op, struct char_file, op);
    const uint8_t *piece = file->pieces[file->filling ^ 1];
    io_uring_prep_write(sqe, file->fd, piece + file->sent, (unsigned)(file->sending - file->sent),
                        (uint64_t)-1);
}

static void file_written(struct ring_op *op, int result)
{
    struct char_file *file = list_entry(op, struct char_file, op);
    file->busy = false;
    if (result > 0) {
        file->sent += (unsigned)result;
    } else if (result != -EAGAIN && result != -EINTR) {
        file->sent = file->sending; /* lost: a log that can't be written must not stop the guest */
        if (!file->complained) {
            file->complained = true;
            iod_log(iod_chardev_device(file->chardev), IOD_LOG_ERROR, "%s: output is lost: %s",
                    iod_option_string(iod_chardev_options(file->chardev), "path"),
                    strerror(result < 0 ? -result : EIO));
        }
    }
    if (file->sent < file->sending) {
        send_piece(file);
        return;
    }
    turn(file);
    if (file->quiescing && !file->busy) {
        file->quiescing = false;
        iod_chardev_done(file->chardev, 0); /* file may be gone after it */
    } else if (file->owed && !file->quiescing) {
        file->owed = false;
        iod_chardev_writable(file->chardev);
    }
}

static int file_open(struct iod_chardev *chardev, struct iod_error *error)
{
    struct char_file *file = iod_chardev_self(chardev);
    const struct iod_options *options = iod_chardev_options(chardev);
    const char *path = iod_option_string(options, "path");
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY |
                (iod_option_bool(options, "append") ? 0 : O_TRUNC);
    file->chardev = chardev;
    file->op.prepare = file_prepare;
    file->op.done = file_written;
    list_init(&file->op.link);
    ring_client_init(&file->client, 1);
    file->fd = open(path, flags | O_NONBLOCK, 0600);
    if (file->fd < 0) {
        return iod_fail(error, errno, "%s: can't be opened for writing: %s", path, strerror(errno));
    }
    fcntl(file->fd, F_SETFL, O_APPEND); /* non-blocking only kept a FIFO from hanging us here */
    struct stat st;
    if (fstat(file->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        /* A reader that does not read could hold a stop up for ever. */
        return iod_fail(error, EINVAL, "%s: is not a regular file (a socket or pty has its own chardev)",
                        path);
    }
    file->ring = daemon_service_get(chardev_daemon(chardev), &ring_service, error);
    if (file->ring == NULL) {
        return -EIO;
    }
    iod_chardev_connected(chardev, 1);
    return 0;
}

static size_t file_write(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    struct char_file *file = iod_chardev_self(chardev);
    if (file->pieces[0] == NULL) {
        file->pieces[0] = malloc(2 * PIECE);
        if (file->pieces[0] == NULL) {
            return count; /* lost, as when the disk is full */
        }
        file->pieces[1] = file->pieces[0] + PIECE;
    }
    size_t room = PIECE - file->filled;
    size_t taken = count < room ? count : room;
    memcpy(file->pieces[file->filling] + file->filled, bytes, taken);
    file->filled += taken;
    turn(file);
    if (taken < count) {
        file->owed = true;
    }
    return taken;
}

static enum iod_when file_quiesce(struct iod_chardev *chardev, enum iod_drain drain)
{
    struct char_file *file = iod_chardev_self(chardev);
    file->owed = false;
    if (!file->busy) {
        return IOD_NOW; /* nothing gathers while nothing is sent */
    }
    if (drain == IOD_CANCEL) {
        file->filled = 0;
    }
    file->quiescing = true;
    return IOD_LATER;
}

static void file_close(struct iod_chardev *chardev)
{
    struct char_file *file = iod_chardev_self(chardev);
    if (file->ring != NULL) {
        daemon_service_put(chardev_daemon(chardev), &ring_service);
    }
    if (file->fd >= 0) {
        close(file->fd);
    }
    free(file->pieces[0]);
}

const struct iod_chardev_class file_chardev_class = {
    .size = sizeof(struct iod_chardev_class),
    .name = "file",
    .summary = "output to a file",
    .self_size = sizeof(struct char_file),
    .options = file_options,
    .open = file_open,
    .write = file_write,
    .quiesce = file_quiesce,
    .close = file_close,
};
