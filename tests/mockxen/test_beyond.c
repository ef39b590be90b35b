/* SPDX-License-Identifier: BSD-2-Clause */
/* What real Xen lacks or forgives: panics noted, misbehaviours, leftovers; and what the preload refuses. */
#include <liburing.h>
#include <pthread.h>

#include "test_emu.h"

START_TEST(panics_are_noted)
{
    struct mock_domain_spec spec = {
        .profile = MOCK_HVM, .ram_bytes = RAM, .nr_vcpus = 1, .type_unknown = true
    };
    struct mock_guest *unknown;
    ioservid_t id;
    struct emu e;

    setup_guest(&e, MOCK_PVH, 1);
    unknown = mock_domain_create(e.mock, &spec);
    ck_assert_int_eq(xendevicemodel_set_isa_irq_level(e.dm, e.dom, 4, 1), 0);
    ck_assert_uint_eq(mock_panics(e.mock), 1);
    ck_assert_int_eq(xendevicemodel_set_pci_intx_level(e.dm, mock_domid(unknown), 0, 0, 1, 0, 1), 0);
    ck_assert_uint_eq(mock_panics(e.mock), 2);
    ck_assert_int_eq(xendevicemodel_create_ioreq_server(e.dm, e.dom, 0, &id), 0);
    claim(&e, 0, PORT, PORT);
    ck_assert_int_eq(xendevicemodel_set_ioreq_server_state(e.dm, e.dom, id, 1), 0);
    ck_assert_uint_eq(mock_panics(e.mock), 3);
    ck_assert_ptr_nonnull(strstr(mock_panic_text(e.mock, 2), "before its page"));
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 0, NULL), MOCK_PANIC);
    ck_assert_uint_eq(mock_call_count(e.mock, MOCK_CALL_SET_ISA), 1);
    mock_guest_free(unknown);
    teardown(&e);
}
END_TEST

START_TEST(misbehaviour)
{
    struct mock_access access = in_b;
    xen_pfn_t gfns[3] = { 1, 2, 3 };
    int err[3];
    struct emu e;

    setup(&e, MOCK_PVH, 1);
    mock_fail(e.mock, MOCK_CALL_INJECT_MSI, 2, 1, EBUSY);
    ck_assert_int_eq(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0x41), 0);
    ck_assert(!mock_fail_fired(e.mock, MOCK_CALL_INJECT_MSI));
    FAILS(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0x41), EBUSY);
    ck_assert(mock_fail_fired(e.mock, MOCK_CALL_INJECT_MSI));
    ck_assert_int_eq(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0x41), 0);
    ck_assert_uint_eq(mock_call_count(e.mock, MOCK_CALL_INJECT_MSI), 3);
    mock_fail(e.mock, MOCK_CALL_FOREIGN_PAGE, 2, 1, ENOMEM);
    ck_assert_ptr_nonnull(xenforeignmemory_map(e.fm, e.dom, PROT_READ, 3, gfns, err));
    ck_assert(err[0] == 0 && err[1] == -ENOMEM && err[2] == 0);
    mock_delay_maps(e.mock, 30);
    ck_assert_ptr_nonnull(xenforeignmemory_map(e.fm, e.dom, PROT_READ, 3, gfns, NULL));
    mock_delay_maps(e.mock, 0);
    mock_drop_events(e.g, 0, true);
    ck_assert_int_eq(mock_access_start(e.g, 0, &access), 0);
    ck_assert(!event_within(&e, 50));
    ck_assert_uint_eq(e.slot[0].state, STATE_IOREQ_READY);
    teardown(&e);
}
END_TEST

START_TEST(leftovers_and_late_vcpus)
{
    struct mock_range range = { 0, PORT, PORT + 3 };
    struct mock_leftover left = { .enabled = true, .ranges = &range, .nr_ranges = 1 };
    struct mock_domain_spec spec = {
        .profile = MOCK_PVH, .ram_bytes = RAM, .nr_vcpus = 2, .online_vcpus = 1
    };
    struct mock_domain_info info;
    struct mock_guest *late;
    uint32_t eport;
    struct emu e;
    void *page = NULL;

    setup_guest(&e, MOCK_PVH, 1);
    ck_assert_int_eq(mock_leave_server(e.g, &left, &eport), 0);
    ck_assert_uint_gt(eport, 0);
    mock_domain_info(e.g, &info);
    ck_assert(info.enabled_mask == 1 && info.resource_pages == 0 && info.bound_ports == 0);
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 20, NULL), MOCK_BLOCKED);
    e.res = xenforeignmemory_map_resource(e.fm, e.dom, XENMEM_resource_ioreq_server, 0, 1, 1, &page,
                                          PROT_READ | PROT_WRITE, 0);
    e.slot = page;
    e.local[0] = xenevtchn_bind_interdomain(e.ec, e.dom, eport);
    (void)take(&e, 0);
    answer(&e, 0, 9);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    late = mock_domain_create(e.mock, &spec);
    struct emu l = e;

    l.g = late;
    l.dom = mock_domid(late);
    add_server(&l, 0);
    enable(&l, 1);
    ck_assert_uint_eq(l.slot[1].vp_eport, 0);
    ck_assert_int_eq(mock_vcpu_add(late), 0);
    ck_assert_uint_gt(l.slot[1].vp_eport, 0);
    xenforeignmemory_unmap_resource(l.fm, l.res);
    mock_guest_free(late);
    teardown(&e);
}
END_TEST

START_TEST(grants)
{
    xengnttab_handle *gnt;
    uint32_t refs[2];
    struct emu e;
    char *p;
    int ref;

    setup_guest(&e, MOCK_HVM, 1);
    gnt = xengnttab_open(NULL, 0);
    ref = mock_grant_range(e.g, 0x10, 2, 0, true);
    ck_assert_int_ge(ref, 8);
    refs[0] = (uint32_t)ref + 1;
    refs[1] = (uint32_t)ref;
    strcpy(mock_guest_ram(e.g, 0x11000, 16), "second");
    ck_assert_ptr_null(xengnttab_map_domain_grant_refs(gnt, 2, e.dom, refs, PROT_READ | PROT_WRITE));
    ck_assert_int_eq(errno, EINVAL);
    p = xengnttab_map_domain_grant_refs(gnt, 2, e.dom, refs, PROT_READ);
    ck_assert_ptr_nonnull(p);
    ck_assert_str_eq(p, "second");
    ck_assert_int_eq(mock_grant_revoke(e.g, refs[0]), -EBUSY);
    FAILS(xengnttab_unmap(gnt, p, 1), EINVAL);
    ck_assert_int_eq(xengnttab_unmap(gnt, p, 2), 0);
    ck_assert_uint_eq(mock_grant_maps(e.g, refs[0]), 0);
    ck_assert_int_eq(mock_grant_revoke(e.g, refs[0]), 0);
    ck_assert_ptr_null(xengnttab_map_grant_ref(gnt, e.dom, refs[0], PROT_READ));
    xengnttab_close(gnt);
    teardown(&e);
}
END_TEST

START_TEST(passed_fd_keeps_ports)
{
    xenevtchn_handle *old, *again;
    struct emu e;
    int fd;

    setup(&e, MOCK_PVH, 1);
    old = e.ec;
    fd = dup(xenevtchn_fd(old));
    again = xenevtchn_fdopen(NULL, fd, 0);
    ck_assert_ptr_nonnull(again);
    xenevtchn_close(old);
    e.ec = again;
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    (void)take(&e, 0);
    answer(&e, 0, 1);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    teardown(&e);
}
END_TEST

#define LOAD_VCPUS 4u
#define LOAD_ACCESSES 3000u

struct player {
    struct mock_guest *g;
    unsigned vcpu, bad;
};

static void *play_vcpu(void *arg)
{
    struct player *me = arg;

    for (unsigned i = 0; i < LOAD_ACCESSES; i++) {
        me->bad += vcpu_inb(me->g, me->vcpu, (uint16_t)(PORT + i % 16)) != i % 16;
    }
    return NULL;
}

/** Serve until every vCPU is through. Odd rounds free the vCPU before they unmask: its next event meets a
 * masked port. */
static void serve_load(struct emu *e)
{
    unsigned served = 0;
    uint32_t ports[64];

    for (unsigned round = 0; served < LOAD_VCPUS * LOAD_ACCESSES; round++) {
        ssize_t n;

        ck_assert_msg(event_within(e, 5000), "an event was lost after %u accesses", served);
        n = read(xenevtchn_fd(e->ec), ports, sizeof(ports)) / 4;
        if (round % 2 == 0) {
            ck_assert_int_eq(write(xenevtchn_fd(e->ec), ports, (size_t)n * 4), n * 4);
        }
        for (ssize_t i = 0; i < n; i++) {
            unsigned v = 0;

            while (v < LOAD_VCPUS && e->local[v] != (int)ports[i]) {
                v++;
            }
            if (v < LOAD_VCPUS && e->slot[v].state == STATE_IOREQ_READY) {
                store(e, v, e->slot[v].addr - PORT);
                xenevtchn_notify(e->ec, ports[i]);
                served++;
            }
        }
        if (round % 2) {
            ck_assert_int_eq(write(xenevtchn_fd(e->ec), ports, (size_t)n * 4), n * 4);
        }
    }
}

START_TEST(no_event_is_lost_under_load)
{
    struct player player[LOAD_VCPUS];
    pthread_t thread[LOAD_VCPUS];
    struct emu e;

    setup(&e, MOCK_PVH, LOAD_VCPUS);
    for (unsigned i = 0; i < LOAD_VCPUS; i++) {
        player[i].g = e.g;
        player[i].vcpu = i;
        player[i].bad = 0;
        ck_assert_int_eq(pthread_create(&thread[i], NULL, play_vcpu, &player[i]), 0);
    }
    serve_load(&e);
    for (unsigned i = 0; i < LOAD_VCPUS; i++) {
        pthread_join(thread[i], NULL);
        ck_assert_uint_eq(player[i].bad, 0);
    }
    teardown(&e);
}
END_TEST

START_TEST(many_guests_on_one_handle)
{
    enum { GUESTS = 260 };
    static struct emu e[GUESTS];
    struct mock_guest *idle;
    ioservid_t id;

    setup(&e[0], MOCK_PVH, 1);
    for (unsigned i = 1; i < GUESTS; i++) {
        e[i] = e[0];
        e[i].g = mock_domain_new(e[0].mock, MOCK_PVH, 16 * 4096, 1);
        e[i].dom = mock_domid(e[i].g);
        add_server(&e[i], 0);
        claim(&e[i], 0, PORT, PORT);
        enable(&e[i], 1);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        ck_assert_int_eq(mock_access_start(e[i].g, 0, &in_b), 0);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        (void)take(&e[i], 0); /* all waited on the one stream, in order */
        answer(&e[i], 0, i);
        ck_assert_int_eq(mock_access_wait(e[i].g, 0, 2000, NULL), MOCK_DONE);
    }
    idle = e[GUESTS - 1].g;
    ck_assert_int_eq(mock_domain_kill(idle), 0);
    FAILS(xendevicemodel_create_ioreq_server(e[0].dm, e[GUESTS - 1].dom, 0, &id),
          EINVAL); /* a zombie: page mapped */
    for (unsigned i = 1; i < GUESTS; i++) {
        xenforeignmemory_unmap_resource(e[i].fm, e[i].res);
        mock_guest_free(e[i].g);
    }
    teardown(&e[0]);
}
END_TEST

START_TEST(guests_own_ports)
{
    struct emu e;
    int port, local;

    setup_guest(&e, MOCK_PVH, 1);
    port = mock_evtchn_alloc(e.g, 0);
    ck_assert_int_gt(port, 0);
    local = xenevtchn_bind_interdomain(e.ec, e.dom, (evtchn_port_t)port);
    ck_assert_int_gt(local, 0);
    ck_assert_int_eq(xenevtchn_pending(e.ec), local);
    ck_assert_int_eq(mock_evtchn_send(e.g, (unsigned)port), 0);
    ck_assert(!event_within(&e, 50));
    ck_assert_int_eq(xenevtchn_unmask(e.ec, (evtchn_port_t)local), 0);
    ck_assert(event_within(&e, 2000));
    ck_assert_int_eq(xenevtchn_pending(e.ec), local);
    ck_assert_int_eq(xenevtchn_notify(e.ec, (evtchn_port_t)local), 0);
    ck_assert_int_eq(mock_evtchn_wait(e.g, (unsigned)port, 1, 2000), 0);
    ck_assert_int_eq(xenevtchn_unbind(e.ec, (evtchn_port_t)local), 0);
    FAILS(xenevtchn_notify(e.ec, (evtchn_port_t)local), ENOTCONN);
    ck_assert_int_gt(xenevtchn_bind_interdomain(e.ec, e.dom, (evtchn_port_t)port), 0);
    teardown(&e);
}
END_TEST

START_TEST(odd_requests)
{
    struct ioreq odd = {
        .type = 99, .size = 3, .count = 0xffffffff, .addr = UINT64_MAX, .dir = 1, .data_is_ptr = 1
    };
    struct ioreq r;
    struct emu e;

    setup(&e, MOCK_PVH, 1);
    ck_assert_int_eq(mock_raw_request(e.g, 0, 5, &odd), -ENOENT);
    ck_assert_int_eq(mock_raw_request(e.g, 0, e.id, &odd), 0);
    r = take(&e, 0);
    ck_assert(r.type == 99 && r.size == 3 && r.count == 0xffffffff && r.addr == UINT64_MAX && r.data_is_ptr);
    ck_assert_int_eq(mock_raw_request(e.g, 0, e.id, &odd), -EBUSY);
    answer(&e, 0, 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    /* The toolstack takes a page: the vCPU's next access is preceded by an INVALIDATE. */
    ck_assert_int_eq(mock_toolstack_remove(e.g, 0x200, 1), 0);
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    r = take(&e, 0);
    ck_assert_uint_eq(r.type, IOREQ_TYPE_INVALIDATE);
    answer(&e, 0, 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 20, NULL), MOCK_BLOCKED);
    r = take(&e, 0);
    ck_assert_uint_eq(r.type, IOREQ_TYPE_PIO);
    /* A slot taken back by its emulator: the next request finds it broken. */
    answer(&e, 0, 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    e.slot[0].state = STATE_IOREQ_INPROCESS;
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 0, NULL), MOCK_CRASHED);
    teardown(&e);
}
END_TEST

START_TEST(direct_io_is_refused)
{
    struct mock_daemon *d;
    struct emu e;
    int status;

    setup_guest(&e, MOCK_PVH, 1);
    d = spawn_self(&e, "--direct");
    ck_assert_int_eq(mock_daemon_wait(d, 10000, &status), 0);
    ck_assert_msg(status == 0, "%s", mock_daemon_log(d));
    mock_daemon_free(d);
    teardown(&e);
}
END_TEST

/* ------------------------------------------------------------------ roles of a child */

static int hold(domid_t dom)
{
    xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
    xenforeignmemory_handle *fm = xenforeignmemory_open(NULL, 0);
    xenevtchn_handle *ec = xenevtchn_open(NULL, 0);
    void *page = NULL;
    ioservid_t id;

    if (xendevicemodel_create_ioreq_server(dm, dom, 0, &id) ||
        !xenforeignmemory_map_resource(fm, dom, XENMEM_resource_ioreq_server, id, 1, 1, &page,
                                       PROT_READ | PROT_WRITE, 0) ||
        xendevicemodel_map_io_range_to_ioreq_server(dm, dom, id, 0, PORT, PORT) ||
        xendevicemodel_set_ioreq_server_state(dm, dom, id, 1) ||
        xenevtchn_bind_interdomain(ec, dom, ((struct ioreq *)page)->vp_eport) < 0) {
        perror("hold");
        return 1;
    }
    fprintf(stderr, "ready\n");
    pause();
    return 0;
}

/** One io_uring read of 4096 bytes; its result. */
static int ring_read(struct io_uring *ring, int fd, void *buf, bool vectored)
{
    struct iovec iov = { buf, 4096 };
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;
    int res;

    if (vectored) {
        io_uring_prep_readv(sqe, fd, &iov, 1, 0);
    } else {
        io_uring_prep_read(sqe, fd, buf, 4096, 0);
    }
    io_uring_submit(ring);
    io_uring_wait_cqe(ring, &cqe);
    res = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return res;
}

#define EXPECT(what, want) \
    do { \
        long got_ = (what); \
        if (got_ != (want)) { \
            fprintf(stderr, "%s: %ld, expected %ld\n", #what, got_, (long)(want)); \
            return 1; \
        } \
    } while (0)

static int direct(domid_t dom)
{
    xenforeignmemory_handle *fm = xenforeignmemory_open(NULL, 0);
    xen_pfn_t gfn = 1;
    void *foreign = xenforeignmemory_map(fm, dom, PROT_READ | PROT_WRITE, 1, &gfn, NULL);
    void *own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec iov[2] = { { own, 4096 }, { foreign, 4096 } };
    char path[] = "/tmp/mock-direct.XXXXXX";
    int buffered = mkstemp(path), odirect = open(path, O_RDWR | O_DIRECT);
    struct io_uring ring;

    unlink(path);
    EXPECT(buffered >= 0 && odirect >= 0 && foreign && !ftruncate(buffered, 65536), 1);
    EXPECT(io_uring_queue_init(8, &ring, 0), 0);
    for (int vectored = 0; vectored < 2; vectored++) {
        EXPECT(ring_read(&ring, odirect, foreign, vectored), -EFAULT);
        EXPECT(ring_read(&ring, odirect, own, vectored), 4096);
        EXPECT(ring_read(&ring, buffered, foreign, vectored), 4096);
    }
    EXPECT(io_uring_register_buffers(&ring, iov, 2), -EFAULT);
    EXPECT(io_uring_register_buffers(&ring, iov, 1), 0);
    EXPECT(pread(odirect, foreign, 4096, 0), -1);
    EXPECT(errno, EFAULT);
    EXPECT(pwritev(odirect, iov, 2, 0), -1);
    EXPECT(pread(odirect, own, 4096, 0), 4096);
    EXPECT(pwrite(buffered, foreign, 4096, 0), 4096);
    xenforeignmemory_unmap(fm, foreign, 1);
    return 0;
}

int role_main(const char *role, domid_t dom)
{
    return !strcmp(role, "--hold") ? hold(dom) : direct(dom);
}

void add_beyond(TCase *tc)
{
    tcase_add_test(tc, panics_are_noted);
    tcase_add_test(tc, misbehaviour);
    tcase_add_test(tc, leftovers_and_late_vcpus);
    tcase_add_test(tc, grants);
    tcase_add_test(tc, passed_fd_keeps_ports);
    tcase_add_test(tc, no_event_is_lost_under_load);
    tcase_add_test(tc, many_guests_on_one_handle);
    tcase_add_test(tc, guests_own_ports);
    tcase_add_test(tc, odd_requests);
    tcase_add_test(tc, direct_io_is_refused);
}
