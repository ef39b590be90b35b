/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TCP bytes per CPU second, of all processes together: one generator sends the same frames through virtio-net and a
 * backend, and straight to what is behind the backend: the tap, passt's socket. A process behind it reads the bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "tcp.h"
#include "virtio_net_driver.h"

#define RAM (64u << 20)
#define SLOTS 32u
#define SLOT_BYTES (12u + 65550u)
#define PORT 5001
#define ROUNDS 15u
#define ROUND_BYTES (96u << 20)
#define HEADER sizeof(struct virtio_net_hdr_v1)

/* ---- who reads the bytes ---- */

static void drain_forever(int listener)
{
    static uint8_t bytes[256 << 10];
    /* How often a reader wakes depends on who else wants the CPU; no side shall gain by that. */
    int enough = sizeof(bytes) / 2;
    setsockopt(listener, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof(enough));
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && fork() == 0) { /* each connection has its own reader */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            while (read(fd, bytes, sizeof(bytes)) > 0) {
            }
            _exit(0);
        }
        close(fd);
    }
}

/* All readers are children of this process. */
static pid_t start_sink(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int one = 1, room = 4 << 20, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 8)) {
        bench_fail("TCP port %d: %s", PORT, strerror(errno));
    }
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGCHLD, SIG_IGN);
        drain_forever(listener);
    }
    close(listener);
    return pid;
}

/* The newest child of the sink: the reader of the connection that was opened last. */
static pid_t newest_reader(pid_t sink)
{
    char path[64], text[512] = "";
    pid_t newest = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", sink, sink);
    FILE *file = fopen(path, "re");
    if (file && fgets(text, sizeof(text), file)) {
        for (char *rest = text, *end; *rest; rest = end) {
            pid_t pid = (pid_t)strtol(rest, &end, 10);
            newest = pid > newest ? pid : newest;
            if (end == rest) {
                break;
            }
        }
    }
    if (file) {
        fclose(file);
    }
    return newest ? newest : (bench_fail("the connection has no reader"), 0);
}

/* ---- straight to a tap ---- */

struct straight {
    int fd;
    bool stream;              /* passt's framing, and no vnet header */
    unsigned next;            /* the slots in turn: as much memory as a ring's frames lie in, not one hot piece */
    uint8_t memory[SLOTS][SLOT_BYTES];
    uint8_t in[1 << 17];
    size_t have;
};

static uint8_t *straight_take(void *self, unsigned *slot)
{
    struct straight *straight = self;
    *slot = straight->next++ % SLOTS;
    return straight->memory[*slot];
}

static void straight_send(void *self, unsigned slot, size_t length)
{
    struct straight *straight = self;
    uint32_t prefix = htonl((uint32_t)length);
    struct iovec iov[] = {{&prefix, sizeof(prefix)}, {straight->memory[slot] + HEADER, length}};
    ssize_t sent = straight->stream ? writev(straight->fd, iov, 2)
                                    : write(straight->fd, straight->memory[slot], HEADER + length);
    if (sent < 0 && errno != EAGAIN) {
        bench_fail("a frame of %zu bytes: %s", length, strerror(errno));
    }
}

static void straight_submit(void *self)
{
    (void)self;
}

static size_t next_of_stream(struct straight *straight, uint8_t *frame, size_t room)
{
    uint32_t prefix;
    if (straight->have < sizeof(prefix)) {
        return 0;
    }
    memcpy(&prefix, straight->in, sizeof(prefix));
    size_t length = ntohl(prefix), whole = sizeof(prefix) + length, copied = length < room ? length : room;
    if (straight->have < whole) {
        return 0;
    }
    memcpy(frame, straight->in + sizeof(prefix), copied);
    straight->have -= whole;
    memmove(straight->in, straight->in + whole, straight->have);
    return copied;
}

static size_t straight_receive(void *self, uint8_t *frame, size_t room, bool wait)
{
    struct straight *straight = self;
    struct pollfd poller = {.fd = straight->fd, .events = POLLIN};
    struct virtio_net_hdr_v1 header;
    struct iovec iov[] = {{&header, sizeof(header)}, {frame, room}};
    size_t length = straight->stream ? next_of_stream(straight, frame, room) : 0;
    if (length) {
        return length;
    }
    if (wait) {
        poll(&poller, 1, WAIT_MS);
    }
    if (straight->stream) {
        ssize_t got = recv(straight->fd, straight->in + straight->have, sizeof(straight->in) - straight->have,
                           MSG_DONTWAIT);
        straight->have += got > 0 ? (size_t)got : 0;
        return next_of_stream(straight, frame, room);
    }
    ssize_t got = readv(straight->fd, iov, 2);
    return got > (ssize_t)sizeof(header) ? (size_t)got - sizeof(header) : 0;
}

/*
 * Payload is never written: without this each page of it would be the kernel's one page of zeroes, always in
 * the cache.
 */
static void touch_memory(struct straight *straight)
{
    memset(straight->memory, 0, sizeof(straight->memory));
}

static void open_tap(struct straight *straight, const char *name)
{
    struct ifreq asked = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int size = (int)HEADER;
    snprintf(asked.ifr_name, sizeof(asked.ifr_name), "%s", name);
    touch_memory(straight);
    straight->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (straight->fd < 0 || ioctl(straight->fd, TUNSETIFF, &asked) || ioctl(straight->fd, TUNSETVNETHDRSZ, &size) ||
        ioctl(straight->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) {
        bench_fail("tap %s: %s", name, strerror(errno));
    }
}

static void open_stream(struct straight *straight, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    straight->stream = true;
    touch_memory(straight);
    int room = 1 << 20; /* as ioreqd has it */
    straight->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(straight->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    for (unsigned i = 0; connect(straight->fd, (struct sockaddr *)&address, sizeof(address)); i++) {
        if (i == 100) {
            bench_fail("passt at %s: %s", path, strerror(errno));
        }
        usleep(50000);
    }
}

/* ---- through virtio-net ---- */

struct virtual {
    struct mock_guest *guest;
    struct mock_daemon *daemon;
    struct virtio_driver driver;
    struct virtio_net net;
    uint64_t gpa[SLOTS];
    uint8_t *memory[SLOTS];
    unsigned idle[SLOTS], idle_count;
};

static uint8_t *virtual_take(void *self, unsigned *slot)
{
    struct virtual *virtual = self;
    const uint64_t *sent;
    if (virtual->idle_count == 0) {
        while ((sent = virtio_queue_take(virtio_net_send_queue(&virtual->net, 0), NULL))) {
            virtual->idle[virtual->idle_count++] = (unsigned)(sent - virtual->gpa);
        }
    }
    if (virtual->idle_count == 0) {
        return NULL;
    }
    *slot = virtual->idle[--virtual->idle_count];
    return virtual->memory[*slot];
}

/* As a kernel's socket buffer: the headers, and pieces of up to 32 KiB. */
static void virtual_send(void *self, unsigned slot, size_t length)
{
    struct virtual *virtual = self;
    struct virtio_buffer pieces[4];
    size_t whole = HEADER + length, done = 0;
    unsigned count = 0;
    while (done < whole) {
        size_t most = done ? 32768 : HEADER + TCP_HEADERS, part = whole - done < most ? whole - done : most;
        pieces[count++] = (struct virtio_buffer){.gpa = virtual->gpa[slot] + done, .length = (uint32_t)part};
        done += part;
    }
    if (virtio_queue_put(virtio_net_send_queue(&virtual->net, 0), pieces, count, count > 1, &virtual->gpa[slot]) < 0) {
        bench_fail("the transmit ring is full");
    }
}

static void virtual_submit(void *self)
{
    struct virtual *virtual = self;
    struct virtio_queue *queue = virtio_net_send_queue(&virtual->net, 0);
    if (queue->next_avail != queue->published) {
        virtio_queue_kick(queue);
    }
}

static size_t virtual_receive(void *self, uint8_t *frame, size_t room, bool wait)
{
    struct virtual *virtual = self;
    struct virtio_net_hdr_v1 header;
    struct virtio_queue *queue = virtio_net_receive_queue(&virtual->net, 0);
    if (!wait && __atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE) == queue->next_used) {
        return 0;
    }
    int length = virtio_net_receive(&virtual->net, 0, &header, frame, room, WAIT_MS);
    if (length < 0 && length != -ETIMEDOUT) {
        bench_fail("virtio-net: %s:\n%s", strerror(-length), mock_daemon_log(virtual->daemon));
    }
    return length > 0 ? (size_t)length : 0;
}

static void virtual_open(struct bench *bench, struct virtual *virtual, const char *backend)
{
    char domid[8], card[300];
    virtual->guest = mock_domain_new(bench->mock, MOCK_PVH, RAM, 1);
    snprintf(domid, sizeof(domid), "%u", mock_domid(virtual->guest));
    snprintf(card, sizeof(card), "virtio-net,addr=4,mac=02:00:00:00:00:10,%s", backend);
    const char *const arguments[] = {bench->ioreqd, "--no-xenstore", "--record-dir", "none",     "--domain",
                                     domid,         "--type",        "pvh",          "--device", "pci-host",
                                     "--device",    card,            NULL};
    virtual->daemon = bench_spawn(bench, arguments, "ready: all guests are running");
    if (virtio_pci_open(&virtual->driver, virtual->guest, 0, 4 << 3, VIRTIO_ID_NETWORK_CARD, VIRTIO_MSIX, 0xe0000000,
                        virtio_arena_make(virtual->guest, 0x100000, RAM - 0x100000)) ||
        virtio_net_start(&virtual->net, &virtual->driver, VIRTIO_NET_ALL, 1, 0) ||
        virtio_net_fill(&virtual->net, 0, 256, 1526)) {
        bench_fail("no network card:\n%s", mock_daemon_log(virtual->daemon));
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        virtual->gpa[i] = virtio_arena_take(&virtual->driver.arena, SLOT_BYTES, 4096, (void **)&virtual->memory[i]);
        virtual->idle[virtual->idle_count++] = i;
    }
}

static void virtual_close(struct virtual *virtual)
{
    virtio_net_finish(&virtual->net);
    virtio_close(&virtual->driver);
    bench_end(virtual->daemon);
    mock_guest_free(virtual->guest);
}

/* ---- the comparison ---- */

#define FEW_ROUNDS 5u

/* One way of the frames, and who else works for it. */
struct way {
    struct carrier carrier;
    struct tcp tcp;
    pid_t others[3];          /* reader, then ioreqd or passt; 0: none */
    double all[ROUNDS], each[4][ROUNDS]; /* µs of CPU per MiB: of the generator, then of the others */
    double rate[ROUNDS];      /* MiB a second */
};

static void round_of(struct way *way, unsigned round)
{
    uint64_t before[4], begun = bench_now();
    const double mib = ROUND_BYTES >> 20;
    before[0] = bench_cpu_time(getpid());
    for (unsigned i = 0; i < 3; i++) {
        before[1 + i] = way->others[i] ? bench_cpu_time(way->others[i]) : 0;
    }
    tcp_send(&way->tcp, ROUND_BYTES);
    way->all[round] = 0;
    for (unsigned i = 0; i < 4; i++) {
        pid_t pid = i == 0 ? getpid() : way->others[i - 1];
        way->each[i][round] = pid ? (double)(bench_cpu_time(pid) - before[i]) / 1000 / mib : 0;
        way->all[round] += way->each[i][round];
    }
    way->rate[round] = mib / ((double)(bench_now() - begun) / 1e9);
}

static void info(const char *name, const char *what, double value, const char *unit)
{
    char line[100];
    snprintf(line, sizeof(line), "%s.%s", name, what);
    bench_info(line, value, unit);
}

static void pin_all(const struct way *way, int cpu)
{
    for (unsigned i = 0; i < 3; i++) {
        if (way->others[i]) {
            bench_pin(way->others[i], cpu);
        }
    }
    bench_pin(0, cpu);
}

static void compare_few(const char *name, const char *what, struct way *through, struct way *straight, const char *unit)
{
    double ratios[FEW_ROUNDS];
    for (unsigned i = 0; i < FEW_ROUNDS; i++) {
        round_of(through, i);
        round_of(straight, i);
        ratios[i] = straight->all[i] / through->all[i];
    }
    info(name, what, bench_median(ratios, FEW_ROUNDS), unit);
}

/* The same on all CPUs: batches are as short as wake-ups are quick, and other programs' load decides. */
static void compare_loose(const char *name, struct way *through, struct way *straight, const char *unit)
{
    pin_all(through, -1);
    pin_all(straight, -1);
    compare_few(name, "all-cpus", through, straight, unit);
    pin_all(through, 0);
    pin_all(straight, 0);
}

static void compare(const char *name, struct way *through, struct way *straight, const char *unit,
                    const char *const *whose, double goal)
{
    double ratios[ROUNDS];
    char what[64];
    tcp_send(&through->tcp, ROUND_BYTES);
    tcp_send(&straight->tcp, ROUND_BYTES);
    for (unsigned i = 0; i < ROUNDS; i++) {
        round_of(through, i);
        round_of(straight, i);
        ratios[i] = straight->all[i] / through->all[i];
    }
    snprintf(what, sizeof(what), "%s.one-cpu", name);
    bench_goal(what, bench_median(ratios, ROUNDS), unit, goal, false);
    for (unsigned i = 0; i < 4; i++) {
        if (i == 0 || through->others[i - 1]) {
            snprintf(what, sizeof(what), "%s-cpu", whose[i]);
            info(name, what, bench_median(through->each[i], ROUNDS), "us-per-MiB");
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        if (i == 0 || straight->others[i - 1]) {
            snprintf(what, sizeof(what), "straight.%s-cpu", whose[i]);
            info(name, what, bench_median(straight->each[i], ROUNDS), "us-per-MiB");
        }
    }
    info(name, "rate", bench_median(through->rate, ROUNDS), "MiB-per-second");
    info(name, "straight.rate", bench_median(straight->rate, ROUNDS), "MiB-per-second");
    info(name, "resent", (double)through->tcp.resent / (double)(ROUND_BYTES * (ROUNDS + 1.0)), "of-all-bytes");
    info(name, "straight.resent", (double)straight->tcp.resent / (double)(ROUND_BYTES * (ROUNDS + 1.0)),
         "of-all-bytes");
    compare_loose(name, through, straight, unit);
}

static void run_command(const char *command)
{
    if (system(command)) {
        bench_fail("`%s` failed", command);
    }
}

static void peer_mac(const char *interface, uint8_t *mac)
{
    struct ifreq asked = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(asked.ifr_name, sizeof(asked.ifr_name), "%s", interface);
    if (ioctl(fd, SIOCGIFHWADDR, &asked)) {
        bench_fail("interface %s: %s", interface, strerror(errno));
    }
    memcpy(mac, asked.ifr_hwaddr.sa_data, 6);
    close(fd);
}

static const struct carrier on_straight = {.take = straight_take, .send = straight_send, .submit = straight_submit,
                                           .receive = straight_receive};
static const struct carrier on_virtual = {.take = virtual_take, .send = virtual_send, .submit = virtual_submit,
                                          .receive = virtual_receive};

/* Opens the connection of one way; net 10.77.NET.0, we are .2, the other side is `last`. */
static void open_way(struct way *way, const struct carrier *carrier, void *self, const char *name,
                     uint8_t net, uint8_t us, uint8_t other, pid_t sink)
{
    way->carrier = *carrier;
    way->carrier.self = self;
    way->carrier.name = name;
    way->tcp.carrier = &way->carrier;
    memcpy(way->tcp.mac, (const uint8_t[]){0x02, 0, 0, 0, 0, 0x10}, 6);
    way->tcp.address = 10u << 24 | 77u << 16 | (uint32_t)net << 8 | us;
    way->tcp.peer = 10u << 24 | 77u << 16 | (uint32_t)net << 8 | other;
    way->tcp.port = (uint16_t)(1024 + getpid() % 30000 + net);
    way->tcp.peer_port = PORT;
    way->tcp.mss = 1448;
    tcp_connect(&way->tcp);
    usleep(100000);
    way->others[0] = newest_reader(sink);
}

static void with_tap(struct bench *bench, pid_t sink)
{
    static struct virtual virtual;
    static struct straight straight;
    static struct way through, on;
    static const char *const whose[] = {"generator", "reader", "ioreqd", ""};
    virtual_open(bench, &virtual, "ifname=benchtap0");
    open_tap(&straight, "benchtap1");
    run_command("ip link set benchtap1 up && ip addr add 10.77.0.1/24 dev benchtap0 && "
                "ip addr add 10.77.1.1/24 dev benchtap1");
    through.tcp.offload = on.tcp.offload = true;
    through.tcp.segment = on.tcp.segment = 44 * 1448; /* as Linux fills 64 KiB */
    peer_mac("benchtap0", through.tcp.peer_mac);
    peer_mac("benchtap1", on.tcp.peer_mac);
    open_way(&through, &on_virtual, &virtual, "virtio-net at a tap", 0, 2, 1, sink);
    open_way(&on, &on_straight, &straight, "a tap", 1, 2, 1, sink);
    through.others[1] = mock_daemon_pid(virtual.daemon);
    compare("net.tap", &through, &on, "x-tap", whose, 0.82);
    through.tcp.segment = on.tcp.segment = 1448;
    compare_few("net.tap", "small-frames.one-cpu", &through, &on, "x-tap");
    virtual_close(&virtual);
    close(straight.fd);
}

static pid_t start_passt(const char *path)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC); /* how to start QEMU, and that there is no syslog */
        dup2(null, STDERR_FILENO);
        dup2(null, STDOUT_FILENO);
        execlp("passt", "passt", "-f", "-1", "-q", "-4", "-i", "benchtap2", "-s", path, NULL);
        _exit(127);
    }
    for (unsigned i = 0; access(path, F_OK); i++) { /* it listens when its socket is there */
        if (i == 100 || waitpid(pid, NULL, WNOHANG) != 0) {
            return 0;
        }
        usleep(50000);
    }
    return pid;
}

/* passt copies the address of the interface that it finds, and makes of its gateway the host's loopback. */
static void with_passt(struct bench *bench, pid_t sink)
{
    static struct virtual virtual;
    static struct straight outside, straight;
    static struct way through, on;
    static const char *const whose[] = {"generator", "reader", "passt", "ioreqd"};
    char path[108], other[108], backend[160];
    open_tap(&outside, "benchtap2");
    run_command("ip link set benchtap2 up && ip addr add 10.77.2.2/24 dev benchtap2 && "
                "ip route add default via 10.77.2.1");
    snprintf(path, sizeof(path), "/tmp/bench-passt-%d-a", getpid());
    snprintf(other, sizeof(other), "/tmp/bench-passt-%d-b", getpid());
    snprintf(backend, sizeof(backend), "netdev=passt,path=%s", path);
    through.others[1] = start_passt(path);
    on.others[1] = start_passt(other);
    if (!through.others[1] || !on.others[1]) {
        printf("net.passt not measured: passt does not start info\n");
        return;
    }
    virtual_open(bench, &virtual, backend);
    open_stream(&straight, other);
    memcpy(through.tcp.peer_mac, (const uint8_t[]){0x02, 0, 0, 0, 0, 0x20}, 6); /* it takes any */
    memcpy(on.tcp.peer_mac, through.tcp.peer_mac, 6);
    through.tcp.segment = on.tcp.segment = 65520 - 40; /* its MTU */
    open_way(&through, &on_virtual, &virtual, "virtio-net at passt", 2, 2, 1, sink);
    open_way(&on, &on_straight, &straight, "passt", 2, 2, 1, sink);
    through.others[2] = mock_daemon_pid(virtual.daemon);
    compare("net.passt", &through, &on, "x-passt", whose, 0.9);
    virtual_close(&virtual);
    kill(through.others[1], SIGKILL);
    kill(on.others[1], SIGKILL);
    waitpid(through.others[1], NULL, 0);
    waitpid(on.others[1], NULL, 0);
    unlink(path);
    unlink(other);
    close(straight.fd);
    close(outside.fd);
}

void bench_net(struct bench *bench)
{
    if (unshare(CLONE_NEWNET)) {
        printf("net not measured: no right to a network namespace info\n");
        return;
    }
    run_command("ip link set lo up");
    bench_pin(0, 0); /* all of them */
    pid_t sink = start_sink();
    with_tap(bench, sink);
    with_passt(bench, sink);
    kill(sink, SIGKILL);
    waitpid(sink, NULL, 0);
}
