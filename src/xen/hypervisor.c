/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening and closing Xen's libraries, and the table of all that we ask of them. */
#include "xen/handles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xentoollog.h>

#include "xen/ioreq_page.h"
#include "xen/xen.h"

int xen_result(int rc)
{
    if (rc >= 0) {
        return rc;
    }
    return errno > 0 ? -errno : -EIO;
}

/* The libraries would print to stderr; what failed is told by our own one line. */
static void quiet_message(struct xentoollog_logger *logger, xentoollog_level level, int errnoval,
                          const char *context, const char *format, va_list args)
{
}

static void quiet_progress(struct xentoollog_logger *logger, const char *context, const char *doing,
                           int percent, unsigned long done, unsigned long total)
{
}

static void quiet_destroy(struct xentoollog_logger *logger)
{
}

static struct xentoollog_logger *quiet(void)
{
    static const struct xentoollog_logger logger = {quiet_message, quiet_progress, quiet_destroy};

    return (struct xentoollog_logger *)(uintptr_t)&logger; /* the libraries only call through it */
}

static void destroy(struct hypervisor *hv)
{
    struct xen_hypervisor *xen = xen_of(hv);

    if (xen->gnttab) {
        xengnttab_close(xen->gnttab);
    }
    if (xen->evtchn) {
        xenevtchn_close(xen->evtchn);
    }
    if (xen->foreignmemory) {
        xenforeignmemory_close(xen->foreignmemory);
    }
    if (xen->devicemodel) {
        xendevicemodel_close(xen->devicemodel);
    }
    free(xen);
}

static const struct hypervisor_ops xen_ops = {
    .destroy = destroy,
    .nr_vcpus = xen_nr_vcpus,
    .server_create = xen_server_create,
    .server_info = xen_server_info,
    .server_enable = xen_server_enable,
    .server_destroy = xen_server_destroy,
    .range_map = xen_range_map,
    .range_unmap = xen_range_unmap,
    .pcidev_map = xen_pcidev_map,
    .pcidev_unmap = xen_pcidev_unmap,
    .pages_map = xen_pages_map,
    .pages_unmap = xen_pages_unmap,
    .slot_port = ioreq_slot_port,
    .slot_state = ioreq_slot_state,
    .slot_take = ioreq_slot_take,
    .slot_answer = ioreq_slot_answer,
    .ring_take = ioreq_ring_take,
    .event_fd = xen_event_fd,
    .event_take = xen_event_take,
    .event_unmask = xen_event_unmask,
    .event_notify = xen_event_notify,
    .event_bind = xen_event_bind,
    .event_unbind = xen_event_unbind,
    .foreign_map = xen_foreign_map,
    .foreign_unmap = xen_foreign_unmap,
    .grant_map = xen_grant_map,
    .grant_unmap = xen_grant_unmap,
    .modified_memory = xen_modified_memory,
    .isa_irq = xen_isa_irq,
    .pci_intx = xen_pci_intx,
    .pci_link_route = xen_pci_link_route,
    .msi = xen_msi,
    .spi = xen_spi,
};

static int open_failed(struct iod_error *error, int code, const char *device)
{
    const char *remedy = "see the kernel's log";

    if (code == ENOENT || code == ENODEV || code == ENXIO) {
        remedy = "is this a Xen hardware domain with xenfs and the xen-privcmd and xen-evtchn drivers? "
                 "(under the mock hypervisor set LD_LIBRARY_PATH to its libraries)";
    } else if (code == EACCES || code == EPERM) {
        remedy = "run as root or give this user access to it";
    } else if (code == EMFILE || code == ENFILE) {
        remedy = "raise the limit of open files";
    }
    return iod_fail(error, code, "%s: %s: %s", device, strerror(code), remedy);
}

static int open_handles(struct xen_hypervisor *xen, struct iod_error *error)
{
    int flags;

    errno = 0;
    xen->devicemodel = xendevicemodel_open(quiet(), 0);
    if (!xen->devicemodel) {
        return open_failed(error, -xen_result(-1), "/dev/xen/privcmd");
    }
    xen->foreignmemory = xenforeignmemory_open(quiet(), 0);
    if (!xen->foreignmemory) {
        return open_failed(error, -xen_result(-1), "/dev/xen/privcmd");
    }
    xen->evtchn = xenevtchn_open(quiet(), 0);
    if (!xen->evtchn) {
        return open_failed(error, -xen_result(-1), "/dev/xen/evtchn");
    }
    xen->event_fd = xenevtchn_fd(xen->evtchn);
    flags = fcntl(xen->event_fd, F_GETFL);
    if (flags < 0 || fcntl(xen->event_fd, F_SETFL, flags | O_NONBLOCK)) {
        return open_failed(error, errno, "/dev/xen/evtchn (O_NONBLOCK)");
    }
    xen->gnttab = xengnttab_open(quiet(), 0);
    if (!xen->gnttab) {
        xen->gnttab_error = xen_result(-1);
    }
    return 0;
}

/* A PV domain maps a guest's pages by page table alone; an auto-translated one spends a frame of its own on
 * each. */
static bool maps_cost_frames(void)
{
#if defined(__x86_64__) || defined(__i386__)
    char type[8] = "";
    int fd = open("/sys/hypervisor/guest_type", O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, type, sizeof(type) - 1);
    close(fd);
    return got > 0 && strncmp(type, "PV\n", 3) != 0;
#else
    return true;
#endif
}

struct hypervisor *xen_hypervisor_create(struct iod_error *error)
{
    struct xen_hypervisor *xen = calloc(1, sizeof(*xen));

    if (!xen) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    xen->hv.ops = &xen_ops;
    xen->hv.maps_cost_frames = maps_cost_frames();
    if (open_handles(xen, error)) {
        destroy(&xen->hv);
        return NULL;
    }
    return &xen->hv;
}
