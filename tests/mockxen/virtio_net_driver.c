/* SPDX-License-Identifier: BSD-2-Clause */
#include "virtio_net_driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECES_MAX 64u
#define CONFIG_BYTES 12u /* up to and with the MTU */

void virtio_net_read_config(struct virtio_net *net)
{
    memset(&net->config, 0, sizeof(net->config));
    virtio_config(net->driver, &net->config, CONFIG_BYTES);
}

struct virtio_queue *virtio_net_receive_queue(struct virtio_net *net, unsigned pair)
{
    return net->driver->queues[2 * pair];
}

struct virtio_queue *virtio_net_send_queue(struct virtio_net *net, unsigned pair)
{
    return net->driver->queues[2 * pair + 1];
}

int virtio_net_start(struct virtio_net *net, struct virtio_driver *driver, uint64_t features, unsigned pairs,
                     unsigned size)
{
    *net = (struct virtio_net){.driver = driver, .pairs = 1};
    int result = virtio_negotiate(driver, features);
    if (result) {
        return result;
    }
    virtio_net_read_config(net);
    if (virtio_has(driver, VIRTIO_NET_F_MQ)) {
        net->control = 2 * net->config.max_virtqueue_pairs;
        net->pairs = pairs < net->config.max_virtqueue_pairs ? pairs : net->config.max_virtqueue_pairs;
    } else {
        net->control = 2;
    }
    net->header = driver->legacy && !virtio_has(driver, VIRTIO_NET_F_MRG_RXBUF) ? 10 : 12;
    for (unsigned i = 0; i < 2 * net->pairs && result == 0; i++) {
        result = virtio_queue_set_up(driver, i, size);
    }
    if (result == 0 && virtio_has(driver, VIRTIO_NET_F_CTRL_VQ)) {
        result = virtio_queue_set_up(driver, net->control, 0);
    }
    if (result == 0) {
        virtio_start(driver);
    }
    return result;
}

void virtio_net_finish(struct virtio_net *net)
{
    while (net->made) {
        struct virtio_net_buffer *buffer = net->made;
        net->made = buffer->next_made;
        free(buffer);
    }
    memset(net->spare, 0, sizeof(net->spare));
}

static struct virtio_net_buffer *make_buffer(struct virtio_net *net, uint32_t length)
{
    struct virtio_net_buffer *buffer = calloc(1, sizeof(*buffer));
    if (buffer) {
        buffer->gpa = virtio_arena_take(&net->driver->arena, length, 16, (void **)&buffer->memory);
        buffer->length = length;
    }
    if (!buffer || !buffer->gpa) {
        free(buffer);
        return NULL;
    }
    buffer->next_made = net->made;
    net->made = buffer;
    return buffer;
}

/* ---- receiving ---- */

static int give(struct virtio_net *net, unsigned pair, struct virtio_net_buffer *buffer)
{
    struct virtio_buffer piece = {.gpa = buffer->gpa, .length = buffer->length, .write = true};
    int head = virtio_queue_put(virtio_net_receive_queue(net, pair), &piece, 1, false, buffer);
    return head < 0 ? head : 0;
}

int virtio_net_fill(struct virtio_net *net, unsigned pair, unsigned count, uint32_t length)
{
    for (unsigned i = 0; i < count; i++) {
        struct virtio_net_buffer *buffer = make_buffer(net, length);
        int result = buffer ? give(net, pair, buffer) : -ENOMEM;
        if (result) {
            return result;
        }
    }
    virtio_queue_kick(virtio_net_receive_queue(net, pair));
    return 0;
}

/* Takes the next buffer of a frame and gives it back to the device: the bytes in it behind the first `skip`, or < 0. */
static int next_buffer(struct virtio_net *net, unsigned pair, size_t skip, void *header, uint8_t **frame, size_t *room)
{
    struct virtio_queue *queue = virtio_net_receive_queue(net, pair);
    uint32_t written = 0;
    struct virtio_net_buffer *buffer = virtio_queue_take(queue, &written);
    if (!buffer || written > buffer->length || written < skip) {
        return -EBADMSG;
    }
    size_t bytes = written - skip, copied = bytes < *room ? bytes : *room;
    if (skip) {
        memcpy(header, buffer->memory, skip);
    }
    memcpy(*frame, buffer->memory + skip, copied);
    *frame += copied;
    *room -= copied;
    int result = give(net, pair, buffer);
    return result ? result : (int)bytes;
}

int virtio_net_receive(struct virtio_net *net, unsigned pair, struct virtio_net_hdr_v1 *header, void *frame,
                       size_t room, int timeout_ms)
{
    uint8_t *at = frame;
    int result = virtio_queue_wait(virtio_net_receive_queue(net, pair), timeout_ms);
    if (result) {
        return result;
    }
    header->num_buffers = 1;
    int length = next_buffer(net, pair, net->header, header, &at, &room);
    bool mergeable = virtio_has(net->driver, VIRTIO_NET_F_MRG_RXBUF);
    if (length < 0 || header->num_buffers == 0 || (!mergeable && header->num_buffers != 1)) {
        return length < 0 ? length : -EBADMSG;
    }
    for (unsigned i = 1; i < header->num_buffers; i++) {
        int more = next_buffer(net, pair, 0, NULL, &at, &room); /* all of a frame are shown at once (5.1.6.4.1) */
        if (more <= 0) {
            return more < 0 ? more : -EBADMSG;
        }
        length += more;
    }
    virtio_queue_kick(virtio_net_receive_queue(net, pair));
    return length;
}

/* ---- sending ---- */

static struct virtio_net_buffer *spare_buffer(struct virtio_net *net, unsigned pair, uint32_t length)
{
    for (struct virtio_net_buffer **at = &net->spare[pair]; *at; at = &(*at)->next) {
        struct virtio_net_buffer *buffer = *at;
        if (buffer->length >= length) {
            *at = buffer->next;
            return buffer;
        }
    }
    return make_buffer(net, length);
}

int virtio_net_put(struct virtio_net *net, unsigned pair, const struct virtio_net_hdr_v1 *header, const void *frame,
                   size_t length, unsigned pieces)
{
    static const struct virtio_net_hdr_v1 plain;
    struct virtio_buffer buffers[PIECES_MAX];
    size_t whole = net->header + length, done = 0;
    struct virtio_queue *queue = virtio_net_send_queue(net, pair);
    bool indirect = pieces > 1 && virtio_has(net->driver, VIRTIO_RING_F_INDIRECT_DESC);
    if (pieces == 0 || pieces > PIECES_MAX) {
        return -EINVAL;
    }
    if (queue->free_count < (indirect ? 1 : pieces)) {
        return -ENOSPC;
    }
    struct virtio_net_buffer *buffer = spare_buffer(net, pair, (uint32_t)whole);
    if (!buffer) {
        return -ENOMEM;
    }
    memcpy(buffer->memory, header ? header : &plain, net->header);
    memcpy(buffer->memory + net->header, frame, length);
    for (unsigned i = 0; i < pieces; i++) {
        size_t part = i + 1 == pieces ? whole - done : whole / pieces;
        buffers[i] = (struct virtio_buffer){.gpa = buffer->gpa + done, .length = (uint32_t)part};
        done += part;
    }
    int head = virtio_queue_put(queue, buffers, pieces, indirect, buffer);
    return head < 0 ? head : 0;
}

unsigned virtio_net_sent(struct virtio_net *net, unsigned pair)
{
    struct virtio_net_buffer *buffer;
    unsigned count = 0;
    while ((buffer = virtio_queue_take(virtio_net_send_queue(net, pair), NULL))) {
        buffer->next = net->spare[pair];
        net->spare[pair] = buffer;
        count++;
    }
    return count;
}

int virtio_net_send(struct virtio_net *net, unsigned pair, const struct virtio_net_hdr_v1 *header, const void *frame,
                    size_t length)
{
    struct virtio_queue *queue = virtio_net_send_queue(net, pair);
    int result = virtio_net_put(net, pair, header, frame, length, 1);
    if (result) {
        return result;
    }
    virtio_queue_kick(queue);
    while (result == 0 && virtio_queue_pending(queue)) {
        result = virtio_queue_wait(queue, VIRTIO_TIMEOUT_MS);
        virtio_net_sent(net, pair);
    }
    return result;
}

/* ---- control ---- */

int virtio_net_command(struct virtio_net *net, uint8_t class, uint8_t what, const void *data, size_t length)
{
    struct virtio_queue *queue = net->driver->queues[net->control];
    struct virtio_arena mark = net->driver->arena;
    uint8_t *memory;
    uint64_t gpa = virtio_arena_take(&net->driver->arena, length + 3, 16, (void **)&memory);
    struct virtio_buffer buffers[] = {{.gpa = gpa, .length = 2},
                                      {.gpa = gpa + 2, .length = (uint32_t)length},
                                      {.gpa = gpa + 2 + length, .length = 1, .write = true}};
    if (!gpa || !queue) {
        return queue ? -ENOMEM : -ENODEV;
    }
    memory[0] = class;
    memory[1] = what;
    if (length) {
        memcpy(memory + 2, data, length);
    }
    memory[2 + length] = 0xff;
    int head = virtio_queue_put(queue, buffers, 3, false, net);
    if (head < 0) {
        return head;
    }
    virtio_queue_kick(queue);
    int result = virtio_queue_wait(queue, VIRTIO_TIMEOUT_MS);
    if (result || !virtio_queue_take(queue, NULL)) {
        return result ? result : -EBADMSG;
    }
    uint8_t ack = ((volatile uint8_t *)memory)[2 + length];
    net->driver->arena.next = mark.next;
    return ack;
}

int virtio_net_set_pairs(struct virtio_net *net, uint16_t pairs)
{
    return virtio_net_command(net, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs));
}
