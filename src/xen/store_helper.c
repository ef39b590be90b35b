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
#include <time.h>
#include <unistd.h>

#include "xen/store_helper.h"

#define RETRY_MIN_MS 100
#define LATER_MS 50
#define POLL_MS (STORE_ALIVE_MS / 5) /* how often to look when xenstored lets us watch nothing */

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

bool store_path_valid(const char *path)
{
    size_t length = strlen(path);

    return length > 0 && length <= STORE_PATH_MAX && !strstr(path, "//") && path[length - 1] != '/' &&
           strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/_@") == length;
}

size_t store_message_size(const struct store_message *message)
{
    size_t head = offsetof(struct store_message, domain);

    switch (message->kind) {
    case STORE_ALIVE:
    case STORE_END:
    case STORE_TREE_END:
    case STORE_CHANGED:
        return head;
    case STORE_DOMAIN:
    case STORE_TREE_BEGIN:
        return head + sizeof(message->domain);
    case STORE_LOST:
        return head + sizeof(message->why);
    case STORE_BRANCH:
        return head + sizeof(message->branch);
    case STORE_NODE:
        return message->node.path_size <= STORE_PATH_MAX + 1 &&
                       message->node.value_size <= STORE_VALUE_MAX + 1
                   ? offsetof(struct store_message, node.bytes) + message->node.path_size +
                         message->node.value_size
                   : 0;
    default:
        return 0;
    }
}

/* ---- to the daemon: false when it is gone ---- */

bool helper_put(struct helper *h, const struct store_message *message)
{
    size_t size = store_message_size(message);
    ssize_t sent;

    do {
        sent = send(h->fd, message, size, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size;
}

static bool put_alive(struct helper *h)
{
    return helper_put(h, &(struct store_message){.kind = STORE_ALIVE});
}

static __attribute__((format(printf, 2, 3))) bool put_lost(struct helper *h, const char *format, ...)
{
    struct store_message message = {.kind = STORE_LOST};
    va_list args;

    va_start(args, format);
    vsnprintf(message.why, sizeof(message.why), format, args);
    va_end(args);
    return helper_put(h, &message);
}

static bool put_snapshot(struct helper *h)
{
    struct store_message message = {.kind = STORE_DOMAIN};

    for (unsigned i = 0; i < h->count; i++) {
        message.domain = h->domains[i];
        if (!helper_put(h, &message)) {
            return false;
        }
    }
    return helper_put(h, &(struct store_message){.kind = STORE_END, .epoch = h->epoch});
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

bool helper_alive(struct helper *h)
{
    char *path = xs_get_domain_path(h->xs, 0);

    free(path);
    return path != NULL;
}

/* Fills h->domains. False: the connection is dead, and what was read may lack domains. */
static bool scan(struct helper *h)
{
    unsigned entries = 0, domid;
    char **names = xs_directory(h->xs, XBT_NULL, "/local/domain", &entries);

    h->count = 0;
    for (unsigned i = 0; names && i < entries; i++) {
        if (parse_domid(names[i], &domid)) {
            scan_domain(h, domid);
        }
    }
    free(names);
    /* Many failures look like "no such domain"; only a request that can't fail tells a dead connection from
     * those. */
    return helper_alive(h);
}

/* Branches of domains that came, went or changed have to be told again. Swaps the snapshots. */
static void compare_snapshots(struct helper *h)
{
    struct store_domain *old = h->sent;
    unsigned old_count = h->sent_count;

    for (unsigned i = 0; i < h->count; i++) {
        unsigned place = h->place[h->domains[i].domid];
        if (!place || memcmp(&old[place - 1], &h->domains[i], sizeof(*old))) {
            trees_domain(h, h->domains[i].domid);
        }
    }
    memset(h->place, 0, STORE_DOMID_END * sizeof(*h->place));
    h->sent = h->domains;
    h->sent_count = h->count;
    h->domains = old;
    for (unsigned i = 0; i < h->sent_count; i++) {
        h->place[h->sent[i].domid] = (uint16_t)(i + 1);
    }
    for (unsigned i = 0; i < old_count; i++) {
        if (!h->place[old[i].domid]) {
            trees_domain(h, old[i].domid);
        }
    }
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
    compare_snapshots(h);
    h->told = true;
    return true;
}

/* ---- one connection ---- */

static void drain_watches(struct helper *h)
{
    char **event;

    while ((event = xs_check_watch(h->xs))) {
        if (event[XS_WATCH_PATH][0] == '@') {
            h->domains_dirty = true;
        } else {
            trees_event(h, event[XS_WATCH_PATH], event[XS_WATCH_TOKEN]);
        }
        free(event);
    }
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* One command of the daemon's is done, if there is one. */
enum helper_step helper_command(struct helper *h)
{
    struct store_command command;
    ssize_t got = recv(h->fd, &command, sizeof(command), MSG_DONTWAIT);
    struct store_message answer = {.kind = STORE_CHANGED, .epoch = h->epoch};

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return STEP_IDLE;
    }
    if (got < (ssize_t)offsetof(struct store_command, bytes) ||
        command.size != (size_t)got - offsetof(struct store_command, bytes)) {
        return STEP_END; /* it is gone, or is another program */
    }
    if (command.epoch != h->epoch || !h->xs) {
        return STEP_DONE;
    }
    answer.id = command.id;
    switch (command.kind) {
    case STORE_TREE:
        if (command.size == 0 || command.bytes[command.size - 1]) {
            return STEP_END;
        }
        tree_begin(h, command.id, command.bytes, command.depth);
        return STEP_DONE;
    case STORE_TREE_FREE:
        tree_end(h, command.id);
        break;
    case STORE_CHANGE:
        answer.error = changes_make(h, command.bytes, command.size);
        if (answer.error && !helper_alive(h)) {
            return STEP_DEAD; /* unanswered: it is sent again */
        }
        break;
    default:
        return STEP_END;
    }
    return helper_put(h, &answer) ? STEP_DONE : STEP_END;
}

/* Commands first: they are short, and a toolstack waits for them. */
static enum helper_step step(struct helper *h)
{
    enum helper_step step = helper_command(h);

    return step == STEP_IDLE ? trees_step(h) : step;
}

/* Sleeps until there is something to do, or it is time to say that we live. */
static void sleep_until(struct helper *h, uint64_t at_ms, bool later)
{
    struct pollfd fds[2] = {{.fd = h->fd, .events = POLLIN}, {.fd = xs_fileno(h->xs), .events = POLLIN}};
    uint64_t now = now_ms();
    int timeout = at_ms > now ? (int)(at_ms - now) : 0;

    poll(fds, 2, later && timeout > LATER_MS ? LATER_MS : timeout);
}

/* Looks at the domains when there is reason to, and every now and then. */
static enum helper_step look(struct helper *h, uint64_t *next_ms)
{
    if (!h->domains_dirty && now_ms() < *next_ms) {
        return STEP_IDLE;
    }
    h->domains_dirty = false;
    if (!scan(h)) {
        return STEP_DEAD;
    }
    if (now_ms() >= *next_ms) {
        trees_poll(h);
    }
    *next_ms = now_ms() + (h->watching ? STORE_ALIVE_MS : POLL_MS);
    return tell(h) ? STEP_DONE : STEP_END;
}

/* Serves until the connection dies (true) or the daemon is gone (false). */
static bool serve(struct helper *h)
{
    uint64_t next_ms = 0;

    h->told = false;
    h->epoch++;
    h->sent_count = 0;
    memset(h->place, 0, STORE_DOMID_END * sizeof(*h->place));
    trees_forget(h);
    h->watching =
        xs_watch(h->xs, "@introduceDomain", "introduce") && xs_watch(h->xs, "@releaseDomain", "release");
    for (;;) {
        drain_watches(h);
        enum helper_step done = look(h, &next_ms);
        if (done == STEP_DONE || done == STEP_IDLE) {
            done = step(h);
        }
        if (done == STEP_DEAD || done == STEP_END) {
            return done == STEP_DEAD;
        }
        if (done != STEP_DONE) {
            sleep_until(h, next_ms, done == STEP_LATER);
        }
    }
}

/* False: the daemon is gone. Commands for the lost connection are dropped. */
static bool pause_ms(struct helper *h, int ms)
{
    struct pollfd fd = {.fd = h->fd, .events = POLLIN};
    uint64_t end = now_ms() + (unsigned)ms, now;

    while ((now = now_ms()) < end) {
        if (poll(&fd, 1, (int)(end - now)) > 0 && helper_command(h) == STEP_END) {
            return false;
        }
    }
    return true;
}

static void run(struct helper *h)
{
    int retry_ms = RETRY_MIN_MS;

    for (;;) {
        h->xs = xs_open(0);
        if (h->xs) {
            bool lost = serve(h);
            xs_close(h->xs);
            h->xs = NULL;
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
    h.place = calloc(STORE_DOMID_END, sizeof(*h.place));
    h.bytes = malloc(STORE_BRANCH_BYTES);
    if (h.domains && h.sent && h.place && h.bytes) {
        run(&h);
    }
    trees_forget(&h);
    free(h.domains);
    free(h.sent);
    free(h.place);
    free(h.bytes);
    return 0;
}
