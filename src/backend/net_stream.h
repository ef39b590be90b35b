/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames over a connected unix stream socket, as QEMU and passt have them: four bytes of length, big-endian,
 * then the frame without a vnet header. Small frames of a batch go out together. The peer is not trusted.
 */
#ifndef BACKEND_NET_STREAM_H
#define BACKEND_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <ioreqd/netdev.h>

struct loop_task;
struct loop_watch;

struct net_stream {
    struct iod_netdev *netdev;
    int fd;                       /* -1: nobody is there */
    struct loop_watch *watch;
    struct loop_task *end_task;   /* says `ended` where no call of the device's is under way */
    struct loop_task *more_task;  /* goes on with what is here already, when others have had their turn */
    const char *why;              /* it is to end; NULL: it is not */
    uint8_t *in, *out;
    size_t in_start, in_end;      /* bytes received and not yet offered */
    size_t out_start, out_end;    /* bytes taken from the device and not yet sent */
    unsigned out_frames;          /* at most so many frames lie there */
    bool full;                    /* the socket takes no more for now */
    bool stuck;                   /* and a send heard so: a writable event is owed */
    /* The peer is gone, or talks nonsense; the descriptor is closed already. */
    void (*ended)(void *self, const char *why);
    void *self;
};

/* 0 or -ENOMEM; net_stream_finish is due in both cases. */
int net_stream_init(struct net_stream *stream, struct iod_netdev *netdev,
                    void (*ended)(void *self, const char *why), void *self);
void net_stream_finish(struct net_stream *stream); /* zeros are fine */
/* The descriptor is the stream's from now on, also after an error. 0 or -ENOMEM. */
int net_stream_attach(struct net_stream *stream, int fd);
/* Closes the descriptor; what was under way is dropped and counted. `ended` is not called. */
void net_stream_detach(struct net_stream *stream);

/* As the members of struct iod_netdev_class. */
int net_stream_send(struct net_stream *stream, const struct iovec *iov, unsigned count, size_t length);
void net_stream_send_end(struct net_stream *stream);
void net_stream_receive_again(struct net_stream *stream);
void net_stream_quiesce(struct net_stream *stream);

#endif
