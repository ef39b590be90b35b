/* SPDX-License-Identifier: BSD-2-Clause */
/* The scripts of the netdev "tap", and an open that runs out of memory. */
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap_rig.h"

/* ---- scripts ---- */

static char folder[64];

static const char *script(const char *text)
{
    static char path[96];
    snprintf(folder, sizeof(folder), "/tmp/test_tap.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/script", folder);
    FILE *file = fopen(path, "we");
    fprintf(file, "#!/bin/sh\nin=%s\n%s\n", folder, text);
    fclose(file);
    ck_assert_int_eq(chmod(path, 0755), 0);
    return path;
}

static bool says(const char *name, const char *what)
{
    return run("grep -q -x -e '%s' %s/%s 2>/dev/null", what, folder, name) == 0;
}

static void await_file(const char *name, const char *what)
{
    for (unsigned i = 0; i < 500; i++) {
        if (says(name, what)) {
            return;
        }
        poll(NULL, 0, 20);
    }
    ck_abort_msg("no '%s' in %s", what, name);
}

static const char *options_of(const char *format, const char *path)
{
    static char options[300];
    snprintf(options, sizeof(options), format, path);
    return options;
}

START_TEST(script_runs)
{
    must("ip link add br0 type bridge && ip link set br0 up");
    const char *path = script("echo \"$*\" >>$in/calls; env >$in/$1; ip link show $INTERFACE >$in/there.$1 || exit 1\n"
                              "ls -l /proc/self/fd >$in/fds\n"
                              "[ $1 = remove ] && { sleep 0.3; ip link show $INTERFACE >/dev/null && echo still "
                              ">$in/late; echo end >>$in/calls; }; exit 0");
    struct fake_xen *fake = nic_start(options_of("netdev=tap,bridge=br0,netdev.script=%s", path));
    ck_assert(says("calls", "add type_if=tap"));
    ck_assert(says("add", "vif=" NAME) && says("add", "INTERFACE=" NAME) && says("add", "bridge=br0") &&
              says("add", "type_if=tap"));
    ck_assert(!shows(NAME, "master br0")); /* that is the script's to do */
    ck_assert(run("grep -q -e ' [4-9] ->' %s/fds", folder) != 0); /* 3: ls's own */
    ck_assert(run("grep -q -e ' 0 -> /dev/null' %s/fds", folder) == 0);
    nic_stop(fake);
    await_file("calls", "end"); /* also when the daemon is gone */
    ck_assert(says("calls", "remove type_if=tap"));
    ck_assert(says("late", "still")); /* the interface stays until the script has ended */
    await_gone(NAME);
    run("rm -r %s", folder);
}
END_TEST

/* Xen's own, found by its name. */
START_TEST(script_of_xen)
{
    if (access("/etc/xen/scripts/vif-bridge", X_OK) != 0) {
        fprintf(stderr, "script_of_xen: skipped: no /etc/xen/scripts/vif-bridge (xen-utils-common)\n");
        return;
    }
    must("ip link add br0 type bridge && ip link set br0 up");
    struct fake_xen *fake = nic_start("netdev=tap,bridge=br0,script=vif-bridge");
    ck_assert(shows(NAME, "master br0"));
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    nic_stop(fake);
    await_gone(NAME);
    nic_fails("netdev=tap,bridge=nobridge,script=vif-bridge", "script vif-bridge exited with status 1");
}
END_TEST

START_TEST(script_fails)
{
    const char *path = script("echo 'some chatter'; echo 'no bridge today' >&2; exit 3");
    nic_fails(options_of("netdev=tap,netdev.script=%s", path), "script exited with status 3: no bridge today");
    await_gone(NAME);
    run("rm -r %s", folder);
    nic_fails("netdev=tap,script=/nowhere/script", "/nowhere/script: can't be started: No such file");
    nic_fails("netdev=tap,script=no-such-script", "/etc/xen/scripts/no-such-script: can't be started");
    await_gone(NAME);
}
END_TEST

START_TEST(script_that_hangs)
{
    char pid[16] = "";
    const char *path = script("echo $$ >$in/pid; [ $1 = add ] || exit 0; trap '' TERM; sleep 1000 & "
                              "echo $! >$in/other; echo waiting; wait");
    double before = cpu_seconds();
    nic_fails(options_of("netdev=tap,netdev.script-timeout=1,netdev.script=%s", path),
              "script took longer than its time limit: waiting");
    ck_assert(cpu_seconds() - before < 0.5);
    await_gone(NAME);
    for (unsigned i = 0; i < 2; i++) { /* itself, and what it started */
        char name[96];
        snprintf(name, sizeof(name), "%s/%s", folder, i == 0 ? "pid" : "other");
        FILE *file = fopen(name, "re");
        ck_assert_ptr_nonnull(file);
        ck_assert_ptr_nonnull(fgets(pid, sizeof(pid), file));
        fclose(file);
        bool runs = true;
        for (unsigned j = 0; j < 100 && runs; j++) {
            runs = run("grep -q -s '^State:.[RSD]' /proc/%d/status", atoi(pid)) == 0;
            poll(NULL, 0, 10);
        }
        ck_assert_msg(!runs, "%s runs on", pid);
    }
    run("rm -r %s", folder);
}
END_TEST

/* It writes more than a pipe holds. */
START_TEST(script_that_chatters)
{
    const char *path = script("i=0; while [ $i -lt 3000 ]; do echo \"a line of some length, number $i\"; "
                              "i=$((i+1)); done; printf 'the \\033[1mlast' >&2; exit 1");
    nic_fails(options_of("netdev=tap,netdev.script=%s", path), "exited with status 1: the ?[1mlast");
    run("rm -r %s", folder);
}
END_TEST

static struct {
    bool done;
    int error;
    char why[200];
} verb;

static void verb_done(void *self, int error, const char *why)
{
    verb.done = true;
    verb.error = error;
    snprintf(verb.why, sizeof(verb.why), "%s", why != NULL ? why : "");
}

static bool verb_is_done(void *self)
{
    return verb.done;
}

/* A card goes, and another one takes its interface's name while the old one's script still runs: as a reload does it. */
START_TEST(script_and_the_next_card)
{
    const char *path = script("[ $1 = add ] && { echo add >>$in/calls; exit 0; }; sleep 0.5; echo removed >>$in/calls");
    struct fake_xen *fake = nic_start(options_of("netdev=tap,id=one,ifname=mine,netdev.script=%s", path));
    struct iod_error error = { 0 };
    struct device_spec spec;
    ck_assert_int_eq(daemon_remove_device(fake_daemon(fake), "7", "one", REMOVAL_FORCE, verb_done, NULL, &error), 0);
    fake_run(fake, verb_is_done, NULL);
    verb.done = false;
    char text[400];
    snprintf(text, sizeof(text), "test-nic,id=two,netdev=tap,ifname=mine,netdev.script=%s", path);
    ck_assert_int_eq(device_spec_parse(&spec, text, &error), 0);
    ck_assert_msg(daemon_add_device(fake_daemon(fake), "7", &spec, verb_done, NULL, &error) == 0, "%s", error.text);
    device_spec_finish(&spec);
    if (_i) { /* and goes before that has ended */
        fake_run_ms(fake, 50);
        ck_assert(!verb.done);
        nic = NULL;
        fake_stop(fake);
    } else {
        fake_run(fake, verb_is_done, NULL);
        ck_assert_msg(verb.error == 0, "%s", verb.why);
        ck_assert_int_eq(run("[ \"$(cat %s/calls | tr '\\n' ' ')\" = 'add removed add ' ]", folder), 0);
        nic_stop(fake);
    }
    await_gone("mine");
    run("rm -r %s", folder);
}
END_TEST

/* The guest dies while its script runs. */
START_TEST(script_and_a_dead_guest)
{
    const char *path = script("echo $$ >$in/pid; sleep 1; exit 0");
    char text[300];
    struct iod_error error = { 0 };
    struct guest_spec spec;
    struct fake_xen *fake = fake_create(&nic_module, NULL, &error);
    ck_assert_ptr_nonnull(fake);
    guest_spec_init(&spec);
    spec.domain = strdup("7");
    spec.arch = ARCH_X86;
    spec.type = GUEST_HVM;
    spec.bufioreq = BUF_OFF;
    snprintf(text, sizeof(text), "test-nic,netdev=tap,netdev.script=%s", path);
    ck_assert_int_eq(guest_spec_add_device(&spec, text, &error), 0);
    ck_assert_msg(daemon_add_guest(fake_daemon(fake), &spec, &error) == 0, "%s", error.text);
    guest_spec_finish(&spec);
    fake_run_ms(fake, 200);
    ck_assert(shows(NAME, "emu"));
    fake_mark_dead(fake, 7);
    for (unsigned i = 0; i < 100 && daemon_guests(fake_daemon(fake)) > 0; i++) {
        fake_run_ms(fake, 50);
    }
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    fake_free(fake);
    await_gone(NAME);
    run("rm -r %s", folder);
}
END_TEST

/* ---- memory ---- */

#ifndef __SANITIZE_ADDRESS__
static struct { unsigned allocations, fail_at, failed; } calls;
static unsigned fail_next;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *malloc(size_t size);
void *calloc(size_t count, size_t size);

static bool allocation_fails(void)
{
    bool fails = ++calls.allocations == calls.fail_at;
    calls.failed += fails;
    return fails;
}

void *malloc(size_t size)
{
    return allocation_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __libc_calloc(count, size);
}

static void arm(void)
{
    calls.allocations = calls.failed = 0;
    calls.fail_at = fail_next;
}

enum { TRY_RAN = 10, TRY_FAILED, TRY_LEFT, CHECK_FAILED = 2 };

/* In a process of its own: an allocation of Check's that fails ends it. */
static int try_open(const char *options, bool script)
{
    pid_t child = fork();
    if (child == 0) {
        freopen("/dev/null", "w", stderr);
        bool ran = nic_tries(options);
        unsigned failed = calls.failed;
        calls.fail_at = 0;
        bool left = !script && shows(NAME, "emu"); /* a script may still be at work */
        _exit(left ? TRY_LEFT : failed > 0 ? TRY_FAILED : ran ? TRY_RAN : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "allocation %u: signal %d", fail_next, WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* Each allocation of an open fails once: it fails as a whole, or works, and leaves nothing. */
START_TEST(each_allocation_fails)
{
    static const char *const all[] = { "netdev=tap", "netdev=tap,bridge=br0,script=/bin/true" };
    int result;
    must("ip link add br0 type bridge && ip link set br0 up");
    nic_created = arm;
    nic_pairs = 2;
    for (unsigned i = 0; i < 2; i++) {
        unsigned failed = 0;
        fail_next = 0;
        do {
            fail_next++;
            ck_assert_uint_lt(fail_next, 300);
            result = try_open(all[i], i == 1);
            ck_assert_msg(result == TRY_FAILED || result == TRY_RAN || result == CHECK_FAILED,
                          "%s: allocation %u: %d", all[i], fail_next, result);
            failed += result == TRY_FAILED;
        } while (result != TRY_RAN);
        ck_assert_uint_gt(failed, 10);
    }
}
END_TEST
#endif

/* ---- all of it ---- */

int main(void)
{
    const TTest *const tests[] = {
        script_runs, script_of_xen, script_fails, script_that_hangs, script_that_chatters, script_and_a_dead_guest,
    };
    if (!can_make_taps()) {
        fprintf(stderr, "skipped: no tap can be made here (root, /dev/net/tun, network namespaces)\n");
        return 77;
    }
    Suite *suite = suite_create("tap_script");
    TCase *taps = tcase_create("taps");
    tcase_add_checked_fixture(taps, private_network, NULL);
    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tcase_add_test(taps, tests[i]);
    }
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(taps, each_allocation_fails);
#endif
    tcase_add_loop_test(taps, script_and_the_next_card, 0, 2);
    tcase_set_timeout(taps, 60);
    suite_add_tcase(suite, taps);
    return unit_run(suite);
}
