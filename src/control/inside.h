/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of this room share. */
#ifndef CONTROL_INSIDE_H
#define CONTROL_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#include "control/control.h"
#include "control/frame.h"
#include "core/daemon.h"
#include "core/list.h"
#include "core/loop.h"

#define CLIENTS_MAX 32u
#define MEMBERS_MAX 28u           /* of them that are of the group: root always gets in */
#define REPLY_MAX (2u << 20)      /* bytes of one answer */
#define OUT_HIGH (64u << 10)      /* bytes waiting to be sent: more, and the client's next command waits */
#define OUT_EVENTS (256u << 10)   /* more, and events for it are dropped (and counted) */
#define READ_MAX 16384u           /* bytes read from one client a turn */
#ifndef STALLED_NS                /* tests can't wait */
#define STALLED_NS 30000000000ull /* takes nothing for so long: disconnected */
#endif

struct control {
    struct daemon *daemon;
    struct loop *loop;
    struct control_config config; /* the texts are ours */
    gid_t group;
    bool has_group;

    int listener;
    dev_t device; /* of the socket file, to know it again */
    ino_t inode;
    bool bound;
    struct loop_watch *watch;
    struct loop_timer *breath; /* no descriptor was left: accepting goes on when it fires */
    uint64_t said_ns;          /* when a refusal was logged last */
    unsigned refused;          /* not logged since */

    struct list clients;
    unsigned client_count, member_count;
    struct list waiting;         /* clients with a command, whose turn comes */
    bool taken;                  /* a command was carried out this turn: the next one waits for the next */
    struct loop_task *next_turn; /* ends that */
    struct list calls; /* begun, not answered */
    struct daemon_listener events;
    struct loop_task *look; /* at the calls that wait for a guest */
};

struct buffer {
    char *bytes;
    size_t length, size;
};
/* False: out of memory, or longer than limit then; the buffer is as it was. */
bool buffer_add(struct buffer *buffer, const char *bytes, size_t length, size_t limit);
void buffer_drop(struct buffer *buffer, size_t length); /* from its front */
void buffer_free(struct buffer *buffer);

struct client_trace;

struct client {
    struct control *control;
    struct list link, waiting;
    int fd;
    struct loop_watch *watch;
    struct loop_task *turn;
    struct loop_timer *stalled;
    struct buffer in, out;
    struct frame frame;
    struct call *call;          /* under way: the next command waits for its answer */
    struct client_trace *trace; /* or NULL */
    bool running;               /* a command of its, in its turn */
    bool member;                /* of the group, not root */
    bool events;                /* it asked for them */
    unsigned dropped;           /* events it did not get */
    bool ended;                 /* it sends no more: closed when all is answered */
};

/* Takes over the descriptor. `member`: of the group, not root. False: out of memory; it is closed. */
bool client_create(struct control *control, int fd, bool member);
/* Its call under way goes on without it. */
void client_destroy(struct client *client);
/* Queues one line. `event`: may be dropped. The client is never destroyed inside. */
void client_send(struct client *client, json_t *message, bool event);

/* The same for one line that is JSON already, with its end; dropped without notice when there is no memory.
 */
void client_send_line(struct client *client, const char *line, size_t length);

/* One command that is being carried out. */
struct call {
    struct list link;
    struct control *control; /* NULL: it has gone */
    struct client *client;   /* likewise */
    json_t *id;              /* or NULL */
    /* The client has gone and nothing else will end it: frees what `self` is. NULL: `done` comes all the
     * same. */
    void (*forget)(struct call *call);
    void *self;
};
/* Each answers, and frees the call. The value is taken over; NULL: out of memory. */
void call_return(struct call *call, json_t *value);
void call_fail(struct call *call, int code, const char *why);
/* A daemon_done: self is the call. */
void call_done(void *self, int error, const char *why);
/* Parses and begins one command, of exactly `length` bytes. */
void command_run(struct client *client, const char *bytes, size_t length);
/* An answer that belongs to no call. */
void client_refuse(struct client *client, const char *class, const char *why);

enum argument_type { ARGUMENT_TEXT, ARGUMENT_FLAG, ARGUMENT_NUMBER, ARGUMENT_COUNT, ARGUMENT_TEXTS };
struct argument {
    const char *name; /* NULL: the end */
    enum argument_type type;
    bool required;
};
struct command {
    const char *name, *summary;
    const struct argument *arguments;
    void (*run)(struct call *call, json_t *arguments);
};
/* Arrays that end with a NULL name. */
extern const struct command guest_commands[], device_commands[], watch_commands[], trace_commands[],
    daemon_commands[];

/* Of checked arguments. */
const char *argument_text(json_t *arguments, const char *name); /* NULL: not given */
bool argument_flag(json_t *arguments, const char *name, bool fallback);
double argument_number(json_t *arguments, const char *name, double fallback);

/* Which members of the outermost list are wanted. */
struct page {
    uint64_t first, count;
};

/* The arguments "first" and "count", which commands with long answers have. */
struct page argument_page(json_t *arguments);
#define PAGE_ARGUMENTS {"first", ARGUMENT_NUMBER, false}, {"count", ARGUMENT_NUMBER, false}

/* A string, whatever its bytes are. */
json_t *text_json(const char *text);

/* Makes JSON of what an object shows. */
struct json_inspector {
    struct inspector inspector;
    json_t *root, *stack[FRAME_DEPTH]; /* borrowed from the root */
    unsigned depth;
    unsigned lists, lists_wanted; /* in each other */
    struct page page;             /* all, if nobody says otherwise */
    uint64_t member;              /* of the outermost list, the next one's number */
    unsigned skipped;             /* depth inside what is left out */
    bool counting;                /* that is a list, whose length is told */
    uint64_t count;
    const char *count_key;
    bool failed; /* out of memory, or unbalanced */
};
#define ALL_LISTS FRAME_DEPTH
/* Of a list inside more than `lists` others only the number of members is shown ("devices": 2). */
void json_inspector_init(struct json_inspector *inspector, unsigned lists);
/* The root, taken over by the caller; NULL: failed. */
json_t *json_inspector_finish(struct json_inspector *inspector);

/*
 * Answers when the guest is served, or has failed; within `timeout` seconds, or without limit (negative). An
 * unknown guest is an error at once without a limit; with one it may become known.
 */
void wait_begin(struct call *call, const char *guest, double timeout);
/*
 * The same in two steps, around what makes the guest known: it may fail, and be forgotten, in that very
 * call. False: out of memory, and the call has ended. An error of what is between them ends the call.
 */
bool wait_listen(struct call *call, const char *guest, double timeout);
void wait_go_on(struct call *call, int error, const char *why);
void wait_hear(struct control *control, const struct daemon_event *event);
void wait_look(struct control *control); /* at all that wait, after something happened */

/* Its traces: there is room for more; they end. */
void client_trace_resume(struct client *client);
void client_trace_end(struct client *client);

void event_listener(struct daemon_listener *listener, const struct daemon_event *event);
/* {"event","data","timestamp"}; takes over data; NULL: out of memory. */
json_t *event_message(const char *name, json_t *data);

#endif
