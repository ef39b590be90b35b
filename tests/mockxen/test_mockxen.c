/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Self test of the mock: an emulator in this process over the shims, guests over guest.h. The rules R1..R28
 * in the form that finds a broken mock fast; tests/conformance compares them with real Xen line by line.
 * Roles as a child: --hold DOMID (an emulator that never answers), --direct DOMID.
 */
#include "test_emu.h"

START_TEST(r1_r6_servers_and_ranges)
{
    evtchn_port_t port = 99;
    ioservid_t id;
    struct emu e;
    size_t size;

    setup_guest(&e, MOCK_HVM, 2);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(xendevicemodel_create_ioreq_server(e.dm, e.dom, i == 1, &id), 0);
        ck_assert_uint_eq(id, i);
    }
    FAILS(xendevicemodel_create_ioreq_server(e.dm, e.dom, 0, &id), ENOSPC);
    FAILS(xendevicemodel_create_ioreq_server(e.dm, e.dom, 3, &id), EINVAL);
    FAILS(xendevicemodel_create_ioreq_server(e.dm, 999, 0, &id), ESRCH);
    FAILS(xendevicemodel_create_ioreq_server(e.dm, 0, 0, &id), EPERM);
    ck_assert_int_eq(xendevicemodel_destroy_ioreq_server(e.dm, e.dom, 3), 0);
    FAILS(xendevicemodel_set_ioreq_server_state(e.dm, e.dom, 3, 1), ENOENT);
    ck_assert_int_eq(xendevicemodel_get_ioreq_server_info(e.dm, e.dom, 0, NULL, NULL, &port), 0);
    ck_assert_uint_eq(port, 0);
    ck_assert_int_eq(xendevicemodel_get_ioreq_server_info(e.dm, e.dom, 1, NULL, NULL, &port), 0);
    ck_assert_uint_gt(port, 0);
    add_server(&e, 0);
    ck_assert_uint_eq(e.id, 3);
    ck_assert_int_eq(xenforeignmemory_resource_size(e.fm, e.dom, XENMEM_resource_ioreq_server, 77, &size), 0);
    ck_assert_uint_eq(size, 8192);
    for (uint64_t i = 0; i < 256; i++) {
        claim(&e, 1, i * 0x1000, i * 0x1000 + 1);
    }
    FAILS(xendevicemodel_map_io_range_to_ioreq_server(e.dm, e.dom, e.id, 1, 0x900000, 0x900000), ENOMEM);
    FAILS(xendevicemodel_map_io_range_to_ioreq_server(e.dm, e.dom, e.id, 1, 0xfff, 0xfff), ENOMEM);
    claim(&e, 1, 0x1002, 0x1003); /* just above one that is there */
    FAILS(xendevicemodel_map_io_range_to_ioreq_server(e.dm, e.dom, e.id, 1, 0, 0), EEXIST);
    FAILS(xendevicemodel_map_io_range_to_ioreq_server(e.dm, e.dom, e.id, 1, 2, 1), EINVAL);
    FAILS(xendevicemodel_unmap_io_range_from_ioreq_server(e.dm, e.dom, e.id, 1, 1, 2), ENOENT);
    ck_assert_int_eq(xendevicemodel_unmap_io_range_from_ioreq_server(e.dm, e.dom, e.id, 1, 0x1001, 0x1003),
                     0);
    ck_assert_uint_eq(e.slot[0].vp_eport, 0);
    enable(&e, 2);
    ck_assert_uint_ne(e.slot[0].vp_eport, e.slot[1].vp_eport);
    teardown(&e);
}
END_TEST

START_TEST(r7_r9_events)
{
    struct emu e;

    setup(&e, MOCK_PVH, 1);
    FAILS(xenevtchn_bind_interdomain(e.ec, e.dom, e.slot[0].vp_eport), EINVAL);
    FAILS(xenevtchn_bind_interdomain(e.ec, e.dom, 500), EINVAL);
    FAILS(xenevtchn_bind_interdomain(e.ec, 999, 1), ESRCH);
    FAILS(xenevtchn_notify(e.ec, 4000), ENOTCONN);
    ck_assert_int_eq(xenevtchn_unmask(e.ec, 4000), 0);
    /* A request answered and freed without unmask, then another: its event waits for the unmask. */
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    (void)take(&e, 0);
    store(&e, 0, 1);
    xenevtchn_notify(e.ec, (evtchn_port_t)e.local[0]);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    ck_assert(!event_within(&e, 50));
    ck_assert_int_eq(write(xenevtchn_fd(e.ec), &e.local[0], 4), 4); /* write on the fd unmasks */
    (void)take(&e, 0);
    ck_assert(!event_within(&e, 50));
    answer(&e, 0, 2);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    teardown(&e);
}
END_TEST

START_TEST(r10_r12_answers)
{
    uint64_t value = 0;
    struct ioreq r;
    struct emu e;

    setup(&e, MOCK_HVM, 2);
    ck_assert_int_eq(
        mock_access_start(
            e.g, 1, &(struct mock_access){ .space = MOCK_PIO, .size = 1, .addr = PORT + 1, .data = 0x1234 }),
        0);
    r = take(&e, 1);
    ck_assert(r.type == IOREQ_TYPE_PIO && r.dir == IOREQ_WRITE && r.size == 1 && r.count == 1 &&
              r.data == 0x34);
    answer(&e, 1, 0);
    ck_assert_int_eq(mock_access_wait(e.g, 1, 2000, NULL), MOCK_DONE);
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    (void)take(&e, 0);
    store(&e, 0, 0xabcdef77);
    xenevtchn_unmask(e.ec, (evtchn_port_t)e.local[0]);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 50, NULL), MOCK_BLOCKED); /* no notify: it sleeps */
    ck_assert_int_eq(xendevicemodel_set_ioreq_server_state(e.dm, e.dom, e.id, 0), 0);
    xenevtchn_notify(e.ec, (evtchn_port_t)e.local[0]);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, &value), MOCK_DONE);
    ck_assert_uint_eq(value, 0x77);
    ck_assert_uint_eq(e.slot[0].state, STATE_IOREQ_NONE);
    ck_assert_uint_eq(vcpu_inl(e.g, 0, PORT), 0xffffffff); /* disabled */
    ck_assert_int_eq(xendevicemodel_set_ioreq_server_state(e.dm, e.dom, e.id, 1), 0);
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    (void)take(&e, 0);
    e.slot[0].state = STATE_IOREQ_NONE;
    xenevtchn_notify(e.ec, (evtchn_port_t)e.local[0]);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, &value), MOCK_DONE);
    ck_assert_uint_eq(value, 0xff);
    teardown(&e);
}
END_TEST

START_TEST(r13_r18_routing)
{
    struct mock_access config = { .space = MOCK_PIO, .read = true, .size = 2, .addr = 0xcfe };
    struct emu e, second;
    struct ioreq r;

    setup(&e, MOCK_PVH, 1);
    second = e;
    add_server(&second, 0);
    claim(&second, 0, PORT, PORT + 1);
    claim(&second, 0, 0xcfc, 0xcff);
    enable(&second, 1);
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    (void)take(&second, 0); /* the higher id */
    answer(&second, 0, 5);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    ck_assert_int_eq(
        mock_access_start(e.g, 0,
                          &(struct mock_access){ .space = MOCK_PIO, .read = true, .size = 4, .addr = PORT }),
        0);
    (void)take(&e, 0); /* the second claims half of it only */
    answer(&e, 0, 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    ck_assert_uint_eq(vcpu_inl(e.g, 0, PORT + 14), 0xffffffff);
    ck_assert_int_eq(xendevicemodel_map_pcidev_to_ioreq_server(e.dm, e.dom, e.id, 0, 0, 5, 1), 0);
    FAILS(xendevicemodel_map_pcidev_to_ioreq_server(e.dm, e.dom, e.id, 0, 0, 32, 0), EINVAL);
    vcpu_outl(e.g, 0, 0xcf8, 0x80000000u | 5 << 11 | 1 << 8 | 0x40);
    ck_assert_uint_eq(vcpu_inl(e.g, 0, 0xcf8), 0xffffffff);
    ck_assert_int_eq(mock_access_start(e.g, 0, &config), 0);
    r = take(&e, 0);
    ck_assert_uint_eq(r.type, IOREQ_TYPE_PCI_CONFIG);
    ck_assert_uint_eq(r.addr, (uint64_t)(5 << 3 | 1) << 32 | 0x42);
    answer(&e, 0, 0x1af4);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    xenforeignmemory_unmap_resource(second.fm, second.res);
    teardown(&e);
}
END_TEST

START_TEST(r15_r16_strings_and_splits)
{
    struct mock_access outs = { .space = MOCK_PIO, .rep = true, .size = 4, .addr = PORT, .data = 0x10000,
                                .count = 2000 };
    struct mock_access wide = { .space = MOCK_MMIO, .read = true, .size = 4, .addr = MMIO + 0xffe };
    uint64_t value;
    struct ioreq r;
    struct emu e;

    setup(&e, MOCK_HVM, 1);
    ck_assert_int_eq(mock_access_start(e.g, 0, &outs), 0);
    r = take(&e, 0);
    ck_assert(r.data_is_ptr && r.count == 1024 && r.data == 0x10000 && r.addr == PORT && r.size == 4);
    answer(&e, 0, r.data);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 20, NULL), MOCK_BLOCKED);
    r = take(&e, 0);
    ck_assert(r.data_is_ptr && r.count == 976 && r.data == 0x11000);
    answer(&e, 0, r.data);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    ck_assert_int_eq(mock_access_start(e.g, 0, &wide), 0);
    r = take(&e, 0);
    ck_assert(r.addr == MMIO + 0xffe && r.size == 2);
    answer(&e, 0, 0x2211);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 20, NULL), MOCK_BLOCKED);
    r = take(&e, 0);
    ck_assert(r.addr == MMIO + 0x1000 && r.size == 2);
    answer(&e, 0, 0x4433);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, &value), MOCK_DONE);
    ck_assert_uint_eq(value, 0x44332211);
    memset(mock_guest_ram(e.g, 0x20000, 16), 0, 16);
    ck_assert_int_eq(vcpu_rep_ins(e.g, 0, 0x700, 2, 0x20000, 4, false),
                     MOCK_DONE); /* nobody's: RAM filled with ff */
    ck_assert_uint_eq(*(uint64_t *)mock_guest_ram(e.g, 0x20000, 8), UINT64_MAX);
    teardown(&e);
}
END_TEST

START_TEST(r19_r22_memory)
{
    xen_pfn_t gfns[2] = { 0x100, 0xf0000 };
    int err[2] = { 1, 1 };
    struct mock_domain_info info;
    struct ioreq r;
    struct emu e;
    char *p, *ram;

    setup(&e, MOCK_PVH, 1);
    ram = mock_guest_ram(e.g, 0x100000, 4096);
    strcpy(ram, "old page");
    p = xenforeignmemory_map(e.fm, e.dom, PROT_READ | PROT_WRITE, 2, gfns, err);
    ck_assert_ptr_nonnull(p);
    ck_assert(err[0] == 0 && err[1] == -EINVAL);
    ck_assert_str_eq(p, "old page");
    ck_assert_ptr_null(xenforeignmemory_map(e.fm, e.dom, PROT_READ, 2, gfns, NULL));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_ptr_nonnull(xenforeignmemory_map(e.fm, 999, PROT_READ, 1, gfns, err));
    ck_assert_int_eq(err[0], -ESRCH);
    ck_assert_int_eq(mock_decrease_reservation_start(e.g, 0, 0x100, 1), 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 20, NULL), MOCK_BLOCKED);
    r = take(&e, 0);
    ck_assert(r.type == IOREQ_TYPE_INVALIDATE && r.count == 0);
    answer(&e, 0, 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    ck_assert_ptr_null(mock_guest_ram(e.g, 0x100000, 1));
    ck_assert_str_eq(p, "old page");
    ck_assert_int_eq(mock_populate(e.g, 0x100, 1), 0);
    ck_assert_int_eq(*(char *)mock_guest_ram(e.g, 0x100000, 1), 0);
    ck_assert_str_eq(p, "old page");
    mock_domain_info(e.g, &info);
    ck_assert_uint_eq(info.foreign_pages, 1);
    ck_assert_int_eq(xenforeignmemory_unmap(e.fm, p, 2), 0);
    mock_domain_info(e.g, &info);
    ck_assert_uint_eq(info.foreign_pages, 0);
    teardown(&e);
}
END_TEST

START_TEST(r20_r28_death)
{
    struct mock_domain_info info;
    struct mock_daemon *d;
    evtchn_port_t port;
    struct emu e;
    xen_pfn_t gfn = 1;
    void *page = NULL, *map;
    int err;

    setup_guest(&e, MOCK_PVH, 1);
    d = spawn_self(&e, "--hold");
    ck_assert_msg(mock_daemon_wait_log(d, "ready", 5000) == 0, "%s", mock_daemon_log(d));
    e.res = xenforeignmemory_map_resource(e.fm, e.dom, XENMEM_resource_ioreq_server, 0, 1, 1, &page,
                                          PROT_READ | PROT_WRITE, 0);
    e.slot = page;
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    FAILS(xenevtchn_bind_interdomain(e.ec, e.dom, e.slot[0].vp_eport), EINVAL);
    mock_daemon_signal(d, SIGKILL);
    ck_assert_int_eq(mock_daemon_wait(d, 5000, NULL), 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 20, NULL), MOCK_BLOCKED);
    ck_assert_uint_eq(e.slot[0].state, STATE_IOREQ_READY);
    e.local[0] = xenevtchn_bind_interdomain(e.ec, e.dom, e.slot[0].vp_eport);
    (void)take(&e, 0);
    answer(&e, 0, 0x42);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    ck_assert_int_eq(mock_access_start(e.g, 0, &in_b), 0);
    map = xenforeignmemory_map(e.fm, e.dom, PROT_READ, 1, &gfn, &err);
    ck_assert_int_eq(err, 0);
    ck_assert_int_eq(mock_domain_kill(e.g), 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DEAD);
    FAILS(xendevicemodel_get_ioreq_server_info(e.dm, e.dom, 0, NULL, NULL, &port), ENOENT);
    ck_assert_int_eq(xenevtchn_notify(e.ec, (evtchn_port_t)e.local[0]), 0);
    xenforeignmemory_unmap_resource(e.fm, e.res);
    e.res = NULL;
    mock_domain_info(e.g, &info);
    ck_assert(info.exists && info.dying && info.foreign_pages == 1);
    xenforeignmemory_unmap(e.fm, map, 1);
    FAILS(xendevicemodel_get_ioreq_server_info(e.dm, e.dom, 0, NULL, NULL, &port), ESRCH);
    mock_domain_info(e.g, &info);
    ck_assert(!info.exists);
    mock_daemon_free(d);
    teardown(&e);
}
END_TEST

START_TEST(r23_r25_interrupts)
{
    unsigned gsi = mock_intx_gsi(3, 0);
    uint64_t lost;
    struct emu e;

    setup_guest(&e, MOCK_HVM, 1);
    FAILS(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0), ERANGE);
    FAILS(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0x241), EINVAL);
    FAILS(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee0a000, 0x141), ESRCH);
    ck_assert_int_eq(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee0a000, 0x41), 0);
    ck_assert_int_eq(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0x41), 0);
    ck_assert_int_eq(mock_msi_wait(e.g, 0xfee00000, 0x41, 1, 1000), 0);
    ck_assert_uint_eq(mock_msi_total(e.g, &lost), 1);
    ck_assert_uint_eq(lost, 1);
    FAILS(xendevicemodel_set_irq_level(e.dm, e.dom, 40, 1), EOPNOTSUPP);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(xendevicemodel_set_pci_intx_level(e.dm, e.dom, 0, 0, 3, 0, 1), 0);
    }
    ck_assert_uint_eq(mock_gsi_count(e.g, gsi), 1);
    mock_gsi_eoi(e.g, gsi);
    ck_assert_uint_eq(mock_gsi_count(e.g, gsi), 2);
    ck_assert_int_eq(xendevicemodel_set_pci_intx_level(e.dm, e.dom, 0, 0, 3, 0, 0), 0);
    mock_gsi_eoi(e.g, gsi);
    ck_assert_uint_eq(mock_gsi_count(e.g, gsi), 2);
    ck_assert_int_eq(mock_gsi_wait_level(e.g, gsi, false, 100), 0);
    ck_assert_uint_eq(mock_panics(e.mock), 0);
    teardown(&e);
    setup_guest(&e, MOCK_ARM64, 1);
    FAILS(xendevicemodel_set_irq_level(e.dm, e.dom, 31, 1), EINVAL);
    FAILS(xendevicemodel_set_irq_level(e.dm, e.dom, 40, 2), EINVAL);
    FAILS(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0x41), EOPNOTSUPP);
    ck_assert_int_eq(xendevicemodel_set_irq_level(e.dm, e.dom, 40, 1), 0);
    ck_assert_int_eq(xendevicemodel_set_irq_level(e.dm, e.dom, 40, 1), 0);
    ck_assert_uint_eq(mock_spi_count(e.g, 40), 1);
    ck_assert_int_eq(mock_spi_take(e.g, 40, 100), 0);
    ck_assert_int_eq(mock_spi_take(e.g, 40, 20), -ETIMEDOUT);
    teardown(&e);
}
END_TEST

START_TEST(r26_restricted)
{
    struct mock_guest *other;
    xengnttab_handle *gnt;
    xen_pfn_t gfn = 1;
    uint32_t ref = 8;
    struct emu e;

    setup(&e, MOCK_PVH, 1);
    other = mock_domain_new(e.mock, MOCK_PVH, RAM, 1);
    gnt = xengnttab_open(NULL, 0);
    ck_assert_int_eq(xentoolcore_restrict_all(e.dom), 0);
    FAILS(xendevicemodel_set_ioreq_server_state(e.dm, mock_domid(other), 0, 1), EPERM);
    FAILS(xendevicemodel_inject_msi(e.dm, mock_domid(other), 0xfee00000, 0x41), EPERM);
    ck_assert_ptr_null(xenforeignmemory_map(e.fm, mock_domid(other), PROT_READ, 1, &gfn, NULL));
    ck_assert_int_eq(errno, EPERM);
    FAILS(xenevtchn_bind_interdomain(e.ec, mock_domid(other), 1), EACCES);
    FAILS(xenevtchn_bind_unbound_port(e.ec, e.dom), EACCES);
    ck_assert_ptr_null(xengnttab_map_grant_ref(gnt, e.dom, ref, PROT_READ));
    ck_assert_int_eq(xentoolcore_restrict_all(e.dom), -1);
    ck_assert_int_eq(xendevicemodel_inject_msi(e.dm, e.dom, 0xfee00000, 0x41), 0);
    mock_guest_free(other);
    xengnttab_close(gnt);
    teardown(&e);
}
END_TEST

START_TEST(r27_buffered_ring)
{
    evtchn_port_t port;
    struct emu e;
    uint32_t *ring;
    struct ioreq r;

    setup_guest(&e, MOCK_HVM, 1);
    add_server(&e, HVM_IOREQSRV_BUFIOREQ_ATOMIC);
    claim(&e, 1, 0xa0000, 0xbffff);
    enable(&e, 1);
    ring = (uint32_t *)((char *)e.slot - 4096);
    ck_assert_int_eq(xendevicemodel_get_ioreq_server_info(e.dm, e.dom, e.id, NULL, NULL, &port), 0);
    ck_assert_int_gt(xenevtchn_bind_interdomain(e.ec, e.dom, port), 0);
    (void)xenevtchn_pending(e.ec);
    for (unsigned i = 0; i < 511; i++) {
        vcpu_mmio_write(e.g, 0, 0xa0000 + i, 1, i);
    }
    ck_assert_uint_eq(ring[1] - ring[0], 511);
    ck_assert_uint_eq(ring[2 + 2 * 7] >> 12, 0xa0007);
    ck_assert_uint_eq(ring[3 + 2 * 7], 7);
    ck_assert_int_eq(
        mock_access_start(
            e.g, 0, &(struct mock_access){ .space = MOCK_MMIO, .size = 1, .addr = 0xa0000, .data = 0x5a }),
        0);
    r = take(&e, 0);
    ck_assert(r.type == IOREQ_TYPE_COPY && r.data == 0x5a);
    answer(&e, 0, 0);
    ck_assert_int_eq(mock_access_wait(e.g, 0, 2000, NULL), MOCK_DONE);
    teardown(&e);
}
END_TEST

int main(int argc, char **argv)
{
    SRunner *runner;
    Suite *suite;
    TCase *rules;
    int failed;

    if (argc == 3) {
        return role_main(argv[1], (domid_t)atoi(argv[2]));
    }
    suite = suite_create("mockxen");
    rules = tcase_create("rules");
    tcase_set_timeout(rules, 30);
    tcase_add_test(rules, r1_r6_servers_and_ranges);
    tcase_add_test(rules, r7_r9_events);
    tcase_add_test(rules, r10_r12_answers);
    tcase_add_test(rules, r13_r18_routing);
    tcase_add_test(rules, r15_r16_strings_and_splits);
    tcase_add_test(rules, r19_r22_memory);
    tcase_add_test(rules, r20_r28_death);
    tcase_add_test(rules, r23_r25_interrupts);
    tcase_add_test(rules, r26_restricted);
    tcase_add_test(rules, r27_buffered_ring);
    add_beyond(rules);
    suite_add_tcase(suite, rules);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
