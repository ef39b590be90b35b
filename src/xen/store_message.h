/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside src/xen: what the xenstore helper says to the daemon, one packet (SOCK_SEQPACKET) a message. */
#ifndef XEN_STORE_MESSAGE_H
#define XEN_STORE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/store.h"

#define STORE_HELPER_OPTION "--xenstore-helper"

/* The helper says something at least so often; a daemon that heard nothing for the limit holds it for stuck.
 */
#ifndef STORE_ALIVE_MS /* a test has less patience */
#define STORE_ALIVE_MS 5000
#define STORE_STALL_MS 20000
#endif

#define STORE_DOMAINS_MAX 4096u /* of one snapshot */
#define STORE_DOMID_END 0x7ff0u /* DOMID_FIRST_RESERVED: no domain has this or a higher id */

enum store_message_kind {
    STORE_ALIVE = 1, /* nothing new */
    STORE_DOMAIN,    /* one domain of the snapshot being sent */
    STORE_END,       /* the snapshot is complete: all that came since the last END */
    STORE_LOST,      /* xenstored is away: why says how; trying again */
};

struct store_message {
    uint32_t kind;
    union {
        struct store_domain domain;
        char why[160];
    };
};

/* Is it text that may be compared and printed: ended within size, no control characters? */
bool store_text_valid(const char *text, size_t size);

#endif
