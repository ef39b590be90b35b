/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest of 32 MiB without an operating system: drives the virtio-blk device at 0xd0000000 (virtio-mmio 2, polled) for
 * ever, one request after the other: writes a sector, reads it back, compares. It dies (crash) when the device is not
 * there, or lies. Names: virtio 1.2, sections 2.7, 4.2, 5.2.
 */
#include <stdint.h>

#define DEVICE 0xd0000000u
#define QUEUE_SIZE 8
#define SECTORS 1024 /* of the image, at least */

enum {
    MAGIC = 0x000, VERSION = 0x004, DEVICE_ID = 0x008, DRIVER_FEATURES = 0x020, DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030, QUEUE_NUM = 0x038, QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050, STATUS = 0x070,
    DESC_LOW = 0x080, DRIVER_LOW = 0x090, DEVICE_LOW = 0x0a0,
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { NEXT = 1, WRITE = 2 };
enum { BLK_IN = 0, BLK_OUT = 1 };

static struct {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
} descriptors[QUEUE_SIZE] __attribute__((aligned(4096)));
static struct { uint16_t flags, index, ring[QUEUE_SIZE]; } available __attribute__((aligned(4096)));
static volatile struct {
    uint16_t flags, index;
    struct { uint32_t id, length; } ring[QUEUE_SIZE];
} used __attribute__((aligned(4096)));
static struct { uint32_t type, reserved; uint64_t sector; } header;
static uint8_t written[512], read_back[512];
static volatile uint8_t status;

void die(void) __attribute__((noreturn));
void bare_main(void);

static uint32_t get(unsigned offset)
{
    return *(volatile uint32_t *)(uintptr_t)(DEVICE + offset);
}

static void put(unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(DEVICE + offset) = value;
}

static void set_address(unsigned offset, const volatile void *at)
{
    put(offset, (uint32_t)(uintptr_t)at);
    put(offset + 4, 0);
}

static void start(void)
{
    if (get(MAGIC) != 0x74726976 || get(VERSION) != 2 || get(DEVICE_ID) != 2) {
        die();
    }
    put(STATUS, 0);
    put(STATUS, ACKNOWLEDGE | DRIVER);
    put(DRIVER_FEATURES_SEL, 1);
    put(DRIVER_FEATURES, 1); /* VIRTIO_F_VERSION_1 */
    put(DRIVER_FEATURES_SEL, 0);
    put(DRIVER_FEATURES, 0);
    put(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    put(QUEUE_SEL, 0);
    put(QUEUE_NUM, QUEUE_SIZE);
    set_address(DESC_LOW, descriptors);
    set_address(DRIVER_LOW, &available);
    set_address(DEVICE_LOW, &used);
    put(QUEUE_READY, 1);
    put(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void describe(unsigned index, const volatile void *at, uint32_t length, uint16_t flags)
{
    descriptors[index].address = (uintptr_t)at;
    descriptors[index].length = length;
    descriptors[index].flags = flags;
    descriptors[index].next = (uint16_t)(index + 1);
}

static void request(uint32_t type, uint64_t sector, uint8_t *data)
{
    uint16_t done = used.index;

    header.type = type;
    header.sector = sector;
    status = 0xff;
    describe(0, &header, sizeof(header), NEXT);
    describe(1, data, 512, NEXT | (type == BLK_IN ? WRITE : 0));
    describe(2, &status, 1, WRITE);
    available.ring[available.index % QUEUE_SIZE] = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    available.index++;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    put(QUEUE_NOTIFY, 0);
    while (used.index == done) {
        __builtin_ia32_pause();
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (status != 0) {
        die();
    }
}

/* So that eight of them leave the CPU to others. */
static void rest(void)
{
    for (unsigned i = 0; i < 64; i++) {
        get(STATUS);
    }
}

void bare_main(void)
{
    start();
    for (uint32_t round = 1;; round++) {
        uint64_t sector = round % SECTORS;

        for (unsigned i = 0; i < sizeof(written); i++) {
            written[i] = (uint8_t)(round * 7 + i * 3 + (round >> 8));
            read_back[i] = 0;
        }
        request(BLK_OUT, sector, written);
        request(BLK_IN, sector, read_back);
        for (unsigned i = 0; i < sizeof(written); i++) {
            if (written[i] != read_back[i]) {
                die();
            }
        }
        rest();
    }
}
