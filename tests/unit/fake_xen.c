/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake_xen.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/backends.h"
#include "loop/event_loop.h"
#include "main/builtin.h"

enum { LOG_ROOM = 1 << 16, TIMEOUT_MS = 10000, PORT = 1, SERVERS = 8 };

/* One server's pages; only server 0's slot ever holds a request. */
struct ioreq_pages {
    struct fake_xen *fake;
    uint16_t id;
};

struct fake_xen {
    struct hypervisor hv;
    struct loop *loop;
    struct modules *modules;
    struct daemon *daemon;
    struct loop_timer *look;
    int event, ram_fd;
    uint8_t *ram;
    struct request request;
    enum slot_state slot;
    uint64_t answer;
    struct ioreq_pages pages[SERVERS];
    unsigned servers; /* bits */
    int dead;         /* domid; -1: none */
    bool answered, running, ended, ports_hidden;
    struct fake_ranges ranges;
    bool line[16];
    unsigned raises[16];
    bool (*reached)(void *self);
    void *reached_self;
    unsigned left_ms;
    bool timed_out, verbose; /* FAKE_VERBOSE is set: the log goes to stderr too */
    size_t log_length;
    char log[LOG_ROOM];
};

static struct fake_xen *fake_of(struct hypervisor *hv)
{
    return (struct fake_xen *)((char *)hv - offsetof(struct fake_xen, hv));
}

/* ---- the hypervisor ---- */

static void hv_destroy(struct hypervisor *hv)
{
}

static int hv_nr_vcpus(struct hypervisor *hv, uint16_t domid, unsigned *count)
{
    *count = 1;
    return domid == fake_of(hv)->dead ? -ESRCH : 0;
}

static int hv_server_create(struct hypervisor *hv, uint16_t domid, enum bufioreq buf, uint16_t *id)
{
    struct fake_xen *fake = fake_of(hv);
    if (domid == fake->dead) {
        return -ESRCH;
    }
    for (*id = 0; *id < SERVERS && fake->servers >> *id & 1; (*id)++) {
    }
    if (*id == SERVERS) {
        return -ENOSPC;
    }
    fake->servers |= 1u << *id;
    return 0;
}

static int hv_server_info(struct hypervisor *hv, uint16_t domid, uint16_t id, uint32_t *port)
{
    if (port != NULL) {
        *port = 0;
    }
    return domid == fake_of(hv)->dead ? -ESRCH : fake_of(hv)->servers >> id & 1 ? 0 : -ENOENT;
}

static int hv_server_enable(struct hypervisor *hv, uint16_t domid, uint16_t id, bool on)
{
    return 0;
}

static int hv_server_destroy(struct hypervisor *hv, uint16_t domid, uint16_t id)
{
    fake_of(hv)->servers &= ~(1u << id);
    return 0;
}

static int hv_range_map(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space,
                        uint64_t start, uint64_t end)
{
    struct fake_ranges *ranges = &fake_of(hv)->ranges;
    if (ranges->fail != 0 && ranges->fail == start) {
        ranges->failed++;
        return -ENOMEM;
    }
    ranges->mapped++;
    ranges->last = start;
    return 0;
}

static int hv_range_unmap(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space,
                          uint64_t start, uint64_t end)
{
    fake_of(hv)->ranges.mapped--;
    return 0;
}

static int hv_pages_map(struct hypervisor *hv, uint16_t domid, uint16_t id, enum bufioreq buf,
                        struct ioreq_pages **pages)
{
    fake_of(hv)->pages[id] = (struct ioreq_pages){ .fake = fake_of(hv), .id = id };
    *pages = &fake_of(hv)->pages[id];
    return 0;
}

static void hv_pages_unmap(struct hypervisor *hv, struct ioreq_pages *pages)
{
}

static uint32_t hv_slot_port(const struct ioreq_pages *pages, unsigned vcpu)
{
    return pages->id != 0 && pages->fake->ports_hidden ? 0 : PORT + pages->id;
}

static enum slot_state hv_slot_state(const struct ioreq_pages *pages, unsigned vcpu)
{
    return pages->id == 0 ? pages->fake->slot : SLOT_NONE;
}

static int hv_slot_take(struct ioreq_pages *pages, unsigned vcpu, bool resume, struct request *request)
{
    struct fake_xen *fake = pages->fake;
    if (pages->id != 0 || (fake->slot != SLOT_READY && !(resume && fake->slot == SLOT_INPROCESS))) {
        return 0;
    }
    fake->slot = SLOT_INPROCESS;
    *request = fake->request;
    return 1;
}

static void hv_slot_answer(struct ioreq_pages *pages, unsigned vcpu, uint64_t data)
{
    struct fake_xen *fake = pages->fake;
    fake->slot = SLOT_NONE; /* the vCPU takes its answer at once */
    fake->answer = data;
    fake->answered = true;
}

static int hv_ring_take(struct ioreq_pages *pages, struct request *request)
{
    return 0;
}

static int hv_event_fd(struct hypervisor *hv)
{
    return fake_of(hv)->event;
}

static int hv_event_take(struct hypervisor *hv, uint32_t *ports, unsigned max)
{
    uint64_t count;
    if (read(fake_of(hv)->event, &count, sizeof(count)) != sizeof(count)) {
        return 0;
    }
    ports[0] = PORT;
    return 1;
}

static void hv_event_unmask(struct hypervisor *hv, const uint32_t *ports, unsigned count)
{
}

static int hv_event_notify(struct hypervisor *hv, uint32_t port)
{
    return 0;
}

static int hv_event_bind(struct hypervisor *hv, uint16_t domid, uint32_t remote, uint32_t *local)
{
    *local = remote;
    fake_of(hv)->ranges.bound++;
    return 0;
}

static void hv_event_unbind(struct hypervisor *hv, uint32_t local)
{
}

static int hv_foreign_map(struct hypervisor *hv, uint16_t domid, const uint64_t *gfns, unsigned count,
                          int *errors, void **at)
{
    fake_of(hv)->ranges.maps++;
    uint8_t *base = mmap(NULL, (size_t)count * HV_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t address = gfns[i] * HV_PAGE_SIZE;
        errors[i] = address < FAKE_RAM ? 0 : -EINVAL;
        if (errors[i] == 0) {
            mmap(base + (size_t)i * HV_PAGE_SIZE, HV_PAGE_SIZE, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, fake_of(hv)->ram_fd, (off_t)address);
        }
    }
    *at = base;
    fake_of(hv)->ranges.pages += count;
    return 0;
}

static void hv_foreign_unmap(struct hypervisor *hv, void *at, unsigned count)
{
    munmap(at, (size_t)count * HV_PAGE_SIZE);
    fake_of(hv)->ranges.pages -= count;
}

static int hv_isa_irq(struct hypervisor *hv, uint16_t domid, uint8_t irq, bool level)
{
    struct fake_xen *fake = fake_of(hv);
    fake->line[irq % 16] = level;
    fake->raises[irq % 16] += level;
    return 0;
}

static const struct hypervisor_ops fake_ops = {
    .destroy = hv_destroy,
    .nr_vcpus = hv_nr_vcpus,
    .server_create = hv_server_create,
    .server_info = hv_server_info,
    .server_enable = hv_server_enable,
    .server_destroy = hv_server_destroy,
    .range_map = hv_range_map,
    .range_unmap = hv_range_unmap,
    .pages_map = hv_pages_map,
    .pages_unmap = hv_pages_unmap,
    .slot_port = hv_slot_port,
    .slot_state = hv_slot_state,
    .slot_take = hv_slot_take,
    .slot_answer = hv_slot_answer,
    .ring_take = hv_ring_take,
    .event_fd = hv_event_fd,
    .event_take = hv_event_take,
    .event_unmask = hv_event_unmask,
    .event_notify = hv_event_notify,
    .event_bind = hv_event_bind,
    .event_unbind = hv_event_unbind,
    .foreign_map = hv_foreign_map,
    .foreign_unmap = hv_foreign_unmap,
    .isa_irq = hv_isa_irq,
};

/* ---- the daemon ---- */

static void take_log(void *self, enum iod_log_level level, const char *prefix, const char *text)
{
    struct fake_xen *fake = self;
    size_t room = LOG_ROOM - fake->log_length;
    int length = snprintf(fake->log + fake->log_length, room, "%s: %s\n", prefix, text);
    fake->log_length += (size_t)length < room ? (size_t)length : room - 1;
    if (fake->verbose) {
        fprintf(stderr, "%s: %s\n", prefix, text);
    }
}

static void take_state(void *self, const char *domain, const char *state)
{
    struct fake_xen *fake = self;
    fake->running = strcmp(state, "running") == 0;
    fake->ended = fake->ended || strcmp(state, "failed") == 0 || strcmp(state, "gone") == 0 ||
                  strcmp(state, "stopped") == 0;
}

static void look(void *self)
{
    struct fake_xen *fake = self;
    if (fake->reached(fake->reached_self)) {
        event_loop_stop(fake->loop);
    } else if (fake->left_ms-- == 0) {
        fake->timed_out = true;
        event_loop_stop(fake->loop);
    } else {
        fake->loop->ops->timer_set(fake->look, fake->loop->ops->now_ns(fake->loop) + 1000000);
    }
}

void fake_run(struct fake_xen *fake, bool (*reached)(void *self), void *self)
{
    fake->reached = reached;
    fake->reached_self = self;
    fake->left_ms = TIMEOUT_MS;
    fake->timed_out = false;
    fake->loop->ops->timer_set(fake->look, 0);
    ck_assert_int_eq(event_loop_run(fake->loop), 0);
    ck_assert_msg(!fake->timed_out, "nothing happened for ten seconds; the log:\n%s", fake->log);
}

static bool never(void *self)
{
    unsigned *left = self;
    return (*left)-- == 0;
}

void fake_run_ms(struct fake_xen *fake, unsigned ms)
{
    fake_run(fake, never, &ms);
}

static bool settled(void *self)
{
    const struct fake_xen *fake = self;
    return fake->running || fake->ended;
}

static int fill_spec(struct guest_spec *spec, enum guest_type type, const char *const *devices,
                     unsigned count, struct iod_error *error)
{
    guest_spec_init(spec);
    spec->domain = strdup("7");
    spec->arch = ARCH_X86;
    spec->type = type;
    spec->bufioreq = BUF_OFF;
    int result = 0;
    for (unsigned i = 0; i < count && result == 0; i++) {
        result = guest_spec_add_device(spec, devices[i], error);
    }
    return result;
}

void fake_free(struct fake_xen *fake)
{
    daemon_destroy(fake->daemon);
    fake->loop->ops->timer_remove(fake->look);
    modules_destroy(fake->modules);
    event_loop_destroy(fake->loop);
    munmap(fake->ram, FAKE_RAM);
    close(fake->ram_fd);
    close(fake->event);
    free(fake);
}

struct fake_xen *fake_create(const struct iod_module *module, struct store *store, struct iod_error *error)
{
    struct fake_xen *fake = calloc(1, sizeof(*fake));
    fake->hv.ops = &fake_ops;
    fake->dead = -1;
    fake->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fake->ram_fd = memfd_create("ram", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fake->ram_fd, FAKE_RAM), 0);
    fake->ram = mmap(NULL, FAKE_RAM, PROT_READ | PROT_WRITE, MAP_SHARED, fake->ram_fd, 0);
    fake->loop = event_loop_create();
    fake->look = fake->loop->ops->timer_add(fake->loop, look, fake);
    fake->modules = modules_create();
    ck_assert_int_eq(builtin_modules_add(fake->modules, error), 0);
    if (module != NULL) {
        ck_assert_int_eq(modules_add(fake->modules, module, "the test", error), 0);
    }
    struct daemon_config config = {
        .loop = fake->loop, .hypervisor = &fake->hv, .modules = fake->modules, .log_level = IOD_LOG_DEBUG,
        .log = take_log, .log_self = fake, .guest_state = take_state, .guest_self = fake, .store = store,
    };
    fake->daemon = daemon_create(&config, error);
    ck_assert_ptr_nonnull(fake->daemon);
    if (getenv("FAKE_VERBOSE") != NULL) {
        fake->verbose = true;
    }
    return fake;
}

struct fake_xen *fake_start(const struct iod_module *module, enum guest_type type, const char *const *devices,
                            unsigned count, struct iod_error *error)
{
    struct fake_xen *fake = fake_create(module, NULL, error);
    struct guest_spec spec;
    int result = fill_spec(&spec, type, devices, count, error);
    if (result == 0) {
        result = daemon_add_guest(fake->daemon, &spec, error);
    }
    guest_spec_finish(&spec);
    if (result != 0) {
        fake_free(fake);
        return NULL;
    }
    fake_run(fake, settled, fake);
    return fake;
}

static void stopped(void *self)
{
    *(bool *)self = true;
}

static bool is_true(void *self)
{
    return *(bool *)self;
}

void fake_stop(struct fake_xen *fake)
{
    bool done = false;
    daemon_stop(fake->daemon, stopped, &done);
    fake_run(fake, is_true, &done);
    fake_free(fake);
}

void fake_kill(struct fake_xen *fake)
{
    fake_mark_dead(fake, 7);
    fake_run(fake, is_true, &fake->ended);
}

void fake_mark_dead(struct fake_xen *fake, int domid)
{
    fake->dead = domid;
}

void fake_hide_ports(struct fake_xen *fake, bool hidden)
{
    fake->ports_hidden = hidden;
}

struct fake_ranges *fake_ranges(struct fake_xen *fake)
{
    return &fake->ranges;
}

enum slot_state fake_slot(const struct fake_xen *fake)
{
    return fake->slot;
}

bool fake_running(const struct fake_xen *fake)
{
    return fake->running;
}

/* ---- the guest ---- */

static void begin(struct fake_xen *fake, bool read, uint64_t address, unsigned size, uint64_t value)
{
    uint64_t one = 1;
    fake->request = (struct request){
        .type = address <= UINT16_MAX ? REQUEST_PIO : REQUEST_COPY,
        .addr = address,
        .data = value,
        .count = 1,
        .size = size,
        .read = read,
    };
    fake->answered = false;
    fake->slot = SLOT_READY;
    ck_assert_int_eq(write(fake->event, &one, sizeof(one)), sizeof(one));
}

uint64_t fake_in(struct fake_xen *fake, uint64_t address, unsigned size)
{
    begin(fake, true, address, size, 0);
    fake_run(fake, is_true, &fake->answered);
    return fake->answer & (size < 8 ? (UINT64_C(1) << 8 * size) - 1 : UINT64_MAX);
}

void fake_out(struct fake_xen *fake, uint64_t address, unsigned size, uint64_t value)
{
    begin(fake, false, address, size, value);
    fake_run(fake, is_true, &fake->answered);
}

void fake_begin_out(struct fake_xen *fake, uint64_t address, unsigned size, uint64_t value)
{
    begin(fake, false, address, size, value);
}

void fake_begin_rep(struct fake_xen *fake, bool read, uint64_t address, unsigned size, unsigned count, uint64_t data)
{
    begin(fake, read, address, size, data);
    fake->request.data_is_ptr = true;
    fake->request.count = count;
}

struct loop *fake_loop(struct fake_xen *fake)
{
    return fake->loop;
}

bool fake_answered(const struct fake_xen *fake)
{
    return fake->answered;
}

uint8_t *fake_ram(struct fake_xen *fake)
{
    return fake->ram;
}

bool fake_line(const struct fake_xen *fake, unsigned irq)
{
    return fake->line[irq % 16];
}

unsigned fake_raises(const struct fake_xen *fake, unsigned irq)
{
    return fake->raises[irq % 16];
}

const char *fake_log(const struct fake_xen *fake)
{
    return fake->log;
}

unsigned fake_logged(const struct fake_xen *fake, const char *part)
{
    unsigned count = 0;
    for (const char *at = strstr(fake->log, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

struct daemon *fake_daemon(struct fake_xen *fake)
{
    return fake->daemon;
}
