/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk whose server is gone: open() of its image hangs (fanotify asks us, and we don't answer). Nobody else may notice,
 * and its own guest hears of it.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fixture.h"

enum { SKIPPED = 77, PORT = 0x402 };

static struct fixture f;
static struct mock_guest *other;
static int frozen = -1;

static int freeze(const char *path)
{
    int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
    if (fd >= 0 && fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, path)) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd < 0 ? -errno : fd;
}

static void thaw(void)
{
    if (frozen >= 0) {
        close(frozen);
    }
    frozen = -1;
}

/* Two guests of one daemon: the first one's disk is frozen, the second one has a port. */
static void start(const char *options)
{
    char disk[256], number[8];
    fixture_start(&f, MOCK_HVM, 1);
    other = mock_domain_new(f.mock, MOCK_HVM, 2 << 20, 1);
    ck_assert_ptr_nonnull(other);
    const char *path = fixture_image(&f, "disk", 1 << 20);
    frozen = freeze(path);
    ck_assert_int_ge(frozen, 0);
    snprintf(disk, sizeof(disk), "virtio-blk,id=disk,path=%s%s", path, options);
    snprintf(number, sizeof(number), "%u", mock_domid(other));
    f.daemon = fixture_spawn(&f, "--type", "hvm", "--device", disk, "--domain", number, "--type", "hvm", "--device",
                             "debugcon,base=0x402", NULL);
}

static void expect_log(const struct mock_guest *guest, const char *text)
{
    char line[100];
    snprintf(line, sizeof(line), "domid %u%s%s", mock_domid(guest), text[0] == ' ' ? "" : ": ", text);
    int result = mock_daemon_wait_log(f.daemon, line, 5000);
    ck_assert_msg(result == 0, "no \"%s\":\n%s", line, mock_daemon_log(f.daemon));
}

static void stop(void)
{
    if (f.daemon) {
        fixture_terminate(&f);
    }
    mock_guest_free(other);
    fixture_stop(&f);
}

START_TEST(others_do_not_wait)
{
    start("");
    expect_log(other, "running");
    ck_assert_uint_eq(vcpu_inb(other, 0, PORT), 0xe9);
    usleep(300000);
    char text[40];
    snprintf(text, sizeof(text), "domid %s: running", f.domid);
    ck_assert_ptr_null(strstr(mock_daemon_log(f.daemon), text));
    thaw();
    expect_log(f.guest, "running");
    stop();
}
END_TEST

START_TEST(it_is_given_up)
{
    start(",open-timeout=1");
    expect_log(other, "running");
    expect_log(f.guest, "failed");
    fixture_expect_log(f.daemon, "disk: can't be opened: no answer from its disk or server within 1 s");
    ck_assert_uint_eq(vcpu_inb(other, 0, PORT), 0xe9);
#ifdef __SANITIZE_ADDRESS__
    thaw(); /* its search for leaks waits for all threads */
#endif
    mock_daemon_signal(f.daemon, SIGTERM); /* what hangs does not keep it */
    ck_assert_int_ge(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    thaw();
    stop();
}
END_TEST

/* The domain dies, or the daemon is told to end: neither waits for the server. */
START_TEST(nobody_waits)
{
    start("");
    expect_log(other, "running");
    if (_i == 0) {
        ck_assert_int_eq(mock_domain_kill(f.guest), 0);
        expect_log(f.guest, "gone");
        ck_assert_uint_eq(vcpu_inb(other, 0, PORT), 0xe9);
    }
#ifdef __SANITIZE_ADDRESS__
    mock_daemon_signal(f.daemon, SIGTERM);
    expect_log(_i ? f.guest : other, "stopped");
    thaw(); /* its search for leaks waits for all threads */
#else
    mock_daemon_signal(f.daemon, SIGTERM);
#endif
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    thaw();
    stop();
}
END_TEST

/* A command to the control socket, whose answer nobody waits for. */
static int say(const char *control, const char *command)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", control);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(send(fd, command, strlen(command), 0), (ssize_t)strlen(command));
    return fd;
}

/* A disk that is added to a guest that runs: taken off by force, or the daemon told to end. */
START_TEST(added_and_given_up)
{
    char control[200], add[500];
    int adder, remover = -1;
    fixture_start(&f, MOCK_HVM, 1);
    const char *path = fixture_image(&f, "disk", 1 << 20);
    snprintf(control, sizeof(control), "%s/control", mock_dir(f.mock));
    snprintf(add, sizeof(add),
             "{\"execute\":\"add\",\"arguments\":{\"guest\":\"%s\",\"device\":\"virtio-blk,id=disk,bus=mmio,"
             "base=0xe0000000,irq=none,path=%s\"}}",
             f.domid, path);
    fixture_run(&f, "--type", "hvm", "--control", control, "--device", "debugcon,base=0x402", NULL);
    frozen = freeze(path);
    ck_assert_int_ge(frozen, 0);
    adder = say(control, add);
    usleep(300000);
    if (_i) {
        snprintf(add, sizeof(add),
                 "{\"execute\":\"remove\",\"arguments\":{\"guest\":\"%s\",\"device\":\"disk\",\"force\":true}}",
                 f.domid);
        remover = say(control, add);
        expect_log(f.guest, " disk: detached");
    }
    mock_daemon_signal(f.daemon, SIGTERM);
#ifdef __SANITIZE_ADDRESS__
    expect_log(f.guest, "stopped");
    thaw(); /* its search for leaks waits for all threads */
#endif
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    thaw();
    close(adder);
    close(remover);
    fixture_stop(&f);
}
END_TEST

/* The domain dies meanwhile. */
START_TEST(nobody_needs_it)
{
    start(",open-timeout=2");
    expect_log(other, "running");
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    usleep(100000);
    thaw();
    usleep(200000);
    ck_assert_uint_eq(vcpu_inb(other, 0, PORT), 0xe9);
    mock_daemon_signal(f.daemon, SIGTERM);
    ck_assert_int_ge(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    stop();
}
END_TEST

/* ---- a file system of one file, which is ours ---- */

static int fuse = -1;
static atomic_bool silent; /* a close is not answered */
static atomic_uint closes;

static void reply(const struct fuse_in_header *to, int error, const void *what, size_t size)
{
    struct fuse_out_header header = {.len = (uint32_t)(sizeof(header) + size), .error = -error, .unique = to->unique};
    struct iovec iov[] = {{&header, sizeof(header)}, {(void *)(uintptr_t)what, size}};
    (void)!writev(fuse, iov, 2);
}

static struct fuse_attr attributes(uint64_t node)
{
    return (struct fuse_attr){.ino = node, .size = node == 1 ? 0 : 1 << 20, .mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644,
                              .nlink = 1, .blksize = 4096};
}

static void serve(const struct fuse_in_header *in)
{
    struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 65536};
    struct fuse_entry_out entry = {.nodeid = 2, .generation = 1, .attr = attributes(2)};
    struct fuse_attr_out attr = {.attr = attributes(in->nodeid)};
    struct fuse_open_out opened = {.fh = 1};
    switch (in->opcode) {
    case FUSE_INIT: reply(in, 0, &init, sizeof(init)); break;
    case FUSE_LOOKUP: reply(in, 0, &entry, sizeof(entry)); break;
    case FUSE_GETATTR: reply(in, 0, &attr, sizeof(attr)); break;
    case FUSE_OPEN: reply(in, 0, &opened, sizeof(opened)); break;
    case FUSE_FORGET: break;
    case FUSE_RELEASE: reply(in, 0, NULL, 0); break;
    case FUSE_FLUSH:
        if (!silent) {
            reply(in, 0, NULL, 0);
        }
        atomic_fetch_add(&closes, 1);
        break;
    default: reply(in, ENOSYS, NULL, 0); break;
    }
}

static void *serve_all(void *self)
{
    static _Alignas(8) char bytes[1 << 17];
    ssize_t got;
    while ((got = read(fuse, bytes, sizeof(bytes))) > 0 || errno == EINTR || errno == ENOENT) {
        if (got > 0) {
            serve((const struct fuse_in_header *)bytes);
        }
    }
    return self;
}

/* The path of the folder where it is mounted, or NULL. */
static const char *mount_ours(pthread_t *thread)
{
    static char folder[160];
    char options[80];
    fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(folder, sizeof(folder), "%s/mnt", mock_dir(f.mock));
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (fuse < 0 || unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mkdir(folder, 0700) ||
        mount("ours", folder, "fuse", MS_NODEV | MS_NOSUID, options) || pthread_create(thread, NULL, serve_all, NULL)) {
        return NULL;
    }
    return folder;
}

/* Its server is gone when the guest ends: close waits for it, and nobody else. */
START_TEST(a_close_that_hangs)
{
    pthread_t thread;
    char disk[256], number[8];
    fixture_start(&f, MOCK_HVM, 1);
    const char *folder = mount_ours(&thread);
    if (!folder) {
        fprintf(stderr, "a_close_that_hangs: SKIPPED: no file system of our own: %s\n", strerror(errno));
        fixture_stop(&f);
        return;
    }
    other = mock_domain_new(f.mock, MOCK_HVM, 2 << 20, 1);
    snprintf(disk, sizeof(disk), "virtio-blk,id=disk,path=%s/disk", folder);
    snprintf(number, sizeof(number), "%u", mock_domid(other));
    f.daemon = fixture_spawn(&f, "--type", "hvm", "--device", disk, "--domain", number, "--type", "hvm", "--device",
                             "debugcon,base=0x402", NULL);
    int result = mock_daemon_wait_log(f.daemon, "all guests are running", 5000);
    ck_assert_msg(result == 0, "%s", mock_daemon_log(f.daemon));
    silent = true;
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    expect_log(f.guest, "gone");
    for (unsigned i = 0; i < 100 && !closes; i++) {
        usleep(10000);
    }
    ck_assert_uint_eq(closes, 1); /* it hangs */
    ck_assert_uint_eq(vcpu_inb(other, 0, PORT), 0xe9);
    umount2(folder, MNT_DETACH);
    close(fuse); /* that ends it */
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    stop();
}
END_TEST

int main(void)
{
    int fd = freeze("/");
    if (fd < 0) {
        fprintf(stderr, "SKIPPED, NOTHING OF DISKS THAT HANG WAS TESTED: fanotify: %s\n", strerror(-fd));
        return SKIPPED;
    }
    close(fd);
    Suite *suite = suite_create("slow_open");
    TCase *slow = tcase_create("slow_open");
    tcase_set_timeout(slow, 60);
    tcase_add_test(slow, others_do_not_wait);
    tcase_add_test(slow, it_is_given_up);
    tcase_add_test(slow, nobody_needs_it);
    tcase_add_loop_test(slow, nobody_waits, 0, 2);
    tcase_add_loop_test(slow, added_and_given_up, 0, 2);
    tcase_add_test(slow, a_close_that_hangs);
    suite_add_tcase(suite, slow);
    return fixture_main(suite);
}
