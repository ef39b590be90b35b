/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include <ioreqd/error.h>

#include "unit.h"

START_TEST(fills_and_returns)
{
    struct iod_error error = {0};
    ck_assert_int_eq(iod_fail(&error, EINVAL, "device %d: %s", 7, "no"), -EINVAL);
    ck_assert_int_eq(error.code, EINVAL);
    ck_assert_str_eq(error.text, "device 7: no");
    ck_assert_int_eq(iod_fail(NULL, ENOENT, "nobody listens"), -ENOENT);
}
END_TEST

START_TEST(is_one_printable_line)
{
    struct iod_error error;
    iod_fail(&error, EINVAL, "a\nb\033[2Jc\x7f");
    ck_assert_str_eq(error.text, "a?b?[2Jc?");
}
END_TEST

START_TEST(shows_that_it_was_cut)
{
    struct iod_error error;
    iod_fail(&error, EINVAL, "%0300d", 1);
    ck_assert_uint_eq(strlen(error.text), sizeof(error.text) - 1);
    ck_assert_str_eq(error.text + sizeof(error.text) - 6, "00...");
    iod_fail(&error, EINVAL, "%0239d", 1);
    ck_assert_str_eq(error.text + sizeof(error.text) - 3, "01");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("error");
    TCase *tests = tcase_create("fail");
    tcase_add_test(tests, fills_and_returns);
    tcase_add_test(tests, is_one_printable_line);
    tcase_add_test(tests, shows_that_it_was_cut);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
