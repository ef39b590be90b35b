/* SPDX-License-Identifier: BSD-2-Clause */
#include <ioreqd/error.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The text may quote configuration or saved state; it must stay one line that no terminal interprets. */
static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

int iod_fail(struct iod_error *error, int code, const char *format, ...)
{
    if (!error) {
        return -code;
    }
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    if (length < 0) {
        error->text[0] = '\0';
    } else if ((size_t)length >= sizeof(error->text)) {
        memcpy(error->text + sizeof(error->text) - 4, "...", 4);
    }
    make_printable(error->text);
    error->code = code;
    return -code;
}
