/* SPDX-License-Identifier: BSD-2-Clause */
/* launch/query_pci.h against a scripted peer: good answers, bad ones, none. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <check.h>

#include "launch/fd_stream.h"
#include "launch/query_pci.h"
#include "loop/event_loop.h"

#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n"
#define OK "{\"return\":{}}\r\n"
#define EVENT "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"RESUME\"}\r\n"

static char path[64];
static struct loop *loop;
static pid_t peer;
static struct pci_owner owners[QUERY_PCI_MAX];
static unsigned count;
static struct iod_error result;
static bool called;

static void setup(void)
{
    snprintf(path, sizeof(path), "/tmp/test-query-pci.%d", getpid());
    unlink(path);
    loop = event_loop_create();
    ck_assert_ptr_nonnull(loop);
    called = false;
    count = 0;
    result = (struct iod_error){0};
}

static void teardown(void)
{
    if (peer > 0) {
        kill(peer, SIGKILL);
        waitpid(peer, NULL, 0);
        peer = 0;
    }
    event_loop_destroy(loop);
    unlink(path);
}

static void read_line(int fd)
{
    char c = 0;
    while (c != '\n' && read(fd, &c, 1) == 1) {
    }
}

/* Says texts[0], then each further text after a line; then closes, or waits for ever. */
static void answer_with(const char *const *texts, bool wait)
{
    int listener = fd_stream_listen(path, 4);
    ck_assert_int_ge(listener, 0);
    peer = fork();
    if (peer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_DFL);
        int fd = -1;
        while (fd < 0) {
            fd = accept(listener, NULL, NULL);
        }
        for (unsigned i = 0; texts[i]; i++) {
            size_t length = strlen(texts[i]);
            if (i) {
                read_line(fd);
            }
            for (size_t at = 0; at < length;) {
                ssize_t sent = write(fd, texts[i] + at, length - at);
                at += sent > 0 ? (size_t)sent : length;
            }
        }
        while (wait) {
            pause();
        }
        _exit(0);
    }
    close(listener);
}

static void done(void *self, const struct pci_owner *found, unsigned number, const struct iod_error *error)
{
    ck_assert(!called);
    called = true;
    count = number;
    memcpy(owners, found, number * sizeof(*found));
    if (error) {
        result = *error;
        ck_assert_uint_eq(number, 0);
    }
    event_loop_stop(loop);
}

static void ask(uint64_t limit_ns)
{
    struct iod_error error;
    ck_assert_ptr_nonnull(query_pci_start(loop, path, limit_ns, done, NULL, &error));
    ck_assert_int_eq(event_loop_run(loop), 0);
    ck_assert(called);
}

static void expect_owner(unsigned i, unsigned bus, unsigned slot, unsigned function, const char *name)
{
    ck_assert_uint_lt(i, count);
    ck_assert_uint_eq(owners[i].bus, bus);
    ck_assert_uint_eq(owners[i].slot, slot);
    ck_assert_uint_eq(owners[i].function, function);
    ck_assert_str_eq(owners[i].name, name);
}

START_TEST(functions_and_bridges)
{
    answer_with((const char *[]){GREETING EVENT, EVENT OK,
                                 EVENT "{\"return\":[{\"bus\":0,\"devices\":["
                                       "{\"bus\":0,\"slot\":0,\"function\":0,\"qdev_id\":\"\","
                                       "\"class_info\":{\"desc\":\"Host bridge\"}},"
                                       "{\"bus\":0,\"slot\":1,\"function\":1,\"qdev_id\":\"ide\\u0007\"},"
                                       "{\"bus\":0,\"slot\":30,\"function\":7,"
                                       "\"pci_bridge\":{\"bus\":{\"number\":0},\"devices\":["
                                       "{\"bus\":1,\"slot\":4,\"function\":0,\"qdev_id\":\"below\"}]}}]}]}"
                                       "\r\n", NULL}, true);
    ask(QUERY_PCI_LIMIT_NS);
    ck_assert_int_eq(result.code, 0);
    ck_assert_uint_eq(count, 4);
    expect_owner(0, 0, 0, 0, "Host bridge");
    expect_owner(1, 0, 1, 1, "ide?");
    expect_owner(2, 0, 30, 7, "device");
    expect_owner(3, 1, 4, 0, "below");
}
END_TEST

START_TEST(places_that_there_are_not)
{
    answer_with((const char *[]){GREETING, OK,
                                 "{\"return\":[7,{\"devices\":{}},{\"devices\":[null,{},"
                                 "{\"bus\":0,\"slot\":32,\"function\":0},"
                                 "{\"bus\":-1,\"slot\":1,\"function\":0},{\"bus\":0,\"slot\":1,\"function\":8},"
                                 "{\"bus\":0,\"slot\":\"x\",\"function\":0,\"qdev_id\":7},"
                                 "{\"bus\":0,\"slot\":9,\"function\":0,\"qdev_id\":\"good\"}]}]}\r\n", NULL}, true);
    ask(QUERY_PCI_LIMIT_NS);
    ck_assert_int_eq(result.code, 0);
    ck_assert_uint_eq(count, 1);
    expect_owner(0, 0, 9, 0, "good");
}
END_TEST

START_TEST(more_than_fit)
{
    char *text = malloc(200000);
    size_t length = (size_t)sprintf(text, "{\"return\":[{\"devices\":[");
    for (unsigned i = 0; i < 3000; i++) {
        length += (size_t)sprintf(text + length, "%s{\"bus\":%u,\"slot\":%u,\"function\":0}", i ? "," : "",
                                  i / 32 % 256, i % 32);
    }
    strcpy(text + length, "]}]}\r\n");
    answer_with((const char *[]){GREETING, OK, text, NULL}, true);
    ask(QUERY_PCI_LIMIT_NS);
    ck_assert_int_eq(result.code, 0);
    ck_assert_uint_eq(count, QUERY_PCI_MAX);
    free(text);
}
END_TEST

struct bad {
    const char *texts[4];
    int code;
    const char *why;
};

static const struct bad bads[] = {
    {{"hello\n"}, EPROTO, "not QMP"},
    {{"{\"return\":{}}"}, EPROTO, "not QMP"},
    {{GREETING, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\\u001b\"}}"}, EPROTO, "no?"},
    {{GREETING, OK, "{\"error\":{\"class\":\"CommandNotFound\","
                    "\"desc\":\"The command query-pci has not been found\"}}"}, EPROTO,
     "query-pci has not been found"},
    {{GREETING, OK, "{\"return\":{}}"}, EPROTO, "not QMP"},
    {{GREETING, OK, "{\"error\":7}"}, EPROTO, "an error"},
    {{""}, ECONNRESET, "closed the connection"},
    {{GREETING, OK, "{\"return\":["}, ECONNRESET, "closed the connection"},
};

START_TEST(bad_answers)
{
    answer_with(bads[_i].texts, bads[_i].code != ECONNRESET);
    ask(QUERY_PCI_LIMIT_NS);
    ck_assert_int_eq(result.code, bads[_i].code);
    ck_assert_msg(strstr(result.text, bads[_i].why) && strstr(result.text, path), "%s", result.text);
}
END_TEST

START_TEST(an_endless_answer)
{
    char *text = malloc((2u << 20) + 16);
    memset(text, ' ', 2u << 20);
    memcpy(text, "{\"return\":[\"", 12);
    memset(text + 12, 'x', (2u << 20) - 12);
    strcpy(text + (2u << 20), "\"]}\r\n");
    answer_with((const char *[]){GREETING, OK, text, NULL}, true);
    ask(QUERY_PCI_LIMIT_NS);
    ck_assert_int_eq(result.code, EPROTO);
    free(text);
}
END_TEST

START_TEST(no_answer)
{
    answer_with((const char *[]){GREETING, NULL}, true);
    ask(UINT64_C(100000000));
    ck_assert_int_eq(result.code, ETIMEDOUT);
}
END_TEST

START_TEST(nobody_listens)
{
    ask(QUERY_PCI_LIMIT_NS);
    ck_assert_int_eq(result.code, ENOENT);
    int listener = fd_stream_listen(path, 4);
    close(listener);
    called = false;
    ask(QUERY_PCI_LIMIT_NS);
    ck_assert_int_eq(result.code, ECONNREFUSED);
}
END_TEST

/* QEMU serves others, and its queue is full: the limit holds all the same. */
START_TEST(a_full_queue)
{
    int fds[8], listener = fd_stream_listen(path, 1);
    for (unsigned i = 0; i < 8; i++) {
        fds[i] = fd_stream_connect(path);
    }
    ck_assert_int_eq(fds[7], -EAGAIN);
    ask(UINT64_C(100000000));
    ck_assert_int_eq(result.code, ETIMEDOUT);
    for (unsigned i = 0; i < 8; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    close(listener);
}
END_TEST

START_TEST(cancelled)
{
    struct iod_error error;
    answer_with((const char *[]){GREETING, OK, "{\"return\":[]}", NULL}, true);
    struct query_pci *query = query_pci_start(loop, path, QUERY_PCI_LIMIT_NS, done, NULL, &error);
    ck_assert_ptr_nonnull(query);
    query_pci_cancel(query);
    query_pci_cancel(NULL);
    ask(QUERY_PCI_LIMIT_NS); /* another one is told, and only that one */
    ck_assert_int_eq(result.code, 0);
}
END_TEST

START_TEST(libxl_path)
{
    char text[48];
    query_pci_path(32751, text, sizeof(text));
    ck_assert_str_eq(text, "/var/run/xen/qmp-libxl-32751");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("query_pci");
    TCase *tcase = tcase_create("query_pci");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 20);
    tcase_add_test(tcase, functions_and_bridges);
    tcase_add_test(tcase, places_that_there_are_not);
    tcase_add_test(tcase, more_than_fit);
    tcase_add_loop_test(tcase, bad_answers, 0, (int)(sizeof(bads) / sizeof(bads[0])));
    tcase_add_test(tcase, an_endless_answer);
    tcase_add_test(tcase, no_answer);
    tcase_add_test(tcase, nobody_listens);
    tcase_add_test(tcase, a_full_queue);
    tcase_add_test(tcase, cancelled);
    tcase_add_test(tcase, libxl_path);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
