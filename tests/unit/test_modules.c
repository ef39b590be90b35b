/* SPDX-License-Identifier: BSD-2-Clause */
/* The modules of tests/modules, loaded from their files as --module does, under the real core. */
#include <dlfcn.h>
#include <errno.h>

#include "core/device.h"
#include "core/inside.h"
#include "fake_xen.h"
#include "unit.h"

enum { BASE = 0xf0000000, PATTERN = 0xd7 };

static const struct iod_module *load(const char *path, const char *symbol)
{
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(file != NULL, "%s", dlerror());
    const struct iod_module *module = dlsym(file, symbol);
    ck_assert_ptr_nonnull(module);
    return module;
}

static struct fake_xen *start(const struct iod_module *module, const char *text)
{
    struct iod_error error = { 0 };
    struct fake_xen *fake = fake_start(module, GUEST_HVM, &text, 1, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    ck_assert_msg(fake_running(fake), "%s", fake_log(fake));
    return fake;
}

static struct iod_device *device_of(struct fake_xen *fake)
{
    struct guest *guest = list_first(&fake_daemon(fake)->guests, struct guest, link);
    return list_first(&guest->devices, struct iod_device, link);
}

static void set_true(void *self)
{
    *(bool *)self = true;
}

static bool is_true(void *self)
{
    return *(bool *)self;
}

/* ---- sample ---- */

enum { FROM = BASE, TO = BASE + 8, COUNT = BASE + 16, STATUS = BASE + 24 };

START_TEST(sample_copies)
{
    struct fake_xen *fake = start(load(MODULE_SAMPLE, "iod_module_sample"), "sample,base=0xf0000000");
    uint8_t *ram = fake_ram(fake);
    memset(ram + 0x1ff0, 0x42, 64);
    fake_out(fake, FROM, 8, 0x1ff0);
    fake_out(fake, TO, 8, 0x5000);
    ck_assert(!fake_line(fake, 5));
    ck_assert_uint_eq(fake_in(fake, STATUS, 8), 0);
    fake_out(fake, COUNT, 8, 64);
    ck_assert(fake_line(fake, 5));
    ck_assert_uint_eq(fake_in(fake, STATUS, 8), 1);
    ck_assert_mem_eq(ram + 0x5000, ram + 0x1ff0, 64);
    ck_assert_uint_eq(ram[0x5040], 0);
    fake_out(fake, STATUS, 8, 0);
    ck_assert(!fake_line(fake, 5));
    fake_out(fake, COUNT, 8, UINT64_MAX); /* bounded */
    ck_assert_uint_eq(fake_in(fake, STATUS, 8), 1);
    ck_assert_uint_eq(ram[0x5100], 0);
    fake_out(fake, FROM, 8, UINT64_MAX - 7);
    fake_out(fake, COUNT, 8, 16);
    ck_assert_uint_eq(fake_in(fake, STATUS, 8), 2);
    fake_stop(fake);
}
END_TEST

/* ---- test-defer ---- */

enum { HOLD = BASE, FREE = BASE + 4, ADDRESS = BASE + 8, START = BASE + 16, STATE = BASE + 20 };

static const struct iod_module *defer(void)
{
    return load(MODULE_TEST_DEFER, "iod_module_test_defer");
}

START_TEST(access_ends_later)
{
    struct fake_xen *fake = start(defer(), "test-defer,base=0xf0000000,delay=30");
    ck_assert_uint_eq(fake_in(fake, FREE, 4), 1);
    fake_begin_out(fake, HOLD, 4, 1);
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    fake_run_ms(fake, 60);
    ck_assert(fake_answered(fake));
    ck_assert_uint_eq(fake_in(fake, HOLD, 4), 3);
    fake_stop(fake);
}
END_TEST

/* Nothing ends it but the stop; and the vCPU has its answer by then. */
START_TEST(stop_ends_access)
{
    bool quiet = false;
    struct device_stop stop;
    struct fake_xen *fake = start(defer(), "test-defer,base=0xf0000000,delay=0");
    fake_begin_out(fake, HOLD, 4, 1);
    fake_run_ms(fake, 20);
    ck_assert(!fake_answered(fake));
    device_stop(device_of(fake), &stop, _i == 0 ? IOD_FINISH : IOD_CANCEL, set_true, &quiet);
    fake_run(fake, is_true, &quiet);
    fake_run_ms(fake, 10);
    ck_assert(fake_answered(fake));
    device_resume(device_of(fake));
    fake_stop(fake);
}
END_TEST

/* After a stop has ended no byte of guest memory changes any more, whether the I/O was cancelled or waited
 * for. */
START_TEST(stop_is_exact)
{
    static const struct {
        const char *text;
        enum iod_drain drain;
        unsigned state;
    } cases[] = {
        { "test-defer,base=0xf0000000,delay=40", IOD_CANCEL, 3 },
        { "test-defer,base=0xf0000000,delay=40", IOD_FINISH, 2 },
        { "test-defer,base=0xf0000000,delay=40,stubborn=on", IOD_CANCEL, 2 },
        { "test-defer,base=0xf0000000,delay=0", IOD_FINISH, 2 },
    };
    bool quiet = false;
    struct device_stop stop;
    struct fake_xen *fake = start(defer(), cases[_i].text);
    uint8_t *page = fake_ram(fake) + 0x7000;
    fake_out(fake, ADDRESS, 4, 0x7000);
    fake_out(fake, START, 4, 1);
    ck_assert_uint_eq(fake_in(fake, STATE, 4), 1);
    device_stop(device_of(fake), &stop, cases[_i].drain, set_true, &quiet);
    fake_run(fake, is_true, &quiet);
    bool written = page[0] == PATTERN;
    ck_assert(written == (cases[_i].state == 2));
    memset(page, 0x11, 4096);
    fake_run_ms(fake, 80);
    for (unsigned i = 0; i < 4096; i++) {
        ck_assert_uint_eq(page[i], 0x11);
    }
    device_resume(device_of(fake));
    ck_assert_uint_eq(fake_in(fake, STATE, 4), cases[_i].state);
    fake_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("modules");
    TCase *c = tcase_create("modules");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, sample_copies);
    tcase_add_test(c, access_ends_later);
    tcase_add_loop_test(c, stop_ends_access, 0, 2);
    tcase_add_loop_test(c, stop_is_exact, 0, 4);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
