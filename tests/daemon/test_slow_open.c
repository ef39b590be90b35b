/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk whose server is gone: open() of its image hangs (fanotify asks us, and we don't answer). Nobody else may notice,
 * and its own guest hears of it.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
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
    suite_add_tcase(suite, slow);
    return fixture_main(suite);
}
