/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Event channels of all guests on one handle. xenevtchn_pending and _unmask cost a system call per port; the
 * device behind the handle takes and gives arrays of ports, so a batch costs one read and one write.
 */
#include "xen/handles.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* Xen's device never refuses a write; a socket that plays it (the mock hypervisor) may be full for a moment.
 */
#define WRITE_PATIENCE_MS 1000

int xen_event_fd(struct hypervisor *hv)
{
    return xen_of(hv)->event_fd;
}

int xen_event_take(struct hypervisor *hv, uint32_t *ports, unsigned max)
{
    ssize_t got;

    do {
        got = read(xen_of(hv)->event_fd, ports, max * sizeof(*ports));
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    if (got == 0 && max) { /* the device has no end; what plays it is gone, and would be readable for ever */
        return -ENODEV;
    }
    return (size_t)got % sizeof(*ports) ? -EIO : (int)((size_t)got / sizeof(*ports));
}

void xen_event_unmask(struct hypervisor *hv, const uint32_t *ports, unsigned count)
{
    int fd = xen_of(hv)->event_fd;
    const char *at = (const char *)ports;
    size_t left = count * sizeof(*ports);

    while (left) {
        ssize_t put = write(fd, at, left);
        if (put > 0) {
            at += put;
            left -= (size_t)put;
        } else if (put < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            if (poll(&room, 1, WRITE_PATIENCE_MS) <= 0) {
                return;
            }
        } else if (put == 0 || errno != EINTR) {
            return;
        }
    }
}

int xen_event_notify(struct hypervisor *hv, uint32_t port)
{
    return xen_result(xenevtchn_notify(xen_of(hv)->evtchn, port));
}

int xen_event_bind(struct hypervisor *hv, uint16_t domid, uint32_t remote, uint32_t *local)
{
    xenevtchn_port_or_error_t port = xenevtchn_bind_interdomain(xen_of(hv)->evtchn, domid, remote);

    if (port < 0) {
        return xen_result(-1);
    }
    *local = (uint32_t)port;
    return 0;
}

void xen_event_unbind(struct hypervisor *hv, uint32_t local)
{
    xenevtchn_unbind(xen_of(hv)->evtchn, local);
}
