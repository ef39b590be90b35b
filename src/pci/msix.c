/* SPDX-License-Identifier: BSD-2-Clause */
/* MSI-X: the vector table and the pending bits, in a region of their own (PCI 3.0, 6.8.2). */
#include <errno.h>
#include <stdlib.h>

#include "pci/pci.h"

#define ENTRY_WORDS (PCI_MSIX_ENTRY_SIZE / 4)
#define MAX_VECTORS 2048u

enum { FIELD_TABLE, FIELD_PENDING, FIELDS };

/*
 * A part of its own, as its size depends on the number of vectors: regs are `vectors` table entries of four
 * words, then the pending bits.
 */
struct pci_msix {
    struct device_part part;
    struct device_part_ops ops;
    struct iod_field fields[FIELDS + 1];
    struct iod_pci *pci;
    unsigned vectors;
    uint64_t pending_at; /* offset of the pending bits in the region */
};

static uint32_t *entry(const struct pci_msix *msix, unsigned vector)
{
    return (uint32_t *)msix->part.regs + (size_t)vector * ENTRY_WORDS;
}

static uint64_t *pending_word(const struct pci_msix *msix, unsigned vector)
{
    return (uint64_t *)entry(msix, msix->vectors) + vector / 64;
}

static unsigned pending_words(const struct pci_msix *msix)
{
    return (msix->vectors + 63) / 64;
}

static uint16_t msix_flags(const struct iod_pci *pci)
{
    return pci_get16(pci, pci->msix + PCI_MSIX_FLAGS);
}

/*
 * A message whose data names vector 0 (no CPU has that one) is Xen's form of a pirq: a Linux HVM guest gets
 * it as an event channel, masks it there, and never touches the entry's mask bit, which stays set from the
 * reset.
 */
static bool is_pirq(const uint32_t *words)
{
    return (words[PCI_MSIX_ENTRY_DATA / 4] & 0xff) == 0 && (words[0] || words[1]);
}

static bool may_send(const struct pci_msix *msix, unsigned vector)
{
    const uint32_t *words = entry(msix, vector);

    return iod_pci_bus_master(msix->pci) && !(msix_flags(msix->pci) & PCI_MSIX_FLAGS_MASKALL) &&
           (is_pirq(words) || !(words[PCI_MSIX_ENTRY_VECTOR_CTRL / 4] & PCI_MSIX_ENTRY_CTRL_MASKBIT));
}

static void send_entry(struct pci_msix *msix, unsigned vector)
{
    const uint32_t *words = entry(msix, vector);

    pci_message(msix->pci, words[0] | (uint64_t)words[1] << 32, words[2]);
}

void pci_msix_send(struct iod_pci *pci, unsigned vector)
{
    struct pci_msix *msix = pci->msix_state;

    if (vector >= msix->vectors) {
        return;
    }
    if (may_send(msix, vector)) {
        send_entry(msix, vector);
    } else {
        *pending_word(msix, vector) |= UINT64_C(1) << vector % 64;
    }
}

static void deliver_one(struct pci_msix *msix, unsigned vector)
{
    uint64_t bit = UINT64_C(1) << vector % 64;

    if ((*pending_word(msix, vector) & bit) && may_send(msix, vector)) {
        *pending_word(msix, vector) &= ~bit;
        send_entry(msix, vector);
    }
}

void pci_msix_deliver(struct iod_pci *pci)
{
    struct pci_msix *msix = pci->msix_state;

    if (!iod_pci_msix_enabled(pci)) {
        return;
    }
    for (unsigned word = 0; word < pending_words(msix); word++) {
        uint64_t pending = *pending_word(msix, word * 64);

        while (pending) {
            unsigned bit = (unsigned)__builtin_ctzll(pending);

            pending &= pending - 1;
            deliver_one(msix, word * 64 + bit);
        }
    }
}

static uint32_t table_read(const struct pci_msix *msix, uint64_t offset)
{
    if (offset < (uint64_t)msix->vectors * PCI_MSIX_ENTRY_SIZE) {
        return entry(msix, 0)[offset / 4];
    }
    if (offset >= msix->pending_at && (offset - msix->pending_at) / 8 < pending_words(msix)) {
        uint64_t at = offset - msix->pending_at;

        return (uint32_t)(*pending_word(msix, (unsigned)(at / 8 * 64)) >> (at & 4 ? 32 : 0));
    }
    return 0;
}

static uint64_t msix_read(void *self, uint64_t offset, unsigned width)
{
    uint64_t value = table_read(self, offset);

    if (width == 8) {
        value |= (uint64_t)table_read(self, offset + 4) << 32;
    }
    return value;
}

static void table_write(struct pci_msix *msix, uint64_t offset, uint32_t value)
{
    if (offset >= (uint64_t)msix->vectors * PCI_MSIX_ENTRY_SIZE) {
        return; /* pending bits are read-only; the rest is reserved */
    }
    switch (offset % PCI_MSIX_ENTRY_SIZE) {
    case PCI_MSIX_ENTRY_LOWER_ADDR:
        value &= ~UINT32_C(3);
        break;
    case PCI_MSIX_ENTRY_VECTOR_CTRL:
        value &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
        break;
    default:
        break;
    }
    entry(msix, 0)[offset / 4] = value;
    if (offset % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_VECTOR_CTRL && iod_pci_msix_enabled(msix->pci)) {
        deliver_one(msix, (unsigned)(offset / PCI_MSIX_ENTRY_SIZE));
    }
}

static void msix_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    table_write(self, offset, (uint32_t)value);
    if (width == 8) {
        table_write(self, offset + 4, (uint32_t)(value >> 32));
    }
}

static const struct iod_region_ops msix_region_ops = {
    .size = sizeof(struct iod_region_ops),
    .widths = 4 | 8,
    .read = msix_read,
    .write = msix_write,
};

static void msix_reset(struct device_part *part)
{
    struct pci_msix *msix = list_entry(part, struct pci_msix, part);

    for (unsigned vector = 0; vector < msix->vectors; vector++) {
        entry(msix, vector)[PCI_MSIX_ENTRY_VECTOR_CTRL / 4] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
    }
}

/*
 * A guest could have written nothing else; pending bits beyond the last vector would be read past the table.
 */
static int msix_load(struct device_part *part, struct iod_reader *reader, struct iod_error *error)
{
    struct pci_msix *msix = list_entry(part, struct pci_msix, part);

    for (unsigned vector = 0; vector < msix->vectors; vector++) {
        entry(msix, vector)[0] &= ~UINT32_C(3);
        entry(msix, vector)[PCI_MSIX_ENTRY_VECTOR_CTRL / 4] &= PCI_MSIX_ENTRY_CTRL_MASKBIT;
    }
    if (msix->vectors % 64) {
        *pending_word(msix, msix->vectors) &= (UINT64_C(1) << msix->vectors % 64) - 1;
    }
    return 0;
}

static void msix_destroy(struct device_part *part)
{
    free(list_entry(part, struct pci_msix, part));
}

static void describe(struct pci_msix *msix)
{
    msix->fields[FIELD_TABLE] = (struct iod_field){ .name = "table", .since = 1, .offset = 0, .width = 4,
                                                    .count = (uint16_t)(msix->vectors * ENTRY_WORDS) };
    msix->fields[FIELD_PENDING] =
        (struct iod_field){ .name = "pending",
                            .since = 1,
                            .offset = (uint16_t)(msix->vectors * PCI_MSIX_ENTRY_SIZE),
                            .width = 8,
                            .count = (uint16_t)pending_words(msix) };
    msix->ops = (struct device_part_ops){
        .name = "msix",
        .fields = msix->fields,
        .regs_size = (size_t)msix->vectors * PCI_MSIX_ENTRY_SIZE + pending_words(msix) * 8,
        .reset = msix_reset,
        .load = msix_load,
        .destroy = msix_destroy,
    };
}

static struct pci_msix *msix_make(struct iod_pci *pci, unsigned vectors)
{
    struct pci_msix *msix = calloc(1, sizeof(*msix));

    if (!msix) {
        return NULL;
    }
    msix->pci = pci;
    msix->vectors = vectors;
    /* In its own half of a page when the table leaves it, so that small devices take one page in all. */
    msix->pending_at = ((uint64_t)vectors * PCI_MSIX_ENTRY_SIZE + 2047) & ~UINT64_C(2047);
    describe(msix);
    if (device_part_add(pci->device, &msix->part, &msix->ops) < 0) {
        free(msix);
        return NULL;
    }
    msix_reset(&msix->part);
    return msix;
}

static int add_capability(struct iod_pci *pci, const struct pci_msix *msix, unsigned bar)
{
    uint32_t table = bar, pending = (uint32_t)msix->pending_at | bar;
    uint16_t flags = (uint16_t)(msix->vectors - 1);
    uint8_t body[PCI_CAP_MSIX_SIZEOF - 2], writable[sizeof(body)] = { 0 };

    body[0] = (uint8_t)flags;
    body[1] = (uint8_t)(flags >> 8);
    for (unsigned i = 0; i < 4; i++) {
        body[2 + i] = (uint8_t)(table >> (8 * i));
        body[6 + i] = (uint8_t)(pending >> (8 * i));
    }
    writable[1] = (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
    return iod_pci_capability(pci, PCI_CAP_ID_MSIX, body, writable, sizeof(body));
}

int iod_pci_msix(struct iod_pci *pci, unsigned vectors, unsigned bar, struct iod_error *error)
{
    struct iod_region *region;
    struct pci_msix *msix;
    uint64_t size = 4096;
    int result;

    if (vectors == 0 || vectors > MAX_VECTORS || pci->msix) {
        return iod_fail(error, EINVAL, "%s: %u MSI-X vectors: must be 1 to 2048, and asked for once",
                        iod_device_id(pci->device), vectors);
    }
    msix = msix_make(pci, vectors);
    if (!msix) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(pci->device));
    }
    while (size < msix->pending_at + pending_words(msix) * 8) {
        size *= 2;
    }
    region = iod_region_add(pci->device, "msix", size, &msix_region_ops, msix);
    if (!region) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(pci->device));
    }
    result = iod_pci_bar(pci, bar, IOD_PCI_BAR_MEM32, region, error);
    if (result < 0) {
        return result;
    }
    result = add_capability(pci, msix, bar);
    if (result < 0) {
        return iod_fail(error, -result, "%s: no room for the MSI-X capability", iod_device_id(pci->device));
    }
    pci->msix_state = msix;
    pci->msix = (uint8_t)result;
    return 0;
}

bool iod_pci_msix_enabled(const struct iod_pci *pci)
{
    return pci->msix && (msix_flags(pci) & PCI_MSIX_FLAGS_ENABLE);
}
