/* SPDX-License-Identifier: BSD-2-Clause */
#include "tap_rig.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int run(const char *format, ...)
{
    char command[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    return system(command);
}

void must(const char *command)
{
    ck_assert_msg(run("%s", command) == 0, "failed: %s", command);
}

void private_network(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    run("echo 1 2>/dev/null >/proc/sys/net/ipv6/conf/default/disable_ipv6"); /* it would talk on new interfaces */
    nic_probe = NULL;
    nic_pairs = 1;
    nic_waits = false;
}

bool shows(const char *name, const char *what)
{
    return run("ip -o link show %s 2>/dev/null | grep -q -e '%s'", name, what) == 0;
}

int host_open(const char *name, bool headers)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htobe16(0x0003));
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htobe16(0x0003),
                                   .sll_ifindex = (int)if_nametoindex(name) };
    int on = headers;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_gt(address.sll_ifindex, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

void host_send(int fd, unsigned number, size_t length)
{
    uint8_t frame[9000];
    frame_fill(frame, length, number);
    ck_assert_int_eq(send(fd, frame, length, 0), (ssize_t)length);
}

size_t host_take(int fd, uint8_t *frame, size_t room)
{
    for (;;) {
        struct sockaddr_ll from;
        socklen_t size = sizeof(from);
        ssize_t got = recvfrom(fd, frame, room, MSG_TRUNC, (struct sockaddr *)&from, &size);
        if (got < 0) {
            ck_assert_int_eq(errno, EAGAIN);
            return 0;
        }
        if (from.sll_pkttype != PACKET_OUTGOING) {
            return (size_t)got;
        }
    }
}

int host_tap(const char *name, unsigned flags)
{
    struct ifreq request = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags) };
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    memcpy(request.ifr_name, name, strlen(name) + 1);
    ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
    return fd;
}

double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void await_gone(const char *name)
{
    for (unsigned i = 0; i < 500 && shows(name, "mtu"); i++) {
        poll(NULL, 0, 10);
    }
    ck_assert(!shows(name, "mtu"));
}

bool can_make_taps(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
        int fd = unshare(CLONE_NEWNET) == 0 ? open("/dev/net/tun", O_RDWR | O_CLOEXEC) : -1;
        _exit(fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 ? 0 : 1);
    }
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0;
}
