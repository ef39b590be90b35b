/* SPDX-License-Identifier: BSD-2-Clause */
/* The socket file, and who may connect to it. */
#ifndef CONTROL_LISTEN_H
#define CONTROL_LISTEN_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <ioreqd/error.h>

/* A group's number, by its name or number. 0, or a negative errno with *error filled. */
int listen_group(const char *text, gid_t *gid, struct iod_error *error);
/*
 * A non-blocking unix stream socket that listens at the path, mode 0660 and this group, or 0600. *status: of
 * the file, for listen_remove. -1 with *error filled.
 */
int listen_at(const char *path, bool has_group, gid_t group, struct stat *status, struct iod_error *error);
/* Removes the file if it is still this one. */
void listen_remove(const char *path, dev_t device, ino_t inode);
enum listen_peer {
    PEER_STRANGER,
    PEER_MEMBER, /* of the group, also as one of its further groups */
    PEER_OWNER,  /* root, or our own user */
};
enum listen_peer listen_who(int fd, bool has_group, gid_t group);

#endif
