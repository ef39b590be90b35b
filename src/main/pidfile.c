/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define TRIES_MAX 10

static int failed(int fd, const char *path, struct iod_error *error)
{
    int code = errno;

    if (fd >= 0) {
        close(fd);
    }
    return iod_fail(error, code, "--pidfile %.200s: %s", path, strerror(code));
}

/* An ending holder may have removed the file between our open and our lock: nobody would see that lock. */
static bool is_there(const char *path, int fd)
{
    struct stat held, named;

    return !fstat(fd, &held) && !lstat(path, &named) && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

static int lock_file(const char *path, struct iod_error *error)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

    if (fd < 0) {
        return failed(fd, path, error);
    }
    if (fcntl(fd, F_SETLK, &lock)) {
        if (errno == EAGAIN || errno == EACCES) {
            fcntl(fd, F_GETLK, &lock);
            close(fd);
            return iod_fail(error, EAGAIN, "--pidfile %.200s: process %ld holds it: end that one first", path,
                            (long)lock.l_pid);
        }
        return failed(fd, path, error);
    }
    return fd;
}

int pidfile_lock(const char *path, struct iod_error *error)
{
    int fd = lock_file(path, error);

    for (unsigned tries = 1; fd >= 0 && !is_there(path, fd); tries++) {
        close(fd);
        fd = tries < TRIES_MAX
                 ? lock_file(path, error)
                 : iod_fail(error, EAGAIN, "--pidfile %.200s: it is removed again and again", path);
    }
    if (fd < 0) {
        return fd;
    }
    if (ftruncate(fd, 0) || dprintf(fd, "%ld\n", (long)getpid()) < 0) {
        return failed(fd, path, error);
    }
    return fd;
}

void pidfile_remove(const char *path, int fd)
{
    if (fd >= 0) {
        unlink(path); /* before the lock goes: a successor's file is not ours to remove */
        close(fd);
    }
}
