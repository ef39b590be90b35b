/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes as what stands in an ioreq server's two pages, and as the order in which they are taken and answered.
 */
#include <string.h>

#include "xen/ioreq_page.h"

#include "fuzz.h"

struct input {
    const uint8_t *bytes;
    size_t length;
};

static void take_bytes(struct input *input, void *to, size_t length)
{
    size_t have = length < input->length ? length : input->length;

    memset(to, 0, length);
    if (have) {
        memcpy(to, input->bytes, have);
    }
    input->bytes += have;
    input->length -= have;
}

static unsigned take_byte(struct input *input)
{
    uint8_t byte;

    take_bytes(input, &byte, 1);
    return byte;
}

static void check_request(const struct request *request)
{
    FUZZ_CHECK(request->type >= REQUEST_PIO && request->type <= REQUEST_OTHER);
}

static void slot_take(struct ioreq_pages *pages, unsigned vcpu, bool resume)
{
    struct ioreq before = {0}, after = {0};
    struct request request;

    if (vcpu < PAGES_SLOTS) {
        before = pages->slots[vcpu];
    }
    int taken = ioreq_slot_take(pages, vcpu, resume, &request);
    if (vcpu >= PAGES_SLOTS) {
        FUZZ_CHECK(taken == 0);
        return;
    }
    after = pages->slots[vcpu];
    FUZZ_CHECK(taken ==
               (before.state == STATE_IOREQ_READY || (resume && before.state == STATE_IOREQ_INPROCESS)));
    if (taken) {
        check_request(&request);
        FUZZ_CHECK(after.state == STATE_IOREQ_INPROCESS);
        FUZZ_CHECK(request.addr == before.addr && request.data == before.data &&
                   request.count == before.count);
        before.state = STATE_IOREQ_INPROCESS;
    }
    FUZZ_CHECK(memcmp(&before, &after, sizeof(before)) == 0);
}

static void slot_answer(struct ioreq_pages *pages, unsigned vcpu, uint64_t data)
{
    struct ioreq before = {0};

    if (vcpu < PAGES_SLOTS) {
        before = pages->slots[vcpu];
    }
    ioreq_slot_answer(pages, vcpu, data);
    if (vcpu >= PAGES_SLOTS) {
        return;
    }
    if (before.state == STATE_IOREQ_READY || before.state == STATE_IOREQ_INPROCESS) {
        before.state = STATE_IORESP_READY;
        before.data = data;
    }
    FUZZ_CHECK(memcmp(&before, &pages->slots[vcpu], sizeof(before)) == 0);
}

static void ring_drain(struct ioreq_pages *pages)
{
    struct request request;
    unsigned taken = 0;

    while (ioreq_ring_take(pages, &request)) {
        check_request(&request);
        FUZZ_CHECK(++taken <= IOREQ_BUFFER_SLOT_NUM);
        FUZZ_CHECK(request.type == REQUEST_OTHER ||
                   (request.addr < 1u << 20 && request.size <= 8 && !request.read));
    }
    FUZZ_CHECK(pages->ring->read_pointer == pages->ring->write_pointer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static _Alignas(4096) struct ioreq slots[PAGES_SLOTS];
    static _Alignas(4096) struct buffered_iopage ring;
    struct ioreq_pages pages = {.slots = slots, .ring = &ring};
    struct input input = {bytes, length};
    uint64_t data;

    memset(slots, 0, sizeof(slots));
    memset(&ring, 0, sizeof(ring));
    while (input.length) {
        unsigned op = take_byte(&input), at = take_byte(&input);
        switch (op % 6) {
        case 0:
            take_bytes(&input, &slots[at % PAGES_SLOTS], sizeof(slots[0]));
            break;
        case 1:
            slot_take(&pages, at, op & 0x80);
            break;
        case 2:
            take_bytes(&input, &data, sizeof(data));
            slot_answer(&pages, at, data);
            break;
        case 3:
            take_bytes(&input, &ring.buf_ioreq[(at * 2 + (op >> 7)) % IOREQ_BUFFER_SLOT_NUM],
                       sizeof(ring.buf_ioreq[0]));
            break;
        case 4:
            take_bytes(&input, &ring.read_pointer, sizeof(ring.read_pointer));
            take_bytes(&input, &ring.write_pointer, sizeof(ring.write_pointer));
            break;
        default:
            ring_drain(&pages);
        }
    }
    ring_drain(&pages);
    return 0;
}
