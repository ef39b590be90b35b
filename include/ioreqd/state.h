/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * State that survives: what the guest can see of a device lives in its `regs` (device.h), described field by
 * field by a table; the core saves, loads and shows it from that table. What does not fit a field goes
 * through save and load. Saved form: named, length-prefixed, little-endian fields; an unknown field is
 * skipped, a missing one keeps its reset value.
 */
#ifndef IOREQD_STATE_H
#define IOREQD_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One member, or an array of `count` members of `width` bytes each. Integers only: a hostile state would load
 * values into a bool or an enum that C does not allow there. A table ends with an entry whose name is NULL.
 */
struct iod_field {
    const char *name;      /* stable for ever: it is the saved form's key */
    uint32_t since;        /* version of the class in which it appeared, from 1 */
    uint16_t offset;       /* in regs */
    /* bytes of one element: 1, 2, 4 or 8 are stored little-endian; else copied as bytes */
    uint16_t width;
    uint16_t count;        /* elements */
    /* Optional: after all fields were loaded, is this one acceptable? Loaded values are hostile. */
    bool (*valid)(const void *regs);
};

#define IOD_FIELD(type, member, since_)                                                                      \
    {                                                                                                        \
        .name = #member, .since = (since_), .offset = offsetof(type, member),                                \
        .width = sizeof(((type *)0)->member), .count = 1                                                     \
    }
#define IOD_FIELD_ARRAY(type, member, since_)                                                                \
    {                                                                                                        \
        .name = #member, .since = (since_), .offset = offsetof(type, member),                                \
        .width = sizeof(((type *)0)->member[0]),                                                             \
        .count = sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0])                                \
    }
/* A field that load accepts only if valid_(regs) says so. */
#define IOD_FIELD_CHECKED(type, member, since_, valid_)                                                      \
    {                                                                                                        \
        .name = #member, .since = (since_), .offset = offsetof(type, member),                                \
        .width = sizeof(((type *)0)->member), .count = 1, .valid = (valid_)                                  \
    }

struct iod_writer;
struct iod_reader;

/*
 * Appends one field as it is. An allocation failure is kept in the writer and reported by the core at the
 * end.
 */
void iod_put(struct iod_writer *writer, const char *name, const void *value, size_t length);
/* Appends a number of `width` (1, 2, 4, 8) bytes, little-endian. */
void iod_put_number(struct iod_writer *writer, const char *name, uint64_t value, size_t width);

/*
 * Copies the field `name` of exactly `length` bytes. -ENOENT: not there (keep the default); -EINVAL: other
 * length.
 */
int iod_get(struct iod_reader *reader, const char *name, void *value, size_t length);
/* The same for a number of `width` bytes. */
int iod_get_number(struct iod_reader *reader, const char *name, uint64_t *value, size_t width);
/* A view of the field in the reader's memory, for what has no fixed length. -ENOENT as above. */
int iod_get_bytes(struct iod_reader *reader, const char *name, const void **value, size_t *length);

#endif
