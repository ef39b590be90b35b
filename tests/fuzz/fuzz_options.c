/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes as the text of --device: parsed, then understood by a schema of every type. */
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

#include "fuzz.h"

static const char *const choices[] = {"writeback", "none", "unsafe", NULL};
static const struct iod_option device_schema[] = {
    {.name = "serial", .type = IOD_OPTION_STRING},
    {.name = "queues", .type = IOD_OPTION_NUMBER, .fallback = "1", .min = 1, .max = 16},
    {.name = NULL},
};
static const struct iod_option block_schema[] = {
    {.name = "path", .type = IOD_OPTION_STRING, .required = true},
    {.name = "readonly", .type = IOD_OPTION_BOOL, .fallback = "off"},
    {.name = "cache", .type = IOD_OPTION_CHOICE, .fallback = "none", .choices = choices},
    {.name = "limit", .type = IOD_OPTION_SIZE, .min = 4096},
    {.name = NULL},
};

static void check_error(const struct iod_error *error)
{
    FUZZ_CHECK(error->code > 0);
    FUZZ_CHECK(memchr(error->text, '\0', sizeof(error->text)));
    FUZZ_CHECK(error->text[0] && !strchr(error->text, '\n'));
}

/* What was accepted must keep the schema's promises. */
static void check_values(const struct iod_options *device, const struct iod_options *block)
{
    FUZZ_CHECK(iod_option_number(device, "queues") >= 1 && iod_option_number(device, "queues") <= 16);
    FUZZ_CHECK(iod_option_string(block, "path"));
    FUZZ_CHECK(iod_option_choice(block, "cache") < 3);
    FUZZ_CHECK(!iod_option_given(block, "limit") || iod_option_number(block, "limit") >= 4096);
}

static void understand(struct device_spec *spec)
{
    struct iod_error error = {0};
    struct iod_options *block = NULL;
    struct iod_options *device = options_parse(device_schema, spec->name, spec, "", false, &error);
    if (device) {
        block = options_parse(block_schema, "block backend", spec, "block.", true, &error);
    }
    if (block) {
        const struct iod_option *const schemas[] = {device_schema, block_schema};
        check_values(device, block);
        if (options_check_unused(spec, spec->name, schemas, 2, &error)) {
            check_error(&error);
        }
    } else {
        check_error(&error);
    }
    options_destroy(block);
    options_destroy(device);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    char *text = malloc(length + 1);
    if (!text) {
        return 0;
    }
    if (length) {
        memcpy(text, bytes, length);
    }
    text[length] = '\0';
    struct device_spec spec, copy;
    struct iod_error error = {0};
    if (device_spec_parse(&spec, text, &error) == 0) {
        FUZZ_CHECK(device_spec_copy(&copy, &spec) == 0 && copy.count == spec.count);
        device_spec_finish(&copy);
        understand(&spec);
    } else {
        check_error(&error);
    }
    device_spec_finish(&spec);
    free(text);
    return 0;
}
