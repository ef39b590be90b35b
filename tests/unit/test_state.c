/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>

#include "core/state.h"

#include "unit.h"

struct regs {
    uint8_t lcr;
    uint16_t divisor;
    uint32_t status;
    uint64_t deadline;
    uint16_t table[4];
    uint8_t fifo[16];
    uint8_t odd[3];
};

static bool lcr_is_good(const void *regs)
{
    return ((const struct regs *)regs)->lcr < 0x80;
}

static const struct iod_field fields[] = {
    IOD_FIELD_CHECKED(struct regs, lcr, 1, lcr_is_good),
    IOD_FIELD(struct regs, divisor, 1),
    IOD_FIELD(struct regs, status, 1),
    IOD_FIELD(struct regs, deadline, 2),
    IOD_FIELD_ARRAY(struct regs, table, 1),
    IOD_FIELD_ARRAY(struct regs, fifo, 1),
    IOD_FIELD(struct regs, odd, 1),
    {.name = NULL},
};

static const struct regs sample = {
    .lcr = 3,
    .divisor = 0x1234,
    .status = 0x89abcdef,
    .deadline = 0x0102030405060708,
    .table = {1, 2, 0xfffe, 4},
    .fifo = "hello, world",
    .odd = {7, 8, 9},
};

START_TEST(round_trip)
{
    struct iod_writer writer;
    struct iod_reader reader;
    struct regs regs = {0};
    writer_init(&writer);
    fields_save(fields, &sample, &writer);
    ck_assert_int_eq(writer.error, 0);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, NULL), 0);
    ck_assert_int_eq(fields_load(fields, &regs, sizeof(regs), &reader, NULL), 0);
    ck_assert_mem_eq(&regs, &sample, sizeof(regs));
    writer_finish(&writer);
    ck_assert_ptr_null(writer.bytes);
}
END_TEST

START_TEST(bytes_are_as_written_down)
{
    struct iod_writer writer;
    writer_init(&writer);
    size_t mark = writer_begin(&writer, "q");
    iod_put_number(&writer, "n", 0x1234, 4);
    iod_put(&writer, "e", "", 0);
    writer_end(&writer, mark);
    static const uint8_t expected[] = {1,   0,    18,   0, 0, 0, 'q', 1, 0, 4, 0, 0,  0,
                                       'n', 0x34, 0x12, 0, 0, 1, 0,   0, 0, 0, 0, 'e'};
    ck_assert_int_eq(writer.error, 0);
    ck_assert_uint_eq(writer.length, sizeof(expected));
    ck_assert_mem_eq(writer.bytes, expected, sizeof(expected));
    writer_finish(&writer);
}
END_TEST

START_TEST(nested_lists)
{
    struct iod_writer writer;
    struct iod_reader reader, device, queue;
    uint64_t value;
    writer_init(&writer);
    size_t outer = writer_begin(&writer, "device");
    iod_put_number(&writer, "a", 1, 1);
    size_t inner = writer_begin(&writer, "queue");
    iod_put_number(&writer, "a", 2, 8);
    writer_end(&writer, inner);
    iod_put_number(&writer, "b", 3, 2);
    writer_end(&writer, outer);
    iod_put_number(&writer, "a", 4, 4);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, NULL), 0);
    ck_assert_int_eq(reader_nested(&reader, "device", &device, NULL), 0);
    ck_assert_int_eq(reader_nested(&device, "queue", &queue, NULL), 0);
    ck_assert_int_eq(reader_nested(&reader, "queue", &queue, NULL), -ENOENT);
    ck_assert_int_eq(iod_get_number(&queue, "a", &value, 8), -ENOENT); /* the failed call emptied it */
    ck_assert_int_eq(reader_nested(&device, "queue", &queue, NULL), 0);
    ck_assert_int_eq(iod_get_number(&queue, "a", &value, 8), 0);
    ck_assert_uint_eq(value, 2);
    ck_assert_int_eq(iod_get_number(&device, "a", &value, 1), 0);
    ck_assert_uint_eq(value, 1);
    ck_assert_int_eq(iod_get_number(&device, "b", &value, 2), 0);
    ck_assert_uint_eq(value, 3);
    ck_assert_int_eq(iod_get_number(&reader, "a", &value, 4), 0);
    ck_assert_uint_eq(value, 4);
    ck_assert_int_eq(iod_get_number(&reader, "b", &value, 2), -ENOENT);
    writer_finish(&writer);
}
END_TEST

START_TEST(getters)
{
    struct iod_writer writer;
    struct iod_reader reader;
    char text[4];
    const void *bytes;
    size_t length;
    uint64_t value = 9;
    writer_init(&writer);
    iod_put(&writer, "text", "abc", 4);
    iod_put_number(&writer, "textual", UINT64_MAX, 8);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, NULL), 0);
    ck_assert_int_eq(iod_get(&reader, "text", text, 4), 0);
    ck_assert_str_eq(text, "abc");
    ck_assert_int_eq(iod_get(&reader, "text", text, 3), -EINVAL);
    ck_assert_int_eq(iod_get(&reader, "tex", text, 4), -ENOENT);
    ck_assert_int_eq(iod_get_bytes(&reader, "text", &bytes, &length), 0);
    ck_assert_uint_eq(length, 4);
    ck_assert_int_eq(iod_get_number(&reader, "textual", &value, 4), -EINVAL);
    ck_assert_int_eq(iod_get_number(&reader, "text", &value, 3), -EINVAL);
    ck_assert_uint_eq(value, 9);
    ck_assert_int_eq(iod_get_number(&reader, "textual", &value, 8), 0);
    ck_assert_uint_eq(value, UINT64_MAX);
    writer_finish(&writer);
}
END_TEST

START_TEST(what_is_missing_stays_and_what_is_unknown_is_skipped)
{
    struct iod_writer writer;
    struct iod_reader reader;
    struct regs regs = sample;
    writer_init(&writer);
    iod_put_number(&writer, "from_the_future", 1, 8);
    iod_put_number(&writer, "divisor", 0x4321, 2);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, NULL), 0);
    ck_assert_int_eq(fields_load(fields, &regs, sizeof(regs), &reader, NULL), 0);
    ck_assert_uint_eq(regs.divisor, 0x4321);
    ck_assert_uint_eq(regs.deadline, sample.deadline);
    ck_assert_uint_eq(regs.lcr, sample.lcr);
    writer_finish(&writer);
}
END_TEST

START_TEST(loads_refuse)
{
    struct iod_writer writer;
    struct iod_reader reader;
    struct iod_error error = {0};
    struct regs regs = {0};
    writer_init(&writer);
    iod_put_number(&writer, "status", 1, 8);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, NULL), 0);
    ck_assert_int_eq(fields_load(fields, &regs, sizeof(regs), &reader, &error), -EINVAL);
    ck_says(error, "field 'status' has 8 bytes; expected 4");
    writer_finish(&writer);

    iod_put_number(&writer, "lcr", 0x80, 1);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, NULL), 0);
    ck_assert_int_eq(fields_load(fields, &regs, sizeof(regs), &reader, &error), -EINVAL);
    ck_says(error, "field 'lcr' is not acceptable");
    ck_assert_int_eq(fields_load(fields, &regs, 8, &reader, &error), -EINVAL);
    ck_says(error, "outside of its device's regs");
    writer_finish(&writer);
}
END_TEST

static const struct {
    const char *bytes;
    size_t length;
    const char *says;
} hostile[] = {
    {"\1", 1, "malformed field at byte 0 of 1"},
    {"\1\0\0\0\0", 5, "malformed field at byte 0"},
    {"\1\0\0\0\0\0", 6, "malformed field at byte 0"},
    {"\0\0\0\0\0\0", 6, "malformed field at byte 0"},
    {"\2\0\0\0\0\0a", 7, "malformed field at byte 0"},
    {"\1\0\1\0\0\0a", 7, "malformed field at byte 0"},
    {"\1\0\xff\xff\xff\xff"
     "abc",
     9, "malformed field at byte 0"},
    {"\xff\xff\xff\xff\xff\xff"
     "abc",
     9, "malformed field at byte 0"},
    {"\1\0\0\0\0\0a\1\0\0\0\0\0a", 14, "field 'a' occurs twice"},
    {"\1\0\0\0\0\0\n", 7, "unprintable field name at byte 0"},
    {"\1\0\0\0\0\0a\1\0\0\0\0\0\xc3", 14, "unprintable field name at byte 7"},
    {"\1\0\0\0\0\0a\0", 8, "malformed field at byte 7 of 8"},
};

START_TEST(reader_refuses)
{
    struct iod_reader reader;
    struct iod_error error = {0};
    uint64_t value;
    /* A copy of exactly the length, so that the sanitizer sees a byte read behind it. */
    char *copy = malloc(hostile[_i].length);
    memcpy(copy, hostile[_i].bytes, hostile[_i].length);
    ck_assert_int_eq(reader_init(&reader, copy, hostile[_i].length, &error), -EINVAL);
    ck_says(error, hostile[_i].says);
    ck_assert_int_eq(iod_get_number(&reader, "a", &value, 1), -ENOENT);
    free(copy);
}
END_TEST

START_TEST(fields_are_bounded)
{
    struct iod_writer writer;
    struct iod_reader reader;
    struct iod_error error = {0};
    char name[16];
    writer_init(&writer);
    for (unsigned i = 0; i < 4096; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        iod_put(&writer, name, NULL, 0);
    }
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, &error), 0);
    iod_put(&writer, "one-more", NULL, 0);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, &error), -EINVAL);
    ck_says(error, "more than 4096 fields");
    writer_finish(&writer);
}
END_TEST

START_TEST(writer_keeps_its_error)
{
    struct iod_writer writer;
    writer_init(&writer);
    iod_put_number(&writer, "fine", 1, 1);
    size_t length = writer.length;
    iod_put_number(&writer, "three", 1, 3);
    ck_assert_int_eq(writer.error, -EINVAL);
    size_t mark = writer_begin(&writer, "list");
    iod_put(&writer, "more", "x", 1);
    writer_end(&writer, mark);
    ck_assert_int_eq(writer.error, -EINVAL);
    ck_assert_uint_eq(writer.length, length);
    writer_finish(&writer);

    iod_put(&writer, "", "x", 1);
    ck_assert_int_eq(writer.error, -EINVAL);
    writer_finish(&writer);
    static const char nothing;
    iod_put(&writer, "huge", &nothing, SIZE_MAX / 4);
    ck_assert_int_ne(writer.error, 0);
    writer_finish(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state");
    TCase *tests = tcase_create("state");
    tcase_add_test(tests, round_trip);
    tcase_add_test(tests, bytes_are_as_written_down);
    tcase_add_test(tests, nested_lists);
    tcase_add_test(tests, getters);
    tcase_add_test(tests, what_is_missing_stays_and_what_is_unknown_is_skipped);
    tcase_add_test(tests, loads_refuse);
    tcase_add_loop_test(tests, reader_refuses, 0, sizeof(hostile) / sizeof(hostile[0]));
    tcase_add_test(tests, fields_are_bounded);
    tcase_add_test(tests, writer_keeps_its_error);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
