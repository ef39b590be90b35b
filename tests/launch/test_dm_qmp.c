/* SPDX-License-Identifier: BSD-2-Clause */
/* QMP through ioreqd-dm's filter: what reaches QEMU, what does not, in which order, whatever a client does. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"

#define SAVE "{\"execute\":\"xen-save-devices-state\",\"arguments\":{\"filename\":\"/x\",\"live\":false}"

static struct rig rig;
static struct qmp qmp, other;

static void start(void)
{
    rig_init(&rig, "5");
    rig_add(&rig, "-ioreqd-program", getenv("FAKE_IOREQD_PROGRAM"), "-ioreqd", "debugcon", NULL);
    rig_start(&rig);
    rig_wait_up(&rig);
}

static void stop(void)
{
    if (rig.pid > 0) {
        kill(rig.pid, SIGHUP);
        ck_assert_int_eq(rig_status(&rig), 0);
    }
    ck_assert_int_ne(access(rig.public, F_OK), 0);
    rig_finish(&rig);
}

static void expect_refused(struct qmp *of, const char *id)
{
    json_t *reply = qmp_take(of), *error = json_object_get(reply, "error");
    char *got = json_dumps(reply, JSON_COMPACT);
    ck_assert_msg(error != NULL, "no error: %s", got);
    ck_assert_str_eq(json_string_value(json_object_get(error, "class")), "GenericError");
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(error, "desc")), "devices of ioreqd"));
    json_t *wanted = id ? json_loads(id, JSON_DECODE_ANY, NULL) : NULL;
    ck_assert_msg(json_equal(wanted, json_object_get(reply, "id")) ||
                  (!wanted && !json_object_get(reply, "id")), "%s", got);
    json_decref(wanted);
    json_decref(reply);
    free(got);
}

START_TEST(passes_and_refuses)
{
    qmp_open(&qmp, rig.public);
    qmp_send(&qmp, "{\"execute\":\"qmp_capabilities\",\"id\":1}\r\n");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    qmp_send(&qmp, SAVE ",\"id\":7}\r\n");
    expect_refused(&qmp, "7");
    qmp_send(&qmp, SAVE "}");
    expect_refused(&qmp, NULL);
    qmp_send(&qmp, SAVE ",\"id\":{\"a\":[1,\"x\"]}}");
    expect_refused(&qmp, "{\"a\":[1,\"x\"]}");
    qmp_send(&qmp, "{\"exec-oob\":\"xen-save-devices-state\",\"id\":\"xenopsd\"}");
    expect_refused(&qmp, "\"xenopsd\"");
    /* A name may be written with escapes. */
    qmp_send(&qmp, "{\"execute\":\"\\u0078en-save-devices-state\"}");
    expect_refused(&qmp, NULL);
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{\"n\":[1,2.5,null,\"\\u00e9\"]},\"id\":\"s\"}\n");
    qmp_expect(&qmp, "{'return':{'n':[1,2.5,null,'\\u00e9']},'id':'s'}");
    qmp_send(&qmp, "{\"execute\":\"no-such\",\"id\":2}");
    qmp_expect(&qmp, "{'error':{'class':'CommandNotFound','desc':'no such command'},'id':2}");
    ck_assert(!rig_has_text(rig.note, "command: xen-save-devices-state"));
    qmp_close(&qmp);
}
END_TEST

/* The refusal takes its turn behind answers that QEMU still owes, and is not put inside a line of QEMU's. */
START_TEST(answers_in_order)
{
    qmp_open(&qmp, rig.public);
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{},\"id\":1}{\"execute\":\"slow\",\"id\":2}"
                   "{\"execute\":\"big\",\"id\":3} "
                   SAVE ",\"id\":4}{\"execute\":\"echo\",\"arguments\":{},\"id\":5}\n");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    qmp_expect(&qmp, "{'event':'STOP','timestamp':{'seconds':1,'microseconds':2}}");
    qmp_expect(&qmp, "{'return':{},'id':2}");
    json_t *big = qmp_take(&qmp);
    ck_assert_uint_eq(json_string_length(json_object_get(big, "return")), 300000);
    json_decref(big);
    expect_refused(&qmp, "4");
    qmp_expect(&qmp, "{'return':{},'id':5}");
    qmp_close(&qmp);
}
END_TEST

START_TEST(byte_by_byte)
{
    static const char text[] = " \r\n{ \"execute\" :\n \"echo\", "
                               "\"arguments\": {\"s\": \"a}\\\"]{'\"}, \"id\": 1 }" SAVE ",\"id\":2}";
    char one[2] = "";
    qmp_open(&qmp, rig.public);
    for (const char *at = text; *at; at++) {
        one[0] = *at;
        qmp_send(&qmp, one);
    }
    json_t *reply = qmp_take(&qmp);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(reply, "return"), "s")), "a}\"]{'");
    json_decref(reply);
    expect_refused(&qmp, "2");
    qmp_close(&qmp);
}
END_TEST

static int file_with(const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/passed", rig.folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    lseek(fd, 0, SEEK_SET);
    return fd;
}

START_TEST(descriptors_pass)
{
    int fd = file_with("by libxl"), fd2;
    qmp_open(&qmp, rig.public);
    qmp_send_fd(&qmp, "{", fd); /* libxl: with the first byte alone */
    close(fd);
    qmp_send(&qmp, "\"execute\":\"add-fd\",\"id\":1}\r\n");
    qmp_expect(&qmp, "{'return':{'fdset-id':0,'text':'by libxl'},'id':1}");
    fd2 = file_with("by xenopsd");
    qmp_send_fd(&qmp, " ", fd2); /* xenopsd: with a blank before the command */
    close(fd2);
    usleep(20000);
    qmp_send(&qmp, "{\"execute\":\"add-fd\",\"id\":2}");
    qmp_expect(&qmp, "{'return':{'fdset-id':0,'text':'by xenopsd'},'id':2}");
    qmp_send(&qmp, "{\"execute\":\"add-fd\",\"id\":3}");
    qmp_expect(&qmp, "{'return':{'fdset-id':0,'text':'none'},'id':3}");
    /* One that comes with a refused command goes nowhere, and stays nowhere. */
    fd = file_with("refused");
    qmp_send_fd(&qmp, SAVE "}", fd);
    close(fd);
    expect_refused(&qmp, NULL);
    qmp_send(&qmp, "{\"execute\":\"add-fd\",\"id\":4}");
    qmp_expect(&qmp, "{'return':{'fdset-id':0,'text':'none'},'id':4}");
    qmp_close(&qmp);
}
END_TEST

/* As with QEMU itself: the second connection's greeting comes when the first has gone. */
START_TEST(connections_take_turns)
{
    qmp_open(&qmp, rig.public);
    other.fd = rig_connect(rig.public);
    other.length = 0;
    qmp_send(&other, SAVE ",\"id\":1}"); /* before the greeting */
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{},\"id\":1}");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    qmp_close(&qmp);
    json_t *greeting = qmp_take(&other);
    ck_assert_ptr_nonnull(json_object_get(greeting, "QMP"));
    json_decref(greeting);
    expect_refused(&other, "1");
    qmp_close(&other);
    qmp_open(&qmp, rig.public);
    qmp_close(&qmp);
}
END_TEST

/* The client says no more, but still listens: it gets all its answers, then the end; we never close first. */
START_TEST(half_closed)
{
    qmp_open(&qmp, rig.public);
    qmp_send(&qmp, "{\"execute\":\"slow\",\"id\":1}" SAVE ",\"id\":2}{\"execute\":\"echo\",\"arguments\":{},\"id\":3}");
    shutdown(qmp.fd, SHUT_WR);
    qmp_expect(&qmp, "{'event':'STOP','timestamp':{'seconds':1,'microseconds':2}}");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    expect_refused(&qmp, "2");
    qmp_expect(&qmp, "{'return':{},'id':3}");
    ck_assert(qmp_closed(&qmp));
    qmp_close(&qmp);
}
END_TEST

static void expect_parse_error(const char *text)
{
    json_t *reply = qmp_take(&qmp);
    const char *desc = json_string_value(json_object_get(json_object_get(reply, "error"), "desc"));
    ck_assert_msg(desc && strstr(desc, text), "expected an error with \"%s\", got %s", text, desc ? desc : "none");
    json_decref(reply);
}

/* What the filter can't read, QEMU doesn't get. The connection goes on. */
START_TEST(nonsense_is_answered)
{
    static const char *const bad[] = {"nonsense \n", "{\"execute\":\"echo\" \"x\"}", "{]",
                                      "{\"execute\":\"x\n", "[1,2]", "17 ",
                                      "{'execute':'xen-save-devices-state'}", "\"text\"", "}\n",
                                      "{\"execute\":\"\xff\"}",
                                      "{\"execute\":\"xen-save-devices-state\",\"execute\":\"echo\"}"};
    qmp_open(&qmp, rig.public);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        qmp_send(&qmp, bad[i]);
        expect_parse_error("ioreqd-dm");
        qmp_send(&qmp, "\n{\"execute\":\"echo\",\"arguments\":{},\"id\":1}");
        qmp_expect(&qmp, "{'return':{},'id':1}");
    }
    /* Numbers from 2^63 up are QEMU's to judge; the fake one can't read them. */
    ck_assert(!rig_has_text(rig.note, "unreadable"));
    qmp_send(&qmp, "{\"execute\":\"none\",\"arguments\":{\"n\":18446744073709551615}}");
    rig_wait_text(rig.note, "unreadable: too big integer");
    qmp_close(&qmp);
}
END_TEST

START_TEST(too_long_and_too_deep)
{
    size_t size = 3u << 20;
    char *text = malloc(size + 1);
    memset(text, 'x', size);
    text[size] = '\0';
    qmp_open(&qmp, rig.public);
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{\"s\":\"");
    qmp_send(&qmp, text);
    qmp_send(&qmp, "\"}}");
    expect_parse_error("longer than");
    memset(text, '[', 100000);
    text[100000] = '\0';
    qmp_send(&qmp, text);
    memset(text, ']', 100000);
    qmp_send(&qmp, text);
    expect_parse_error("ioreqd-dm");
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{},\"id\":1}");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    qmp_close(&qmp);
    free(text);
}
END_TEST

static long memory_of(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    return rig_number(path, "RssAnon");
}

/* A client that asks and never reads, and connections that say nothing, cost bounded memory and stop nobody's end. */
START_TEST(clients_that_do_not_read)
{
    int idle[25];
    long before = memory_of(rig.pid);
    qmp_open(&qmp, rig.public);
    for (unsigned i = 0; i < 25; i++) {
        idle[i] = rig_connect(rig.public);
    }
    for (unsigned i = 0; i < 20000; i++) {
        static const char text[] = "{\"execute\":\"big\"}";
        ssize_t count = send(qmp.fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count != sizeof(text) - 1) {
            break;
        }
    }
    usleep(300000);
    long after = memory_of(rig.pid);
    ck_assert_msg(after - before < 4096, "ioreqd-dm grew from %ld to %ld KiB", before, after);
    kill(rig.pid, SIGHUP);
    ck_assert_int_eq(rig_status(&rig), 0);
    for (unsigned i = 0; i < 25; i++) {
        close(idle[i]);
    }
    qmp_close(&qmp);
}
END_TEST

/* Clients come and go at once, also in the middle of a command, also while QEMU answers. */
START_TEST(clients_that_go)
{
    for (unsigned i = 0; i < 60; i++) {
        other.fd = rig_connect(rig.public);
        if (i % 3) {
            qmp_send(&other, i % 3 == 1 ? "{\"execute\":\"ec" : "{\"execute\":\"big\"}" SAVE "}");
        }
        close(other.fd);
    }
    qmp_open(&qmp, rig.public);
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{},\"id\":1}");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    qmp_close(&qmp);
}
END_TEST

START_TEST(qemu_ends_by_quit)
{
    qmp_open(&qmp, rig.public);
    qmp_send(&qmp, "{\"execute\":\"quit\",\"id\":1}");
    qmp_expect(&qmp, "{'return':{},'id':1}"); /* its last word is passed on before the end */
    ck_assert_int_eq(rig_status(&rig), 0);
    ck_assert(qmp_closed(&qmp));
    qmp_close(&qmp);
}
END_TEST

/* libxl's second socket is filtered, too. */
START_TEST(second_monitor)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/qmp-stat", rig.folder);
    qmp_open(&qmp, path);
    qmp_send(&qmp, "{\"execute\":\"echo\",\"arguments\":{},\"id\":1}" SAVE ",\"id\":2}");
    qmp_expect(&qmp, "{'return':{},'id':1}");
    expect_refused(&qmp, "2");
    qmp_close(&qmp);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dm_qmp");
    TCase *tcase = tcase_create("dm_qmp");
    tcase_add_checked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, passes_and_refuses);
    tcase_add_test(tcase, answers_in_order);
    tcase_add_test(tcase, byte_by_byte);
    tcase_add_test(tcase, descriptors_pass);
    tcase_add_test(tcase, connections_take_turns);
    tcase_add_test(tcase, half_closed);
    tcase_add_test(tcase, nonsense_is_answered);
    tcase_add_test(tcase, too_long_and_too_deep);
    tcase_add_test(tcase, clients_that_do_not_read);
    tcase_add_test(tcase, clients_that_go);
    tcase_add_test(tcase, qemu_ends_by_quit);
    tcase_add_test(tcase, second_monitor);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
