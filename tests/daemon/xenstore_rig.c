/* SPDX-License-Identifier: BSD-2-Clause */
#include "xenstore_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS 5
#define PCI_WINDOW 0xe0000000u

static void sleep_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

/* ---- the processes ---- */

/* The end of the daemon's log: Check refuses long messages. */
static const char *log_end(struct xenstore_rig *rig)
{
    const char *log = rig->f.daemon ? mock_daemon_log(rig->f.daemon) : "";
    size_t length = strlen(log);

    return length > 3000 ? log + length - 3000 : log;
}

void rig_reconnect(struct xenstore_rig *rig)
{
    char path[128];

    if (rig->xs) {
        xs_close(rig->xs);
    }
    mock_xenstore_socket(rig->f.mock, path, sizeof(path));
    setenv("XENSTORED_PATH", path, 1);
    rig->xs = xs_open(0);
    ck_assert_ptr_nonnull(rig->xs);
}

void rig_start(struct xenstore_rig *rig, bool arm)
{
    struct mock_options options = {.xenstore = true};

    memset(rig, 0, sizeof(*rig));
    rig->arm = arm;
    rig->f.mock = mock_start(&options);
    ck_assert_ptr_nonnull(rig->f.mock);
    ck_assert_int_eq(mock_xenstore_start(rig->f.mock), 0);
    snprintf(rig->f.records, sizeof(rig->f.records), "%s/records", mock_dir(rig->f.mock));
    rig_image(rig, "disk.img", rig->image, sizeof(rig->image));
    rig_reconnect(rig);
    rig_write(rig, "domid", "0");
}

void rig_stop(struct xenstore_rig *rig)
{
    if (rig->f.daemon) {
        rig_end_daemon(rig);
    }
    ck_assert_msg(mock_panics(rig->f.mock) == 0, "real Xen would have died: %s",
                  mock_panic_text(rig->f.mock, 0));
    xs_close(rig->xs);
    mock_xenstore_stop(rig->f.mock);
    mock_stop(rig->f.mock);
}

void rig_daemon(struct xenstore_rig *rig, ...)
{
    const char *argv[24] = {getenv("IOREQD"), "--service", "--record-dir", rig->f.records, "--control",
                            "none",           "--arch",    rig->arm ? "arm" : "x86"};
    unsigned count = 8;
    va_list more;

    va_start(more, rig);
    while ((argv[count] = va_arg(more, const char *))) {
        ck_assert_uint_lt(++count, sizeof(argv) / sizeof(argv[0]) - 1);
    }
    va_end(more);
    rig->f.daemon = mock_spawn_daemon(rig->f.mock, (char *const *)(uintptr_t)argv);
    ck_assert_ptr_nonnull(rig->f.daemon);
    rig_expect_log(rig, "ready: ");
}

void rig_end_daemon(struct xenstore_rig *rig)
{
    fixture_terminate(&rig->f);
}

void rig_kill_daemon(struct xenstore_rig *rig)
{
    fixture_kill(&rig->f);
}

void rig_expect_log(struct xenstore_rig *rig, const char *text)
{
    int ret = mock_daemon_wait_log(rig->f.daemon, text, FIXTURE_TIMEOUT_MS);

    ck_assert_msg(ret == 0, "\"%s\" was not said (%d):\n%s", text, ret, log_end(rig));
}

pid_t rig_helper(struct xenstore_rig *rig)
{
    char path[64], name[32], word[16];
    pid_t found = 0;
    int pid = (int)mock_daemon_pid(rig->f.daemon);

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    FILE *children = fopen(path, "r");
    while (children && fscanf(children, "%15s", word) == 1) {
        snprintf(path, sizeof(path), "/proc/%s/comm", word);
        FILE *comm = fopen(path, "r");
        if (comm && fscanf(comm, "%31s", name) == 1 && strcmp(name, "ioreqd-xenstore") == 0) {
            found = atoi(word);
        }
        if (comm) {
            fclose(comm);
        }
    }
    if (children) {
        fclose(children);
    }
    return found;
}

void rig_image(struct xenstore_rig *rig, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s", fixture_image(&rig->f, name, IMAGE_SIZE));
}

/* ---- nodes ---- */

void rig_write(struct xenstore_rig *rig, const char *path, const char *value)
{
    ck_assert_msg(xs_write(rig->xs, XBT_NULL, path, value, (unsigned)strlen(value)), "%s: %s", path,
                  strerror(errno));
}

void rig_rm(struct xenstore_rig *rig, const char *path)
{
    ck_assert_msg(xs_rm(rig->xs, XBT_NULL, path), "%s: %s", path, strerror(errno));
}

static char *read_node(struct xenstore_rig *rig, const char *path)
{
    unsigned length;

    return xs_read(rig->xs, XBT_NULL, path, &length);
}

static void expect(struct xenstore_rig *rig, const char *path, const char *value, bool part, int ms)
{
    char last[256] = "";

    for (int waited = 0; waited <= ms; waited += STEP_MS) {
        char *now = read_node(rig, path);
        bool right = value ? now && (part ? strstr(now, value) != NULL : strcmp(now, value) == 0) : !now;
        snprintf(last, sizeof(last), "%s", now ? now : "(none)");
        free(now);
        if (right) {
            return;
        }
        sleep_ms(STEP_MS);
    }
    ck_abort_msg("%s is \"%s\", not \"%s\", after %d ms; the daemon's log:\n%s", path, last,
                 value ? value : "(none)", ms, log_end(rig));
}

void rig_expect(struct xenstore_rig *rig, const char *path, const char *value, int ms)
{
    expect(rig, path, value, false, ms);
}

void rig_expect_part(struct xenstore_rig *rig, const char *path, const char *part, int ms)
{
    expect(rig, path, part, true, ms);
}

void rig_expect_still(struct xenstore_rig *rig, const char *path, const char *value, int ms)
{
    for (int waited = 0; waited <= ms; waited += 5 * STEP_MS) {
        expect(rig, path, value, false, 0);
        sleep_ms(5 * STEP_MS);
    }
}

/* ---- libxl ---- */

struct mock_guest *rig_domain(struct xenstore_rig *rig, enum mock_profile profile, const char *name)
{
    struct mock_domain_spec spec = {.profile = profile, .ram_bytes = 16u << 20, .nr_vcpus = 1, .name = name};
    struct mock_guest *guest = mock_domain_create(rig->f.mock, &spec);

    ck_assert_ptr_nonnull(guest);
    ck_assert_int_eq(mock_xenstore_create_domain(guest), 0);
    return guest;
}

void rig_destroy_domain(struct xenstore_rig *rig, struct mock_guest *guest)
{
    mock_xenstore_remove_nodes(guest);
    mock_domain_kill(guest);
    mock_xenstore_release(guest);
    mock_guest_free(guest);
}

const char *rig_state(unsigned domid, const char *kind, unsigned devid)
{
    static char path[128];

    snprintf(path, sizeof(path), "backend/%s/%u/%u/state", kind, domid, devid);
    return path;
}

/* Backend, frontend and libxl's own copy, together. `keys` are pairs, ended by NULL; one without value is
 * left out. */
static void add_device(struct xenstore_rig *rig, unsigned domid, const char *kind, unsigned devid,
                       const char *const *keys)
{
    char backend[96], frontend[96], copy[96], text[160];
    const char *const front[] = {"backend", backend, "backend-id", "0", "state", "1", NULL};
    xs_transaction_t transaction;

    snprintf(backend, sizeof(backend), "/local/domain/0/backend/%s/%u/%u", kind, domid, devid);
    snprintf(frontend, sizeof(frontend), "/local/domain/%u/device/%s/%u", domid, kind, devid);
    snprintf(copy, sizeof(copy), "/libxl/%u/device/%s/%u", domid, kind, devid);
    do {
        transaction = xs_transaction_start(rig->xs);
        ck_assert_uint_ne(transaction, XBT_NULL);
        for (unsigned i = 0; keys[i]; i += 2) {
            for (unsigned k = 0; keys[i + 1] && k < 2; k++) {
                snprintf(text, sizeof(text), "%s/%s", k ? copy : backend, keys[i]);
                ck_assert(xs_write(rig->xs, transaction, text, keys[i + 1], (unsigned)strlen(keys[i + 1])));
            }
        }
        for (unsigned i = 0; front[i]; i += 2) {
            snprintf(text, sizeof(text), "%s/%s", frontend, front[i]);
            ck_assert(xs_write(rig->xs, transaction, text, front[i + 1], (unsigned)strlen(front[i + 1])));
        }
    } while (!xs_transaction_end(rig->xs, transaction, false) && errno == EAGAIN);
}

void rig_disk(struct xenstore_rig *rig, unsigned domid, const struct rig_disk *disk)
{
    char frontend[96], id[12];
    unsigned devid = disk->devid ? disk->devid : XVDE;
    const char *keys[] = {"frontend",       frontend,
                          "params",         disk->params ? disk->params : rig->image,
                          "base",           disk->base ? disk->base : "0",
                          "irq",            disk->irq ? disk->irq : "0",
                          "specification",  "virtio",
                          "transport",      "mmio",
                          "frontend-id",    id,
                          "online",         "1",
                          "removable",      "0",
                          "bootable",       "1",
                          "state",          "1",
                          "dev",            disk->dev ? disk->dev : "xvde",
                          "type",           "standalone",
                          "mode",           disk->mode ? disk->mode : "w",
                          "device-type",    "disk",
                          "discard-enable", "1",
                          "grant_usage",    disk->grant_usage,
                          NULL};

    snprintf(id, sizeof(id), "%u", domid);
    snprintf(frontend, sizeof(frontend), "/local/domain/%u/device/virtio_disk/%u", domid, devid);
    add_device(rig, domid, "virtio_disk", devid, keys);
}

void rig_virtio(struct xenstore_rig *rig, unsigned domid, unsigned devid, const char *type, const char *base,
                const char *irq)
{
    char id[12];
    const char *keys[] = {"frontend-id", id,   "online", "1",  "state",     "1",    "irq",         irq,
                          "base",        base, "type",   type, "transport", "mmio", "grant_usage", "0", NULL};

    snprintf(id, sizeof(id), "%u", domid);
    add_device(rig, domid, "virtio", devid, keys);
}

void rig_close(struct xenstore_rig *rig, unsigned domid, const char *kind, unsigned devid)
{
    char backend[96], frontend[96], text[128];
    xs_transaction_t transaction;

    snprintf(backend, sizeof(backend), "/local/domain/0/backend/%s/%u/%u", kind, domid, devid);
    snprintf(frontend, sizeof(frontend), "/local/domain/%u/device/%s/%u", domid, kind, devid);
    do {
        transaction = xs_transaction_start(rig->xs);
        ck_assert_uint_ne(transaction, XBT_NULL);
        xs_rm(rig->xs, transaction, frontend);
        snprintf(text, sizeof(text), "%s/online", backend);
        ck_assert(xs_write(rig->xs, transaction, text, "0", 1));
        snprintf(text, sizeof(text), "%s/state", backend);
        ck_assert(xs_write(rig->xs, transaction, text, "5", 1));
    } while (!xs_transaction_end(rig->xs, transaction, false) && errno == EAGAIN);
}

void rig_remove(struct xenstore_rig *rig, unsigned domid, const char *kind, unsigned devid)
{
    char backend[96];

    rig_close(rig, domid, kind, devid);
    rig_expect(rig, rig_state(domid, kind, devid), "6", SOON_MS);
    snprintf(backend, sizeof(backend), "/local/domain/0/backend/%s/%u/%u", kind, domid, devid);
    rig_rm(rig, backend);
    snprintf(backend, sizeof(backend), "/local/domain/0/backend/%s/%u", kind, domid);
    rig_rm(rig, backend);
}

void rig_expect_free(const char *image)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(image, O_RDWR | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_msg(fcntl(fd, F_OFD_SETLK, &lock) == 0, "%s is still held: %s", image, strerror(errno));
    close(fd);
}

/* ---- the guest ---- */

void rig_drive(struct xenstore_rig *rig, struct rig_driver *driver, struct mock_guest *guest, uint64_t base,
               unsigned irq)
{
    uint64_t ram = mock_ram_base(guest) + (4u << 20);
    struct virtio_arena arena = virtio_arena_make(guest, ram, 4u << 20);
    int result;

    memset(driver, 0, sizeof(*driver));
    if (base) {
        result =
            virtio_mmio_open(&driver->driver, guest, 0, base, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_SPI, irq, arena);
    } else {
        int sbdf = virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, -1);
        ck_assert_msg(sbdf >= 0, "no disk on PCI:\n%s", mock_daemon_log(rig->f.daemon));
        result = virtio_pci_open(&driver->driver, guest, 0, (uint16_t)sbdf, VIRTIO_ID_BLOCK_DEVICE,
                                 VIRTIO_MSIX, PCI_WINDOW, arena);
    }
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(virtio_blk_start(&driver->blk, &driver->driver, VIRTIO_BLK_ALL, 1, 0), 0);
    ck_assert_uint_eq(driver->blk.capacity, IMAGE_SIZE / VIRTIO_BLK_SECTOR);
    rig_read(driver);
}

void rig_read(struct rig_driver *driver)
{
    uint8_t bytes[512];

    ck_assert_int_eq(virtio_blk_read(&driver->blk, 100, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        if (bytes[i] != fixture_pattern(100 * 512 + i)) {
            ck_abort_msg("byte %u is wrong", i);
        }
    }
}

void rig_undrive(struct rig_driver *driver)
{
    virtio_blk_finish(&driver->blk);
    virtio_close(&driver->driver);
}
