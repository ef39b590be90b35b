/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames as a pcapng file, for wireshark and tcpdump: one interface per guest and device, Ethernet,
 * nanoseconds. */
#ifndef PCAPNG_H
#define PCAPNG_H

#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

struct pcapng;

/* Writes the file's head. NULL: out of memory. The file stays the caller's. */
struct pcapng *pcapng_create(FILE *to);
void pcapng_destroy(struct pcapng *pcapng); /* NULL is fine */
/*
 * One FRAME event's data: its virtio-net header is left out; what the header leaves to be done (a checksum)
 * is not done. offset_ns: wall clock minus the record's clock.
 */
void pcapng_add(struct pcapng *pcapng, const json_t *frame, int64_t offset_ns);

#endif
