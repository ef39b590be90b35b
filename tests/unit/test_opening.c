/* SPDX-License-Identifier: BSD-2-Clause */
/* Images that are opened by threads, some of which hang: here image_open does as the test says. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "backend/image.h"
#include "core/loop.h"
#include "loop/event_loop.h"
#include "unit.h"

enum { MS = 1000000 };

static atomic_bool hangs;
static atomic_uint inside;

void image_open(struct image *image, const atomic_bool *given_up)
{
    atomic_fetch_add(&inside, 1);
    while (atomic_load(&hangs)) {
        usleep(1000);
    }
    image->fd = *given_up ? -1 : dup(0);
    image->limits.capacity = strlen(image->path);
    atomic_fetch_sub(&inside, 1);
}

struct opener {
    struct loop *loop;
    struct opening *opening;
    unsigned done;
    int code;
    uint64_t capacity;
};

static void done(void *self, struct image *image)
{
    struct opener *opener = self;
    opener->opening = NULL;
    opener->done++;
    opener->code = image->error.code;
    opener->capacity = image->limits.capacity;
    if (image->fd >= 0) {
        close(image->fd);
        image->fd = -1;
    }
}

static int begin(struct opener *opener, struct iod_error *error)
{
    char path[] = "image";
    const struct image asked = { .path = path, .fd = -1 };
    *error = (struct iod_error){ 0 };
    opener->opening = opening_begin(opener->loop, &asked, 50 * MS, done, opener, error);
    return opener->opening ? 0 : -error->code;
}

static void stop(void *self)
{
    event_loop_stop(self);
}

static void run_ms(struct loop *loop, unsigned ms)
{
    struct loop_timer *timer = loop->ops->timer_add(loop, stop, loop);
    loop->ops->timer_set(timer, loop->ops->now_ns(loop) + (uint64_t)ms * MS);
    ck_assert_int_eq(event_loop_run(loop), 0);
    loop->ops->timer_remove(timer);
}

START_TEST(opened)
{
    struct opener opener = { .loop = event_loop_create() };
    struct iod_error error;
    ck_assert_int_eq(begin(&opener, &error), 0);
    run_ms(opener.loop, 30);
    ck_assert_uint_eq(opener.done, 1);
    ck_assert_int_eq(opener.code, 0);
    ck_assert_uint_eq(opener.capacity, 5);
    event_loop_destroy(opener.loop);
}
END_TEST

/* Given up, by the clock, or by who asked with or without an answer: at most one, and the thread ends as it likes. */
START_TEST(hanging)
{
    struct opener opener = { .loop = event_loop_create() };
    struct iod_error error;
    hangs = true;
    ck_assert_int_eq(begin(&opener, &error), 0);
    if (_i == 1) {
        run_ms(opener.loop, 10);
        opening_cancel(opener.opening);
    } else if (_i == 2) {
        opening_give_up(opener.opening);
        ck_assert_uint_eq(opener.done, 0); /* not from inside */
        run_ms(opener.loop, 10);
        ck_assert_uint_eq(opener.done, 1);
    }
    run_ms(opener.loop, 100);
    ck_assert_uint_eq(opener.done, _i != 1);
    ck_assert_int_eq(opener.code, _i == 0 ? ETIMEDOUT : _i == 1 ? 0 : ECANCELED);
    ck_assert_uint_eq(inside, 1);
    hangs = false;
    run_ms(opener.loop, 30);
    ck_assert_uint_eq(inside, 0);
    ck_assert_uint_eq(opener.done, _i != 1);
    event_loop_destroy(opener.loop);
}
END_TEST

/* Those that hang are bounded, however often somebody comes; afterwards all is as before. */
START_TEST(bounded)
{
    struct opener opener = { .loop = event_loop_create() };
    struct iod_error error;
    unsigned begun = 0;
    hangs = true;
    for (unsigned i = 0; i < 20; i++) {
        begun += begin(&opener, &error) == 0;
        run_ms(opener.loop, 60);
    }
    ck_assert_uint_eq(begun, THREADS_MAX - 1); /* and this one */
    ck_assert_uint_eq(opener.done, begun);
    ck_assert_int_eq(error.code, EAGAIN);
    ck_assert_ptr_nonnull(strstr(error.text, "image: not opened: 5 others hang"));
    hangs = false;
    run_ms(opener.loop, 50);
    ck_assert_int_eq(begin(&opener, &error), 0);
    run_ms(opener.loop, 30);
    ck_assert_uint_eq(opener.done, begun + 1);
    event_loop_destroy(opener.loop);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("opening");
    TCase *opening = tcase_create("opening");
    tcase_set_timeout(opening, 30);
    tcase_add_test(opening, opened);
    tcase_add_loop_test(opening, hanging, 0, 3);
    tcase_add_test(opening, bounded);
    suite_add_tcase(suite, opening);
    return unit_run(suite);
}
