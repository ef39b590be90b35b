/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest side of the mock hypervisor: a test starts a mockxen process, creates domains in it, spawns programs
 * that believe they run in dom0, and plays the guests' vCPUs from its own threads.
 *
 * Threads: one thread at a time per vCPU; different vCPUs and guests may run in different threads. Calls on
 * `struct mock` itself are serialised inside. Times are milliseconds; a timeout of 0 polls, a negative one
 * waits without limit. Functions that return int give 0 or a negative errno unless they say otherwise.
 */
#ifndef MOCKXEN_GUEST_H
#define MOCKXEN_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct mock;
struct mock_guest;
struct mock_daemon;
struct ioreq; /* xen/hvm/ioreq.h */

/** What kind of machine Xen made the domain. */
enum mock_profile {
    MOCK_HVM,   /**< PIC, IO-APIC, emulated VGA, PCI cf8 */
    MOCK_PVH,   /**< LAPIC only */
    MOCK_ARM64, /**< MMIO only, SPIs; RAM begins at 0x40000000 */
};

/** How an access stands or ended. */
enum mock_status {
    MOCK_DONE,    /**< ended, the vCPU runs on */
    MOCK_BLOCKED, /**< the vCPU still waits for its emulator */
    MOCK_FAULT,   /**< the vCPU got #GP (x86) or a data abort (Arm) */
    MOCK_CRASHED, /**< Xen crashed the domain (broken slot, illegal state) */
    MOCK_DEAD,    /**< the domain was destroyed or shut down meanwhile */
    MOCK_PANIC,   /**< real Xen would have panicked here: see mock_panics() */
};

/* ------------------------------------------------------------------ the instance */

/** Options of mock_start(); all zero is a good default. */
struct mock_options {
    const char *dir; /**< for sockets and logs; NULL: a fresh one under /tmp, removed by mock_stop() */
    bool xenstore;   /**< keep a real xenstored's state directory in DIR/xs (see mock_xenstore_start()) */
    bool verbose;    /**< mockxen logs each call to DIR/mockxen.log */
};

/** Spawn mockxen and connect to it. NULL after one line on stderr. `opt` may be NULL. The thread that calls
 * must outlive the instance: mockxen, and daemons likewise, are killed when the thread that spawned them
 * ends. */
struct mock *mock_start(const struct mock_options *opt);
/** End the mockxen process, free everything. Guests must have been freed, daemons reaped. NULL is allowed. */
void mock_stop(struct mock *mock);
/** Directory of this instance (sockets, logs). Owned by `mock`. */
const char *mock_dir(const struct mock *mock);
/** Path of the control socket. */
const char *mock_socket(const struct mock *mock);
/** Environment (envp, NULL-terminated, owned by `mock`) under which an unmodified daemon meets the mock:
 * LD_LIBRARY_PATH, LD_PRELOAD, MOCKXEN_SOCKET, and XENSTORED_RUNDIR/XENSTORED_PATH if xenstore was asked for.
 */
char *const *mock_env(struct mock *mock);
/** Put MOCKXEN_SOCKET into this process's own environment, for a test that itself links with the shims. */
void mock_adopt_env(struct mock *mock);
/** Directory of the xenstored state (test-ground.md), or NULL if not asked for. */
const char *mock_xenstore_dir(const struct mock *mock);
/** Start the real xenstored over the state directory; the daemon's environment points at it already.
 * Implemented in tests/mockxen/xenstore/ (link with that library). */
int mock_xenstore_start(struct mock *mock);
/** Stop that xenstored. Safe if it was never started. Implemented in tests/mockxen/xenstore/. */
void mock_xenstore_stop(struct mock *mock);

/* ------------------------------------------------------------------ daemons */

/** Spawn argv[0] (PATH is searched) under mock_env(); stdout and stderr go to a log file. NULL + errno. */
struct mock_daemon *mock_spawn_daemon(struct mock *mock, char *const argv[]);
/** Process id. */
pid_t mock_daemon_pid(const struct mock_daemon *d);
/** Send a signal. */
int mock_daemon_signal(struct mock_daemon *d, int signum);
/** Wait until the log contains `text` in bytes not yet matched. 0, -ETIMEDOUT, -ECHILD if it ended without
 * it. */
int mock_daemon_wait_log(struct mock_daemon *d, const char *text, int timeout_ms);
/** The whole log so far, NUL-terminated, valid until the next call on `d`. */
const char *mock_daemon_log(struct mock_daemon *d);
/** Wait for the end. 0 and *wstatus as of waitpid(), or -ETIMEDOUT. May be called again after success. */
int mock_daemon_wait(struct mock_daemon *d, int timeout_ms, int *wstatus);
/** Kill (SIGKILL) if it still runs, reap, free. NULL is allowed. */
void mock_daemon_free(struct mock_daemon *d);

/* ------------------------------------------------------------------ domains */

/** What to create. */
struct mock_domain_spec {
    enum mock_profile profile;
    uint64_t ram_bytes;     /**< pages; x86: from 0, HVM without a0000-bffff, from f0000000 at 4 GiB */
    unsigned nr_vcpus;      /**< 1..128; what nr_vcpus reports */
    unsigned online_vcpus;  /**< 0: all; else the rest comes with mock_vcpu_add() */
    uint16_t domid;         /**< 0: next free one */
    uint8_t uuid[16];       /**< all zero: made up */
    const char *name;       /**< NULL: "mock-DOMID" */
    bool type_unknown;      /**< the daemon can't know `profile`: ISA and INTx calls count as panics */
};

/** Create a domain. NULL after one line on stderr. */
struct mock_guest *mock_domain_create(struct mock *mock, const struct mock_domain_spec *spec);
/** Same with the usual fields only. */
struct mock_guest *mock_domain_new(struct mock *mock, enum mock_profile profile, uint64_t ram_bytes,
                                   unsigned nr_vcpus);
/** Destroy the domain if it lives, then free the handle. */
void mock_guest_free(struct mock_guest *g);
/** Domain kill: servers and ports go, blocked vCPUs end with MOCK_DEAD. Stays a zombie while mappings of it
 * remain. */
int mock_domain_kill(struct mock_guest *g);
/** Shut down with a SHUTDOWN_* reason; waits for nothing. */
int mock_domain_shutdown(struct mock_guest *g, unsigned reason);
uint16_t mock_domid(const struct mock_guest *g);
enum mock_profile mock_guest_profile(const struct mock_guest *g);
const char *mock_domain_name(const struct mock_guest *g);
const uint8_t *mock_domain_uuid(const struct mock_guest *g);
unsigned mock_nr_vcpus(const struct mock_guest *g);
struct mock *mock_of(const struct mock_guest *g);
/** Bring the next vCPU into being: its ports are allocated in every server, vp_eport filled where enabled. */
int mock_vcpu_add(struct mock_guest *g);
/** Make `stub` a stub domain for `g`: programs run with MOCKXEN_DOMID=stub may then act on `g`. 0 removes it.
 */
int mock_set_target(struct mock_guest *g, uint16_t stub);

/** State of a domain, alive or not. */
struct mock_domain_info {
    bool exists;                /**< false: ESRCH for everybody */
    bool dying;                 /**< killed; a zombie while `exists` */
    bool shutdown, crashed;
    unsigned shutdown_reason;
    unsigned nr_servers;        /**< ioreq servers */
    unsigned server_mask;       /**< bit per id in use */
    unsigned enabled_mask;
    unsigned bound_ports;       /**< its ports that an emulator has bound */
    uint64_t foreign_pages;     /**< page references by foreign maps */
    uint64_t resource_pages;    /**< page references by map_resource */
    uint64_t grant_pages;       /**< page references by grant maps */
};
int mock_domain_info(struct mock_guest *g, struct mock_domain_info *info);
/** Same by number; works after the domain went. */
int mock_domain_info_by_id(struct mock *mock, uint16_t domid, struct mock_domain_info *info);

/** One range of a server, bounds inclusive; type XEN_DMOP_IO_RANGE_*. */
struct mock_range {
    uint32_t type;
    uint64_t start, end;
};
/** Ranges of server `id`; returns how many there are (may exceed `max`), or a negative errno. */
int mock_server_ranges(struct mock_guest *g, unsigned id, struct mock_range *out, unsigned max);
/** The slot of a vCPU in a server's page, writable, valid while the server lives; NULL if no page. For
 * hostile tests. */
struct ioreq *mock_slot(struct mock_guest *g, unsigned id, unsigned vcpu);
/** The buffered ring of a server (struct buffered_iopage as words: the pointers, then 511 entries), likewise. */
uint64_t *mock_buffered_ring(struct mock_guest *g, unsigned id);

/* ------------------------------------------------------------------ accesses of a vCPU */

/** How long the plain calls below wait before they give up with MOCK_BLOCKED and a line on stderr. Default
 * 10000. */
void mock_set_timeout(struct mock_guest *g, int timeout_ms);
/** How the last access of this vCPU ended (the plain reads return all ones unless MOCK_DONE). */
enum mock_status mock_last_status(const struct mock_guest *g, unsigned vcpu);

void vcpu_outb(struct mock_guest *g, unsigned vcpu, uint16_t port, uint8_t value);
void vcpu_outw(struct mock_guest *g, unsigned vcpu, uint16_t port, uint16_t value);
void vcpu_outl(struct mock_guest *g, unsigned vcpu, uint16_t port, uint32_t value);
uint8_t vcpu_inb(struct mock_guest *g, unsigned vcpu, uint16_t port);
uint16_t vcpu_inw(struct mock_guest *g, unsigned vcpu, uint16_t port);
uint32_t vcpu_inl(struct mock_guest *g, unsigned vcpu, uint16_t port);
/** size 1, 2, 4, 8 (x86: up to 64 for wide moves, data then all in `value`'s repetition). RAM is accessed
 * directly. */
uint64_t vcpu_mmio_read(struct mock_guest *g, unsigned vcpu, uint64_t gpa, unsigned size);
void vcpu_mmio_write(struct mock_guest *g, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value);

/** String I/O. `gpa` is the address of the first element executed (df: the highest one); RAM or MMIO. */
enum mock_status vcpu_rep_outs(struct mock_guest *g, unsigned vcpu, uint16_t port, unsigned size,
                               uint64_t gpa, uint64_t count, bool df);
enum mock_status vcpu_rep_ins(struct mock_guest *g, unsigned vcpu, uint16_t port, unsigned size, uint64_t gpa,
                              uint64_t count, bool df);
enum mock_status vcpu_rep_movs(struct mock_guest *g, unsigned vcpu, uint64_t dst, uint64_t src, unsigned size,
                               uint64_t count, bool df);
enum mock_status vcpu_rep_stos(struct mock_guest *g, unsigned vcpu, uint64_t gpa, unsigned size,
                               uint64_t count, bool df, uint64_t value);

/** Config cycle by cf8/cfc (two port accesses). sbdf = bus << 8 | dev << 3 | fn; reg 0..255; size 1, 2, 4. */
uint32_t vcpu_pci_read(struct mock_guest *g, unsigned vcpu, uint16_t sbdf, unsigned reg, unsigned size);
void vcpu_pci_write(struct mock_guest *g, unsigned vcpu, uint16_t sbdf, unsigned reg, unsigned size,
                    uint32_t value);

/** An access as the instruction states it, for the asynchronous calls. */
struct mock_access {
    enum { MOCK_PIO, MOCK_MMIO } space;
    bool read;          /**< direction as the vCPU sees it; MOVS: true if the *source* is addr */
    bool rep;           /**< string operation: `data` is the RAM address of the other side (unless `stos`) */
    bool stos;          /**< rep: `data` is the value stored each time */
    bool df;
    unsigned size;
    uint64_t addr;      /**< port or gpa (first element executed) */
    uint64_t data;      /**< value to write, or gpa */
    uint64_t count;     /**< rep only */
};
/** Begin an access and return without waiting. -EBUSY: this vCPU has one already; -EINVAL: no such
 * instruction. */
int mock_access_start(struct mock_guest *g, unsigned vcpu, const struct mock_access *a);
/** Wait for its end. An access that was split proceeds only inside this call. *value (may be NULL): the data
 * read. MOCK_BLOCKED at timeout: call again later. Any other status frees the vCPU for its next access. */
enum mock_status mock_access_wait(struct mock_guest *g, unsigned vcpu, int timeout_ms, uint64_t *value);
/** Is a request of this vCPU with server `id` or, if negative, with any server? */
bool mock_vcpu_blocked(struct mock_guest *g, unsigned vcpu, int id);

/** Put any 32 bytes into the slot of enabled server `id` (state is set to READY, vp_eport to the right one)
 * and notify, as a Xen with a bug or a version of its own might; wait with mock_access_wait(). -ENOENT,
 * -EBUSY. */
int mock_raw_request(struct mock_guest *g, unsigned vcpu, unsigned id, const struct ioreq *req);
/** The guest sets its RTC: TIMEOFFSET through the buffered ring of every server that has one. HVM only. */
int mock_timeoffset(struct mock_guest *g, int64_t delta_s);
/** Where Xen answers the ACPI PM ports of an HVM guest: at 1f40 as created (false), at b000 once hvmloader
 * has set HVM_PARAM_ACPI_IOPORTS_LOCATION (true). */
void mock_acpi_ports_moved(struct mock_guest *g, bool moved);
/** Let the wake event of a vCPU happen as if another Xen-bound port of it had been notified. */
void mock_vcpu_wake(struct mock_guest *g, unsigned vcpu);

/* ------------------------------------------------------------------ guest memory */

/** Pointer to guest RAM, NULL unless all of [gpa, gpa+len) is RAM and contiguous in the mock (true until
 * ballooned). Valid while the guest handle lives; a ballooned page's old pointer shows the old page while an
 * emulator maps it, zeroes after. */
void *mock_guest_ram(struct mock_guest *g, uint64_t gpa, size_t len);
/** Copy; -EFAULT if a page is missing (nothing is promised about the part before it). */
int mock_guest_read(struct mock_guest *g, uint64_t gpa, void *buf, size_t len);
int mock_guest_write(struct mock_guest *g, uint64_t gpa, const void *buf, size_t len);
/** First RAM address of the profile. */
uint64_t mock_ram_base(const struct mock_guest *g);

/** The guest gives pages away (XENMEM_decrease_reservation on `vcpu`): INVALIDATE goes to every enabled
 * server and the call returns when all have answered, MOCK_BLOCKED at the guest's timeout (then go on with
 * mock_access_wait()). */
enum mock_status vcpu_decrease_reservation(struct mock_guest *g, unsigned vcpu, uint64_t gfn, unsigned nr);
/** Same, but return at once; end it with mock_access_wait(). */
int mock_decrease_reservation_start(struct mock_guest *g, unsigned vcpu, uint64_t gfn, unsigned nr);
/** The guest gets fresh zeroed pages at holes (increase_reservation, populate_physmap). Sends nothing to
 * anybody. */
int mock_populate(struct mock_guest *g, uint64_t gfn, unsigned nr);
/** The toolstack takes pages: each vCPU sends INVALIDATE before its next access. */
int mock_toolstack_remove(struct mock_guest *g, uint64_t gfn, unsigned nr);
/** Was a frame marked dirty by modified_memory since the last call? Clears it. Needs mock_log_dirty(). */
bool mock_test_clear_dirty(struct mock_guest *g, uint64_t gfn);
/** Switch log-dirty mode (migration) on or off. */
int mock_log_dirty(struct mock_guest *g, bool on);

/* ------------------------------------------------------------------ interrupts */

/** How often this very MSI was delivered so far. */
uint64_t mock_msi_count(struct mock_guest *g, uint64_t addr, uint32_t data);
/** Wait until mock_msi_count() >= count. 0 or -ETIMEDOUT. */
int mock_msi_wait(struct mock_guest *g, uint64_t addr, uint32_t data, uint64_t count, int timeout_ms);
/** All MSIs delivered, and those to nobody (fixed mode: lost). */
uint64_t mock_msi_total(struct mock_guest *g, uint64_t *lost);

/** IO-APIC pin set-up. Initially unmasked; GSI < 16 edge, others level. HVM only, as all gsi calls. */
int mock_gsi_config(struct mock_guest *g, unsigned gsi, bool level, bool masked);
/** Wires asserted on the GSI (0 = line low). */
unsigned mock_gsi_level(struct mock_guest *g, unsigned gsi);
/** Interrupts delivered by this pin so far (a level pin: once per raise or EOI while raised). */
uint64_t mock_gsi_count(struct mock_guest *g, unsigned gsi);
/** Wait until mock_gsi_count() >= count. */
int mock_gsi_wait(struct mock_guest *g, unsigned gsi, uint64_t count, int timeout_ms);
/** Wait until the line is high (true) or low. */
int mock_gsi_wait_level(struct mock_guest *g, unsigned gsi, bool high, int timeout_ms);
/** The guest's EOI: a level pin still high delivers again. */
void mock_gsi_eoi(struct mock_guest *g, unsigned gsi);
/** GSI of a PCI function's INTx pin (0 = A), Xen's formula. */
unsigned mock_intx_gsi(unsigned dev, unsigned intx);

/** Arm: how often SPI `intid` (>= 32) was pended; repeats while pending count once. */
uint64_t mock_spi_count(struct mock_guest *g, unsigned intid);
/** Wait until it is pending, then take and end it (acknowledge + EOI). 0 or -ETIMEDOUT. */
int mock_spi_take(struct mock_guest *g, unsigned intid, int timeout_ms);

/* ------------------------------------------------------------------ grants, event channels of the guest */

/** Offer a RAM page to a domain; returns the reference (>= 8) or a negative errno. */
int mock_grant(struct mock_guest *g, uint64_t gfn, uint16_t domid, bool readonly);
/** Offer n pages under consecutive references; returns the first. */
int mock_grant_range(struct mock_guest *g, uint64_t gfn, unsigned nr, uint16_t domid, bool readonly);
/** End an offer. -EBUSY while somebody maps it (Linux marks the device broken then). */
int mock_grant_revoke(struct mock_guest *g, uint32_t ref);
/** Times the reference is mapped now. */
unsigned mock_grant_maps(struct mock_guest *g, uint32_t ref);
/** A port of the guest's own, for domain `remote` to bind. Returns it (> 0) or a negative errno. */
int mock_evtchn_alloc(struct mock_guest *g, uint16_t remote);
/** Notifications that arrived on it. */
uint64_t mock_evtchn_count(struct mock_guest *g, unsigned port);
int mock_evtchn_wait(struct mock_guest *g, unsigned port, uint64_t count, int timeout_ms);
/** The guest notifies its peer. */
int mock_evtchn_send(struct mock_guest *g, unsigned port);

/* ------------------------------------------------------------------ what the mock saw */

/** Kinds of calls, for counters and faults. */
enum mock_call {
    MOCK_CALL_CREATE_SERVER,
    MOCK_CALL_GET_INFO,
    MOCK_CALL_MAP_RANGE,
    MOCK_CALL_UNMAP_RANGE,
    MOCK_CALL_SET_STATE,
    MOCK_CALL_DESTROY_SERVER,
    MOCK_CALL_SET_ISA,
    MOCK_CALL_SET_INTX,
    MOCK_CALL_SET_LINK,
    MOCK_CALL_INJECT_MSI,
    MOCK_CALL_SET_IRQ,
    MOCK_CALL_TRACK_DIRTY,
    MOCK_CALL_MODIFIED_MEMORY,
    MOCK_CALL_SET_MEM_TYPE,
    MOCK_CALL_MAP_MEM_TYPE,
    MOCK_CALL_INJECT_EVENT,
    MOCK_CALL_SHUTDOWN,
    MOCK_CALL_RELOCATE,
    MOCK_CALL_CACHEATTR,
    MOCK_CALL_NR_VCPUS,
    MOCK_CALL_RESOURCE_MAP,
    MOCK_CALL_RESOURCE_SIZE,
    MOCK_CALL_FOREIGN_MAP,
    MOCK_CALL_FOREIGN_PAGE, /**< one page of a foreign map: fails in err[], the others go on */
    MOCK_CALL_FOREIGN_UNMAP,
    MOCK_CALL_GRANT_MAP,
    MOCK_CALL_GRANT_UNMAP,
    MOCK_CALL_GRANT_COPY,
    MOCK_CALL_BIND,
    MOCK_CALL_UNBIND,
    MOCK_CALL_NOTIFY,
    MOCK_CALL_OPEN,
    MOCK_CALL_MAX
};
/** Calls of this kind seen so far from all programs, failed ones too. */
uint64_t mock_call_count(struct mock *mock, enum mock_call kind);
/** Deeds after which the real host would have died (or Xen used freed memory), so far. */
unsigned mock_panics(struct mock *mock);
/** What the i-th of them was (0-based; up to 64 are kept), valid until the next call; NULL past the end. */
const char *mock_panic_text(struct mock *mock, unsigned i);

/* ------------------------------------------------------------------ misbehaviour */

/** From now on the nth call (1 = next) of a kind fails with `err` (positive errno), `times` times in a row
 * (0 = for ever). nth 0 disarms. */
int mock_fail(struct mock *mock, enum mock_call kind, unsigned nth, unsigned times, int err);
/** Has an armed fault of this kind fired since mock_fail()? */
bool mock_fail_fired(struct mock *mock, enum mock_call kind);
/** Delay each foreign map, resource map and grant map. */
int mock_delay_maps(struct mock *mock, unsigned ms);
/** Swallow the events that go from this guest to its emulators (vcpu < 0: all and the buffered port). */
int mock_drop_events(struct mock_guest *g, int vcpu, bool drop);

/** A server as a daemon that died with SIGKILL leaves it: pages, ranges, ports unbound. */
struct mock_leftover {
    int bufioreq;                       /**< HVM_IOREQSRV_BUFIOREQ_* */
    bool enabled;
    const struct mock_range *ranges;
    unsigned nr_ranges;
};
/** Create it; returns its id or a negative errno. *vp_eport0 (may be NULL) as a record would hold it. */
int mock_leave_server(struct mock_guest *g, const struct mock_leftover *l, uint32_t *vp_eport0);

#endif
