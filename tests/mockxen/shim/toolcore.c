/* SPDX-License-Identifier: BSD-2-Clause */
/* libxentoolcore: the list of handles that xentoolcore_restrict_all() narrows. */
#include "shim.h"

#include <fcntl.h>
#include <unistd.h>

#include <xentoolcore.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static XEN_LIST_HEAD(, Xentoolcore__Active_Handle) handles;

void xentoolcore__register_active_handle(Xentoolcore__Active_Handle *ah)
{
    pthread_mutex_lock(&lock);
    XEN_LIST_INSERT_HEAD(&handles, ah, entry);
    pthread_mutex_unlock(&lock);
}

void xentoolcore__deregister_active_handle(Xentoolcore__Active_Handle *ah)
{
    pthread_mutex_lock(&lock);
    XEN_LIST_REMOVE(ah, entry);
    pthread_mutex_unlock(&lock);
}

int xentoolcore_restrict_all(domid_t domid)
{
    Xentoolcore__Active_Handle *ah;
    int rc = 0, err;

    pthread_mutex_lock(&lock);
    XEN_LIST_FOREACH(ah, &handles, entry) {
        rc = ah->restrict_callback(ah, domid);
        if (rc) {
            break;
        }
    }
    err = errno;
    pthread_mutex_unlock(&lock);
    errno = err;
    return rc ? -1 : 0;
}

int xentoolcore__restrict_by_dup2_null(int fd)
{
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC), rc, err;

    if (null_fd < 0) {
        return -1;
    }
    rc = dup2(null_fd, fd) < 0 ? -1 : 0;
    err = errno;
    close(null_fd);
    errno = err;
    return rc;
}
