/* SPDX-License-Identifier: BSD-2-Clause */
/* Where one command ends, whatever the pieces it comes in. */
#include <stdio.h>

#include "control/frame.h"

#include "unit.h"

/* The result for the whole text at once, and that it is the same for one byte after the other. */
static enum frame_result scan(const char *text, struct frame *frame)
{
    struct frame whole = *frame, slow = *frame;
    size_t length = strlen(text);
    enum frame_result result = frame_scan(&whole, text, length), step = FRAME_MORE;

    for (size_t i = 1; i <= length && step == FRAME_MORE; i++) {
        step = frame_scan(&slow, text, i);
    }
    ck_assert_int_eq(step, result);
    ck_assert_uint_eq(slow.at, whole.at);
    ck_assert_uint_eq(slow.begin, whole.begin);
    *frame = whole;
    return result;
}

static void expect(const char *text, enum frame_result result, size_t begin, size_t at)
{
    struct frame frame = {0};

    ck_assert_msg(scan(text, &frame) == result, "%s", text);
    ck_assert_msg(frame.begin == begin && frame.at == at, "%s: %zu to %zu", text, frame.begin, frame.at);
}

START_TEST(an_object_ends_at_its_brace)
{
    expect("{}", FRAME_COMPLETE, 0, 2);
    expect("{\"a\":[1,{\"b\":2}]}{\"c\":3}", FRAME_COMPLETE, 0, 17);
    expect(" \t\r\n{} ", FRAME_COMPLETE, 4, 6);
    expect("{\"execute\":", FRAME_MORE, 0, 11);
    expect("  \r\n", FRAME_MORE, 4, 4);
    expect("", FRAME_MORE, 0, 0);
}
END_TEST

START_TEST(braces_in_strings_do_not_count)
{
    expect("{\"}\":\"{[\"}x", FRAME_COMPLETE, 0, 10);
    expect("{\"\\\"}\":1}x", FRAME_COMPLETE, 0, 9);
    expect("{\"\\\\\"}x", FRAME_COMPLETE, 0, 6);
    expect("{\"}", FRAME_MORE, 0, 3);
}
END_TEST

START_TEST(something_else_than_an_object)
{
    expect("[1]", FRAME_NO_OBJECT, 0, 1);
    expect("  x", FRAME_NO_OBJECT, 2, 3);
    expect("\xff{}", FRAME_NO_OBJECT, 0, 1);
    expect("}", FRAME_NO_OBJECT, 0, 1);
}
END_TEST

START_TEST(the_rest_of_a_bad_line_is_skipped)
{
    struct frame frame = {.skip = true};

    ck_assert_int_eq(scan("{\"a\":1}\n{}", &frame), FRAME_SKIPPED);
    ck_assert_uint_eq(frame.at, 8);
    frame = (struct frame){.skip = true};
    ck_assert_int_eq(scan("no end", &frame), FRAME_MORE);
    ck_assert_uint_eq(frame.at, 6);
}
END_TEST

START_TEST(sixteen_levels_and_no_more)
{
    char text[64];
    struct frame frame = {0};

    memset(text, '[', sizeof(text));
    text[0] = '{';
    ck_assert_int_eq(frame_scan(&frame, text, FRAME_DEPTH), FRAME_MORE);
    ck_assert_int_eq(frame_scan(&frame, text, FRAME_DEPTH + 1), FRAME_TOO_DEEP);
    ck_assert_uint_eq(frame.at, FRAME_DEPTH + 1);
}
END_TEST

START_TEST(sixty_four_kibibytes_and_no_more)
{
    char *text = malloc(FRAME_MAX + 1);
    struct frame frame = {0};

    ck_assert_ptr_nonnull(text);
    memset(text, 'x', FRAME_MAX + 1);
    memcpy(text, "{\"", 2);
    ck_assert_int_eq(frame_scan(&frame, text, FRAME_MAX - 1), FRAME_MORE);
    ck_assert_int_eq(frame_scan(&frame, text, FRAME_MAX + 1), FRAME_TOO_LONG);
    ck_assert_uint_eq(frame.at, FRAME_MAX);
    frame = (struct frame){0};
    memcpy(text + FRAME_MAX - 2, "\"}", 2); /* exactly as long as may be */
    ck_assert_int_eq(frame_scan(&frame, text, FRAME_MAX), FRAME_COMPLETE);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control_frame");
    TCase *tc = tcase_create("frame");

    tcase_add_test(tc, an_object_ends_at_its_brace);
    tcase_add_test(tc, braces_in_strings_do_not_count);
    tcase_add_test(tc, something_else_than_an_object);
    tcase_add_test(tc, the_rest_of_a_bad_line_is_skipped);
    tcase_add_test(tc, sixteen_levels_and_no_more);
    tcase_add_test(tc, sixty_four_kibibytes_and_no_more);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
