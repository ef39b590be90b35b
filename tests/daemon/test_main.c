/* SPDX-License-Identifier: BSD-2-Clause */
/* The process around the daemon: readiness, signals, exit codes, the log; guests by name, over the real
 * xenstored. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "xenstore/mock_xenstore.h"

#define PORT 0x402
#define DEVICE "--device", "debugcon,chardev=null"
#define LONG_MS 15000

static struct fixture f;

static void start(void)
{
    fixture_start(&f, MOCK_PVH, 2);
}

static void stop(void)
{
    fixture_stop(&f);
}

/* ---- readiness ---- */

static int ready_pipe[2];

static void make_pipe(char *number, size_t size)
{
    ck_assert_int_eq(pipe(ready_pipe), 0);
    fcntl(ready_pipe[0], F_SETFD, FD_CLOEXEC);
    snprintf(number, size, "%d", ready_pipe[1]);
}

/* All that was ever written to it; waits until the daemon closed it. */
static void read_pipe(char *text, size_t size)
{
    size_t length = 0;
    ssize_t got;

    close(ready_pipe[1]);
    do {
        struct pollfd fd = {.fd = ready_pipe[0], .events = POLLIN};
        ck_assert_msg(poll(&fd, 1, LONG_MS) == 1, "--ready-fd was not closed");
        got = read(ready_pipe[0], text + length, size - 1 - length);
        length += got > 0 ? (size_t)got : 0;
    } while (got > 0);
    text[length] = '\0';
    close(ready_pipe[0]);
}

START_TEST(ready_fd_when_all_guests_run)
{
    struct mock_guest *other = mock_domain_new(f.mock, MOCK_PVH, 16u << 20, 1);
    char number[16], domid[16], text[64];

    make_pipe(number, sizeof(number));
    snprintf(domid, sizeof(domid), "%u", mock_domid(other));
    f.daemon =
        fixture_spawn(&f, DEVICE, "--domain", domid, "--type", "pvh", DEVICE, "--ready-fd", number, NULL);
    read_pipe(text, sizeof(text));
    ck_assert_str_eq(text, "ready\n");
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_uint_eq(vcpu_inb(other, 0, PORT), 0xe9);
    fixture_terminate(&f);
    mock_guest_free(other);
}
END_TEST

START_TEST(ready_fd_stays_silent_when_a_guest_fails)
{
    char number[16], text[64];

    make_pipe(number, sizeof(number));
    struct mock_daemon *daemon =
        fixture_spawn(&f, DEVICE, "--domain", "777", "--type", "pvh", DEVICE, "--ready-fd", number, NULL);
    ck_assert_int_eq(mock_daemon_wait_log(daemon, ": running", LONG_MS), 0);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9); /* the other one is served all the same */
    mock_daemon_signal(daemon, SIGTERM);
    ck_assert_int_eq(fixture_status(daemon), 3);
    read_pipe(text, sizeof(text));
    ck_assert_str_eq(text, "");
    mock_daemon_free(daemon);
}
END_TEST

/* ---- exit codes ---- */

static void expect_status(struct mock_daemon *daemon, int status, const char *says)
{
    ck_assert_int_eq(fixture_status(daemon), status);
    fixture_expect_log(daemon, says);
    mock_daemon_free(daemon);
}

START_TEST(status_0_when_the_domain_is_gone)
{
    fixture_run(&f, DEVICE, NULL);
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    expect_status(f.daemon, 0, "gone");
    f.daemon = NULL;
}
END_TEST

START_TEST(status_1_for_what_the_user_said)
{
    expect_status(fixture_spawn(&f, "--bogus", NULL), 1, "--bogus");
    expect_status(fixture_spawn(&f, "--device", "no-such-device", NULL), 1, "no device 'no-such-device'");
    expect_status(fixture_spawn(&f, "--device", "debugcon,nonsense=1", NULL), 1, "nonsense");
    expect_status(fixture_spawn(&f, "--module", "/nonexistent.so", DEVICE, NULL), 1, "/nonexistent.so");
    ck_assert_uint_eq(mock_call_count(f.mock, MOCK_CALL_CREATE_SERVER), 0);
}
END_TEST

/* Without the mock's environment: the real libraries on a machine without Xen. */
static int run_plain(char *const argv[], const char *log, const char *journal)
{
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        char stream[64];
        struct stat st;
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, STDERR_FILENO);
        if (journal && !fstat(fd, &st)) {
            snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
                     (uintmax_t)st.st_ino + (strcmp(journal, "other") == 0));
            setenv("JOURNAL_STREAM", stream, 1);
        }
        unsetenv("LD_LIBRARY_PATH");
        execv(argv[0], argv);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void read_log(const char *log, char *text, size_t size)
{
    FILE *file = fopen(log, "r");

    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
}

START_TEST(status_2_without_xen)
{
    char log[160], text[1024];
    char *argv[] = {getenv("IOREQD"),
                    (char *)"--domain",
                    (char *)"1",
                    (char *)"--type",
                    (char *)"pvh",
                    (char *)"--device",
                    (char *)"debugcon,chardev=null",
                    NULL};

    if (access("/dev/xen/privcmd", F_OK) == 0) {
        return; /* this machine has Xen */
    }
    snprintf(log, sizeof(log), "%s/plain.log", mock_dir(f.mock));
    ck_assert_int_eq(run_plain(argv, log, NULL), 2);
    read_log(log, text, sizeof(text));
    ck_assert_msg(strncmp(text, "ioreqd: /dev/xen/privcmd: ", 26) == 0, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "is this a Xen hardware domain"));
    /* One line, and none of the libraries' own. */
    ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

START_TEST(the_journal_gets_priorities)
{
    char log[160], text[1024];
    char *argv[] = {getenv("IOREQD"), (char *)"--domain", (char *)"1", NULL};

    snprintf(log, sizeof(log), "%s/journal.log", mock_dir(f.mock));
    ck_assert_int_eq(run_plain(argv, log, "this"), 1);
    read_log(log, text, sizeof(text));
    ck_assert_msg(strncmp(text, "<3>--domain 1: ", 15) == 0, "%s", text);
    ck_assert_int_eq(run_plain(argv, log, "other"), 1); /* inherited, but stderr is not the journal */
    read_log(log, text, sizeof(text));
    ck_assert_msg(strncmp(text, "ioreqd: --domain 1: ", 20) == 0, "%s", text);
}
END_TEST

START_TEST(status_3_when_a_guest_failed)
{
    struct mock_daemon *daemon;

    ck_assert_int_eq(mock_fail(f.mock, MOCK_CALL_CREATE_SERVER, 1, 1, ENOSPC), 0);
    daemon = fixture_spawn(&f, DEVICE, NULL);
    expect_status(daemon, 3, "failed");
}
END_TEST

/* A vCPU that does not take its answer (a paused guest) holds the end up; a second signal does not wait for
 * it. */
START_TEST(status_4_at_the_second_signal)
{
    struct mock_access access = {.space = MOCK_PIO, .read = true, .size = 1, .addr = PORT};

    fixture_run(&f, DEVICE, NULL);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_int_eq(mock_access_start(f.guest, 1, &access), 0);
    mock_daemon_signal(f.daemon, SIGTERM);
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, "a second signal ends at once", LONG_MS), 0);
    mock_daemon_signal(f.daemon, SIGTERM);
    ck_assert_int_eq(fixture_status(f.daemon), 4);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    mock_access_wait(f.guest, 1, 1000, NULL);
}
END_TEST

START_TEST(each_ending_signal_ends_well)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

    fixture_run(&f, DEVICE, NULL);
    mock_daemon_signal(f.daemon, signals[_i]);
    expect_status(f.daemon, 0, "stopped");
    f.daemon = NULL;
    fixture_expect_clean(&f);
}
END_TEST

/* The service began before anybody wrote the file: a reload looks for it. */
START_TEST(the_file_may_come_later)
{
    const char *argv[] = {getenv("IOREQD"), "--service",   "--no-xenstore", "--record-dir",
                          f.records,        "--control", "none",          NULL};

    if (access("/etc/ioreqd/ioreqd.conf", F_OK) == 0 || access("/usr/local/etc/ioreqd/ioreqd.conf", F_OK) == 0) {
        return; /* this machine is one where ioreqd is at work */
    }
    f.daemon = mock_spawn_daemon(f.mock, (char *const *)(uintptr_t)argv);
    ck_assert_ptr_nonnull(f.daemon);
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, "ready: guests are served as they come", LONG_MS), 0);
    mock_daemon_signal(f.daemon, SIGHUP);
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, "/etc/ioreqd/ioreqd.conf: No such file", LONG_MS), 0);
    fixture_terminate(&f);
}
END_TEST

#if defined(__x86_64__)
/* A PC has no device tree; it may have been booted with one, by coreboot say. */
START_TEST(no_device_tree_runs_here)
{
    if (access("/sys/firmware/fdt", F_OK) == 0) {
        return;
    }
    struct mock_daemon *daemon = fixture_spawn(&f, DEVICE, "--host-dtb", "running", NULL);
    expect_status(daemon, 1, "--host-dtb running: this machine was booted without a device tree");
    char path[160];
    const char *argv[] = {getenv("IOREQD"), "--service", "--no-xenstore", "--control", "none", "--config", path, NULL};
    snprintf(path, sizeof(path), "%s/dt.conf", mock_dir(f.mock));
    FILE *file = fopen(path, "we");
    fputs("device-tree = \"running\";\n", file);
    fclose(file);
    daemon = mock_spawn_daemon(f.mock, (char *const *)(uintptr_t)argv);
    expect_status(daemon, 1, "dt.conf:1: device-tree = \"running\": this machine was booted without one");
}
END_TEST
#endif

/* ---- xenstore ---- */

static struct mock *mock;
static struct mock_daemon *daemon_by_name;

static void start_xenstore(void)
{
    struct mock_options options = {.xenstore = true};

    mock = mock_start(&options);
    ck_assert_ptr_nonnull(mock);
    ck_assert_int_eq(mock_xenstore_start(mock), 0);
}

static void stop_xenstore(void)
{
    mock_daemon_free(daemon_by_name);
    daemon_by_name = NULL;
    ck_assert_uint_eq(mock_panics(mock), 0);
    mock_xenstore_stop(mock);
    mock_stop(mock);
}

static struct mock_guest *make_domain(enum mock_profile profile)
{
    struct mock_domain_spec spec = {.profile = profile, .ram_bytes = 16u << 20, .nr_vcpus = 1, .name = "web"};
    struct mock_guest *guest = mock_domain_create(mock, &spec);

    ck_assert_ptr_nonnull(guest);
    ck_assert_int_eq(mock_xenstore_create_domain(guest), 0);
    return guest;
}

static void end_domain(struct mock_guest *guest)
{
    mock_domain_kill(guest);
    mock_xenstore_release(guest);
    mock_xenstore_remove_nodes(guest);
    mock_guest_free(guest);
}

static void spawn_by_name(const char *first, const char *second)
{
    char records[160];
    const char *argv[] = {getenv("IOREQD"), "--record-dir", records, "--domain", "web",
                          DEVICE,           first,          second,  NULL};

    snprintf(records, sizeof(records), "%s/records", mock_dir(mock));
    daemon_by_name = mock_spawn_daemon(mock, (char *const *)(uintptr_t)argv);
    ck_assert_ptr_nonnull(daemon_by_name);
}

static void expect_log_soon(const char *text)
{
    int ret = mock_daemon_wait_log(daemon_by_name, text, LONG_MS);

    ck_assert_msg(ret == 0, "\"%s\" was not said (%d):\n%s", text, ret, mock_daemon_log(daemon_by_name));
}

/* The domain comes, goes, and comes again under another domid. */
START_TEST(waited_for_by_name_across_reboots)
{
    spawn_by_name("--wait", NULL);
    ck_assert_int_eq(mock_daemon_wait_log(daemon_by_name, "running", 300), -ETIMEDOUT);
    for (unsigned boot = 0; boot < 3; boot++) {
        struct mock_guest *guest = make_domain(MOCK_HVM);
        expect_log_soon(": running");
        ck_assert_uint_eq(vcpu_inb(guest, 0, PORT), 0xe9);
        end_domain(guest);
        expect_log_soon(": gone");
    }
    mock_daemon_signal(daemon_by_name, SIGTERM);
    ck_assert_int_eq(fixture_status(daemon_by_name), 0);
}
END_TEST

START_TEST(exit_when_gone_though_waited_for)
{
    spawn_by_name("--wait", "--exit-when-gone");
    struct mock_guest *guest = make_domain(MOCK_PVH);
    expect_log_soon(": running");
    end_domain(guest);
    ck_assert_int_eq(fixture_status(daemon_by_name), 0);
}
END_TEST

START_TEST(unknown_name_without_wait_fails)
{
    spawn_by_name(NULL, NULL);
    ck_assert_int_eq(fixture_status(daemon_by_name), 3);
    fixture_expect_log(daemon_by_name, "--wait");
}
END_TEST

/* Guests run on while xenstored is away, hangs, or is killed. */
START_TEST(served_without_xenstored)
{
    struct mock_guest *guest = make_domain(MOCK_HVM);

    spawn_by_name(NULL, NULL);
    expect_log_soon(": running");
    kill(mock_xenstore_pid(mock), SIGKILL);
    expect_log_soon("xenstored: connection lost");
    ck_assert_uint_eq(vcpu_inb(guest, 0, PORT), 0xe9);
    mock_domain_kill(guest); /* found without xenstore, by asking Xen */
    ck_assert_int_eq(fixture_status(daemon_by_name), 0);
    mock_guest_free(guest);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("main");
    TCase *tc = tcase_create("process"), *store = tcase_create("xenstore");
    SRunner *runner = srunner_create(suite);

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, ready_fd_when_all_guests_run);
    tcase_add_test(tc, ready_fd_stays_silent_when_a_guest_fails);
    tcase_add_test(tc, status_0_when_the_domain_is_gone);
    tcase_add_test(tc, status_1_for_what_the_user_said);
    tcase_add_test(tc, status_2_without_xen);
    tcase_add_test(tc, the_journal_gets_priorities);
    tcase_add_test(tc, status_3_when_a_guest_failed);
    tcase_add_test(tc, the_file_may_come_later);
#if defined(__x86_64__)
    tcase_add_test(tc, no_device_tree_runs_here);
#endif
    tcase_add_test(tc, status_4_at_the_second_signal);
    tcase_add_loop_test(tc, each_ending_signal_ends_well, 0, 3);
    suite_add_tcase(suite, tc);
    tcase_set_timeout(store, 90);
    tcase_add_checked_fixture(store, start_xenstore, stop_xenstore);
    tcase_add_test(store, waited_for_by_name_across_reboots);
    tcase_add_test(store, exit_when_gone_though_waited_for);
    tcase_add_test(store, unknown_name_without_wait_fails);
    tcase_add_test(store, served_without_xenstored);
    suite_add_tcase(suite, store);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
