/* SPDX-License-Identifier: BSD-2-Clause */
/* The lines that are compared between Xen and the mock. */
#include "conformance.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void say(const char *name, const char *format, ...)
{
    va_list arguments;

    printf("%s: ", name);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

const char *error_name(int error)
{
    const char *name = strerrorname_np(error);

    return name ? name : "unknown errno";
}

const char *outcome(int status)
{
    return status < 0 ? error_name(errno) : "0";
}

bool applies(const struct context *ctx, unsigned int profiles, const char *name)
{
    if (profiles & 1u << ctx->profile) {
        return true;
    }
    say(name, "n/a");
    return false;
}

/* A guest address is printed by what lies there, so that the RAM base does not show. */
static void print_address(const struct context *ctx, const struct ioreq *request)
{
    uint64_t buffer = ctx->ram + BUFFER_OFFSET;

    if (request->data_is_ptr && request->data >= buffer && request->data < buffer + 16 * GUEST_PAGE) {
        printf(" data buffer+%" PRIx64, request->data - buffer);
    } else {
        printf(" data %" PRIx64, (uint64_t)request->data);
    }
}

void say_run(const struct context *ctx, const char *name, const struct run *run, const char *result)
{
    printf("%s:", name);
    for (unsigned int i = 0; i < run->requests && i < RUN_REQUESTS; i++) {
        const struct ioreq *request = &run->request[i];

        printf(" [type %u %s addr ", request->type, request->dir ? "read" : "write");
        if (request->type == IOREQ_TYPE_COPY && request->addr >= ctx->mmio) {
            printf("mmio+%" PRIx64, (uint64_t)request->addr - ctx->mmio);
        } else {
            printf("%" PRIx64, (uint64_t)request->addr);
        }
        printf(" size %u count %u df %u ptr %u", request->size, request->count, request->df,
               request->data_is_ptr);
        print_address(ctx, request);
        printf("]");
    }
    if (run->requests == 0) {
        printf(" no request");
    }
    if (!run->finished) {
        printf(" stuck");
    } else if (run->aborted) {
        printf(" data abort");
    } else if (result) {
        printf(" %s", result);
    }
    putchar('\n');
    fflush(stdout);
}
