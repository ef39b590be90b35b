/* SPDX-License-Identifier: BSD-2-Clause */
/* src/loop through core/loop.h: order inside a batch, fairness, removal inside callbacks, signals. */
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include <ioreqd/loop.h>

#include "core/loop.h"
#include "loop/event_loop.h"

#include "unit.h"

#define MS 1000000u

static struct loop *loop;
static struct loop_timer *guard; /* ends a run that hangs */
static char said[256];           /* what happened, in order: one letter each */

static void say(char letter)
{
    size_t length = strlen(said);

    ck_assert_uint_lt(length, sizeof(said) - 1);
    said[length] = letter;
    said[length + 1] = 0;
}

static void hang(void *self)
{
    ck_abort_msg("the loop was not stopped; so far \"%s\"", said);
}

static void setup(void)
{
    loop = event_loop_create();
    ck_assert_ptr_nonnull(loop);
    said[0] = 0;
    guard = loop->ops->timer_add(loop, hang, NULL);
    loop->ops->timer_set(guard, loop->ops->now_ns(loop) + 3000u * MS);
}

static void teardown(void)
{
    loop->ops->timer_remove(guard);
    event_loop_destroy(loop);
}

static void run(void)
{
    ck_assert_int_eq(event_loop_run(loop), 0);
}

/* ---- actors: each says its letter, then does what its test gave it to do ---- */
struct actor {
    char letter;
    unsigned times; /* so often it queues itself again */
    bool again;     /* by task_again, else task_soon */
    bool stop;      /* ends the run when `times` is used up */
    int fd;
    struct loop_task *task, *wake, **remove_task;
    struct loop_timer *timer, **remove_timer;
    struct loop_watch *watch, **remove_watch;
};

static void act(struct actor *a)
{
    say(a->letter);
    if (a->wake) {
        loop->ops->task_soon(a->wake);
    }
    if (a->remove_task) {
        loop->ops->task_remove(*a->remove_task);
        *a->remove_task = NULL;
    }
    if (a->remove_timer) {
        loop->ops->timer_remove(*a->remove_timer);
        *a->remove_timer = NULL;
    }
    if (a->remove_watch) {
        loop->ops->watch_remove(*a->remove_watch);
        *a->remove_watch = NULL;
    }
    if (a->times) {
        a->times--;
        if (a->task && a->again) {
            loop->ops->task_again(a->task);
        } else if (a->task) {
            loop->ops->task_soon(a->task);
        } else if (a->timer) {
            loop->ops->timer_set(a->timer, 1); /* long past */
        }
    } else if (a->stop) {
        event_loop_stop(loop);
    }
}

static void act_task(void *self)
{
    act(self);
}

static void act_watch(void *self, unsigned events)
{
    struct actor *a = self;
    char byte;

    ck_assert_uint_eq(events, IOD_READABLE);
    ck_assert_int_eq(read(a->fd, &byte, 1), 1);
    act(a);
}

static void make_task(struct actor *a)
{
    a->task = loop->ops->task_add(loop, act_task, a);
    ck_assert_ptr_nonnull(a->task);
}

static void make_timer(struct actor *a, uint64_t at_ns)
{
    a->timer = loop->ops->timer_add(loop, act_task, a);
    ck_assert_ptr_nonnull(a->timer);
    loop->ops->timer_set(a->timer, at_ns);
}

/* The other end of the pair, where a byte is waiting already. */
static int make_watch(struct actor *a)
{
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    a->fd = fds[0];
    a->watch = loop->ops->watch_add(loop, a->fd, IOD_READABLE, act_watch, a);
    ck_assert_ptr_nonnull(a->watch);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    return fds[1];
}

static void free_actor(struct actor *a)
{
    loop->ops->task_remove(a->task);
    loop->ops->timer_remove(a->timer);
    loop->ops->watch_remove(a->watch);
}

/* ---- tests ---- */

START_TEST(task_soon_runs_once_at_the_end_of_the_batch)
{
    struct actor last = {.letter = 'T', .stop = true};
    struct actor a = {.letter = 'a'}, b = {.letter = 'b'};
    int ends[2];

    make_task(&last);
    a.wake = b.wake = last.task;
    ends[0] = make_watch(&a);
    ends[1] = make_watch(&b);
    run();
    ck_assert_uint_eq(strlen(said), 3);
    ck_assert_int_eq(said[2], 'T'); /* after both, though each queued it */
    free_actor(&a), free_actor(&b), free_actor(&last);
    close(a.fd), close(b.fd), close(ends[0]), close(ends[1]);
}
END_TEST

START_TEST(task_again_lets_descriptors_go_first)
{
    struct actor busy = {.letter = 'b', .times = 3, .again = true}, fd = {.letter = 'f'};
    int end;

    make_task(&busy);
    busy.stop = true;
    loop->ops->task_again(busy.task);
    end = make_watch(&fd);
    run();
    ck_assert_str_eq(said, "fbbbb");
    free_actor(&busy), free_actor(&fd);
    close(fd.fd), close(end);
}
END_TEST

/* A task that queues itself by task_soon for ever still lets descriptors in, and the loop be stopped. */
START_TEST(endless_task_does_not_starve)
{
    struct actor endless = {.letter = 'e', .times = 1000}, fd = {.letter = 'f', .stop = true};
    int end;

    make_task(&endless);
    loop->ops->task_soon(endless.task);
    end = make_watch(&fd);
    run();
    ck_assert_ptr_nonnull(strchr(said, 'f'));
    ck_assert_uint_lt(strlen(said), 100);
    free_actor(&endless), free_actor(&fd);
    close(fd.fd), close(end);
}
END_TEST

START_TEST(task_last_comes_after_all_of_the_batch)
{
    struct actor a = {.letter = 'a', .times = 3}, last = {.letter = 'l'}, again = {.letter = 'g', .stop = true};

    make_task(&a);
    make_task(&last);
    make_task(&again);
    last.wake = again.task; /* what it queues is of the batch still */
    loop->ops->task_again(again.task);
    loop->ops->task_last(last.task);
    loop->ops->task_last(last.task); /* no-op */
    loop->ops->task_soon(a.task);
    run();
    ck_assert_str_eq(said, "agaaalg");
    free_actor(&a), free_actor(&last), free_actor(&again);
}
END_TEST

START_TEST(task_soon_overtakes_task_last)
{
    struct actor a = {.letter = 'a'}, b = {.letter = 'b'}, c = {.letter = 'c', .stop = true};

    make_task(&a);
    make_task(&b);
    make_task(&c);
    loop->ops->task_last(c.task);
    loop->ops->task_last(b.task);
    loop->ops->task_soon(b.task);
    loop->ops->task_soon(a.task);
    loop->ops->task_last(a.task); /* no-op: it is queued for sooner */
    run();
    ck_assert_str_eq(said, "bac");
    loop->ops->task_last(a.task);
    loop->ops->task_cancel(a.task);
    loop->ops->task_last(c.task);
    run();
    ck_assert_str_eq(said, "bacc");
    free_actor(&a), free_actor(&b), free_actor(&c);
}
END_TEST

START_TEST(task_soon_overtakes_task_again)
{
    struct actor a = {.letter = 'a'}, b = {.letter = 'b', .stop = true};

    make_task(&a);
    make_task(&b);
    loop->ops->task_again(b.task);
    loop->ops->task_soon(b.task);
    loop->ops->task_soon(a.task);
    loop->ops->task_again(a.task); /* no-op: it is queued for sooner */
    run();
    ck_assert_str_eq(said, "ba");
    loop->ops->task_soon(a.task);
    loop->ops->task_cancel(a.task);
    loop->ops->task_soon(b.task);
    run();
    ck_assert_str_eq(said, "bab");
    free_actor(&a), free_actor(&b);
}
END_TEST

START_TEST(task_removes_itself_and_the_next)
{
    struct actor a = {.letter = 'a'}, b = {.letter = 'b'}, c = {.letter = 'c', .stop = true};

    make_task(&a);
    make_task(&b);
    make_task(&c);
    loop->ops->task_soon(a.task);
    loop->ops->task_soon(b.task);
    loop->ops->task_soon(c.task);
    a.remove_task = &b.task;
    c.remove_task = &c.task;
    run();
    ck_assert_str_eq(said, "ac");
    free_actor(&a), free_actor(&b), free_actor(&c);
}
END_TEST

START_TEST(timers_fire_in_order_of_time)
{
    uint64_t now = loop->ops->now_ns(loop);
    struct actor a = {.letter = 'a'}, b = {.letter = 'b'}, c = {.letter = 'c', .stop = true},
                 never = {.letter = 'n'};

    make_timer(&c, now + 30 * MS);
    make_timer(&a, now + 10 * MS);
    make_timer(&never, UINT64_MAX);
    make_timer(&b, now + 500 * MS);
    loop->ops->timer_set(b.timer, now + 20 * MS); /* moves */
    run();
    ck_assert_str_eq(said, "abc");
    ck_assert_uint_ge(loop->ops->now_ns(loop), now + 30 * MS);
    ck_assert_uint_lt(loop->ops->now_ns(loop), now + 400 * MS);
    free_actor(&a), free_actor(&b), free_actor(&c), free_actor(&never);
}
END_TEST

START_TEST(timer_set_for_the_past_fires_on_the_next_turn)
{
    struct actor fd = {.letter = 'f'}, t = {.letter = 't', .times = 2, .stop = true};
    int end;

    make_timer(&t, 0);
    end = make_watch(&fd);
    run();
    ck_assert_str_eq(said, "fttt");
    free_actor(&t), free_actor(&fd);
    close(fd.fd), close(end);
}
END_TEST

START_TEST(timer_removes_itself_and_one_that_is_due)
{
    struct actor a = {.letter = 'a'}, b = {.letter = 'b'}, c = {.letter = 'c', .stop = true};

    make_timer(&a, 1);
    make_timer(&b, 2);
    make_timer(&c, 3);
    a.remove_timer = &b.timer;
    c.remove_timer = &c.timer;
    run();
    ck_assert_str_eq(said, "ac");
    free_actor(&a), free_actor(&b), free_actor(&c);
}
END_TEST

/* Many timers, some cancelled from the middle: the heap keeps its order. */
START_TEST(timer_heap_keeps_order)
{
    enum { COUNT = 200 };
    struct actor actors[COUNT], end = {.letter = '.', .stop = true};
    uint64_t now = loop->ops->now_ns(loop);

    srandom((unsigned)_i);
    for (unsigned i = 0; i < COUNT; i++) {
        actors[i] = (struct actor){.letter = (char)('A' + i / 4 % 50)};
        make_timer(&actors[i], now + 60000u * MS);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned k = (i * 67) % COUNT;
        loop->ops->timer_set(actors[k].timer, k + 1); /* all past, in order of k */
    }
    unsigned cancelled = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        if (random() % 3 == 0) {
            loop->ops->timer_cancel(actors[i].timer);
            cancelled++;
        }
    }
    make_timer(&end, COUNT + 1);
    run();
    ck_assert_uint_eq(strlen(said), COUNT - cancelled + 1);
    for (size_t i = 0; i + 2 < strlen(said); i++) {
        ck_assert_int_le(said[i], said[i + 1]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        free_actor(&actors[i]);
    }
    free_actor(&end);
}
END_TEST

/* Both are ready in one batch; whichever runs first removes the other, which must not run. */
START_TEST(watch_removes_another_that_is_ready)
{
    struct actor a = {.letter = 'x'}, b = {.letter = 'x'}, stop = {.letter = 's', .stop = true};
    int ends[2];

    ends[0] = make_watch(&a);
    ends[1] = make_watch(&b);
    a.remove_watch = &b.watch;
    b.remove_watch = &a.watch;
    make_timer(&stop, loop->ops->now_ns(loop) + 20 * MS);
    run();
    ck_assert_str_eq(said, "xs");
    free_actor(&a), free_actor(&b), free_actor(&stop);
    close(a.fd), close(b.fd), close(ends[0]), close(ends[1]);
}
END_TEST

START_TEST(watch_removes_itself)
{
    struct actor a = {.letter = 'a', .stop = true};
    int end = make_watch(&a);

    ck_assert_int_eq(write(end, "yz", 2), 2); /* stays readable */
    a.remove_watch = &a.watch;
    run();
    ck_assert_str_eq(said, "a");
    close(a.fd), close(end);
}
END_TEST

static unsigned seen;

static void note(void *self, unsigned events)
{
    seen = events;
    event_loop_stop(loop);
}

START_TEST(watch_set_changes_what_is_watched)
{
    int fds[2];
    struct actor stop = {.letter = 's', .stop = true};

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct loop_watch *watch = loop->ops->watch_add(loop, fds[0], 0, note, NULL);
    ck_assert_ptr_nonnull(watch);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);

    seen = 0;
    make_timer(&stop, loop->ops->now_ns(loop) + 20 * MS);
    run();
    ck_assert_uint_eq(seen, 0);
    loop->ops->watch_set(watch, IOD_WRITABLE);
    run();
    ck_assert_uint_eq(seen, IOD_WRITABLE);
    loop->ops->watch_set(watch, IOD_READABLE | IOD_WRITABLE);
    run();
    ck_assert_uint_eq(seen, IOD_READABLE | IOD_WRITABLE);
    loop->ops->watch_set(watch, 0);
    seen = 0;
    loop->ops->timer_set(stop.timer, loop->ops->now_ns(loop) + 20 * MS);
    run();
    ck_assert_uint_eq(seen, 0);
    loop->ops->watch_remove(watch);
    loop->ops->watch_remove(NULL);
    free_actor(&stop);
    close(fds[0]), close(fds[1]);
}
END_TEST

START_TEST(stop_before_run_ends_it_at_once)
{
    event_loop_stop(loop);
    run();
    ck_assert_str_eq(said, "");
}
END_TEST

static void signal_cb(void *self, int signo)
{
    *(int *)self = signo;
    event_loop_stop(loop);
}

static void raise_usr1(void *self)
{
    raise(SIGUSR1);
}

START_TEST(signals_arrive_on_the_loop)
{
    int got = 0;
    struct loop_timer *timer = loop->ops->timer_add(loop, raise_usr1, NULL);

    ck_assert_int_eq(event_loop_signal(loop, SIGUSR1, signal_cb, &got), 0);
    loop->ops->timer_set(timer, 1);
    run();
    ck_assert_int_eq(got, SIGUSR1);
    loop->ops->timer_remove(timer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loop");
    TCase *tc = tcase_create("loop");

    event_enable_debug_mode(); /* libevent's own check of how we use its events */
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, task_soon_runs_once_at_the_end_of_the_batch);
    tcase_add_test(tc, task_again_lets_descriptors_go_first);
    tcase_add_test(tc, endless_task_does_not_starve);
    tcase_add_test(tc, task_soon_overtakes_task_again);
    tcase_add_test(tc, task_last_comes_after_all_of_the_batch);
    tcase_add_test(tc, task_soon_overtakes_task_last);
    tcase_add_test(tc, task_removes_itself_and_the_next);
    tcase_add_test(tc, timers_fire_in_order_of_time);
    tcase_add_test(tc, timer_set_for_the_past_fires_on_the_next_turn);
    tcase_add_test(tc, timer_removes_itself_and_one_that_is_due);
    tcase_add_loop_test(tc, timer_heap_keeps_order, 0, 8);
    tcase_add_test(tc, watch_removes_another_that_is_ready);
    tcase_add_test(tc, watch_removes_itself);
    tcase_add_test(tc, watch_set_changes_what_is_watched);
    tcase_add_test(tc, stop_before_run_ends_it_at_once);
    tcase_add_test(tc, signals_arrive_on_the_loop);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
