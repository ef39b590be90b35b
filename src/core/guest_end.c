/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of a guest, whatever brought it: SIGTERM, its domain's death, an error. Devices become quiet, vCPUs
 * take their answers, then the guest is freed: always from its timer, never inside a call of one of its
 * devices.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/inside.h"

#define LAST_ROUNDS 16                      /* of dispatch before the devices stop */
#define QUIET_INTERVAL_NS UINT64_C(5000000) /* vCPUs that have not taken their answer */
#define QUIET_RETRIES 400                   /* 2 s: a paused vCPU takes its answer only when it runs again */

static void all_quiet(struct guest *guest);

static void device_quiet(void *self)
{
    struct guest *guest = self;
    if (--guest->stopping == 0) {
        all_quiet(guest);
    }
}

void guest_give_up_opens(struct guest *guest)
{
    struct iod_device *device;
    list_for_each(device, &guest->devices, struct iod_device, link) {
        device_give_up(device);
    }
}

void guest_stop_devices(struct guest *guest, enum iod_drain drain)
{
    struct iod_device *device;
    if (guest->state != GUEST_STOPPING && !guest->forget) {
        guest->ending = ++guest->daemon->endings;
    }
    guest->state = GUEST_STOPPING;
    guest_named_state(guest, "detaching");
    guest->stopping = 1; /* for this loop, so that all_quiet runs after it */
    guest_give_up_opens(guest);
    list_for_each(device, &guest->devices, struct iod_device, link) {
        guest->stopping++;
        device_stop(device, &device->guest_stop, drain, device_quiet, guest);
    }
    device_quiet(guest);
}

static enum on_exit on_exit_of(const struct guest *guest)
{
    if (guest->spec.on_exit != ON_EXIT_DEFAULT) {
        return guest->spec.on_exit;
    }
    return guest_is_arm(guest) ? ON_EXIT_LEAVE : ON_EXIT_DESTROY;
}

/* Is it shown or waited for after its end? */
static bool stays(const struct guest *guest)
{
    bool again = guest->dead && !guest->fail && guest->spec.wait; /* the name may come back (a reboot) */
    bool shown = guest->fail && guest->source;                    /* until somebody mends what was wrong */
    return (again || shown) && !guest->forget && !guest->daemon->stopping;
}

void guest_finish(struct guest *guest)
{
    struct daemon *daemon = guest->daemon;
    const char *state = guest->fail ? "failed" : guest->dead ? "gone" : "stopped";
    if (guest->malformed) {
        guest_log(guest, IOD_LOG_INFO,
                  "%llu malformed requests, %llu accesses to addresses that no device has",
                  (unsigned long long)guest->malformed, (unsigned long long)guest->unclaimed);
    }
    if (guest->dead) {
        daemon_forget_domain(daemon, guest->domid);
    }
    guest_unjoin(guest);
    guest_part(guest);
    if (stays(guest)) {
        bool failed = guest->fail;
        guest_named_state(guest, state);
        guest_restart(guest, failed);
        daemon->ended++;
        return;
    }
    struct answer *answer = guest->removal;
    guest->removal = NULL;
    list_remove(&guest->link); /* who hears of its end does not find it any more */
    guest_named_state(guest, state);
    guest_destroy(guest);
    daemon->ended++;
    answer_give(answer, 0, NULL);
    daemon_guest_ended(daemon);
}

/* on-exit=leave holds only while there is a guest to be left. */
static bool is_left(const struct guest *guest)
{
    return !guest->dead && !guest->fail && on_exit_of(guest) == ON_EXIT_LEAVE;
}

/*
 * Everything of ours is quiet; now the hypervisor's side. The rest comes by the timer: the last device is
 * still in the call that told us, and must not be freed under it.
 */
static void all_quiet(struct guest *guest)
{
    struct server *server;
    struct hypervisor *hv = guest->daemon->hv;
    list_for_each(server, &guest->servers, struct server, link) {
        if (server->enabled && !guest->dead && !is_left(guest)) {
            hv->ops->server_enable(hv, guest->domid, server->id, false);
            server_answer_all(server);
        }
    }
    guest->retries = 0;
    guest_retry_in(guest, 0);
}

/* The server stays enabled, vCPUs wait for a successor. */
static void leave(struct guest *guest)
{
    struct server *server;
    list_for_each(server, &guest->servers, struct server, link) {
        server_close(server, true);
    }
    guest_finish(guest);
}

static void await_quiet_vcpus(struct guest *guest)
{
    struct server *server;
    bool quiet = true;
    list_for_each(server, &guest->servers, struct server, link) {
        if (!guest->dead && server->enabled) {
            server_answer_all(server); /* a vCPU on its way in when the server was disabled still waits */
            quiet = server_quiet(server) && quiet;
        }
    }
    if (!quiet && guest->retries++ < QUIET_RETRIES) {
        if (guest->retries % 16 == 0) {
            guest_check_alive(guest);
        }
        guest_retry_in(guest, QUIET_INTERVAL_NS);
        return;
    }
    list_for_each(server, &guest->servers, struct server, link) {
        bool keep = server->enabled && !guest->dead && !server_quiet(server);
        if (keep) {
            guest_log(guest, IOD_LOG_WARNING,
                      "ioreq server %u stays, disabled: a vCPU has not taken its answer (is the guest "
                      "paused?); the next ioreqd removes it by its record",
                      server->id);
        }
        server_close(server, keep);
    }
    guest_finish(guest);
}

/*
 * What the guest did before the signal is done before its devices stop: writes that wait in the ring,
 * string accesses that are half way (a successor would begin them anew). Bounded: the ring has 511 entries,
 * a REP 4096 elements.
 */
static void serve_what_came(struct guest *guest)
{
    struct server *server;
    limit_lift(guest); /* it can do no harm any more */
    list_for_each(server, &guest->servers, struct server, link) {
        if (server->buf != BUFIOREQ_OFF && server->ring.state == ACCESS_IDLE) {
            dispatch_ready(&server->ring);
        }
    }
    for (unsigned round = 0; round < LAST_ROUNDS && !list_empty(&guest->ready); round++) {
        dispatch_run(guest->daemon);
    }
    dispatch_flush(guest->daemon);
}

/* As soon as its devices are open, or are not. */
static void stop_opening(struct guest *guest)
{
    guest->stop_wanted = true;
    guest_give_up_opens(guest);
    if (!guest->opening) { /* a lock is awaited */
        guest_retry_in(guest, 0);
    }
}

void guest_stop(struct guest *guest)
{
    switch (guest->state) {
    case GUEST_WAITING:
    case GUEST_CLEANING:
    case GUEST_JOINED:
    case GUEST_FAILED:
        guest_finish(guest);
        break;
    case GUEST_OPENING:
        stop_opening(guest);
        break;
    case GUEST_RUNNING:
        serve_what_came(guest);
        guest_stop_devices(guest, IOD_FINISH);
        break;
    case GUEST_STOPPING:
    case GUEST_GONE:
        break;
    }
}

void guest_gone(struct guest *guest)
{
    struct iod_device *device;
    if (guest->dead) {
        return;
    }
    guest->dead = true;
    if (guest->memory) {
        memory_drop_idle(guest->memory); /* not with the last I/O in flight: every page keeps a zombie */
    }
    switch (guest->state) {
    case GUEST_WAITING:
    case GUEST_CLEANING:
    case GUEST_JOINED:
    case GUEST_FAILED:
        guest_finish(guest);
        break;
    case GUEST_OPENING:
        stop_opening(guest);
        break;
    case GUEST_RUNNING:
        guest_log(guest, IOD_LOG_INFO, "the domain is gone");
        guest_stop_devices(guest, IOD_CANCEL);
        break;
    case GUEST_STOPPING: /* its I/O is needed by nobody any more */
        list_for_each(device, &guest->devices, struct iod_device, link) {
            device_cancel(device);
        }
        break;
    case GUEST_GONE:
        break;
    }
}

void guest_failing(struct guest *guest, const char *device, const char *why)
{
    guest->fail = true;
    guest_note(guest, "%s", why);
    daemon_tell(guest->daemon, &(struct daemon_event){.kind = EVENT_DEVICE_ERROR,
                                                      .domain = guest->spec.domain,
                                                      .domid = guest->have_domid ? guest->domid : -1,
                                                      .device = device,
                                                      .text = guest->why});
}

void guest_fail(struct guest *guest, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    guest_log(guest, IOD_LOG_ERROR, "%s", text);
    guest_failing(guest, NULL, text);
    guest_stop_devices(guest, IOD_CANCEL);
}

void guest_check_alive(struct guest *guest)
{
    struct hypervisor *hv = guest->daemon->hv;
    struct server *server = list_first(&guest->servers, struct server, link);
    unsigned vcpus;
    if (guest->dead || (!server && guest->state != GUEST_OPENING)) {
        return;
    }
    int error = server ? hv->ops->server_info(hv, guest->domid, server->id, NULL)
                       : hv->ops->nr_vcpus(hv, guest->domid, &vcpus);
    if (error == -ESRCH || error == -ENOENT) {
        guest_gone(guest);
    }
}

/* By the guest's timer, while it is stopping. */
void guest_end_step(struct guest *guest)
{
    if (guest->stopping > 0) {
        return; /* a look for event channels was still due; devices have I/O in flight */
    }
    if (is_left(guest)) {
        leave(guest);
    } else {
        await_quiet_vcpus(guest);
    }
}
