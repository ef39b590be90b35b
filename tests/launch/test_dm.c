/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd-dm's processes: a fake QEMU, fake or real ioreqds; how they start, fail and end together. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "rig.h"

static struct rig rig;
static struct qmp qmp;
static struct mock *mock;
static struct mock_guest *guest;
static char domid[8], records[128];

/* ---- with fake ioreqds ---- */

static void fake_setup(void)
{
    unsetenv("FAKE_IOREQD");
    rig_init(&rig, "5");
    rig_add(&rig, "-ioreqd-program", getenv("FAKE_IOREQD_PROGRAM"), "-ioreqd", "debugcon", NULL);
}

static void fake_teardown(void)
{
    rig_finish(&rig);
}

static void end_by(int signo)
{
    kill(rig.pid, signo);
    ck_assert_int_eq(rig_status(&rig), 0);
}

static pid_t child_of(pid_t parent, const char *name)
{
    char path[64], wanted[64], text[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
    close(fd);
    snprintf(wanted, sizeof(wanted), "Name:\t%s\n", name);
    for (char *rest = text, *word; (word = strsep(&rest, " "));) {
        snprintf(path, sizeof(path), "/proc/%.10s/status", word);
        if (word[0] && rig_has_text(path, wanted)) {
            return atoi(word);
        }
    }
    ck_abort_msg("%d has no child %s", parent, name);
    return 0;
}

START_TEST(qemu_gets_what_libxl_gave)
{
    char text[128];
    setenv("XEN_DOMAIN_ID", "5", 1);
    rig_add(&rig, "-ioreqd-arg", "--log", "-ioreqd-arg", "debug", "-incoming", "fd:40", "-m", "1024", NULL);
    int fd = dup2(open("/dev/zero", O_RDONLY | O_CLOEXEC), 40);
    rig_start(&rig);
    close(fd);
    rig_wait_up(&rig);
    static const char *const expected[] = {
        "arg: -xen-domid\narg: 5\narg: -no-shutdown\narg: -chardev\n"
        "arg: socket,id=libxl-cmd,server=on,wait=off,fd=",
        "arg: -mon\narg: chardev=libxl-cmd,mode=control\n",
        "arg: -nodefaults\narg: -no-user-config\narg: -name\narg: -ioreqd\narg: -incoming\n"
        "arg: fd:40\narg: -m\narg: 1024\nenv:",
        "env: XEN_DOMAIN_ID=5", "fd: 40 /dev/zero", "sigpipe: default", "fd: 0 /dev/null"};
    for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        ck_assert_msg(rig_has_text(rig.note, expected[i]), "QEMU did not get \"%s\"", expected[i]);
    }
    ck_assert(!rig_has_text(rig.note, "arg: debugcon"));
    ck_assert(!rig_has_text(rig.note, "eventpoll"));
    rig_expect_log(&rig, "ioreqd: --log debug --ready-fd ");
    rig_expect_log(&rig, " --domain 5 --type hvm --beside --on-exit destroy --device debugcon");
    /* ioreqd has no descriptor of libxl's. */
    snprintf(text, sizeof(text), "/proc/%d/fd/40", child_of(rig.pid, "fake-ioreqd"));
    ck_assert_int_ne(access(text, F_OK), 0);
    end_by(SIGHUP);
    ck_assert_msg(rig_has_text(rig.note, "signal: 1\n"), "QEMU got another signal");
}
END_TEST

START_TEST(signals_are_forwarded)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    char text[32];
    rig_start(&rig);
    rig_wait_up(&rig);
    pid_t ioreqd = child_of(rig.pid, "fake-ioreqd");
    end_by(signals[_i]);
    snprintf(text, sizeof(text), "signal: %d\n", signals[_i]);
    ck_assert(rig_has_text(rig.note, text));
    rig_wait_dead(ioreqd);
    ck_assert_int_ne(access(rig.public, F_OK), 0);
}
END_TEST

/* libxl's limit for files is meant for QEMU: a disk of ioreqd's is longer. */
START_TEST(limits_are_lifted_for_ioreqd_only)
{
    struct rlimit limit = {256 * 1024, 256 * 1024}, none = {RLIM_INFINITY, RLIM_INFINITY};
    char path[64];
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    bool may = !setrlimit(RLIMIT_FSIZE, &none) && !setrlimit(RLIMIT_FSIZE, &limit); /* as dom0's root may */
    rig_start(&rig);
    rig_wait_up(&rig);
    snprintf(path, sizeof(path), "/proc/%d/limits", child_of(rig.pid, "fake-ioreqd"));
    if (may) {
        ck_assert(rig_has_text(path, "Max file size             unlimited            unlimited"));
    } else {
        rig_expect_log(&rig, "can't lift the limit of 262144 bytes a file");
    }
    snprintf(path, sizeof(path), "/proc/%d/limits", child_of(rig.pid, "fake-qemu"));
    ck_assert(rig_has_text(path, "Max file size             262144               262144"));
    end_by(SIGTERM);
}
END_TEST

START_TEST(probe_run_is_qemus)
{
    rig_finish(&rig);
    rig_init(&rig, NULL); /* no -xen-domid, nothing of ours but the place of QEMU */
    rig_start(&rig);
    rig_wait_up(&rig);
    ck_assert_int_eq(rig_number(rig.note, "pid"), rig.pid);
    ck_assert(rig_has_text(rig.note, "arg: socket,id=libxl-cmd,path="));
    kill(rig.pid, SIGTERM);
    ck_assert_int_eq(rig_status(&rig), 0);
}
END_TEST

/* By hand: it says what it is for, and no QEMU runs. */
START_TEST(no_arguments)
{
    char said[1024] = "";
    int ends[2], status;
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        alarm(10); /* a QEMU would run on */
        execl(getenv("IOREQD_DM"), "ioreqd-dm", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    ck_assert_int_gt(read(ends[0], said, sizeof(said) - 1), 0);
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    ck_assert_msg(strstr(said, "device_model_override = ") != NULL, "%s", said);
}
END_TEST

struct refusal {
    const char *arguments[4], *text;
};

static const struct refusal refusals[] = {
    {{"-ioreqd-qemu", "/nonexistent/qemu"}, "ioreqd-dm: -ioreqd-qemu /nonexistent/qemu: No such file"},
    {{"-ioreqd", ",x"}, "ioreqd-dm: "},
    {{"-ioreqd"}, "ioreqd-dm: -ioreqd: expected a value"},
    {{"-ioreqd-what", "x"}, "ioreqd-dm: -ioreqd-what: no such option"},
    {{"-ioreqd-timeout", "0"}, "ioreqd-dm: -ioreqd-timeout 0: expected seconds"},
    {{"-ioreqd-extra"}, "ioreqd 2 of 2: expected at least one -ioreqd SPEC"},
    {{"-xen-domid", "x"}, "-xen-domid x: expected a domid"},
    {{"-xen-domid", "32752"}, "-xen-domid 32752: expected a domid"},
    {{"-xen-attach"}, "for HVM guests only"},
    {{"-ioreqd", "virtio-rng,addr=4", "-device", "e1000,addr=0x04"},
     "PCI 04.0 has two owners: ioreqd (virtio-rng,addr=4) and QEMU (e1000,addr=0x04)"},
    {{"-ioreqd", "virtio-rng,addr=1f.2", "-device", "e1000,bus=pci.0,addr=1f.2,id=net"}, "PCI 1f.2 has two owners"},
};

START_TEST(refused_at_once)
{
    for (unsigned i = 0; i < 4 && refusals[_i].arguments[i]; i++) {
        rig_add(&rig, refusals[_i].arguments[i], NULL);
    }
    rig_start(&rig);
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, refusals[_i].text);
    ck_assert_int_ne(access(rig.note, F_OK), 0);
    ck_assert_int_ne(access(rig.public, F_OK), 0);
    ck_assert(!rig_has_text(rig.log, "--ready-fd")); /* no ioreqd ran */
}
END_TEST

START_TEST(no_collision_is_seen_where_none_is)
{
    rig_add(&rig, "-ioreqd", "virtio-rng,addr=4", "-device", "e1000,addr=5", "-device", "x,bus=other,addr=4", "-device",
            "y,addr=4.1", "-device", "loader,file=a,,addr=4", NULL);
    rig_start(&rig);
    rig_wait_up(&rig);
    ck_assert(rig_runs(&rig));
    end_by(SIGTERM);
}
END_TEST

/* QEMU places a device by itself: known from query-pci, before libxl gets its first answer. */
START_TEST(collision_with_a_running_qemu)
{
    setenv("FAKE_QEMU_PCI", "[{\"bus\":0,\"devices\":[{\"bus\":0,\"slot\":0,\"function\":0,\"qdev_id\":\"\"},"
           "{\"bus\":0,\"slot\":30,\"function\":0,\"qdev_id\":\"net-nic0\"}]}]", 1);
    rig_add(&rig, "-ioreqd", "virtio-rng,addr=1e", NULL);
    rig_start(&rig);
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, "PCI 1e.0 has two owners: ioreqd (virtio-rng,addr=1e) and QEMU (net-nic0)");
    ck_assert(rig_has_text(rig.note, "signal: 15"));
}
END_TEST

START_TEST(ioreqd_that_dies)
{
    setenv("FAKE_IOREQD", "die", 1);
    rig_start(&rig);
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, "ioreqd-dm: ioreqd ended with status 3: ioreqd: domid 5: an image is not there\n");
    ck_assert_int_ne(access(rig.note, F_OK), 0);
}
END_TEST

START_TEST(ioreqd_that_can_not_be_run)
{
    rig_add(&rig, "-ioreqd-program", "/nonexistent/ioreqd", NULL);
    rig_start(&rig);
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, "ioreqd ended with status 127: can't run /nonexistent/ioreqd: No such file");
}
END_TEST

START_TEST(ioreqd_that_is_late)
{
    setenv("FAKE_IOREQD", _i ? "mute" : "late", 1);
    rig_add(&rig, "-ioreqd-timeout", "1", NULL);
    rig_start(&rig);
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, "ioreqd was not ready within 1 s: nothing came on its descriptor; it still runs: "
                         "ioreqd: domid 5: an image");
    ck_assert_int_ne(access(rig.note, F_OK), 0);
}
END_TEST

START_TEST(qemu_that_dies)
{
    setenv("FAKE_QEMU", "die", 1);
    rig_start(&rig);
    ck_assert_int_eq(rig_status(&rig), 3);
    rig_expect_log(&rig, "fake QEMU: could not initialise\n");
    rig_expect_log(&rig, "ioreqd-dm: QEMU ended with status 3; ending the others");
    ck_assert_int_ne(access(rig.public, F_OK), 0);
}
END_TEST

START_TEST(stubborn_ones_are_killed)
{
    setenv("FAKE_QEMU", "stubborn", 1);
    setenv("FAKE_IOREQD", "stubborn", 1);
    rig_start(&rig);
    rig_wait_up(&rig);
    pid_t qemu = (pid_t)rig_number(rig.note, "pid"), ioreqd = child_of(rig.pid, "fake-ioreqd");
    end_by(SIGHUP);
    rig_expect_log(&rig, "killing them");
    rig_wait_dead(qemu);
    rig_wait_dead(ioreqd);
}
END_TEST

/* SIGKILL of each one: the others end. */
START_TEST(killed_qemu)
{
    rig_start(&rig);
    rig_wait_up(&rig);
    pid_t ioreqd = child_of(rig.pid, "fake-ioreqd");
    kill((pid_t)rig_number(rig.note, "pid"), SIGKILL);
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, "QEMU was killed by signal 9 (Killed); ending the others");
    rig_wait_dead(ioreqd);
    ck_assert_int_ne(access(rig.public, F_OK), 0);
}
END_TEST

START_TEST(killed_ioreqd)
{
    rig_start(&rig);
    rig_wait_up(&rig);
    kill(child_of(rig.pid, "fake-ioreqd"), SIGKILL);
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, "ioreqd-dm: ioreqd was killed by signal 9 (Killed): ioreqd: domid 5: an image is "
                         "not there; ending the");
    ck_assert(rig_has_text(rig.note, "signal: 15"));
}
END_TEST

START_TEST(killed_itself)
{
    rig_start(&rig);
    rig_wait_up(&rig);
    pid_t ioreqd = child_of(rig.pid, "fake-ioreqd"), qemu = child_of(rig.pid, "fake-qemu");
    kill(rig.pid, SIGKILL);
    ck_assert_int_eq(rig_status(&rig), -SIGKILL);
    rig_wait_dead(ioreqd);
    rig_wait_dead(qemu);
    rig_wait_text(rig.note, "signal: 15");
    ck_assert_int_eq(system("ls -d /run/ioreqd-dm.* /tmp/ioreqd-dm.* 2>/dev/null | grep ."), 256);
}
END_TEST

/* As with dm_restrict: libxl made the socket, QEMU would get it as a descriptor. */
START_TEST(listening_socket_from_libxl)
{
    char chardev[80];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%.90s", rig.public);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    snprintf(chardev, sizeof(chardev), "socket,id=libxl-cmd,fd=%d,server=on,wait=off", fd);
    for (unsigned i = 0; i < rig.count; i++) {
        rig.arguments[i] = strstr(rig.arguments[i], "qmp-libxl,") ? chardev : rig.arguments[i];
    }
    rig_start(&rig);
    close(fd);
    qmp_open(&qmp, rig.public); /* before QEMU runs: it waits */
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{},\"id\":1}");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    qmp_send(&qmp, "{\"execute\":\"xen-save-devices-state\"}");
    json_t *reply = qmp_take(&qmp);
    ck_assert_ptr_nonnull(json_object_get(reply, "error"));
    json_decref(reply);
    snprintf(chardev, sizeof(chardev), "arg: socket,id=libxl-cmd,server=on,wait=off,fd=%d\n", fd);
    ck_assert(!rig_has_text(rig.note, chardev) || fd > 2);
    end_by(SIGHUP);
    ck_assert_int_eq(access(rig.public, F_OK), 0); /* libxl removes what it made */
}
END_TEST

/* xenopsd's way to write it. */
START_TEST(qmp_option)
{
    char path[128], option[160];
    snprintf(path, sizeof(path), "%s/qmp-event", rig.folder);
    snprintf(option, sizeof(option), "unix:%s,server,nowait", path);
    rig_add(&rig, "-qmp", option, "-S", NULL);
    rig_start(&rig);
    rig_wait_up(&rig);
    qmp_open(&qmp, path);
    qmp_send(&qmp, "{\"execute\":\"xen-save-devices-state\",\"id\":\"1\"}");
    json_t *reply = qmp_take(&qmp);
    ck_assert_ptr_nonnull(json_object_get(reply, "error"));
    json_decref(reply);
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{},\"id\":1}");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    ck_assert(rig_has_text(rig.note, "server=on,wait=off,fd="));
    ck_assert(rig_has_text(rig.note, "arg: -S\narg: -mon\narg: chardev=ioreqd-dm-"));
    ck_assert(!rig_has_text(rig.note, "arg: -qmp"));
    end_by(SIGTERM);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

/* ---- with real ioreqds under the mock ---- */

static void real_setup(void)
{
    mock = mock_start(NULL);
    ck_assert_ptr_nonnull(mock);
    guest = mock_domain_new(mock, MOCK_HVM, 16u << 20, 1);
    ck_assert_ptr_nonnull(guest);
    snprintf(domid, sizeof(domid), "%u", mock_domid(guest));
    snprintf(records, sizeof(records), "%s/records", mock_dir(mock));
    rig_init(&rig, domid);
    rig_add(&rig, "-ioreqd-program", getenv("IOREQD"), "-ioreqd-arg", "--no-xenstore", "-ioreqd-arg", "--record-dir",
            "-ioreqd-arg", records, NULL);
}

/* The mock's environment, and what the fake QEMU wants to know. */
static void real_start(void)
{
    char *const *given = mock_env(mock);
    unsigned count = 0;
    while (given[count]) {
        count++;
    }
    char **environment = calloc(count + 4, sizeof(*environment));
    memcpy(environment, given, count * sizeof(*environment));
    ck_assert_int_gt(asprintf(&environment[count], "FAKE_QEMU_NOTE=%s", rig.note), 0);
    if (getenv("FAKE_QEMU_PCI")) {
        ck_assert_int_gt(asprintf(&environment[count + 1], "FAKE_QEMU_PCI=%s", getenv("FAKE_QEMU_PCI")), 0);
    }
    rig.environment = environment;
    rig_start(&rig);
}

static void expect_nothing_left(bool records_too)
{
    struct mock_domain_info info;
    char command[256];
    if (!mock_domain_info(guest, &info)) {
        ck_assert_uint_eq(info.server_mask, 0);
        ck_assert_uint_eq(info.foreign_pages, 0);
        ck_assert_uint_eq(info.resource_pages, 0);
        ck_assert_uint_eq(info.bound_ports, 0);
    }
    snprintf(command, sizeof(command), "ls %s 2>/dev/null | grep .", records);
    ck_assert_msg(!records_too || system(command) == 256, "records stay");
    ck_assert_int_ne(access(rig.public, F_OK), 0);
}

static void real_teardown(void)
{
    rig_finish(&rig);
    mock_guest_free(guest);
    mock_stop(mock);
}

/* The guest is served by both ioreqds before QEMU runs, and until the end. */
START_TEST(two_ioreqds_serve)
{
    char first[128], second[128];
    struct mock_domain_info info;
    snprintf(first, sizeof(first), "debugcon,chardev=file,chardev.path=%s/debug", rig.folder);
    snprintf(second, sizeof(second), "uart16550,base=0x2f8,irq=3,chardev=file,chardev.path=%s/uart", rig.folder);
    rig_add(&rig, "-ioreqd", first, "-ioreqd", "virtio-rng,addr=1d", "-ioreqd-extra", "-ioreqd-arg", "--no-xenstore",
            "-ioreqd-arg", "--record-dir", "-ioreqd-arg", records, "-ioreqd", second, NULL);
    real_start();
    rig_wait_up(&rig);
    ck_assert_int_eq(mock_domain_info(guest, &info), 0);
    ck_assert_uint_eq(info.server_mask, 3);
    vcpu_outb(guest, 0, 0x402, 'd');
    vcpu_outb(guest, 0, 0x2f8, 'u');
    snprintf(first, sizeof(first), "%s/debug", rig.folder);
    snprintf(second, sizeof(second), "%s/uart", rig.folder);
    rig_wait_text(first, "d");
    rig_wait_text(second, "u");
    rig_expect_log(&rig, "ioreqd 2: domid ");
    end_by(SIGHUP);
    expect_nothing_left(true);
}
END_TEST

START_TEST(spec_that_ioreqd_refuses)
{
    rig_add(&rig, "-ioreqd", "debugcon", "-ioreqd-extra", "-ioreqd-arg", "--no-xenstore", "-ioreqd",
            _i ? "virtio-blk,path=/nonexistent/image" : "virtio-blkk", NULL);
    real_start();
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, _i ? "/nonexistent/image" : "virtio-blkk");
    rig_expect_log(&rig, "ioreqd-dm: ioreqd 2 ended with status ");
    ck_assert_int_ne(access(rig.note, F_OK), 0);
    expect_nothing_left(true);
}
END_TEST

START_TEST(no_such_domain)
{
    rig.arguments[2] = "999";
    rig_add(&rig, "-ioreqd", "debugcon", NULL);
    real_start();
    ck_assert_int_eq(rig_status(&rig), 1);
    rig_expect_log(&rig, "ioreqd-dm: ioreqd ended with status 3: domid 999: no such domain");
}
END_TEST

/* Both take a place by themselves: the second one knows the first one's by its record, and we know both. */
START_TEST(places_by_records)
{
    rig_add(&rig, "-ioreqd", "virtio-rng", "-ioreqd-extra", "-ioreqd-arg", "--no-xenstore",
            "-ioreqd-arg", "--record-dir", "-ioreqd-arg", records, "-ioreqd", "virtio-rng,id=second", NULL);
    if (_i) {
        setenv("FAKE_QEMU_PCI", _i == 1 ? "[{\"bus\":0,\"devices\":["
                                          "{\"bus\":0,\"slot\":30,\"function\":0,\"qdev_id\":\"nic0\"}]}]"
                                        : "[{\"bus\":0,\"devices\":["
                                          "{\"bus\":1,\"slot\":30,\"function\":0,\"qdev_id\":\"nic0\"}]}]",
               1);
    }
    real_start();
    if (_i == 1) {
        ck_assert_int_eq(rig_status(&rig), 1);
        rig_expect_log(&rig, "PCI 1e.0 has two owners: ioreqd (second) and QEMU (nic0)");
    } else {
        rig_wait_up(&rig);
        qmp_open(&qmp, rig.public); /* it may: nothing collides */
        qmp_close(&qmp);
        end_by(SIGHUP);
    }
    expect_nothing_left(true);
}
END_TEST

START_TEST(guest_is_gone)
{
    rig_add(&rig, "-ioreqd", "debugcon", NULL);
    real_start();
    rig_wait_up(&rig);
    ck_assert_int_eq(mock_domain_kill(guest), 0);
    ck_assert_int_eq(rig_status(&rig), 0);
    rig_expect_log(&rig, "ioreqd-dm: ioreqd ended with status 0");
    ck_assert(rig_has_text(rig.note, "signal: 15"));
    expect_nothing_left(true);
}
END_TEST

START_TEST(nothing_is_left)
{
    rig_add(&rig, "-ioreqd", "virtio-rng", NULL);
    real_start();
    rig_wait_up(&rig);
    pid_t ioreqd = child_of(rig.pid, "ioreqd");
    if (_i == 0) {
        kill(rig.pid, SIGKILL);
        ck_assert_int_eq(rig_status(&rig), -SIGKILL);
        unlink(rig.public); /* as libxl does when it destroys the domain */
    } else {
        kill((pid_t)rig_number(rig.note, "pid"), SIGKILL);
        ck_assert_int_eq(rig_status(&rig), 1);
    }
    rig_wait_dead(ioreqd);
    expect_nothing_left(true);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dm");
    TCase *fake = tcase_create("fake"), *real = tcase_create("real");
    tcase_add_checked_fixture(fake, fake_setup, fake_teardown);
    tcase_add_checked_fixture(real, real_setup, real_teardown);
    tcase_set_timeout(fake, 60);
    tcase_set_timeout(real, 60);
    tcase_add_test(fake, qemu_gets_what_libxl_gave);
    tcase_add_loop_test(fake, signals_are_forwarded, 0, 3);
    tcase_add_test(fake, limits_are_lifted_for_ioreqd_only);
    tcase_add_test(fake, probe_run_is_qemus);
    tcase_add_test(fake, no_arguments);
    tcase_add_loop_test(fake, refused_at_once, 0, (int)(sizeof(refusals) / sizeof(refusals[0])));
    tcase_add_test(fake, no_collision_is_seen_where_none_is);
    tcase_add_test(fake, collision_with_a_running_qemu);
    tcase_add_test(fake, ioreqd_that_dies);
    tcase_add_test(fake, ioreqd_that_can_not_be_run);
    tcase_add_loop_test(fake, ioreqd_that_is_late, 0, 2);
    tcase_add_test(fake, qemu_that_dies);
    tcase_add_test(fake, stubborn_ones_are_killed);
    tcase_add_test(fake, killed_qemu);
    tcase_add_test(fake, killed_ioreqd);
    tcase_add_test(fake, killed_itself);
    tcase_add_test(fake, listening_socket_from_libxl);
    tcase_add_test(fake, qmp_option);
    tcase_add_test(real, two_ioreqds_serve);
    tcase_add_loop_test(real, spec_that_ioreqd_refuses, 0, 2);
    tcase_add_test(real, no_such_domain);
    tcase_add_loop_test(real, places_by_records, 0, 3);
    tcase_add_test(real, guest_is_gone);
    tcase_add_loop_test(real, nothing_is_left, 0, 2);
    suite_add_tcase(suite, fake);
    suite_add_tcase(suite, real);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
