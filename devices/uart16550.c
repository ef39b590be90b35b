/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The UART 16550A, as PC16550D's data sheet has it: registers, FIFOs, four interrupt causes by priority,
 * loopback. Bytes go out as fast as the backend takes them, and come in as fast as the guest reads them (the
 * backend is asked only for what the FIFO has room for, so an overrun happens in loopback alone). Without a
 * peer bytes go nowhere, as on a bare connector. On a PC, modem control's OUT2 connects the interrupt to its
 * line; elsewhere the wire is direct.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <ioreqd/chardev.h>
#include <ioreqd/irq.h>
#include <ioreqd/loop.h>
#include <ioreqd/module.h>
#include <ioreqd/region.h>

enum { FIFO_SIZE = 16, CLOCK = 115200 /* baud with divisor 1 */ };

/* Register offsets; the first two are the divisor's bytes while LCR_DLAB is set. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, REG_COUNT };

enum { IER_RX = 0x01, IER_TX = 0x02, IER_LINE = 0x04, IER_MODEM = 0x08, IER_MASK = 0x0f };
enum { IIR_MODEM = 0x00, IIR_NONE = 0x01, IIR_TX = 0x02, IIR_RX = 0x04, IIR_LINE = 0x06, IIR_TIMEOUT = 0x0c,
       IIR_FIFOS = 0xc0 };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02, FCR_CLEAR_TX = 0x04, FCR_KEPT = 0xc9 };
enum { LCR_BITS = 0x03, LCR_STOP = 0x04, LCR_PARITY = 0x08, LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10, MCR_MASK = 0x1f };
enum { LSR_DATA = 0x01, LSR_OVERRUN = 0x02, LSR_BREAK = 0x10, LSR_ERRORS = 0x1e, LSR_THR_EMPTY = 0x20,
       LSR_IDLE = 0x40, LSR_FIFO_ERROR = 0x80 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_LINES = 0xf0, MSR_DELTA_RI = 0x04 };

/* What the guest can see. LSR's and IIR's other bits follow from these. */
struct regs {
    uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
    uint8_t lsr;                  /* the error bits only */
    uint8_t rx[FIFO_SIZE], rx_errors[FIFO_SIZE];
    uint8_t tx[FIFO_SIZE];
    uint8_t rx_first, rx_count;   /* a ring */
    uint8_t tx_count;             /* the oldest is tx[0] */
    uint8_t tx_empty_pending;     /* the THR-empty interrupt: seen once */
    uint8_t timeout_pending;      /* bytes below the trigger level have waited for four characters' time */
};

struct uart {
    struct iod_device *device;
    struct regs *regs;
    struct iod_chardev *chardev;
    struct iod_irq *irq;          /* NULL: polled */
    struct iod_timer *timeout;
    struct iod_task *transmit;
    uint8_t causes;               /* IER bits of the causes that the wire was raised for */
    bool on_pc;                   /* port I/O: OUT2 gates the interrupt */
    bool carrier_of_peer, connected;
    unsigned shift;
};

static const char *const space_choices[] = { "pio", "mmio", NULL };
static const char *const carrier_choices[] = { "always", "peer", NULL };

static const struct iod_option uart_options[] = {
    { .name = "space", .type = IOD_OPTION_CHOICE, .fallback = "pio", .choices = space_choices,
      .help = "pio: at port 0x3f8, interrupt 4, unless base= and irq= say otherwise; mmio: base= is needed" },
    { .name = "reg-shift", .type = IOD_OPTION_NUMBER, .fallback = "0", .max = 3,
      .help = "registers are 1 << N bytes apart (mmio)" },
    { .name = "carrier", .type = IOD_OPTION_CHOICE, .fallback = "always", .choices = carrier_choices,
      .help = "the carrier line is on always, or while the backend has a peer" },
    { .name = NULL },
};

static bool valid_fifos(const void *from)
{
    const struct regs *regs = from;
    return regs->rx_count <= FIFO_SIZE && regs->rx_first < FIFO_SIZE && regs->tx_count <= FIFO_SIZE;
}

static const struct iod_field uart_fields[] = {
    IOD_FIELD(struct regs, ier, 1),
    IOD_FIELD(struct regs, fcr, 1),
    IOD_FIELD(struct regs, lcr, 1),
    IOD_FIELD(struct regs, mcr, 1),
    IOD_FIELD(struct regs, msr, 1),
    IOD_FIELD(struct regs, scr, 1),
    IOD_FIELD(struct regs, dll, 1),
    IOD_FIELD(struct regs, dlm, 1),
    IOD_FIELD(struct regs, lsr, 1),
    IOD_FIELD_ARRAY(struct regs, rx, 1),
    IOD_FIELD_ARRAY(struct regs, rx_errors, 1),
    IOD_FIELD_ARRAY(struct regs, tx, 1),
    IOD_FIELD_CHECKED(struct regs, rx_first, 1, valid_fifos),
    IOD_FIELD_CHECKED(struct regs, rx_count, 1, valid_fifos),
    IOD_FIELD_CHECKED(struct regs, tx_count, 1, valid_fifos),
    IOD_FIELD(struct regs, tx_empty_pending, 1),
    IOD_FIELD(struct regs, timeout_pending, 1),
    { .name = NULL },
};

/* ---- interrupts ---- */

static bool fifos_on(const struct regs *regs)
{
    return (regs->fcr & FCR_ENABLE) != 0;
}

static unsigned rx_capacity(const struct regs *regs)
{
    return fifos_on(regs) ? FIFO_SIZE : 1;
}

static unsigned rx_trigger(const struct regs *regs)
{
    static const uint8_t levels[] = { 1, 4, 8, 14 };
    return fifos_on(regs) ? levels[regs->fcr >> 6] : 1;
}

/* The causes at hand, as IER bits, enabled or not. */
static uint8_t causes_now(const struct regs *regs)
{
    uint8_t causes = 0;
    if (regs->rx_count >= rx_trigger(regs) || regs->timeout_pending != 0) {
        causes |= IER_RX;
    }
    if (regs->tx_empty_pending != 0) {
        causes |= IER_TX;
    }
    if ((regs->lsr & LSR_ERRORS) != 0) {
        causes |= IER_LINE;
    }
    if ((regs->msr & ~MSR_LINES) != 0) {
        causes |= IER_MODEM;
    }
    return causes;
}

static uint8_t identify(const struct regs *regs)
{
    uint8_t causes = causes_now(regs) & regs->ier, fifos = fifos_on(regs) ? IIR_FIFOS : 0;
    if ((causes & IER_LINE) != 0) {
        return fifos | IIR_LINE;
    }
    if ((causes & IER_RX) != 0) {
        return fifos | (regs->rx_count >= rx_trigger(regs) ? IIR_RX : IIR_TIMEOUT);
    }
    if ((causes & IER_TX) != 0) {
        return fifos | IIR_TX;
    }
    return fifos | ((causes & IER_MODEM) != 0 ? IIR_MODEM : IIR_NONE);
}

/* The wire follows the causes: raised for each new one, lowered with the last. */
static void update(struct uart *uart)
{
    const struct regs *regs = uart->regs;
    uint8_t causes = causes_now(regs) & regs->ier;
    if (uart->on_pc && (regs->mcr & (MCR_OUT2 | MCR_LOOP)) != MCR_OUT2) {
        causes = 0; /* loopback takes the modem control outputs off their pins, OUT2 too */
    }
    if (uart->irq != NULL && (causes & ~uart->causes) != 0) {
        iod_irq_raise(uart->irq);
    } else if (uart->irq != NULL && causes == 0 && uart->causes != 0) {
        iod_irq_lower(uart->irq);
    }
    uart->causes = causes;
}

/* ---- receiving ---- */

static uint64_t character_ns(const struct regs *regs)
{
    unsigned divisor = regs->dll | regs->dlm << 8;
    unsigned bits =
        1 + 5 + (regs->lcr & LCR_BITS) + ((regs->lcr & LCR_PARITY) != 0) + 1 + ((regs->lcr & LCR_STOP) != 0);
    return UINT64_C(1000000000) * bits * (divisor != 0 ? divisor : 1) / CLOCK;
}

/* Bytes below the trigger level are announced after four characters' time without a new one or a read. */
static void restart_timeout(struct uart *uart)
{
    const struct regs *regs = uart->regs;
    if (fifos_on(regs) && regs->rx_count > 0 && regs->rx_count < rx_trigger(regs)) {
        iod_timer_set(uart->timeout, iod_guest_ns(uart->device) + 4 * character_ns(regs));
    } else {
        iod_timer_cancel(uart->timeout);
    }
}

static void timeout_fired(void *self)
{
    struct uart *uart = self;
    if (uart->regs->rx_count > 0) {
        uart->regs->timeout_pending = 1;
        update(uart);
    }
}

/* Errors of a byte are shown when it is the next to be read. */
static void show_errors(struct regs *regs)
{
    if (regs->rx_count > 0) {
        regs->lsr |= regs->rx_errors[regs->rx_first % FIFO_SIZE];
        regs->rx_errors[regs->rx_first % FIFO_SIZE] = 0;
    }
}

static void put_rx(struct regs *regs, uint8_t byte, uint8_t errors)
{
    if (regs->rx_count >= rx_capacity(regs)) {
        regs->lsr |= LSR_OVERRUN;
        if (!fifos_on(regs)) {
            regs->rx[regs->rx_first % FIFO_SIZE] = byte; /* without a FIFO the new byte wins */
        }
        return;
    }
    unsigned at = (regs->rx_first + regs->rx_count) % FIFO_SIZE;
    regs->rx[at] = byte;
    regs->rx_errors[at] = errors;
    regs->rx_count++;
    show_errors(regs);
}

static uint8_t take_rx(struct regs *regs)
{
    uint8_t byte = regs->rx[regs->rx_first % FIFO_SIZE];
    if (regs->rx_count > 0) {
        regs->rx_first = (uint8_t)((regs->rx_first + 1) % FIFO_SIZE);
        regs->rx_count--;
        show_errors(regs);
    }
    return byte;
}

static void ask_for_bytes(struct uart *uart)
{
    const struct regs *regs = uart->regs;
    unsigned room = rx_capacity(regs) > regs->rx_count ? rx_capacity(regs) - regs->rx_count : 0;
    iod_chardev_accept(uart->chardev, (regs->mcr & MCR_LOOP) != 0 ? 0 : room);
}

static void receive(void *self, const uint8_t *bytes, size_t count)
{
    struct uart *uart = self;
    for (size_t i = 0; i < count; i++) {
        put_rx(uart->regs, bytes[i], 0);
    }
    restart_timeout(uart);
    update(uart);
}

/* ---- transmitting ---- */

static void tx_emptied(struct uart *uart)
{
    uart->regs->tx_empty_pending = 1;
}

/* After the batch: one call to the backend for all that the guest wrote meanwhile. */
static void transmit(void *self)
{
    struct uart *uart = self;
    struct regs *regs = uart->regs;
    if (regs->tx_count == 0) {
        return;
    }
    size_t taken = regs->tx_count;
    if ((regs->mcr & MCR_LOOP) != 0) {
        for (size_t i = 0; i < taken; i++) {
            put_rx(regs, regs->tx[i], 0);
        }
        restart_timeout(uart);
    } else if (uart->connected) {
        taken = iod_chardev_write(uart->chardev, regs->tx, taken);
        taken = taken < regs->tx_count ? taken : regs->tx_count;
    }
    memmove(regs->tx, regs->tx + taken, regs->tx_count - taken);
    regs->tx_count = (uint8_t)(regs->tx_count - taken);
    if (regs->tx_count == 0) {
        tx_emptied(uart);
    }
    update(uart);
}

static void put_tx(struct uart *uart, uint8_t byte)
{
    struct regs *regs = uart->regs;
    unsigned capacity = fifos_on(regs) ? FIFO_SIZE : 1;
    regs->tx_empty_pending = 0;
    if (regs->tx_count < capacity) {
        regs->tx[regs->tx_count++] = byte;
    } else {
        regs->tx[capacity - 1] = byte; /* a guest that does not wait writes over its last byte */
    }
    iod_task_queue(uart->transmit);
}

/* ---- modem ---- */

static uint8_t modem_lines(const struct uart *uart)
{
    uint8_t mcr = uart->regs->mcr;
    if ((mcr & MCR_LOOP) != 0) {
        return (uint8_t)(((mcr & MCR_RTS) != 0 ? MSR_CTS : 0) | ((mcr & MCR_DTR) != 0 ? MSR_DSR : 0) |
                         ((mcr & MCR_OUT1) != 0 ? MSR_RI : 0) | ((mcr & MCR_OUT2) != 0 ? MSR_DCD : 0));
    }
    return MSR_CTS | MSR_DSR | (!uart->carrier_of_peer || uart->connected ? MSR_DCD : 0);
}

static void update_modem(struct uart *uart)
{
    struct regs *regs = uart->regs;
    uint8_t lines = modem_lines(uart), changed = (uint8_t)((regs->msr ^ lines) & MSR_LINES);
    if ((changed & MSR_RI) != 0 && (lines & MSR_RI) != 0) {
        changed &= (uint8_t)~MSR_RI; /* the ring indicator counts when it falls */
    }
    regs->msr = (uint8_t)(lines | (regs->msr & ~MSR_LINES) | changed >> 4);
}

static void connected(void *self, int is_connected)
{
    struct uart *uart = self;
    uart->connected = is_connected != 0;
    update_modem(uart);
    iod_task_queue(uart->transmit); /* what waited for a peer that has gone goes nowhere */
    update(uart);
}

/* ---- registers ---- */

static uint8_t read_lsr(struct regs *regs)
{
    uint8_t value = regs->lsr | (regs->rx_count > 0 ? LSR_DATA : 0);
    if (regs->tx_count == 0) {
        value |= LSR_THR_EMPTY | LSR_IDLE;
    }
    for (unsigned i = 0; fifos_on(regs) && i < regs->rx_count && i < FIFO_SIZE; i++) {
        value |= regs->rx_errors[(regs->rx_first + i) % FIFO_SIZE] != 0 ? LSR_FIFO_ERROR : 0;
    }
    value |= fifos_on(regs) && (regs->lsr & LSR_ERRORS & ~LSR_OVERRUN) != 0 ? LSR_FIFO_ERROR : 0;
    regs->lsr = 0;
    return value;
}

static uint8_t read_data(struct uart *uart)
{
    struct regs *regs = uart->regs;
    uint8_t byte = take_rx(regs);
    regs->timeout_pending = 0;
    restart_timeout(uart);
    ask_for_bytes(uart);
    return byte;
}

static uint8_t read_register(struct uart *uart, unsigned reg)
{
    struct regs *regs = uart->regs;
    bool divisor = (regs->lcr & LCR_DLAB) != 0;
    uint8_t value = 0;
    switch (reg) {
    case REG_DATA:
        return divisor ? regs->dll : read_data(uart);
    case REG_IER:
        return divisor ? regs->dlm : regs->ier;
    case REG_IIR_FCR:
        value = identify(regs);
        if ((value & ~IIR_FIFOS) == IIR_TX) {
            regs->tx_empty_pending = 0; /* reading its name acknowledges this one */
        }
        return value;
    case REG_LCR:
        return regs->lcr;
    case REG_MCR:
        return regs->mcr;
    case REG_LSR:
        return read_lsr(regs);
    case REG_MSR:
        value = regs->msr;
        regs->msr &= MSR_LINES;
        return value;
    default:
        return regs->scr;
    }
}

static void write_ier(struct regs *regs, uint8_t value)
{
    value &= IER_MASK;
    if ((value & ~regs->ier & IER_TX) != 0 && regs->tx_count == 0) {
        regs->tx_empty_pending = 1; /* asking while it is empty is answered at once */
    }
    regs->ier = value;
}

static void write_fcr(struct uart *uart, uint8_t value)
{
    struct regs *regs = uart->regs;
    bool turned = ((regs->fcr ^ value) & FCR_ENABLE) != 0;
    if ((value & FCR_ENABLE) == 0) {
        value = 0; /* the other bits are taken only together with this one */
    }
    if (turned || (value & FCR_CLEAR_RX) != 0) {
        regs->rx_first = regs->rx_count = regs->timeout_pending = 0;
        memset(regs->rx_errors, 0, sizeof(regs->rx_errors));
    }
    if ((turned || (value & FCR_CLEAR_TX) != 0) && regs->tx_count > 0) {
        regs->tx_count = 0;
        tx_emptied(uart);
    }
    regs->fcr = value & FCR_KEPT;
    if (regs->rx_count >= rx_trigger(regs)) {
        regs->timeout_pending = 0;
    }
    restart_timeout(uart);
    ask_for_bytes(uart);
}

static void write_lcr(struct uart *uart, uint8_t value)
{
    struct regs *regs = uart->regs;
    bool break_begins = (value & ~regs->lcr & LCR_BREAK) != 0;
    regs->lcr = value;
    if (break_begins && (regs->mcr & MCR_LOOP) != 0) {
        put_rx(regs, 0, LSR_BREAK);
        restart_timeout(uart);
    }
}

static void write_mcr(struct uart *uart, uint8_t value)
{
    struct regs *regs = uart->regs;
    transmit(uart); /* what was written before goes where it was written to */
    regs->mcr = value & MCR_MASK;
    update_modem(uart);
    ask_for_bytes(uart);
}

static void write_register(struct uart *uart, unsigned reg, uint8_t value)
{
    struct regs *regs = uart->regs;
    bool divisor = (regs->lcr & LCR_DLAB) != 0;
    switch (reg) {
    case REG_DATA:
        if (divisor) {
            regs->dll = value;
        } else {
            put_tx(uart, value);
        }
        break;
    case REG_IER:
        if (divisor) {
            regs->dlm = value;
        } else {
            write_ier(regs, value);
        }
        break;
    case REG_IIR_FCR:
        write_fcr(uart, value);
        break;
    case REG_LCR:
        write_lcr(uart, value);
        break;
    case REG_MCR:
        write_mcr(uart, value);
        break;
    case REG_SCR:
        regs->scr = value;
        break;
    default: /* LSR is for factory tests, MSR is read-only */
        break;
    }
}

static uint64_t uart_read(void *self, uint64_t offset, unsigned width)
{
    struct uart *uart = self;
    if ((offset & ((1u << uart->shift) - 1)) != 0) {
        return 0; /* between two registers */
    }
    uint8_t value = read_register(uart, (unsigned)(offset >> uart->shift) % REG_COUNT);
    update(uart);
    return value;
}

static void uart_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct uart *uart = self;
    if ((offset & ((1u << uart->shift) - 1)) != 0) {
        return;
    }
    write_register(uart, (unsigned)(offset >> uart->shift) % REG_COUNT, (uint8_t)value);
    update(uart);
}

/* A register takes as much room as the shift gives it, and is read by any access that fits in there. */
static const struct iod_region_ops uart_ops[] = {
    { .size = sizeof(struct iod_region_ops), .widths = 1, .read = uart_read, .write = uart_write },
    { .size = sizeof(struct iod_region_ops), .widths = 1 | 2, .read = uart_read, .write = uart_write },
    { .size = sizeof(struct iod_region_ops), .widths = 1 | 2 | 4, .read = uart_read, .write = uart_write },
    { .size = sizeof(struct iod_region_ops),
      .widths = 1 | 2 | 4 | 8,
      .read = uart_read,
      .write = uart_write },
};

/* ---- life ---- */

static const struct iod_chardev_events uart_events = {
    .size = sizeof(struct iod_chardev_events),
    .receive = receive,
    .writable = transmit,
    .connected = connected,
};

static int uart_create(struct iod_device *device, struct iod_error *error)
{
    struct uart *uart = iod_self(device);
    const struct iod_options *options = iod_device_options(device);
    uart->device = device;
    uart->regs = iod_regs(device);
    uart->on_pc = iod_option_choice(options, "space") == 0;
    uart->carrier_of_peer = iod_option_choice(options, "carrier") != 0;
    uart->shift = (unsigned)iod_option_number(options, "reg-shift");
    if (uart->on_pc && uart->shift != 0) {
        return iod_fail(error, EINVAL, "reg-shift=%u: is for space=mmio", uart->shift);
    }
    struct iod_region *region = iod_region_add(device, "registers", (uint64_t)REG_COUNT << uart->shift,
                                               &uart_ops[uart->shift], uart);
    uart->timeout = iod_timer_add(device, "receive-timeout", timeout_fired, uart);
    uart->transmit = iod_task_add(device, transmit, uart);
    if (region == NULL || uart->timeout == NULL || uart->transmit == NULL) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    int result = iod_region_place_base(region, uart->on_pc ? IOD_PIO : IOD_MMIO,
                                       uart->on_pc ? 0x3f8 : UINT64_MAX, error);
    if (result != 0) {
        return result;
    }
    struct iod_error none = { 0 };
    uart->irq = iod_irq_get(device, uart->on_pc ? 4 : -1, &none);
    if (uart->irq == NULL && none.code != 0) {
        return iod_fail(error, none.code, "%s", none.text);
    }
    uart->chardev = iod_chardev_attach(device, "chardev", NULL, &uart_events, uart, error);
    return uart->chardev != NULL ? 0 : -EINVAL;
}

static void uart_start(struct iod_device *device)
{
    struct uart *uart = iod_self(device);
    update_modem(uart);
    ask_for_bytes(uart);
    if (uart->regs->tx_count > 0) {
        iod_task_queue(uart->transmit);
    }
    update(uart);
}

static enum iod_when uart_quiesce(struct iod_device *device, enum iod_drain drain)
{
    struct uart *uart = iod_self(device);
    iod_task_cancel(uart->transmit); /* bytes not sent stay in the FIFO, where save finds them */
    return IOD_NOW;
}

static void uart_reset(struct iod_device *device)
{
    struct uart *uart = iod_self(device);
    struct regs *regs = uart->regs;
    regs->dll = 1; /* not defined by the data sheet; a divisor of 0 would be no speed at all */
    regs->msr = modem_lines(uart);
    iod_timer_cancel(uart->timeout);
    update(uart);
}

static const struct iod_device_class uart_class = {
    .size = sizeof(struct iod_device_class),
    .name = "uart16550",
    .summary = "serial port 16550A",
    .backends = IOD_BACKEND_CHARDEV,
    .self_size = sizeof(struct uart),
    .regs_size = sizeof(struct regs),
    .version = 1,
    .options = uart_options,
    .fields = uart_fields,
    .create = uart_create,
    .start = uart_start,
    .quiesce = uart_quiesce,
    .reset = uart_reset,
};

static const struct iod_device_class *const devices[] = { &uart_class, NULL };

IOD_MODULE(uart16550) = { .size = sizeof(struct iod_module), .abi = IOD_ABI, .devices = devices };
