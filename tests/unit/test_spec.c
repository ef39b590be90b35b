/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include "core/spec.h"

#include "unit.h"

START_TEST(name_alone)
{
    struct device_spec spec;
    ck_assert_int_eq(device_spec_parse(&spec, "virtio-rng", NULL), 0);
    ck_assert_str_eq(spec.name, "virtio-rng");
    ck_assert_str_eq(spec.text, "virtio-rng");
    ck_assert_uint_eq(spec.count, 0);
    device_spec_finish(&spec);
    ck_assert_ptr_null(spec.name);
}
END_TEST

START_TEST(pairs_and_doubled_commas)
{
    struct device_spec spec;
    const char *text = "virtio-blk,path=/a,,b,,,block.uri=nbd://h/x?a=b=c,serial=,x=,,,,";
    ck_assert_int_eq(device_spec_parse(&spec, text, NULL), 0);
    ck_assert_uint_eq(spec.count, 4);
    ck_assert_str_eq(device_spec_get(&spec, "path"), "/a,b,");
    ck_assert_str_eq(device_spec_get(&spec, "block.uri"), "nbd://h/x?a=b=c");
    ck_assert_str_eq(device_spec_get(&spec, "serial"), "");
    ck_assert_str_eq(device_spec_get(&spec, "x"), ",,");
    ck_assert_ptr_null(device_spec_get(&spec, "pat"));
    device_spec_finish(&spec);
}
END_TEST

START_TEST(last_of_a_key_counts)
{
    struct device_spec spec;
    ck_assert_int_eq(device_spec_parse(&spec, "d,a=1,b=2,a=3", NULL), 0);
    ck_assert_str_eq(device_spec_get(&spec, "a"), "3");
    device_spec_finish(&spec);
}
END_TEST

static const struct {
    const char *text, *says;
} bad[] = {
    {"", "expected NAME,key=value"},       {",a=b", "expected NAME,key=value"},
    {"a=b", "expected NAME,key=value"},    {"virtio blk,a=b", "expected NAME,key=value"},
    {"d,", "'' is not an option"},         {"d,a=1,", "'' is not an option"},
    {"d,readonly", "'readonly' is not an option; expected key=value"},
    {"d,=x", "'=x' is not an option"},     {"d,a b=c", "'a b=c' is not an option"},
    {"d,path=/a,b", "a comma in a value is doubled"},
    {"d,id=", "id=: expected 1 to 63"},    {"d,id=a b", "no blanks"},
    {"d,id=a\nclaim=x", "no blanks"},
    {"d,id=0123456789012345678901234567890123456789012345678901234567890123", "expected 1 to 63"},
};

START_TEST(refuses)
{
    struct device_spec spec;
    struct iod_error error = {0};
    ck_assert_int_eq(device_spec_parse(&spec, bad[_i].text, &error), -EINVAL);
    ck_says(error, bad[_i].says);
    device_spec_finish(&spec);
}
END_TEST

START_TEST(copies_are_their_own)
{
    struct guest_spec spec, copy;
    guest_spec_init(&spec);
    spec.domain = strdup("web");
    spec.wait = true;
    spec.map_limit = 1 << 20;
    ck_assert_int_eq(guest_spec_add_device(&spec, "uart16550,base=0x3f8,irq=4", NULL), 0);
    ck_assert_int_eq(guest_spec_add_device(&spec, "virtio-rng", NULL), 0);
    spec.devices[0].pairs[0].used = true;
    ck_assert_int_eq(guest_spec_copy(&copy, &spec), 0);
    guest_spec_finish(&spec);
    ck_assert_str_eq(copy.domain, "web");
    ck_assert(copy.wait);
    ck_assert_uint_eq(copy.map_limit, 1 << 20);
    ck_assert_uint_eq(copy.device_count, 2);
    ck_assert_str_eq(device_spec_get(&copy.devices[0], "irq"), "4");
    ck_assert_str_eq(copy.devices[0].text, "uart16550,base=0x3f8,irq=4");
    ck_assert(!copy.devices[0].pairs[0].used);
    guest_spec_finish(&copy);
}
END_TEST

START_TEST(a_bad_device_is_not_added)
{
    struct guest_spec spec;
    struct iod_error error = {0};
    guest_spec_init(&spec);
    ck_assert_int_eq(guest_spec_add_device(&spec, "virtio-rng", &error), 0);
    ck_assert_int_eq(guest_spec_add_device(&spec, "virtio-blk,path", &error), -EINVAL);
    ck_says(error, "virtio-blk");
    ck_assert_uint_eq(spec.device_count, 1);
    guest_spec_finish(&spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spec");
    TCase *tests = tcase_create("device_spec");
    tcase_add_test(tests, name_alone);
    tcase_add_test(tests, pairs_and_doubled_commas);
    tcase_add_test(tests, last_of_a_key_counts);
    tcase_add_loop_test(tests, refuses, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(tests, copies_are_their_own);
    tcase_add_test(tests, a_bad_device_is_not_added);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
