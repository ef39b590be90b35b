/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqctl and the real daemon: devices and guests that come and go while it runs, and clients that mean no
 * good. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"

#define PORT 0x402 /* debugcon's */
#define DEBUGCON "--device", "debugcon,id=debug,chardev=null"
#define DEFER_BASE UINT64_C(0xf0000000)
#define WORDS_MAX 24
/* Of an access beside eight attackers: 20 ms here; a machine with too much to do, and sanitizers, need more.
 */
#define LONGEST_NS UINT64_C(3000000000)

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static struct fixture f;
static char sock[160], said[65536];

static void start(void)
{
    fixture_start(&f, MOCK_PVH, 2);
    snprintf(sock, sizeof(sock), "%s/control", mock_dir(f.mock));
}

static void stop(void)
{
    fixture_stop(&f);
}

/* ---- ioreqctl ---- */

static pid_t spawn_ctl(int out, const char *const *words)
{
    const char *argv[WORDS_MAX + 4] = {getenv("IOREQCTL"), "--socket", sock};
    pid_t pid;

    for (unsigned i = 0; i < WORDS_MAX && words[i]; i++) {
        argv[3 + i] = words[i];
    }
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

/* Its exit status; what it said is in `said`. */
static int finish_ctl(pid_t pid, int in)
{
    size_t length = 0;
    ssize_t got;
    int status;

    while ((got = read(in, said + length, sizeof(said) - 1 - length)) > 0) {
        length += (size_t)got;
    }
    said[length] = '\0';
    close(in);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Runs it (the list of words ends with NULL): its exit status, and a text that it must say. */
static void ctl(int status, const char *text, ...)
{
    const char *words[WORDS_MAX] = {NULL};
    va_list more;
    int ends[2];

    va_start(more, text);
    for (unsigned i = 0; i < WORDS_MAX - 1 && (words[i] = va_arg(more, const char *)); i++) {
    }
    va_end(more);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = spawn_ctl(ends[1], words);
    close(ends[1]);
    int got = finish_ctl(pid, ends[0]);
    ck_assert_msg(got == status, "%s %s: status %d, not %d: %s", words[0], words[1] ? words[1] : "", got,
                  status, said);
    ck_assert_msg(strstr(said, text) != NULL, "%s: '%s' is not in: %s", words[0], text, said);
}

/* ---- devices ---- */

START_TEST(a_device_is_plugged_and_unplugged)
{
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_uint_eq(vcpu_inb(f.guest, 1, 0x3fd), 0xff);
        ctl(0, "", "add", f.domid, "uart16550,id=com1,base=0x3f8,irq=none,chardev=null", NULL);
        ck_assert_uint_eq(vcpu_inb(f.guest, 1, 0x3fd), 0x60);
        ctl(0, "device com1 uart16550 running", "show", f.domid, NULL);
        ctl(0, "", "remove", f.domid, "com1", "--force", NULL);
        ck_assert_uint_eq(vcpu_inb(f.guest, 1, 0x3fd), 0xff);
    }
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
}
END_TEST

START_TEST(a_bad_device_changes_nothing)
{
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    ctl(1, "no device 'nonsense'", "add", f.domid, "nonsense", NULL);
    ctl(1, "bogus", "add", f.domid, "debugcon,base=0x500,bogus=1", NULL);
    ctl(1, "is not an option", "add", f.domid, "debugcon,,", NULL);
    ctl(1, "debug", "add", f.domid, "debugcon,id=debug,base=0x500", NULL);
    ctl(1, "/nonexistent", "add", f.domid, "virtio-blk,base=0xf0001000,bus=mmio,irq=none,path=/nonexistent",
        NULL);
    ctl(1, "", "remove", f.domid, "nobody", NULL);
    ctl(1, "", "resize", f.domid, "debug", NULL);
    ctl(0, "served", "show", f.domid, NULL);
    ctl(0, "", "wait", f.domid, NULL);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
}
END_TEST

/* ---- guests ---- */

START_TEST(a_guest_is_attached_and_detached)
{
    struct mock_guest *other = mock_domain_new(f.mock, MOCK_PVH, 16u << 20, 1);
    struct mock_domain_info info;
    char domid[16];

    snprintf(domid, sizeof(domid), "%u", mock_domid(other));
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    for (unsigned i = 0; i < 3; i++) {
        ctl(0, "", "attach", domid, "--type", "pvh", "--arch", "x86", DEBUGCON, "--on-exit", "destroy", NULL);
        ck_assert_uint_eq(vcpu_inb(other, 0, PORT), 0xe9); /* attach ends when it is served */
        ctl(1, domid, "attach", domid, "--type", "pvh", DEBUGCON, NULL);
        ctl(0, "", "detach", domid, NULL);
        ck_assert_int_eq(mock_domain_info(other, &info), 0);
        ck_assert_uint_eq(info.server_mask, 0);
        ck_assert_uint_eq(info.foreign_pages, 0);
    }
    ctl(1, "no guest", "detach", domid, NULL);
    ctl(1, "it has failed: no such domain", "attach", "777", "--type", "pvh", DEBUGCON, NULL);
    ctl(1, "expected at least one device", "attach", "777", NULL);
    ctl(0, "", "wait", f.domid, NULL);
    mock_guest_free(other);
}
END_TEST

/* Not answered by what a guest of the same text does, which somebody else has added: nobody could tell them apart. */
START_TEST(attach_is_refused_where_the_guest_is_known)
{
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    ctl(1, "is here already; add devices to it", "attach", f.domid, "--device", "debugcon,base=0x500,id=debug", NULL);
    ctl(1, "a name or uuid needs xenstore", "attach", "web", "--wait", DEBUGCON, NULL);
    ctl(0, "", "list", NULL);
    ck_assert_msg(!strstr(said, "web"), "%s", said);
}
END_TEST

START_TEST(attach_makes_slots)
{
    struct mock_guest *other = mock_domain_new(f.mock, MOCK_PVH, 16u << 20, 1);
    char domid[16];

    snprintf(domid, sizeof(domid), "%u", mock_domid(other));
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    ctl(0, "", "attach", domid, "--type", "pvh", "--arch", "x86", "--device", "pci-host", "--slots", "2", NULL);
    ctl(0, "device slot-2 pcie-root-port running", "show", domid, NULL);
    ctl(0, "", "add", domid, "virtio-rng,id=card,slot=2", NULL); /* there is one to plug into */
    ctl(2, "is no UTF-8", "attach", "88", "--wait", DEBUGCON, "--device", "virtio-blk,path=/\xff", NULL);
    ctl(1, "expected a whole number", "attach", "88", "--wait", DEBUGCON, "--slots", "nan", NULL);
    ctl(1, "no guest 88", "show", "88", NULL);
    ctl(0, "", "detach", domid, NULL);
    mock_guest_free(other);
}
END_TEST

START_TEST(wait_ends_when_the_guest_is_served)
{
    struct mock_domain_spec spec = {.profile = MOCK_PVH, .ram_bytes = 16u << 20, .nr_vcpus = 1, .domid = 77};
    const char *words[] = {"wait", "77", "--timeout", "15", NULL};
    int ends[2];

    fixture_run(&f, DEBUGCON, "--control", sock, "--domain", "77", "--type", "pvh", "--wait", DEBUGCON, NULL);
    ctl(1, "not served within 0.3 s: it is waiting: its domain does not exist yet", "wait", "77", "--timeout",
        "0.3", NULL);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = spawn_ctl(ends[1], words);
    close(ends[1]);
    usleep(200000);
    ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
    struct mock_guest *late = mock_domain_create(f.mock, &spec);
    ck_assert_int_eq(finish_ctl(pid, ends[0]), 0);
    ck_assert_uint_eq(vcpu_inb(late, 0, PORT), 0xe9);
    mock_guest_free(late);
}
END_TEST

START_TEST(a_paused_guest_waits)
{
    struct mock_access read = {.space = MOCK_PIO, .addr = PORT, .size = 1, .read = true};
    uint64_t value;

    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    ctl(0, "", "pause", f.domid, NULL);
    ctl(1, "paused", "wait", f.domid, "--timeout", "0.1", NULL);
    struct fixture_vcpu *vcpu = fixture_access(&f, 0, &read);
    ctl(0, "debug", "stuck", f.domid, NULL);
    ctl(0, "", "resume", f.domid, NULL);
    ck_assert_int_eq(fixture_join(vcpu, &value), MOCK_DONE);
    ck_assert_uint_eq(value, 0xe9);
    ctl(0, "no access waits", "stuck", NULL);
}
END_TEST

START_TEST(who_waits_is_shown)
{
    struct mock_access read = {.space = MOCK_MMIO, .addr = DEFER_BASE, .size = 4, .read = true};

    fixture_run(&f, "--module", getenv("MODULE_TEST_DEFER"), "--device",
                "test-defer,id=slow,base=0xf0000000,delay=1500,chardev=null", "--control", sock, NULL);
    struct fixture_vcpu *vcpu = fixture_access(&f, 1, &read);
    ctl(0, "read mmio 0xf0000000/4", "stuck", NULL);
    ck_assert_ptr_nonnull(strstr(said, "slow"));
    ck_assert_ptr_nonnull(strstr(said, "deferred"));
    ctl(0, "\"vcpu\": 1", "stuck", f.domid, "--json", NULL);
    ck_assert_int_eq(fixture_join(vcpu, NULL), MOCK_DONE);
}
END_TEST

/* ---- the daemon ---- */

START_TEST(one_socket_one_daemon)
{
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    struct mock_daemon *second = fixture_spawn(&f, DEBUGCON, "--control", sock, NULL);
    ck_assert_int_eq(fixture_status(second), 2);
    fixture_expect_log(second, "already listens there");
    mock_daemon_free(second);
    ctl(0, "", "list", NULL);
    fixture_kill(&f); /* the file stays */
    ctl(3, "the ioreqd of this socket has ended", "list", NULL);
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    ctl(0, "running", "list", NULL);
    fixture_terminate(&f);
    ck_assert_int_eq(access(sock, F_OK), -1);
    ctl(3, "no ioreqd runs", "list", NULL);
}
END_TEST

static void copy_file(const char *from, const char *to)
{
    char bytes[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    ssize_t got;

    ck_assert(in >= 0 && out >= 0);
    while ((got = read(in, bytes, sizeof(bytes))) > 0) {
        ck_assert_int_eq(write(out, bytes, (size_t)got), got);
    }
    close(in);
    close(out);
}

START_TEST(an_upgraded_daemon_is_told)
{
    char *program = strdup(getenv("IOREQD"));
    char copy[200], newer[200];

    snprintf(copy, sizeof(copy), "%s/ioreqd", mock_dir(f.mock));
    snprintf(newer, sizeof(newer), "%s/ioreqd.new", mock_dir(f.mock));
    copy_file(program, copy);
    copy_file(program, newer);
    setenv("IOREQD", copy, 1);
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    setenv("IOREQD", program, 1);
    free(program);
    ctl(0, "process", "list", NULL);
    ck_assert_ptr_null(strstr(said, "older"));
    ck_assert_int_eq(rename(newer, copy), 0); /* as a package's upgrade does it */
    ctl(0, "an older ioreqd runs than is installed: restart it when it has no guests", "list", NULL);
    fixture_terminate(&f);
    unlink(copy);
}
END_TEST

START_TEST(the_log_level_changes)
{
    struct mock_guest *other = mock_domain_new(f.mock, MOCK_PVH, 16u << 20, 1);
    char domid[16], running[40], stopped[40];

    snprintf(domid, sizeof(domid), "%u", mock_domid(other));
    snprintf(running, sizeof(running), "domid %s: running", domid);
    snprintf(stopped, sizeof(stopped), "domid %s: stopped", domid);
    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    ctl(0, "", "log-level", "error", NULL);
    ctl(0, "", "attach", domid, "--type", "pvh", DEBUGCON, NULL);
    ck_assert_ptr_null(strstr(mock_daemon_log(f.daemon), running));
    ctl(0, "", "log-level", "info", NULL);
    ctl(0, "", "detach", domid, NULL);
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, stopped, FIXTURE_TIMEOUT_MS), 0);
    mock_guest_free(other);
}
END_TEST

/* ---- clients that mean no good ---- */

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(address.sun_path, sock, strlen(sock) + 1);
    ck_assert_int_ge(fd, 0);
    while (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        ck_assert_int_eq(errno, EAGAIN);
        usleep(1000);
    }
    return fd;
}

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static unsigned long resident_kib(void)
{
    char path[64], line[256];
    unsigned long kib = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)mock_daemon_pid(f.daemon));
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file)) {
        sscanf(line, "VmRSS: %lu kB", &kib);
    }
    fclose(file);
    return kib;
}

/* Each kind of client in its own way, as fast as it can, until it is killed. */
static void attack(unsigned kind)
{
    static const char *const texts[] = {
        "{\"execute\":\"commands\"}", /* and never reads */
        "\x01\xff{{{{[[[[\"\\\n",
        "{\"execute\":\"stats\"}\n{\"execute\":\"latency\"}\n",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        "{\"execute\":\"events\"}{\"execute\":\"trace\"}", /* and never reads */
        "{\"execute\":\"add\",\"arguments\":{\"guest\":\"1\",\"device\":\"nonsense\"}}",
    };
    const char *text = texts[kind % 6];
    int fd = dial();

    for (unsigned i = 0;; i++) {
        char bytes[4096];
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        poll(&poll_fd, 1, 10);
        usleep(50); /* the guest's processor is shared with eight of us */
        if (send(fd, text, kind == 6 ? 1 : strlen(text), MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
            close(fd);
            fd = dial();
        }
        while (kind % 6 != 0 && kind % 6 != 4 && recv(fd, bytes, sizeof(bytes), 0) > 0) {
        }
        if (kind == 7) { /* a new connection each time */
            close(fd);
            fd = dial();
        }
    }
}

START_TEST(hostile_clients_delay_nobody)
{
    pid_t attackers[8];
    uint64_t longest = 0;

    fixture_run(&f, DEBUGCON, "--control", sock, NULL);
    unsigned long before = resident_kib();
    for (unsigned i = 0; i < 8; i++) {
        attackers[i] = fork();
        ck_assert_int_ge(attackers[i], 0);
        if (attackers[i] == 0) {
            attack(i);
            _exit(0);
        }
    }
    uint64_t end = now_ns() + 4000000000u, accesses = 0, bad = 0;
    while (now_ns() < end) {
        uint64_t begun = now_ns();
        bad += vcpu_inb(f.guest, 0, PORT) != 0xe9;
        longest = now_ns() - begun > longest ? now_ns() - begun : longest;
        accesses++;
        usleep(500);
    }
    ctl(0, "running", "list", NULL); /* a well-behaved client is served too */
    unsigned long after = resident_kib();
    for (unsigned i = 0; i < 8; i++) {
        kill(attackers[i], SIGKILL);
        waitpid(attackers[i], NULL, 0);
    }
    ck_assert_uint_eq(bad, 0);
    ck_assert_uint_gt(accesses, 100);
    ck_assert_msg(longest < LONGEST_NS, "an access took %llu ms", (unsigned long long)longest / 1000000);
    printf("hostile clients: %llu accesses, the longest %.1f ms; %lu KiB more\n",
           (unsigned long long)accesses, (double)longest / 1e6, after - before);
    if (SANITIZED) {
        return; /* freed memory is held back, to find who still uses it */
    }
    ck_assert_msg(after - before < 16384, "%lu KiB more", after - before);
    ctl(0, "running", "list", NULL);
}
END_TEST

static Suite *make_suite(void)
{
    Suite *suite = suite_create("control");
    TCase *tc = tcase_create("control");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_device_is_plugged_and_unplugged);
    tcase_add_test(tc, a_bad_device_changes_nothing);
    tcase_add_test(tc, a_guest_is_attached_and_detached);
    tcase_add_test(tc, attach_is_refused_where_the_guest_is_known);
    tcase_add_test(tc, attach_makes_slots);
    tcase_add_test(tc, wait_ends_when_the_guest_is_served);
    tcase_add_test(tc, a_paused_guest_waits);
    tcase_add_test(tc, who_waits_is_shown);
    tcase_add_test(tc, one_socket_one_daemon);
    tcase_add_test(tc, an_upgraded_daemon_is_told);
    tcase_add_test(tc, the_log_level_changes);
    tcase_add_test(tc, hostile_clients_delay_nobody);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void)
{
    return fixture_main(make_suite());
}
