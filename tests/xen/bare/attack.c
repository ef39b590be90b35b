/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest of 32 MiB without an operating system that attacks, as fast as it can and for ever: ports,
 * registers, configuration cycles, string accesses, and the rings of the virtio-blk device at 0xd0000000
 * (virtio-mmio 2). What it writes, and where, is random, but never Xen's own (debug console, LAPIC), nor its
 * own code. Names: virtio 1.2, sections 2.7, 4.2.
 */
#include <stdint.h>

#define DEVICE 0xd0000000u
#define QUEUE_SIZE 256
#define SCRATCH 0x1000000u /* the upper half of its memory; all of it is fair game */
#define SCRATCH_SIZE 0xf00000u
#define XEN_DEBUG_PORT 0xe9

enum {
    DRIVER_FEATURES = 0x020, DRIVER_FEATURES_SEL = 0x024, QUEUE_SEL = 0x030, QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050, STATUS = 0x070, DESC_LOW = 0x080, DRIVER_LOW = 0x090,
    DEVICE_LOW = 0x0a0,
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};
struct available {
    uint16_t flags, index, ring[QUEUE_SIZE];
};

void bare_main(void);

static uint32_t state = 2463534242u;

/* xorshift32 */
static uint32_t random(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void out(uint16_t port, unsigned width, uint32_t value)
{
    if (width == 0) {
        __asm__ volatile("outb %b0, %w1" : : "a"(value), "d"(port));
    } else if (width == 1) {
        __asm__ volatile("outw %w0, %w1" : : "a"(value), "d"(port));
    } else {
        __asm__ volatile("outl %0, %w1" : : "a"(value), "d"(port));
    }
}

static void put(uint32_t address, unsigned width, uint32_t value)
{
    if (width == 0) {
        *(volatile uint8_t *)(uintptr_t)address = (uint8_t)value;
    } else if (width == 1) {
        *(volatile uint16_t *)(uintptr_t)address = (uint16_t)value;
    } else {
        *(volatile uint32_t *)(uintptr_t)address = value;
    }
}

static void set(unsigned offset, uint32_t value)
{
    put(DEVICE + offset, 2, value);
}

/* In memory, or where there is none. */
static uint32_t somewhere(void)
{
    uint32_t bits = random();

    return bits & 1 ? SCRATCH + random() % SCRATCH_SIZE : 0x8000000u + random() % 0xe0000000u;
}

static void any_port(void)
{
    uint16_t port = (uint16_t)random();

    if (port < XEN_DEBUG_PORT - 3 || port > XEN_DEBUG_PORT) {
        out(port, random() % 3, random());
    }
}

/* Configuration cycles: of the host bridge, of nobody, and the address port itself by any width. */
static void pci_ports(void)
{
    uint32_t bits = random();

    out((uint16_t)(0xcf8 + (bits & 3)), bits >> 2 & 1 ? 2 : random() % 3, 0x80000000u | (random() & 0xfffc));
    out((uint16_t)(0xcfc + (bits >> 3 & 3)), random() % 3, random());
}

static void any_memory(void)
{
    put(0xc0000000u + random() % 0x20000000u, random() % 3, random());
}

static void any_register(void)
{
    uint32_t offset = random() % 0x200, bits = random();

    if (bits & 1) {
        (void)*(volatile uint32_t *)(uintptr_t)(DEVICE + (offset & ~3u));
    } else {
        put(DEVICE + offset, bits >> 1 & 1 ? 2 : random() % 3, random());
    }
}

/* One instruction, hundreds of accesses; its data may be where no memory is. */
static void string_access(void)
{
    uint32_t bits = random(), from = bits >> 4 & 3 ? SCRATCH + random() % SCRATCH_SIZE : somewhere();
    uint32_t count = random() % 256 + 1;

    if (bits & 1) {
        uint32_t to = DEVICE + random() % 0x100;

        __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    } else {
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0xcf8 + (bits >> 1 & 7)) : "memory");
    }
}

/* As a driver does, but for the contents of the rings. */
static void start(uint32_t descriptors, uint32_t available, uint32_t used)
{
    set(STATUS, 0);
    set(STATUS, ACKNOWLEDGE | DRIVER);
    set(DRIVER_FEATURES_SEL, 1);
    set(DRIVER_FEATURES, 1);
    set(DRIVER_FEATURES_SEL, 0);
    set(DRIVER_FEATURES, random() & 1 ? random() : 0);
    set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    set(QUEUE_SEL, 0);
    set(QUEUE_NUM, random() & 7 ? QUEUE_SIZE : random());
    set(DESC_LOW, descriptors);
    set(DESC_LOW + 4, 0);
    set(DRIVER_LOW, available);
    set(DRIVER_LOW + 4, 0);
    set(DEVICE_LOW, used);
    set(DEVICE_LOW + 4, 0);
    set(QUEUE_READY, 1);
    set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void garble(volatile struct descriptor *descriptors, volatile struct available *available)
{
    for (unsigned i = 0; i < QUEUE_SIZE; i++) {
        uint32_t bits = random();

        descriptors[i].address = somewhere();
        descriptors[i].length = bits & 1 ? random() % 4096 : random();
        descriptors[i].flags = (uint16_t)(bits >> 1 & 7);
        descriptors[i].next = (uint16_t)(bits >> 4 & 0x1ff);
        available->ring[i] = (uint16_t)(bits >> 13 & 0x1ff);
    }
    available->index = (uint16_t)(available->index + random() % (QUEUE_SIZE + 2));
}

static void rings(void)
{
    uint32_t descriptors = SCRATCH, available = SCRATCH + 0x2000, used = SCRATCH + 0x4000;

    start(random() & 7 ? descriptors : somewhere(), random() & 7 ? available : somewhere(),
          random() & 7 ? used : somewhere());
    for (unsigned i = random() % 16; i > 0; i--) {
        garble((volatile struct descriptor *)(uintptr_t)descriptors,
               (volatile struct available *)(uintptr_t)available);
        set(QUEUE_NOTIFY, random() & 7 ? 0 : random());
    }
}

void bare_main(void)
{
    static void (*const attacks[])(void) = {any_port, pci_ports, any_memory, any_register, string_access,
                                            string_access, rings};

    for (;;) {
        attacks[random() % (sizeof(attacks) / sizeof(attacks[0]))]();
    }
}
