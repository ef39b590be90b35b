/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqctl: the control socket's protocol for people. What its files share. */
#ifndef IOREQCTL_H
#define IOREQCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#define CONTROL_SOCKET "/run/ioreqd/control"

/* What the process says at its end. */
enum status {
    STATUS_OK = 0,
    STATUS_FAILED = 1, /* the daemon said no, or did not get it done; the reason is on stderr */
    STATUS_USAGE = 2,
    STATUS_NO_DAEMON = 3, /* nobody listens, or the connection broke */
};

/* One connection. Events that come while an answer is waited for go to `event` (borrowed; NULL: ignored). */
struct connection {
    int fd;
    char *bytes; /* received: the first `taken` were messages already */
    size_t size, length, taken;
    unsigned id;
    bool printable; /* control characters in what comes are replaced: it goes to a terminal */
    void (*event)(void *self, json_t *event);
    void *self;
};
/* Connects and takes the greeting. False: a line on stderr says why. */
bool connection_open(struct connection *connection, const char *path, bool printable);
void connection_close(struct connection *connection);
/*
 * Sends a command (arguments are taken over; NULL: none) and waits for its answer. Returns STATUS_OK and
 * *value (the caller's), or what went wrong, said on stderr.
 */
enum status connection_call(struct connection *connection, const char *command, json_t *arguments,
                            json_t **value);
/* The same, but an error of the daemon's is the caller's to tell: its text is in *why (cut), and STATUS_FAILED. */
enum status connection_try(struct connection *connection, const char *command, json_t *arguments,
                           json_t **value, char *why, size_t size);
/* As connection_call, for a command whose answer has a list, by this key, of many guests: asked for part by part. */
enum status connection_list(struct connection *connection, const char *command, json_t *arguments,
                            const char *key, json_t **value);
/* The next message, which is an event (the caller's). NULL: the connection has ended. */
json_t *connection_next(struct connection *connection);

/* The command line of one command, taken apart. */
struct options {
    const char *socket;
    bool json;
    char **words; /* arguments of the command that are no options */
    int count;
    bool force, wait, beside, unlimited, prometheus, batch, help, version;
    double timeout, interval;  /* seconds; negative: not given */
    unsigned iterations, snap; /* 0: not given */
    const char *type, *arch, *on_exit, *bufioreq, *map_limit, *stuck, *stuck_limit, *slots;
    const char *output, *pcapng, *sort, *device;
    const char **devices, **probes; /* ends with NULL */
    unsigned device_count, probe_count;
};

/* Takes the line apart; *given: which options there were, for options_check. Not 0: said on stderr. */
int options_parse(struct options *options, int argc, char **argv, uint64_t *given);
/* Does the command take them all? */
enum status options_check(const char *command, uint64_t given);
/* Can the daemon be told of them? JSON is UTF-8; what it could not hold would be missing in silence. */
enum status options_check_texts(const struct options *options);

enum status say_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
enum status say_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- the commands that are more than one call ---- */

enum status run_events(struct connection *connection, const struct options *options);
enum status run_trace(struct connection *connection, const struct options *options);
enum status run_top(struct connection *connection, const struct options *options);
enum status run_prometheus(struct connection *connection);

/* ---- output ---- */

void print_json(json_t *value);
void print_list(json_t *list);
void print_stats(json_t *stats);
void print_latency(json_t *latency, bool one);
void print_stuck(json_t *stuck);
/* A tree of all that is in it; `name` stands at its root. */
void print_tree(json_t *value, const char *name);
void print_event(json_t *event);

/* Columns of the terminal; 80 when it is none. */
unsigned terminal_columns(void);
bool terminal_utf8(void);
/* How many bytes of the text fill at most so many columns (whole characters); *used: columns (NULL: not asked). */
size_t text_fit(const char *text, unsigned columns, unsigned *used);

/* Short texts for people: at most 8 bytes ("1.2 ms", "64 KiB", "1.2M"). */
enum { SHORT_MAX = 24 };
const char *short_time(char text[SHORT_MAX], uint64_t ns);
const char *short_bytes(char text[SHORT_MAX], uint64_t bytes);
const char *short_count(char text[SHORT_MAX], double count);

/* Members of JSON that may be missing: "" and 0. */
const char *member_text(const json_t *object, const char *key);
uint64_t member_number(const json_t *object, const char *key);
bool member_flag(const json_t *object, const char *key);
/* Its domid as text, or "-". */
const char *member_domid(const json_t *object, char text[SHORT_MAX]);

#endif
