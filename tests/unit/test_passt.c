/* SPDX-License-Identifier: BSD-2-Clause */
/* The netdev "passt", with a real passt(1) and with others in its place. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap_rig.h"

static char folder[64], path[96], options[256];

static void set_up(void)
{
    snprintf(folder, sizeof(folder), "/tmp/test_passt.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/peer", folder);
    private_network();
    ck_assert_int_eq(system("ip tuntap add dev up0 mode tap && ip link set up0 up && ip addr add 10.9.9.2/24 dev up0 "
                            "&& ip route add default via 10.9.9.1 dev up0"), 0);
}

static void tear_down(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

/* Asks for an address: passt answers as whoever it is. */
static void ask_arp(struct fake_xen *fake, unsigned before)
{
    static const uint8_t ask[] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
                                   2, 0, 0, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1 };
    ck_assert_int_eq(nic_send(0, NULL, ask, sizeof(ask)), 0);
    nic_await(fake, &nic->received, before + 1);
    ck_assert_uint_eq(nic_last()->bytes[12], 8);
    ck_assert_uint_eq(nic_last()->bytes[13], 6);
    ck_assert_uint_eq(nic_last()->bytes[21], 2); /* a reply */
}

static pid_t child_of_ours(void)
{
    char name[64];
    int pid = -1;
    snprintf(name, sizeof(name), "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(name, "re");
    ck_assert_ptr_nonnull(file);
    if (fscanf(file, "%d", &pid) != 1) {
        pid = -1;
    }
    fclose(file);
    return pid;
}

START_TEST(passt_serves)
{
    struct fake_xen *fake = nic_start("netdev=passt,netdev.args=-4 --no-dhcp-dns");
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->mtu, 65520);
    ask_arp(fake, 0);
    pid_t pid = child_of_ours();
    ck_assert_int_gt(pid, 1);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    nic_await_link(fake, false);
    nic_await_link(fake, true); /* a new one */
    ck_assert_int_eq(fake_logged(fake, "passt was killed by signal 9"), 1);
    fake_run_ms(fake, 300);
    ck_assert_int_ne(child_of_ours(), pid);
    ask_arp(fake, nic->received);
    pid = child_of_ours();
    nic_stop(fake);
    for (unsigned i = 0; i < 100 && kill(pid, 0) == 0; i++) {
        poll(NULL, 0, 10);
        waitpid(pid, NULL, WNOHANG); /* the daemon that would reap it is gone */
    }
    ck_assert_int_ne(kill(pid, 0), 0);
}
END_TEST

START_TEST(passt_fails)
{
    nic_fails("netdev=passt,netdev.args=--nonsense", "passt exited with status 1: passt: unrecognized option");
    nic_fails("netdev=passt,netdev.binary=/nowhere/passt", "/nowhere/passt: can't be started: No such file");
    nic_fails("netdev=passt,netdev.binary=/bin/false", "/bin/false exited with status 1");
    nic_fails("netdev=passt,netdev.path=/x,netdev.args=-4", "no args=");
}
END_TEST

/* A program in passt's place that talks nonsense, or closes its socket, and does not go. */
START_TEST(passt_misbehaves)
{
    static const struct {
        const char *does, *said;
    } cases[] = {
        { "printf '\\377\\377\\377\\377nonsense' >&3", "announced a frame that is longer than any" },
        { "exec 3>&-", "closed the connection" },
        { "exec 3>&-; sleep 0.05; echo tired; exit 4", "exited with status 4: tired" },
    };
    FILE *file = fopen(path, "we");
    fprintf(file, "#!/bin/sh\necho $$ >>%s/pids\nsleep 0.4\n%s\nexec sleep 1000\n", folder, cases[_i].does);
    fclose(file);
    ck_assert_int_eq(chmod(path, 0755), 0);
    snprintf(options, sizeof(options), "netdev=passt,netdev.binary=%s", path);
    struct fake_xen *fake = nic_start(options);
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    nic_await_link(fake, false);
    nic_await_link(fake, true);
    ck_assert_msg(fake_logged(fake, cases[_i].said) == 1, "%s", fake_log(fake));
    nic_stop(fake);
    char command[300];
    snprintf(command, sizeof(command), "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; for p in $(cat %s/pids); do "
             "grep -q -s '^State:.[RSD]' /proc/$p/status && continue 2; done; rm %s/pids; exit 0; done; exit 1", folder,
             folder);
    ck_assert_int_eq(system(command), 0); /* none of them runs on */
}
END_TEST

START_TEST(passt_that_runs)
{
    char command[400];
    snprintf(command, sizeof(command), "exec passt -f -q -4 --socket %s >/dev/null 2>&1 & echo $! >%s/pid", path,
             folder);
    ck_assert_int_eq(chmod(folder, 0777), 0); /* passt is nobody by then */
    ck_assert_int_eq(system(command), 0);
    snprintf(options, sizeof(options), "netdev=passt,netdev.path=%s", path);
    struct fake_xen *fake = nic_start(options);
    nic_await_link(fake, true);
    ask_arp(fake, 0);
    nic_stop(fake);
    snprintf(command, sizeof(command), "kill $(cat %s/pid); rm %s/pid", folder, folder);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    bool have_passt = system("passt --version >/dev/null 2>&1") == 0;
    bool namespaces = system("unshare --user true 2>/dev/null") == 0; /* passt makes one: not in a chroot */
    if (!have_passt || !namespaces || !can_make_taps()) {
        fprintf(stderr, "skipped: %s\n", !have_passt   ? "passt is not installed"
                                         : !namespaces ? "no user namespace can be made here"
                                                       : "no tap can be made here");
        return 77;
    }
    Suite *suite = suite_create("passt");
    TCase *all = tcase_create("passt");
    tcase_add_checked_fixture(all, set_up, tear_down);
    tcase_add_test(all, passt_serves);
    tcase_add_test(all, passt_fails);
    tcase_add_test(all, passt_that_runs);
    tcase_add_loop_test(all, passt_misbehaves, 0, 3);
    tcase_set_timeout(all, 60);
    suite_add_tcase(suite, all);
    return unit_run(suite);
}
