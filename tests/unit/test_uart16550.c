/* SPDX-License-Identifier: BSD-2-Clause */
/* The UART and the debug console, as a guest sees them through port accesses. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/device.h"
#include "core/inside.h"
#include "fake_xen.h"
#include "unit.h"

enum { BASE = 0x3f8, LINE = 4 };
enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static struct fake_xen *fake;
static char path[96];
static int peer = -1;

static uint8_t in(unsigned reg)
{
    return (uint8_t)fake_in(fake, (uint16_t)(BASE + reg), 1);
}

static void out(unsigned reg, unsigned value)
{
    fake_out(fake, (uint16_t)(BASE + reg), 1, value);
}

static struct fake_xen *start(const char *text)
{
    struct iod_error error = { 0 };
    struct fake_xen *started = fake_start(NULL, GUEST_HVM, &text, 1, &error);
    ck_assert_msg(started != NULL, "%s", error.text);
    ck_assert_msg(fake_running(started), "%s", fake_log(started));
    return started;
}

static void start_uart(void)
{
    char text[160];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(path, sizeof(path), "/tmp/test_uart.%d", (int)getpid());
    snprintf(text, sizeof(text), "uart16550,chardev=socket,chardev.path=%s", path);
    fake = start(text);
    strcpy(address.sun_path, path);
    peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(connect(peer, (struct sockaddr *)&address, sizeof(address)), 0);
    fake_run_ms(fake, 10);
}

static void stop_uart(void)
{
    close(peer);
    fake_stop(fake);
}

static void expect(const char *text)
{
    char got[256] = { 0 };
    fake_run_ms(fake, 5);
    ssize_t count = read(peer, got, sizeof(got) - 1);
    ck_assert_int_eq(count, (ssize_t)strlen(text));
    ck_assert_str_eq(got, text);
}

static void send_to_guest(const char *text)
{
    ck_assert_int_eq(write(peer, text, strlen(text)), (ssize_t)strlen(text));
    fake_run_ms(fake, 10);
}

/* What Linux's 8250 driver does to find out what it has (autoconfig). */
START_TEST(linux_finds_a_16550a)
{
    start_uart();
    out(IER, 0);
    ck_assert_uint_eq(in(IER), 0);
    out(IER, 0x0f);
    ck_assert_uint_eq(in(IER), 0x0f);
    out(IER, 0xff);
    ck_assert_uint_eq(in(IER), 0x0f); /* hvmloader's probe too */
    out(IER, 0);
    out(MCR, 0x1a); /* loopback, OUT2, RTS */
    ck_assert_uint_eq(in(MSR) & 0xf0, 0x90);
    out(MCR, 0);
    out(LCR, 0xbf);
    out(FCR, 0);
    out(LCR, 0);
    out(FCR, 0x01);
    ck_assert_uint_eq(in(IIR) >> 6, 3);
    out(LCR, 0x80);
    ck_assert_uint_ne(in(IIR), 0); /* no EFR */
    out(LCR, 0xbf);
    ck_assert_uint_ne(in(IIR), 0);
    out(LCR, 0);
    uint8_t mcr = in(MCR);
    out(LCR, 0xe0);
    ck_assert_uint_eq((in(IIR) ^ mcr) & 0x10, 0);
    out(LCR, 0);
    out(FCR, 0x21);
    ck_assert_uint_eq(in(IIR) >> 5, 6); /* no 64-byte FIFO */
    out(SCR, 0xa5);
    ck_assert_uint_eq(in(SCR), 0xa5);
    out(LCR, 0x83);
    out(DATA, 0x0c);
    out(IER, 0x34);
    ck_assert_uint_eq(in(DATA), 0x0c);
    ck_assert_uint_eq(in(IER), 0x34);
    out(LCR, 0x03);
    ck_assert_uint_eq(in(IER), 0);
    ck_assert_uint_eq(in(LSR), 0x60);
    stop_uart();
}
END_TEST

START_TEST(transmits)
{
    start_uart();
    out(FCR, 0x01);
    out(MCR, 0x0b);
    for (const char *c = "hello, world"; *c != 0; c++) {
        while ((in(LSR) & 0x20) == 0) {
        }
        out(DATA, (unsigned char)*c);
    }
    expect("hello, world");
    ck_assert_uint_eq(in(LSR), 0x60);
    stop_uart();
}
END_TEST

/* Linux's test for a chip that says "empty" only once: it must say so at each enabling. */
START_TEST(transmitter_interrupt)
{
    start_uart();
    out(FCR, 0x01);
    out(MCR, 0x08);
    out(IER, 0x02);
    ck_assert(fake_line(fake, LINE));
    ck_assert_uint_eq(in(IIR), 0xc2);
    ck_assert_uint_eq(in(IIR), 0xc1); /* seen is gone */
    ck_assert(!fake_line(fake, LINE));
    out(IER, 0);
    out(IER, 0x02);
    ck_assert_uint_eq(in(IIR), 0xc2);
    unsigned raises = fake_raises(fake, LINE);
    out(DATA, 'x');
    fake_run_ms(fake, 5);
    ck_assert(fake_line(fake, LINE));
    ck_assert_uint_eq(fake_raises(fake, LINE), raises + 1);
    ck_assert_uint_eq(in(IIR), 0xc2);
    expect("x");
    stop_uart();
}
END_TEST

START_TEST(out2_is_the_gate)
{
    start_uart();
    out(IER, 0x02);
    ck_assert_uint_eq(in(IIR) & 0x0f, 0x02);
    out(IER, 0);
    out(IER, 0x02);
    ck_assert(!fake_line(fake, LINE));
    out(MCR, 0x08);
    ck_assert(fake_line(fake, LINE));
    out(MCR, 0x00);
    ck_assert(!fake_line(fake, LINE));
    ck_assert_uint_eq(fake_raises(fake, LINE), 1);
    stop_uart();
}
END_TEST

START_TEST(receives_at_trigger)
{
    start_uart();
    out(LCR, 0x83);
    out(DATA, 0xff); /* slow: the time-out is far away */
    out(IER, 0xff);
    out(LCR, 0x03);
    out(FCR, 0x81); /* trigger at 8 */
    out(MCR, 0x08);
    out(IER, 0x01);
    send_to_guest("1234567");
    ck_assert(!fake_line(fake, LINE));
    ck_assert_uint_eq(in(LSR) & 0x01, 0x01);
    send_to_guest("8");
    ck_assert(fake_line(fake, LINE));
    ck_assert_uint_eq(in(IIR), 0xc4);
    for (unsigned i = 1; i <= 8; i++) {
        ck_assert_uint_eq(in(DATA), '0' + i);
    }
    ck_assert(!fake_line(fake, LINE));
    ck_assert_uint_eq(in(LSR), 0x60);
    stop_uart();
}
END_TEST

START_TEST(receive_timeout)
{
    start_uart();
    out(FCR, 0xc1); /* trigger at 14 */
    out(MCR, 0x08);
    out(IER, 0x01);
    send_to_guest("ab");
    fake_run_ms(fake, 20);
    ck_assert(fake_line(fake, LINE));
    ck_assert_uint_eq(in(IIR), 0xcc);
    ck_assert_uint_eq(in(DATA), 'a'); /* a read takes it away, and the time begins anew */
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(in(IIR), 0xcc);
    ck_assert_uint_eq(in(DATA), 'b');
    ck_assert_uint_eq(in(IIR), 0xc1);
    fake_run_ms(fake, 20);
    ck_assert(!fake_line(fake, LINE));
    stop_uart();
}
END_TEST

/* More than the FIFO holds waits at the backend: nothing is overrun, nothing lost. */
START_TEST(flow_control)
{
    start_uart();
    out(FCR, _i == 0 ? 0x01 : 0x00);
    ck_assert_int_eq(write(peer, "abcdefghijklmnopqrstuvwxyz0123456789", 36), 36);
    for (unsigned i = 0; i < 36; i++) {
        while ((in(LSR) & 0x01) == 0) {
        }
        ck_assert_uint_eq(in(DATA), (uint8_t)"abcdefghijklmnopqrstuvwxyz0123456789"[i]);
    }
    ck_assert_uint_eq(in(LSR), 0x60);
    stop_uart();
}
END_TEST

START_TEST(loopback)
{
    start_uart();
    out(FCR, 0x01);
    in(MSR);
    out(MCR, 0x10);
    ck_assert_uint_eq(in(MSR), 0x0b); /* CTS, DSR and DCD fell with their pins */
    for (unsigned line = 0; line < 4; line++) {
        static const uint8_t lines[] = { 0x20, 0x10, 0x40, 0x80 }; /* DTR-DSR, RTS-CTS, OUT1-RI, OUT2-DCD */
        out(MCR, 0x10 | 1u << line);
        ck_assert_uint_eq(in(MSR) & 0xf0, lines[line]);
        out(MCR, 0x10);
        ck_assert_uint_eq(in(MSR), lines[line] >> 4); /* the deltas; RI's counts on its fall */
    }
    out(DATA, 'q');
    fake_run_ms(fake, 2);
    ck_assert_uint_eq(in(LSR), 0x61);
    ck_assert_uint_eq(in(DATA), 'q');
    char nothing;
    ck_assert_int_eq(read(peer, &nothing, 1), -1); /* it did not leave the chip */
    for (unsigned i = 0; i < 17; i++) {
        out(DATA, 'a' + i);
        fake_run_ms(fake, 1);
    }
    ck_assert_uint_eq(in(LSR), 0x63); /* overrun: the 17th is lost */
    ck_assert_uint_eq(in(LSR), 0x61);
    for (unsigned i = 0; i < 16; i++) {
        ck_assert_uint_eq(in(DATA), 'a' + i);
    }
    out(LCR, 0x43); /* break */
    ck_assert_uint_eq(in(LSR), 0xf1);
    ck_assert_uint_eq(in(DATA), 0);
    out(LCR, 0x03);
    out(IER, 0x0c);
    ck_assert_uint_eq(in(IIR), 0xc1);
    out(LCR, 0x43);
    ck_assert_uint_eq(in(IIR), 0xc6);
    in(LSR);
    out(MCR, 0x12);
    ck_assert_uint_eq(in(IIR), 0xc0);
    stop_uart();
}
END_TEST

START_TEST(nobody_there)
{
    start_uart();
    close(peer);
    fake_run_ms(fake, 10);
    for (unsigned i = 0; i < 100; i++) { /* a bare connector: it never fills up */
        out(DATA, 'x');
        fake_run_ms(fake, 1);
        ck_assert_uint_eq(in(LSR), 0x60);
    }
    fake_stop(fake);
}
END_TEST

START_TEST(carrier_of_peer)
{
    fake = start("uart16550,chardev=socket,chardev.path=/tmp/test_uart.carrier,carrier=peer");
    ck_assert_uint_eq(in(MSR) & 0xb0, 0x30);
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/tmp/test_uart.carrier" };
    peer = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(peer, (struct sockaddr *)&address, sizeof(address)), 0);
    fake_run_ms(fake, 10);
    ck_assert_uint_eq(in(MSR), 0xb8);
    ck_assert_uint_eq(in(MSR), 0xb0);
    stop_uart();
}
END_TEST

static void set_true(void *self)
{
    *(bool *)self = true;
}

/* A stop keeps what was not sent, a reset takes all. */
START_TEST(stop_and_reset)
{
    start_uart();
    struct iod_device *device = list_first(
        &list_first(&fake_daemon(fake)->guests, struct guest, link)->devices, struct iod_device, link);
    struct device_stop stop;
    bool quiet = false;
    out(SCR, 0x11);
    out(FCR, 0x01);
    out(MCR, 0x08);
    out(IER, 0x02);
    send_to_guest("zz");
    ck_assert(fake_line(fake, LINE));
    device_stop(device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    device_resume(device);
    ck_assert_uint_eq(in(SCR), 0x11);
    ck_assert_uint_eq(in(DATA), 'z');
    quiet = false;
    device_stop(device, &stop, IOD_CANCEL, set_true, &quiet);
    ck_assert(quiet);
    device_reset(device, true);
    device_resume(device);
    ck_assert(!fake_line(fake, LINE));
    ck_assert_uint_eq(in(SCR), 0);
    ck_assert_uint_eq(in(IER), 0);
    ck_assert_uint_eq(in(LSR), 0x60);
    stop_uart();
}
END_TEST

START_TEST(one_place_one_device)
{
    struct iod_error error = { 0 };
    const char *both[] = { "uart16550", "uart16550,base=0x3fa,irq=3" };
    ck_assert_ptr_null(fake_start(NULL, GUEST_HVM, both, 2, &error));
    ck_says(error, "uart16550-1: registers: ports 0x3fa to 0x401: taken by uart16550-0");
    both[1] = "uart16550,base=0x400,irq=3"; /* next to it */
    fake = fake_start(NULL, GUEST_HVM, both, 2, &error);
    ck_assert_ptr_nonnull(fake);
    fake_stop(fake);
}
END_TEST

START_TEST(type_unknown)
{
    struct iod_error error = { 0 };
    const char *text = "uart16550";
    ck_assert_ptr_null(fake_start(NULL, GUEST_UNKNOWN, &text, 1, &error));
    ck_says(error, "--type hvm");
    ck_says(error, "irq=none");
    text = "uart16550,irq=none";
    fake = fake_start(NULL, GUEST_PVH, &text, 1, &error);
    ck_assert_ptr_nonnull(fake);
    out(MCR, 0x08);
    out(IER, 0x02);
    ck_assert_uint_eq(in(IIR), 0x02); /* polled */
    ck_assert_uint_eq(fake_raises(fake, LINE), 0);
    fake_stop(fake);
    text = "uart16550,reg-shift=2";
    ck_assert_ptr_null(fake_start(NULL, GUEST_HVM, &text, 1, &error));
    ck_says(error, "space=mmio");
    text = "uart16550,space=mmio";
    ck_assert_ptr_null(fake_start(NULL, GUEST_HVM, &text, 1, &error));
    ck_says(error, "base");
}
END_TEST

/* ---- debugcon ---- */

static size_t log_size(void)
{
    struct stat st;
    return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

static bool has_five(void *self)
{
    return log_size() >= 5;
}

START_TEST(debugcon_writes)
{
    char text[160], got[32] = { 0 };
    snprintf(path, sizeof(path), "/tmp/test_debugcon.%d", (int)getpid());
    snprintf(text, sizeof(text), "debugcon,ports=4,chardev=file,chardev.path=%s,chardev.append=off", path);
    fake = start(text);
    ck_assert_uint_eq(fake_in(fake, 0x402, 1), 0xe9);
    ck_assert_uint_eq(fake_in(fake, 0x402, 4), 0xe9e9e9e9);
    fake_out(fake, 0x402, 1, 'A');
    fake_out(fake, 0x402, 4, 0x45444342);
    fake_run(fake, has_five, NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, got, sizeof(got)), 5);
    ck_assert_str_eq(got, "ABCDE");
    close(fd);
    fake_stop(fake);
    ck_assert_uint_eq(log_size(), 5);
    unlink(path);
}
END_TEST

/* A full backend makes the writer wait for room, and after a second drops: the vCPU is never stuck. */
START_TEST(debugcon_waits)
{
    static uint8_t bytes[1 << 16];
    char text[160];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(path, sizeof(path), "/tmp/test_debugcon.%d", (int)getpid());
    snprintf(text, sizeof(text), "debugcon,chardev=socket,chardev.path=%s", path);
    fake = start(text);
    strcpy(address.sun_path, path);
    peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(connect(peer, (struct sockaddr *)&address, sizeof(address)), 0);
    fake_run_ms(fake, 10);
    unsigned sent = 0;
    do {
        fake_begin_out(fake, 0x402, 1, 'x');
        for (unsigned i = 0; i < 20 && !fake_answered(fake); i++) {
            fake_run_ms(fake, 0);
        }
        sent++;
        ck_assert_uint_lt(sent, 100000);
    } while (fake_answered(fake));
    ssize_t got = 0, part;
    while ((part = read(peer, bytes, sizeof(bytes))) > 0) {
        got += part;
    }
    fake_run_ms(fake, 20);
    ck_assert(fake_answered(fake)); /* there was room again */
    while ((part = read(peer, bytes, sizeof(bytes))) > 0) {
        got += part;
    }
    ck_assert_int_eq(got, sent);
    stop_uart();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("uart16550");
    TCase *c = tcase_create("uart16550");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, linux_finds_a_16550a);
    tcase_add_test(c, transmits);
    tcase_add_test(c, transmitter_interrupt);
    tcase_add_test(c, out2_is_the_gate);
    tcase_add_test(c, receives_at_trigger);
    tcase_add_test(c, receive_timeout);
    tcase_add_loop_test(c, flow_control, 0, 2);
    tcase_add_test(c, loopback);
    tcase_add_test(c, nobody_there);
    tcase_add_test(c, carrier_of_peer);
    tcase_add_test(c, stop_and_reset);
    tcase_add_test(c, one_place_one_device);
    tcase_add_test(c, type_unknown);
    tcase_add_test(c, debugcon_writes);
    tcase_add_test(c, debugcon_waits);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
