/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records: what an ioreqd made in Xen, so that its successor can tell its own leftovers from another
 * emulator's, and another ioreqd on the same guest which places are taken. One file per ioreq server,
 * RECORD_DIR/DOMID.SERVER, of key=value lines, locked as long as its owner lives.
 */
#ifndef CORE_RECORD_H
#define CORE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

enum claim_kind { CLAIM_PORTS, CLAIM_MMIO, CLAIM_FUNCTION };

/* Something that a server holds: addresses (inclusive), or a PCI function (start is its sbdf). */
struct record_claim {
    enum claim_kind kind;
    uint64_t start, end;
    char device[64]; /* its id; empty: not known */
};

struct record {
    uint16_t domid, server;
    uint32_t port;     /* vp_eport[0]; 0: its owner died before it was known */
    uint64_t pid;      /* of the owner; 0: an older ioreqd did not say */
    bool alive;        /* the owner lives */
    char uuid[40];     /* of the domain; empty: not known */
    struct record_claim *claims;
    unsigned claim_count;
};

/*
 * Reads what an ioreqd wrote: a plain file, root's or our own user's. False: there is no record of this
 * server, or none to be believed. The record is the caller's, to be given to record_finish also then.
 * directory may be NULL.
 */
bool record_read(const char *directory, uint16_t domid, uint16_t server, struct record *record);
void record_finish(struct record *record);
/*
 * Calls each(self, record) for the records of a domain, whoever wrote them; the record holds until it
 * returns.
 */
void records_of(const char *directory, uint16_t domid, void (*each)(void *self, const struct record *record),
                void *self);
/* The file of a server's record; malloc'd. NULL: no directory, or out of memory. */
char *record_path(const char *directory, uint16_t domid, uint16_t server);

#endif
