/* SPDX-License-Identifier: BSD-2-Clause */
/* R20, R26, R28: the end of an emulator, restricted handles, the end of a domain. */
#include "conformance.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xengnttab.h>
#include <xentoolcore.h>

#define WAIT_MS 3000

/*
 * A second process is this program again, not a fork: handles of the Xen libraries must not be used
 * in a forked child. `from` gets the read end of its standard output if not NULL.
 */
static pid_t start_child(const char *what, unsigned int domid, unsigned int number, int *from)
{
    char domain[16], argument[16];
    int pipe_ends[2] = { -1, -1 };
    pid_t pid;

    snprintf(domain, sizeof(domain), "%u", domid);
    snprintf(argument, sizeof(argument), "%u", number);
    fflush(stdout);
    if (from && pipe(pipe_ends)) {
        return -1;
    }
    pid = fork();
    if (pid == 0) {
        if (from) {
            dup2(pipe_ends[1], STDOUT_FILENO);
            close(pipe_ends[0]);
        }
        execl("/proc/self/exe", "conformance", what, domain, argument, (char *)NULL);
        _exit(127);
    }
    if (from) {
        close(pipe_ends[1]);
        *from = pipe_ends[0];
    }
    return pid;
}

int child_hold(unsigned int domid, unsigned int port)
{
    xenevtchn_handle *evtchn = xenevtchn_open(NULL, 0);
    int local = evtchn ? xenevtchn_bind_interdomain(evtchn, domid, port) : -1;

    printf("%s\n", outcome(local));
    fflush(stdout);
    for (;;) {
        pause();
    }
}

/* A port that outlives the program that bound it: its file is handed over by exec. */
int child_exec(unsigned int domid, unsigned int port)
{
    xenevtchn_handle *evtchn = xenevtchn_open(NULL, XENEVTCHN_NO_CLOEXEC);
    int local = evtchn ? xenevtchn_bind_interdomain(evtchn, domid, port) : -1;
    char fd[16], argument[16];

    if (local < 0) {
        printf("%s\n", outcome(local));
        return 1;
    }
    snprintf(fd, sizeof(fd), "%d", xenevtchn_fd(evtchn));
    snprintf(argument, sizeof(argument), "%d", local);
    execl("/proc/self/exe", "conformance", "--child-adopt", fd, argument, (char *)NULL);
    return 127;
}

int child_adopt(unsigned int fd, unsigned int port)
{
    xenevtchn_handle *evtchn = xenevtchn_fdopen(NULL, (int)fd, 0);
    int pending = evtchn ? xenevtchn_pending(evtchn) : -1;

    printf("fdopen %s, %s, notify %s\n", evtchn ? "0" : error_name(errno),
           pending == (int)port ? "its event pending" : "no event of its own",
           evtchn ? outcome(xenevtchn_notify(evtchn, port)) : "impossible");
    fflush(stdout);
    for (;;) {
        pause();
    }
}

static pid_t hold_port(struct context *ctx, const char *how, unsigned int port, char *answer, size_t size)
{
    int from = -1;
    pid_t pid = start_child(how, ctx->domid, port, &from);
    ssize_t got = pid > 0 ? read(from, answer, size - 1) : 0;

    answer[got > 0 ? got - 1 : 0] = '\0';
    if (from >= 0) {
        close(from);
    }
    return pid;
}

static void end_child(pid_t pid)
{
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

/* Takes over after the kill: binds, finds the request as it was, answers it. */
static void say_takeover(struct context *ctx, struct server *server, const char *rule, const char *what,
                         unsigned int want_state)
{
    char name[60];
    uint64_t result = 0;

    snprintf(name, sizeof(name), "%s.%s-vcpu", rule, what);
    say(name, "%s", command_wait(ctx, 0, ctx->quiet_ms, &result, NULL) ? "runs" : "waits");
    snprintf(name, sizeof(name), "%s.%s-slot", rule, what);
    say(name, "%s", slot_state(server, 0) == want_state ? "kept" : "changed");
    servers_pump(ctx, NULL, 0, 0);
    server->port[0] =
        xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, server->page->vcpu_ioreq[0].vp_eport);
    snprintf(name, sizeof(name), "%s.%s-new-bind", rule, what);
    say(name, "%s", outcome(server->port[0]));
    server->events[0] = 0;
    servers_pump(ctx, server, 1, WAIT_MS);
    snprintf(name, sizeof(name), "%s.%s-event", rule, what);
    say(name, "%u", server->events[0]);
    slot_answer(ctx, server, 0, 0x12345678, STATE_IORESP_READY, true);
    command_wait(ctx, 0, WAIT_MS, &result, NULL);
    snprintf(name, sizeof(name), "%s.%s-answer", rule, what);
    say(name, "%" PRIx64, result);
}

/* What the dying emulator had come to. */
enum progress { SAW_NOTHING, SAW_READY, TOOK_IT };

static void killed_at(struct context *ctx, struct server *server, const char *what, enum progress progress)
{
    struct command command = plain_read(ctx, 4);
    struct ioreq request;
    char bound[40], name[60];
    uint32_t eport = server->page->vcpu_ioreq[0].vp_eport;
    pid_t child = hold_port(ctx, "--child-hold", eport, bound, sizeof(bound));

    snprintf(name, sizeof(name), "R20.%s-first-bind", what);
    say(name, "%s", bound);
    snprintf(name, sizeof(name), "R20.%s-second-bind", what);
    say(name, "%s", outcome(xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, eport)));
    if (progress == SAW_NOTHING) {
        end_child(child);
    }
    ctx->guest->start(ctx, 0, &command);
    slot_wait(ctx, server, 0, &request);
    if (progress == TOOK_IT) {
        slot_answer(ctx, server, 0, 0, STATE_IOREQ_INPROCESS, false);
    }
    if (progress != SAW_NOTHING) {
        end_child(child);
    }
    say_takeover(ctx, server, "R20", what, progress == TOOK_IT ? STATE_IOREQ_INPROCESS : STATE_IOREQ_READY);
    xenevtchn_unbind(ctx->evtchn, (evtchn_port_t)server->port[0]);
    server->port[0] = -1;
}

void rule_exec(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    char answer[100];
    pid_t child;
    int local;

    if (server_create(ctx, &server, HVM_IOREQSRV_BUFIOREQ_OFF) ||
        xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 1)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    child = hold_port(ctx, "--child-exec", server.page->vcpu_ioreq[0].vp_eport, answer, sizeof(answer));
    say("R35.after-exec", "%s", answer);
    local = xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, server.page->vcpu_ioreq[0].vp_eport);
    say("R35.bind-meanwhile", "%s", outcome(local));
    end_child(child);
    local = xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, server.page->vcpu_ioreq[0].vp_eport);
    say("R35.bind-after-its-end", "%s", outcome(local));
    server.port[0] = local;
    server_close(ctx, &server);
}

void rule_killed(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    bool mmio = ctx->profile == PROFILE_ARM64;
    uint64_t start = mmio ? ctx->mmio : ctx->port;

    if (server_create(ctx, &server, HVM_IOREQSRV_BUFIOREQ_OFF) ||
        xendevicemodel_map_io_range_to_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id,
                                                    mmio, start, start + 15) ||
        xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 1)) {
        say(rule, "%s", outcome(-1));
    } else {
        killed_at(ctx, &server, "ready", SAW_READY);
        killed_at(ctx, &server, "in-process", TOOK_IT);
        killed_at(ctx, &server, "before-request", SAW_NOTHING);
    }
    server_close(ctx, &server);
}

static void say_restricted_handles(xendevicemodel_handle *dm, xenforeignmemory_handle *memory,
                                   xenevtchn_handle *evtchn, xengnttab_handle *grants, unsigned int domid,
                                   unsigned int port, xen_pfn_t gfn)
{
    unsigned int vcpus;
    int error = 1;
    void *page;

    say("R26.dm-own-target", "%s", outcome(xendevicemodel_nr_vcpus(dm, (domid_t)domid, &vcpus)));
    say("R26.dm-other-domid", "%s", outcome(xendevicemodel_nr_vcpus(dm, NO_DOMAIN, &vcpus)));
    page = xenforeignmemory_map(memory, domid, PROT_READ, 1, &gfn, &error);
    say("R26.map-own-target", "%s, %d", page ? "pointer" : "NULL", error);
    errno = 0;
    page = xenforeignmemory_map(memory, NO_DOMAIN, PROT_READ, 1, &gfn, &error);
    say("R26.map-other-domid", "%s, %s", page ? "pointer" : "NULL", error_name(errno));
    say("R26.bind-own-target", "%s", outcome(xenevtchn_bind_interdomain(evtchn, domid, port)));
    say("R26.bind-other-domid", "%s", outcome(xenevtchn_bind_interdomain(evtchn, NO_DOMAIN, port)));
    say("R26.bind-unbound-port", "%s", outcome(xenevtchn_bind_unbound_port(evtchn, domid)));
    say("R26.bind-virq", "%s", outcome(xenevtchn_bind_virq(evtchn, 3)));
    say("R26.grant-map", "%s", outcome(xengnttab_map_grant_ref(grants, domid, 8, PROT_READ) ? 0 : -1));
}

/* Argument: the remote port, with the guest's first RAM page found by the profile's base. */
int child_restricted(unsigned int domid, unsigned int port)
{
    bool arm = port & 0x80000000u;
    xen_pfn_t gfn = ((arm ? 0x40000000u : 0) + BUFFER_OFFSET) / GUEST_PAGE;
    xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0), *late;
    xenevtchn_handle *evtchn = xenevtchn_open(NULL, 0);
    xenforeignmemory_handle *memory = xenforeignmemory_open(NULL, 0);
    xengnttab_handle *grants = xengnttab_open(NULL, 0);
    unsigned int vcpus;

    if (!dm || !evtchn || !memory || !grants) {
        say("R26", "%s", outcome(-1));
        return 1;
    }
    say("R26.restrict", "%s", outcome(xentoolcore_restrict_all((domid_t)domid)));
    say_restricted_handles(dm, memory, evtchn, grants, domid, port & ~0x80000000u, gfn);
    say("R26.restrict-again", "%s", outcome(xentoolcore_restrict_all((domid_t)domid)));
    late = xendevicemodel_open(NULL, 0);
    say("R26.dm-opened-later", "%s",
        late ? outcome(xendevicemodel_nr_vcpus(late, NO_DOMAIN, &vcpus)) : "NULL");
    return 0;
}

void rule_restrict(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    pid_t child;

    if (server_create(ctx, &server, HVM_IOREQSRV_BUFIOREQ_OFF) ||
        xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server.id, 1)) {
        say(rule, "%s", outcome(-1));
    } else {
        child = start_child(
            "--child-restricted", ctx->domid,
            server.page->vcpu_ioreq[0].vp_eport | (ctx->profile == PROFILE_ARM64 ? 0x80000000u : 0), NULL);
        if (child > 0) {
            waitpid(child, NULL, 0);
        }
    }
    server_close(ctx, &server);
}

static void say_dying(struct context *ctx, struct server *server)
{
    xen_pfn_t gfn = (ctx->ram + BUFFER_OFFSET) / GUEST_PAGE;
    evtchn_port_t port;
    ioservid_t id;
    int error = 1;
    void *page;

    say("R28.dying-notify", "%s", outcome(xenevtchn_notify(ctx->evtchn, (evtchn_port_t)server->port[0])));
    say("R28.dying-set-state", "%s",
        outcome(xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id,
                                                      0)));
    say("R28.dying-info", "%s",
        outcome(xendevicemodel_get_ioreq_server_info(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id,
                                                     NULL, NULL, &port)));
    say("R28.dying-destroy", "%s",
        outcome(xendevicemodel_destroy_ioreq_server(ctx->dm, (domid_t)ctx->domid, (ioservid_t)server->id)));
    say("R28.dying-create", "%s",
        outcome(xendevicemodel_create_ioreq_server(ctx->dm, (domid_t)ctx->domid, 0, &id)));
    page = xenforeignmemory_map(ctx->memory, ctx->domid, PROT_READ, 1, &gfn, &error);
    say("R28.dying-map", "%s, %d", page ? "pointer" : "NULL", error);
    if (page) {
        xenforeignmemory_unmap(ctx->memory, page, 1);
    }
}

static void say_gone(struct context *ctx)
{
    unsigned int vcpus;
    ioservid_t id;
    int status = 0;

    for (unsigned int waited = 0; waited < ctx->patience_ms; waited += 20) {
        status = xendevicemodel_nr_vcpus(ctx->dm, (domid_t)ctx->domid, &vcpus);
        if (status < 0 && errno == ESRCH) {
            break;
        }
        pause_ms(20);
    }
    say("R28.gone", "%s", outcome(status));
    say("R28.gone-create", "%s",
        outcome(xendevicemodel_create_ioreq_server(ctx->dm, (domid_t)ctx->domid, 0, &id)));
    say("R28.gone-set-state", "%s",
        outcome(xendevicemodel_set_ioreq_server_state(ctx->dm, (domid_t)ctx->domid, 0, 1)));
    say("R28.gone-bind", "%s", outcome(xenevtchn_bind_interdomain(ctx->evtchn, ctx->domid, 5)));
}

void rule_gone(struct context *ctx, const char *rule)
{
    struct server server = NO_SERVER;
    unsigned int vcpus;

    if (plain_server(ctx, &server)) {
        say(rule, "%s", outcome(-1));
        server_close(ctx, &server);
        return;
    }
    if (ctx->guest->kill(ctx)) {
        say(rule, "domain not destroyed");
        server_close(ctx, &server);
        return;
    }
    say("R28.dying-nr-vcpus", "%s", outcome(xendevicemodel_nr_vcpus(ctx->dm, (domid_t)ctx->domid, &vcpus)));
    say_dying(ctx, &server);
    server_forget(ctx, &server);
    ctx->guest->close(ctx);
    say_gone(ctx);
}
