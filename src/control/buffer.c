/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include "control/inside.h"

bool buffer_add(struct buffer *buffer, const char *bytes, size_t length, size_t limit)
{
    size_t size = buffer->size ? buffer->size : 4096;

    if (length > limit || buffer->length > limit - length) {
        return false;
    }
    while (size < buffer->length + length) {
        size *= 2;
    }
    if (size != buffer->size) {
        char *larger = realloc(buffer->bytes, size);
        if (!larger) {
            return false;
        }
        buffer->bytes = larger;
        buffer->size = size;
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
    return true;
}

void buffer_drop(struct buffer *buffer, size_t length)
{
    if (length >= buffer->length) {
        buffer_free(buffer); /* an idle client holds none */
    } else if (length) {
        buffer->length -= length;
        memmove(buffer->bytes, buffer->bytes + length, buffer->length);
    }
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}
