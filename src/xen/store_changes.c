/* SPDX-License-Identifier: BSD-2-Clause */
/* In the xenstore helper: the daemon's changes, each lot in one transaction. */
#include "xen/store_helper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 16 /* of a transaction that conflicts with others' */

struct change {
    char kind;
    const char *path, *value, *was; /* NULL where the kind has none */
};

/* The next text, which must end before `end`; NULL: it does not. */
static const char *take(const char **at, const char *end)
{
    const char *text = *at, *stop = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;

    if (!stop) {
        return NULL;
    }
    *at = stop + 1;
    return text;
}

static bool take_change(const char **at, const char *end, struct change *change)
{
    const char *kind = take(at, end);

    *change = (struct change){0};
    if (!kind || strlen(kind) != 1 || !strchr("wcri", kind[0])) {
        return false;
    }
    change->kind = kind[0];
    change->path = take(at, end);
    if (change->path && (kind[0] == STORE_WRITE || kind[0] == STORE_REPLACE)) {
        change->value = take(at, end);
    }
    if (change->path && (kind[0] == STORE_REPLACE || kind[0] == STORE_REMOVE_IF)) {
        change->was = take(at, end);
    }
    return change->path && (kind[0] != STORE_WRITE || change->value) &&
           (kind[0] != STORE_REPLACE || (change->value && change->was)) &&
           (kind[0] != STORE_REMOVE_IF || change->was);
}

/* Does the node hold what the change is meant for? */
static int compare(struct helper *h, xs_transaction_t transaction, const struct change *change)
{
    unsigned length;
    char *value = xs_read(h->xs, transaction, change->path, &length);
    int result = value ? 0 : -errno;

    if (value && (length != strlen(change->was) || memcmp(value, change->was, length))) {
        result = -ESTALE;
    }
    free(value);
    return result;
}

static int make(struct helper *h, xs_transaction_t transaction, const struct change *change)
{
    int result = change->was ? compare(h, transaction, change) : 0;

    if (result) {
        return result;
    }
    if (change->value) {
        unsigned length = (unsigned)strlen(change->value);
        return xs_write(h->xs, transaction, change->path, change->value, length) ? 0 : -errno;
    }
    return xs_rm(h->xs, transaction, change->path) || errno == ENOENT ? 0 : -errno;
}

static int make_all(struct helper *h, xs_transaction_t transaction, const char *bytes, uint32_t size)
{
    const char *at = bytes, *end = bytes + size;
    int result = 0;

    while (!result && at < end) {
        struct change change;
        result = take_change(&at, end, &change) ? make(h, transaction, &change) : -EINVAL;
    }
    return result;
}

int changes_make(struct helper *h, const char *bytes, uint32_t size)
{
    int result = -EAGAIN;

    for (unsigned i = 0; i < TRIES && result == -EAGAIN; i++) {
        xs_transaction_t transaction = xs_transaction_start(h->xs);
        if (transaction == XBT_NULL) {
            return -errno;
        }
        result = make_all(h, transaction, bytes, size);
        if (!xs_transaction_end(h->xs, transaction, result != 0) && !result) {
            result = -errno;
        }
    }
    return result;
}
