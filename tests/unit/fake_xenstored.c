/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake_xenstored.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

struct client {
    int fd;
    struct fake_state *state;
    unsigned seen; /* generation */
};

/* ---- the test's side ---- */

struct fake_state *fake_state_create(void)
{
    void *at =
        mmap(NULL, sizeof(struct fake_state), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

void fake_state_destroy(struct fake_state *state)
{
    munmap(state, sizeof(*state));
}

void fake_node_set(struct fake_node *node, const void *value, size_t length)
{
    memcpy(node->value, value, length);
    node->length = length;
}

void fake_set(struct fake_domain *domain, unsigned domid, const char *name, const char *type,
              const char *uuid)
{
    char vm[128];

    *domain = (struct fake_domain){.domid = domid, .introduced = true};
    snprintf(domain->entry, sizeof(domain->entry), "%u", domid);
    fake_node_set(&domain->name, name, strlen(name));
    fake_node_set(&domain->type, type, strlen(type));
    snprintf(vm, sizeof(vm), "/vm/%s", uuid);
    fake_node_set(&domain->vm, vm, strlen(vm));
}

void fake_stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* ---- the fake ---- */

static bool transfer(int fd, void *at, size_t length, bool out)
{
    for (size_t done = 0; done < length;) {
        ssize_t now = out ? send(fd, (char *)at + done, length - done, MSG_NOSIGNAL)
                          : recv(fd, (char *)at + done, length - done, 0);
        if (now <= 0) {
            return false;
        }
        done += (size_t)now;
    }
    return true;
}

static bool reply(struct client *c, const struct xsd_sockmsg *to, uint32_t type, const void *body,
                  size_t length)
{
    struct xsd_sockmsg message = {
        .type = type, .req_id = to->req_id, .tx_id = to->tx_id, .len = (uint32_t)length};

    return transfer(c->fd, &message, sizeof(message), true) &&
           transfer(c->fd, (void *)(uintptr_t)body, length, true);
}

static bool reply_error(struct client *c, const struct xsd_sockmsg *to, const char *error)
{
    return reply(c, to, XS_ERROR, error, strlen(error) + 1);
}

static bool fire(struct client *c)
{
    static const char event[] = "@introduceDomain\0introduce";
    struct xsd_sockmsg to = {0};

    return reply(c, &to, XS_WATCH_EVENT, event, sizeof(event));
}

static bool reply_directory(struct client *c, const struct xsd_sockmsg *to)
{
    char body[FAKE_DOMAINS * 16];
    size_t length = 0;

    for (unsigned i = 0; i < FAKE_DOMAINS; i++) {
        const char *entry = c->state->domains[i].entry;
        if (entry[0]) {
            memcpy(body + length, entry, strlen(entry) + 1);
            length += strlen(entry) + 1;
        }
    }
    return reply(c, to, to->type, body, length);
}

static const struct fake_node *find_node(const struct fake_state *state, const char *path)
{
    for (unsigned i = 0; i < FAKE_DOMAINS; i++) {
        const struct fake_domain *domain = &state->domains[i];
        char name[64], vm[64], type[64];
        snprintf(name, sizeof(name), "/local/domain/%u/name", domain->domid);
        snprintf(vm, sizeof(vm), "/local/domain/%u/vm", domain->domid);
        snprintf(type, sizeof(type), "/libxl/%u/type", domain->domid);
        const struct fake_node *node = !strcmp(path, name)   ? &domain->name
                                       : !strcmp(path, vm)   ? &domain->vm
                                       : !strcmp(path, type) ? &domain->type
                                                             : NULL;
        if (domain->entry[0] && node) {
            return node->length ? node : NULL;
        }
    }
    return NULL;
}

static bool reply_introduced(struct client *c, const struct xsd_sockmsg *to, unsigned domid)
{
    for (unsigned i = 0; i < FAKE_DOMAINS; i++) {
        const struct fake_domain *domain = &c->state->domains[i];
        if (domain->entry[0] && domain->domid == domid && domain->introduced) {
            return reply(c, to, to->type, "T", 2);
        }
    }
    return reply(c, to, to->type, "F", 2);
}

static bool answer(struct client *c, const struct xsd_sockmsg *request, const char *body)
{
    const struct fake_node *node;

    switch (request->type) {
    case XS_DIRECTORY:
        return reply_directory(c, request);
    case XS_READ:
        node = find_node(c->state, body);
        return node ? reply(c, request, XS_READ, node->value, node->length)
                    : reply_error(c, request, "ENOENT");
    case XS_WATCH:
        return c->state->watch_refused ? reply_error(c, request, "EACCES")
                                       : reply(c, request, XS_WATCH, "OK", 3) && fire(c);
    case XS_IS_DOMAIN_INTRODUCED:
        return reply_introduced(c, request, (unsigned)atoi(body));
    case XS_GET_DOMAIN_PATH:
        return reply(c, request, request->type, "/local/domain/0", 16);
    default:
        return reply_error(c, request, "EINVAL");
    }
}

static bool serve_request(struct client *c)
{
    struct xsd_sockmsg request;
    char body[XENSTORE_PAYLOAD_MAX + 1];

    if (!transfer(c->fd, &request, sizeof(request), false) || request.len > XENSTORE_PAYLOAD_MAX ||
        !transfer(c->fd, body, request.len, false)) {
        return false;
    }
    body[request.len] = '\0';
    c->state->requests++;
    if (c->state->requests_left && --c->state->requests_left == 0) {
        return false;
    }
    return answer(c, &request, body);
}

static void serve_client(struct client *c)
{
    for (;;) {
        struct pollfd fd = {.fd = c->fd, .events = POLLIN};
        int ready = poll(&fd, 1, 5);
        if (ready > 0 && !serve_request(c)) {
            return;
        }
        unsigned now = __atomic_load_n(&c->state->generation, __ATOMIC_ACQUIRE);
        if (now != c->seen) {
            c->seen = now;
            if (!fire(c)) {
                return;
            }
        }
    }
}

pid_t fake_start(struct fake_state *state, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pid_t pid;

    unlink(path);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 4)) {
        return -1;
    }
    pid = fork();
    if (pid) {
        close(listener);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct client client = {
            .fd = accept(listener, NULL, NULL), .state = state, .seen = state->generation};
        if (client.fd >= 0) {
            serve_client(&client);
            close(client.fd);
        }
    }
}
