/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include "core/options.h"

#include "unit.h"

static const char *const caches[] = {"writeback", "writethrough", "none", NULL};
static const struct iod_option disk[] = {
    {.name = "serial", .type = IOD_OPTION_STRING, .help = "what get-id answers"},
    {.name = "queues", .type = IOD_OPTION_NUMBER, .fallback = "1", .min = 1, .max = 16},
    {.name = "seed", .type = IOD_OPTION_NUMBER},
    {.name = NULL},
};
static const struct iod_option file[] = {
    {.name = "path", .type = IOD_OPTION_STRING, .required = true, .help = "image or block device"},
    {.name = "readonly", .type = IOD_OPTION_BOOL, .fallback = "off"},
    {.name = "cache", .type = IOD_OPTION_CHOICE, .fallback = "none", .choices = caches},
    {.name = "limit", .type = IOD_OPTION_SIZE, .fallback = "4M", .min = 4096},
    {.name = NULL},
};

static void parse(struct device_spec *spec, const char *text)
{
    struct iod_error error = {0};
    ck_assert_msg(device_spec_parse(spec, text, &error) == 0, "%s", error.text);
}

START_TEST(numbers)
{
    uint64_t value = 5;
    ck_assert_int_eq(option_parse_number("0", &value), 0);
    ck_assert_uint_eq(value, 0);
    ck_assert_int_eq(option_parse_number("0x3f8", &value), 0);
    ck_assert_uint_eq(value, 0x3f8);
    ck_assert_int_eq(option_parse_number("010", &value), 0);
    ck_assert_uint_eq(value, 8);
    ck_assert_int_eq(option_parse_number("18446744073709551615", &value), 0);
    ck_assert_uint_eq(value, UINT64_MAX);
    ck_assert_int_eq(option_parse_number("18446744073709551616", &value), -ERANGE);
    static const char *const wrong[] = {"", "-1", "+1", " 1", "1 ", "1x", "0x", "08", "x", "1K", "1.5"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_msg(option_parse_number(wrong[i], &value) == -EINVAL, "%s", wrong[i]);
    }
    ck_assert_uint_eq(value, UINT64_MAX); /* an error leaves it alone */
}
END_TEST

START_TEST(sizes)
{
    uint64_t value;
    ck_assert_int_eq(option_parse_size("512", &value), 0);
    ck_assert_uint_eq(value, 512);
    ck_assert_int_eq(option_parse_size("3k", &value), 0);
    ck_assert_uint_eq(value, 3072);
    ck_assert_int_eq(option_parse_size("0x10M", &value), 0);
    ck_assert_uint_eq(value, 16u << 20);
    ck_assert_int_eq(option_parse_size("2G", &value), 0);
    ck_assert_uint_eq(value, 2ull << 30);
    ck_assert_int_eq(option_parse_size("16777215T", &value), 0);
    ck_assert_uint_eq(value, 16777215ull << 40);
    ck_assert_int_eq(option_parse_size("16777216T", &value), -ERANGE);
    static const char *const wrong[] = {"", "K", "1KB", "1P", "1 K", "-1K", "1,5M"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_msg(option_parse_size(wrong[i], &value) == -EINVAL, "%s", wrong[i]);
    }
}
END_TEST

START_TEST(bools)
{
    static const char *const words[] = {"on", "off", "yes", "no", "true", "false", "1", "0"};
    for (unsigned i = 0; i < 8; i++) {
        bool value = i % 2;
        ck_assert_int_eq(option_parse_bool(words[i], &value), 0);
        ck_assert_int_eq(value, i % 2 == 0);
    }
    bool value;
    ck_assert_int_eq(option_parse_bool("", &value), -EINVAL);
    ck_assert_int_eq(option_parse_bool("On", &value), -EINVAL);
    ck_assert_int_eq(option_parse_bool("2", &value), -EINVAL);
}
END_TEST

START_TEST(defaults)
{
    struct device_spec spec;
    parse(&spec, "virtio-blk,path=a.img");
    struct iod_options *options = options_parse(file, "block backend file", &spec, "block.", true, NULL);
    ck_assert_ptr_nonnull(options);
    ck_assert_str_eq(iod_option_string(options, "path"), "a.img");
    ck_assert(iod_option_given(options, "path"));
    ck_assert(!iod_option_bool(options, "readonly"));
    ck_assert(!iod_option_given(options, "readonly"));
    ck_assert_uint_eq(iod_option_choice(options, "cache"), 2);
    ck_assert_uint_eq(iod_option_number(options, "limit"), 4u << 20);
    options_destroy(options);
    options = options_parse(disk, "virtio-blk", &spec, "", false, NULL);
    ck_assert_ptr_nonnull(options);
    ck_assert_ptr_null(iod_option_string(options, "serial"));
    ck_assert_uint_eq(iod_option_number(options, "seed"), 0);
    ck_assert_uint_eq(iod_option_number(options, "queues"), 1);
    options_destroy(options);
    device_spec_finish(&spec);
}
END_TEST

START_TEST(wrong_name_or_type_yields_nothing)
{
    struct device_spec spec;
    parse(&spec, "virtio-blk,path=a.img,readonly=on,cache=writethrough");
    struct iod_options *options = options_parse(file, "file", &spec, "", false, NULL);
    ck_assert_uint_eq(iod_option_number(options, "path"), 0);
    ck_assert_ptr_null(iod_option_string(options, "cache"));
    ck_assert_ptr_null(iod_option_string(options, "nothing"));
    ck_assert(!iod_option_bool(options, "cache"));
    ck_assert_uint_eq(iod_option_choice(options, "readonly"), 0);
    ck_assert(!iod_option_given(options, "nothing"));
    ck_assert_ptr_null(iod_option_string(NULL, "path"));
    options_destroy(options);
    options_destroy(NULL);
    device_spec_finish(&spec);
}
END_TEST

START_TEST(prefix_and_bare)
{
    struct device_spec spec;
    parse(&spec, "virtio-blk,block.path=p,readonly=on,serial=S,block.serial=T");
    struct iod_options *own = options_parse(disk, "virtio-blk", &spec, "", false, NULL);
    ck_assert_str_eq(iod_option_string(own, "serial"), "S");
    struct iod_options *block = options_parse(file, "file", &spec, "block.", true, NULL);
    ck_assert_str_eq(iod_option_string(block, "path"), "p");
    ck_assert(iod_option_bool(block, "readonly"));
    struct iod_error error = {0};
    const struct iod_option *const schemas[] = {disk, file};
    ck_assert_int_eq(options_check_unused(&spec, "virtio-blk", schemas, 2, &error), -EINVAL);
    ck_says(error, "'block.serial'"); /* serial= is the device's, so nobody took this one */
    options_destroy(own);
    options_destroy(block);
    device_spec_finish(&spec);

    parse(&spec, "virtio-blk,path=p");
    ck_assert_ptr_null(options_parse(file, "file", &spec, "block.", false, &error));
    ck_says(error, "file: block.path= is missing (image or block device)");
    device_spec_finish(&spec);
}
END_TEST

START_TEST(bare_key_belongs_to_the_first_taker)
{
    struct device_spec spec;
    parse(&spec, "d,path=p");
    struct iod_options *first = options_parse(file, "first", &spec, "a.", true, NULL);
    ck_assert_ptr_nonnull(first);
    struct iod_error error = {0};
    ck_assert_ptr_null(options_parse(file, "second", &spec, "b.", true, &error));
    ck_says(error, "second: b.path= is missing");
    options_destroy(first);
    device_spec_finish(&spec);
}
END_TEST

START_TEST(no_schema)
{
    struct device_spec spec;
    struct iod_error error = {0};
    parse(&spec, "d,x=1");
    struct iod_options *options = options_parse(NULL, "d", &spec, "", false, &error);
    ck_assert_ptr_nonnull(options);
    ck_assert_ptr_null(iod_option_string(options, "x"));
    const struct iod_option *const schemas[] = {NULL};
    ck_assert_int_eq(options_check_unused(&spec, "d", schemas, 1, &error), -EINVAL);
    options_destroy(options);
    device_spec_finish(&spec);
}
END_TEST

static const struct {
    const char *text, *says;
} bad[] = {
    {"d,path=p,queues=0", "virtio-blk: queues=0: expected 1 to 16"},
    {"d,path=p,queues=17", "virtio-blk: queues=17: expected 1 to 16"},
    {"d,path=p,queues=two", "virtio-blk: queues=two: expected a number"},
    {"d,path=p,queues=", "virtio-blk: queues=: expected a number"},
    {"d,path=p,queues=99999999999999999999", "expected 1 to 16"},
    {"d,path=p,readonly=maybe", "file: block.readonly=maybe: expected on or off"},
    {"d,path=p,cache=fast", "file: block.cache=fast: expected writeback|writethrough|none"},
    {"d,path=p,limit=4095", "file: block.limit=4095: expected at least 4096"},
    {"d,path=p,limit=4Q", "expected a size in bytes"},
    {"d,limit=4K", "block.path= is missing"},
    {"d,path=", "block.path= is missing"},
};

START_TEST(refuses)
{
    struct device_spec spec;
    struct iod_error error = {0};
    parse(&spec, bad[_i].text);
    struct iod_options *own = options_parse(disk, "virtio-blk", &spec, "", false, &error);
    struct iod_options *block = own ? options_parse(file, "file", &spec, "block.", true, &error) : NULL;
    ck_assert_ptr_null(block);
    ck_assert_int_eq(error.code, EINVAL);
    ck_says(error, bad[_i].says);
    options_destroy(own);
    device_spec_finish(&spec);
}
END_TEST

static const struct {
    const char *key, *nearest;
} unknown[] = {
    {"serail", "'serial'"},        {"queue", "'queues'"},       {"read-only", "'readonly'"},
    {"block.pth", "'block.path'"}, {"Cache", "'cache'"},        {"adr", "'addr'"},
    {"block.cahce", "'block.cache'"},
};

START_TEST(unknown_key_names_the_nearest)
{
    struct device_spec spec;
    struct iod_error error = {0};
    char text[64];
    snprintf(text, sizeof(text), "d,%s=x", unknown[_i].key);
    parse(&spec, text);
    const struct iod_option *const schemas[] = {disk, file};
    ck_assert_int_eq(options_check_unused(&spec, "virtio-blk", schemas, 2, &error), -EINVAL);
    snprintf(text, sizeof(text), "unknown option '%s'", unknown[_i].key);
    ck_says(error, text);
    snprintf(text, sizeof(text), "nearest known one is %s", unknown[_i].nearest);
    ck_says(error, text);
    device_spec_finish(&spec);
}
END_TEST

START_TEST(schemas_are_checked)
{
    static const struct iod_option core_key[] = {{.name = "irq", .type = IOD_OPTION_NUMBER}, {.name = NULL}};
    static const struct iod_option twice[] = {{.name = "a"}, {.name = "b"}, {.name = "a"}, {.name = NULL}};
    static const struct iod_option badly[] = {{.name = "a b"}, {.name = NULL}};
    static const struct iod_option fallback[] = {
        {.name = "n", .type = IOD_OPTION_NUMBER, .fallback = "9", .max = 8}, {.name = NULL}};
    static const struct iod_option choice[] = {{.name = "c", .type = IOD_OPTION_CHOICE}, {.name = NULL}};
    static const struct iod_option type[] = {
        {.name = "t", .type = (enum iod_option_type)77, .fallback = "x"}, {.name = NULL}};
    const struct {
        const struct iod_option *schema;
        const char *says;
    } cases[] = {
        {core_key, "belongs to the core"}, {twice, "declared twice"}, {badly, "bad option name"},
        {fallback, "expected 0 to 8"},     {choice, "no choices"},    {type, "does not know"},
    };
    ck_assert_int_eq(options_check_schema(file, "file", NULL), 0);
    ck_assert_int_eq(options_check_schema(NULL, "none", NULL), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct iod_error error = {0};
        ck_assert_int_eq(options_check_schema(cases[i].schema, "d", &error), -EINVAL);
        ck_says(error, cases[i].says);
    }
}
END_TEST

START_TEST(help_has_a_line_an_option)
{
    char *text;
    size_t length;
    FILE *to = open_memstream(&text, &length);
    options_help(to, file, "block.");
    options_help(to, disk, "");
    options_help(to, NULL, "");
    fclose(to);
    ck_assert_ptr_nonnull(strstr(text, "  block.path=TEXT "));
    ck_assert_ptr_nonnull(strstr(text, "image or block device (required)\n"));
    ck_assert_ptr_nonnull(strstr(text, "block.cache=writeback|writethrough|none"));
    ck_assert_ptr_nonnull(strstr(text, "; 1 to 16 (default: 1)\n"));
    ck_assert_ptr_nonnull(strstr(text, "; at least 4096 (default: 4M)\n"));
    unsigned lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) {
        lines++;
    }
    ck_assert_uint_eq(lines, 7);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *tests = tcase_create("options");
    tcase_add_test(tests, numbers);
    tcase_add_test(tests, sizes);
    tcase_add_test(tests, bools);
    tcase_add_test(tests, defaults);
    tcase_add_test(tests, wrong_name_or_type_yields_nothing);
    tcase_add_test(tests, prefix_and_bare);
    tcase_add_test(tests, bare_key_belongs_to_the_first_taker);
    tcase_add_test(tests, no_schema);
    tcase_add_loop_test(tests, refuses, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_loop_test(tests, unknown_key_names_the_nearest, 0, sizeof(unknown) / sizeof(unknown[0]));
    tcase_add_test(tests, schemas_are_checked);
    tcase_add_test(tests, help_has_a_line_an_option);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
