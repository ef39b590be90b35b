/* SPDX-License-Identifier: BSD-2-Clause */
/* What the daemon tells: events to its listeners, and the answers that verbs promised for later. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/points.h"

struct answer {
    struct list link; /* of the daemon's answers, once given */
    struct daemon *daemon;
    daemon_done *done;
    void *self;
    int error;
    char why[240];
};

/* ---- listeners ---- */

void daemon_listen(struct daemon *daemon, struct daemon_listener *listener)
{
    list_add_tail(&daemon->listeners, &listener->link);
}

void daemon_unlisten(struct daemon_listener *listener)
{
    list_remove(&listener->link);
}

/* A mark of our own walks the list: a listener may remove itself, or others, and make events happen. */
void daemon_tell(struct daemon *daemon, const struct daemon_event *event)
{
    struct daemon_listener mark = {.event = NULL};
    list_add_head(&daemon->listeners, &mark.link);
    while (mark.link.next != &daemon->listeners) {
        struct daemon_listener *next = list_entry(mark.link.next, struct daemon_listener, link);
        list_remove(&mark.link);
        list_add_head(&next->link, &mark.link); /* behind it */
        if (next->event) {
            next->event(next, event);
        }
    }
    list_remove(&mark.link);
}

void guest_named_state(struct guest *guest, const char *state)
{
    static const char *const logged[] = {"running", "gone", "failed", "stopped"};
    struct daemon *daemon = guest->daemon;
    struct guest *joined;
    bool known = false;
    if (guest->shown_state && !strcmp(guest->shown_state, state)) {
        return;
    }
    guest->shown_state = state;
    watch_guest_known(guest);
    point_guest_state(guest, NULL, state);
    for (unsigned i = 0; i < sizeof(logged) / sizeof(logged[0]); i++) {
        known = known || !strcmp(state, logged[i]);
    }
    guest_log(guest, known ? IOD_LOG_INFO : IOD_LOG_DEBUG, "%s", state);
    if (known && daemon->config.guest_state) {
        daemon->config.guest_state(daemon->config.guest_self, guest->spec.domain, state);
    }
    daemon_tell(daemon, &(struct daemon_event){.kind = EVENT_GUEST_STATE,
                                               .domain = guest->spec.domain,
                                               .domid = guest->have_domid ? guest->domid : -1,
                                               .text = state});
    list_for_each(joined, &guest->joined, struct guest, join_link) {
        guest_named_state(joined, state); /* they share its fate as long as they are joined */
    }
}

void device_tell(const struct iod_device *device, enum daemon_event_kind kind, const char *text)
{
    const struct guest *guest = device->owner ? device->owner : device->guest;
    daemon_tell(guest->daemon, &(struct daemon_event){.kind = kind,
                                                      .domain = guest->spec.domain,
                                                      .domid = device->guest->domid,
                                                      .device = device->id,
                                                      .text = text});
}

void device_backend_tell(struct device_backend *backend, const char *text)
{
    device_tell(backend->device, EVENT_BACKEND, text);
}

void daemon_set_log_level(struct daemon *daemon, enum iod_log_level level)
{
    daemon->config.log_level = level;
}

/* ---- answers ---- */

struct answer *answer_make(struct daemon *daemon, daemon_done *done, void *self, struct iod_error *error)
{
    struct answer *answer = calloc(1, sizeof(*answer));
    if (!answer) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    *answer = (struct answer){.daemon = daemon, .done = done, .self = self};
    list_init(&answer->link);
    return answer;
}

void answer_give(struct answer *answer, int error, const char *why)
{
    if (answer) {
        struct daemon *daemon = answer->daemon;
        answer->error = error;
        snprintf(answer->why, sizeof(answer->why), "%s", error && why ? why : "");
        list_add_tail(&daemon->answers, &answer->link);
        daemon->loop->ops->task_soon(daemon->answer_task);
    }
}

void answer_drop(struct answer *answer)
{
    free(answer);
}

void answers_deliver(struct daemon *daemon)
{
    struct answer *answer;
    while ((answer = list_first(&daemon->answers, struct answer, link))) {
        list_remove(&answer->link);
        if (answer->done) {
            answer->done(answer->self, answer->error, answer->why);
        }
        free(answer);
    }
}

static void deliver(void *self)
{
    answers_deliver(self);
}

/*
 * Guests that shall go do so from here, never inside the call that asked for it: it may be one of their
 * devices'.
 */
static void leave(void *self)
{
    struct daemon *daemon = self;
    struct guest *guest;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        if (guest->forget && !guest->leaving) {
            guest->leaving = true;
            guest_leave(guest);
            /* The list may have changed under us: look again. */
            daemon->loop->ops->task_soon(daemon->leave_task);
            return;
        }
    }
}

int events_begin(struct daemon *daemon)
{
    const struct loop_ops *ops = daemon->loop->ops;
    list_init(&daemon->listeners);
    list_init(&daemon->answers);
    daemon->answer_task = ops->task_add(daemon->loop, deliver, daemon);
    daemon->leave_task = ops->task_add(daemon->loop, leave, daemon);
    daemon->record_timer = ops->timer_add(daemon->loop, records_write, daemon);
    return daemon->answer_task && daemon->leave_task && daemon->record_timer ? 0 : -ENOMEM;
}

void events_end(struct daemon *daemon)
{
    const struct loop_ops *ops = daemon->loop->ops;
    struct answer *answer;
    while ((answer = list_first(&daemon->answers, struct answer, link))) {
        list_remove(&answer->link); /* who asked is gone with the loop's last batch */
        free(answer);
    }
    ops->task_remove(daemon->answer_task);
    ops->task_remove(daemon->leave_task);
    ops->timer_remove(daemon->record_timer);
}
