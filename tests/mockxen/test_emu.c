/* SPDX-License-Identifier: BSD-2-Clause */
#include "test_emu.h"

static void open_handles(struct emu *e)
{
    e->dm = xendevicemodel_open(NULL, 0);
    e->fm = xenforeignmemory_open(NULL, 0);
    e->ec = xenevtchn_open(NULL, 0);
    ck_assert(e->dm && e->fm && e->ec);
}

void setup_guest(struct emu *e, enum mock_profile profile, unsigned vcpus)
{
    memset(e, 0, sizeof(*e));
    e->mock = mock_start(NULL);
    ck_assert_ptr_nonnull(e->mock);
    mock_adopt_env(e->mock);
    e->g = mock_domain_new(e->mock, profile, RAM, vcpus);
    ck_assert_ptr_nonnull(e->g);
    e->dom = mock_domid(e->g);
    open_handles(e);
}

void add_server(struct emu *e, int buf)
{
    void *page = NULL;

    ck_assert_int_eq(xendevicemodel_create_ioreq_server(e->dm, e->dom, buf, &e->id), 0);
    e->res = xenforeignmemory_map_resource(e->fm, e->dom, XENMEM_resource_ioreq_server, e->id, buf ? 0 : 1,
                                           buf ? 2 : 1, &page, PROT_READ | PROT_WRITE, 0);
    ck_assert_ptr_nonnull(e->res);
    e->slot = (struct ioreq *)((char *)page + (buf ? 4096 : 0));
}

void enable(struct emu *e, unsigned vcpus)
{
    ck_assert_int_eq(xendevicemodel_set_ioreq_server_state(e->dm, e->dom, e->id, 1), 0);
    for (unsigned i = 0; i < vcpus; i++) {
        e->local[i] = xenevtchn_bind_interdomain(e->ec, e->dom, e->slot[i].vp_eport);
        ck_assert_int_gt(e->local[i], 0);
        ck_assert_int_eq(xenevtchn_pending(e->ec), e->local[i]); /* binding marks it pending */
        ck_assert_int_eq(xenevtchn_unmask(e->ec, (evtchn_port_t)e->local[i]), 0);
    }
}

void claim(struct emu *e, int mmio, uint64_t first, uint64_t last)
{
    ck_assert_int_eq(xendevicemodel_map_io_range_to_ioreq_server(e->dm, e->dom, e->id, mmio, first, last), 0);
}

void setup(struct emu *e, enum mock_profile profile, unsigned vcpus)
{
    setup_guest(e, profile, vcpus);
    add_server(e, 0);
    if (profile != MOCK_ARM64) {
        claim(e, 0, PORT, PORT + 15);
        claim(e, 1, MMIO, MMIO + 0x1fff);
    } else {
        claim(e, 1, ARM_MMIO, ARM_MMIO + 0x1ff);
    }
    enable(e, vcpus);
}

void teardown(struct emu *e)
{
    xenevtchn_close(e->ec);
    xenforeignmemory_unmap_resource(e->fm, e->res);
    xenforeignmemory_close(e->fm);
    xendevicemodel_close(e->dm);
    mock_guest_free(e->g);
    mock_stop(e->mock);
}

bool event_within(struct emu *e, int ms)
{
    struct pollfd p = { .fd = xenevtchn_fd(e->ec), .events = POLLIN };

    return poll(&p, 1, ms) == 1;
}

struct ioreq take(struct emu *e, unsigned vcpu)
{
    ck_assert(event_within(e, 2000));
    ck_assert_int_eq(xenevtchn_pending(e->ec), e->local[vcpu]);
    ck_assert_uint_eq(e->slot[vcpu].state, STATE_IOREQ_READY);
    return e->slot[vcpu];
}

void store(struct emu *e, unsigned vcpu, uint64_t data)
{
    e->slot[vcpu].data = data;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    e->slot[vcpu].state = STATE_IORESP_READY;
}

void answer(struct emu *e, unsigned vcpu, uint64_t data)
{
    store(e, vcpu, data);
    ck_assert_int_eq(xenevtchn_unmask(e->ec, (evtchn_port_t)e->local[vcpu]), 0);
    ck_assert_int_eq(xenevtchn_notify(e->ec, (evtchn_port_t)e->local[vcpu]), 0);
}

struct mock_daemon *spawn_self(struct emu *e, const char *role)
{
    char self[256], dom[16], *argv[] = { self, (char *)role, dom, NULL };
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    ck_assert_int_gt(n, 0);
    self[n] = '\0';
    snprintf(dom, sizeof(dom), "%u", e->dom);
    return mock_spawn_daemon(e->mock, argv);
}
