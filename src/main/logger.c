/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/logger.h"

#include <inttypes.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A line is shorter than PIPE_BUF, so that a pipe takes it whole. */
#define LINE_SIZE 1024

void logger_init(struct logger *logger)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uintmax_t device, inode;
    struct stat status;

    *logger = (struct logger){0};
    /* The variable may be inherited while stderr went elsewhere. */
    if (stream && sscanf(stream, "%" SCNuMAX ":%" SCNuMAX, &device, &inode) == 2 &&
        !fstat(STDERR_FILENO, &status)) {
        logger->journal = status.st_dev == device && status.st_ino == inode;
    }
}

/* stderr may be a pipe whose reader sleeps; the guests' accesses must not wait for it. */
static bool put(const char *line, size_t length)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&fd, 1, 0) == 1 && write(STDERR_FILENO, line, length) == (ssize_t)length;
}

static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

static bool put_line(const struct logger *logger, enum iod_log_level level, const char *prefix,
                     const char *text)
{
    static const char *const priorities[] = {
        [IOD_LOG_ERROR] = "<3>", [IOD_LOG_WARNING] = "<4>", [IOD_LOG_INFO] = "<6>", [IOD_LOG_DEBUG] = "<7>"};
    char line[LINE_SIZE];
    bool named = prefix && prefix[0];
    const char *begin = logger->journal ? priorities[level] : "ioreqd: ";

    snprintf(line, sizeof(line) - 1, "%s%s%s%s", begin, named ? prefix : "", named ? ": " : "", text);
    make_printable(line);
    size_t length = strlen(line);
    line[length] = '\n';
    return put(line, length + 1);
}

void logger_log(void *self, enum iod_log_level level, const char *prefix, const char *text)
{
    struct logger *logger = self;
    char lost[64];

    if (logger->lost) {
        snprintf(lost, sizeof(lost), "%u lines lost: stderr was full", logger->lost);
        if (put_line(logger, IOD_LOG_WARNING, NULL, lost)) {
            logger->lost = 0;
        }
    }
    if (!put_line(logger, level, prefix, text)) {
        logger->lost++;
    }
}
