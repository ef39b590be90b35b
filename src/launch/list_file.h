/* SPDX-License-Identifier: BSD-2-Clause */
/* The file of ioreqd --list: which emulators one guest has, and how each says that it is ready. */
#ifndef LAUNCH_LIST_FILE_H
#define LAUNCH_LIST_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <ioreqd/error.h>

#define LIST_ENTRIES_MAX 32u
#define LIST_ARGUMENTS_MAX 1024u
#define LIST_READY_FD "{ready-fd}" /* in an argument: the number of the descriptor to say "ready" on */

enum list_ready {
    LIST_READY_NONE,     /* as soon as it runs */
    LIST_READY_FD_LINE,  /* it writes to a descriptor that it is given */
    LIST_READY_PIDFILE,  /* path holds the pid of a living process, which is the emulator from then on */
    LIST_READY_SOCKET,   /* somebody listens at path */
    LIST_READY_XENSTORE, /* the node path exists, with that value if one is given */
};

struct list_entry {
    char *name;
    char *program;    /* NULL: it runs already */
    char **arguments; /* argv, program first, NULL at the end; {domid} is replaced already */
    enum list_ready ready;
    char *path, *value; /* of ready */
    uint64_t limit_ns;  /* to get ready */
    pid_t pid;          /* of one that runs already; 0: it is known by its socket */
    char *socket;
    bool end; /* one that runs already gets SIGTERM at the end, too */
};

struct list_file {
    uint16_t domid;
    struct list_entry *entries;
    unsigned count;
};

/* Freed by list_file_finish, also after an error. 0 or a negative errno with *error filled: file, entry, key.
 */
int list_file_read(struct list_file *list, const char *path, struct iod_error *error);
void list_file_finish(struct list_file *list);

#endif
