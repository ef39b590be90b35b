/* SPDX-License-Identifier: BSD-2-Clause */
/* Records (record.h) written and read; and what those of others say is taken. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/inside.h"
#include "core/record.h"

#define SERVERS_LOOKED_AT 8u               /* per domain, xen: MAX_NR_IOREQ_SERVERS */
#define CLAIMS_MAX (3 * SERVER_RANGES_MAX) /* of one server */
#define RECORD_MAX 65536u                  /* bytes */
#define NOTE_INTERVAL_NS UINT64_C(100000000) /* a guest that moves its BARs all the time costs no more than this */

static const char *const kinds[] = {[CLAIM_PORTS] = "ports", [CLAIM_MMIO] = "mmio", [CLAIM_FUNCTION] = "function"};

char *record_path(const char *directory, uint16_t domid, uint16_t server)
{
    char *path;
    return !directory || asprintf(&path, "%s/%u.%u", directory, domid, server) < 0 ? NULL : path;
}

/* ---- writing ---- */

static void write_ranges(FILE *file, const struct server *server, enum iod_space space)
{
    const struct interval_set *held = &server->ranges[space];
    const struct address_space *view = &server->guest->spaces[space];
    unsigned at = 0;
    for (unsigned i = 0; i < view->segment_count; i++) {
        const struct segment *segment = &view->segments[i];
        while (at < held->count && held->items[at].end < segment->start) {
            at++;
        }
        if (at < held->count && held->items[at].start <= segment->end) {
            fprintf(file, "claim=%s 0x%" PRIx64 " 0x%" PRIx64 " %.63s\n",
                    kinds[space == IOD_PIO ? CLAIM_PORTS : CLAIM_MMIO], segment->start, segment->end,
                    segment->region ? segment->region->device->id : "");
        }
    }
}

/* An unknown uuid is not written: an ioreqd of before the claims would take the next line for it. */
static int write_text(FILE *file, const struct server *server, uint32_t port)
{
    const struct guest *guest = server->guest;
    fprintf(file, "domid=%u\nserver=%u\nvp_eport=%u\n", guest->domid, server->id, port);
    if (guest->uuid[0]) {
        fprintf(file, "uuid=%s\n", guest->uuid);
    }
    fprintf(file, "pid=%ld\n", (long)getpid());
    write_ranges(file, server, IOD_PIO);
    write_ranges(file, server, IOD_MMIO);
    for (const struct list *l = guest->functions.next; l != &guest->functions; l = l->next) {
        const struct function_claim *claim = list_entry(l, const struct function_claim, link);
        const struct iod_device *device =
            claim->server == server && guest->bus ? guest->bus_ops->owner(guest->bus, claim->sbdf) : NULL;
        if (claim->server == server) {
            fprintf(file, "claim=%s 0x%x 0x%x %.63s\n", kinds[CLAIM_FUNCTION], claim->sbdf, claim->sbdf,
                    device ? device->id : "");
        }
    }
    return fflush(file) ? -errno : 0;
}

/* The new file is locked before it takes the old one's place: at no moment does the owner look dead. */
static int replace(struct server *server, const char *temporary, uint32_t port)
{
    unlink(temporary); /* whatever stands there, a FIFO that would block us included */
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    FILE *file = copy < 0 ? NULL : fdopen(copy, "w");
    if (!file) {
        int failed = -errno;
        close(copy);
        close(fd);
        unlink(temporary);
        return failed;
    }
    int result = write_text(file, server, port);
    if (fclose(file) && !result) {
        result = -errno;
    }
    if (!result && (flock(fd, LOCK_EX | LOCK_NB) || rename(temporary, server->record))) {
        result = -errno;
    }
    if (result) {
        close(fd);
        unlink(temporary);
        return result;
    }
    record_unlock(server);
    server->record_fd = fd;
    server->record_port = port;
    server->record_stale = false;
    return 0;
}

int record_write(struct server *server, uint32_t port, struct iod_error *error)
{
    const char *directory = server->guest->daemon->config.record_dir;
    char temporary[512];
    if (!directory) {
        return 0;
    }
    if (!server->record) {
        server->record = record_path(directory, server->guest->domid, server->id);
    }
    if (!server->record ||
        snprintf(temporary, sizeof(temporary), "%s.new", server->record) >= (int)sizeof(temporary)) {
        return iod_fail(error, ENOMEM, "record directory %s: the path is too long", directory);
    }
    if (mkdir(directory, 0700) && errno != EEXIST) {
        return iod_fail(error, errno, "can't make the record directory %s: %s", directory, strerror(errno));
    }
    int result = replace(server, temporary, port);
    return result ? iod_fail(error, -result, "can't write the record %s: %s", server->record, strerror(-result)) : 0;
}

void record_unlock(struct server *server)
{
    if (server->record_fd >= 0) {
        close(server->record_fd);
        server->record_fd = -1;
    }
}

void record_remove(struct server *server)
{
    if (server->record) {
        unlink(server->record);
    }
}

/* ---- what changes while the guest runs ---- */

void record_note(struct server *server)
{
    struct daemon *daemon = server->guest->daemon;
    if (!daemon->config.record_dir || !server->enabled || server->record_stale) {
        return;
    }
    server->record_stale = true;
    if (!daemon->record_due) {
        daemon->record_due = true;
        daemon->loop->ops->timer_set(daemon->record_timer,
                                     daemon->loop->ops->now_ns(daemon->loop) + NOTE_INTERVAL_NS);
    }
}

void records_write(void *self)
{
    struct daemon *daemon = self;
    struct guest *guest;
    struct iod_error error;
    daemon->record_due = false;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        for (struct list *l = guest->servers.next; l != &guest->servers; l = l->next) {
            struct server *server = list_entry(l, struct server, link);
            if (server->record_stale && server->record_fd >= 0 &&
                record_write(server, server->record_port, &error)) {
                server->record_stale = false; /* the next change tries again */
                guest_log(guest, IOD_LOG_WARNING, "%s", error.text);
            }
        }
    }
}

/* ---- reading ---- */

static char *read_text(const char *path, bool *alive)
{
    struct stat status;
    char *text = NULL;
    ssize_t length = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return NULL;
    }
    if (!fstat(fd, &status) && S_ISREG(status.st_mode) && (!status.st_uid || status.st_uid == geteuid())) {
        text = malloc(RECORD_MAX);
        length = text ? read(fd, text, RECORD_MAX - 1) : -1;
    }
    /* Does the process that wrote it live? Also when its server has no event channel yet that could say so. */
    *alive = flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
    close(fd);
    if (length <= 0) {
        free(text);
        return NULL;
    }
    text[length] = '\0';
    return text;
}

static void read_claim(struct record *record, const char *text)
{
    struct record_claim claim = {.kind = CLAIM_FUNCTION};
    char kind[12];
    if (sscanf(text, "%11s 0x%16" SCNx64 " 0x%16" SCNx64 " %63s", kind, &claim.start, &claim.end, claim.device) < 3 ||
        claim.end < claim.start || record->claim_count == CLAIMS_MAX) {
        return;
    }
    while (claim.kind > CLAIM_PORTS && strcmp(kind, kinds[claim.kind])) {
        claim.kind--;
    }
    if (strcmp(kind, kinds[claim.kind])) {
        return;
    }
    if (record->claim_count % 16 == 0) {
        struct record_claim *claims = realloc(record->claims, (record->claim_count + 16) * sizeof(claim));
        if (!claims) {
            return;
        }
        record->claims = claims;
    }
    record->claims[record->claim_count++] = claim;
}

/* The first lines are those of each release, in this order; the others may come or not. */
static bool parse(char *text, struct record *record)
{
    uint64_t domid, server, port;
    if (sscanf(text, "domid=%8" SCNu64 " server=%8" SCNu64 " vp_eport=%10" SCNu64, &domid, &server, &port) != 3 ||
        domid > UINT16_MAX || server > UINT16_MAX || port > UINT32_MAX) {
        return false;
    }
    record->domid = (uint16_t)domid;
    record->server = (uint16_t)server;
    record->port = (uint32_t)port;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        if (!strncmp(line, "uuid=", 5)) {
            snprintf(record->uuid, sizeof(record->uuid), "%s", line + 5);
        } else if (!strncmp(line, "pid=", 4)) {
            record->pid = strtoull(line + 4, NULL, 10);
        } else if (!strncmp(line, "claim=", 6)) {
            read_claim(record, line + 6);
        }
    }
    return true;
}

bool record_read(const char *directory, uint16_t domid, uint16_t server, struct record *record)
{
    char *path = record_path(directory, domid, server);
    *record = (struct record){0};
    char *text = path ? read_text(path, &record->alive) : NULL;
    bool good = text && parse(text, record) && record->domid == domid && record->server == server;
    free(text);
    free(path);
    return good;
}

void record_finish(struct record *record)
{
    free(record->claims);
    record->claims = NULL;
    record->claim_count = 0;
}

void records_of(const char *directory, uint16_t domid, void (*each)(void *self, const struct record *record),
                void *self)
{
    for (uint16_t server = 0; server < SERVERS_LOOKED_AT; server++) {
        struct record record;
        if (record_read(directory, domid, server, &record)) {
            each(self, &record);
        }
        record_finish(&record);
    }
}

/* ---- what others hold of a guest ---- */

static bool is_own(const struct guest *guest, uint16_t id)
{
    for (const struct list *l = guest->servers.next; l != &guest->servers; l = l->next) {
        if (list_entry(l, const struct server, link)->id == id) {
            return true;
        }
    }
    return false;
}

static void take_claims(void *self, const struct record *record)
{
    struct guest *guest = self;
    if (!record->alive || is_own(guest, record->server) || !record->claim_count) {
        return;
    }
    struct foreign_claim *claims =
        realloc(guest->foreign, (guest->foreign_count + record->claim_count) * sizeof(*claims));
    if (!claims) {
        return;
    }
    guest->foreign = claims;
    for (unsigned i = 0; i < record->claim_count; i++) {
        claims[guest->foreign_count++] = (struct foreign_claim){.claim = record->claims[i], .pid = record->pid};
    }
}

void foreign_read(struct guest *guest)
{
    foreign_forget(guest);
    records_of(guest->daemon->config.record_dir, guest->domid, take_claims, guest);
}

void foreign_forget(struct guest *guest)
{
    free(guest->foreign);
    guest->foreign = NULL;
    guest->foreign_count = 0;
}

const char *foreign_owner(const struct guest *guest, enum claim_kind kind, uint64_t start, uint64_t end, char *text,
                          size_t size)
{
    for (unsigned i = 0; i < guest->foreign_count; i++) {
        const struct foreign_claim *foreign = &guest->foreign[i];
        if (foreign->claim.kind == kind && start <= foreign->claim.end && foreign->claim.start <= end) {
            snprintf(text, size, "%s of ioreqd pid %" PRIu64,
                     foreign->claim.device[0] ? foreign->claim.device : "a device", foreign->pid);
            return text;
        }
    }
    return NULL;
}
