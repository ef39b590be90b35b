/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int refuse(const char *path, int error, const char *what, const char *remedy,
                  struct findings *findings)
{
    findings_add(findings, true, path, remedy, "%s", what);
    return -error;
}

/* A regular file only: a FIFO or a terminal could keep us for ever. */
static int open_regular(const char *path, size_t limit, int *fd, struct findings *findings)
{
    struct stat status;
    char remedy[80];
    *fd = -1;
    if (stat(path, &status)) {
        return refuse(path, errno, strerror(errno), NULL, findings);
    }
    if (!S_ISREG(status.st_mode)) { /* not even opened: with some devices that does something */
        return refuse(path, EINVAL, "is not a file", "expected a regular file", findings);
    }
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0 || fstat(*fd, &status)) {
        return refuse(path, errno, strerror(errno), NULL, findings);
    }
    if ((uint64_t)status.st_size > limit) {
        snprintf(remedy, sizeof(remedy), "expected at most %zu bytes", limit);
        return refuse(path, EFBIG, "is too large", remedy, findings);
    }
    if (status.st_mode & S_IWOTH) {
        findings_add(findings, false, path, "chmod o-w", "everyone can write it, and so command ioreqd");
    }
    return 0;
}

/* Up to the end or the limit, whatever its size was said to be (files of /sys and /proc say 0 or 4096). */
static int read_all(int fd, size_t limit, char **bytes, size_t *size)
{
    size_t room = 0;
    for (;;) {
        if (room - *size < 2) {
            room = room ? 2 * room : 65536;
            char *more = realloc(*bytes, room);
            if (!more) {
                return -ENOMEM;
            }
            *bytes = more;
        }
        ssize_t got = read(fd, *bytes + *size, room - *size - 1);
        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got == 0) {
            (*bytes)[*size] = '\0';
            return 0;
        }
        *size += got > 0 ? (size_t)got : 0;
        if (*size > limit) {
            return -EFBIG;
        }
    }
}

char *source_read(const char *path, size_t limit, size_t *size, int *error, struct findings *findings)
{
    int fd;
    char *bytes = NULL;
    *size = 0;
    *error = open_regular(path, limit, &fd, findings);
    if (!*error) {
        *error = read_all(fd, limit, &bytes, size);
        if (*error) {
            findings_add(findings, true, path, NULL, "can't be read: %s", strerror(-*error));
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    if (*error) {
        free(bytes);
        return NULL;
    }
    return bytes;
}

char *source_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *beside = NULL;
    if (name[0] == '/' || !slash) {
        return strdup(name);
    }
    return asprintf(&beside, "%.*s/%s", (int)(slash - path), path, name) < 0 ? NULL : beside;
}
