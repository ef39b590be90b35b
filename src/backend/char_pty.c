/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The chardev "pty": a pseudo-terminal, its name in the log and, with link=, behind a symbolic link. While
 * nobody has the terminal open its master side only says "hung up", over and over; so it is watched only
 * while somebody has, and inotify tells of the next opener.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <termios.h>
#include <unistd.h>

#include <ioreqd/log.h>
#include <ioreqd/loop.h>

#include "backend/backends.h"
#include "backend/chardev.h"

struct char_pty {
    struct iod_chardev *chardev;
    int master, notify;
    char name[64];
    bool linked;
    bool open; /* somebody has the terminal open */
    struct loop_watch *notify_watch;
    struct stream stream;
};

static const struct iod_option pty_options[] = {
    { .name = "link", .type = IOD_OPTION_STRING, .help = "symbolic link to make to the terminal" },
    { .name = NULL },
};

static void pty_hung_up(void *self)
{
    struct char_pty *pty = self;
    pty->open = false;
    iod_chardev_connected(pty->chardev, 0);
}

static void pty_opened(void *self, unsigned events)
{
    struct char_pty *pty = self;
    char bytes[sizeof(struct inotify_event) + NAME_MAX + 1];
    while (read(pty->notify, bytes, sizeof(bytes)) > 0) {
        continue; /* what matters is that somebody opened it; if he is gone again, the master says so */
    }
    if (!pty->open && stream_open(&pty->stream, pty->chardev, pty->master, pty->master) == 0) {
        pty->open = true;
        iod_chardev_connected(pty->chardev, 1);
    }
}

/* No echo and no line editing: the guest does its own. */
static int set_raw(const char *name)
{
    struct termios settings;
    int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int result = tcgetattr(fd, &settings);
    if (result == 0) {
        cfmakeraw(&settings);
        result = tcsetattr(fd, TCSANOW, &settings);
    }
    result = result == 0 ? 0 : -errno;
    close(fd);
    return result;
}

static int make_terminal(struct char_pty *pty, struct iod_error *error)
{
    pty->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (pty->master < 0 || grantpt(pty->master) != 0 || unlockpt(pty->master) != 0 ||
        ptsname_r(pty->master, pty->name, sizeof(pty->name)) != 0) {
        return iod_fail(error, errno, "pty: can't be made: %s (is devpts mounted?)", strerror(errno));
    }
    int result = set_raw(pty->name);
    if (result != 0) {
        return iod_fail(error, -result, "pty: %s: %s", pty->name, strerror(-result));
    }
    return 0;
}

/* A link left behind is replaced; anything else with that name is not ours to remove. */
static int make_link(struct char_pty *pty, const char *link, struct iod_error *error)
{
    char old[64];
    if (symlink(pty->name, link) != 0) {
        if (errno != EEXIST || readlink(link, old, sizeof(old)) < 0 || unlink(link) != 0 ||
            symlink(pty->name, link) != 0) {
            return iod_fail(error, errno == EINVAL ? EEXIST : errno, "link=%s: can't be made: %s", link,
                            errno == EINVAL ? "there is something else with that name" : strerror(errno));
        }
    }
    pty->linked = true;
    return 0;
}

static int pty_open(struct iod_chardev *chardev, struct iod_error *error)
{
    struct char_pty *pty = iod_chardev_self(chardev);
    const char *link = iod_option_string(iod_chardev_options(chardev), "link");
    struct loop *loop = chardev_loop(chardev);
    pty->chardev = chardev;
    pty->master = pty->notify = -1;
    pty->stream.ended = pty_hung_up;
    pty->stream.self = pty;
    int result = make_terminal(pty, error);
    if (result == 0) {
        pty->notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (pty->notify < 0 || inotify_add_watch(pty->notify, pty->name, IN_OPEN) < 0) {
            return iod_fail(error, errno, "pty: %s can't be watched: %s", pty->name, strerror(errno));
        }
        pty->notify_watch = loop->ops->watch_add(loop, pty->notify, IOD_READABLE, pty_opened, pty);
        result = pty->notify_watch != NULL ? 0 : iod_fail(error, ENOMEM, "pty: out of memory");
    }
    if (result == 0 && link != NULL) {
        result = make_link(pty, link, error);
    }
    if (result == 0) {
        iod_log(iod_chardev_device(chardev), IOD_LOG_INFO, "console at %s", pty->name);
    }
    return result;
}

static size_t pty_write(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    struct char_pty *pty = iod_chardev_self(chardev);
    return pty->open ? stream_write(&pty->stream, bytes, count) : 0;
}

static void pty_accept(struct iod_chardev *chardev)
{
    struct char_pty *pty = iod_chardev_self(chardev);
    stream_accept(&pty->stream);
}

static void pty_close(struct iod_chardev *chardev)
{
    struct char_pty *pty = iod_chardev_self(chardev);
    stream_close(&pty->stream);
    chardev_loop(chardev)->ops->watch_remove(pty->notify_watch);
    if (pty->linked) {
        unlink(iod_option_string(iod_chardev_options(chardev), "link"));
    }
    if (pty->notify >= 0) {
        close(pty->notify);
    }
    if (pty->master >= 0) {
        close(pty->master);
    }
}

const struct iod_chardev_class pty_chardev_class = {
    .size = sizeof(struct iod_chardev_class),
    .name = "pty",
    .summary = "pseudo-terminal",
    .self_size = sizeof(struct char_pty),
    .options = pty_options,
    .open = pty_open,
    .write = pty_write,
    .accept = pty_accept,
    .close = pty_close,
};
