/* SPDX-License-Identifier: BSD-2-Clause */
#include "machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <ioreqd/loop.h>

#include "core/module.h"
#include "fuzz.h"

/* More steps than any input of a few KiB can need: a loop that does not end is a finding. */
enum { STEPS_MAX = 1000000, RING_PORT = MACHINE_VCPUS + 1 };

static struct machine *of_loop(struct loop *loop)
{
    return (struct machine *)(void *)((char *)loop - offsetof(struct machine, loop));
}

static struct machine *of_hv(struct hypervisor *hv)
{
    return (struct machine *)(void *)((char *)hv - offsetof(struct machine, hv));
}

/* ---- the loop ---- */

struct loop_watch {
    int unused;
};

struct loop_timer {
    struct list link;
    struct machine *machine;
    void (*fire)(void *self);
    void *self;
    uint64_t at;
};

struct loop_task {
    struct list link;
    struct machine *machine;
    void (*run)(void *self);
    void *self;
};

static uint64_t now_ns(struct loop *loop)
{
    return of_loop(loop)->now;
}

static struct loop_watch *watch_add(struct loop *loop, int fd, unsigned events,
                                    void (*ready)(void *self, unsigned events), void *self)
{
    struct machine *machine = of_loop(loop);
    if (fd == -1) { /* the event channels'; no other descriptor ever becomes ready */
        machine->events = ready;
        machine->events_self = self;
    }
    return calloc(1, sizeof(struct loop_watch));
}

static void watch_set(struct loop_watch *watch, unsigned events)
{
}

static void watch_remove(struct loop_watch *watch)
{
    free(watch);
}

static struct loop_timer *timer_add(struct loop *loop, void (*fire)(void *self), void *self)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));
    FUZZ_CHECK(timer);
    *timer = (struct loop_timer){.machine = of_loop(loop), .fire = fire, .self = self};
    list_init(&timer->link);
    return timer;
}

static void timer_set(struct loop_timer *timer, uint64_t at_ns)
{
    list_remove(&timer->link);
    timer->at = at_ns;
    list_add_tail(&timer->machine->timers, &timer->link);
}

static void timer_cancel(struct loop_timer *timer)
{
    list_remove(&timer->link);
}

static void timer_remove(struct loop_timer *timer)
{
    if (timer) {
        list_remove(&timer->link);
        free(timer);
    }
}

static struct loop_task *task_add(struct loop *loop, void (*run)(void *self), void *self)
{
    struct loop_task *task = calloc(1, sizeof(*task));
    FUZZ_CHECK(task);
    *task = (struct loop_task){.machine = of_loop(loop), .run = run, .self = self};
    list_init(&task->link);
    return task;
}

static void task_queue(struct loop_task *task)
{
    list_remove(&task->link);
    list_add_tail(&task->machine->tasks, &task->link);
}

static void task_cancel(struct loop_task *task)
{
    list_remove(&task->link);
}

static void task_remove(struct loop_task *task)
{
    if (task) {
        list_remove(&task->link);
        free(task);
    }
}

static const struct loop_ops loop_ops = {
    .now_ns = now_ns,
    .watch_add = watch_add,
    .watch_set = watch_set,
    .watch_remove = watch_remove,
    .timer_add = timer_add,
    .timer_set = timer_set,
    .timer_cancel = timer_cancel,
    .timer_remove = timer_remove,
    .task_add = task_add,
    .task_soon = task_queue,
    .task_last = task_queue,
    .task_again = task_queue,
    .task_cancel = task_cancel,
    .task_remove = task_remove,
};

void machine_run(struct machine *machine)
{
    for (unsigned steps = 0;; steps++) {
        FUZZ_CHECK(steps < STEPS_MAX);
        if (machine->pending && machine->events) {
            machine->events(machine->events_self, IOD_READABLE);
        }
        struct loop_task *task = list_first(&machine->tasks, struct loop_task, link);
        if (!task && !machine->pending) {
            return;
        }
        if (task) {
            list_remove(&task->link);
            task->run(task->self);
        }
    }
}

static struct loop_timer *next_timer(const struct machine *machine)
{
    struct loop_timer *timer, *first = NULL;
    list_for_each(timer, &machine->timers, struct loop_timer, link) {
        first = !first || timer->at < first->at ? timer : first;
    }
    return first;
}

void machine_pass(struct machine *machine, uint64_t ns)
{
    uint64_t end = machine->now + ns;
    struct loop_timer *timer;
    machine_run(machine);
    for (unsigned steps = 0; (timer = next_timer(machine)) && timer->at <= end; steps++) {
        FUZZ_CHECK(steps < STEPS_MAX);
        machine->now = timer->at > machine->now ? timer->at : machine->now;
        list_remove(&timer->link);
        timer->fire(timer->self);
        machine_run(machine);
    }
    machine->now = end;
}

/* ---- the hypervisor ---- */

static int nr_vcpus(struct hypervisor *hv, uint16_t domid, unsigned *count)
{
    *count = MACHINE_VCPUS;
    return 0;
}

static int server_create_(struct hypervisor *hv, uint16_t domid, enum bufioreq buf, uint16_t *id)
{
    *id = 0;
    return 0;
}

static int server_info(struct hypervisor *hv, uint16_t domid, uint16_t id, uint32_t *port)
{
    if (port) {
        *port = RING_PORT;
    }
    return id ? -ENOENT : 0;
}

static int server_enable_(struct hypervisor *hv, uint16_t domid, uint16_t id, bool on)
{
    return 0;
}

static int server_destroy_(struct hypervisor *hv, uint16_t domid, uint16_t id)
{
    return 0;
}

static int range(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space, uint64_t start,
                 uint64_t end)
{
    FUZZ_CHECK(start <= end && (space == RANGE_MMIO || end <= UINT16_MAX));
    return 0;
}

static int pcidev(struct hypervisor *hv, uint16_t domid, uint16_t id, uint16_t sbdf)
{
    return 0;
}

static int pages_map(struct hypervisor *hv, uint16_t domid, uint16_t id, enum bufioreq buf,
                     struct ioreq_pages **pages)
{
    *pages = (struct ioreq_pages *)(void *)of_hv(hv);
    return 0;
}

static void pages_unmap(struct hypervisor *hv, struct ioreq_pages *pages)
{
}

static uint32_t slot_port(const struct ioreq_pages *pages, unsigned vcpu)
{
    return vcpu + 1;
}

static enum slot_state slot_state(const struct ioreq_pages *pages, unsigned vcpu)
{
    return ((const struct machine *)(const void *)pages)->slots[vcpu].state;
}

static int slot_take(struct ioreq_pages *pages, unsigned vcpu, bool resume, struct request *request)
{
    struct machine *machine = (struct machine *)(void *)pages;
    enum slot_state state = machine->slots[vcpu].state;
    if (state != SLOT_READY && !(resume && state == SLOT_INPROCESS)) {
        return 0;
    }
    machine->slots[vcpu].state = SLOT_INPROCESS;
    *request = machine->slots[vcpu].request;
    return 1;
}

static void slot_answer(struct ioreq_pages *pages, unsigned vcpu, uint64_t data)
{
    struct machine *machine = (struct machine *)(void *)pages;
    FUZZ_CHECK(machine->slots[vcpu].state == SLOT_INPROCESS); /* once, and only what was taken */
    machine->slots[vcpu].state = SLOT_RESP_READY;
    machine->slots[vcpu].data = data;
    machine->slots[vcpu].answered++;
}

static int ring_take(struct ioreq_pages *pages, struct request *request)
{
    struct machine *machine = (struct machine *)(void *)pages;
    if (machine->ring_read == machine->ring_write) {
        return 0;
    }
    *request = machine->ring[machine->ring_read++ % MACHINE_RING];
    return 1;
}

static int event_fd(struct hypervisor *hv)
{
    return -1;
}

static int event_take(struct hypervisor *hv, uint32_t *ports, unsigned max)
{
    struct machine *machine = of_hv(hv);
    unsigned count = 0;
    for (uint32_t port = 0; port <= RING_PORT && count < max; port++) {
        if (machine->pending >> port & 1) {
            machine->pending &= ~(UINT64_C(1) << port);
            ports[count++] = port;
        }
    }
    return (int)count;
}

static void event_unmask(struct hypervisor *hv, const uint32_t *ports, unsigned count)
{
}

static int event_notify(struct hypervisor *hv, uint32_t port)
{
    struct machine *machine = of_hv(hv);
    FUZZ_CHECK(port >= 1 && port <= MACHINE_VCPUS);
    FUZZ_CHECK(machine->slots[port - 1].state == SLOT_RESP_READY); /* never for nothing, never twice */
    machine->slots[port - 1].state = SLOT_NONE;
    return 0;
}

static int event_bind(struct hypervisor *hv, uint16_t domid, uint32_t remote, uint32_t *local)
{
    *local = remote;
    return 0;
}

static void event_unbind(struct hypervisor *hv, uint32_t local)
{
    of_hv(hv)->pending &= ~(UINT64_C(1) << local);
}

/* A window of its own for each map: pages that are not there can't be touched. */
static int foreign_map(struct hypervisor *hv, uint16_t domid, const uint64_t *gfns, unsigned count,
                       int *errors, void **at)
{
    struct machine *machine = of_hv(hv);
    bool whole = true;
    for (unsigned i = 0; i < count; i++) {
        errors[i] = gfns[i] < MACHINE_PAGES && !machine->holes[gfns[i]] ? 0 : -EINVAL;
        whole = whole && !errors[i] && gfns[i] == gfns[0] + i;
    }
    machine->mapped += count;
    *at = whole ? machine->memory + gfns[0] * HV_PAGE_SIZE
                : machine->memory + (size_t)MACHINE_PAGES * HV_PAGE_SIZE; /* faults when touched */
    return 0;
}

static void foreign_unmap(struct hypervisor *hv, void *at, unsigned count)
{
    FUZZ_CHECK(of_hv(hv)->mapped >= count);
    of_hv(hv)->mapped -= count;
}

static int isa_irq(struct hypervisor *hv, uint16_t domid, uint8_t irq, bool level)
{
    return 0;
}

static int pci_intx(struct hypervisor *hv, uint16_t domid, uint8_t device, uint8_t pin, bool level)
{
    FUZZ_CHECK(device < 32 && pin < 4);
    return 0;
}

static int msi(struct hypervisor *hv, uint16_t domid, uint64_t address, uint32_t data)
{
    return 0;
}

static const struct hypervisor_ops hv_ops = {
    .nr_vcpus = nr_vcpus,
    .server_create = server_create_,
    .server_info = server_info,
    .server_enable = server_enable_,
    .server_destroy = server_destroy_,
    .range_map = range,
    .range_unmap = range,
    .pcidev_map = pcidev,
    .pcidev_unmap = pcidev,
    .pages_map = pages_map,
    .pages_unmap = pages_unmap,
    .slot_port = slot_port,
    .slot_state = slot_state,
    .slot_take = slot_take,
    .slot_answer = slot_answer,
    .ring_take = ring_take,
    .event_fd = event_fd,
    .event_take = event_take,
    .event_unmask = event_unmask,
    .event_notify = event_notify,
    .event_bind = event_bind,
    .event_unbind = event_unbind,
    .foreign_map = foreign_map,
    .foreign_unmap = foreign_unmap,
    .isa_irq = isa_irq,
    .pci_intx = pci_intx,
    .msi = msi,
};

/* ---- the guest ---- */

static void take_state(void *self, const char *domain, const char *state)
{
    struct machine *machine = self;
    machine->running = !strcmp(state, "running");
    machine->ended = machine->ended || !machine->running;
}

static void add_guest(struct machine *machine, const char *const *devices)
{
    struct guest_spec spec;
    struct iod_error error;
    guest_spec_init(&spec);
    spec.domain = strdup("7");
    spec.arch = ARCH_X86;
    spec.type = GUEST_HVM;
    spec.bufioreq = BUF_ATOMIC;
    spec.on_exit = ON_EXIT_DESTROY;
    for (; *devices; devices++) {
        FUZZ_CHECK(!guest_spec_add_device(&spec, *devices, &error));
    }
    FUZZ_CHECK(!daemon_add_guest(machine->daemon, &spec, &error));
    guest_spec_finish(&spec);
}

struct machine *machine_start(const struct iod_module *const *modules, const char *const *devices)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    struct iod_error error;
    FUZZ_CHECK(machine);
    machine->loop.ops = &loop_ops;
    machine->hv.ops = &hv_ops;
    machine->now = UINT64_C(1000000000);
    list_init(&machine->tasks);
    list_init(&machine->timers);
    machine->memory =
        mmap(NULL, (2 * MACHINE_PAGES) * (size_t)HV_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FUZZ_CHECK(machine->memory != MAP_FAILED);
    FUZZ_CHECK(!mprotect(machine->memory, MACHINE_PAGES * (size_t)HV_PAGE_SIZE, PROT_READ | PROT_WRITE));
    machine->modules = modules_create();
    for (; *modules; modules++) {
        FUZZ_CHECK(!modules_add(machine->modules, *modules, "fuzz", &error));
    }
    struct daemon_config config = {.loop = &machine->loop,
                                   .hypervisor = &machine->hv,
                                   .modules = machine->modules,
                                   .guest_state = take_state,
                                   .guest_self = machine};
    machine->daemon = daemon_create(&config, &error);
    FUZZ_CHECK(machine->daemon);
    add_guest(machine, devices);
    machine_run(machine);
    machine_pass(machine, 1000000);
    FUZZ_CHECK(machine->running);
    return machine;
}

struct guest *machine_guest(struct machine *machine)
{
    return list_first(&machine->daemon->guests, struct guest, link);
}

bool machine_send(struct machine *machine, unsigned vcpu, const struct request *request)
{
    if (vcpu >= MACHINE_VCPUS) {
        if (machine->ring_write - machine->ring_read == MACHINE_RING) {
            return false;
        }
        machine->ring[machine->ring_write++ % MACHINE_RING] = *request;
        machine->pending |= UINT64_C(1) << RING_PORT;
        return true;
    }
    if (machine->slots[vcpu].state != SLOT_NONE) {
        return false;
    }
    machine->slots[vcpu].request = *request;
    machine->slots[vcpu].state = SLOT_READY;
    machine->slots[vcpu].sent++;
    machine->pending |= UINT64_C(1) << (vcpu + 1);
    return true;
}

bool machine_waits(const struct machine *machine)
{
    for (unsigned i = 0; i < MACHINE_VCPUS; i++) {
        if (machine->slots[i].state != SLOT_NONE) {
            return true;
        }
    }
    return false;
}

static void stopped(void *self)
{
    ((struct machine *)self)->stopped = true;
}

void machine_stop(struct machine *machine)
{
    daemon_stop(machine->daemon, stopped, machine);
    machine_run(machine);
    for (unsigned seconds = 0; !machine->stopped; seconds++) {
        FUZZ_CHECK(seconds < 100);
        machine_pass(machine, UINT64_C(1000000000));
    }
    for (unsigned i = 0; i < MACHINE_VCPUS; i++) {
        FUZZ_CHECK(machine->slots[i].state == SLOT_NONE &&
                   machine->slots[i].sent == machine->slots[i].answered);
    }
    FUZZ_CHECK(machine->mapped == 0);
    daemon_destroy(machine->daemon);
    modules_destroy(machine->modules);
    munmap(machine->memory, (2 * MACHINE_PAGES) * (size_t)HV_PAGE_SIZE);
    free(machine);
}
