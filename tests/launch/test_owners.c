/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd --beside asks the guest's QEMU, by QMP, which PCI slots are taken. The fake QEMU answers. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "rig.h"

static struct mock *mock;
static struct mock_guest *guest;
static struct mock_daemon *ioreqd;
static char folder[64];
static pid_t qemu;

static void setup(void)
{
    snprintf(folder, sizeof(folder), "/tmp/test-owners.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    setenv("XEN_RUN_DIR", folder, 1);
    mock = mock_start(NULL);
    ck_assert_ptr_nonnull(mock);
    guest = mock_domain_new(mock, MOCK_HVM, 16u << 20, 1);
    ck_assert_ptr_nonnull(guest);
}

static void teardown(void)
{
    char command[128];
    if (qemu > 0) {
        kill(qemu, SIGKILL);
    }
    mock_daemon_free(ioreqd);
    mock_guest_free(guest);
    mock_stop(mock);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

/* A QEMU with these functions, or one that does not answer (NULL). */
static void start_qemu(const char *functions)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char chardev[64];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/qmp-libxl-%u", folder, mock_domid(guest));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    snprintf(chardev, sizeof(chardev), "socket,id=x,server=on,fd=%d", fd);
    qemu = fork();
    if (qemu == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setenv("FAKE_QEMU", functions ? "" : "mute", 1);
        setenv("FAKE_QEMU_PCI", functions ? functions : "[]", 1);
        execl(getenv("FAKE_QEMU_PROGRAM"), "fake-qemu", "-chardev", chardev, NULL);
        _exit(126);
    }
    close(fd);
}

static void start_ioreqd(const char *beside, const char *device)
{
    char domid[8], records[128];
    const char *argv[] = {getenv("IOREQD"), "--no-xenstore", "--record-dir", records, "--domain", domid,
                          "--type", "hvm", "--device", device, beside, NULL};
    snprintf(domid, sizeof(domid), "%u", mock_domid(guest));
    snprintf(records, sizeof(records), "%s/records", folder);
    ioreqd = mock_spawn_daemon(mock, (char *const *)(uintptr_t)argv);
    ck_assert_ptr_nonnull(ioreqd);
}

static void expect_log(const char *text)
{
    ck_assert_msg(mock_daemon_wait_log(ioreqd, text, RIG_TIMEOUT_MS) == 0, "no \"%s\":\n%s", text,
                  mock_daemon_log(ioreqd));
}

static void expect_claim(const char *claim)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/records/%u.0", folder, mock_domid(guest));
    rig_wait_text(path, claim);
}

static void end(int status)
{
    int wait_status;
    mock_daemon_signal(ioreqd, SIGTERM);
    ck_assert_int_eq(mock_daemon_wait(ioreqd, RIG_TIMEOUT_MS, &wait_status), 0);
    ck_assert_msg(WEXITSTATUS(wait_status) == status, "status %d:\n%s", wait_status, mock_daemon_log(ioreqd));
}

START_TEST(a_taken_slot_is_refused)
{
    start_qemu("[{\"bus\":0,\"devices\":[{\"bus\":0,\"slot\":4,\"function\":0,\"qdev_id\":\"nic0\"}]}]");
    start_ioreqd("--beside", "virtio-rng,addr=4");
    expect_log("nic0 of QEMU");
    int wait_status;
    ck_assert_int_eq(mock_daemon_wait(ioreqd, RIG_TIMEOUT_MS, &wait_status), 0);
    ck_assert_int_eq(WEXITSTATUS(wait_status), 3);
    ck_assert_ptr_nonnull(strstr(mock_daemon_log(ioreqd), "virtio-rng0"));
}
END_TEST

START_TEST(a_default_slot_goes_round_it)
{
    start_qemu("[{\"bus\":0,\"devices\":[{\"bus\":0,\"slot\":31,\"function\":0,\"qdev_id\":\"x\"},"
               "{\"bus\":0,\"slot\":30,\"function\":0,\"qdev_id\":\"y\"},"
               "{\"bus\":1,\"slot\":29,\"function\":0,\"qdev_id\":\"z\"}]}]");
    start_ioreqd("--beside", "virtio-rng");
    expect_log(": running");
    expect_claim("0xe8 0xe8 virtio-rng0"); /* 1d.0: bus 1 is another one */
    end(0);
}
END_TEST

/* Nobody is asked where nobody is said to be, or listens: at once. */
START_TEST(nobody_to_ask)
{
    struct timespec before, after;
    if (_i) {
        start_qemu(NULL);
    }
    clock_gettime(CLOCK_MONOTONIC, &before);
    start_ioreqd(_i ? NULL : "--beside", "virtio-rng,addr=4");
    expect_log(": running");
    clock_gettime(CLOCK_MONOTONIC, &after);
    ck_assert_int_lt(after.tv_sec - before.tv_sec, 2);
    ck_assert_ptr_null(strstr(mock_daemon_log(ioreqd), "does not say"));
    end(0);
}
END_TEST

/* A QEMU that hangs is given two seconds; then the guest is served all the same. */
START_TEST(no_answer)
{
    start_qemu(NULL);
    start_ioreqd("--beside", "virtio-rng,addr=4");
    expect_log("does not say which PCI functions it has");
    expect_log(": running");
    end(0);
}
END_TEST

START_TEST(the_guest_goes_meanwhile)
{
    int wait_status;
    start_qemu(NULL);
    start_ioreqd("--beside", "virtio-rng,addr=4");
    usleep(300000);
    if (_i) {
        mock_domain_kill(guest);
    } else {
        mock_daemon_signal(ioreqd, SIGTERM);
    }
    ck_assert_int_eq(mock_daemon_wait(ioreqd, RIG_TIMEOUT_MS, &wait_status), 0);
    ck_assert_msg(WIFEXITED(wait_status), "%s", mock_daemon_log(ioreqd));
    ck_assert_ptr_null(strstr(mock_daemon_log(ioreqd), ": running"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("owners");
    TCase *tcase = tcase_create("owners");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_taken_slot_is_refused);
    tcase_add_test(tcase, a_default_slot_goes_round_it);
    tcase_add_loop_test(tcase, nobody_to_ask, 0, 2);
    tcase_add_test(tcase, no_answer);
    tcase_add_loop_test(tcase, the_guest_goes_meanwhile, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
