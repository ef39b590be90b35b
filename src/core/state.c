/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/state.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_SIZE = 6, /* u16 name length, u32 value length */
    NAME_MAX_SIZE = 255,
    FIELDS_MAX = 4096, /* of one list: looking for duplicate names costs its square */
};

/* One field, as found in a reader's bytes. */
struct found {
    const char *name;
    size_t name_length;
    const uint8_t *value;
    size_t length;
};

/* ---- writing ---- */

void writer_init(struct iod_writer *writer)
{
    *writer = (struct iod_writer){0};
}

void writer_finish(struct iod_writer *writer)
{
    free(writer->bytes);
    writer_init(writer);
}

/* Appends `length` bytes not yet set and returns where they begin; NULL once the writer has failed. */
static uint8_t *writer_extend(struct iod_writer *writer, size_t length)
{
    if (writer->error) {
        return NULL;
    }
    if (length > writer->room - writer->length) {
        size_t room = writer->room + length + writer->room / 2 + 256;
        uint8_t *bytes = room > length ? realloc(writer->bytes, room) : NULL;
        if (!bytes) {
            writer->error = -ENOMEM;
            return NULL;
        }
        writer->bytes = bytes;
        writer->room = room;
    }
    uint8_t *at = writer->bytes + writer->length;
    writer->length += length;
    return at;
}

static void store_length(uint8_t *at, size_t length)
{
    uint32_t stored = htole32((uint32_t)length);
    memcpy(at, &stored, sizeof(stored));
}

/* Appends a field's header and name and room for its value, which it returns. */
static uint8_t *writer_field(struct iod_writer *writer, const char *name, size_t length)
{
    size_t name_length = strlen(name);
    if (name_length == 0 || name_length > NAME_MAX_SIZE || length > UINT32_MAX) {
        writer->error = writer->error ? writer->error : -EINVAL;
        return NULL;
    }
    uint8_t *at = writer_extend(writer, HEADER_SIZE + name_length + length);
    if (!at) {
        return NULL;
    }
    uint16_t stored = htole16((uint16_t)name_length);
    memcpy(at, &stored, sizeof(stored));
    store_length(at + 2, length);
    memcpy(at + HEADER_SIZE, name, name_length);
    return at + HEADER_SIZE + name_length;
}

/* The mark is where the field's header stands. */
size_t writer_begin(struct iod_writer *writer, const char *name)
{
    size_t mark = writer->length;
    writer_field(writer, name, 0);
    return mark;
}

void writer_end(struct iod_writer *writer, size_t mark)
{
    if (writer->error) {
        return;
    }
    uint16_t name_length;
    memcpy(&name_length, writer->bytes + mark, sizeof(name_length));
    size_t length = writer->length - mark - HEADER_SIZE - le16toh(name_length);
    if (length > UINT32_MAX) {
        writer->error = -EINVAL;
        return;
    }
    store_length(writer->bytes + mark + 2, length);
}

void iod_put(struct iod_writer *writer, const char *name, const void *value, size_t length)
{
    uint8_t *at = writer_field(writer, name, length);
    if (at && length) {
        memcpy(at, value, length);
    }
}

/* Little-endian, whatever the host is. */
static void store_number(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t fetch_number(const uint8_t *at, size_t width)
{
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static bool is_number_width(size_t width)
{
    return width == 1 || width == 2 || width == 4 || width == 8;
}

void iod_put_number(struct iod_writer *writer, const char *name, uint64_t value, size_t width)
{
    if (!is_number_width(width)) {
        writer->error = writer->error ? writer->error : -EINVAL;
        return;
    }
    uint8_t *at = writer_field(writer, name, width);
    if (at) {
        store_number(at, value, width);
    }
}

/* ---- reading ---- */

/*
 * The field that begins at *at, which is moved behind it. False: the bytes end or are malformed. Used on
 * bytes that reader_init has not seen yet, so it trusts nothing.
 */
static bool next_field(const struct iod_reader *reader, size_t *at, struct found *field)
{
    size_t left = reader->length - *at;
    const uint8_t *from = reader->bytes + *at;
    if (left < HEADER_SIZE) {
        return false;
    }
    size_t name_length = (size_t)fetch_number(from, 2);
    size_t length = (size_t)fetch_number(from + 2, 4);
    left -= HEADER_SIZE;
    if (name_length == 0 || name_length > NAME_MAX_SIZE || name_length > left ||
        length > left - name_length) {
        return false;
    }
    *field = (struct found){.name = (const char *)from + HEADER_SIZE,
                            .name_length = name_length,
                            .value = from + HEADER_SIZE + name_length,
                            .length = length};
    *at += HEADER_SIZE + name_length + length;
    return true;
}

static bool find(const struct iod_reader *reader, size_t end, const char *name, size_t name_length,
                 struct found *field)
{
    for (size_t at = 0; at < end && next_field(reader, &at, field);) {
        if (field->name_length == name_length && memcmp(field->name, name, name_length) == 0) {
            return true;
        }
    }
    return false;
}

static bool name_is_printable(const struct found *field)
{
    for (size_t i = 0; i < field->name_length; i++) {
        if (field->name[i] <= ' ' || field->name[i] > '~') {
            return false;
        }
    }
    return true;
}

int reader_init(struct iod_reader *reader, const void *bytes, size_t length, struct iod_error *error)
{
    *reader = (struct iod_reader){.bytes = bytes, .length = length};
    unsigned count = 0;
    int result = 0;
    for (size_t at = 0; at < length && result == 0;) {
        struct found field, twin;
        size_t begin = at;
        if (!next_field(reader, &at, &field)) {
            result =
                iod_fail(error, EINVAL, "saved state: malformed field at byte %zu of %zu", begin, length);
        } else if (!name_is_printable(&field)) {
            result = iod_fail(error, EINVAL, "saved state: unprintable field name at byte %zu", begin);
        } else if (++count > FIELDS_MAX) {
            result = iod_fail(error, EINVAL, "saved state: more than %d fields in one list", FIELDS_MAX);
        } else if (find(reader, begin, field.name, field.name_length, &twin)) {
            result = iod_fail(error, EINVAL, "saved state: field '%.*s' occurs twice", (int)field.name_length,
                              field.name);
        }
    }
    if (result) {
        *reader = (struct iod_reader){0}; /* empty: whoever goes on all the same finds nothing */
    }
    return result;
}

int iod_get_bytes(struct iod_reader *reader, const char *name, const void **value, size_t *length)
{
    struct found field;
    if (!find(reader, reader->length, name, strlen(name), &field)) {
        return -ENOENT;
    }
    *value = field.value;
    *length = field.length;
    return 0;
}

int iod_get(struct iod_reader *reader, const char *name, void *value, size_t length)
{
    const void *found;
    size_t found_length;
    int result = iod_get_bytes(reader, name, &found, &found_length);
    if (result) {
        return result;
    }
    if (found_length != length) {
        return -EINVAL;
    }
    if (length) {
        memcpy(value, found, length);
    }
    return 0;
}

int iod_get_number(struct iod_reader *reader, const char *name, uint64_t *value, size_t width)
{
    uint8_t bytes[8];
    if (!is_number_width(width)) {
        return -EINVAL;
    }
    int result = iod_get(reader, name, bytes, width);
    if (result == 0) {
        *value = fetch_number(bytes, width);
    }
    return result;
}

int reader_nested(const struct iod_reader *reader, const char *name, struct iod_reader *nested,
                  struct iod_error *error)
{
    struct found field;
    *nested = (struct iod_reader){0};
    if (!find(reader, reader->length, name, strlen(name), &field)) {
        return iod_fail(error, ENOENT, "saved state: no field '%s'", name);
    }
    return reader_init(nested, field.value, field.length, error);
}

/* ---- tables of fields ---- */

/* A member of regs in the host's byte order. */
static uint64_t host_number(const uint8_t *at, size_t width)
{
    switch (width) {
    case 1: return *at;
    case 2: {
        uint16_t value;
        memcpy(&value, at, 2);
        return value;
    }
    case 4: {
        uint32_t value;
        memcpy(&value, at, 4);
        return value;
    }
    default: {
        uint64_t value;
        memcpy(&value, at, 8);
        return value;
    }
    }
}

static void set_host_number(uint8_t *at, size_t width, uint64_t number)
{
    switch (width) {
    case 1: *at = (uint8_t)number; break;
    case 2: {
        uint16_t value = (uint16_t)number;
        memcpy(at, &value, 2);
        break;
    }
    case 4: {
        uint32_t value = (uint32_t)number;
        memcpy(at, &value, 4);
        break;
    }
    default: memcpy(at, &number, 8);
    }
}

void fields_save(const struct iod_field *fields, const void *regs, struct iod_writer *writer)
{
    for (const struct iod_field *field = fields; field && field->name; field++) {
        const uint8_t *from = (const uint8_t *)regs + field->offset;
        size_t length = (size_t)field->width * field->count;
        uint8_t *to = writer_field(writer, field->name, length);
        if (to && length && !is_number_width(field->width)) {
            memcpy(to, from, length);
        } else if (to) {
            for (size_t at = 0; at < length; at += field->width) {
                store_number(to + at, host_number(from + at, field->width), field->width);
            }
        }
    }
}

static int field_load(const struct iod_field *field, uint8_t *to, struct iod_reader *reader,
                      struct iod_error *error)
{
    size_t length = (size_t)field->width * field->count;
    const void *value;
    size_t found;
    if (iod_get_bytes(reader, field->name, &value, &found)) {
        return 0; /* written by a version that did not have it: the reset value stays */
    }
    if (found != length) {
        return iod_fail(error, EINVAL, "saved state: field '%s' has %zu bytes; expected %zu", field->name,
                        found, length);
    }
    if (length && !is_number_width(field->width)) {
        memcpy(to, value, length);
    } else {
        for (size_t at = 0; at < length; at += field->width) {
            set_host_number(to + at, field->width, fetch_number((const uint8_t *)value + at, field->width));
        }
    }
    return 0;
}

int fields_load(const struct iod_field *fields, void *regs, size_t regs_size, struct iod_reader *reader,
                struct iod_error *error)
{
    for (const struct iod_field *field = fields; field && field->name; field++) {
        if (field->offset + (size_t)field->width * field->count > regs_size) {
            return iod_fail(error, EINVAL, "field '%s' lies outside of its device's regs", field->name);
        }
        int result = field_load(field, (uint8_t *)regs + field->offset, reader, error);
        if (result) {
            return result;
        }
    }
    for (const struct iod_field *field = fields; field && field->name; field++) {
        if (field->valid && !field->valid(regs)) {
            return iod_fail(error, EINVAL, "saved state: the value of field '%s' is not acceptable",
                            field->name);
        }
    }
    return 0;
}
