/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/options.h"
#include "core/record.h"
#include "xen/xen.h"

#define SERVERS 8         /* xen: MAX_NR_IOREQ_SERVERS */
#define NO_DOMAIN 0x7ff0u /* DOMID_SELF: never a target */

enum verdict { OK, NOTE, FAIL };

struct preflight {
    const struct command_line *line;
    unsigned failed;
};

static void say(struct preflight *preflight, enum verdict verdict, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void say(struct preflight *preflight, enum verdict verdict, const char *what, const char *format, ...)
{
    static const char *const words[] = {"ok  ", "note", "FAIL"};
    va_list arguments;

    preflight->failed += verdict == FAIL;
    printf("%s  %-22s ", words[verdict], what);
    va_start(arguments, format);
    vprintf(format, arguments); /* one line each, to whoever asked */
    va_end(arguments);
    putchar('\n');
}

/* ---- the host ---- */

static void node(struct preflight *preflight, const char *path, enum verdict missing, const char *use)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        say(preflight, missing, path, "%s: %s", strerror(errno), use);
        return;
    }
    close(fd);
    say(preflight, OK, path, "can be opened");
}

static bool read_line(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    bool good = file && fgets(text, (int)size, file);

    if (file) {
        fclose(file);
    }
    if (good) {
        text[strcspn(text, "\n")] = 0;
    }
    return good;
}

static void xen_version(struct preflight *preflight)
{
    char major[16], minor[16], extra[64] = "";

    if (!read_line("/sys/hypervisor/version/major", major, sizeof(major)) ||
        !read_line("/sys/hypervisor/version/minor", minor, sizeof(minor))) {
        say(preflight, NOTE, "Xen", "/sys/hypervisor says no version: this is no Xen domain, or sysfs is not mounted");
        return;
    }
    read_line("/sys/hypervisor/version/extra", extra, sizeof(extra));
    say(preflight, OK, "Xen", "%s.%s%s", major, minor, extra);
}

static int library(struct dl_phdr_info *info, size_t size, void *self)
{
    static const char *const wanted[] = {"libxen", "libevent", "liburing", "libfdt", "libconfig", "libjansson"};
    const char *name = strrchr(info->dlpi_name, '/');
    char real[512];

    name = name ? name + 1 : info->dlpi_name;
    for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        if (!strncmp(name, wanted[i], strlen(wanted[i]))) {
            ssize_t length = readlink(info->dlpi_name, real, sizeof(real) - 1);
            real[length > 0 ? length : 0] = 0;
            say(self, OK, name, "%s%s%s", info->dlpi_name, length > 0 ? " -> " : "", real);
        }
    }
    return 0;
}

static void io_uring(struct preflight *preflight)
{
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &params);

    if (fd < 0) {
        say(preflight, FAIL, "io_uring", "%s: disks need it (%s)", strerror(errno),
            errno == EPERM ? "kernel.io_uring_disabled, or a seccomp filter" : "a kernel of 5.10 or newer");
        return;
    }
    close(fd);
    say(preflight, OK, "io_uring", "disk I/O");
}

static void xenstore(struct preflight *preflight)
{
    const char *path = getenv("XENSTORED_PATH");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (!path && getenv("XENSTORED_RUNDIR")) {
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", getenv("XENSTORED_RUNDIR"));
    } else {
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path ? path : "/var/run/xenstored/socket");
    }
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        say(preflight, OK, "xenstored", "%s answers", address.sun_path);
    } else if (!access("/dev/xen/xenbus", R_OK | W_OK)) {
        say(preflight, OK, "xenstored", "by /dev/xen/xenbus");
    } else {
        say(preflight, NOTE, "xenstored",
            "%s: %s: guests are known by domid only, until it comes", address.sun_path, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
}

static struct hypervisor *host(struct preflight *preflight)
{
    struct iod_error error;
    struct hypervisor *hv;
    unsigned vcpus;

    xen_version(preflight);
    node(preflight, "/dev/xen/privcmd", NOTE, "ioreq servers and guest memory");
    node(preflight, "/dev/xen/evtchn", NOTE, "event channels");
    node(preflight, "/dev/xen/gntdev", NOTE, "grants: guests that give their memory by grants can't be served");
    node(preflight, "/dev/net/tun", NOTE, "virtio-net with netdev=tap will not work: modprobe tun");
    io_uring(preflight);
    dl_iterate_phdr(library, preflight);
    xenstore(preflight);
    hv = xen_hypervisor_create(&error);
    if (!hv) {
        say(preflight, FAIL, "Xen's interfaces", "%s", error.text);
        return NULL;
    }
    int ret = hv->ops->nr_vcpus(hv, NO_DOMAIN, &vcpus);
    if (ret == -ENOSYS || ret == -EOPNOTSUPP) {
        say(preflight, FAIL, "ioreq servers", "this Xen has none: on Arm it must be built with CONFIG_IOREQ_SERVER");
    } else if (ret == -EPERM || ret == -EACCES) {
        say(preflight, FAIL, "ioreq servers", "%s: run as root in the hardware domain", strerror(-ret));
    } else {
        say(preflight, OK, "ioreq servers", "this Xen has them");
    }
    return hv;
}

/* ---- one domain ---- */

/* What a record says of a server, else that we don't know. */
static void describe(const struct preflight *preflight, uint16_t domid, uint16_t id, char *text, size_t size)
{
    struct record record;
    unsigned ranges = 0, functions = 0;

    if (!record_read(preflight->line->record_dir, domid, id, &record)) {
        snprintf(text, size, "no record of ours: QEMU's, or another emulator's");
        return;
    }
    for (unsigned i = 0; i < record.claim_count; i++) {
        *(record.claims[i].kind == CLAIM_FUNCTION ? &functions : &ranges) += 1;
    }
    if (record.alive) {
        snprintf(text, size, "of the ioreqd that runs as process %llu: %u ranges, %u PCI functions",
                 (unsigned long long)record.pid, ranges, functions);
    } else {
        snprintf(text, size, "left by an ioreqd that is dead (process %llu); the next one removes it",
                 (unsigned long long)record.pid);
    }
    record_finish(&record);
}

static void list_servers(struct preflight *preflight, struct hypervisor *hv, uint16_t domid, int own)
{
    unsigned found = 0;

    for (uint16_t id = 0; id < SERVERS; id++) {
        char what[32], owner[200];

        if (hv->ops->server_info(hv, domid, id, NULL) || id == own) {
            continue;
        }
        found++;
        snprintf(what, sizeof(what), "ioreq server %u", id);
        describe(preflight, domid, id, owner, sizeof(owner));
        say(preflight, NOTE, what, "%s", owner);
    }
    say(preflight, found + 1 < SERVERS ? OK : FAIL, "other servers",
        "%u of this domain's own that can be seen; Xen allows %u for a domain", found, SERVERS);
}

static void try_server(struct preflight *preflight, struct hypervisor *hv, uint16_t domid)
{
    struct ioreq_pages *pages;
    uint16_t id;
    int ret = hv->ops->server_create(hv, domid, BUFIOREQ_OFF, &id);

    if (ret) {
        say(preflight, FAIL, "a server", "can't be created: %s%s", strerror(-ret),
            ret == -ENOSPC ? ": the domain has 8 already, end another emulator" : "");
        list_servers(preflight, hv, domid, -1);
        return;
    }
    say(preflight, OK, "a server", "was created, disabled, as %u", id);
    ret = hv->ops->pages_map(hv, domid, id, BUFIOREQ_OFF, &pages);
    if (ret) {
        say(preflight, FAIL, "its page", "can't be mapped: %s", strerror(-ret));
    } else {
        say(preflight, OK, "its page", "can be mapped");
        hv->ops->pages_unmap(hv, pages);
    }
    list_servers(preflight, hv, domid, id);
    ret = hv->ops->server_destroy(hv, domid, id);
    say(preflight, ret ? FAIL : OK, "a server", ret ? "can't be removed again: %s" : "was removed again%s",
        ret ? strerror(-ret) : "");
}

static void domain(struct preflight *preflight, struct hypervisor *hv, const char *text)
{
    uint64_t domid;
    unsigned vcpus;

    if (option_parse_number(text, &domid) || domid >= NO_DOMAIN) {
        say(preflight, FAIL, "domain", "%.60s: expected a domid below %u", text, NO_DOMAIN);
        return;
    }
    int ret = hv->ops->nr_vcpus(hv, (uint16_t)domid, &vcpus);
    if (ret) {
        say(preflight, FAIL, "domain", "%u: %s%s", (unsigned)domid, strerror(-ret),
            ret == -ESRCH ? ": no such domain" : ": no right to emulate for it");
        return;
    }
    say(preflight, vcpus && vcpus <= PAGES_SLOTS ? OK : FAIL, "vCPUs", "%u; a server has room for %u", vcpus,
        PAGES_SLOTS);
    try_server(preflight, hv, (uint16_t)domid);
}

enum exit_code preflight_run(const struct command_line *line)
{
    struct preflight preflight = {.line = line};
    struct hypervisor *hv = host(&preflight);
    enum exit_code code = preflight.failed ? EXIT_HOST : EXIT_OK;

    if (hv && line->subject && code == EXIT_OK) {
        domain(&preflight, hv, line->subject);
        code = preflight.failed ? EXIT_GUEST : EXIT_OK;
    }
    if (hv) {
        hv->ops->destroy(hv);
    }
    printf("%s\n", preflight.failed ? "something will not work: see FAIL above" : "nothing found that would not work");
    return code;
}
