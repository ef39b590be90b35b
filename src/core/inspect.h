/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How an object shows itself: it names its members, one after the other, to an inspector, which makes JSON,
 * a tree for people, or metrics of them. Nothing is kept: strings hold until the call returns. A key is
 * NULL inside a list. Keys are lower case with hyphens and stay the same for good: scripts read them.
 */
#ifndef CORE_INSPECT_H
#define CORE_INSPECT_H

#include <stdbool.h>
#include <stdint.h>

struct inspector {
    void (*begin_object)(struct inspector *inspector, const char *key);
    void (*begin_list)(struct inspector *inspector, const char *key);
    void (*end)(struct inspector *inspector); /* of the object or list begun last */
    void (*text)(struct inspector *inspector, const char *key, const char *value);
    void (*number)(struct inspector *inspector, const char *key, uint64_t value);
    void (*boolean)(struct inspector *inspector, const char *key, bool value);
};

#endif
