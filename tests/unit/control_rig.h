/* SPDX-License-Identifier: BSD-2-Clause */
/* The control room over a real loop and a fake daemon, and clients of it, all in one process. */
#ifndef CONTROL_RIG_H
#define CONTROL_RIG_H

#include <jansson.h>

#include "control/control.h"
#include "control/inside.h"
#include "loop/event_loop.h"

#include "fake_daemon.h"
#include "unit.h"

#define MS 1000000ull
#define LONG_MS 5000

struct rig {
    struct loop *loop;
    struct daemon fake;
    struct control *control;
    struct control_config config; /* reload: `reload_result`, a positive errno, is what it fails with */
    char folder[64], path[96];
    int reload_result;
    unsigned reloads;
};
extern struct rig rig;

void rig_start(void);
void rig_stop(void);
/* A new case of the suite, each of whose tests has a rig of its own. */
TCase *rig_case(Suite *suite, const char *name);
/* Makes it again, with rig.config. */
void rig_create(void);
void rig_destroy(void);
void run_ms(unsigned ms);
/* The client that came first. */
struct client *first_client(void);

struct peer {
    int fd;
    char *text; /* received, not taken yet */
    size_t length;
    bool ended;
};
int dial(void);
void receive(struct peer *peer);
/* The next message (the caller's). NULL: none came in time, or the connection ended. */
json_t *next_within(struct peer *peer, unsigned ms);
json_t *next(struct peer *peer);
/* Connected and greeted. */
struct peer meet(void);
void part(struct peer *peer);
void say(struct peer *peer, const char *text);
/* One command; its answer as text, static. */
const char *ask(struct peer *peer, const char *command);
/* The same by a client of its own; the answer must hold the text. */
void expect(const char *command, const char *answer);

#define ck_has(text, part) ck_assert_msg(strstr(text, part) != NULL, "'%s' lacks '%s'", text, part)

#define PAUSE "{\"execute\":\"pause\",\"arguments\":{\"guest\":\"g1\"},\"id\":1}"
#define VERSION "{\"execute\":\"version\",\"id\":2}"

#endif
