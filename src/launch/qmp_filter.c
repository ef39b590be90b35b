/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/qmp_filter.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "launch/qmp_client.h"

#define ACCEPT_AGAIN_NS UINT64_C(200000000)

struct qmp_filter {
    struct loop *loop;
    int listener;
    struct loop_watch *watch;
    struct loop_timer *again; /* accept failed for lack of descriptors or memory */
    char *server;
    struct qmp_client *clients[QMP_CLIENTS_MAX]; /* NULL: free */
    unsigned count;
};

static void client_closed(void *self, struct qmp_client *client)
{
    struct qmp_filter *filter = self;

    for (unsigned i = 0; i < QMP_CLIENTS_MAX; i++) {
        if (filter->clients[i] == client) {
            filter->clients[i] = NULL;
            filter->count--;
        }
    }
    qmp_client_destroy(client);
    filter->loop->ops->watch_set(filter->watch, IOD_READABLE);
}

static void accept_client(void *self, unsigned events)
{
    struct qmp_filter *filter = self;
    unsigned place = 0;
    int fd = accept4(filter->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            filter->loop->ops->watch_set(filter->watch, 0);
            filter->loop->ops->timer_set(filter->again,
                                         filter->loop->ops->now_ns(filter->loop) + ACCEPT_AGAIN_NS);
        }
        return;
    }
    while (filter->clients[place]) { /* one is free, else we would not be called */
        place++;
    }
    filter->clients[place] = qmp_client_create(filter->loop, fd, filter->server, client_closed, filter);
    filter->count += filter->clients[place] != NULL;
    if (filter->count == QMP_CLIENTS_MAX) {
        filter->loop->ops->watch_set(filter->watch, 0);
    }
}

static void accept_again(void *self)
{
    qmp_filter_open(self);
}

struct qmp_filter *qmp_filter_create(struct loop *loop, int listener, const char *server,
                                     struct iod_error *error)
{
    struct qmp_filter *filter = calloc(1, sizeof(*filter));

    if (filter) {
        *filter = (struct qmp_filter){.loop = loop, .listener = -1, .server = strdup(server)};
        filter->again = loop->ops->timer_add(loop, accept_again, filter);
        filter->watch = loop->ops->watch_add(loop, listener, 0, accept_client, filter);
    }
    if (!filter || !filter->server || !filter->again || !filter->watch) {
        qmp_filter_destroy(filter);
        iod_fail(error, ENOMEM, "QMP filter: out of memory");
        return NULL;
    }
    filter->listener = listener;
    return filter;
}

void qmp_filter_open(struct qmp_filter *filter)
{
    unsigned events = filter->count < QMP_CLIENTS_MAX ? IOD_READABLE : 0;

    filter->loop->ops->watch_set(filter->watch, events);
}

void qmp_filter_destroy(struct qmp_filter *filter)
{
    if (!filter) {
        return;
    }
    for (unsigned i = 0; i < QMP_CLIENTS_MAX; i++) {
        qmp_client_destroy(filter->clients[i]);
    }
    filter->loop->ops->timer_remove(filter->again);
    filter->loop->ops->watch_remove(filter->watch);
    if (filter->listener >= 0) {
        close(filter->listener);
    }
    free(filter->server);
    free(filter);
}
