/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd --list under the mock: programs and running processes, each way to be ready, to fail and to end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "rig.h"
#include "xenstore/mock_xenstore.h"

static struct mock *mock;
static struct mock_guest *guest;
static struct mock_daemon *list;
static char folder[64], file[96];
static bool with_xenstore;

static void setup(void)
{
    struct mock_options options = {.xenstore = with_xenstore};
    snprintf(folder, sizeof(folder), "/tmp/test-list.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(file, sizeof(file), "%s/list.json", folder);
    mock = mock_start(&options);
    ck_assert_ptr_nonnull(mock);
    ck_assert(!with_xenstore || !mock_xenstore_start(mock));
    guest = mock_domain_new(mock, MOCK_HVM, 16u << 20, 1);
    ck_assert_ptr_nonnull(guest);
    ck_assert(!with_xenstore || !mock_xenstore_create_domain(guest));
}

static void setup_xenstore(void)
{
    with_xenstore = true;
    setup();
}

static void teardown(void)
{
    char command[128];
    mock_daemon_free(list);
    mock_guest_free(guest);
    if (with_xenstore) {
        mock_xenstore_stop(mock);
    }
    mock_stop(mock);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

/* Writes the list: ' for ", @ for the folder, FAKE for the fake emulator, IOREQD, DOMID. */
static void write_list(const char *text)
{
    char domid[8];
    const char *const words[][2] = {{"'", "\""}, {"@", folder}, {"FAKE", getenv("FAKE_EMULATOR")},
                                    {"IOREQD", getenv("IOREQD")}, {"DOMID", domid}};
    snprintf(domid, sizeof(domid), "%u", mock_domid(guest));
    FILE *out = fopen(file, "w");
    ck_assert_ptr_nonnull(out);
    while (*text) {
        unsigned i = 0;
        while (i < 5 && strncmp(text, words[i][0], strlen(words[i][0]))) {
            i++;
        }
        if (i < 5) {
            fputs(words[i][1], out);
            text += strlen(words[i][0]);
        } else {
            fputc(*text++, out);
        }
    }
    fclose(out);
}

static void start(const char *text)
{
    const char *argv[] = {getenv("IOREQD"), "--log", "debug", "--list", file,
                          with_xenstore ? NULL : "--no-xenstore", NULL};
    write_list(text);
    list = mock_spawn_daemon(mock, (char *const *)(uintptr_t)argv);
    ck_assert_ptr_nonnull(list);
}

static int status(void)
{
    int wait_status;
    ck_assert_msg(mock_daemon_wait(list, RIG_TIMEOUT_MS, &wait_status) == 0, "it did not end:\n%s",
                  mock_daemon_log(list));
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -WTERMSIG(wait_status);
}

static void expect(const char *text)
{
    ck_assert_msg(strstr(mock_daemon_log(list), text) != NULL, "the log lacks \"%s\":\n%s", text,
                  mock_daemon_log(list));
}

static void wait_ready(void)
{
    ck_assert_msg(mock_daemon_wait_log(list, "ready: all emulators are", RIG_TIMEOUT_MS) == 0, "not ready:\n%s",
                  mock_daemon_log(list));
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static pid_t pid_in(const char *note)
{
    rig_wait_text(path_of(note), "\npid: ");
    return (pid_t)rig_number(path_of(note), "pid");
}

static pid_t run_fake(const char *word, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s", path_of(name));
    const char *argv[] = {getenv("FAKE_EMULATOR"), word, path, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(126);
    }
    for (unsigned i = 0; i < 1000 && access(path, F_OK); i++) {
        usleep(5000);
    }
    return pid;
}

static bool ends(pid_t pid)
{
    for (unsigned i = 0; i < 40; i++) {
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            return true;
        }
        usleep(5000);
    }
    return false;
}

START_TEST(every_way_to_be_ready)
{
    char text[1024];
    pid_t by_pid = run_fake("note", "note-pid"), by_socket = run_fake("socket", "socket-running");
    snprintf(text, sizeof(text),
             "{'domid': DOMID, 'emulators': ["
             "{'name': 'line', 'program': 'FAKE', "
             "'arguments': ['note', '@/note-line', 'sleep', '50', 'fd', '{ready-fd}'], "
             "'ready': {'fd': true}, 'timeout': 5},"
             "{'name': 'file', 'program': 'FAKE', "
             "'arguments': ['fork', 'note', '@/note-file', 'pidfile', '@/pid{domid}'],"
             "'ready': {'pidfile': '@/pid{domid}'}},"
             "{'name': 'listens', 'program': 'FAKE', "
             "'arguments': ['note', '@/note-listens', 'sleep', '100', 'socket', '@/socket'],"
             "'ready': {'socket': '@/socket'}},"
             "{'name': 'by-pid', 'pid': %d}, {'name': 'by-socket', 'socket': '@/socket-running'},"
             "{'name': 'none', 'program': 'FAKE', 'arguments': ['note', '@/note-none'], 'ready': 'none'}]}", by_pid);
    start(text);
    wait_ready();
    static const char *const order[] = {"line: ready", "file: ready", "listens: ready", "by-pid: ready",
                                        "by-socket: ready", "none: ready"};
    const char *at = mock_daemon_log(list);
    for (unsigned i = 0; i < 6; i++) {
        at = strstr(at, order[i]);
        ck_assert_msg(at != NULL, "no \"%s\" in its turn:\n%s", order[i], mock_daemon_log(list));
    }
    /* An emulator gets its own descriptor, and none of ours. */
    pid_in("note-none");
    ck_assert(rig_has_text(path_of("note-none"), "fd: 2\n"));
    for (unsigned fd = 3; fd < 40; fd++) {
        snprintf(text, sizeof(text), "fd: %u\n", fd);
        ck_assert_msg(!rig_has_text(path_of("note-none"), text), "it got descriptor %u", fd);
    }
    pid_t line = pid_in("note-line"), daemonised = pid_in("note-file"), listens = pid_in("note-listens");
    mock_daemon_signal(list, SIGTERM);
    ck_assert_int_eq(status(), 0);
    rig_wait_dead(line);
    rig_wait_dead(daemonised);
    rig_wait_dead(listens);
    ck_assert(rig_has_text(path_of("note-file"), "end\n"));
    ck_assert(ends(by_pid));
    ck_assert(!ends(by_socket)); /* not ours to end */
    kill(by_socket, SIGKILL);
}
END_TEST

START_TEST(two_ioreqds)
{
    struct mock_domain_info info;
    start("{'domid': DOMID, 'emulators': ["
          "{'name': 'console', 'program': 'IOREQD', "
          "'arguments': ['--no-xenstore', '--record-dir', '@/records', '--ready-fd', "
          "'{ready-fd}', '--domain', '{domid}', '--type', 'hvm', '--device', 'debugcon'], "
          "'ready': {'fd': true}},"
          "{'name': 'uart', 'program': 'IOREQD', "
          "'arguments': ['--no-xenstore', '--record-dir', '@/records', '--ready-fd', "
          "'{ready-fd}', '--domain', '{domid}', '--type', 'hvm', "
          "'--device', 'uart16550,chardev=file,chardev.path=@/uart'],"
          "'ready': {'fd': true}}]}");
    wait_ready();
    ck_assert_int_eq(mock_domain_info(guest, &info), 0);
    ck_assert_uint_eq(info.server_mask, 3);
    vcpu_outb(guest, 0, 0x3f8, 'u');
    rig_wait_text(path_of("uart"), "u");
    expect("ioreqd: console: domid ");
    mock_domain_kill(guest);
    ck_assert_int_eq(status(), 0);
}
END_TEST

#define FIRST \
    "{'domid': DOMID, 'emulators': [{'name': 'first', 'program': 'FAKE', " \
    "'arguments': ['note', '@/note', 'fd', '{ready-fd}']," \
    "'ready': {'fd': true}},"

struct failure {
    const char *second, *text;
};

static const struct failure failures[] = {
    {"{'name': 'second', 'program': 'FAKE', 'arguments': ['say', 'no disk', 'exit', '3'], "
     "'ready': {'fd': true}}",
     "expected {ready-fd}"},
    {"{'name': 'second', 'program': 'FAKE', 'arguments': ['say', 'no disk {ready-fd}', 'exit', '3'], "
     "'ready': {'fd': true}}",
     "second: ended with status 3: no disk "},
    {"{'name': 'second', 'program': 'FAKE', 'arguments': ['say', 'busy'], "
     "'ready': {'pidfile': '@/none'}, 'timeout': 1}",
     "second: was not ready within 1 s: no living process in "},
    {"{'name': 'second', 'program': 'FAKE', 'ready': {'socket': '@/none'}, 'timeout': 1}",
     "second: was not ready within 1 s: nobody listens at "},
    {"{'name': 'second', 'program': 'FAKE', 'arguments': ['{ready-fd}'], 'ready': {'fd': true}, 'timeout': 1}",
     "second: was not ready within 1 s: nothing came on its descriptor"},
    {"{'name': 'second', 'socket': '@/none', 'timeout': 1}", "second: was not ready within 1 s: nobody accepts at "},
    {"{'name': 'second', 'program': '/nonexistent/emulator', 'ready': {'socket': '@/none'}}",
     "second: ended with status 127: can't run /nonexistent/emulator: No such file or directory, before it was ready"},
    {"{'name': 'second', 'pid': 2147480000}", "second: process 2147480000: No such process"},
    {"{'name': 'second', 'program': 'FAKE', 'ready': {'xenstore': '/local/domain/1/state'}}", "there is no xenstore"},
    {"{'name': 'second', 'program': 'FAKE', 'arguments': ['fork', 'exit', '0'], "
     "'ready': {'pidfile': '@/none'}, 'timeout': 1}",
     "second: was not ready within 1 s: no living process in "},
};

START_TEST(the_first_that_fails)
{
    char text[1024];
    bool ran = _i > 0; /* the first of the table is refused before anything runs */
    snprintf(text, sizeof(text), FIRST "%s]}", failures[_i].second);
    start(text);
    ck_assert_int_eq(status(), ran ? 3 : 1);
    expect(failures[_i].text);
    ck_assert(!strstr(mock_daemon_log(list), "ready: all"));
    if (ran) {
        rig_wait_dead(pid_in("note"));
        ck_assert(rig_has_text(path_of("note"), "end\n"));
    }
}
END_TEST

START_TEST(one_ends_later)
{
    start(FIRST "{'name': 'second', 'program': 'FAKE', 'arguments': ['note', '@/note2']}]}");
    wait_ready();
    pid_t second = pid_in("note2");
    kill(second, _i ? SIGTERM : SIGKILL);
    ck_assert_int_eq(status(), _i ? 0 : 3);
    expect(_i ? "second: ended with status 0; ending the others"
              : "second: was killed by signal 9 (Killed); ending the others");
    rig_wait_text(path_of("note"), "end\n");
}
END_TEST

START_TEST(a_running_one_ends)
{
    char text[512];
    pid_t pid = run_fake(_i ? "socket" : "note", "running");
    snprintf(text, sizeof(text),
             _i ? FIRST "{'name': 'second', 'socket': '@/running'}]}"
                : FIRST "{'name': 'second', 'pid': %d}]}", pid);
    start(text);
    wait_ready();
    kill(pid, SIGKILL);
    ck_assert_int_eq(status(), 0);
    expect("ending the others");
    rig_wait_text(path_of("note"), "end\n");
    waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(the_guest_is_gone)
{
    start(FIRST "{'name': 'second', 'program': 'FAKE', 'arguments': ['note', '@/note2']}]}");
    wait_ready();
    pid_in("note2");
    mock_domain_kill(guest);
    ck_assert_int_eq(status(), 0);
    expect("the domain is gone");
    rig_wait_text(path_of("note2"), "end\n");
}
END_TEST

START_TEST(no_such_domain)
{
    start("{'domid': 999, 'emulators': [{'name': 'first', 'program': 'FAKE', 'arguments': ['note', '@/note']}]}");
    ck_assert_int_eq(status(), 3);
    expect("domid 999: no such domain");
    ck_assert_int_ne(access(path_of("note"), F_OK), 0);
}
END_TEST

START_TEST(stubborn)
{
    start("{'domid': DOMID, 'emulators': [{'name': 'first', 'program': 'FAKE', "
          "'arguments': ['stubborn', 'note', '@/note']}]}");
    wait_ready();
    pid_t pid = pid_in("note");
    mock_daemon_signal(list, SIGTERM);
    usleep(200000);
    ck_assert_int_eq(kill(pid, 0), 0);
    mock_daemon_signal(list, SIGTERM); /* the second one kills */
    ck_assert_int_eq(status(), 0);
    rig_wait_dead(pid);
}
END_TEST

START_TEST(killed_itself)
{
    start(FIRST "{'name': 'second', 'program': 'FAKE', 'arguments': ['note', '@/note2']}]}");
    wait_ready();
    pid_t second = pid_in("note2");
    mock_daemon_signal(list, SIGKILL);
    ck_assert_int_eq(status(), -SIGKILL);
    rig_wait_dead(second);
    rig_wait_text(path_of("note"), "end\n");
}
END_TEST

/* What is there already is not taken for the new emulator's sign. */
START_TEST(old_signs)
{
    pid_t pid = 0;
    if (_i == 0) { /* a dead process's pid file: removed */
        FILE *out = fopen(path_of("pid"), "w");
        fputs("2147480000\n", out);
        fclose(out);
    } else {
        pid = run_fake(_i == 1 ? "pidfile" : "socket", _i == 1 ? "pid" : "socket");
    }
    start(_i < 2 ? FIRST "{'name': 'second', 'program': 'FAKE', "
                         "'arguments': ['note', '@/note2', 'sleep', '300', 'pidfile', '@/pid'],"
                         "'ready': {'pidfile': '@/pid'}}]}"
                 : FIRST "{'name': 'second', 'program': 'FAKE', 'arguments': ['socket', '@/socket'], "
                         "'ready': {'socket': '@/socket'}}]}");
    if (_i == 0) {
        pid_in("note2");
        ck_assert_int_ne(access(path_of("pid"), F_OK), 0);
        wait_ready();
        mock_daemon_signal(list, SIGTERM);
    }
    ck_assert_int_eq(status(), _i == 0 ? 0 : 3);
    expect(_i == 0 ? "second: ready" : _i == 1 ? "second: runs already" : "second: somebody listens at");
    if (pid > 0) {
        kill(pid, SIGKILL);
    }
}
END_TEST

/* For whoever starts it: a line on a descriptor when all are ready, a pid file that is locked meanwhile. */
START_TEST(ready_fd_and_pidfile)
{
    int fds[2];
    char number[16], pidfile[128], bytes[16] = "";
    const char *argv[] = {getenv("IOREQD"), "--no-xenstore", "--ready-fd", number, "--pidfile", pidfile,
                          "--list", file, NULL};
    ck_assert_int_eq(pipe(fds), 0);
    snprintf(number, sizeof(number), "%d", fds[1]);
    snprintf(pidfile, sizeof(pidfile), "%s", path_of("list.pid"));
    write_list("{'domid': DOMID, 'emulators': [{'name': 'first', 'program': 'FAKE', "
               "'arguments': ['note', '@/note', 'sleep', '200',"
               "'fd', '{ready-fd}'], 'ready': {'fd': true}}]}");
    list = mock_spawn_daemon(mock, (char *const *)(uintptr_t)argv);
    close(fds[1]);
    ck_assert_int_eq(read(fds[0], bytes, sizeof(bytes)), 6);
    ck_assert_str_eq(bytes, "ready\n");
    ck_assert(rig_has_text(path_of("note"), "\npid: "));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(pidfile, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETLK, &lock), 0);
    ck_assert_int_eq(lock.l_pid, mock_daemon_pid(list));
    mock_daemon_signal(list, SIGTERM);
    ck_assert_int_eq(status(), 0);
    ck_assert_int_ne(access(pidfile, F_OK), 0);
    close(fd);
    close(fds[0]);
}
END_TEST

static const struct failure bad_files[] = {
    {"{", "list.json:1: "},
    {"[]", "the file: expected an object"},
    {"{'domid': DOMID}", "emulators: expected a list of 1 to 32 objects"},
    {"{'domid': DOMID, 'emulators': []}", "emulators: expected a list of 1 to 32 objects"},
    {"{'domid': '1', 'emulators': [{}]}", "domid: expected a domain's number"},
    {"{'domid': 32752, 'emulators': [{}]}", "domid: expected a domain's number"},
    {"{'domid': 1, 'emulators': [{}]}", "emulators[0]: name: expected a name"},
    {"{'domid': 1, 'emulators': [7]}", "emulators[0]: it: expected an object"},
    {"{'domid': 1, 'emulators': [{'name': 'a b', 'pid': 1}]}", "name: expected at most 32 characters without blanks"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'pid': 1}, {'name': 'a', 'pid': 2}]}",
     "emulators[1]: name: expected one that no other"},
    {"{'domid': 1, 'emulators': [{'name': 'a'}]}", "emulators[0] (a): expected one of program, pid and socket"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'pid': 1, 'socket': '/x'}]}", "expected one of program, pid and socket"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'pid': -1}]}", "pid: expected a process's number"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': 'qemu'}]}", "program: expected an absolute path"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': '/x', 'arguments': [1]}]}", "arguments: expected texts only"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': '/x', 'timeout': 0}]}", "timeout: expected seconds"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': '/x', 'ready': {}}]}", "ready: expected "},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': '/x', 'ready': {'fd': false}}]}", "ready: expected "},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': '/x', 'ready': {'pidfile': 'x'}}]}",
     "pidfile: expected an absolute path"},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': '/x', "
     "'ready': {'pidfile': '/x', 'socket': '/y'}}]}",
     "ready: expected "},
    {"{'domid': 1, 'emulators': [{'name': 'a', 'program': '/x', 'argument': []}]}", "no such key: argument"},
    {"{'domid': 1, 'domid': 2, 'emulators': [{}]}", "list.json:1: duplicate"},
};

START_TEST(bad_file)
{
    start(bad_files[_i].second);
    ck_assert_int_eq(status(), 1);
    expect(bad_files[_i].text);
}
END_TEST

/* ---- with xenstore ---- */

START_TEST(ready_by_xenstore)
{
    char path[64];
    start("{'domid': DOMID, 'emulators': [{'name': 'first', 'program': 'FAKE', 'arguments': ['note', '@/note'],"
          "'ready': {'xenstore': '/local/domain/{domid}/vgpu/state', 'value': 'running'}, 'timeout': 10}]}");
    pid_in("note");
    snprintf(path, sizeof(path), "/local/domain/%u/vgpu/state", mock_domid(guest));
    ck_assert_int_eq(mock_xenstore_write(mock, path, "starting"), 0);
    ck_assert_int_ne(mock_daemon_wait_log(list, "ready", 300), 0);
    ck_assert_int_eq(mock_xenstore_write(mock, path, "running"), 0);
    wait_ready();
    mock_daemon_signal(list, SIGTERM);
    ck_assert_int_eq(status(), 0);
}
END_TEST

/* libxl has destroyed it; that somebody still maps its memory keeps it in Xen, and is no reason to go on. */
START_TEST(released_by_xenstore)
{
    start("{'domid': DOMID, 'emulators': [{'name': 'first', 'program': 'FAKE', 'arguments': ['note', '@/note']}]}");
    wait_ready();
    usleep(300000);
    ck_assert_int_eq(kill(pid_in("note"), 0), 0);
    mock_xenstore_release(guest);
    ck_assert_int_eq(status(), 0);
    expect("the domain is gone");
}
END_TEST

#define COUNT(table) (int)(sizeof(table) / sizeof((table)[0]))

int main(void)
{
    Suite *suite = suite_create("list");
    TCase *tcase = tcase_create("list"), *store = tcase_create("xenstore");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_checked_fixture(store, setup_xenstore, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_set_timeout(store, 60);
    tcase_add_test(tcase, every_way_to_be_ready);
    tcase_add_test(tcase, two_ioreqds);
    tcase_add_loop_test(tcase, the_first_that_fails, 0, COUNT(failures));
    tcase_add_loop_test(tcase, one_ends_later, 0, 2);
    tcase_add_loop_test(tcase, a_running_one_ends, 0, 2);
    tcase_add_test(tcase, the_guest_is_gone);
    tcase_add_test(tcase, no_such_domain);
    tcase_add_test(tcase, stubborn);
    tcase_add_test(tcase, killed_itself);
    tcase_add_loop_test(tcase, old_signs, 0, 3);
    tcase_add_test(tcase, ready_fd_and_pidfile);
    tcase_add_loop_test(tcase, bad_file, 0, COUNT(bad_files));
    tcase_add_test(store, ready_by_xenstore);
    tcase_add_test(store, released_by_xenstore);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, store);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
