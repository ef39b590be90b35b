/* SPDX-License-Identifier: BSD-2-Clause */
/* The saved form: a flat list of fields {u16 name length, u32 value length, name, value}, little-endian. */
#ifndef CORE_STATE_H
#define CORE_STATE_H

#include <ioreqd/error.h>
#include <ioreqd/state.h>

struct iod_writer {
    uint8_t *bytes;
    size_t length, room;
    int error; /* 0, -ENOMEM or -EINVAL (a name or width that can't be stored), sticky */
};

/* A view of someone's bytes; nothing is copied or freed. */
struct iod_reader {
    const uint8_t *bytes;
    size_t length;
};

void writer_init(struct iod_writer *writer);
void writer_finish(struct iod_writer *writer); /* frees the bytes */
/* A nested list of fields under one name: begin returns a mark for end. */
size_t writer_begin(struct iod_writer *writer, const char *name);
void writer_end(struct iod_writer *writer, size_t mark);

/*
 * Checks that the whole is well formed (bounded, no duplicate names). -EINVAL with *error filled; the reader
 * is empty then.
 */
int reader_init(struct iod_reader *reader, const void *bytes, size_t length, struct iod_error *error);
/* The list under `name`, checked likewise. -ENOENT: not there; *nested is empty then. */
int reader_nested(const struct iod_reader *reader, const char *name, struct iod_reader *nested,
                  struct iod_error *error);

/* All fields of a table, from and to regs. load: unknown names are skipped, missing ones keep what regs hold;
 * a wrong length or a value that `valid` refuses is -EINVAL with *error filled, and regs are then undefined.
 */
void fields_save(const struct iod_field *fields, const void *regs, struct iod_writer *writer);
int fields_load(const struct iod_field *fields, void *regs, size_t regs_size, struct iod_reader *reader,
                struct iod_error *error);

#endif
