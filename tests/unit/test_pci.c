/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI functions as a guest sees them: header, sizing, relocation, slots, capabilities, interrupts, load. */
#include <errno.h>
#include <linux/pci_regs.h>

#include <ioreqd/pci.h>

#include "fake_guest.h"
#include "unit.h"

static struct guest *guest;
static const struct iod_pci_ids ids = {.vendor = 0x1af4, .device = 0x1042, .subsystem_vendor = 0x5853,
                                       .subsystem = 0x1042, .class_code = 0x010203, .revision = 7};
static const struct iod_region_ops no_ops = {.size = sizeof(no_ops), .widths = 4};

static void setup(void)
{
    guest = fake_guest(ARCH_X86, GUEST_HVM);
}

static void teardown(void)
{
    fake_guest_free(guest);
}

static struct iod_pci *add(struct iod_device **device, const char *id)
{
    struct iod_error error = {0};
    struct iod_pci *pci;

    *device = fake_device(guest, id);
    pci = iod_pci_add(*device, &ids, -1, NULL, NULL, &error);
    ck_assert_msg(pci != NULL, "%s", error.text);
    return pci;
}

static struct iod_region *add_bar(struct iod_device *device, struct iod_pci *pci, unsigned index,
                                  enum iod_pci_bar kind, uint64_t length)
{
    struct iod_region *region = iod_region_add(device, "test", length, &no_ops, NULL);
    struct iod_error error = {0};

    ck_assert_msg(iod_pci_bar(pci, index, kind, region, &error) == 0, "%s", error.text);
    return region;
}

START_TEST(header)
{
    struct iod_device *device;

    add(&device, "a");
    ck_assert_uint_eq(fake_config_read(guest, 4, 0, 4), 0x10421af4);
    ck_assert_uint_eq(fake_config_read(guest, 4, 8, 4), 0x01020307);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x2c, 4), 0x10425853);
    ck_assert_uint_eq(fake_config_read(guest, 4, 2, 2), 0x1042);
    ck_assert_uint_eq(fake_config_read(guest, 4, 3, 1), 0x10);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x0e, 1), 0);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_ROM_ADDRESS, 4), 0);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_STATUS, 2), 0);
    fake_config_write(guest, 4, 0, 4, 0);
    fake_config_write(guest, 4, PCI_ROM_ADDRESS, 4, UINT32_MAX);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0, 4), 0x10421af4);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_ROM_ADDRESS, 4), 0);
    fake_config_write(guest, 4, PCI_INTERRUPT_LINE, 1, 11);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_INTERRUPT_LINE, 1), 11);
    fake_config_write(guest, 4, PCI_COMMAND, 2, 0xffff);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_COMMAND, 2),
                      PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
    fake_device_free(device);
}
END_TEST

START_TEST(accesses_past_a_dword_and_past_the_end)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8}, all[8] = {255, 255, 255, 255, 255, 255, 255, 255};

    iod_pci_config_set(pci, 0xf8, bytes, sizeof(bytes));
    iod_pci_config_writable(pci, 0xf8, all, sizeof(all));
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xfa, 4), 0x06050403);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xfb, 2), 0x0504);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xfc, 4), 0x08070605);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xfd, 4), UINT32_MAX);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xfe, 4), UINT32_MAX);
    fake_config_write(guest, 4, 0xfe, 4, 0);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xfe, 2), 0x0807);
    fake_config_write(guest, 4, 0xfb, 2, 0xaabb);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xf8, 4), 0xbb030201);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0xfc, 4), 0x080706aa);
    ck_assert_uint_eq(fake_config_read(guest, 5, 0, 4), UINT32_MAX);
    fake_device_free(device);
}
END_TEST

START_TEST(sizing_and_relocation)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    struct iod_region *region = add_bar(device, pci, 0, IOD_PCI_BAR_MEM32, 0x4000);

    fake_config_write(guest, 4, 0x10, 4, UINT32_MAX);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x10, 4), 0xffffc000);
    ck_assert(!region->shown);
    fake_config_write(guest, 4, 0x10, 4, 0xf0000000);
    ck_assert(!region->shown);
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    ck_assert(region->shown && region->space == IOD_MMIO && region->base == 0xf0000000);
    /* Sizing with decoding on: hidden while the pattern stands. */
    fake_config_write(guest, 4, 0x10, 4, UINT32_MAX);
    ck_assert(!region->shown);
    fake_config_write(guest, 4, 0x10, 4, 0xf0000000);
    ck_assert(region->shown && region->placed == 2);
    /* Nothing changed: nothing is placed again. */
    fake_config_write(guest, 4, 0x10, 4, 0xf0000123);
    fake_config_write(guest, 4, PCI_COMMAND, 1, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    ck_assert(region->placed == 2);
    /* Moved by its upper half alone. */
    fake_config_write(guest, 4, 0x12, 2, 0xe000);
    ck_assert(region->shown && region->base == 0xe0000000);
    fake_config_write(guest, 4, 0x10, 4, 0);
    ck_assert(!region->shown);
    fake_config_write(guest, 4, 0x10, 4, 0xe0000000);
    fake_config_write(guest, 4, PCI_COMMAND, 2, 0);
    ck_assert(!region->shown);
    fake_device_free(device);
}
END_TEST

START_TEST(wide_and_io_bars)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    struct iod_region *wide = add_bar(device, pci, 0, IOD_PCI_BAR_MEM64_PREFETCH, 0x10000);
    struct iod_region *io = add_bar(device, pci, 2, IOD_PCI_BAR_IO, 32);
    struct iod_error error = {0};

    ck_assert_int_lt(iod_pci_bar(pci, 1, IOD_PCI_BAR_MEM32, io, &error), 0); /* the upper half of BAR 0 */
    ck_assert_int_lt(iod_pci_bar(pci, 5, IOD_PCI_BAR_MEM64, wide, &error), 0);
    ck_assert_int_lt(iod_pci_bar(pci, 3, IOD_PCI_BAR_MEM32, io, &error), 0); /* 32 bytes of memory */
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
    fake_config_write(guest, 4, 0x10, 4, UINT32_MAX);
    fake_config_write(guest, 4, 0x14, 4, UINT32_MAX);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x10, 4), 0xffff000c);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x14, 4), UINT32_MAX);
    ck_assert(!wide->shown);
    fake_config_write(guest, 4, 0x10, 4, 0x10000);
    ck_assert(!wide->shown); /* the upper half is still the pattern */
    fake_config_write(guest, 4, 0x14, 4, 0x12);
    ck_assert(wide->shown && wide->base == 0x1200010000);
    fake_config_write(guest, 4, 0x14, 4, 0x7fffffff);
    ck_assert(!wide->shown && device->guest_errors == 1); /* beyond the space's end */
    fake_config_write(guest, 4, 0x18, 4, UINT32_MAX);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x18, 4), 0xffffffe1);
    ck_assert(!io->shown);
    fake_config_write(guest, 4, 0x18, 4, 0xc100);
    ck_assert(io->shown && io->space == IOD_PIO && io->base == 0xc100);
    fake_config_write(guest, 4, 0x18, 4, 0x1c100);
    ck_assert(!io->shown); /* no such port */
    fake_device_free(device);
}
END_TEST

START_TEST(default_slots)
{
    struct iod_device *a, *b, *c, *d;
    struct iod_error error = {0};

    add(&a, "a");
    add(&b, "b");
    add(&c, "c");
    ck_assert(guest->claimed[4 * 8] && guest->claimed[5 * 8] && guest->claimed[6 * 8]);
    fake_device_free(b);
    ck_assert(!guest->claimed[5 * 8]);
    ck_assert_uint_eq(fake_config_read(guest, 5, 0, 4), UINT32_MAX);
    add(&b, "b");
    ck_assert(guest->claimed[5 * 8]);
    d = fake_device(guest, "d");
    d->keys.has_slot = true;
    d->keys.slot = 5;
    ck_assert_ptr_null(iod_pci_add(d, &ids, -1, NULL, NULL, &error));
    ck_assert_int_eq(error.code, EBUSY);
    ck_says(error, "d:");
    ck_says(error, "taken by b");
    fake_device_free(d);
    fake_device_free(c);
    fake_device_free(b);
    fake_device_free(a);
}
END_TEST

START_TEST(slots_beside_another_emulator)
{
    struct iod_device *devices[29];
    struct iod_error error = {0};

    guest->beside = true;
    for (unsigned i = 0; i < 28; i++) {
        add(&devices[i], "x");
        ck_assert(guest->claimed[(31 - i) * 8]);
    }
    devices[28] = fake_device(guest, "y");
    ck_assert_ptr_null(iod_pci_add(devices[28], &ids, -1, NULL, NULL, &error));
    ck_assert_int_eq(error.code, ENOSPC);
    for (unsigned i = 0; i < 29; i++) {
        fake_device_free(devices[i]);
    }
}
END_TEST

START_TEST(several_functions)
{
    struct iod_device *a, *b = fake_device(guest, "b");
    struct iod_error error = {0};

    add(&a, "a");
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_HEADER_TYPE, 1), 0);
    b->keys.has_slot = true;
    b->keys.slot = 4;
    b->keys.function = 1;
    ck_assert_ptr_nonnull(iod_pci_add(b, &ids, -1, NULL, NULL, &error));
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_HEADER_TYPE, 1), 0x80);
    fake_device_free(b);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_HEADER_TYPE, 1), 0);
    fake_device_free(a);
}
END_TEST

START_TEST(no_pci_on_arm)
{
    struct iod_error error = {0};
    struct iod_device *device = fake_device(guest, "a");

    guest->arch = ARCH_ARM;
    ck_assert_ptr_null(iod_pci_add(device, &ids, -1, NULL, NULL, &error));
    ck_says(error, "bus=mmio");
    fake_device_free(device);
}
END_TEST

/* Follows the list; the offset of the capability or 0. */
static unsigned find_capability(unsigned slot, uint8_t id)
{
    unsigned at = fake_config_read(guest, slot, PCI_CAPABILITY_LIST, 1);

    for (unsigned i = 0; at && i < 48; i++) {
        if (fake_config_read(guest, slot, at, 1) == id) {
            return at;
        }
        at = fake_config_read(guest, slot, at + 1, 1);
    }
    return 0;
}

START_TEST(capabilities)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    const uint8_t mine[4] = {1, 2, 3, 4}, mask[4] = {0, 0xff, 0, 0};
    int first = iod_pci_capability(pci, 9, mine, mask, 4);
    int second = iod_pci_capability(pci, 5, NULL, NULL, 10);

    ck_assert_int_eq(first, 0x40);
    ck_assert_int_eq(second, 0x48); /* six bytes take two dwords */
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
    ck_assert_uint_eq(find_capability(4, 9), 0x40);
    ck_assert_uint_eq(find_capability(4, 5), 0x48);
    fake_config_write(guest, 4, 0x42, 4, 0xaabbccdd);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x42, 4), 0x0403cc01);
    ck_assert_int_lt(iod_pci_capability(pci, 9, NULL, NULL, 200), 0);
    ck_assert_int_eq(iod_pci_capability(pci, 9, NULL, NULL, 0xac - 2), 0x54);
    ck_assert_int_lt(iod_pci_capability(pci, 9, NULL, NULL, 0), 0);
    fake_device_free(device);
}
END_TEST

START_TEST(intx)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    struct iod_irq *irq = iod_pci_intx(pci, NULL);

    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_INTERRUPT_PIN, 1), 1);
    iod_irq_raise(irq);
    ck_assert(guest->intx[4][0]);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_STATUS, 2), PCI_STATUS_INTERRUPT);
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    ck_assert(!guest->intx[4][0]);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_STATUS, 2), PCI_STATUS_INTERRUPT);
    fake_config_write(guest, 4, PCI_COMMAND, 2, 0);
    ck_assert(guest->intx[4][0]);
    iod_irq_lower(irq);
    ck_assert(!guest->intx[4][0]);
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
    iod_irq_raise(irq);
    ck_assert(!guest->intx[4][0]);
    iod_irq_lower(irq);
    fake_config_write(guest, 4, PCI_COMMAND, 2, 0);
    ck_assert(!guest->intx[4][0]);
    iod_irq_raise(irq);
    fake_device_free(device); /* unplugged: the wire falls */
    ck_assert(!guest->intx[4][0]);
}
END_TEST

START_TEST(no_intx_unless_hvm)
{
    struct iod_device *device;
    struct iod_error error = {0};
    struct iod_pci *pci;

    guest->type = GUEST_UNKNOWN;
    pci = add(&device, "a");
    ck_assert_ptr_null(iod_pci_intx(pci, &error));
    ck_says(error, "--type hvm");
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_INTERRUPT_PIN, 1), 0);
    ck_assert_uint_eq(guest->intx_calls, 0);
    fake_device_free(device);
}
END_TEST

START_TEST(msi)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    struct iod_error error = {0};
    unsigned at;

    ck_assert_int_lt(iod_pci_msi(pci, 3, &error), 0);
    ck_assert_int_eq(iod_pci_msi(pci, 4, &error), 0);
    at = find_capability(4, PCI_CAP_ID_MSI);
    iod_msi_send(pci, 0);
    ck_assert_uint_eq(guest->message_count, 0); /* not enabled: nothing happens */
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    fake_config_write(guest, 4, at + 4, 4, 0xfee01003);
    fake_config_write(guest, 4, at + 8, 4, 0x5);
    fake_config_write(guest, 4, at + 12, 2, 0x4043);
    fake_config_write(guest, 4, at + 2, 2, PCI_MSI_FLAGS_ENABLE | 2 << 4);
    ck_assert(iod_pci_msi_enabled(pci));
    iod_msi_send(pci, 2);
    ck_assert_uint_eq(guest->message_count, 1);
    ck_assert_uint_eq(guest->messages[0].address, 0x5fee01000);
    ck_assert_uint_eq(guest->messages[0].data, 0x4042);
    /* Masked, pending, delivered once at the unmask. */
    fake_config_write(guest, 4, at + 16, 4, UINT32_MAX);
    ck_assert_uint_eq(fake_config_read(guest, 4, at + 16, 4), 0xf);
    iod_msi_send(pci, 1);
    iod_msi_send(pci, 1);
    ck_assert_uint_eq(guest->message_count, 1);
    ck_assert_uint_eq(fake_config_read(guest, 4, at + 20, 4), 2);
    fake_config_write(guest, 4, at + 16, 4, 0);
    ck_assert_uint_eq(guest->message_count, 2);
    ck_assert_uint_eq(guest->messages[1].data, 0x4041);
    ck_assert_uint_eq(fake_config_read(guest, 4, at + 20, 4), 0);
    /* One message enabled: all vectors share it; more than offered: as many as offered. */
    fake_config_write(guest, 4, at + 2, 2, PCI_MSI_FLAGS_ENABLE);
    iod_msi_send(pci, 3);
    ck_assert_uint_eq(guest->messages[2].data, 0x4043);
    fake_config_write(guest, 4, at + 2, 2, PCI_MSI_FLAGS_ENABLE | 7 << 4);
    iod_msi_send(pci, 31);
    ck_assert_uint_eq(guest->messages[3].data, 0x4043);
    fake_device_free(device);
}
END_TEST

START_TEST(msix)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    struct iod_error error = {0};
    struct iod_region *table;
    unsigned at;

    ck_assert_int_lt(iod_pci_msix(pci, 2049, 1, &error), 0);
    ck_assert_int_eq(iod_pci_msix(pci, 3, 1, &error), 0);
    table = fake_region(device, 0);
    at = find_capability(4, PCI_CAP_ID_MSIX);
    ck_assert_uint_eq(fake_config_read(guest, 4, at + 2, 2), 2);
    ck_assert_uint_eq(fake_config_read(guest, 4, at + 4, 4), 1);
    ck_assert_uint_eq(fake_config_read(guest, 4, at + 8, 4), 0x801);
    ck_assert_uint_eq(table->length, 4096);
    ck_assert_uint_eq(fake_read(table, 12, 4), 1); /* masked after reset */
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    fake_config_write(guest, 4, at + 2, 2, PCI_MSIX_FLAGS_ENABLE);
    fake_write(table, 16, 8, UINT64_C(0x7fee00007));
    fake_write(table, 24, 4, 0x31);
    iod_msi_send(pci, 1);
    iod_msi_send(pci, 1);
    iod_msi_send(pci, 3); /* no such vector */
    ck_assert_uint_eq(guest->message_count, 0);
    ck_assert_uint_eq(fake_read(table, 0x800, 8), 2);
    fake_write(table, 0x800, 4, 0); /* read-only */
    ck_assert_uint_eq(fake_read(table, 0x800, 4), 2);
    fake_write(table, 28, 4, 0);
    ck_assert_uint_eq(guest->message_count, 1);
    ck_assert_uint_eq(guest->messages[0].address, 0x7fee00004);
    ck_assert_uint_eq(guest->messages[0].data, 0x31);
    ck_assert_uint_eq(fake_read(table, 0x800, 8), 0);
    /* The function's mask. */
    fake_config_write(guest, 4, at + 3, 1, (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8);
    iod_msi_send(pci, 1);
    ck_assert_uint_eq(guest->message_count, 1);
    fake_config_write(guest, 4, at + 3, 1, PCI_MSIX_FLAGS_ENABLE >> 8);
    ck_assert_uint_eq(guest->message_count, 2);
    /* A message is a write to memory: not without bus mastering. */
    fake_config_write(guest, 4, PCI_COMMAND, 2, 0);
    iod_msi_send(pci, 1);
    ck_assert_uint_eq(guest->message_count, 2);
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    ck_assert_uint_eq(guest->message_count, 3);
    /* Vector 0 is Xen's pirq: a Linux HVM guest leaves the entry masked. An entry never written is none. */
    fake_write(table, 32, 8, UINT64_C(0x5400fee12000));
    ck_assert_uint_eq(fake_read(table, 44, 4), 1);
    iod_msi_send(pci, 2);
    ck_assert_uint_eq(guest->message_count, 4);
    ck_assert_uint_eq(guest->messages[3].address, 0x5400fee12000);
    iod_msi_send(pci, 0);
    ck_assert_uint_eq(guest->message_count, 4);
    ck_assert_uint_eq(fake_read(table, 48, 4), 0); /* behind the table */
    ck_assert_uint_eq(fake_read(table, 4088, 8), 0);
    fake_device_free(device);
}
END_TEST

START_TEST(msix_of_2048)
{
    struct iod_device *device;
    struct iod_pci *pci = add(&device, "a");
    struct iod_error error = {0};
    struct iod_region *table;
    unsigned at;

    ck_assert_int_eq(iod_pci_msix(pci, 2048, 1, &error), 0);
    table = fake_region(device, 0);
    at = find_capability(4, PCI_CAP_ID_MSIX);
    ck_assert_uint_eq(table->length, 65536);
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    fake_config_write(guest, 4, at + 2, 2, PCI_MSIX_FLAGS_ENABLE);
    iod_msi_send(pci, 2047);
    ck_assert_uint_eq(fake_read(table, 0x8000 + 248, 8), UINT64_C(1) << 63);
    ck_assert_uint_eq(fake_read(table, 0x8000 + 252, 4), UINT32_C(1) << 31);
    fake_write(table, 2047 * 16 + 12, 4, 0);
    ck_assert_uint_eq(guest->message_count, 1);
    fake_device_free(device);
}
END_TEST

START_TEST(reset_and_load)
{
    struct iod_device *a, *b;
    struct iod_pci *pci = add(&a, "a"), *other;
    struct iod_error error = {0};
    struct iod_region *region = add_bar(a, pci, 0, IOD_PCI_BAR_MEM32, 4096), *loaded;
    struct device_part *part;

    ck_assert_int_eq(iod_pci_msix(pci, 3, 1, &error), 0);
    iod_irq_raise(iod_pci_intx(pci, NULL));
    fake_config_write(guest, 4, 0x10, 4, 0xf0000000);
    fake_config_write(guest, 4, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    fake_write(fake_region(a, 1), 4, 4, 0x1234);
    ck_assert(region->shown);

    other = add(&b, "b");
    loaded = add_bar(b, other, 0, IOD_PCI_BAR_MEM32, 4096);
    ck_assert_int_eq(iod_pci_msix(other, 3, 1, &error), 0);
    iod_pci_intx(other, NULL);
    fake_save_load(a, b);
    ck_assert(loaded->shown && loaded->base == 0xf0000000);
    ck_assert_uint_eq(fake_read(fake_region(b, 1), 4, 4), 0x1234);
    fake_start(b);
    ck_assert(guest->intx[5][0]); /* the level came with the state */

    /* Hostile state: what the guest could not write keeps its value. */
    part = fake_part(b, "pci");
    memset(part->regs, 0xff, 256);
    memset(fake_part(b, "msix")->regs, 0xff, 3 * 16 + 8);
    ck_assert_int_eq(fake_load(b, &error), 0);
    ck_assert_uint_eq(fake_config_read(guest, 5, 0, 4), 0x10421af4);
    ck_assert_uint_eq(fake_config_read(guest, 5, PCI_CAPABILITY_LIST, 1), 0x40);
    ck_assert_uint_eq(fake_config_read(guest, 5, 0x10, 4), 0xfffff000);
    ck_assert(!loaded->shown);
    ck_assert_uint_eq(fake_read(fake_region(b, 1), 0x800, 8), 7);
    ck_assert_uint_eq(fake_read(fake_region(b, 1), 12, 4), 1);
    ((uint8_t *)part->regs)[256] = 2; /* the wire's level */
    ck_assert_int_lt(fake_load(b, &error), 0);

    fake_system_reset(a);
    ck_assert(!region->shown && !guest->intx[4][0]);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0x10, 4), 0);
    ck_assert_uint_eq(fake_config_read(guest, 4, 0, 4), 0x10421af4);
    ck_assert_uint_eq(fake_config_read(guest, 4, PCI_INTERRUPT_PIN, 1), 1);
    ck_assert_uint_eq(fake_read(fake_region(a, 1), 4, 4), 0);
    ck_assert_uint_eq(fake_read(fake_region(a, 1), 12, 4), 1);
    fake_device_free(b);
    fake_device_free(a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pci");
    TCase *tests = tcase_create("pci");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, header);
    tcase_add_test(tests, accesses_past_a_dword_and_past_the_end);
    tcase_add_test(tests, sizing_and_relocation);
    tcase_add_test(tests, wide_and_io_bars);
    tcase_add_test(tests, default_slots);
    tcase_add_test(tests, slots_beside_another_emulator);
    tcase_add_test(tests, several_functions);
    tcase_add_test(tests, no_pci_on_arm);
    tcase_add_test(tests, capabilities);
    tcase_add_test(tests, intx);
    tcase_add_test(tests, no_intx_unless_hvm);
    tcase_add_test(tests, msi);
    tcase_add_test(tests, msix);
    tcase_add_test(tests, msix_of_2048);
    tcase_add_test(tests, reset_and_load);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
