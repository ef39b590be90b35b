/* SPDX-License-Identifier: BSD-2-Clause */
/* The filter "error": every Nth request (of one kind) fails with the given error and never reaches the
 * backend. */
#include <errno.h>

#include "backend/backends.h"
#include "backend/block.h"

enum { ANY_OP = 5 };

struct error_filter {
    struct iod_block *below;
    uint64_t every, seen;
    unsigned op; /* enum iod_block_op, or ANY_OP */
    int result;
};

struct error_request {
    /* The caller's, while ours are in the request. */
    void *owner;
    void (*done)(struct iod_block_request *request, int result);
};

static const char *const op_choices[] = { "read", "write", "flush", "discard", "zero", "any", NULL };
static const char *const error_choices[] = { "EIO", "ENOSPC", "ENOMEM", "EOPNOTSUPP", NULL };

static const struct iod_option error_options[] = {
    { .name = "error",
      .type = IOD_OPTION_CHOICE,
      .fallback = "EIO",
      .choices = error_choices,
      .help = "what to answer" },
    { .name = "every",
      .type = IOD_OPTION_NUMBER,
      .fallback = "1",
      .min = 1,
      .help = "of so many requests one fails" },
    { .name = "op",
      .type = IOD_OPTION_CHOICE,
      .fallback = "any",
      .choices = op_choices,
      .help = "count only this kind" },
    { .name = NULL },
};

static int error_open(struct iod_block *block, struct iod_block *below, struct iod_error *error)
{
    static const int results[] = { -EIO, -ENOSPC, -ENOMEM, -EOPNOTSUPP };
    struct error_filter *filter = iod_block_self(block);
    const struct iod_options *options = iod_block_options(block);
    filter->below = below;
    filter->every = iod_option_number(options, "every");
    filter->op = iod_option_choice(options, "op");
    filter->result = results[iod_option_choice(options, "error")];
    iod_block_set_limits(block, iod_block_limits(below));
    return 0;
}

static void below_done(struct iod_block_request *request, int result)
{
    struct iod_block *block = request->owner;
    struct error_request *own = iod_block_request_own(block, request);
    request->owner = own->owner;
    request->done = own->done;
    iod_block_complete(block, request, result);
}

static void error_submit(struct iod_block *block, struct iod_block_request *request)
{
    struct error_filter *filter = iod_block_self(block);
    struct error_request *own = iod_block_request_own(block, request);
    if ((filter->op == ANY_OP || filter->op == (unsigned)request->op) &&
        ++filter->seen % filter->every == 0) {
        block_complete_later(block, request, filter->result);
        return;
    }
    *own = (struct error_request){ .owner = request->owner, .done = request->done };
    request->owner = block;
    request->done = below_done;
    iod_block_submit(filter->below, request);
}

const struct iod_block_class error_block_class = {
    .size = sizeof(struct iod_block_class),
    .name = "error",
    .summary = "every Nth request fails",
    .self_size = sizeof(struct error_filter),
    .request_size = sizeof(struct error_request),
    .options = error_options,
    .filter = true,
    .open = error_open,
    .submit = error_submit,
};
