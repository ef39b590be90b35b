/* SPDX-License-Identifier: BSD-2-Clause */
/* Guests by xenstore while xenstored, the helper or ioreqd itself stalls, dies and comes back; and two
 * sources at once. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <time.h>
#include <unistd.h>

#include "xenstore_rig.h"

#define READ_MS 1000 /* no single read may take longer; the machine may be busy */

static struct xenstore_rig rig;
static struct mock_guest *guest;
static unsigned domid;
static struct rig_driver driver;

static void start(void)
{
    rig_start(&rig, false);
}

static void stop(void)
{
    rig_stop(&rig);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* I/O all the time, none of it late. */
static void read_for(unsigned ms)
{
    uint64_t end = now_ms() + ms, last = now_ms();

    for (unsigned reads = 0; last < end; reads++) {
        rig_read(&driver);
        uint64_t now = now_ms();
        ck_assert_msg(now - last <= READ_MS, "read %u took %u ms", reads, (unsigned)(now - last));
        last = now;
    }
}

static void serve_a_disk(void)
{
    guest = rig_domain(&rig, MOCK_PVH, "web");
    domid = mock_domid(guest);
    rig_disk(&rig, domid, &(struct rig_disk){0});
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "2", SOON_MS);
    rig_drive(&rig, &driver, guest, 0, 0);
}

static void take_it_away(void)
{
    rig_undrive(&driver);
    rig_remove(&rig, domid, "virtio_disk", XVDE);
    rig_destroy_domain(&rig, guest);
}

START_TEST(xenstored_stalls_under_load)
{
    rig_daemon(&rig, NULL);
    serve_a_disk();
    kill(mock_xenstore_pid(rig.f.mock), SIGSTOP);
    read_for(2000);
    kill(mock_xenstore_pid(rig.f.mock), SIGCONT);
    read_for(300);
    take_it_away();
}
END_TEST

/* A close that comes while nobody listens. */
START_TEST(the_helper_stops_and_goes_on)
{
    rig_daemon(&rig, NULL);
    serve_a_disk();
    pid_t helper = rig_helper(&rig);
    ck_assert_int_gt(helper, 0);
    kill(helper, SIGSTOP);
    rig_close(&rig, domid, "virtio_disk", XVDE);
    read_for(500);
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "5", 0);
    kill(helper, SIGCONT);
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "6", SOON_MS);
    rig_undrive(&driver);
    rig_destroy_domain(&rig, guest);
}
END_TEST

START_TEST(the_helper_is_killed)
{
    rig_daemon(&rig, NULL);
    serve_a_disk();
    for (unsigned i = 0; i < 3; i++) {
        pid_t helper = rig_helper(&rig);
        ck_assert_int_gt(helper, 0);
        kill(helper, SIGKILL);
        read_for(200);
        rig_write(&rig, "ioreqd/1/rng", "virtio-rng"); /* while there is no helper, or a new one */
        rig_expect(&rig, "ioreqd-status/1/rng/state", "running", SOON_MS);
        helper = rig_helper(&rig);
        kill(helper, SIGKILL);
        rig_rm(&rig, "ioreqd/1/rng");
        rig_expect(&rig, "ioreqd-status/1/rng", NULL, SOON_MS); /* it is the same xenstored: removed it was */
    }
    rig_expect_log(&rig, "starting it again");
    kill(rig_helper(&rig), SIGKILL);
    take_it_away();
}
END_TEST

/* xenstored forgets everything when it dies: that is no reason to take a running guest's devices away. */
START_TEST(xenstored_dies_and_comes_back_empty)
{
    struct mock_guest *other;

    rig_daemon(&rig, NULL);
    serve_a_disk();
    rig_write(&rig, "ioreqd/1/rng", "virtio-rng");
    rig_expect(&rig, "ioreqd-status/1/rng/state", "running", SOON_MS);
    mock_xenstore_stop(rig.f.mock);
    rig_expect_log(&rig, "connection lost");
    read_for(300);
    ck_assert_int_eq(mock_xenstore_start(rig.f.mock), 0);
    rig_reconnect(&rig);
    rig_expect_log(&rig, "lost its memory");
    read_for(300);
    ck_assert_int_ge(virtio_pci_find(guest, 0, 4, -1), 0);
    /* A new guest comes by the new one. */
    char image[160];
    rig_image(&rig, "other.img", image, sizeof(image));
    other = rig_domain(&rig, MOCK_PVH, "db");
    rig_disk(&rig, mock_domid(other), &(struct rig_disk){.params = image});
    rig_expect(&rig, rig_state(mock_domid(other), "virtio_disk", XVDE), "2", SOON_MS);
    rig_read(&driver);
    rig_undrive(&driver);
    mock_domain_kill(guest); /* noticed without xenstore's word */
    rig_expect_log(&rig, ": gone");
    mock_guest_free(guest);
    rig_destroy_domain(&rig, other);
}
END_TEST

START_TEST(xenstored_comes_late)
{
    mock_xenstore_stop(rig.f.mock);
    rig_daemon(&rig, NULL);
    rig_expect_log(&rig, "is it running?");
    ck_assert_int_eq(mock_xenstore_start(rig.f.mock), 0);
    rig_reconnect(&rig);
    serve_a_disk();
    take_it_away();
}
END_TEST

/* The nodes stay as they are; the next daemon takes them up. _i: it was killed. */
START_TEST(another_daemon_goes_on)
{
    rig_daemon(&rig, NULL);
    serve_a_disk();
    rig_undrive(&driver);
    rig_write(&rig, "ioreqd/1/rng", "virtio-rng");
    rig_expect(&rig, "ioreqd-status/1/rng/state", "running", SOON_MS);
    if (_i) {
        rig_kill_daemon(&rig);
    } else {
        rig_end_daemon(&rig);
    }
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "2", 0);
    rig_rm(&rig, "ioreqd/1/rng");
    rig_write(&rig, "ioreqd/1/again", "virtio-rng");
    rig_daemon(&rig, NULL);
    rig_expect(&rig, "ioreqd-status/1/again/state", "running", SOON_MS);
    rig_expect(&rig, "ioreqd-status/1/rng", NULL, SOON_MS);
    rig_expect_log(&rig, "xvde: added");
    rig_drive(&rig, &driver, guest, 0, 0);
    take_it_away();
}
END_TEST

/* A guest of the command line by its name; xenstore adds to it and takes away, the other's stays. */
START_TEST(a_guest_of_two_sources)
{
    char spec[200], image[160];
    int first;

    rig_image(&rig, "other.img", image, sizeof(image));
    snprintf(spec, sizeof(spec), "virtio-blk,id=other,addr=9,path=%s", image);
    rig_daemon(&rig, "--domain", "web", "--wait", "--device", "pci-host", "--device", spec, NULL);
    for (unsigned boot = 0; boot < 2; boot++) {
        guest = rig_domain(&rig, MOCK_PVH, "web");
        domid = mock_domid(guest);
        rig_disk(&rig, domid, &(struct rig_disk){0});
        rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "2", SOON_MS);
        first = virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, -1);
        ck_assert_int_ge(first, 0);
        ck_assert_int_eq(virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, first), 9 << 3);
        rig_drive(&rig, &driver, guest, 0, 0);
        rig_undrive(&driver);
        rig_remove(&rig, domid, "virtio_disk", XVDE);
        ck_assert_int_eq(virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, -1), 9 << 3);
        rig_destroy_domain(&rig, guest);
        rig_expect_log(&rig, ": gone");
    }
}
END_TEST

#define CROWD 40

/* All come at once, and go at once. */
START_TEST(many_guests)
{
    struct mock_guest *guests[CROWD];
    char path[80];

    rig_daemon(&rig, NULL);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < CROWD; i++) {
            guests[i] = rig_domain(&rig, i % 2 ? MOCK_PVH : MOCK_HVM, NULL);
            rig_disk(&rig, mock_domid(guests[i]), &(struct rig_disk){.mode = "r"});
            snprintf(path, sizeof(path), "ioreqd/%u/rng", mock_domid(guests[i]));
            rig_write(&rig, path, "virtio-rng");
        }
        for (unsigned i = 0; i < CROWD; i++) {
            rig_expect(&rig, rig_state(mock_domid(guests[i]), "virtio_disk", XVDE), "2", LIBXL_MS);
        }
        for (unsigned i = 0; i < CROWD; i++) {
            rig_close(&rig, mock_domid(guests[i]), "virtio_disk", XVDE);
        }
        for (unsigned i = 0; i < CROWD; i++) {
            unsigned id = mock_domid(guests[i]);
            rig_expect(&rig, rig_state(id, "virtio_disk", XVDE), "6", LIBXL_MS);
            snprintf(path, sizeof(path), "backend/virtio_disk/%u", id);
            rig_rm(&rig, path);
            rig_destroy_domain(&rig, guests[i]);
            snprintf(path, sizeof(path), "ioreqd/%u", id);
            rig_expect(&rig, path, NULL, LIBXL_MS);
        }
    }
}
END_TEST

/* The disk's server is gone, and its open hangs: who destroys the domain does not wait for it. */
START_TEST(destroyed_while_its_disk_hangs)
{
    int frozen = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
    char image[160];

    rig_daemon(&rig, NULL);
    rig_image(&rig, "hangs", image, sizeof(image));
    if (frozen < 0 || fanotify_mark(frozen, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, image)) {
        fprintf(stderr, "destroyed_while_its_disk_hangs: SKIPPED: fanotify: %s\n", strerror(errno));
        return;
    }
    guest = rig_domain(&rig, MOCK_PVH, "web");
    domid = mock_domid(guest);
    rig_disk(&rig, domid, &(struct rig_disk){.params = image});
    rig_expect_still(&rig, rig_state(domid, "virtio_disk", XVDE), "1", 500);
    rig_remove(&rig, domid, "virtio_disk", XVDE);
    ck_assert_ptr_null(strstr(mock_daemon_log(rig.f.daemon), "no answer from its disk")); /* its time-out was not awaited */
    close(frozen);
    rig_destroy_domain(&rig, guest);
    serve_a_disk(); /* another one, and nothing is left of the first */
    take_it_away();
}
END_TEST

int main(void)
{
    Suite *all = suite_create("xenstore trouble");
    TCase *tests = tcase_create("trouble"), *crowd = tcase_create("crowd");

    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, xenstored_stalls_under_load);
    tcase_add_test(tests, the_helper_stops_and_goes_on);
    tcase_add_test(tests, the_helper_is_killed);
    tcase_add_test(tests, xenstored_dies_and_comes_back_empty);
    tcase_add_test(tests, xenstored_comes_late);
    tcase_add_loop_test(tests, another_daemon_goes_on, 0, 2);
    tcase_add_test(tests, a_guest_of_two_sources);
    tcase_add_test(tests, destroyed_while_its_disk_hangs);
    suite_add_tcase(all, tests);
    tcase_set_timeout(crowd, 120);
    tcase_add_checked_fixture(crowd, start, stop);
    tcase_add_test(crowd, many_guests);
    suite_add_tcase(all, crowd);
    return fixture_main(all);
}
