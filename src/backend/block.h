/* SPDX-License-Identifier: BSD-2-Clause */
/* What the block layer gives to the backends of this folder beside ioreqd/block.h. */
#ifndef BACKEND_BLOCK_H
#define BACKEND_BLOCK_H

#include <ioreqd/block.h>

struct daemon;

/* As iod_block_complete, at the end of the loop's batch: may be called from submit and quiesce. */
void block_complete_later(struct iod_block *block, struct iod_block_request *request, int result);
/* As iod_block_done with an error, for an open that was answered with "later"; with the reason. */
void block_failed(struct iod_block *block, const struct iod_error *error);
struct daemon *block_daemon(const struct iod_block *block);

#endif
