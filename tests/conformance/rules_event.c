/* SPDX-License-Identifier: BSD-2-Clause */
/* R7 to R9 and R12: event channels between Xen and an emulator. */
#include "conformance.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define FOREIGN_PORT 1000   /* a port number that this process never gets, but dom0 could */
#define UNKNOWN_REMOTE 3000 /* a port that the guest never has */
#define EVENT_MS 3000

/* The next pending port, still masked; -1 if there is none within `ms`. */
static int take_event(struct context *ctx, unsigned int ms)
{
    struct pollfd fd = { .fd = xenevtchn_fd(ctx->evtchn), .events = POLLIN };

    return poll(&fd, 1, (int)ms) > 0 ? xenevtchn_pending(ctx->evtchn) : -1;
}

static const char *event_text(struct context *ctx, int port, unsigned int ms)
{
    int got = take_event(ctx, ms);

    if (got < 0) {
        return "no event";
    }
    xenevtchn_unmask(ctx->evtchn, (evtchn_port_t)got);
    return got == port ? "event" : "another port's event";
}

void rule_bind(struct context *ctx, const char *rule)
{
    struct server server;
    evtchn_port_t remote;
    int port;

    servers_pump(ctx, NULL, 0, 0);
    if (server_create(ctx, &server, HVM_IOREQSRV_BUFIOREQ_OFF) ||
        xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 1)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    remote = server.page->vcpu_ioreq[0].vp_eport;
    port = xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, remote);
    say("R7.bind", "%s", outcome(port));
    say("R7.bind-first-event", "%s", event_text(ctx, port, EVENT_MS));
    say("R7.bind-second-event", "%s", event_text(ctx, port, ctx->quiet_ms));
    say("R7.bind-again", "%s", outcome(xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, remote)));
    say("R7.bind-unknown-port", "%s",
        outcome(xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, UNKNOWN_REMOTE)));
    say("R7.bind-unused-domid", "%s", outcome(xenevtchn_bind_interdomain(ctx->evtchn, NO_DOMAIN, remote)));
    say("R7.unbind", "%s", outcome(xenevtchn_unbind(ctx->evtchn, (evtchn_port_t)port)));
    port = xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, remote);
    say("R7.bind-after-unbind", "%s", outcome(port));
    say("R7.bind-after-unbind-event", "%s", event_text(ctx, port, EVENT_MS));
    server.port[0] = port;
    server_close(ctx, &server);
}

void rule_notify(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;

    if (plain_server(ctx, &server)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    say("R8.notify", "%s", outcome(xenevtchn_notify(ctx->evtchn, (evtchn_port_t)server.port[0])));
    say("R8.notify-foreign", "%s", outcome(xenevtchn_notify(ctx->evtchn, FOREIGN_PORT)));
    say("R8.unmask-foreign", "%s", outcome(xenevtchn_unmask(ctx->evtchn, FOREIGN_PORT)));
    say("R8.unbind-foreign", "%s", outcome(xenevtchn_unbind(ctx->evtchn, FOREIGN_PORT)));
    server_close(ctx, &server);
}

/* The handle's fd as libxenevtchn's callers may use it themselves: several ports in one read or write. */
void rule_event_fd(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    uint32_t ports[8] = { 0 };
    ssize_t got;

    servers_pump(ctx, NULL, 0, 0);
    if (plain_server(ctx, &server)) { /* each bind made its port pending */
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    pause_ms(ctx->quiet_ms);
    got = read(xenevtchn_fd(ctx->evtchn), ports, sizeof(ports));
    say("R34.read", "%zd bytes", got);
    say("R34.ports", "%s", (int)(ports[0] + ports[1]) == server.port[0] + server.port[1] ? "ours" : "others");
    say("R34.write", "%zd bytes", got > 0 ? write(xenevtchn_fd(ctx->evtchn), ports, (size_t)got) : 0);
    say("R34.then", "%s", take_event(ctx, ctx->quiet_ms) < 0 ? "no event" : "event");
    server_close(ctx, &server);
}

/* One write of the guest, answered without taking its event. */
static bool silent_write(struct context *ctx, struct server *server)
{
    struct command command = plain_write(ctx, 4, 1);

    ctx->guest->start(ctx, 0, &command);
    for (unsigned int waited = 0; slot_state(server, 0) != STATE_IOREQ_READY; waited++) {
        if (waited == EVENT_MS) {
            return false;
        }
        ctx->guest->done(ctx, 0, &(uint64_t){ 0 }, &(bool){ false });
        pause_ms(1);
    }
    slot_answer(ctx, server, 0, 0, STATE_IORESP_READY, true);
    return command_wait(ctx, 0, EVENT_MS, NULL, NULL);
}

static unsigned int count_events(struct context *ctx, struct server *server)
{
    server->events[0] = 0;
    servers_pump(ctx, server, 1, ctx->quiet_ms);
    servers_pump(ctx, server, 1, ctx->quiet_ms);
    return server->events[0];
}

void rule_masked(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;

    if (plain_server(ctx, &server)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    count_events(ctx, &server);
    xenevtchn_notify(ctx->evtchn, (evtchn_port_t)server.port[0]);
    say("R9.own-notify", "%u", count_events(ctx, &server));
    if (!silent_write(ctx, &server)) {
        say(rule, "no request");
    }
    say("R9.first", "%s", take_event(ctx, EVENT_MS) == server.port[0] ? "event" : "no event");
    if (!silent_write(ctx, &server) || !silent_write(ctx, &server)) {
        say(rule, "no request");
    }
    say("R9.while-masked", "%s", take_event(ctx, ctx->quiet_ms) < 0 ? "no event" : "event");
    xenevtchn_unmask(ctx->evtchn, (evtchn_port_t)server.port[0]);
    say("R9.after-unmask", "%u", count_events(ctx, &server));
    server_close(ctx, &server);
}

/* Both vCPUs wait at once; the slots are answered in the other order. */
void rule_two_vcpus(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command up = { .op = GUEST_VCPU_UP, .addr = 1 }, ping = { .op = GUEST_PING, .value = 77 };
    struct command command = plain_read(ctx, 4);
    struct ioreq request;
    uint64_t first = 0, second = 0;

    say("R29.vcpu-up", "%lld", (long long)run_alone(ctx, &up, NULL));
    ctx->guest->start(ctx, 1, &ping);
    command_wait(ctx, 1, EVENT_MS, &second, NULL);
    say("R29.vcpu-answers", "%llu", (unsigned long long)second);
    if (plain_server(ctx, &server)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    ctx->guest->start(ctx, 0, &command);
    say("R29.slot-0", "%s", slot_wait(ctx, &server, 0, &request) ? "READY" : "none");
    servers_pump(ctx, &server, 1, ctx->quiet_ms);
    servers_pump(ctx, &server, 1, ctx->quiet_ms);
    server.events[0] = server.events[1] = 0;
    ctx->guest->start(ctx, 1, &command);
    say("R29.slot-1", "%s", slot_wait(ctx, &server, 1, &request) ? "READY" : "none");
    servers_pump(ctx, &server, 1, ctx->quiet_ms);
    say("R29.events", "%u of vCPU 0, %u of vCPU 1", server.events[0], server.events[1]);
    slot_answer(ctx, &server, 1, 0x1111, STATE_IORESP_READY, true);
    say("R29.vcpu-1", "%s", command_wait(ctx, 1, EVENT_MS, &second, NULL) ? "runs" : "waits");
    say("R29.vcpu-0", "%s", command_wait(ctx, 0, ctx->quiet_ms, &first, NULL) ? "runs" : "waits");
    slot_answer(ctx, &server, 0, 0x2222, STATE_IORESP_READY, true);
    say("R29.vcpu-0-answered", "%s", command_wait(ctx, 0, EVENT_MS, &first, NULL) ? "runs" : "waits");
    say("R29.results", "%llx %llx", (unsigned long long)first, (unsigned long long)second);
    server_close(ctx, &server);
}

void rule_silent_answer(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    struct command command = plain_read(ctx, 4);
    struct ioreq request;
    uint64_t result = 0;

    if (plain_server(ctx, &server)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    ctx->guest->start(ctx, 0, &command);
    say("R12.request", "%s", slot_wait(ctx, &server, 0, &request) ? "READY" : "none");
    slot_answer(ctx, &server, 0, 0x55667788, STATE_IORESP_READY, false);
    say("R12.answer-alone", "%s",
        command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "vCPU runs" : "vCPU sleeps");
    say("R12.slot", "%u", slot_state(&server, 0));
    xenevtchn_notify(ctx->evtchn, (evtchn_port_t)server.port[0]);
    say("R12.later-notify", "%s",
        command_wait(ctx, 0, EVENT_MS, &result, NULL) ? "vCPU runs" : "vCPU sleeps");
    say("R12.result", "%llx", (unsigned long long)result);
    server_close(ctx, &server);
}
