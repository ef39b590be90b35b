/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LD_PRELOAD under Debian's unmodified xenstored: what it asks of Xen is answered out of a state directory
 * ($XENMOCK): domN/ exists = domain N lives; domN/shutdown, domN/dying = flags; domN/ring = its xenstore
 * page; domN/evtchn = a FIFO of its events; dom0/port, dom0/ports = the port of dom0's ring and the table of
 * bound ports.
 */
#undef _FILE_OFFSET_BITS /* it would rename open to open64, and both are defined here */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma GCC visibility push(default)
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>
int open(const char *path, int flags, ...);
int open64(const char *path, int flags, ...);
#pragma GCC visibility pop

#define VIRQ_DOMAIN UINT32_MAX /* stands in an event's domid for a VIRQ */
#define PORTS 4096
#define RING_SIZE 4096

struct event {
    uint32_t domid, port; /* the sender and its port, or VIRQ_DOMAIN and the VIRQ */
};

/* Lives in dom0/ports, so that it survives the exec of a live update. */
struct port_table {
    struct port {
        uint32_t bound;
        struct event peer;
    } ports[PORTS]; /* by local port; 0 is none */
};

struct xenevtchn_handle {
    int fd; /* dom0/evtchn */
    struct port_table *table;
};

/* ---- the state directory ---- */

static const char *state_path(char *path, size_t size, unsigned domid, const char *name)
{
    const char *dir = getenv("XENMOCK");
    snprintf(path, size, "%s/dom%u/%s", dir ? dir : ".", domid, name);
    return path;
}

static int state_open(unsigned domid, const char *name, int flags)
{
    char path[PATH_MAX];
    return (int)syscall(SYS_openat, AT_FDCWD, state_path(path, sizeof(path), domid, name), flags, 0600);
}

static bool state_exists(unsigned domid, const char *name)
{
    char path[PATH_MAX];
    return access(state_path(path, sizeof(path), domid, name), F_OK) == 0;
}

static int open_any(const char *path, int flags, mode_t mode)
{
    if (strcmp(path, "/proc/xen/xsd_kva") == 0) {
        return state_open(0, "ring", O_RDWR);
    }
    if (strcmp(path, "/proc/xen/xsd_port") == 0) {
        return state_open(0, "port", O_RDONLY);
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static bool has_mode(int flags)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = has_mode(flags) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_any(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = has_mode(flags) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return open_any(path, flags, mode);
}

/* ---- libxenctrl: which domains there are ---- */

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger, unsigned flags)
{
    return malloc(1);
}

int xc_interface_close(xc_interface *xch)
{
    free(xch);
    return 0;
}

/* The lowest domid from `from` up; UINT32_MAX: none. */
static uint32_t next_domain(uint32_t from)
{
    uint32_t least = UINT32_MAX;
    const char *dir = getenv("XENMOCK");
    DIR *directory = opendir(dir ? dir : ".");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        unsigned domid;
        int end = 0;
        if (sscanf(entry->d_name, "dom%u%n", &domid, &end) == 1 && !entry->d_name[end] && domid >= from &&
            domid < least) {
            least = domid;
        }
    }
    if (directory) {
        closedir(directory);
    }
    return least;
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first_domid, unsigned int max_doms, xc_dominfo_t *info)
{
    unsigned count = 0;
    for (uint32_t domid = first_domid; count < max_doms; domid++) {
        domid = next_domain(domid);
        if (domid == UINT32_MAX) {
            break;
        }
        memset(&info[count], 0, sizeof(info[count]));
        info[count].domid = domid;
        info[count].shutdown = state_exists(domid, "shutdown");
        info[count].dying = state_exists(domid, "dying");
        count++;
    }
    return (int)count;
}

/* ---- libxengnttab: a guest's ring ---- */

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    return malloc(1);
}

int xengnttab_close(xengnttab_handle *xgt)
{
    free(xgt);
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr_grants)
{
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
    int fd = ref == 1 ? state_open(domid, "ring", O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        errno = ENOENT;
        return NULL;
    }
    void *ring = mmap(NULL, RING_SIZE, prot, MAP_SHARED, fd, 0);
    close(fd);
    return ring == MAP_FAILED ? NULL : ring;
}

int xengnttab_unmap(xengnttab_handle *xgt, void *start_address, uint32_t count)
{
    return munmap(start_address, (size_t)count * RING_SIZE);
}

/* ---- libxenevtchn ---- */

static struct port_table *map_table(int flags)
{
    int fd = state_open(0, "ports", O_RDWR | O_CREAT | O_CLOEXEC | flags);
    if (fd < 0) {
        return NULL;
    }
    void *table = MAP_FAILED;
    if (ftruncate(fd, sizeof(struct port_table)) == 0) {
        table = mmap(NULL, sizeof(struct port_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    close(fd);
    return table == MAP_FAILED ? NULL : table;
}

static xenevtchn_handle *make_handle(int fd, int flags)
{
    xenevtchn_handle *xce = fd >= 0 ? malloc(sizeof(*xce)) : NULL;
    if (!xce) {
        return NULL;
    }
    xce->fd = fd;
    xce->table = map_table(flags);
    if (!xce->table) {
        free(xce);
        return NULL;
    }
    return xce;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    int cloexec = flags & XENEVTCHN_NO_CLOEXEC ? 0 : O_CLOEXEC;
    /* Both ends are ours: it can be polled and never reaches an end of file. */
    return make_handle(state_open(0, "evtchn", O_RDWR | O_NONBLOCK | cloexec), O_TRUNC);
}

xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned open_flags)
{
    return make_handle(fd, 0);
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    return xce->fd;
}

static int bind(xenevtchn_handle *xce, struct event peer)
{
    for (int local = 1; local < PORTS; local++) {
        struct port *port = &xce->table->ports[local];
        if (!port->bound) {
            *port = (struct port){.bound = 1, .peer = peer};
            return local;
        }
    }
    errno = ENOSPC;
    return -1;
}

static void queue(unsigned domid, struct event event)
{
    int fd = state_open(domid, "evtchn", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t written = write(fd, &event, sizeof(event)); /* a full FIFO wakes its reader anyway */
        (void)written;
        close(fd);
    }
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
                                                     evtchn_port_t remote_port)
{
    struct event peer = {.domid = domid, .port = remote_port};
    int local = bind(xce, peer);
    if (local > 0) {
        queue(0, peer); /* Xen makes a newly bound port pending */
    }
    return local;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
    return bind(xce, (struct event){.domid = VIRQ_DOMAIN, .port = virq});
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t local)
{
    if (local < PORTS) {
        xce->table->ports[local].bound = 0;
    }
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t local)
{
    if (local < PORTS && xce->table->ports[local].bound) {
        queue(xce->table->ports[local].peer.domid,
              (struct event){.domid = 0, .port = xce->table->ports[local].peer.port});
    }
    return 0;
}

/* 0 for an event of a port that is bound no more: xenstored would exit at -1. */
xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    struct event event;
    if (read(xce->fd, &event, sizeof(event)) != sizeof(event)) {
        return 0;
    }
    for (int local = 1; local < PORTS; local++) {
        const struct port *port = &xce->table->ports[local];
        if (port->bound && port->peer.domid == event.domid && port->peer.port == event.port) {
            return local;
        }
    }
    return 0;
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    return 0;
}
