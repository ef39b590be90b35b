/* SPDX-License-Identifier: BSD-2-Clause */
/* IETF draft-ietf-opsawg-pcapng: section header, interface description and enhanced packet blocks. */
#include <stdlib.h>
#include <string.h>

#include "ioreqctl.h"
#include "pcapng.h"

#define VNET_HEADER 12u
#define FRAME_MAX 65562u
#define INTERFACES_MAX 1024u

enum { SECTION = 0x0a0d0d0a, INTERFACE = 1, PACKET = 6 };
enum { OPTION_END = 0, IF_NAME = 2, IF_TSRESOL = 9, EPB_FLAGS = 2, EPB_DROPCOUNT = 4 };
enum { LINKTYPE_ETHERNET = 1 };

struct pcapng {
    FILE *to;
    char *names[INTERFACES_MAX]; /* "GUEST:DEVICE" */
    unsigned count;
    uint8_t block[FRAME_MAX + 256];
    size_t length;
};

/* ---- blocks: in the byte order of this machine, as the format wants ---- */

static void put(struct pcapng *pcapng, const void *bytes, size_t length)
{
    if (length && length <= sizeof(pcapng->block) - pcapng->length) {
        memcpy(pcapng->block + pcapng->length, bytes, length);
        pcapng->length += length;
    }
}

static void put16(struct pcapng *pcapng, uint16_t value)
{
    put(pcapng, &value, sizeof(value));
}

static void put32(struct pcapng *pcapng, uint32_t value)
{
    put(pcapng, &value, sizeof(value));
}

static void put_padded(struct pcapng *pcapng, const void *bytes, size_t length)
{
    static const uint8_t zeros[4];

    put(pcapng, bytes, length);
    put(pcapng, zeros, (4 - length % 4) % 4);
}

static void put_option(struct pcapng *pcapng, uint16_t code, const void *value, size_t length)
{
    put16(pcapng, code);
    put16(pcapng, (uint16_t)length);
    put_padded(pcapng, value, length);
}

static void begin_block(struct pcapng *pcapng, uint32_t type)
{
    pcapng->length = 0;
    put32(pcapng, type);
    put32(pcapng, 0); /* its length, known at the end */
}

static void end_block(struct pcapng *pcapng)
{
    uint32_t length = (uint32_t)pcapng->length + 4;

    put32(pcapng, length);
    memcpy(pcapng->block + 4, &length, sizeof(length));
    fwrite(pcapng->block, 1, pcapng->length, pcapng->to);
}

/* ---- the file ---- */

struct pcapng *pcapng_create(FILE *to)
{
    static const uint8_t unknown_length[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    struct pcapng *pcapng = calloc(1, sizeof(*pcapng));

    if (pcapng) {
        pcapng->to = to;
        begin_block(pcapng, SECTION);
        put32(pcapng, 0x1a2b3c4d);
        put16(pcapng, 1);
        put16(pcapng, 0);
        put(pcapng, unknown_length, sizeof(unknown_length));
        end_block(pcapng);
        fflush(to);
    }
    return pcapng;
}

void pcapng_destroy(struct pcapng *pcapng)
{
    for (unsigned i = 0; pcapng && i < pcapng->count; i++) {
        free(pcapng->names[i]);
    }
    free(pcapng);
}

static void add_interface(struct pcapng *pcapng, const char *name)
{
    const uint8_t nanoseconds = 9;

    begin_block(pcapng, INTERFACE);
    put16(pcapng, LINKTYPE_ETHERNET);
    put16(pcapng, 0);
    put32(pcapng, 0); /* no limit */
    put_option(pcapng, IF_NAME, name, strlen(name));
    put_option(pcapng, IF_TSRESOL, &nanoseconds, 1);
    put_option(pcapng, OPTION_END, NULL, 0);
    end_block(pcapng);
}

/* The number of its interface, described first if it is new. */
static unsigned find_interface(struct pcapng *pcapng, const json_t *frame)
{
    char name[128], domid[SHORT_MAX];

    snprintf(name, sizeof(name), "%s:%.80s", member_domid(frame, domid), member_text(frame, "device"));
    for (unsigned i = 0; i < pcapng->count; i++) {
        if (!strcmp(pcapng->names[i], name)) {
            return i;
        }
    }
    char *copy = pcapng->count < INTERFACES_MAX ? strdup(name) : NULL;
    if (!copy) {
        return 0;
    }
    add_interface(pcapng, name);
    pcapng->names[pcapng->count] = copy;
    return pcapng->count++;
}

static int digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

static size_t decode(uint8_t *to, size_t room, const char *text)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t length = 0;

    for (; digit(*text) >= 0; text++) {
        bits = bits << 6 | (uint32_t)digit(*text);
        have += 6;
        if (have >= 8 && length < room) {
            have -= 8;
            to[length++] = (uint8_t)(bits >> have);
        }
    }
    return length;
}

void pcapng_add(struct pcapng *pcapng, const json_t *frame, int64_t offset_ns)
{
    static uint8_t bytes[FRAME_MAX];
    size_t length = decode(bytes, sizeof(bytes), member_text(frame, "frame"));
    uint64_t time = (uint64_t)((int64_t)member_number(frame, "time-ns") + offset_ns);
    uint64_t whole = member_number(frame, "bytes"), dropped = member_number(frame, "dropped");
    uint32_t direction =
        member_flag(frame, "sent") ? 1 : 2; /* as the host sees it: the guest's frames come in */

    if (length < VNET_HEADER || whole < length) {
        return;
    }
    unsigned interface = find_interface(pcapng, frame);
    begin_block(pcapng, PACKET);
    put32(pcapng, interface);
    put32(pcapng, (uint32_t)(time >> 32));
    put32(pcapng, (uint32_t)time);
    put32(pcapng, (uint32_t)(length - VNET_HEADER));
    put32(pcapng, (uint32_t)(whole - VNET_HEADER));
    put_padded(pcapng, bytes + VNET_HEADER, length - VNET_HEADER);
    put_option(pcapng, EPB_FLAGS, &direction, sizeof(direction));
    put_option(pcapng, EPB_DROPCOUNT, &dropped, sizeof(dropped));
    put_option(pcapng, OPTION_END, NULL, 0);
    end_block(pcapng);
    fflush(pcapng->to);
}
