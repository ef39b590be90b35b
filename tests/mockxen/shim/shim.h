/* SPDX-License-Identifier: BSD-2-Clause */
/* What the shim libraries share; each is linked with its own copy. */
#ifndef MOCKXEN_SHIM_H
#define MOCKXEN_SHIM_H

#include <errno.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen_list.h>

#include "../common.h"

struct xentoollog_logger;

/* libxentoolcore's registry of open handles: the layout is ABI, for the real libxenstore registers here too.
 */
typedef struct Xentoolcore__Active_Handle Xentoolcore__Active_Handle;
typedef int Xentoolcore__Restrict_Callback(Xentoolcore__Active_Handle *ah, domid_t domid);
struct Xentoolcore__Active_Handle {
    Xentoolcore__Restrict_Callback *restrict_callback;
    XEN_LIST_ENTRY(Xentoolcore__Active_Handle) entry;
};
void xentoolcore__register_active_handle(Xentoolcore__Active_Handle *ah);
void xentoolcore__deregister_active_handle(Xentoolcore__Active_Handle *ah);
int xentoolcore__restrict_by_dup2_null(int fd);

/** A connection to mockxen; one call at a time. */
struct shim {
    int fd;
    struct mx_global *g;
    pthread_mutex_t lock;
};

/** Connect as $MOCKXEN_SOCKET and $MOCKXEN_DOMID say. 0 or -1 + errno. */
int shim_open(struct shim *s);
void shim_close(struct shim *s);
/** mx_call() under the lock; a negative errno is also stored in errno and -1 returned. */
ssize_t shim_call(struct shim *s, const struct mx_req *req, const void *data, size_t len, struct mx_rep *rep,
                  void *out, size_t cap, int fds[2]);
/** Count a call that goes past mockxen; -1 + errno if an armed fault fires. */
int shim_fault(struct shim *s, enum mock_call kind);
/** Set errno from a negative result; 0 stays. */
int shim_result(int rc);

#endif
