/* SPDX-License-Identifier: BSD-2-Clause */
/* A fuzz target is one function; libFuzzer calls it (meson -Dfuzz=true), or replay.c does with the kept corpus. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* What must always hold, whatever the bytes are. */
#define FUZZ_CHECK(condition) ((condition) ? (void)0 : __builtin_trap())

#endif
