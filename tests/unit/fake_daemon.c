/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake_daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/latency.h"
#include "core/stats.h"
#include "core/stuck.h"

static void answer_now(void *self)
{
    fake_daemon_answer(self, 0, "");
}

void fake_daemon_init(struct daemon *daemon, struct loop *loop)
{
    *daemon = (struct daemon){.loop = loop, .guests = 2, .known = true};
    list_init(&daemon->listeners);
    daemon->task = loop ? loop->ops->task_add(loop, answer_now, daemon) : NULL;
    daemon->status = (struct guest_status){.domain = "g1", .domid = 7, .state = "waiting"};
}

void fake_daemon_finish(struct daemon *daemon)
{
    if (daemon->loop) {
        daemon->loop->ops->task_remove(daemon->task);
    }
}

void fake_daemon_answer(struct daemon *daemon, int error, const char *why)
{
    daemon_done *done = daemon->done;

    daemon->done = NULL;
    if (done) {
        done(daemon->done_self, error, why);
    }
}

void fake_daemon_tell(struct daemon *daemon, enum daemon_event_kind kind, const char *text)
{
    daemon_tell(daemon, &(struct daemon_event){
                            .kind = kind, .domain = "g1", .domid = 7, .device = "disk0", .text = text});
}

/* ---- verbs ---- */

static int verb(struct daemon *daemon, struct iod_error *error, const char *format, ...)
{
    int fail = daemon->fail;
    va_list more;

    va_start(more, format);
    vsnprintf(daemon->said, sizeof(daemon->said), format, more);
    va_end(more);
    daemon->fail = 0;
    daemon->verbs++;
    return fail ? iod_fail(error, fail, "the fake refuses: %s", daemon->said) : 0;
}

static int later(struct daemon *daemon, daemon_done *done, void *self, int ret)
{
    if (!ret) {
        daemon->done = done;
        daemon->done_self = self;
        if (daemon->at_once) {
            daemon->loop->ops->task_soon(daemon->task);
        }
    }
    return ret;
}

int daemon_add_guest(struct daemon *daemon, const struct guest_spec *spec, struct iod_error *error)
{
    int ret = verb(daemon, error,
                   "add-guest %.60s devices=%u first=%.100s slots=%u wait=%d type=%d stuck=%llu from=%.40s",
                   spec->domain, spec->device_count, spec->device_count ? spec->devices[0].text : "",
                   spec->slots, spec->wait, spec->type, (unsigned long long)spec->stuck_ms, spec->origin);

    if (!ret && daemon->stillborn) {
        fake_daemon_tell(daemon, EVENT_GUEST_STATE, "detaching");
        daemon->known = false;
        fake_daemon_tell(daemon, EVENT_GUEST_STATE, "failed");
    }
    return ret;
}

int daemon_remove_guest(struct daemon *daemon, const char *domain, daemon_done *done, void *self,
                        struct iod_error *error)
{
    return later(daemon, done, self, verb(daemon, error, "remove-guest %.60s", domain));
}

int daemon_add_device(struct daemon *daemon, const char *domain, const struct device_spec *spec,
                      daemon_done *done, void *self, struct iod_error *error)
{
    return later(daemon, done, self, verb(daemon, error, "add-device %.60s %.100s", domain, spec->text));
}

int daemon_remove_device(struct daemon *daemon, const char *domain, const char *id, enum removal how,
                         daemon_done *done, void *self, struct iod_error *error)
{
    return later(
        daemon, done, self,
        verb(daemon, error, "remove-device %.60s %.60s%s", domain, id, how == REMOVAL_FORCE ? " force" : ""));
}

int daemon_pause_guest(struct daemon *daemon, const char *domain, daemon_done *done, void *self,
                       struct iod_error *error)
{
    return later(daemon, done, self, verb(daemon, error, "pause %.60s", domain));
}

int daemon_resume_guest(struct daemon *daemon, const char *domain, struct iod_error *error)
{
    return verb(daemon, error, "resume %.60s", domain);
}

int daemon_resize_device(struct daemon *daemon, const char *domain, const char *id, struct iod_error *error)
{
    return verb(daemon, error, "resize %.60s %.60s", domain, id);
}

int daemon_guest_status(struct daemon *daemon, const char *domain, struct guest_status *status,
                        struct iod_error *error)
{
    if (!daemon->known || strcmp(domain, "g1")) {
        return iod_fail(error, ENOENT, "no guest %.60s is known here", domain);
    }
    *status = daemon->status;
    return 0;
}

void daemon_set_log_level(struct daemon *daemon, enum iod_log_level level)
{
    verb(daemon, NULL, "log-level %d", level);
}

void daemon_log(struct daemon *daemon, enum iod_log_level level, const char *prefix, const char *format, ...)
{
    daemon->logged++;
}

struct loop *daemon_loop(const struct daemon *daemon)
{
    return daemon->loop;
}

void daemon_listen(struct daemon *daemon, struct daemon_listener *listener)
{
    list_add_tail(&daemon->listeners, &listener->link);
}

void daemon_unlisten(struct daemon_listener *listener)
{
    list_remove(&listener->link);
}

void daemon_tell(struct daemon *daemon, const struct daemon_event *event)
{
    struct daemon_listener *listener;

    list_for_each(listener, &daemon->listeners, struct daemon_listener, link)
    {
        listener->event(listener, event);
    }
}

/* ---- what is shown ---- */

static void show_guest(struct inspector *inspector, unsigned number)
{
    char name[16];

    snprintf(name, sizeof(name), "g%u", number);
    inspector->begin_object(inspector, NULL);
    inspector->text(inspector, "domain", name);
    inspector->number(inspector, "domid", number);
    inspector->text(inspector, "bytes", "\xff\xfe is no UTF-8");
    inspector->boolean(inspector, "served", true);
    inspector->begin_list(inspector, "devices");
    for (unsigned i = 0; i < 3; i++) {
        inspector->begin_object(inspector, NULL);
        inspector->number(inspector, "index", i);
        inspector->number(inspector, "large", UINT64_MAX);
        inspector->end(inspector);
    }
    inspector->end(inspector);
    inspector->end(inspector);
}

static void show_guests(struct daemon *daemon, const char *key, struct inspector *inspector)
{
    inspector->begin_list(inspector, key);
    for (unsigned i = 1; i <= daemon->guests; i++) {
        show_guest(inspector, i);
    }
    inspector->end(inspector);
}

int daemon_inspect(struct daemon *daemon, const char *domain, struct inspector *inspector,
                   struct iod_error *error)
{
    if (!domain) {
        show_guests(daemon, NULL, inspector);
        return 0;
    }
    if (strcmp(domain, "g1")) {
        return iod_fail(error, ENOENT, "no guest %.60s is known here", domain);
    }
    show_guest(inspector, 1);
    return 0;
}

static int list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
                struct iod_error *error)
{
    if (domain && strcmp(domain, "g1")) {
        return iod_fail(error, ENOENT, "no guest %.60s is known here", domain);
    }
    show_guests(daemon, key, inspector);
    return 0;
}

int stats_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error)
{
    return list(daemon, domain, key, inspector, error);
}

void stats_daemon(const struct daemon *daemon, struct inspector *inspector)
{
    inspector->number(inspector, "guests", daemon->guests);
}

int latency_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
                 struct iod_error *error)
{
    return list(daemon, domain, key, inspector, error);
}

void latency_set(struct daemon *daemon, bool on)
{
    verb(daemon, NULL, "latency %d", on);
}

bool latency_on(const struct daemon *daemon)
{
    return false;
}

int latency_reset(struct daemon *daemon, const char *domain, struct iod_error *error)
{
    return verb(daemon, error, "latency reset %.60s", domain ? domain : "all");
}

int stuck_list(struct daemon *daemon, const char *domain, const char *key, struct inspector *inspector,
               struct iod_error *error)
{
    return list(daemon, domain, key, inspector, error);
}

/* ---- traces ---- */

#define NAME(name, shape, what) #name,
static const char *const names[] = {PROBES(NAME)};
#undef NAME

const char *probe_name(enum probe probe)
{
    return names[probe];
}

const char *probe_what(enum probe probe)
{
    return "something";
}

int probe_find(const char *name)
{
    for (unsigned i = 0; i < PROBE_COUNT; i++) {
        if (!strcmp(names[i], name)) {
            return (int)i;
        }
    }
    return -1;
}

struct trace {
    struct daemon *daemon;
    bool frames;
};

static struct trace *start(struct daemon *daemon, bool frames, struct iod_error *error)
{
    struct trace *trace = malloc(sizeof(*trace));

    if (trace && verb(daemon, error, frames ? "capture" : "trace")) {
        free(trace);
        return NULL;
    }
    if (trace) {
        *trace = (struct trace){daemon, frames};
    }
    return trace;
}

struct trace *trace_start(struct daemon *daemon, const struct trace_filter *filter, unsigned records,
                          trace_sink *sink, void *self, struct iod_error *error)
{
    struct trace *trace = start(daemon, false, error);

    daemon->sink = trace ? sink : daemon->sink;
    daemon->sink_self = self;
    return trace;
}

struct trace *capture_start(struct daemon *daemon, const struct trace_filter *filter, capture_sink *sink,
                            void *self, struct iod_error *error)
{
    struct trace *trace = start(daemon, true, error);

    daemon->capture = trace ? sink : daemon->capture;
    daemon->sink_self = self;
    return trace;
}

void trace_resume(struct trace *trace)
{
    trace->daemon->resumed++;
}

void trace_stop(struct trace *trace)
{
    if (trace->frames) {
        trace->daemon->capture = NULL;
    } else {
        trace->daemon->sink = NULL;
    }
    free(trace);
}
