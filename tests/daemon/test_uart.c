/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uart16550 as an operating system's driver meets it: the probe, the FIFOs, the interrupt, both directions;
 * in ports with an ISA line and in memory with an SPI.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };
#define PORT 0x3f8
#define LINE 4
#define ARM_BASE 0x2000000u
#define SPI 40

enum place { PLACE_PORTS, PLACE_ARM, PLACE_POLLED, PLACES };
static struct fixture f;
static enum place place;
static int peer;

static void out(unsigned reg, uint8_t value)
{
    if (place == PLACE_ARM) {
        vcpu_mmio_write(f.guest, 0, ARM_BASE + reg * 4, 4, value);
    } else {
        vcpu_outb(f.guest, 0, (uint16_t)(PORT + reg), value);
    }
}

static uint8_t in(unsigned reg)
{
    return place == PLACE_ARM ? (uint8_t)vcpu_mmio_read(f.guest, 0, ARM_BASE + reg * 4, 1)
                              : vcpu_inb(f.guest, 0, (uint16_t)(PORT + reg));
}

static void start(int where)
{
    static const enum mock_profile profiles[PLACES] = {MOCK_HVM, MOCK_ARM64, MOCK_PVH};
    static const char *const keys[PLACES] = {"", "space=mmio,base=0x2000000,reg-shift=2,irq=40,", "irq=none,"};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char device[256];
    place = (enum place)where;
    fixture_start(&f, profiles[where], 1);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/uart", mock_dir(f.mock));
    snprintf(device, sizeof(device), "uart16550,%schardev=socket,chardev.path=%s", keys[where], address.sun_path);
    fixture_run(&f, "--on-exit", "destroy", "--device", device, NULL);
    if (place == PLACE_PORTS) {
        mock_gsi_config(f.guest, LINE, false, false);
    }
    peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(peer, (struct sockaddr *)&address, sizeof(address)), 0);
    struct timeval patience = {.tv_sec = FIXTURE_TIMEOUT_MS / 1000};
    ck_assert_int_eq(setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
}

static void stop(void)
{
    close(peer);
    fixture_terminate(&f);
    fixture_expect_clean(&f);
    fixture_stop(&f);
}

static void wait_for(unsigned reg, uint8_t mask, uint8_t value)
{
    for (unsigned i = 0; (in(reg) & mask) != value; i++) {
        ck_assert_msg(i < 2000, "register %u stays 0x%x, waited for 0x%x in 0x%x", reg, in(reg), value, mask);
        usleep(i < 100 ? 1000 : 10000);
    }
}

/* Interrupts taken so far, as far as this place has any. */
static uint64_t interrupts(void)
{
    return place == PLACE_PORTS ? mock_gsi_count(f.guest, LINE) : place == PLACE_ARM ? mock_spi_count(f.guest, SPI) : 0;
}

static void expect_interrupt(uint64_t before)
{
    if (place == PLACE_PORTS) {
        ck_assert_int_eq(mock_gsi_wait(f.guest, LINE, before + 1, FIXTURE_TIMEOUT_MS), 0);
    } else if (place == PLACE_ARM) {
        ck_assert_int_eq(mock_spi_take(f.guest, SPI, FIXTURE_TIMEOUT_MS), 0);
    }
}

/* The steps of an 8250 driver that looks for the chip, and then for its kind. */
START_TEST(probe)
{
    start(_i);
    uint8_t ier = in(IER);
    out(IER, 0);
    ck_assert_uint_eq(in(IER) & 0x0f, 0);
    out(IER, 0x0f);
    ck_assert_uint_eq(in(IER), 0x0f); /* no bit above: no sleep mode, no XScale */
    out(IER, ier);
    uint8_t mcr = in(MCR);
    out(MCR, 0x10 | 0x08 | 0x02);
    ck_assert_uint_eq(in(MSR) & 0xf0, 0x90); /* loopback: OUT2 is DCD, RTS is CTS */
    out(MCR, 0x10 | 0x04 | 0x01);
    ck_assert_uint_eq(in(MSR) & 0xf0, 0x60);
    out(MCR, mcr);
    out(LCR, 0xbf);
    out(FCR, 0);
    out(LCR, 0);
    out(FCR, 0x01);
    ck_assert_uint_eq(in(IIR) >> 6, 3); /* a 16550A's FIFO */
    out(FCR, 0x01 | 0x20);
    ck_assert_uint_eq(in(IIR) & 0x20, 0); /* no 16750 */
    out(LCR, 0x80);
    out(DATA, 0x01);
    out(IER, 0x00);
    ck_assert_uint_eq(in(DATA), 1);
    out(LCR, 0x03);
    ck_assert_uint_eq(in(LCR), 0x03);
    out(SCR, 0xa5);
    ck_assert_uint_eq(in(SCR), 0xa5);
    ck_assert_uint_eq(in(LSR), 0x60);
    stop();
}
END_TEST

/* How the driver finds its interrupt line, and works around chips that lose THRE. */
START_TEST(transmit_interrupt)
{
    start(_i);
    uint64_t before = interrupts();
    out(FCR, 0x01);
    out(MCR, 0x0b);
    out(IER, 0x02);
    expect_interrupt(before);
    ck_assert_uint_eq(in(IIR), 0xc2);
    ck_assert_uint_eq(in(IIR), 0xc1); /* reading it acknowledged it */
    out(IER, 0);
    before = interrupts();
    out(IER, 0x02); /* again, without a byte in between */
    expect_interrupt(before);
    ck_assert_uint_eq(in(IIR), 0xc2);
    char text[64], got[64];
    for (unsigned round = 0; round < 20; round++) {
        before = interrupts();
        for (unsigned i = 0; i < 16; i++) { /* a FIFO full for each interrupt */
            text[i] = (char)('A' + (round + i) % 26);
            out(DATA, (uint8_t)text[i]);
        }
        ck_assert_int_eq(recv(peer, got, 16, MSG_WAITALL), 16);
        ck_assert_mem_eq(got, text, 16);
        expect_interrupt(before);
        wait_for(LSR, 0x60, 0x60);
        ck_assert_uint_eq(in(IIR), 0xc2);
    }
    stop();
}
END_TEST

START_TEST(receive)
{
    uint8_t sent[300], byte;
    start(_i);
    out(FCR, 0x01 | 0x80); /* trigger at 8 */
    out(MCR, 0x0b);
    out(IER, 0x05);
    uint64_t before = interrupts();
    for (unsigned i = 0; i < sizeof(sent); i++) {
        sent[i] = (uint8_t)(i * 7 + 1);
    }
    ck_assert_int_eq(send(peer, sent, sizeof(sent), 0), sizeof(sent));
    expect_interrupt(before);
    for (unsigned i = 0; i < sizeof(sent); i++) { /* 300 bytes through 16: none is lost, none overruns */
        wait_for(LSR, 0x01, 0x01);
        byte = in(DATA);
        ck_assert_msg(byte == sent[i], "byte %u: 0x%x, sent 0x%x", i, byte, sent[i]);
    }
    ck_assert_uint_eq(in(LSR) & 0x1f, 0);
    wait_for(IIR, 0x0f, 0x01);
    if (place == PLACE_ARM) { /* what was pended while the bytes were read */
        mock_spi_take(f.guest, SPI, 0);
    }
    /* Less than the trigger level: the time-out says so. */
    before = interrupts();
    ck_assert_int_eq(send(peer, "ab", 2, 0), 2);
    expect_interrupt(before);
    wait_for(IIR, 0x0f, 0x0c);
    ck_assert_uint_eq(in(DATA), 'a');
    ck_assert_uint_eq(in(DATA), 'b');
    ck_assert_uint_eq(in(IIR), 0xc1);
    stop();
}
END_TEST

START_TEST(loopback)
{
    char got[8];
    start(_i);
    out(FCR, 0x07);
    out(MCR, 0x1b);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 16; i++) {
            out(DATA, (uint8_t)(0x30 + round + i));
        }
        wait_for(LSR, 0x61, 0x61);
        for (unsigned i = 0; i < 16; i++) {
            ck_assert_uint_eq(in(LSR) & 0x1f, 0x01);
            ck_assert_uint_eq(in(DATA), 0x30 + round + i);
        }
        ck_assert_uint_eq(in(LSR), 0x60);
    }
    out(MCR, 0x0b);
    out(DATA, '!');
    ck_assert_int_eq(recv(peer, got, sizeof(got), 0), 1); /* nothing of the loop went out */
    ck_assert_int_eq(got[0], '!');
    stop();
}
END_TEST

/* String output as firmware does it; with FIFOs off each byte waits its turn by the status register. */
START_TEST(many_bytes)
{
    static uint8_t sent[4000], got[4000];
    start(PLACE_PORTS);
    out(FCR, 0x01);
    for (unsigned i = 0; i < sizeof(sent); i++) {
        sent[i] = (uint8_t)(i * 13 + i / 256);
    }
    for (unsigned i = 0; i < 4000; i += 8) {
        wait_for(LSR, 0x20, 0x20);
        ck_assert_int_eq(mock_guest_write(f.guest, 0x5ffc, sent + i, 8), 0);
        ck_assert_int_eq(vcpu_rep_outs(f.guest, 0, PORT, 1, 0x5ffc, 8, false), MOCK_DONE);
        ck_assert_int_eq(recv(peer, got + i, 8, MSG_WAITALL), 8);
    }
    ck_assert_mem_eq(got, sent, 4000);
    out(FCR, 0);
    for (unsigned i = 0; i < 1000; i++) {
        wait_for(LSR, 0x20, 0x20);
        out(DATA, sent[i]);
        ck_assert_int_eq(recv(peer, got, 1, MSG_WAITALL), 1);
        ck_assert_uint_eq(got[0], sent[i]);
    }
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uart");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, probe, 0, PLACES);
    tcase_add_loop_test(tcase, transmit_interrupt, 0, PLACES);
    tcase_add_loop_test(tcase, receive, 0, PLACES);
    tcase_add_loop_test(tcase, loopback, 0, PLACES);
    tcase_add_test(tcase, many_bytes);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
