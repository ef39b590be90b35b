/* SPDX-License-Identifier: BSD-2-Clause */
/* The object: accepts clients, hears the daemon's events, ends it all. */
#include "control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "control/inside.h"
#include "control/listen.h"

#define ACCEPTS_A_TURN 8
#define BREATH_NS 1000000000ull
#define SAY_NS 60000000000ull

/* ---- who comes ---- */

/* One line a minute, whoever knocks how often. */
static void log_refusal(struct control *control, int fd, const char *why)
{
    uint64_t now = control->loop->ops->now_ns(control->loop);
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);

    control->refused++;
    if (control->said_ns && now - control->said_ns < SAY_NS) {
        return;
    }
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
    daemon_log(control->daemon, IOD_LOG_WARNING, "control",
               "process %d of user %u refused: %s (%u refused since the last such line)", (int)peer.pid,
               (unsigned)peer.uid, why, control->refused);
    control->said_ns = now;
    control->refused = 0;
}

static void refuse(struct control *control, int fd, const char *text, const char *why)
{
    log_refusal(control, fd, why);
    if (send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        /* It will see that the connection is closed. */
    }
    close(fd);
}

static void welcome(struct control *control, int fd)
{
    enum listen_peer who = listen_who(fd, control->has_group, control->group);
    if (who == PEER_STRANGER) {
        refuse(control, fd,
               "{\"error\":{\"class\":\"GenericError\",\"desc\":\"not allowed: expected root or a member of "
               "the control group\"}}\r\n",
               "neither root nor of the control group");
    } else if (control->client_count >= CLIENTS_MAX) {
        refuse(control, fd,
               "{\"error\":{\"class\":\"GenericError\",\"desc\":\"32 clients are connected already\"}}\r\n",
               "too many clients");
    } else if (who == PEER_MEMBER && control->member_count >= MEMBERS_MAX) {
        refuse(control, fd,
               "{\"error\":{\"class\":\"GenericError\",\"desc\":\"28 clients of the control group are connected "
               "already\"}}\r\n",
               "too many clients of the control group");
    } else {
        client_create(control, fd, who == PEER_MEMBER);
    }
}

static void knock(void *self, unsigned events)
{
    struct control *control = self;
    const struct loop_ops *ops = control->loop->ops;

    (void)events;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            welcome(control, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            /* The one that knocks stays in the queue, and would wake the loop for ever. */
            ops->watch_set(control->watch, 0);
            ops->timer_set(control->breath, ops->now_ns(control->loop) + BREATH_NS);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void breathe(void *self)
{
    struct control *control = self;

    control->loop->ops->watch_set(control->watch, IOD_READABLE);
}

/* ---- life ---- */

static void next_turn(void *self)
{
    struct control *control = self;

    control->taken = false;
}

static void look(void *self)
{
    wait_look(self);
}

/* A NULL text stays one. False: out of memory. */
static bool copy_text(const char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

static int copy_config(struct control *control, const struct control_config *config, struct iod_error *error)
{
    control->config = *config;
    bool path = copy_text(&control->config.path, config->path);
    bool group = copy_text(&control->config.group, config->group);
    bool version = copy_text(&control->config.version, config->version);
    bool build = copy_text(&control->config.build, config->build);
    if (!path || !group || !version || !build) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    control->has_group = config->group != NULL;
    return config->group ? listen_group(config->group, &control->group, error) : 0;
}

static int open_socket(struct control *control, struct iod_error *error)
{
    const struct loop_ops *ops = control->loop->ops;
    struct stat status;

    control->listener = listen_at(control->config.path, control->has_group, control->group, &status, error);
    if (control->listener < 0) {
        return -error->code;
    }
    control->bound = true;
    control->device = status.st_dev;
    control->inode = status.st_ino;
    control->watch = ops->watch_add(control->loop, control->listener, IOD_READABLE, knock, control);
    control->breath = ops->timer_add(control->loop, breathe, control);
    control->look = ops->task_add(control->loop, look, control);
    control->next_turn = ops->task_add(control->loop, next_turn, control);
    return control->watch && control->breath && control->look && control->next_turn
               ? 0
               : iod_fail(error, ENOMEM, "out of memory");
}

struct control *control_create(struct daemon *daemon, const struct control_config *config,
                               struct iod_error *error)
{
    struct control *control = calloc(1, sizeof(*control));

    if (!control) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    control->daemon = daemon;
    control->loop = daemon_loop(daemon);
    control->listener = -1;
    list_init(&control->clients);
    list_init(&control->calls);
    list_init(&control->waiting);
    list_init(&control->events.link);
    control->events.event = event_listener;
    if (copy_config(control, config, error) || open_socket(control, error)) {
        control_destroy(control);
        return NULL;
    }
    daemon_listen(daemon, &control->events);
    daemon_log(daemon, IOD_LOG_INFO, "control", "listening at %s", control->config.path);
    return control;
}

/* Those that the daemon works on end later, and then find nobody. */
static void orphan_calls(struct control *control)
{
    struct call *call;

    list_for_each(call, &control->calls, struct call, link)
    {
        list_remove(&call->link);
        call->control = NULL;
    }
}

void control_destroy(struct control *control)
{
    struct client *client;

    if (!control) {
        return;
    }
    const struct loop_ops *ops = control->loop->ops;
    daemon_unlisten(&control->events);
    list_for_each(client, &control->clients, struct client, link)
    {
        client_destroy(client);
    }
    orphan_calls(control);
    ops->watch_remove(control->watch);
    ops->timer_remove(control->breath);
    ops->task_remove(control->look);
    ops->task_remove(control->next_turn);
    if (control->listener >= 0) {
        close(control->listener);
    }
    if (control->bound) {
        listen_remove(control->config.path, control->device, control->inode);
    }
    free((char *)control->config.path);
    free((char *)control->config.group);
    free((char *)control->config.version);
    free((char *)control->config.build);
    free(control);
}
