/* SPDX-License-Identifier: BSD-2-Clause */
/* In place of guest_mock.c where there is no mock: the program for real Xen only. */
#include "conformance.h"

#include <stdio.h>

int mock_prepare(struct context *ctx)
{
    (void)ctx;
    fprintf(stderr, "conformance: built without the mock\n");
    return -1;
}

void mock_finish(struct context *ctx)
{
    (void)ctx;
}

int mock_only_run(void)
{
    fprintf(stderr, "conformance: built without the mock\n");
    return 1;
}

void mock_only_list(void)
{
}
