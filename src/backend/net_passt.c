/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The netdev "passt": a guest on the host's own network without any privilege: passt(1) translates between
 * its frames and the host's sockets. We start one for the guest on a socket pair, and a new one when it dies;
 * or connect to one that runs.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/backends.h"
#include "backend/child.h"
#include "backend/net_peer.h"
#include "backend/netdev.h"
#include "core/loop.h"

enum {
    ARGUMENTS_MAX = 64,
    ARGUMENTS_TEXT = 1024,
    SETTLE_MS = 100, /* one with bad arguments is dead by then, and its reason is the reason of open */
    LINGER_MS = 200, /* one that closed its socket has so long to end by itself, and say why */
};

struct passt {
    struct net_peer peer; /* first: its functions are the class's */
    struct child *child;
    struct loop_timer *timer; /* of settling, or of lingering */
    bool opening;
    const char *why;          /* its stream has ended before it did; NULL: it has not */
    bool killed;
};

static const struct iod_option passt_options[] = {
    { .name = "binary", .type = IOD_OPTION_STRING, .fallback = "passt", .help = "the program" },
    { .name = "args", .type = IOD_OPTION_STRING,
      .help = "further arguments for it, separated by blanks, as '-t 2222:22 -4'" },
    { .name = "path", .type = IOD_OPTION_STRING,
      .help = "connect to this socket of a passt that runs, instead of starting one" },
    { .name = "mtu", .type = IOD_OPTION_NUMBER, .fallback = "65520", .min = 68, .max = 65535,
      .help = "that the guest is told of" },
    { .name = NULL },
};

static const char *option(const struct passt *passt, const char *name)
{
    const char *text = iod_option_string(iod_netdev_options(passt->peer.netdev), name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* ---- a process of our own ---- */

static void set_timer(struct passt *passt, unsigned ms)
{
    struct loop *loop = netdev_loop(passt->peer.netdev);
    loop->ops->timer_set(passt->timer, loop->ops->now_ns(loop) + ms * UINT64_C(1000000));
}

static void passt_ended(void *self, const struct child_end *end)
{
    struct passt *passt = self;
    struct iod_error error = { 0 };
    netdev_loop(passt->peer.netdev)->ops->timer_cancel(passt->timer);
    if (passt->killed) {
        iod_fail(&error, EPROTO, "%s", passt->why);
    } else {
        bool more = strcmp(end->first, end->last) != 0;
        iod_fail(&error, EIO, "%s %s%s%.100s%s%.80s", option(passt, "binary"), end->how,
                 end->first[0] != '\0' ? ": " : "", end->first, more ? " ... " : "", more ? end->last : "");
    }
    passt->child = NULL;
    if (passt->opening) {
        passt->opening = false;
        passt->peer.reach = NULL;
        iod_netdev_failed(passt->peer.netdev, &error);
        return;
    }
    net_peer_went(&passt->peer, error.text);
}

/* Its descriptor was closed, or it sent nonsense: it is of no use any more. */
static bool passt_left(struct net_peer *peer, const char *why)
{
    struct passt *passt = (struct passt *)peer;
    passt->why = why;
    if (passt->child != NULL) {
        set_timer(passt, LINGER_MS);
    }
    return passt->child != NULL;
}

static void time_is_up(void *self)
{
    struct passt *passt = self;
    if (passt->opening) {
        passt->opening = false;
        iod_netdev_done(passt->peer.netdev, 0);
    } else if (passt->child != NULL && passt->why != NULL) {
        passt->killed = true;
        child_kill(passt->child);
    }
}

/* The user's words behind ours. False: too many. */
static bool add_words(char *text, const char **arguments, unsigned count)
{
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t", &rest); word != NULL; word = strtok_r(NULL, " \t", &rest)) {
        if (count + 1 >= ARGUMENTS_MAX) {
            return false;
        }
        arguments[count++] = word;
    }
    arguments[count] = NULL;
    return true;
}

static int start_passt(struct net_peer *peer, struct iod_error *error)
{
    struct passt *passt = (struct passt *)peer;
    const char *arguments[ARGUMENTS_MAX] = { option(passt, "binary"), "-f", "-q", "--fd", "3" };
    const char *words = option(passt, "args");
    char text[ARGUMENTS_TEXT] = "";
    int ends[2];
    _Static_assert(CHILD_FD == 3, "the argument says so");
    if (words != NULL && strlen(words) < sizeof(text)) {
        strcpy(text, words);
    }
    if ((words != NULL && text[0] == '\0') || !add_words(text, arguments, 5)) {
        return iod_fail(error, E2BIG, "passt: args= has too many words");
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return iod_fail(error, errno, "passt: no socket pair: %s", strerror(errno));
    }
    const struct child_plan plan = { .arguments = arguments, .fd = ends[1] };
    passt->why = NULL;
    passt->killed = false;
    passt->child = child_start(netdev_daemon(peer->netdev), &plan, passt_ended, passt, error);
    close(ends[1]);
    if (passt->child == NULL) {
        close(ends[0]);
        return -error->code;
    }
    return ends[0];
}

static int open_own(struct passt *passt, struct iod_error *error)
{
    struct loop *loop = netdev_loop(passt->peer.netdev);
    passt->timer = loop->ops->timer_add(loop, time_is_up, passt);
    if (passt->timer == NULL) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    passt->peer.reach = start_passt;
    passt->peer.left = passt_left;
    int fd = start_passt(&passt->peer, error);
    if (fd < 0) {
        return fd;
    }
    net_peer_came(&passt->peer, fd, error);
    passt->opening = true;
    set_timer(passt, SETTLE_MS);
    return 1;
}

/* ---- one that runs ---- */

static int connect_passt(struct net_peer *peer, struct iod_error *error)
{
    return net_peer_connect(option((struct passt *)peer, "path"), error);
}

static int open_running(struct passt *passt, struct iod_error *error)
{
    struct iod_error away = { 0 };
    passt->peer.reach = connect_passt;
    int fd = connect_passt(&passt->peer, &away);
    if (fd == -ENAMETOOLONG) {
        *error = away;
        return fd;
    }
    net_peer_came(&passt->peer, fd, &away);
    return 0;
}

/* ---- the class ---- */

static int passt_open(struct iod_netdev *netdev, struct iod_error *error)
{
    struct passt *passt = iod_netdev_self(netdev);
    const char *path = iod_option_string(iod_netdev_options(netdev), "path");
    bool runs = path != NULL && path[0] != '\0';
    if (runs && (iod_option_given(iod_netdev_options(netdev), "args") ||
                 iod_option_given(iod_netdev_options(netdev), "binary"))) {
        return iod_fail(error, EINVAL,
                        "network backend passt: path= is of a passt that runs: no args=, no binary=");
    }
    int result = net_peer_open(&passt->peer, netdev, runs ? path : "passt", error);
    if (result != 0) {
        return result;
    }
    return runs ? open_running(passt, error) : open_own(passt, error);
}

static void passt_close(struct iod_netdev *netdev)
{
    struct passt *passt = iod_netdev_self(netdev);
    netdev_loop(netdev)->ops->timer_remove(passt->timer);
    child_let_go(passt->child, true);
    net_peer_close(&passt->peer);
}

const struct iod_netdev_class passt_netdev_class = {
    .size = sizeof(struct iod_netdev_class),
    .name = "passt",
    .summary = "the host's own network through passt(1), without privileges",
    .self_size = sizeof(struct passt),
    .options = passt_options,
    .open = passt_open,
    .send = net_peer_send,
    .receive_again = net_peer_receive_again,
    .send_end = net_peer_send_end,
    .quiesce = net_peer_quiesce,
    .close = passt_close,
};
