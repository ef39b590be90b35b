/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interface behind a tap. IFF_TUN_EXCL tells for sure whether we made it. One that was there before must
 * be persistent and unused: a second process in the queues of a multi-queue tap would steal frames.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <ioreqd/log.h>

#include "backend/netdev.h"
#include "backend/tap.h"
#include "core/device.h"
#include "core/guest.h"

#ifndef TUN_F_USO4 /* Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define TUN_PATH "/dev/net/tun"
#define SCRIPT_FOLDER "/etc/xen/scripts/"

enum { FIRST_NUMBER = 32 }; /* of the names we choose: xl counts its own from 0 */

const struct iod_option tap_options[] = {
    { .name = "ifname", .type = IOD_OPTION_STRING,
      .help = "interface, which is made if it is not there (default: vifDOMID.N-emu, N from 32)" },
    { .name = "bridge", .type = IOD_OPTION_STRING, .help = "bridge to put the interface in" },
    { .name = "script", .type = IOD_OPTION_STRING,
      .help = "program to set the interface up and tear it down, as xl's vif scripts (default: none)" },
    { .name = "script-timeout", .type = IOD_OPTION_NUMBER, .fallback = "40", .min = 1, .max = 3600,
      .help = "seconds that the script may take" },
    { .name = "mtu", .type = IOD_OPTION_NUMBER, .min = 68, .max = 65521,
      .help = "of the interface (default: the bridge's, or left as it is)" },
    { .name = "sndbuf", .type = IOD_OPTION_SIZE, .min = 4096, .max = 1 << 30,
      .help = "bytes sent and not yet consumed by the host before the guest waits (default: no limit)" },
    { .name = NULL },
};

static const char *option(const struct tap *tap, const char *name)
{
    const char *text = iod_option_string(iod_netdev_options(tap->netdev), name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* ---- opening ---- */

static int check_name(const char *name, const char *what, struct iod_error *error)
{
    if (strlen(name) >= IFNAMSIZ || strpbrk(name, "/% \t:") != NULL || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0) {
        return iod_fail(error, EINVAL,
                        "%s=%.40s: expected an interface's name: 1 to %d characters, no / %% :", what, name,
                        IFNAMSIZ - 1);
    }
    return 0;
}

/* One descriptor on the interface. The value is it or a negative errno. */
static int open_queue(const char *name, unsigned flags, struct ifreq *request)
{
    int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    memset(request, 0, sizeof(*request));
    memcpy(request->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    request->ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
    if (ioctl(fd, TUNSETIFF, request) == 0) {
        return fd;
    }
    int code = errno;
    close(fd);
    return -code;
}

static int fail_open(const char *name, int result, struct iod_error *error)
{
    switch (result) {
    case -ENOENT:
    case -ENXIO:
    case -ENODEV:
        return iod_fail(error, -result, TUN_PATH ": not there (modprobe tun?)");
    case -EPERM:
    case -EACCES:
        return iod_fail(error, -result, "tap %s: not allowed: it needs " TUN_PATH " and CAP_NET_ADMIN", name);
    case -EBUSY:
        return iod_fail(error, EBUSY, "tap %s: another process uses it", name);
    case -EINVAL:
        return iod_fail(error, EINVAL, "tap %s: there is an interface of this name, but it is no tap", name);
    default:
        return iod_fail(error, -result, "tap %s: can't be opened: %s", name, strerror(-result));
    }
}

/* A new interface with a given name. 0, -EBUSY: there is one already, or another negative errno. */
static int make(struct tap *tap, const char *name, unsigned multi)
{
    struct ifreq request;
    int fd = open_queue(name, multi | IFF_TUN_EXCL, &request);
    if (fd < 0) {
        return fd == -EEXIST ? -EBUSY : fd;
    }
    tap->made = true;
    tap->pairs[0].fd = fd;
    memcpy(tap->name, request.ifr_name, IFNAMSIZ);
    return 0;
}

/* One that is there already; it may have been made with or without many queues. */
static int join(struct tap *tap, const char *name, unsigned *multi, struct iod_error *error)
{
    struct ifreq request;
    struct link_state state;
    if (link_look(tap->links, name, &state) == 0 && state.up) { /* a tap has a carrier while it is open */
        return fail_open(name, -EBUSY, error);
    }
    int fd = open_queue(name, *multi, &request);
    if (fd == -EINVAL) {
        *multi ^= IFF_MULTI_QUEUE;
        fd = open_queue(name, *multi, &request);
    }
    if (fd < 0) {
        return fail_open(name, fd, error);
    }
    tap->pairs[0].fd = fd;
    memcpy(tap->name, request.ifr_name, IFNAMSIZ);
    if (ioctl(fd, TUNGETIFF, &request) != 0 || (request.ifr_flags & IFF_PERSIST) == 0) {
        return fail_open(name, -EBUSY, error); /* it lives by another process that has it open */
    }
    if (ioctl(fd, TUNGETVNETHDRSZ, &tap->header_before) != 0) {
        tap->header_before = 0;
    }
    return 0;
}

/* The lowest free name that can't be xl's. */
static int make_next(struct tap *tap, unsigned multi, struct iod_error *error)
{
    char name[IFNAMSIZ + 8];
    unsigned domid = guest_domid(device_guest(iod_netdev_device(tap->netdev)));
    for (unsigned number = FIRST_NUMBER;; number++) {
        if (snprintf(name, sizeof(name), "vif%u.%u-emu", domid, number) >= IFNAMSIZ) {
            return iod_fail(error, ENOSPC, "tap: no free name vif%u.N-emu; choose one with ifname=", domid);
        }
        int result = make(tap, name, multi);
        if (result != -EBUSY) {
            return result == 0 ? 0 : fail_open(name, result, error);
        }
    }
}

static int open_first(struct tap *tap, unsigned *multi, struct iod_error *error)
{
    const char *name = option(tap, "ifname");
    if (name == NULL) {
        return make_next(tap, *multi, error);
    }
    int result = check_name(name, "ifname", error);
    if (result != 0) {
        return result;
    }
    result = make(tap, name, *multi);
    if (result == -EBUSY) {
        return join(tap, name, multi, error);
    }
    return result == 0 ? 0 : fail_open(name, result, error);
}

/* The other pairs; the kernel may give fewer. */
static void open_others(struct tap *tap, unsigned wanted)
{
    struct ifreq request;
    while (tap->count < wanted) {
        int fd = open_queue(tap->name, IFF_MULTI_QUEUE, &request);
        if (fd < 0) {
            return;
        }
        struct tap_pair *pair = &tap->pairs[tap->count++];
        pair->fd = fd;
        pair->attached = true;
        if (tap_attach_pair(pair, false) != 0) { /* would get frames that nobody reads */
            close(fd);
            pair->fd = -1;
            tap->count--;
            return;
        }
    }
}

static int set_header(struct tap *tap, struct iod_error *error)
{
    int size = IOD_NET_HEADER, little = 1;
    uint64_t sndbuf = iod_option_number(iod_netdev_options(tap->netdev), "sndbuf");
    int fd = tap->pairs[0].fd, limit = (int)sndbuf;
    if (ioctl(fd, TUNSETVNETHDRSZ, &size) != 0 || ioctl(fd, TUNSETVNETLE, &little) != 0) {
        return iod_fail(error, errno, "tap %s: it takes no vnet header of virtio 1: %s", tap->name,
                        strerror(errno));
    }
    if (limit > 0 && ioctl(fd, TUNSETSNDBUF, &limit) != 0) {
        return iod_fail(error, errno, "tap %s: sndbuf=%d: %s", tap->name, limit, strerror(errno));
    }
    return 0;
}

/* What the kernel knows; the answer is the same for both directions. */
static void probe_offloads(struct tap *tap)
{
    uint32_t all = IOD_NET_CSUM | IOD_NET_TSO4 | IOD_NET_TSO6 | IOD_NET_TSO_ECN | IOD_NET_UFO;
    tap->gives = 0;
    if (tap_set_offloads(tap, all | IOD_NET_USO) == 0) {
        tap->gives = all | IOD_NET_USO;
    } else if (tap_set_offloads(tap, all) == 0) {
        tap->gives = all;
    }
    tap->takes = tap->gives;
    tap_set_offloads(tap, 0);
}

int tap_interface_open(struct tap *tap, unsigned wanted, struct iod_error *error)
{
    unsigned multi = wanted > 1 ? IFF_MULTI_QUEUE : 0;
    for (unsigned i = 0; i < IOD_NET_PAIRS_MAX; i++) {
        tap->pairs[i] = (struct tap_pair){ .tap = tap, .number = i, .fd = -1 };
    }
    int result = open_first(tap, &multi, error);
    if (result != 0) {
        return result;
    }
    tap->count = 1;
    tap->pairs[0].attached = true;
    result = set_header(tap, error);
    if (result != 0) {
        return result;
    }
    probe_offloads(tap);
    if (multi != 0) {
        open_others(tap, wanted);
    }
    if (tap->count < wanted) {
        iod_log(iod_netdev_device(tap->netdev), IOD_LOG_INFO, "tap %s has %u queue pairs, not %u", tap->name,
                tap->count, wanted);
    }
    return 0;
}

void tap_interface_close(struct tap *tap)
{
    if (tap->bridged && !tap->made) {
        bridge_remove(tap->links, option(tap, "bridge"), tap->name);
    }
    if (!tap->made && tap->header_before > 0 && tap->pairs[0].fd >= 0) {
        tap_set_offloads(tap, 0);
        ioctl(tap->pairs[0].fd, TUNSETVNETHDRSZ, &tap->header_before);
    }
    for (unsigned i = 0; i < IOD_NET_PAIRS_MAX; i++) {
        if (tap->pairs[i].tap != NULL && tap->pairs[i].fd >= 0) {
            close(tap->pairs[i].fd);
            tap->pairs[i].fd = -1;
        }
    }
}

/* ---- settings ---- */

int tap_attach_pair(struct tap_pair *pair, bool attach)
{
    struct ifreq request = { .ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };
    if (pair->attached == attach) {
        return 0;
    }
    if (ioctl(pair->fd, TUNSETQUEUE, &request) != 0) {
        return -errno;
    }
    pair->attached = attach;
    return 0;
}

int tap_set_offloads(struct tap *tap, uint32_t offloads)
{
    unsigned long flags = ((offloads & IOD_NET_CSUM) != 0 ? TUN_F_CSUM : 0u) |
                          ((offloads & IOD_NET_TSO4) != 0 ? TUN_F_TSO4 : 0u) |
                          ((offloads & IOD_NET_TSO6) != 0 ? TUN_F_TSO6 : 0u) |
                          ((offloads & IOD_NET_TSO_ECN) != 0 ? TUN_F_TSO_ECN : 0u) |
                          ((offloads & IOD_NET_UFO) != 0 ? TUN_F_UFO : 0u) |
                          ((offloads & IOD_NET_USO) != 0 ? TUN_F_USO4 | TUN_F_USO6 : 0u);
    return ioctl(tap->pairs[0].fd, TUNSETOFFLOAD, flags) == 0 ? 0 : -errno;
}

static int fail_setting(const struct tap *tap, const char *what, int result, struct iod_error *error)
{
    return iod_fail(error, -result, "tap %s: %s: %s", tap->name, what, strerror(-result));
}

/* If nothing is said, as large as the bridge's: a smaller port would lower the MTU of the whole bridge. */
static int set_mtu(struct tap *tap, const char *bridge, struct iod_error *error)
{
    struct link_state state = { 0 };
    unsigned mtu = (unsigned)iod_option_number(iod_netdev_options(tap->netdev), "mtu");
    if (mtu > 0) {
        int result = link_set_mtu(tap->links, tap->name, mtu);
        return result == 0 ? 0 : fail_setting(tap, "its MTU can't be set", result, error);
    }
    if (tap->made && bridge != NULL && link_look(tap->links, bridge, &state) == 0) {
        link_set_mtu(tap->links, tap->name, state.mtu);
    }
    return 0;
}

static int enter_bridge(struct tap *tap, const char *bridge, struct iod_error *error)
{
    if (link_index(tap->links, bridge) < 0) {
        return iod_fail(error, ENODEV, "bridge=%s: there is no such interface", bridge);
    }
    int result = bridge_add(tap->links, bridge, tap->name);
    if (result == -EOPNOTSUPP || result == -EINVAL) {
        return iod_fail(error, EINVAL, "bridge=%s: is no bridge", bridge);
    }
    if (result == -EBUSY && !tap->made) {
        return 0; /* whoever made it has seen to that */
    }
    tap->bridged = result == 0;
    return result == 0 ? 0 : fail_setting(tap, "can't enter its bridge", result, error);
}

int tap_interface_set_up(struct tap *tap, struct iod_error *error)
{
    const char *bridge = option(tap, "bridge");
    int result = bridge != NULL ? check_name(bridge, "bridge", error) : 0;
    if (result == 0 && bridge != NULL && tap->made) {
        result = link_set_port_address(tap->links, tap->name);
        result = result == 0 ? 0 : fail_setting(tap, "its address can't be set", result, error);
    }
    if (result == 0) {
        result = set_mtu(tap, bridge, error);
    }
    if (result == 0 && bridge != NULL && option(tap, "script") == NULL) {
        result = enter_bridge(tap, bridge, error);
    }
    if (result == 0) {
        result = link_set_up(tap->links, tap->name);
        result = result == 0 ? 0 : fail_setting(tap, "can't be set up", result, error);
    }
    return result;
}

/* ---- the script ---- */

static struct child *run_script(struct tap *tap, const char *action,
                                void (*done)(void *self, const struct child_end *end), void *self, int fd,
                                struct iod_error *error)
{
    char path[256], vif[8 + IFNAMSIZ], interface[16 + IFNAMSIZ], bridge[16 + IFNAMSIZ], itself[300];
    const char *script = option(tap, "script"), *in = option(tap, "bridge");
    if ((size_t)snprintf(path, sizeof(path), "%s%s", strchr(script, '/') != NULL ? "" : SCRIPT_FOLDER,
                         script) >= sizeof(path)) {
        iod_fail(error, ENAMETOOLONG, "script=%.80s...: expected a path of at most 255 characters", script);
        return NULL;
    }
    snprintf(vif, sizeof(vif), "vif=%s", tap->name);
    snprintf(interface, sizeof(interface), "INTERFACE=%s", tap->name);
    snprintf(bridge, sizeof(bridge), "bridge=%s", in != NULL ? in : "");
    snprintf(itself, sizeof(itself), "script=%s", path);
    const char *const arguments[] = { path, action, "type_if=tap", NULL };
    const char *const environment[] = {
        "type_if=tap", vif, interface, itself, in != NULL ? bridge : NULL, NULL };
    const struct child_plan plan = {
        .arguments = arguments,
        .environment = environment,
        .fd = fd,
        .limit_ns = iod_option_number(iod_netdev_options(tap->netdev), "script-timeout") * 1000000000u,
    };
    return child_start(netdev_daemon(tap->netdev), &plan, done, self, error);
}

int tap_script_add(struct tap *tap, void (*done)(void *self, const struct child_end *end),
                   struct iod_error *error)
{
    tap->script = run_script(tap, "add", done, tap, -1, error);
    tap->scripted = tap->script != NULL;
    return tap->script != NULL ? 0 : -error->code;
}

static void removed(void *self, const struct child_end *end)
{
    link_leaving_end(self);
}

/* The script holds a descriptor of the tap: the interface is there as long as it runs. */
void tap_script_remove(struct tap *tap)
{
    struct iod_error error = { 0 };
    struct link_leaving *leaving = link_leaving_add(netdev_daemon(tap->netdev), tap->name);
    int fd = tap->made ? tap->pairs[0].fd : -1;
    if (run_script(tap, "remove", removed, leaving, fd, &error) == NULL) {
        link_leaving_end(leaving);
        iod_log(iod_netdev_device(tap->netdev), IOD_LOG_WARNING, "%s", error.text);
    }
}

bool tap_must_wait(const struct tap *tap)
{
    const char *name = option(tap, "ifname");
    return name != NULL && link_is_leaving(tap->links, name);
}
