/* SPDX-License-Identifier: BSD-2-Clause */
/* The socket file: made for us alone, then opened to the group; a dead daemon's is replaced, a living one's
 * is not. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "control/listen.h"

#define BACKLOG 64
#define LOCK_TRIES 400u /* with 5 ms between them: at the start of the program, before it serves anybody */

static int make_address(struct sockaddr_un *address, const char *path, struct iod_error *error)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!path[0] || strlen(path) >= sizeof(address->sun_path)) {
        return iod_fail(error, EINVAL, "control socket %.120s: expected a path of 1 to %zu bytes", path,
                        sizeof(address->sun_path) - 1);
    }
    memcpy(address->sun_path, path, strlen(path) + 1);
    return 0;
}

/* Daemons that begin at once, of a guest each, take turns, which are short; one that stands still in its own is told. */
static bool lock_in_time(int fd)
{
    const struct timespec pause = {.tv_nsec = 5000000};

    for (unsigned i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
        if (i == LOCK_TRIES || (errno != EWOULDBLOCK && errno != EINTR)) {
            return false;
        }
        nanosleep(&pause, NULL);
    }
    return true;
}

/* Held while the file is looked at and made: two daemons that begin at once would both find it stale. */
static int lock_folder(const char *path, struct iod_error *error)
{
    char *copy = strdup(path);
    const char *folder = copy ? dirname(copy) : NULL;
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0) {
        iod_fail(error, copy ? errno : ENOMEM, "control socket %s: its folder: %s", path,
                 copy ? strerror(errno) : "out of memory");
    } else if (!lock_in_time(fd)) {
        iod_fail(error, EBUSY, "control socket %s: another process holds the lock of its folder", path);
        close(fd);
        fd = -1;
    }
    free(copy);
    return fd;
}

/* Is the file left behind? 0, or who lives there. */
static int check_stale(const struct sockaddr_un *address, struct iod_error *error)
{
    const char *path = address->sun_path;
    struct stat status;
    struct ucred owner = {0};
    socklen_t length = sizeof(owner);

    if (lstat(path, &status)) {
        return errno == ENOENT ? 0 : iod_fail(error, errno, "control socket %s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(status.st_mode)) {
        return iod_fail(error, EEXIST, "control socket %s: there is a file that is no socket", path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return iod_fail(error, errno, "control socket %s: %s", path, strerror(errno));
    }
    int ret = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? errno : 0;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &length);
    close(fd);
    if (ret == ECONNREFUSED) {
        return 0;
    }
    if (!ret || ret == EAGAIN) {
        char process[32] = "a process";
        if (!ret) {
            snprintf(process, sizeof(process), "process %d", (int)owner.pid);
        }
        return iod_fail(
            error, EADDRINUSE,
            "control socket %s: %s already listens there; expected no other ioreqd, or another --control",
            path, process);
    }
    return iod_fail(error, ret, "control socket %s: %s", path, strerror(ret));
}

static int bind_file(int fd, const struct sockaddr_un *address, struct iod_error *error)
{
    const char *path = address->sun_path;

    if (check_stale(address, error)) {
        return -error->code;
    }
    if (unlink(path) && errno != ENOENT) {
        return iod_fail(error, errno, "control socket %s: %s", path, strerror(errno));
    }
    /* On Linux the file gets the mode of its socket: there is no moment in which others may connect. */
    if (fchmod(fd, 0600) || bind(fd, (const struct sockaddr *)address, sizeof(*address))) {
        return iod_fail(error, errno, "control socket %s: %s", path, strerror(errno));
    }
    return 0;
}

int listen_group(const char *text, gid_t *gid, struct iod_error *error)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    struct group *found;

    if (text[0] >= '0' && text[0] <= '9' && !*end && number < UINT32_MAX) {
        *gid = (gid_t)number;
        return 0;
    }
    found = getgrnam(text);
    if (!found) {
        return iod_fail(error, ENOENT, "control group '%.60s': there is no such group", text);
    }
    *gid = found->gr_gid;
    return 0;
}

int listen_at(const char *path, bool has_group, gid_t group, struct stat *status, struct iod_error *error)
{
    struct sockaddr_un address;
    int fd, folder;

    path = path ? path : "";
    if (make_address(&address, path, error)) {
        return -1;
    }
    folder = lock_folder(path, error);
    if (folder < 0) {
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        iod_fail(error, errno, "control socket %s: %s", path, strerror(errno));
    } else if (bind_file(fd, &address, error)) {
        close(fd);
        fd = -1;
    } else if ((has_group && chown(path, (uid_t)-1, group)) || chmod(path, has_group ? 0660 : 0600) ||
               lstat(path, status) || listen(fd, BACKLOG)) {
        iod_fail(error, errno, "control socket %s: %s", path, strerror(errno));
        unlink(path);
        close(fd);
        fd = -1;
    }
    close(folder);
    return fd;
}

void listen_remove(const char *path, dev_t device, ino_t inode)
{
    struct stat status;

    if (!lstat(path, &status) && status.st_dev == device && status.st_ino == inode) {
        unlink(path);
    }
}

/* One of its further groups, of which a process may have 65536. */
static bool has_further_group(int fd, gid_t group)
{
    socklen_t length = 0;
    bool found = false;

    if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &length) || errno != ERANGE) {
        return false; /* it has none */
    }
    gid_t *groups = malloc(length);
    if (groups && !getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length)) {
        for (unsigned i = 0; i < length / sizeof(groups[0]); i++) {
            found = found || groups[i] == group;
        }
    }
    free(groups);
    return found;
}

enum listen_peer listen_who(int fd, bool has_group, gid_t group)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length)) {
        return PEER_STRANGER;
    }
    if (peer.uid == 0 || peer.uid == geteuid()) {
        return PEER_OWNER;
    }
    return has_group && (peer.gid == group || has_further_group(fd, group)) ? PEER_MEMBER : PEER_STRANGER;
}
