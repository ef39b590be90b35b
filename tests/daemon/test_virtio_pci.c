/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-pci as its driver sees it: configuration space, BARs, capabilities, MSI-X, INTx (VIRTIO 1.2,
 * section 4.1; PCI 3.0). */
#include <check.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk_hand.h"

#define MOVED_TO 0xe8000000u

static struct rig rig;

static uint32_t get(unsigned offset, unsigned width)
{
    return vcpu_pci_read(rig.f.guest, 0, rig.driver.pci.sbdf, offset, width);
}

static void set(unsigned offset, unsigned width, uint32_t value)
{
    vcpu_pci_write(rig.f.guest, 0, rig.driver.pci.sbdf, offset, width, value);
}

static uint64_t common(unsigned offset, unsigned width)
{
    return vcpu_mmio_read(rig.f.guest, 0, rig.driver.pci.common + offset, width);
}

static void set_common(unsigned offset, unsigned width, uint64_t value)
{
    vcpu_mmio_write(rig.f.guest, 0, rig.driver.pci.common + offset, width, value);
}

START_TEST(header)
{
    rig_open(&rig, (enum rig_place)_i, "");
    ck_assert_uint_eq(get(PCI_VENDOR_ID, 4), 0x10421af4);
    ck_assert_uint_ge(get(PCI_REVISION_ID, 1), 1);          /* 4.1.2.1: not transitional */
    ck_assert_uint_eq(get(PCI_CLASS_REVISION, 4) >> 24, 1); /* mass storage */
    ck_assert_uint_eq(get(PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_NORMAL);
    ck_assert_uint_eq(get(PCI_ROM_ADDRESS, 4), 0);
    set(PCI_ROM_ADDRESS, 4, 0xffffffff);
    ck_assert_uint_eq(get(PCI_ROM_ADDRESS, 4) & 1, 0);
    /* Bytes and words are parts of the same dwords. */
    for (unsigned offset = 0; offset < 64; offset += 4) {
        uint32_t word = get(offset, 4);
        for (unsigned i = 0; i < 4; i++) {
            ck_assert_uint_eq(get(offset + i, 1), word >> 8 * i & 0xff);
        }
        ck_assert_uint_eq(get(offset, 2), word & 0xffff);
        ck_assert_uint_eq(get(offset + 2, 2), word >> 16);
    }
    /* Read-only fields. */
    uint32_t ids = get(PCI_VENDOR_ID, 4), class = get(PCI_CLASS_REVISION, 4),
             system = get(PCI_SUBSYSTEM_VENDOR_ID, 4);
    set(PCI_VENDOR_ID, 4, 0);
    set(PCI_CLASS_REVISION, 4, 0);
    set(PCI_SUBSYSTEM_VENDOR_ID, 4, ~system);
    set(PCI_CAPABILITY_LIST, 1, 0);
    ck_assert_uint_eq(get(PCI_VENDOR_ID, 4), ids);
    ck_assert_uint_eq(get(PCI_CLASS_REVISION, 4), class);
    ck_assert_uint_eq(get(PCI_SUBSYSTEM_VENDOR_ID, 4), system);
    ck_assert_uint_ne(get(PCI_CAPABILITY_LIST, 1), 0);
    set(PCI_INTERRUPT_LINE, 1, 0x0b); /* scratch for software */
    ck_assert_uint_eq(get(PCI_INTERRUPT_LINE, 1), 0x0b);
    rig_stop(&rig);
}
END_TEST

START_TEST(functions_that_are_not_there)
{
    rig_open(&rig, (enum rig_place)_i, "");
    static const uint16_t absent[] = {5 << 3 | 1, 5 << 3 | 7, 7 << 3, 31 << 3};
    for (unsigned i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        ck_assert_uint_eq(vcpu_pci_read(rig.f.guest, 0, absent[i], 0, 4), 0xffffffff);
        vcpu_pci_write(rig.f.guest, 0, absent[i], PCI_COMMAND, 2, 7);
    }
    rig_stop(&rig);
}
END_TEST

START_TEST(base_addresses)
{
    rig_open(&rig, (enum rig_place)_i, "");
    unsigned found = 0;
    for (unsigned bar = 0; bar < 6; bar++) {
        uint64_t size = rig.driver.pci.bar_sizes[bar];
        if (size) {
            found++;
            ck_assert_uint_ge(size, 4096);
            ck_assert_uint_eq(rig.driver.pci.bars[bar] % size, 0);
            /* The low bits are hard-wired: an address is rounded down. */
            uint32_t old = get(PCI_BASE_ADDRESS_0 + 4 * bar, 4);
            set(PCI_BASE_ADDRESS_0 + 4 * bar, 4, old | 0xff0);
            ck_assert_uint_eq(get(PCI_BASE_ADDRESS_0 + 4 * bar, 4), old | (0xff0 & (uint32_t) ~(size - 1)));
            set(PCI_BASE_ADDRESS_0 + 4 * bar, 4, old);
        }
    }
    ck_assert_uint_ge(found, 1);
    rig_stop(&rig);
}
END_TEST

START_TEST(virtio_structures)
{
    rig_open(&rig, (enum rig_place)_i, ",queues=4");
    const struct virtio_pci_place *pci = &rig.driver.pci;
    ck_assert_uint_ne(pci->common, 0);
    ck_assert_uint_ne(pci->device, 0);
    ck_assert_uint_ne(pci->config_window, 0); /* 4.1.4.9: at least one */
    ck_assert_uint_eq(pci->common % 4, 0);
    ck_assert_uint_eq(pci->notify % 2, 0);
    ck_assert_uint_eq(pci->device % 4, 0);
    ck_assert((pci->notify_multiplier & (pci->notify_multiplier - 1)) == 0 && pci->notify_multiplier != 1);
    ck_assert_uint_ge(pci->msix_vectors, 5); /* one for each queue and one for the configuration */
    ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_NUMQ, 2), 4);
    set_common(VIRTIO_PCI_COMMON_NUMQ, 2, 9);
    ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_NUMQ, 2), 4);
    static const uint16_t beyond[] = {4, 5, 64, 0x8000, 0xffff};
    for (unsigned i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        set_common(VIRTIO_PCI_COMMON_Q_SELECT, 2, beyond[i]);
        ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
        set_common(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
        ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
    }
    for (uint32_t select = 2; select; select <<= 1) {
        set_common(VIRTIO_PCI_COMMON_DFSELECT, 4, select);
        ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_DF, 4), 0);
    }
    rig_start_disk(&rig, VIRTIO_BLK_ALL, 4, 0);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

START_TEST(decoding_is_switched_off_and_on)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint8_t status = virtio_status(&rig.driver);
    uint32_t command = get(PCI_COMMAND, 2);
    ck_assert_uint_eq(command & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER),
                      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    set(PCI_COMMAND, 2, command & ~(uint32_t)PCI_COMMAND_MEMORY);
    ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_STATUS, 1), 0xff);
    set_common(VIRTIO_PCI_COMMON_STATUS, 1, 0); /* reaches nobody */
    set(PCI_COMMAND, 2, command);
    ck_assert_uint_eq(virtio_status(&rig.driver), status);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

static void move_by(uint64_t distance)
{
    struct virtio_pci_place *pci = &rig.driver.pci;
    for (unsigned bar = 0; bar < 6; bar++) {
        if (pci->bars[bar]) {
            pci->bars[bar] += distance;
            set(PCI_BASE_ADDRESS_0 + 4 * bar, 4, (uint32_t)pci->bars[bar]);
        }
    }
    pci->common += distance;
    pci->notify += distance;
    pci->isr += distance;
    pci->device += distance;
    pci->msix_table += distance;
    rig.driver.queues[0]->notify_gpa += distance;
}

/* Firmware and kernels move BARs; with decoding on, too. */
START_TEST(base_addresses_move)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint64_t old = rig.driver.pci.common;
    uint8_t status = virtio_status(&rig.driver);
    move_by(MOVED_TO - 0xe0000000u);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, old + VIRTIO_PCI_COMMON_STATUS, 1), 0xff);
    ck_assert_uint_eq(virtio_status(&rig.driver), status);
    rig_expect_disk_works(&rig.blk);
    move_by((uint64_t)0xe0000000u - MOVED_TO);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* One BAR over another function's: no error, and each works where it can be seen; afterwards all is as
 * before. */
START_TEST(base_addresses_overlap)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    const uint64_t there = rig.other_driver.pci.common & ~0xfffffull;
    uint64_t distance = there - (rig.driver.pci.common & ~0xfffffull);
    move_by(distance);
    rig_expect_daemon_lives(&rig);
    virtio_status(&rig.driver);
    move_by(-distance);
    rig_expect_disk_works(&rig.blk);
    rig_expect_disk_works(&rig.other);
    rig_stop(&rig);
}
END_TEST

/* Without bus mastering the device must not touch memory. */
START_TEST(no_dma_without_bus_mastering)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint32_t command = get(PCI_COMMAND, 2);
    struct hand hand = hand_make(&rig);
    set(PCI_COMMAND, 2, command & ~(uint32_t)PCI_COMMAND_MASTER);
    hand_sound(&hand);
    hand_offer(&hand, 0);
    virtio_queue_publish(hand.queue);
    virtio_queue_notify(hand.queue);
    ck_assert_int_eq(hand_see(&hand, 100), IGNORED);
    set(PCI_COMMAND, 2, command);
    virtio_queue_notify(hand.queue);
    ck_assert_int_eq(hand_see(&hand, 5000), SERVED);
    rig_stop(&rig);
}
END_TEST

/* ---- interrupts ---- */

/* One flush; it is used before the call returns, with its interrupt or without. */
static void flush_polled(void)
{
    struct virtio_queue *queue = rig.driver.queues[0];
    struct virtio_blk_request *request = virtio_blk_begin(&rig.blk, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_int_eq(virtio_blk_put(&rig.blk, 0, request, NULL, 0, false), 0);
    queue->avail->ring[queue->size] = queue->next_used; /* the next one interrupts (used_event) */
    virtio_queue_kick(queue);
    for (unsigned i = 0; *request->status == 0xff && i < 5000; i++) {
        rest_ms(1);
    }
    void *done = NULL;
    for (unsigned i = 0; !done && i < 5000; i++) {
        done = virtio_queue_take(queue, NULL);
        rest_ms(!done);
    }
    ck_assert_ptr_eq(done, request);
    ck_assert_uint_eq(virtio_blk_end(&rig.blk, request), VIRTIO_BLK_S_OK);
    rest_ms(20); /* what interrupt there may be has come */
}

static uint64_t queue_interrupts(void)
{
    return mock_msi_count(rig.f.guest, VIRTIO_MSI_ADDRESS,
                          rig.driver.msi_data + rig.driver.queues[0]->vector);
}

static unsigned pending_bit(unsigned vector)
{
    uint32_t pba = get(rig.driver.pci.msix + PCI_MSIX_PBA, 4);
    uint64_t at = rig.driver.pci.bars[pba & PCI_MSIX_PBA_BIR] + (pba & PCI_MSIX_PBA_OFFSET) + vector / 32 * 4;
    return vcpu_mmio_read(rig.f.guest, 0, at, 4) >> vector % 32 & 1;
}

START_TEST(msix_masks)
{
    rig_start(&rig, (enum rig_place)_i, "");
    unsigned vector = rig.driver.queues[0]->vector, data = rig.driver.msi_data + vector;
    uint64_t before = queue_interrupts();
    flush_polled();
    ck_assert_uint_eq(queue_interrupts(), before + 1);
    /* one vector masked */
    virtio_pci_set_vector(&rig.driver, vector, VIRTIO_MSI_ADDRESS, data, true);
    flush_polled();
    flush_polled();
    ck_assert_uint_eq(queue_interrupts(), before + 1);
    ck_assert_uint_eq(pending_bit(vector), 1);
    virtio_pci_set_vector(&rig.driver, vector, VIRTIO_MSI_ADDRESS, data, false);
    ck_assert_int_eq(mock_msi_wait(rig.f.guest, VIRTIO_MSI_ADDRESS, data, before + 2, 5000), 0);
    ck_assert_uint_eq(queue_interrupts(), before + 2); /* two causes, one pending bit */
    ck_assert_uint_eq(pending_bit(vector), 0);
    /* the function masked */
    set(rig.driver.pci.msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    flush_polled();
    ck_assert_uint_eq(queue_interrupts(), before + 2);
    ck_assert_uint_eq(pending_bit(vector), 1);
    set(rig.driver.pci.msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
    ck_assert_int_eq(mock_msi_wait(rig.f.guest, VIRTIO_MSI_ADDRESS, data, before + 3, 5000), 0);
    ck_assert_uint_eq(pending_bit(vector), 0);
    rig_stop(&rig);
}
END_TEST

START_TEST(msix_table_belongs_to_the_guest)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint64_t entry = rig.driver.pci.msix_table;
    virtio_pci_set_vector(&rig.driver, 0, 0x123456789abcdef0, 0xdeadbeef, true);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, entry, 4), 0x9abcdef0);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, entry + 4, 4), 0x12345678);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, entry + 8, 4), 0xdeadbeef);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, entry + 12, 4) & 1, 1);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, entry, 8), 0x123456789abcdef0);
    /* The pending bits are read-only, and what lies behind the table is nobody's. */
    uint32_t pba = get(rig.driver.pci.msix + PCI_MSIX_PBA, 4);
    uint64_t at = rig.driver.pci.bars[pba & PCI_MSIX_PBA_BIR] + (pba & PCI_MSIX_PBA_OFFSET);
    vcpu_mmio_write(rig.f.guest, 0, at, 8, UINT64_MAX);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, at, 8), 0);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* 4.1.5.1.2: a vector that does not exist reads back as NO_VECTOR, and then nothing is sent. */
START_TEST(vectors_that_do_not_exist)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint64_t total = mock_msi_total(rig.f.guest, NULL);
    set_common(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
    set_common(VIRTIO_PCI_COMMON_Q_MSIX, 2, rig.driver.pci.msix_vectors);
    ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
    set_common(VIRTIO_PCI_COMMON_MSIX, 2, 0x7fff);
    ck_assert_uint_eq(common(VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
    flush_polled();
    ck_assert_uint_eq(mock_msi_total(rig.f.guest, NULL), total);
    rig_stop(&rig);
}
END_TEST

START_TEST(intx)
{
    rig_start(&rig, (enum rig_place)_i, "");
    struct mock_guest *guest = rig.f.guest;
    unsigned line = rig.driver.line;
    flush_polled();
    ck_assert_uint_eq(mock_gsi_level(guest, line), 1);
    ck_assert_uint_eq(get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
    /* the disable bit takes the wire, not the status */
    uint32_t command = get(PCI_COMMAND, 2);
    set(PCI_COMMAND, 2, command | PCI_COMMAND_INTX_DISABLE);
    ck_assert_uint_eq(mock_gsi_level(guest, line), 0);
    ck_assert_uint_eq(get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, PCI_STATUS_INTERRUPT);
    set(PCI_COMMAND, 2, command);
    ck_assert_uint_eq(mock_gsi_level(guest, line), 1);
    ck_assert_uint_eq(rig.driver.transport->interrupt_status(&rig.driver), 1);
    ck_assert_uint_eq(mock_gsi_level(guest, line), 0);
    ck_assert_uint_eq(get(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
    ck_assert_uint_eq(rig.driver.transport->interrupt_status(&rig.driver), 0); /* reading cleared it */
    mock_gsi_eoi(guest, line);
    /* a reset lowers it too */
    flush_polled();
    ck_assert_uint_eq(mock_gsi_level(guest, line), 1);
    ck_assert_int_eq(virtio_reset(&rig.driver), 0);
    ck_assert_uint_eq(mock_gsi_level(guest, line), 0);
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* ---- the window in configuration space (4.1.4.9) ---- */

static void aim(unsigned bar, uint32_t offset, uint32_t length)
{
    unsigned at = rig.driver.pci.config_window;
    set(at + VIRTIO_PCI_CAP_BAR, 1, bar);
    set(at + VIRTIO_PCI_CAP_OFFSET, 4, offset);
    set(at + VIRTIO_PCI_CAP_LENGTH, 4, length);
}

START_TEST(configuration_window)
{
    rig_open(&rig, (enum rig_place)_i, "");
    const struct virtio_pci_place *pci = &rig.driver.pci;
    unsigned data = pci->config_window + sizeof(struct virtio_pci_cap);
    unsigned bar = 0;
    while (bar < 6 && !(pci->bars[bar] && pci->common >= pci->bars[bar] &&
                        pci->common < pci->bars[bar] + pci->bar_sizes[bar])) {
        bar++;
    }
    ck_assert_uint_lt(bar, 6);
    uint32_t base = (uint32_t)(pci->common - pci->bars[bar]);
    aim(bar, base + VIRTIO_PCI_COMMON_STATUS, 1);
    set(data, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    ck_assert_uint_eq(get(data, 1), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    ck_assert_uint_eq(virtio_status(&rig.driver), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    aim(bar, base + VIRTIO_PCI_COMMON_NUMQ, 2);
    ck_assert_uint_eq(get(data, 2), 1);
    /* Aimed at nothing, at a forbidden width, out of every BAR: nothing happens to anybody. */
    static const uint32_t lengths[] = {0, 3, 5, 8, 0xffffffff};
    for (unsigned i = 0; i < 5; i++) {
        aim(bar, base, lengths[i]);
        get(data, 4);
        set(data, 4, 0xffffffff);
    }
    for (unsigned i = 0; i < 256; i += 17) {
        aim(i, 0xfffffffc - i, 4);
        get(data, 4);
        set(data, 4, 0);
    }
    ck_assert_uint_eq(virtio_status(&rig.driver), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    rig_start_disk(&rig, VIRTIO_BLK_ALL, 1, 0);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* Each test is a case of its own, so that CK_RUN_CASE=name runs it alone. From place `from` to before
 * `to`. */
#define ADD(test, from, to)                                                                                  \
    do {                                                                                                     \
        TCase *tests = tcase_create(#test);                                                                  \
        tcase_set_timeout(tests, 180);                                                                       \
        tcase_add_loop_test(tests, test, from, to);                                                          \
        suite_add_tcase(suite, tests);                                                                       \
    } while (0)

int main(void)
{
    Suite *suite = suite_create("virtio-pci");
    ADD(header, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(functions_that_are_not_there, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(base_addresses, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(virtio_structures, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(decoding_is_switched_off_and_on, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(base_addresses_move, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(base_addresses_overlap, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(no_dma_without_bus_mastering, PLACE_PCI_MSIX_HVM, PLACES);
    ADD(msix_masks, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(msix_masks, PLACE_PCI_MSIX_PVH, PLACE_PCI_MSIX_PVH + 1);
    ADD(msix_table_belongs_to_the_guest, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(vectors_that_do_not_exist, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(intx, PLACE_PCI_INTX_HVM, PLACE_PCI_INTX_HVM + 1);
    ADD(configuration_window, PLACE_PCI_MSIX_HVM, PLACES);
    return fixture_main(suite);
}
