/* SPDX-License-Identifier: BSD-2-Clause */
/* Every unit test is one Check suite in a program of its own. */
#ifndef UNIT_H
#define UNIT_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Runs the suite, each test in its own process. The value is main's. */
static inline int unit_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The error's text must say `part`. */
#define ck_says(error, part) \
    ck_assert_msg(strstr((error).text, part) != NULL, "'%s' does not say '%s'", (error).text, part)

#endif
