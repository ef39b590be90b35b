/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket: programs and people ask what the daemon does, and change it while it runs. JSON with
 * QMP's framing over a unix stream socket; ioreqctl(1) has the protocol. A client costs the daemon bounded
 * memory and a bounded share of each turn, whatever it sends and however slowly it reads.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <ioreqd/error.h>

struct control;
struct daemon;

/* All texts are copied, `self` must outlive the control. */
struct control_config {
    const char *path;    /* of the socket: "/run/ioreqd/control" */
    const char *group;   /* name or number of the group that may connect beside root; NULL: no other */
    const char *version; /* "MAJOR.MINOR.MICRO" */
    const char *build;   /* differs between builds: a build id, a package's version; NULL: not known */
    /* Reads the static configuration again: 0, or a negative errno with *error filled. NULL: there is none.
     */
    int (*reload)(void *self, struct iod_error *error);
    void *self;
};

/*
 * Listens; a socket file that a dead daemon left is replaced. NULL with *error filled: -EADDRINUSE names the
 * living process that listens there. The daemon outlives the control.
 */
struct control *control_create(struct daemon *daemon, const struct control_config *config,
                               struct iod_error *error);
/* Closes all connections, removes the socket file if it is still ours. Requests under way lose their answers.
 * NULL is fine. */
void control_destroy(struct control *control);

#endif
