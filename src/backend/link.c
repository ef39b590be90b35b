/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/link.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "core/daemon.h"

enum { MESSAGES_A_TURN = 32 };

struct links {
    struct daemon *daemon;
    int control; /* any socket takes the ioctls */
    int news;    /* netlink; -1: not to be had */
    struct loop_watch *watch;
    struct list listeners;
    struct list leaving;
};

struct link_leaving {
    struct list link;
    struct daemon *daemon;
    char name[IFNAMSIZ];
};

/* ---- settings ---- */

static int ask(struct links *links, unsigned long what, struct ifreq *request)
{
    return ioctl(links->control, what, request) == 0 ? 0 : -errno;
}

static struct ifreq request_for(const char *name)
{
    struct ifreq request;
    memset(&request, 0, sizeof(request));
    memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    return request;
}

int link_index(struct links *links, const char *name)
{
    struct ifreq request = request_for(name);
    int result = ask(links, SIOCGIFINDEX, &request);
    return result == 0 ? request.ifr_ifindex : result;
}

int link_look(struct links *links, const char *name, struct link_state *state)
{
    struct ifreq flags = request_for(name), mtu = flags, carrier = flags;
    struct ethtool_value value = { .cmd = ETHTOOL_GLINK };
    int result = ask(links, SIOCGIFFLAGS, &flags);
    result = result == 0 ? ask(links, SIOCGIFMTU, &mtu) : result;
    if (result != 0) {
        return result;
    }
    carrier.ifr_data = (char *)&value;
    if (ask(links, SIOCETHTOOL, &carrier) != 0) {
        value.data = (flags.ifr_flags & IFF_RUNNING) != 0; /* which may lag a second behind */
    }
    state->up = (flags.ifr_flags & IFF_UP) != 0 && value.data != 0;
    state->mtu = (unsigned)mtu.ifr_mtu;
    return 0;
}

/* The kernel answers a request for statistics before send returns: nothing is waited for. */
int link_dropped(struct links *links, int index, uint64_t *frames)
{
    struct {
        struct nlmsghdr header;
        struct if_stats_msg stats;
    } request = {
        .header = { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETSTATS, .nlmsg_flags = NLM_F_REQUEST },
        .stats = { .ifindex = (uint32_t)index,
                   .filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64) },
    };
    struct {
        struct nlmsghdr header;
        struct if_stats_msg stats;
        struct rtattr attribute;
        struct rtnl_link_stats64 link;
    } answer;
    const size_t least = offsetof(__typeof__(answer), link) + offsetof(struct rtnl_link_stats64, multicast);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    int result = -EPROTO;
    if (fd < 0) {
        return -errno;
    }
    ssize_t got = send(fd, &request, sizeof(request), 0) < 0 ? -1 : recv(fd, &answer, sizeof(answer), 0);
    if (got < 0) {
        result = -errno;
    } else if ((size_t)got >= least && answer.header.nlmsg_type == RTM_NEWSTATS &&
               answer.attribute.rta_type == IFLA_STATS_LINK_64) {
        memcpy(frames, &answer.link.tx_dropped, sizeof(*frames)); /* it need not be aligned */
        result = 0;
    }
    close(fd);
    return result;
}

int link_set_mtu(struct links *links, const char *name, unsigned mtu)
{
    struct ifreq request = request_for(name);
    request.ifr_mtu = (int)mtu;
    return ask(links, SIOCSIFMTU, &request);
}

int link_set_up(struct links *links, const char *name)
{
    struct ifreq request = request_for(name);
    int result = ask(links, SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP;
    return result == 0 ? ask(links, SIOCSIFFLAGS, &request) : result;
}

/* A bridge takes the lowest address of its ports: this is the highest that is no group's. */
int link_set_port_address(struct links *links, const char *name)
{
    static const uint8_t highest[] = { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff };
    struct ifreq request = request_for(name);
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, highest, sizeof(highest));
    return ask(links, SIOCSIFHWADDR, &request);
}

static int bridge_change(struct links *links, unsigned long what, const char *bridge, const char *name)
{
    struct ifreq request = request_for(bridge);
    int index = link_index(links, name);
    if (index < 0) {
        return index;
    }
    request.ifr_ifindex = index;
    return ask(links, what, &request);
}

int bridge_add(struct links *links, const char *bridge, const char *name)
{
    return bridge_change(links, SIOCBRADDIF, bridge, name);
}

int bridge_remove(struct links *links, const char *bridge, const char *name)
{
    return bridge_change(links, SIOCBRDELIF, bridge, name);
}

/* ---- news ---- */

/* index 0: something was missed, everyone looks again. A listener may go in its own call, others stay. */
static void tell(struct links *links, int index)
{
    struct link_listener *listener;
    list_for_each(listener, &links->listeners, struct link_listener, link) {
        if (index == 0 || listener->index == index) {
            listener->changed(listener->self);
        }
    }
}

static void take_messages(struct links *links, const uint8_t *bytes, size_t length)
{
    const struct nlmsghdr *message = (const struct nlmsghdr *)bytes;
    for (; NLMSG_OK(message, length); message = NLMSG_NEXT(message, length)) {
        if ((message->nlmsg_type == RTM_NEWLINK || message->nlmsg_type == RTM_DELLINK) &&
            message->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg))) {
            const struct ifinfomsg *info = NLMSG_DATA(message);
            if (info->ifi_index > 0) {
                tell(links, info->ifi_index);
            }
        }
    }
}

static void news_ready(void *self, unsigned events)
{
    struct links *links = self;
    _Alignas(struct nlmsghdr) uint8_t bytes[8192];
    for (unsigned i = 0; i < MESSAGES_A_TURN; i++) {
        struct sockaddr_nl from = { 0 };
        struct iovec piece = { .iov_base = bytes, .iov_len = sizeof(bytes) };
        struct msghdr whole = {
            .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &piece, .msg_iovlen = 1 };
        ssize_t got = recvmsg(links->news, &whole, MSG_DONTWAIT);
        if (got < 0 && errno == ENOBUFS) {
            tell(links, 0);
            continue;
        }
        if (got <= 0) {
            return;
        }
        if (from.nl_pid == 0) { /* the kernel's */
            take_messages(links, bytes, (size_t)got);
        }
    }
}

static void open_news(struct links *links)
{
    struct loop *loop = daemon_loop(links->daemon);
    struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
    links->news = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (links->news >= 0 && bind(links->news, (struct sockaddr *)&address, sizeof(address)) == 0) {
        links->watch = loop->ops->watch_add(loop, links->news, IOD_READABLE, news_ready, links);
    }
    if (links->watch == NULL) {
        daemon_log(links->daemon, IOD_LOG_WARNING, "network",
                   "no netlink socket: guests will not see a tap's link or MTU change");
    }
}

void links_listen(struct links *links, struct link_listener *listener)
{
    list_add_tail(&links->listeners, &listener->link);
}

void links_forget(struct link_listener *listener)
{
    if (listener->link.next != NULL) {
        list_remove(&listener->link);
    }
}

/* ---- the service ---- */

static void links_destroy(void *service)
{
    struct links *links = service;
    struct link_leaving *leaving;
    while ((leaving = list_first(&links->leaving, struct link_leaving, link))) { /* the daemon ends before the script */
        list_remove(&leaving->link);
        free(leaving);
    }
    daemon_loop(links->daemon)->ops->watch_remove(links->watch);
    if (links->news >= 0) {
        close(links->news);
    }
    close(links->control);
    free(links);
}

static void *links_create(struct daemon *daemon, struct iod_error *error)
{
    struct links *links = calloc(1, sizeof(*links));
    if (links == NULL) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    links->daemon = daemon;
    list_init(&links->listeners);
    list_init(&links->leaving);
    links->control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (links->control < 0) {
        iod_fail(error, errno, "no socket: %s", strerror(errno));
        free(links);
        return NULL;
    }
    open_news(links);
    return links;
}

static const struct service_class links_service = {
    .name = "links", .create = links_create, .destroy = links_destroy,
};

struct links *links_get(struct daemon *daemon, struct iod_error *error)
{
    return daemon_service_get(daemon, &links_service, error);
}

void links_put(struct daemon *daemon)
{
    daemon_service_put(daemon, &links_service);
}

/* ---- interfaces that go ---- */

struct link_leaving *link_leaving_add(struct daemon *daemon, const char *name)
{
    struct iod_error error;
    struct link_leaving *leaving = calloc(1, sizeof(*leaving));
    struct links *links = leaving != NULL ? links_get(daemon, &error) : NULL;
    if (links == NULL) {
        free(leaving);
        return NULL;
    }
    leaving->daemon = daemon;
    memcpy(leaving->name, name, strnlen(name, IFNAMSIZ - 1));
    list_init(&leaving->link);
    list_add_tail(&links->leaving, &leaving->link);
    return leaving;
}

void link_leaving_end(struct link_leaving *leaving)
{
    if (leaving != NULL) {
        struct daemon *daemon = leaving->daemon;
        list_remove(&leaving->link);
        free(leaving);
        links_put(daemon);
    }
}

bool link_is_leaving(const struct links *links, const char *name)
{
    for (const struct list *l = links->leaving.next; l != &links->leaving; l = l->next) {
        if (strcmp(list_entry(l, const struct link_leaving, link)->name, name) == 0) {
            return true;
        }
    }
    return false;
}
