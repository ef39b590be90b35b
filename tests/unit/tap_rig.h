/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's side of a tap: a network namespace of the test's own, packet sockets, ip(8). */
#ifndef TAP_RIG_H
#define TAP_RIG_H

#include "netdev_rig.h"

#define NAME "vif7.32-emu" /* what a tap of the fake guest is called */

bool can_make_taps(void);    /* root, /dev/net/tun, namespaces */
void private_network(void);  /* a fixture */

/* A shell's command: its status. */
int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
void must(const char *command); /* that has to succeed */
/* Does ip(8) show this in the line of the interface? */
bool shows(const char *name, const char *what);
/* Waits until there is no such interface: its last script may still be at work. */
void await_gone(const char *name);

/* A packet socket for whatever goes over the interface; with a vnet header of 10 bytes, if asked for. */
int host_open(const char *name, bool headers);
void host_send(int fd, unsigned number, size_t length);
/* The next frame that came in from the guest's side: its length; 0: none. */
size_t host_take(int fd, uint8_t *frame, size_t room);
/* A tap of the host's own. */
int host_tap(const char *name, unsigned flags);

double cpu_seconds(void); /* of this process */

#endif
