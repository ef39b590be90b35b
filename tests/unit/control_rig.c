/* SPDX-License-Identifier: BSD-2-Clause */
#include "control_rig.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct rig rig;

static int reload(void *self, struct iod_error *error)
{
    rig.reloads++;
    return rig.reload_result ? iod_fail(error, rig.reload_result, "ioreqd.conf:3: no such device") : 0;
}

void rig_create(void)
{
    struct iod_error error = {0};

    rig.control = control_create(&rig.fake, &rig.config, &error);
    ck_assert_msg(rig.control != NULL, "%s", error.text);
}

void rig_destroy(void)
{
    control_destroy(rig.control);
    rig.control = NULL;
}

struct client *first_client(void)
{
    return list_first(&rig.control->clients, struct client, link);
}

void rig_start(void)
{
    strcpy(rig.folder, "/tmp/control-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(rig.folder));
    chmod(rig.folder, 0755);
    snprintf(rig.path, sizeof(rig.path), "%s/socket", rig.folder);
    rig.loop = event_loop_create();
    ck_assert_ptr_nonnull(rig.loop);
    fake_daemon_init(&rig.fake, rig.loop);
    rig.config =
        (struct control_config){.path = rig.path, .version = "1.2.3", .build = "abc", .reload = reload};
    rig_create();
}

void rig_stop(void)
{
    rig_destroy();
    fake_daemon_finish(&rig.fake);
    event_loop_destroy(rig.loop);
    unlink(rig.path);
    ck_assert_int_eq(rmdir(rig.folder), 0);
}

TCase *rig_case(Suite *suite, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_add_checked_fixture(tc, rig_start, rig_stop);
    tcase_set_timeout(tc, 30);
    suite_add_tcase(suite, tc);
    return tc;
}

/* ---- the loop, for a while ---- */

static void stop(void *self)
{
    event_loop_stop(rig.loop);
}

void run_ms(unsigned ms)
{
    struct loop_timer *timer = rig.loop->ops->timer_add(rig.loop, stop, NULL);

    rig.loop->ops->timer_set(timer, rig.loop->ops->now_ns(rig.loop) + ms * MS);
    ck_assert_int_eq(event_loop_run(rig.loop), 0);
    rig.loop->ops->timer_remove(timer);
}

/* ---- a client ---- */

int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    strcpy(address.sun_path, rig.path);
    ck_assert_int_ge(fd, 0);
    while (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        ck_assert_int_eq(errno, EAGAIN); /* many knock at once */
        run_ms(1);
    }
    return fd;
}

void receive(struct peer *peer)
{
    char bytes[65536];
    ssize_t got = recv(peer->fd, bytes, sizeof(bytes), 0);

    if (got > 0) {
        peer->text = realloc(peer->text, peer->length + (size_t)got + 1);
        memcpy(peer->text + peer->length, bytes, (size_t)got);
        peer->length += (size_t)got;
        peer->text[peer->length] = '\0';
    }
    peer->ended = peer->ended || got == 0 || (got < 0 && errno != EAGAIN);
}

json_t *next_within(struct peer *peer, unsigned ms)
{
    uint64_t end = rig.loop->ops->now_ns(rig.loop) + ms * MS;
    char *newline = NULL;

    while (!(newline = peer->length ? strchr(peer->text, '\n') : NULL) && !peer->ended &&
           rig.loop->ops->now_ns(rig.loop) < end) {
        run_ms(1);
        receive(peer);
    }
    if (!newline) {
        return NULL;
    }
    size_t line = (size_t)(newline - peer->text) + 1;
    ck_assert_uint_gt(line, 2);
    ck_assert_int_eq(newline[-1], '\r');
    json_t *message = json_loadb(peer->text, line, 0, NULL);
    ck_assert_msg(message != NULL, "not JSON: %.200s", peer->text);
    peer->length -= line;
    memmove(peer->text, newline + 1, peer->length + 1);
    return message;
}

json_t *next(struct peer *peer)
{
    json_t *message = next_within(peer, LONG_MS);

    ck_assert_msg(message != NULL, "no message came");
    return message;
}

struct peer meet(void)
{
    struct peer peer = {.fd = dial()};
    json_t *greeting = next(&peer);

    ck_assert_ptr_nonnull(json_object_get(greeting, "QMP"));
    json_decref(greeting);
    return peer;
}

void part(struct peer *peer)
{
    close(peer->fd);
    free(peer->text);
}

void say(struct peer *peer, const char *text)
{
    ck_assert_int_eq(send(peer->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

const char *ask(struct peer *peer, const char *command)
{
    static char text[4096];

    say(peer, command);
    json_t *answer = next(peer);
    char *dump = json_dumps(answer, JSON_COMPACT);
    snprintf(text, sizeof(text), "%s", dump);
    free(dump);
    json_decref(answer);
    return text;
}

void expect(const char *command, const char *answer)
{
    struct peer peer = meet();
    const char *text = ask(&peer, command);

    ck_has(text, answer);
    part(&peer);
}
