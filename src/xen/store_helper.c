/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The process that talks to xenstored. libxenstore's calls block without limit and its reader thread can't be
 * got rid of, so all of it lives here, where it may be killed. Everything read is somebody else's text: what
 * does not fit or can't be printed is taken for absent, never cut short (a shortened name could be another
 * domain's).
 */
#include "xen/xen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xenstore.h>

#include "xen/store_message.h"

#define RETRY_MIN_MS 100
#define POLL_MS (STORE_ALIVE_MS / 5) /* how often to look when xenstored lets us watch nothing */

struct helper {
    int fd; /* to the daemon, blocking: a slow daemon slows us down */
    struct xs_handle *xs;
    bool watching;                       /* @introduceDomain and @releaseDomain are ours to watch */
    struct store_domain *domains, *sent; /* the snapshot being made, and the last one told */
    unsigned count, sent_count;
    bool told; /* the daemon has a snapshot of this connection */
};

bool store_text_valid(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\0') {
            return true;
        }
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return false;
        }
    }
    return false;
}

/* ---- to the daemon: false when it is gone ---- */

static bool put(struct helper *h, const struct store_message *message)
{
    ssize_t sent;

    do {
        sent = send(h->fd, message, sizeof(*message), MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof(*message);
}

static bool put_alive(struct helper *h)
{
    return put(h, &(struct store_message){.kind = STORE_ALIVE});
}

static __attribute__((format(printf, 2, 3))) bool put_lost(struct helper *h, const char *format, ...)
{
    struct store_message message = {.kind = STORE_LOST};
    va_list args;

    va_start(args, format);
    vsnprintf(message.why, sizeof(message.why), format, args);
    va_end(args);
    return put(h, &message);
}

static bool put_snapshot(struct helper *h)
{
    struct store_message message = {.kind = STORE_DOMAIN};

    for (unsigned i = 0; i < h->count; i++) {
        message.domain = h->domains[i];
        if (!put(h, &message)) {
            return false;
        }
    }
    return put(h, &(struct store_message){.kind = STORE_END});
}

/* ---- from xenstored ---- */

/* The text of a node if it is whole and printable; else `to` is empty. */
static void read_text(struct helper *h, const char *path, char *to, size_t size)
{
    unsigned length;
    char *value = xs_read(h->xs, XBT_NULL, path, &length);

    memset(to, 0, size);
    if (value && length < size && strlen(value) == length && store_text_valid(value, length + 1)) {
        memcpy(to, value, length);
    }
    free(value);
}

/* /vm/UUID, or vm/UUID in a domain that Xen itself started. */
static void read_uuid(struct helper *h, unsigned domid, char *to, size_t size)
{
    char path[64], vm[64];
    const char *slash;

    memset(to, 0, size);
    snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
    read_text(h, path, vm, sizeof(vm));
    slash = strrchr(vm, '/');
    if (slash && strlen(slash + 1) < size &&
        slash[1 + strspn(slash + 1, "0123456789abcdefABCDEF-")] == '\0') {
        memcpy(to, slash + 1, strlen(slash + 1));
    }
}

static bool parse_domid(const char *text, unsigned *domid)
{
    size_t length = strlen(text);

    if (length == 0 || length > 5 || strspn(text, "0123456789") != length) {
        return false;
    }
    *domid = (unsigned)strtoul(text, NULL, 10);
    return *domid < STORE_DOMID_END;
}

static void scan_domain(struct helper *h, unsigned domid)
{
    struct store_domain *domain = &h->domains[h->count];
    char path[64];

    if (h->count == STORE_DOMAINS_MAX || !xs_is_domain_introduced(h->xs, domid)) {
        return;
    }
    memset(domain, 0, sizeof(*domain));
    domain->domid = (uint16_t)domid;
    snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
    read_text(h, path, domain->name, sizeof(domain->name));
    snprintf(path, sizeof(path), "/libxl/%u/type", domid);
    read_text(h, path, domain->type, sizeof(domain->type));
    read_uuid(h, domid, domain->uuid, sizeof(domain->uuid));
    h->count++;
}

/* Fills h->domains. False: the connection is dead, and what was read may lack domains. */
static bool scan(struct helper *h)
{
    unsigned entries = 0, domid;
    char **names = xs_directory(h->xs, XBT_NULL, "/local/domain", &entries);
    char *alive;

    h->count = 0;
    for (unsigned i = 0; names && i < entries; i++) {
        if (parse_domid(names[i], &domid)) {
            scan_domain(h, domid);
        }
    }
    free(names);
    /* Many failures look like "no such domain"; only a request that can't fail tells a dead connection from
     * those. */
    alive = xs_get_domain_path(h->xs, 0);
    free(alive);
    return alive != NULL;
}

/* Tells the daemon what is new. False: it is gone. */
static bool tell(struct helper *h)
{
    if (h->told && h->count == h->sent_count &&
        memcmp(h->domains, h->sent, h->count * sizeof(*h->domains)) == 0) {
        return put_alive(h);
    }
    if (!put_snapshot(h)) {
        return false;
    }
    struct store_domain *swap = h->sent;
    h->sent = h->domains;
    h->sent_count = h->count;
    h->domains = swap;
    h->told = true;
    return true;
}

/* ---- one connection ---- */

static void drain_watches(struct helper *h)
{
    char **event;

    while ((event = xs_check_watch(h->xs))) {
        free(event);
    }
}

/* Waits until there is reason to scan. False: the daemon is gone. */
static bool wait_for_reason(struct helper *h)
{
    struct pollfd fds[2] = {{.fd = h->fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    int ready;

    if (h->watching) {
        fds[1].fd = xs_fileno(h->xs);
    }
    do {
        ready = poll(fds, 2, h->watching ? STORE_ALIVE_MS : POLL_MS);
    } while (ready < 0 && errno == EINTR);
    if (fds[0].revents) { /* it never writes: this is its end */
        return false;
    }
    if (h->watching) {
        drain_watches(h);
    }
    return true;
}

/* Serves until the connection dies (true) or the daemon is gone (false). */
static bool serve(struct helper *h)
{
    h->told = false;
    h->watching =
        xs_watch(h->xs, "@introduceDomain", "introduce") && xs_watch(h->xs, "@releaseDomain", "release");
    while (scan(h)) {
        if (!tell(h) || !wait_for_reason(h)) {
            return false;
        }
    }
    return true;
}

static bool pause_ms(struct helper *h, int ms)
{
    struct pollfd fd = {.fd = h->fd, .events = POLLIN};

    return poll(&fd, 1, ms) == 0;
}

static void run(struct helper *h)
{
    int retry_ms = RETRY_MIN_MS;

    for (;;) {
        h->xs = xs_open(0);
        if (h->xs) {
            bool lost = serve(h);
            xs_close(h->xs);
            if (!lost || !put_lost(h, "xenstored: connection lost; trying again")) {
                return;
            }
            retry_ms = RETRY_MIN_MS;
        } else if (!put_lost(h, "xenstored: %s: is it running? (%s); trying again", strerror(errno),
                             getenv("XENSTORED_PATH") ? getenv("XENSTORED_PATH") : xs_daemon_socket())) {
            return;
        }
        if (!pause_ms(h, retry_ms)) {
            return;
        }
        retry_ms = retry_ms * 2 < STORE_ALIVE_MS ? retry_ms * 2 : STORE_ALIVE_MS;
    }
}

int xen_store_helper(int fd)
{
    struct helper h = {.fd = fd};

    /* It ends with the daemon, even out of a call that hangs; what ends the daemon must not end it before. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "ioreqd-xenstore");
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    h.domains = calloc(STORE_DOMAINS_MAX, sizeof(*h.domains));
    h.sent = calloc(STORE_DOMAINS_MAX, sizeof(*h.sent));
    if (h.domains && h.sent) {
        run(&h);
    }
    free(h.domains);
    free(h.sent);
    return 0;
}
