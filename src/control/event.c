/* SPDX-License-Identifier: BSD-2-Clause */
/* What the daemon tells, as events for the clients that asked. */
#include <time.h>

#include "control/inside.h"

json_t *event_message(const char *name, json_t *data)
{
    struct timespec now;

    if (!data) {
        return NULL;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    return json_pack("{s:s,s:o,s:{s:I,s:i}}", "event", name, "data", data, "timestamp", "seconds",
                     (json_int_t)now.tv_sec, "microseconds", (int)(now.tv_nsec / 1000));
}

static const char *event_name(enum daemon_event_kind kind)
{
    switch (kind) {
    case EVENT_GUEST_STATE:
        return "GUEST_STATE";
    case EVENT_DEVICE_ADDED:
        return "DEVICE_ADDED";
    case EVENT_DEVICE_REMOVED:
        return "DEVICE_REMOVED";
    case EVENT_DEVICE_ERROR:
        return "DEVICE_ERROR";
    case EVENT_BACKEND:
        return "BACKEND";
    case EVENT_STUCK:
        return "STUCK";
    case EVENT_LIMITED:
        return "LIMITED";
    }
    return "OTHER";
}

static json_t *make_message(const struct daemon_event *event)
{
    json_t *data = json_pack("{s:o}", "guest", text_json(event->domain ? event->domain : ""));

    if (data && event->domid >= 0) {
        json_object_set_new(data, "domid", json_integer(event->domid));
    }
    if (data && event->device) {
        json_object_set_new(data, "device", text_json(event->device));
    }
    if (data && event->text) {
        json_object_set_new(data, event->kind == EVENT_GUEST_STATE ? "state" : "text",
                            text_json(event->text));
    }
    return event_message(event_name(event->kind), data);
}

void event_listener(struct daemon_listener *listener, const struct daemon_event *event)
{
    struct control *control = list_entry(listener, struct control, events);
    json_t *message = NULL;
    struct client *client;

    wait_hear(control, event);
    list_for_each(client, &control->clients, struct client, link)
    {
        if (client->events) {
            message = message ? message : make_message(event);
            client_send(client, message, true);
        }
    }
    json_decref(message);
}
