/* SPDX-License-Identifier: BSD-2-Clause */
/* An emulator inside a test: the handles, one server, its requests taken and answered by hand. */
#ifndef MOCKXEN_TEST_EMU_H
#define MOCKXEN_TEST_EMU_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xentoolcore.h>
#include <xen/hvm/ioreq.h>
#include <xen/memory.h>

#include "guest.h"

#define RAM (8u << 20)
#define PORT 0x500
#define MMIO 0xfeb00000u
#define ARM_MMIO 0x02000000u

/** An emulator with one server. */
struct emu {
    struct mock *mock;
    struct mock_guest *g;
    xendevicemodel_handle *dm;
    xenforeignmemory_handle *fm;
    xenevtchn_handle *ec;
    xenforeignmemory_resource_handle *res;
    struct ioreq *slot;
    domid_t dom;
    ioservid_t id;
    int local[4];
};

/** A one byte read of PORT. */
static const struct mock_access in_b = { .space = MOCK_PIO, .read = true, .size = 1, .addr = PORT };

/** The call gives -1 and this errno. */
#define FAILS(call, err) \
    do { \
        errno = 0; \
        ck_assert_int_eq((call), -1); \
        ck_assert_int_eq(errno, (err)); \
    } while (0)

/** A mock, a guest, open handles; no server. */
void setup_guest(struct emu *e, enum mock_profile profile, unsigned vcpus);
/** A guest with one enabled server that claims PORT..+f and MMIO..+1fff (Arm: ARM_MMIO..+1ff). */
void setup(struct emu *e, enum mock_profile profile, unsigned vcpus);
/** Create a server, map its pages. */
void add_server(struct emu *e, int buf);
/** Enable it, bind its ports. */
void enable(struct emu *e, unsigned vcpus);
/** Claim ports (mmio 0) or addresses, bounds inclusive. */
void claim(struct emu *e, int mmio, uint64_t first, uint64_t last);
void teardown(struct emu *e);
bool event_within(struct emu *e, int ms);
/** Take the vCPU's event, copy the request. */
struct ioreq take(struct emu *e, unsigned vcpu);
/** Store data and RESP_READY, say nothing to anybody. */
void store(struct emu *e, unsigned vcpu, uint64_t data);
/** Store, unmask, notify. */
void answer(struct emu *e, unsigned vcpu, uint64_t data);
/** Spawn this very program with a role and the domain's number. */
struct mock_daemon *spawn_self(struct emu *e, const char *role);
/** Tests beyond Xen's rules, and what a child does in its role. */
void add_beyond(TCase *tc);
int role_main(const char *role, domid_t dom);

#endif
