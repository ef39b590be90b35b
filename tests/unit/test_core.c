/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the core's inside can be asked: orders of events that a device, a guest or xenstore may bring about. */
#include <errno.h>

#include <ioreqd/dma.h>
#include <ioreqd/loop.h>
#include <ioreqd/module.h>
#include <ioreqd/region.h>

#include "core/inside.h"
#include "fake_xen.h"
#include "unit.h"

enum { BASE = 0xf0000000, HOLD = BASE, PLAIN = BASE + 4, BREAK = BASE + 8, SECOND = 0xf1000000 };

/* ---- a device whose every step is the test's ---- */

struct testee {
    struct iod_device *device;
    struct iod_access *access;
    struct iod_timer *timer;
    struct iod_region *second;
};

struct hooks {
    struct testee *probe;
    bool quiesce_later, break_in_open, open_later;
    unsigned extra; /* regions, each alone */
    unsigned fired, destroyed;
    int dma;        /* what a DMA in destroy said */
};

static struct hooks hooks;

static uint64_t probe_read(void *self, uint64_t offset, unsigned width)
{
    struct testee *probe = self;
    if (offset == HOLD - BASE) {
        probe->access = iod_access_defer(probe->device);
    }
    return 0x42;
}

static void probe_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct testee *probe = self;
    if (offset == HOLD - BASE) {
        probe->access = iod_access_defer(probe->device);
    } else if (offset == BREAK - BASE) {
        iod_device_broken(probe->device, "the test says so");
    } else if (offset == PLAIN - BASE && probe->second != NULL) {
        struct iod_error error;
        iod_region_place(probe->second, IOD_MMIO, SECOND + value, &error);
    }
}

static const struct iod_region_ops probe_ops = {
    .size = sizeof(probe_ops), .widths = 4, .read = probe_read, .write = probe_write
};

static void timer_fired(void *self)
{
    hooks.fired++;
}

static int probe_create(struct iod_device *device, struct iod_error *error)
{
    struct testee *probe = iod_self(device);
    probe->device = device;
    hooks.probe = probe;
    probe->timer = iod_timer_add(device, "timer", timer_fired, probe);
    struct iod_region *region = iod_region_add(device, "registers", 16, &probe_ops, probe);
    probe->second = iod_region_add(device, "second", 16, &probe_ops, probe);
    for (unsigned i = 0; i < hooks.extra; i++) {
        struct iod_region *extra = iod_region_add(device, "extra", 16, &probe_ops, probe);
        iod_region_place(extra, IOD_MMIO, 0xe0000000u + i * 0x1000, error);
    }
    return iod_region_place_base(region, IOD_MMIO, BASE, error);
}

static int probe_open(struct iod_device *device, struct iod_error *error)
{
    if (hooks.break_in_open) {
        iod_device_broken(device, "in open");
    }
    return hooks.open_later ? 1 : 0;
}

static enum iod_when probe_quiesce(struct iod_device *device, enum iod_drain drain)
{
    return hooks.quiesce_later ? IOD_LATER : IOD_NOW;
}

static void probe_destroy(struct iod_device *device)
{
    struct testee *probe = iod_self(device);
    char byte = 1;
    hooks.destroyed++;
    hooks.dma = iod_dma_write(device, 0x1000, &byte, 1);
    if (probe->access != NULL) {
        iod_access_complete(probe->access, 1);
    }
}

static const struct iod_device_class probe_class = {
    .size = sizeof(probe_class), .name = "probe", .summary = "as the test wants", .version = 1,
    .self_size = sizeof(struct testee), .create = probe_create, .open = probe_open, .quiesce = probe_quiesce,
    .destroy = probe_destroy,
};
static const struct iod_device_class *const classes[] = { &probe_class, NULL };
static const struct iod_module module = { .size = sizeof(module), .abi = IOD_ABI, .devices = classes };

static struct fake_xen *start(void)
{
    static const char *const text = "probe";
    struct iod_error error = { 0 };
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, &text, 1, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    return fake;
}

static struct guest *guest_of(struct fake_xen *fake)
{
    return list_first(&fake_daemon(fake)->guests, struct guest, link);
}

static bool is_set(void *self)
{
    return *(bool *)self;
}

static void nothing(void *self)
{
}

/* ---- accesses that nobody ends ---- */

/* The device never ends its access and still says that it is quiet: the vCPU is answered, and nothing dangles. */
START_TEST(deferred_to_the_end)
{
    struct fake_xen *fake = start();
    guest_of(fake)->spec.on_exit = _i == 0 ? ON_EXIT_DESTROY : ON_EXIT_LEAVE;
    fake_begin_out(fake, HOLD, 4, 1);
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    hooks.destroyed = 0;
    if (_i == 2) {
        fake_kill(fake);
        ck_assert_uint_eq(hooks.destroyed, 1);
        fake_stop(fake);
        return;
    }
    struct daemon *daemon = fake_daemon(fake);
    daemon_stop(daemon, nothing, NULL);
    fake_run_ms(fake, 50);
    ck_assert_uint_eq(daemon_guests(daemon), 0);
    ck_assert_uint_eq(hooks.destroyed, 1);
    /* Left: its successor's, as it is. Destroyed: answered. */
    ck_assert_int_eq(fake_slot(fake), _i == 1 ? SLOT_INPROCESS : SLOT_NONE);
    fake_free(fake);
}
END_TEST

/* ---- a device that can't go on ---- */

/* Broken in whatever state: its accesses end, and the guest's others go on. */
START_TEST(broken_in_open)
{
    hooks.break_in_open = true;
    struct fake_xen *fake = start();
    ck_assert(fake_running(fake));
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0xffffffff);
    fake_stop(fake);
}
END_TEST

static void set_done(void *self, int error, const char *why)
{
    ck_assert_msg(error == 0, "%s", why);
    *(bool *)self = true;
}

static void set_true(void *self)
{
    *(bool *)self = true;
}

START_TEST(broken_while_stopped)
{
    struct fake_xen *fake = start();
    struct device_stop stop;
    bool quiet = false;
    device_stop(hooks.probe->device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    fake_begin_out(fake, PLAIN, 4, 0); /* parked */
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    iod_device_broken(hooks.probe->device, "while stopped");
    fake_run_ms(fake, 10);
    ck_assert(fake_answered(fake));
    device_resume(hooks.probe->device);
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0xffffffff);
    fake_stop(fake);
}
END_TEST

START_TEST(broken_with_a_deferred_access)
{
    struct fake_xen *fake = start();
    fake_begin_out(fake, HOLD, 4, 1);
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    iod_device_broken(hooks.probe->device, "with an access in its hands");
    fake_run_ms(fake, 10);
    ck_assert(fake_answered(fake));
    fake_stop(fake);
}
END_TEST

/* Broken by its own handler, then broken again: once. */
START_TEST(broken_in_a_handler)
{
    struct fake_xen *fake = start();
    fake_out(fake, BREAK, 4, 1);
    iod_device_broken(hooks.probe->device, "again");
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0xffffffff);
    ck_assert_uint_eq(fake_logged(fake, "stopped: "), 1);
    fake_stop(fake);
}
END_TEST

/* ---- timers ---- */

START_TEST(timers_wait_for_a_stopped_device)
{
    struct fake_xen *fake = start();
    struct iod_device *device = hooks.probe->device;
    struct device_stop stop;
    bool quiet = false;
    iod_timer_set(hooks.probe->timer, iod_guest_ns(device) + 10000000);
    device_stop(device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    fake_run_ms(fake, 40);
    ck_assert_uint_eq(hooks.fired, 0);
    device_resume(device);
    ck_assert_uint_eq(hooks.fired, 0); /* not inside the call */
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(hooks.fired, 1);
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(hooks.fired, 1);
    /* Cancelled while held back: never. */
    quiet = false;
    iod_timer_set(hooks.probe->timer, 0);
    device_stop(device, &stop, IOD_FINISH, set_true, &quiet);
    fake_run_ms(fake, 5);
    iod_timer_cancel(hooks.probe->timer);
    device_resume(device);
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(hooks.fired, 1);
    fake_stop(fake);
}
END_TEST

START_TEST(timers_fire_while_io_finishes)
{
    struct fake_xen *fake = start();
    struct iod_device *device = hooks.probe->device;
    struct device_stop stop;
    bool quiet = false;
    hooks.quiesce_later = true;
    iod_timer_set(hooks.probe->timer, iod_guest_ns(device) + 5000000);
    device_stop(device, &stop, IOD_FINISH, set_true, &quiet);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(hooks.fired, 1);
    ck_assert(!quiet);
    hooks.quiesce_later = false;
    iod_device_done(device, 0);
    ck_assert(quiet);
    device_resume(device);
    fake_stop(fake);
}
END_TEST

/* ---- ranges that change at run time ---- */

START_TEST(range_that_was_refused)
{
    struct fake_xen *fake = start();
    fake_ranges(fake)->fail = SECOND + 0x1000;
    fake_out(fake, PLAIN, 4, 0x1000);
    ck_assert_uint_eq(fake_ranges(fake)->failed, 1);
    fake_out(fake, HOLD + 12, 4, 0); /* nothing changes: not asked again at each access */
    ck_assert_uint_eq(fake_ranges(fake)->failed, 1);
    fake_ranges(fake)->fail = 0;
    fake_out(fake, PLAIN, 4, 0x1000); /* placed anew where it was */
    ck_assert_uint_eq(fake_ranges(fake)->last, SECOND + 0x1000);
    fake_stop(fake);
}
END_TEST

/* The 257th range: a second server, made while the guest runs, whose event channels come late. */
START_TEST(server_made_at_run_time)
{
    hooks.extra = 255; /* and the registers: a server full */
    struct fake_xen *fake = start();
    fake_hide_ports(fake, true);
    unsigned bound = fake_ranges(fake)->bound;
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 256);
    fake_out(fake, PLAIN, 4, 0);
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 257);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(fake_ranges(fake)->bound, bound);
    fake_hide_ports(fake, false);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(fake_ranges(fake)->bound, bound + 1);
    fake_stop(fake);
}
END_TEST

/* The detach is under way when the guest ends: its registers are gone, and still looked up. */
START_TEST(access_after_detach_in_a_stopping_guest)
{
    static const char *const texts[] = { "probe", "debugcon" };
    struct iod_error error = { 0 };
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, texts, 2, &error);
    struct testee *probe = hooks.probe;
    struct daemon *daemon = fake_daemon(fake);
    struct iod_device *other = list_entry(guest_of(fake)->devices.prev, struct iod_device, link);
    struct device_stop stop;
    bool detached = false;
    hooks.quiesce_later = true;
    device_stop(probe->device, &stop, IOD_FINISH, nothing, NULL);
    ck_assert_int_eq(daemon_remove_device(daemon, "7", probe->device->id, REMOVAL_FORCE, set_done, &detached, &error), 0);
    ck_assert_ptr_nonnull(other);
    guest_of(fake)->stopping = 1000; /* something else is never quiet */
    guest_of(fake)->state = GUEST_STOPPING;
    iod_device_done(probe->device, 0);
    fake_run(fake, is_set, &detached);
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0); /* reads 0, as a hole does */
    guest_of(fake)->state = GUEST_RUNNING;
    fake_stop(fake);
}
END_TEST

/* ---- domains that die and come back ---- */

static const struct store_events *news;
static void *news_self;

static int store_watch(struct store *store, const struct store_events *events, void *self)
{
    news = events;
    news_self = self;
    return 0;
}

static const struct store_ops store_ops = { .watch = store_watch };
static struct store store = { &store_ops };

/* xenstore says that this domid, and no other, is introduced; 0: none. */
static void tell(uint16_t domid)
{
    struct store_domain domain = { .domid = domid, .name = "web", .type = "hvm", .uuid = "u" };
    news->domains(news_self, &domain, domid != 0);
}

static struct fake_xen *start_web(bool with_store, const char *name)
{
    struct iod_error error = { 0 };
    struct guest_spec spec;
    struct fake_xen *fake = fake_create(&module, with_store ? &store : NULL, &error);
    guest_spec_init(&spec);
    spec.domain = strdup(name);
    spec.arch = ARCH_X86;
    spec.wait = true;
    spec.type = with_store ? GUEST_UNKNOWN : GUEST_HVM;
    ck_assert_int_eq(guest_spec_add_device(&spec, "probe", &error), 0);
    ck_assert_int_eq(daemon_add_guest(fake_daemon(fake), &spec, &error), 0);
    guest_spec_finish(&spec);
    return fake;
}

static void expect_guest(struct fake_xen *fake, uint16_t domid, enum guest_state state)
{
    fake_run_ms(fake, 20);
    ck_assert_ptr_nonnull(guest_of(fake));
    ck_assert_msg(guest_of(fake)->state == state && guest_of(fake)->domid == domid, "%s", fake_log(fake));
}

/* The domain comes back while the old guest still has I/O in flight: xenstore will not say so again. */
START_TEST(reboot_while_stopping)
{
    struct fake_xen *fake = start_web(true, "web");
    tell(7);
    expect_guest(fake, 7, GUEST_RUNNING);
    hooks.quiesce_later = true;
    fake_mark_dead(fake, 7);
    tell(0);
    expect_guest(fake, 7, GUEST_STOPPING);
    tell(8);
    expect_guest(fake, 7, GUEST_STOPPING);
    hooks.quiesce_later = false;
    iod_device_done(hooks.probe->device, 0);
    expect_guest(fake, 8, GUEST_RUNNING);
    fake_stop(fake);
}
END_TEST

/* As found by a look at the server, before xenstore knows: its last word is about the dead one. */
START_TEST(reboot_before_the_news)
{
    struct fake_xen *fake = start_web(true, "web");
    tell(7);
    expect_guest(fake, 7, GUEST_RUNNING);
    fake_mark_dead(fake, 7);
    guest_check_alive(guest_of(fake));
    expect_guest(fake, 0, GUEST_WAITING);
    tell(7);
    expect_guest(fake, 7, GUEST_WAITING);
    tell(9);
    expect_guest(fake, 9, GUEST_RUNNING);
    fake_stop(fake);
}
END_TEST

/* Dead before its guest is attached: gone, not failed; and waited for again. */
START_TEST(death_while_opening)
{
    bool with_store = _i;
    hooks.open_later = true;
    struct fake_xen *fake = start_web(with_store, with_store ? "web" : "7");
    if (with_store) {
        tell(7);
    }
    expect_guest(fake, 7, GUEST_OPENING);
    fake_mark_dead(fake, 7);
    if (with_store) {
        tell(0);
    }
    iod_device_done(hooks.probe->device, 0);
    expect_guest(fake, with_store ? 0 : 7, GUEST_WAITING);
    ck_assert_uint_eq(fake_logged(fake, "failed"), 0);
    ck_assert_uint_ge(fake_logged(fake, "gone"), 1);
    hooks.open_later = false;
    if (with_store) {
        tell(8);
        expect_guest(fake, 8, GUEST_RUNNING);
    }
    fake_stop(fake);
}
END_TEST

/* Dead while its I/O finishes for SIGTERM: nobody needs it any more. */
START_TEST(death_while_stopping)
{
    struct fake_xen *fake = start_web(_i, _i ? "web" : "7");
    if (_i) {
        tell(7);
    }
    expect_guest(fake, 7, GUEST_RUNNING);
    struct iod_device *device = hooks.probe->device;
    hooks.quiesce_later = true;
    daemon_stop(fake_daemon(fake), nothing, NULL);
    expect_guest(fake, 7, GUEST_STOPPING);
    ck_assert_int_eq(device->drain, IOD_FINISH);
    fake_mark_dead(fake, 7);
    if (_i) {
        tell(0);
    } else {
        fake_run_ms(fake, 2000); /* without xenstore: by looking, once a second */
    }
    ck_assert_int_eq(device->drain, IOD_CANCEL);
    iod_device_done(device, 0);
    fake_run_ms(fake, 10);
    ck_assert_ptr_null(guest_of(fake));
    fake_free(fake);
}
END_TEST

/* What is mapped keeps a dead domain a zombie: all but the I/O in flight goes at once. */
START_TEST(death_gives_back_what_is_idle)
{
    struct fake_xen *fake = start();
    struct iod_device *device = hooks.probe->device;
    const struct iod_extent extent = { 0x100000, 64 };
    struct iod_mapping *mapping;
    char byte = 1;
    ck_assert_int_eq(iod_dma_write(device, 0x1000, &byte, 1), 0);
    ck_assert_int_eq(iod_dma_map(device, &extent, 1, IOD_TO_GUEST, &mapping), 0);
    unsigned both = fake_ranges(fake)->pages;
    hooks.quiesce_later = true;
    fake_mark_dead(fake, 7);
    guest_check_alive(guest_of(fake));
    ck_assert_uint_eq(fake_ranges(fake)->pages, both / 2);
    iod_mapping_put(mapping, 64);
    iod_device_done(device, 0);
    fake_run_ms(fake, 10);
    ck_assert_ptr_null(guest_of(fake));
    ck_assert_uint_eq(fake_ranges(fake)->pages, 0);
    fake_stop(fake);
}
END_TEST

/* ---- guest memory ---- */

/* Only a device that runs reaches guest memory; it said that it is quiet. */
START_TEST(dma_while_stopped)
{
    struct fake_xen *fake = start();
    struct iod_device *device = hooks.probe->device;
    struct iod_mapping *mapping;
    const struct iod_extent extent = { 0x1000, 64 };
    struct iod_window *window = iod_window_open(device, 0x1000, 64);
    struct device_stop stop;
    bool quiet = false;
    char byte = 7;
    ck_assert_int_eq(iod_dma_write(device, 0x1000, &byte, 1), 0);
    ck_assert_int_eq(iod_window_write(window, 1, &byte, 1), 0);
    device_stop(device, &stop, IOD_CANCEL, set_true, &quiet);
    ck_assert(quiet);
    byte = 9;
    ck_assert_int_eq(iod_dma_write(device, 0x1000, &byte, 1), -EFAULT);
    ck_assert_int_eq(iod_dma_map(device, &extent, 1, IOD_TO_GUEST, &mapping), -EFAULT);
    ck_assert_int_eq(iod_window_write(window, 1, &byte, 1), -EFAULT);
    ck_assert_uint_eq(fake_ram(fake)[0x1000], 7);
    ck_assert_uint_eq(fake_ram(fake)[0x1001], 7);
    device_resume(device);
    ck_assert_int_eq(iod_window_write(window, 1, &byte, 1), 0);
    iod_window_close(window);
    fake_stop(fake);
    ck_assert_int_eq(hooks.dma, -EFAULT); /* in destroy */
}
END_TEST

struct pace {
    struct fake_xen *fake;
    struct loop_task *task;
    unsigned seen, worst;
};

static void look_at_pace(void *self)
{
    struct pace *pace = self;
    unsigned maps = fake_ranges(pace->fake)->maps;
    pace->worst = maps - pace->seen > pace->worst ? maps - pace->seen : pace->worst;
    pace->seen = maps;
    fake_loop(pace->fake)->ops->task_again(pace->task);
}

static bool answered(void *self)
{
    return fake_answered(self);
}

/* A REP from or to memory that is not there asks the hypervisor at each element: few of them in one round. */
START_TEST(holes_are_dear)
{
    struct fake_xen *fake = start();
    struct pace pace = { .fake = fake };
    pace.task = fake_loop(fake)->ops->task_add(fake_loop(fake), look_at_pace, &pace);
    fake_loop(fake)->ops->task_again(pace.task);
    fake_begin_rep(fake, _i, PLAIN, 4, 1000, FAKE_RAM + 0x1000000);
    fake_run(fake, answered, fake);
    ck_assert_uint_ge(fake_ranges(fake)->maps, 2000);
    ck_assert_msg(pace.worst <= 48, "%u maps in one round", pace.worst);
    fake_loop(fake)->ops->task_remove(pace.task);
    fake_stop(fake);
}
END_TEST

/* A ring that the guest puts at the very top. */
START_TEST(window_over_the_top)
{
    struct fake_xen *fake = start();
    struct iod_window *window = iod_window_open(hooks.probe->device, UINT64_MAX - 0xf, 8192);
    uint8_t bytes[64];
    for (size_t offset = 0; offset <= 8192 - sizeof(bytes); offset += 16) {
        ck_assert_int_eq(iod_window_read(window, offset, bytes, sizeof(bytes)), -EFAULT);
    }
    iod_window_close(window);
    fake_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core");
    TCase *c = tcase_create("core");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, deferred_to_the_end, 0, 3);
    tcase_add_test(c, broken_in_open);
    tcase_add_test(c, broken_while_stopped);
    tcase_add_test(c, broken_with_a_deferred_access);
    tcase_add_test(c, broken_in_a_handler);
    tcase_add_test(c, timers_wait_for_a_stopped_device);
    tcase_add_test(c, timers_fire_while_io_finishes);
    tcase_add_test(c, range_that_was_refused);
    tcase_add_test(c, server_made_at_run_time);
    tcase_add_test(c, access_after_detach_in_a_stopping_guest);
    tcase_add_test(c, reboot_while_stopping);
    tcase_add_test(c, reboot_before_the_news);
    tcase_add_loop_test(c, death_while_opening, 0, 2);
    tcase_add_loop_test(c, death_while_stopping, 0, 2);
    tcase_add_test(c, death_gives_back_what_is_idle);
    tcase_add_loop_test(c, holes_are_dear, 0, 2);
    tcase_add_test(c, dma_while_stopped);
    tcase_add_test(c, window_over_the_top);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
