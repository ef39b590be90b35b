/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: clients that mean no good, the socket file, who may connect. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control_rig.h"

START_TEST(one_byte_at_a_time)
{
    static const char text[] = "  " VERSION "\r\n{\"execute\":\"list\"}";
    struct peer peer = meet();

    for (const char *at = text; *at; at++) {
        ck_assert_int_eq(send(peer.fd, at, 1, 0), 1);
        run_ms(1);
    }
    json_decref(next(&peer));
    json_decref(next(&peer));
    part(&peer);
}
END_TEST

START_TEST(garbage_is_refused_line_by_line)
{
    struct peer peer = meet();
    unsigned errors = 0;
    json_t *message;

    say(&peer, "GET / HTTP/1.0\r\n\r\n\x01\xff\xfe{{{\n]]]]\n[[[[{}\n{{{{{{{{{{{{{{{{{{{{{{{{\n");
    for (unsigned i = 0; i < 5; i++) {
        message = next(&peer);
        errors += json_object_get(message, "error") != NULL;
        json_decref(message);
    }
    ck_assert_uint_eq(errors, 5);
    ck_has(ask(&peer, VERSION), "\"id\":2");
    part(&peer);
}
END_TEST

/* Sends as long as the daemon takes it; how much that was. */
static size_t flood(struct peer *peer, const char *text, size_t limit)
{
    size_t length = strlen(text), sent = 0;

    for (unsigned idle = 0; idle < 50 && sent < limit;) {
        ssize_t did = send(peer->fd, text, length, MSG_NOSIGNAL);
        if (did < 0 && errno != EAGAIN) {
            break;
        }
        idle = did > 0 ? 0 : idle + 1;
        sent += did > 0 ? (size_t)did : 0;
        run_ms(1);
    }
    return sent;
}

START_TEST(one_long_command_is_refused)
{
    char text[4097];
    struct peer peer = meet();

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    say(&peer, "{\"");
    flood(&peer, text, 1 << 20); /* the rest is skipped, and nothing of it kept */
    json_t *error = next(&peer);
    ck_has(json_string_value(json_object_get(json_object_get(error, "error"), "desc")),
           "at most 65536 bytes");
    json_decref(error);
    struct client *client = first_client();
    ck_assert_uint_eq(client->in.length, 0);
    ck_has(ask(&peer, "\n" VERSION), "\"id\":2");
    part(&peer);
}
END_TEST

START_TEST(a_full_buffer_with_blanks_in_front_goes_on)
{
    char text[1001];
    struct peer peer = meet();

    memset(text, ' ', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    flood(&peer, text, 200000);
    ck_has(ask(&peer, VERSION), "\"id\":2");
    part(&peer);
}
END_TEST

START_TEST(one_who_never_reads_costs_little)
{
    static const char command[] = "{\"execute\":\"stats\"}";
    struct peer peer = meet(), other = meet();
    char commands[50 * sizeof(command)] = "";

    for (unsigned i = 0; i < 50; i++) {
        strcat(commands, command);
    }
    rig.fake.guests = 1000;
    size_t sent = flood(&peer, commands, 4 << 20);
    ck_assert_uint_lt(sent, 1 << 20); /* the daemon has stopped reading, the kernel is full */
    ck_assert_uint_eq(rig.control->client_count, 2);
    struct client *client = first_client();
    ck_assert_uint_gt(client->out.length, OUT_HIGH);
    ck_assert_uint_le(client->in.length, FRAME_MAX);
    ck_assert_uint_le(client->out.length, OUT_HIGH + 1000 * 250); /* one answer more than it may owe */
    ck_has(ask(&other, VERSION), "\"id\":2");                     /* others are served meanwhile */
    run_ms(STALLED_NS / MS + 100);
    ck_assert_uint_eq(rig.control->client_count, 1); /* it took nothing for too long */
    part(&peer);
    part(&other);
}
END_TEST

/* It waits for an answer, has sent more than is read meanwhile, and goes: its end is seen all the same. */
START_TEST(one_who_goes_behind_a_full_buffer_is_let_go)
{
    struct peer peer = meet();

    say(&peer, PAUSE);
    flood(&peer, VERSION, 1 << 20);
    ck_assert_uint_eq(first_client()->in.length, FRAME_MAX);
    part(&peer);
    run_ms(STALLED_NS / MS + 100);
    ck_assert_uint_eq(rig.control->client_count, 0);
    fake_daemon_answer(&rig.fake, 0, ""); /* finds nobody */
}
END_TEST

/* Whoever asks how much: between two commands the loop does what else there is to do. */
static unsigned verbs_before, most_a_turn;

static void count_turn(void *self)
{
    unsigned verbs = rig.fake.verbs - verbs_before;

    most_a_turn = verbs > most_a_turn ? verbs : most_a_turn;
    verbs_before = rig.fake.verbs;
    rig.loop->ops->task_again(*(struct loop_task **)self);
}

START_TEST(all_clients_have_one_command_a_turn)
{
    static const char resume[] = "{\"execute\":\"resume\",\"arguments\":{\"guest\":\"g1\"}}";
    struct peer peers[8];
    struct loop_task *task;

    task = rig.loop->ops->task_add(rig.loop, count_turn, &task);
    for (unsigned i = 0; i < 8; i++) {
        peers[i] = meet();
    }
    for (unsigned i = 0; i < 40; i++) {
        say(&peers[i % 8], resume);
    }
    rig.loop->ops->task_again(task);
    for (unsigned i = 0; i < 40; i++) { /* each has its turn */
        json_decref(next(&peers[i % 8]));
    }
    ck_assert_uint_eq(rig.fake.verbs, 40);
    ck_assert_uint_ge(most_a_turn, 1);
    ck_assert_uint_le(most_a_turn, 2); /* our own turn may come before theirs, or after */
    rig.loop->ops->task_remove(task);
    for (unsigned i = 0; i < 8; i++) {
        part(&peers[i]);
    }
}
END_TEST

START_TEST(too_large_an_answer_is_an_error)
{
    struct peer peer = meet();

    rig.fake.guests = 100000;
    const char *answer = ask(&peer, "{\"execute\":\"stats\",\"id\":7}");
    ck_has(answer, "the answer is too large: ask about one guest");
    ck_has(answer, "\"class\":\"AnswerTooLarge\"");
    ck_has(answer, "\"id\":7");
    ck_has(ask(&peer, VERSION), "\"id\":2");
    part(&peer);
}
END_TEST

START_TEST(thirty_two_clients_and_no_more)
{
    struct peer peers[CLIENTS_MAX];

    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        peers[i] = meet();
    }
    struct peer late = {.fd = dial()};
    json_t *message = next(&late);
    ck_has(json_string_value(json_object_get(json_object_get(message, "error"), "desc")), "32 clients");
    json_decref(message);
    ck_assert_ptr_null(next_within(&late, 50));
    ck_assert(late.ended);
    part(&late);
    part(&peers[5]);
    run_ms(10);
    peers[5] = meet();
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        part(&peers[i]);
    }
}
END_TEST

/* One that sends without end has one command carried out, then another's is. */
START_TEST(no_client_starves)
{
    static const char last[] = "{\"execute\":\"log-level\",\"arguments\":{\"level\":\"error\"}}";
    static const char only[] = "{\"execute\":\"log-level\",\"arguments\":{\"level\":\"debug\"}}";
    struct peer greedy = meet(), modest = meet();

    for (unsigned i = 0; i < 200; i++) {
        ck_assert_int_gt(send(greedy.fd, VERSION, sizeof(VERSION) - 1, 0), 0);
    }
    ck_assert_int_gt(send(greedy.fd, last, sizeof(last) - 1, 0), 0);
    ck_assert_int_gt(send(modest.fd, only, sizeof(only) - 1, 0), 0);
    for (unsigned i = 0; i < 201; i++) {
        json_decref(next(&greedy));
    }
    json_decref(next(&modest));
    char said[40];
    snprintf(said, sizeof(said), "log-level %d", IOD_LOG_ERROR); /* after the other's, not before it */
    ck_assert_uint_eq(rig.fake.verbs, 2);
    ck_assert_ptr_nonnull(strstr(rig.fake.said, said));
    part(&greedy);
    part(&modest);
}
END_TEST

START_TEST(a_thousand_connects)
{
    unsigned before = rig.fake.logged;

    for (unsigned i = 0; i < 1000; i++) {
        int fd = dial();
        if (i % 3) {
            ck_assert_int_gt(send(fd, VERSION, i % 20 + 1, 0), 0);
        }
        if (i % 40 == 0) {
            run_ms(1);
        }
        close(fd);
    }
    run_ms(100);
    ck_assert_uint_eq(rig.control->client_count, 0);
    ck_assert_uint_le(rig.fake.logged - before, 1);
    expect(VERSION, "\"id\":2");
}
END_TEST

START_TEST(no_descriptor_left)
{
    struct rlimit old, none;
    struct rusage begin, end;
    struct peer peer = meet(); /* the files the loop needs are open */
    int fd = dial();

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = (rlim_t)fd + 1;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    getrusage(RUSAGE_SELF, &begin);
    run_ms(400);
    getrusage(RUSAGE_SELF, &end);
    setrlimit(RLIMIT_NOFILE, &old);
    long used = (end.ru_utime.tv_sec + end.ru_stime.tv_sec - begin.ru_utime.tv_sec - begin.ru_stime.tv_sec) *
                    1000000 +
                end.ru_utime.tv_usec + end.ru_stime.tv_usec - begin.ru_utime.tv_usec - begin.ru_stime.tv_usec;
    ck_assert_msg(used < 200000, "it span: %ld us of 400 ms", used);
    struct peer late = {.fd = fd};
    json_decref(next(&late)); /* the greeting, a second later */
    part(&late);
    part(&peer);
}
END_TEST

/* ---- the socket file ---- */

static const char *fail_to_create(const char *at, const char *group)
{
    static struct iod_error error;
    struct control_config other = rig.config;

    error = (struct iod_error){0};
    other.path = at;
    other.group = group;
    ck_assert_ptr_null(control_create(&rig.fake, &other, &error));
    return error.text;
}

START_TEST(a_living_daemon_is_named)
{
    char process[32];

    snprintf(process, sizeof(process), "process %d already", (int)getpid());
    ck_has(fail_to_create(rig.path, NULL), process);
    expect(VERSION, "\"id\":2");
}
END_TEST

START_TEST(a_dead_daemons_file_is_replaced)
{
    struct stat status;

    close(rig.control->listener); /* as if it had died */
    rig.control->listener = -1;
    rig.control->bound = false;
    rig_destroy();
    ck_assert_int_eq(lstat(rig.path, &status), 0);
    rig_create();
    expect(VERSION, "\"id\":2");
}
END_TEST

/* Two daemons begin at once: the one that is later does not fail for that. */
START_TEST(the_folders_lock_is_awaited)
{
    int status;

    rig_destroy();
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int fd = open(rig.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int ret = flock(fd, LOCK_EX);
        kill(getpid(), SIGSTOP);
        usleep(300000);
        _exit(ret ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    ck_assert(WIFSTOPPED(status));
    ck_has(fail_to_create(rig.path, NULL), "another process holds the lock of its folder"); /* it stands still */
    kill(pid, SIGCONT);
    rig_create();
    expect(VERSION, "\"id\":2");
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(other_files_are_left_alone)
{
    char other[120];

    snprintf(other, sizeof(other), "%s/file", rig.folder);
    close(open(other, O_CREAT | O_WRONLY, 0600));
    ck_has(fail_to_create(other, NULL), "no socket");
    ck_assert_int_eq(unlink(other), 0);
    ck_has(fail_to_create("/nonexistent/socket", NULL), "/nonexistent/socket");
    ck_has(fail_to_create("", NULL), "expected a path");
    snprintf(other, sizeof(other), "%s/other", rig.folder);
    ck_has(fail_to_create(other, "no-such-group"), "no such group");
    ck_assert_int_eq(access(other, F_OK), -1);
}
END_TEST

START_TEST(the_file_goes_with_its_daemon_alone)
{
    struct stat status;

    ck_assert_int_eq(lstat(rig.path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    unlink(rig.path); /* replaced by somebody else's */
    close(open(rig.path, O_CREAT | O_WRONLY, 0600));
    rig_destroy();
    ck_assert_int_eq(lstat(rig.path, &status), 0);
}
END_TEST

/* ---- who may ---- */

enum answer { ANSWER_GREETING, ANSWER_REFUSAL, ANSWER_NONE };

/* What another user gets: runs in a child, the loop in this process. */
static enum answer answer_to(uid_t uid, gid_t gid, gid_t further)
{
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char bytes[256] = "";
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        strcpy(address.sun_path, rig.path);
        if (setgroups(further ? 1 : 0, &further) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid)) {
            _exit(99);
        }
        if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
            _exit(errno == EACCES ? ANSWER_NONE : 98);
        }
        ssize_t got = recv(fd, bytes, sizeof(bytes) - 1, 0);
        _exit(got > 0 && strstr(bytes, "QMP")           ? ANSWER_GREETING
              : got > 0 && strstr(bytes, "not allowed") ? ANSWER_REFUSAL
                                                        : 97);
    }
    for (unsigned i = 0; i < LONG_MS && waitpid(pid, &status, WNOHANG) == 0; i++) {
        run_ms(1);
    }
    ck_assert(WIFEXITED(status));
    ck_assert_int_lt(WEXITSTATUS(status), 90);
    return WEXITSTATUS(status);
}

START_TEST(root_and_one_group)
{
    struct stat status;

    if (geteuid() != 0) {
        return; /* only root can become others */
    }
    ck_assert_int_eq(answer_to(65534, 65534, 0), ANSWER_NONE); /* the file's mode */
    chmod(rig.path, 0666);
    ck_assert_int_eq(answer_to(65534, 65534, 0), ANSWER_REFUSAL); /* its credentials */
    ck_assert_int_eq(answer_to(0, 65534, 0), ANSWER_GREETING);
    rig_destroy();
    rig.config.group = "4242";
    rig_create();
    ck_assert_int_eq(lstat(rig.path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0660);
    ck_assert_uint_eq(status.st_gid, 4242);
    ck_assert_int_eq(answer_to(65534, 4242, 0), ANSWER_GREETING);
    ck_assert_int_eq(answer_to(65534, 65534, 4242), ANSWER_GREETING);
    ck_assert_int_eq(answer_to(65534, 65534, 4243), ANSWER_NONE);
    chmod(rig.path, 0666);
    ck_assert_int_eq(answer_to(65534, 65534, 4243), ANSWER_REFUSAL);
}
END_TEST

static struct peer member_knocks(void)
{
    ck_assert(!setegid(4242) && !seteuid(65534));
    struct peer peer = {.fd = dial()};
    ck_assert(!seteuid(0) && !setegid(0));
    return peer;
}

/* Idle clients of the group take no seat of root's. */
START_TEST(root_always_gets_in)
{
    struct peer peers[MEMBERS_MAX];

    if (geteuid() != 0) {
        return;
    }
    rig_destroy();
    rig.config.group = "4242";
    rig_create();
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        peers[i] = member_knocks();
        json_decref(next(&peers[i]));
    }
    struct peer late = member_knocks();
    json_t *message = next(&late);
    ck_has(json_string_value(json_object_get(json_object_get(message, "error"), "desc")),
           "28 clients of the control group");
    json_decref(message);
    part(&late);
    expect(VERSION, "\"id\":2");
    part(&peers[7]);
    run_ms(10);
    peers[7] = member_knocks();
    message = next(&peers[7]);
    ck_assert(json_object_get(message, "QMP"));
    json_decref(message);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        part(&peers[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control_hostile");
    TCase *tc;

    tc = rig_case(suite, "hostile clients");
    tcase_add_test(tc, one_byte_at_a_time);
    tcase_add_test(tc, garbage_is_refused_line_by_line);
    tcase_add_test(tc, one_long_command_is_refused);
    tcase_add_test(tc, a_full_buffer_with_blanks_in_front_goes_on);
    tcase_add_test(tc, one_who_never_reads_costs_little);
    tcase_add_test(tc, one_who_goes_behind_a_full_buffer_is_let_go);
    tcase_add_test(tc, all_clients_have_one_command_a_turn);
    tcase_add_test(tc, too_large_an_answer_is_an_error);
    tcase_add_test(tc, thirty_two_clients_and_no_more);
    tcase_add_test(tc, no_client_starves);
    tcase_add_test(tc, a_thousand_connects);
    tcase_add_test(tc, no_descriptor_left);
    tc = rig_case(suite, "the socket file");
    tcase_add_test(tc, a_living_daemon_is_named);
    tcase_add_test(tc, a_dead_daemons_file_is_replaced);
    tcase_add_test(tc, the_folders_lock_is_awaited);
    tcase_add_test(tc, other_files_are_left_alone);
    tcase_add_test(tc, the_file_goes_with_its_daemon_alone);
    tc = rig_case(suite, "who may");
    tcase_add_test(tc, root_and_one_group);
    tcase_add_test(tc, root_always_gets_in);
    return unit_run(suite);
}
