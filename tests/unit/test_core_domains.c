/* SPDX-License-Identifier: BSD-2-Clause */
/* Domains that die and come back, as the core and xenstore see it, each in its own order. */
#include <ioreqd/dma.h>

#include "core_rig.h"

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
    struct fake_xen *fake = fake_create(&rig_module, with_store ? &store : NULL, &error);
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
    struct fake_xen *fake = rig_start();
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

static Suite *suite(void)
{
    Suite *s = suite_create("core_domains");
    TCase *c = tcase_create("core_domains");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, reboot_while_stopping);
    tcase_add_test(c, reboot_before_the_news);
    tcase_add_loop_test(c, death_while_opening, 0, 2);
    tcase_add_loop_test(c, death_while_stopping, 0, 2);
    tcase_add_test(c, death_gives_back_what_is_idle);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
