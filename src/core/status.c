/* SPDX-License-Identifier: BSD-2-Clause */
/* Which guest is meant, and how it is. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/inside.h"
#include "core/options.h"

struct guest *guest_host(struct guest *guest)
{
    return guest->host ? guest->host : guest;
}

void guest_note(struct guest *guest, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(guest->why, sizeof(guest->why), format, arguments);
    va_end(arguments);
}

static bool is_domain(const struct guest *guest, const char *domain)
{
    uint64_t number;
    if (!strncmp(domain, "uuid:", 5)) {
        return guest->uuid[0] && !strcasecmp(guest->uuid, domain + 5);
    }
    if (!option_parse_number(domain, &number)) {
        return guest->have_domid && guest->domid == number;
    }
    return guest->domain_name[0] && !strcmp(guest->domain_name, domain);
}

/*
 * Of several that fit, first the one that was added by this text (alone, before one that a list brought:
 * the list's own way to change is the list), then the one that serves the domain, then one that is joined
 * to it.
 */
struct guest *guest_find(struct daemon *daemon, const char *domain, struct iod_error *error)
{
    struct guest *guest, *best = NULL;
    unsigned best_rank = 0;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        bool text = !strcmp(guest->spec.domain, domain);
        unsigned rank = text                         ? 3 + !guest->source
                        : !is_domain(guest, domain) ? 0
                                                    : 1 + !guest->host;
        if (rank > best_rank) {
            best = guest;
            best_rank = rank;
        }
    }
    if (!best) {
        iod_fail(error, ENOENT,
                 "no guest %s is known here; expected the text it was added as, or the name, domid "
                                "or uuid:... of its domain", domain);
    }
    return best;
}

/* All there and answering? Else `why` says what is missing, unless something does already. */
static bool all_answer(struct guest *guest, struct guest_status *status)
{
    struct guest *host = guest_host(guest);
    for (unsigned i = 0; i < guest->spec.device_count; i++) {
        const char *id = device_spec_get(&guest->spec.devices[i], "id");
        const struct iod_device *device = guest_device(host, id);
        device = device && device->owner == guest ? device : NULL;
        if (device && device->state == DEVICE_BROKEN) {
            snprintf(status->why, sizeof(status->why), "%.60s: %.160s", id, device->why);
            return false;
        }
        if (!device || device->hidden || device->detach) {
            if (!status->why[0]) {
                snprintf(status->why, sizeof(status->why), "%.60s: is not served yet", id);
            }
            return false;
        }
    }
    return true;
}

void guest_status_of(struct guest *guest, struct guest_status *status)
{
    struct guest *host = guest_host(guest);
    *status = (struct guest_status){.domain = guest->spec.domain,
                                    .domid = host->have_domid ? host->domid : -1,
                                    .state = host->shown_state ? host->shown_state : "waiting"};
    memcpy(status->name, host->domain_name, sizeof(status->name));
    snprintf(status->why, sizeof(status->why), "%s", guest->why);
    bool running = host->state == GUEST_RUNNING;
    status->served = running && !host->paused && all_answer(guest, status);
    if (status->served) {
        status->why[0] = '\0';
    } else if (!status->why[0] && running && host->paused) {
        snprintf(status->why, sizeof(status->why), "its devices are paused; resume them");
    } else if (!status->why[0] && host->state == GUEST_WAITING) {
        snprintf(status->why, sizeof(status->why), "%s",
                 host->have_domid ? "its domain does not exist yet"
                                  : "no domain of this name or uuid is introduced");
    }
}

int daemon_guest_status(struct daemon *daemon, const char *domain, struct guest_status *status,
                        struct iod_error *error)
{
    struct guest *guest = guest_find(daemon, domain, error);
    if (!guest) {
        return -ENOENT;
    }
    guest_status_of(guest, status);
    return 0;
}
