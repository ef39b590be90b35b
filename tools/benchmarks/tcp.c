/* SPDX-License-Identifier: BSD-2-Clause */
#include "tcp.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

#include "bench.h"

#define IN_FLIGHT (2u << 20) /* the most, whatever window the peer offers */
#define SILENT_MAX 100u      /* waits without a new acknowledgement */
#define OPTIONS 8u           /* of the SYN: MSS, window scale */

static uint32_t sum(const void *bytes, size_t length, uint32_t start)
{
    const uint8_t *at = bytes;
    uint32_t total = start;
    for (size_t i = 0; i + 1 < length; i += 2) {
        total += (uint32_t)(at[i] << 8 | at[i + 1]);
    }
    while (total >> 16) {
        total = (total & 0xffff) + (total >> 16);
    }
    return total;
}

/* Fills the headers of a frame with `payload` bytes (of zero: they do not count in a checksum). */
static size_t fill(struct tcp *tcp, uint8_t *memory, uint8_t flags, uint32_t seq, size_t payload, size_t options)
{
    struct virtio_net_hdr_v1 header = {.flags = 0};
    uint8_t *frame = memory + sizeof(header);
    size_t tcp_length = sizeof(struct tcphdr) + options + payload, whole = ETH_HLEN + sizeof(struct iphdr) + tcp_length;
    struct iphdr ip = {.version = 4, .ihl = 5, .tot_len = htons((uint16_t)(whole - ETH_HLEN)), .ttl = 64,
                       .protocol = IPPROTO_TCP, .saddr = htonl(tcp->address), .daddr = htonl(tcp->peer)};
    struct tcphdr segment = {.source = htons(tcp->port), .dest = htons(tcp->peer_port), .seq = htonl(seq),
                             .ack_seq = htonl(tcp->peer_next), .doff = (uint16_t)(5 + options / 4) & 0xf,
                             .window = htons(65535)};
    ((uint8_t *)&segment)[13] = flags;
    memcpy(frame, tcp->peer_mac, 6);
    memcpy(frame + 6, tcp->mac, 6);
    frame[12] = ETH_P_IP >> 8;
    frame[13] = ETH_P_IP & 0xff;
    ip.check = htons((uint16_t)~sum(&ip, sizeof(ip), 0));
    uint32_t pseudo = sum(&ip.saddr, 8, IPPROTO_TCP + (uint32_t)tcp_length);
    if (tcp->offload) {
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.csum_start = ETH_HLEN + sizeof(ip);
        header.csum_offset = offsetof(struct tcphdr, check);
        if (payload > tcp->mss) {
            header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
            header.gso_size = tcp->mss;
            header.hdr_len = TCP_HEADERS;
        }
        segment.check = htons((uint16_t)pseudo);
    } else {
        uint32_t all = sum(&segment, sizeof(segment), pseudo);
        segment.check = htons((uint16_t)~sum(frame + TCP_HEADERS, options, all));
    }
    if (payload) {
        memset(frame + TCP_HEADERS, 0, OPTIONS); /* the memory may have been a SYN's */
    }
    memcpy(memory, &header, sizeof(header));
    memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
    memcpy(frame + ETH_HLEN + sizeof(ip), &segment, sizeof(segment));
    return whole;
}

static bool send_one(struct tcp *tcp, uint8_t flags, uint32_t seq, size_t payload, const uint8_t *options)
{
    unsigned slot;
    uint8_t *memory = tcp->carrier->take(tcp->carrier->self, &slot);
    if (!memory) {
        return false;
    }
    if (options) {
        memcpy(memory + sizeof(struct virtio_net_hdr_v1) + TCP_HEADERS, options, OPTIONS);
    }
    size_t whole = fill(tcp, memory, flags, seq, payload, options ? OPTIONS : 0);
    tcp->carrier->send(tcp->carrier->self, slot, whole);
    tcp->frames++;
    return true;
}

/* The segment in a frame of the connection, or NULL. */
static const struct tcphdr *ours(const struct tcp *tcp, const uint8_t *frame, size_t length)
{
    const struct iphdr *ip = (const struct iphdr *)(frame + ETH_HLEN);
    if (length < TCP_HEADERS || frame[12] != ETH_P_IP >> 8 || frame[13] != (ETH_P_IP & 0xff) || ip->ihl != 5 ||
        ip->protocol != IPPROTO_TCP) {
        return NULL;
    }
    const struct tcphdr *segment = (const struct tcphdr *)(frame + ETH_HLEN + sizeof(*ip));
    return ntohs(segment->dest) == tcp->port && ntohs(segment->source) == tcp->peer_port ? segment : NULL;
}

static unsigned scale_of(const struct tcphdr *segment)
{
    const uint8_t *at = (const uint8_t *)(segment + 1), *end = (const uint8_t *)segment + segment->doff * 4;
    while (at + 1 < end && at[0] != TCPOPT_EOL) {
        if (at[0] == TCPOPT_WINDOW && at + 2 < end) {
            return at[2] & 15;
        }
        at += at[0] == TCPOPT_NOP ? 1 : at[1] ? at[1] : 2;
    }
    return 0;
}

/* Answers who asks for our address. */
static void answer_arp(struct tcp *tcp, const uint8_t *frame, size_t length)
{
    unsigned slot;
    uint32_t wanted;
    if (length < 42 || frame[12] != ETH_P_ARP >> 8 || frame[13] != (ETH_P_ARP & 0xff) || frame[21] != 1) {
        return;
    }
    memcpy(&wanted, frame + 38, 4);
    uint8_t *memory = ntohl(wanted) == tcp->address ? tcp->carrier->take(tcp->carrier->self, &slot) : NULL;
    if (!memory) {
        return;
    }
    uint8_t *reply = memory + sizeof(struct virtio_net_hdr_v1);
    memset(memory, 0, sizeof(struct virtio_net_hdr_v1));
    memcpy(reply, frame + 6, 6);
    memcpy(reply + 6, tcp->mac, 6);
    memcpy(reply + 12, frame + 12, 8);
    reply[20] = 0;
    reply[21] = 2;
    memcpy(reply + 22, tcp->mac, 6);
    memcpy(reply + 28, &wanted, 4);
    memcpy(reply + 32, frame + 22, 10);
    tcp->carrier->send(tcp->carrier->self, slot, 60);
    tcp->carrier->submit(tcp->carrier->self);
}

void tcp_connect(struct tcp *tcp)
{
    static const uint8_t options[OPTIONS] = {TCPOPT_MAXSEG, 4, 0x05, 0xb4, TCPOPT_WINDOW, 3, 7, TCPOPT_NOP};
    uint8_t frame[2048];
    tcp->next = tcp->acknowledged = 1000;
    for (unsigned attempt = 0; attempt < 10; attempt++) {
        send_one(tcp, TH_SYN, tcp->next, 0, options);
        tcp->carrier->submit(tcp->carrier->self);
        for (size_t length; (length = tcp->carrier->receive(tcp->carrier->self, frame, sizeof(frame), true)) > 0;) {
            const struct tcphdr *segment = ours(tcp, frame, length);
            answer_arp(tcp, frame, length);
            if (segment && segment->syn && segment->ack) {
                tcp->peer_next = ntohl(segment->seq) + 1;
                tcp->acknowledged = tcp->next = tcp->sent = ntohl(segment->ack_seq);
                tcp->scale = scale_of(segment);
                tcp->window = ntohs(segment->window);
                while (!send_one(tcp, TH_ACK, tcp->next, 0, NULL)) {
                    tcp->carrier->submit(tcp->carrier->self);
                }
                tcp->carrier->submit(tcp->carrier->self);
                return;
            }
        }
    }
    bench_fail("%s: nobody answers on TCP port %u", tcp->carrier->name, tcp->peer_port);
}

static void take_acknowledgement(struct tcp *tcp, const struct tcphdr *segment)
{
    uint32_t number = ntohl(segment->ack_seq);
    if (segment->rst) {
        bench_fail("%s: the connection was reset", tcp->carrier->name);
    }
    uint32_t window = (uint32_t)ntohs(segment->window) << tcp->scale;
    bool same = window == tcp->window; /* else it tells of more room, not of a loss */
    tcp->window = window;
    if (number != tcp->acknowledged && number - tcp->acknowledged <= tcp->sent - tcp->acknowledged) {
        tcp->next = number - tcp->acknowledged > tcp->next - tcp->acknowledged ? number : tcp->next;
        tcp->acknowledged = number;
        tcp->repeated = tcp->silent = 0;
    } else if (same && number == tcp->acknowledged && ++tcp->repeated == 3 && tcp->next != number) {
        tcp->resent += tcp->next - number;
        tcp->next = number; /* something was lost: from there again */
    }
}

/* Sends what window and slots allow; how many frames. */
static unsigned send_burst(struct tcp *tcp, uint32_t end)
{
    unsigned count = 0;
    for (;;) {
        uint32_t flying = tcp->next - tcp->acknowledged, window = tcp->window < IN_FLIGHT ? tcp->window : IN_FLIGHT;
        size_t left = end - tcp->next, part = left < tcp->segment ? left : tcp->segment;
        part = flying == 0 && part > window ? window : part; /* a small window is better than none */
        if (part == 0 || flying + part > window || !send_one(tcp, TH_ACK | TH_PUSH, tcp->next, part, NULL)) {
            break;
        }
        tcp->next += (uint32_t)part;
        if (tcp->next - tcp->acknowledged > tcp->sent - tcp->acknowledged) {
            tcp->sent = tcp->next;
        }
        count++;
    }
    if (count) {
        tcp->carrier->submit(tcp->carrier->self);
    }
    return count;
}

/* Not a word for long: sends again from the last byte known to be there, or asks for the window. */
static void lost_touch(struct tcp *tcp)
{
    if (++tcp->silent == SILENT_MAX) {
        bench_fail("%s: no answer any more after %u bytes in flight, window %u", tcp->carrier->name,
                   tcp->next - tcp->acknowledged, tcp->window);
    }
    tcp->resent += tcp->next - tcp->acknowledged;
    tcp->next = tcp->acknowledged;
    if (tcp->window == 0 && send_one(tcp, TH_ACK, tcp->next - 1, 0, NULL)) { /* old: it has to answer */
        tcp->carrier->submit(tcp->carrier->self);
    }
}

void tcp_send(struct tcp *tcp, uint64_t bytes)
{
    uint8_t frame[2048];
    uint32_t end = tcp->next + (uint32_t)bytes; /* at most 2 GiB at once: sequence numbers */
    while (tcp->acknowledged != end) {
        bool wait = send_burst(tcp, end) == 0;
        size_t length = tcp->carrier->receive(tcp->carrier->self, frame, sizeof(frame), wait);
        if (length == 0 && wait) {
            lost_touch(tcp);
        }
        for (; length > 0; length = tcp->carrier->receive(tcp->carrier->self, frame, sizeof(frame), false)) {
            const struct tcphdr *segment = ours(tcp, frame, length);
            if (segment) {
                take_acknowledgement(tcp, segment);
            } else {
                answer_arp(tcp, frame, length);
            }
        }
    }
}
