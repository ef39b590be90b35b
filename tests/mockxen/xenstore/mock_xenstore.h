/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The real xenstored over a mock's domains, and what a toolstack does to it: nodes, INTRODUCE, RELEASE. Every
 * call opens a connection of its own (dom0's rights). Functions return 0 or a negative errno.
 * mock_xenstore_start() and mock_xenstore_stop() are declared in guest.h.
 */
#ifndef MOCKXEN_XENSTORE_H
#define MOCKXEN_XENSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../guest.h"

/** Socket of the mock's xenstored ($XENSTORED_PATH of a client). `size` bytes at `path`. */
void mock_xenstore_socket(const struct mock *mock, char *path, size_t size);
/** Process id of the running xenstored, for tests that stop or kill it; 0: none. */
pid_t mock_xenstore_pid(const struct mock *mock);

int mock_xenstore_write(struct mock *mock, const char *path, const char *value);
/** Reads a node, NUL-terminated. -ERANGE if it does not fit. */
int mock_xenstore_read(struct mock *mock, const char *path, char *value, size_t size);
/** Removes a node and all below it. */
int mock_xenstore_remove(struct mock *mock, const char *path);

/**
 * What libxl writes before the domain is introduced: /local/domain/ID with domid, name and vm, /vm/UUID with
 * uuid and name, /libxl/ID/type ("hvm" or "pvh"; none for a domain made with type_unknown: give `type`
 * false).
 */
int mock_xenstore_nodes(struct mock_guest *g, bool type);
/** `xl rename`. */
int mock_xenstore_rename(struct mock_guest *g, const char *name);
/** Fires @introduceDomain. */
int mock_xenstore_introduce(struct mock_guest *g);
/** All of a create: nodes, then INTRODUCE. */
int mock_xenstore_create_domain(struct mock_guest *g);
/** xenstored forgets the domain: @releaseDomain. Its nodes stay. */
int mock_xenstore_release(struct mock_guest *g);
/** What libxl removes when it destroys a domain, before Xen is told. */
int mock_xenstore_remove_nodes(struct mock_guest *g);
/** 1: introduced, 0: not. */
int mock_xenstore_introduced(struct mock_guest *g);

#endif
