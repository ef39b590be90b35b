/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes as a saved state: what loads must come out the same when it is saved and loaded again. */
#include <string.h>

#include "core/state.h"

#include "fuzz.h"

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

static void save_and_load_again(const struct regs *regs)
{
    struct iod_writer writer;
    struct iod_reader reader;
    struct regs again;
    memset(&again, 0, sizeof(again));
    writer_init(&writer);
    fields_save(fields, regs, &writer);
    FUZZ_CHECK(writer.error == 0);
    FUZZ_CHECK(reader_init(&reader, writer.bytes, writer.length, NULL) == 0);
    FUZZ_CHECK(fields_load(fields, &again, sizeof(again), &reader, NULL) == 0);
    FUZZ_CHECK(memcmp(&again, regs, sizeof(again)) == 0);
    writer_finish(&writer);
}

static void load(struct iod_reader *reader, unsigned depth)
{
    struct iod_error error = {0};
    struct iod_reader nested;
    struct regs regs;
    uint64_t number;
    const void *bytes;
    size_t length;
    memset(&regs, 0, sizeof(regs));
    if (fields_load(fields, &regs, sizeof(regs), reader, &error) == 0) {
        save_and_load_again(&regs);
    } else {
        FUZZ_CHECK(error.code && error.text[0]);
    }
    iod_get_number(reader, "n", &number, 4);
    if (iod_get_bytes(reader, "queue", &bytes, &length) == 0 && length) {
        FUZZ_CHECK(((const uint8_t *)bytes)[length - 1] <= 0xff);
    }
    if (depth < 4 && reader_nested(reader, "queue", &nested, &error) == 0) {
        load(&nested, depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct iod_reader reader;
    struct iod_error error = {0};
    if (reader_init(&reader, bytes, length, &error)) {
        FUZZ_CHECK(error.code && error.text[0] && reader.length == 0);
        return 0;
    }
    load(&reader, 0);
    return 0;
}
