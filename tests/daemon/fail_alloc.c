/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A preload that lets the Nth allocation of the process fail once ($FAIL_ALLOC=N), whoever asks for it but the dynamic
 * loader and the C library's start. $FAIL_ALLOC_REPORT names a file that is made when it fired.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned long count, target;
static const char *report;

static void *(*real(const char *name))(size_t, size_t)
{
    return (void *(*)(size_t, size_t))(uintptr_t)dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("FAIL_ALLOC");
    report = getenv("FAIL_ALLOC_REPORT");
    target = text ? strtoul(text, NULL, 10) : 0;
}

static int fails(void)
{
    if (!target || ++count != target) {
        return 0;
    }
    int fd = report ? open(report, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        close(fd);
    }
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    static void *(*next)(size_t);
    if (!next) {
        next = (void *(*)(size_t))(uintptr_t)real("malloc");
    }
    return fails() ? NULL : next(size);
}

void *realloc(void *at, size_t size)
{
    static void *(*next)(void *, size_t);
    if (!next) {
        next = (void *(*)(void *, size_t))(uintptr_t)real("realloc");
    }
    return fails() ? NULL : next(at, size);
}

/* dlsym itself calls calloc: until it has answered, memory comes from here (and is never given back). */
void *calloc(size_t number, size_t size)
{
    static void *(*next)(size_t, size_t);
    static char early[4096];
    static size_t used;
    static int asking;
    if (!next) {
        if (asking) {
            size_t bytes = (number * size + 15) & ~(size_t)15;
            if (used + bytes > sizeof(early)) {
                return NULL;
            }
            used += bytes;
            return early + used - bytes;
        }
        asking = 1;
        next = real("calloc");
    }
    return fails() ? NULL : next(number, size);
}
