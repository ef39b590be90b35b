/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who is limited, and when it has its turn. A limited guest earns credit by the clock, spends it by the time
 * that its work takes, and has its turn when it has earned enough, at most every 10 ms: long turns seldom
 * disturb the others less than short ones often (each delays one access of theirs, at least). A ring that
 * signals again and again between two turns stays masked: it can't even wake the loop.
 */
#include "core/limit.h"

#include <errno.h>

#include "core/points.h"
#include "core/timer.h"

#define SECOND_NS UINT64_C(1000000000)
#define WINDOW_NS SECOND_NS
#define SHARE_PARTS (1000000u / LIMIT_SHARE_PPM) /* the loop's time over the guest's */
#define NEVER UINT64_MAX

/*
 * A guest that does nothing wrong never comes near: a driver makes no mistakes by the hundred, sets its BARs
 * and resets its devices at boot, and a balloon gives back 2 MiB with each invalidation. The time counts
 * only what was charged: what costs the loop no more than a limited guest may have needs no limit.
 */
#define POINTS_SUSPICIOUS 10000u
#define POINTS_LIMITED 100000u
#define COSTLY_NS (WINDOW_NS / SHARE_PARTS)
const uint16_t limit_points[DEED_COUNT] = {
    [DEED_MALFORMED] = 200, [DEED_UNCLAIMED] = 200, [DEED_HOLE] = 200, [DEED_GUEST_ERROR] = 200,
    [DEED_RESET] = 200, [DEED_COMMIT] = 50, [DEED_INVALIDATE] = 50, [DEED_MISS] = 10, [DEED_EMPTY_KICK] = 5,
    [DEED_CONFIG] = 1, [DEED_SETTING] = 1000,
};
static const char *const deed_names[DEED_COUNT] = {
    [DEED_MALFORMED] = "malformed requests",
    [DEED_UNCLAIMED] = "accesses to addresses that no device has",
    [DEED_HOLE] = "string accesses whose data is in no memory",
    [DEED_GUEST_ERROR] = "accesses that no driver makes",
    [DEED_RESET] = "device resets",
    [DEED_COMMIT] = "changes of what its devices claim",
    [DEED_INVALIDATE] = "invalidations of its memory map",
    [DEED_MISS] = "pages of memory mapped for no I/O",
    [DEED_EMPTY_KICK] = "notifications without new buffers",
    [DEED_CONFIG] = "configuration cycles",
    [DEED_SETTING] = "changes of a network card's settings",
};

#define TURN_NS INT64_C(100000) /* credit that a turn begins with: what is earned in an interval */
#define TURN_INTERVAL_NS (UINT64_C(100000) * SHARE_PARTS)
#define HOLD_FIRST_S 3u         /* calm seconds that end a limit */
#define HOLD_MAX_S 300u
#define RELAPSE_NS (600 * SECOND_NS) /* so soon after the last one it is held twice as long */
#define CALM_POINTS 200u        /* in a second, or in the pieces that are enough to judge it by */
#define CALM_PIECES 20u         /* of the work of one that has more to do than its turns are for */

static uint64_t now_of(const struct guest *guest)
{
    struct loop *loop = guest->daemon->loop;
    return loop->ops->now_ns(loop);
}

/* ---- the account ---- */

void limit_open(struct guest *guest)
{
    guest->watch.account.check = POINTS_SUSPICIOUS;
}

/* From now on the clock is read for it; or no more. */
static void set_measured(struct guest *guest, bool measured)
{
    struct account *account = &guest->watch.account;
    if (measured != account->measured) {
        list_remove(&account->link);
        account->events = account->costly_events = 0;
        if (measured) {
            list_add_tail(&guest->daemon->watch.suspicious, &account->link);
        }
    }
    account->measured = measured;
}

static void open_window(struct guest *guest, uint64_t now)
{
    struct account *account = &guest->watch.account;
    account->window_ns = now;
    account->points = 0;
    account->check = POINTS_SUSPICIOUS;
    account->spent_ns = account->costly_ns = 0;
    for (unsigned i = 0; i < DEED_COUNT; i++) {
        account->window_deeds[i] = guest->watch.deeds[i];
    }
}

/* A window is over, some time ago maybe; the next begins. */
static void next_window(struct guest *guest, uint64_t now)
{
    struct account *account = &guest->watch.account;
    uint64_t length = now - account->window_ns;
    if (account->measured) {
        account->share_ppm = (uint32_t)(account->spent_ns * 1000 / (length / 1000));
        set_measured(guest, account->limited || account->points >= POINTS_SUSPICIOUS);
    }
    open_window(guest, now);
}

void limit_check(struct guest *guest)
{
    struct account *account = &guest->watch.account;
    if (guest->spec.unlimited) {
        account->points = 0;
        return;
    }
    uint64_t now = now_of(guest);
    if (account->limited) {
        account->check = UINT32_MAX; /* the second's end looks at it */
    } else if (now - account->window_ns >= WINDOW_NS && !account->depth) {
        next_window(guest, now);
    } else {
        set_measured(guest, true);
        account->check = account->points + POINTS_SUSPICIOUS;
    }
}

/* ---- limited or not ---- */

/* What most of the points of this window are for. */
static enum limit_deed main_deed(const struct guest *guest)
{
    const struct guest_watch *watch = &guest->watch;
    unsigned most = 0;
    uint64_t most_points = 0;
    for (unsigned i = 0; i < DEED_COUNT; i++) {
        uint64_t points = (watch->deeds[i] - watch->account.window_deeds[i]) * limit_points[i];
        if (points > most_points) {
            most = i;
            most_points = points;
        }
    }
    return most;
}

static void tell(struct guest *guest, const char *text)
{
    guest_log(guest, IOD_LOG_WARNING, "%s", text);
    daemon_tell(guest->daemon, &(struct daemon_event){.kind = EVENT_LIMITED, .domain = guest->spec.domain,
                                                      .domid = guest->domid, .text = text});
}

static void begin(struct guest *guest, uint64_t now)
{
    struct account *account = &guest->watch.account;
    struct daemon_watch *watch = &guest->daemon->watch;
    bool relapse = account->ended_ns && now - account->ended_ns < RELAPSE_NS;
    unsigned ms = (unsigned)((now - account->window_ns) / 1000000) + 1;
    enum limit_deed deed = main_deed(guest);
    uint64_t count = guest->watch.deeds[deed] - account->window_deeds[deed];
    char text[300];
    account->hold_s = !relapse ? HOLD_FIRST_S : account->hold_s * 2 < HOLD_MAX_S ? account->hold_s * 2 : HOLD_MAX_S;
    account->calm_s = account->pieces = account->seen_points = 0;
    account->limited = true;
    account->times++;
    account->began_ns = account->credit_at_ns = now;
    account->credit_ns = 0;
    list_remove(&account->link);
    list_add_tail(&watch->limited, &account->link);
    watch->limited_count++;
    list_remove(&guest->run_link);
    limit_wait(guest);
    snprintf(text, sizeof(text),
             "limited: %llu %s within %u ms: its answers are delayed, to take at most %u.%u %% of the loop's time, "
             "until it has been calm for %u s",
             (unsigned long long)count, deed_names[deed], ms, LIMIT_SHARE_PPM / 10000, LIMIT_SHARE_PPM / 1000 % 10,
             account->hold_s);
    open_window(guest, now);
    tell(guest, text);
}

void limit_lift(struct guest *guest)
{
    struct account *account = &guest->watch.account;
    struct daemon *daemon = guest->daemon;
    if (!account->limited) {
        set_measured(guest, false);
        return;
    }
    account->limited = false;
    set_measured(guest, false);
    account->ended_ns = now_of(guest);
    account->limited_ns += account->ended_ns - account->began_ns;
    daemon->watch.limited_count--;
    open_window(guest, account->ended_ns);
    tasks_release(guest);
    dispatch_unmask(guest);
    dispatch_resume(guest);
}

static bool has_work(const struct guest *guest)
{
    const struct account *account = &guest->watch.account;
    return !list_empty(&guest->ready) || !list_empty(&account->tasks) || account->masked;
}

/*
 * Is it calm? That its turns are few says nothing: one that has work left is judged by what it did in some pieces
 * of it, however long they take. What it costs by the piece, not by the second, is what it would cost if let go.
 */
static void judge(struct guest *guest)
{
    struct account *account = &guest->watch.account;
    account->seen_points += account->points;
    if (account->seen_points >= CALM_POINTS) {
        account->calm_s = 0;
    } else if (!has_work(guest) || account->pieces >= CALM_PIECES) {
        account->calm_s++;
    } else {
        return; /* too little was seen of it */
    }
    account->seen_points = account->pieces = 0;
}

/* A second of its time as a limited guest is over. */
static void second_over(struct guest *guest, uint64_t now)
{
    struct account *account = &guest->watch.account;
    char text[160];
    judge(guest);
    next_window(guest, now);
    if (account->calm_s < account->hold_s && !guest->spec.unlimited) {
        return;
    }
    snprintf(text, sizeof(text), "limited no more, after %llu s: %llu accesses were delayed so far",
             (unsigned long long)((now - account->began_ns) / SECOND_NS), (unsigned long long)account->delayed);
    limit_lift(guest);
    tell(guest, text);
}

/* ---- time ---- */

void limit_spend(struct guest *guest, uint64_t ns)
{
    struct account *account = &guest->watch.account;
    account->spent_ns += ns;
    account->total_ns += ns;
    if (account->limited) {
        account->credit_ns -= (int64_t)ns;
    }
}

void limit_work_begins(struct guest *guest)
{
    struct account *account = &guest->watch.account;
    if (!account->depth++) {
        account->begun_points = account->points;
        account->begun_ns = now_of(guest);
    }
}

void limit_work_ends(struct guest *guest)
{
    struct account *account = &guest->watch.account;
    if (!account->depth || --account->depth) {
        return; /* it began before the guest was measured; or inside another piece */
    }
    uint64_t now = now_of(guest), took = now - account->begun_ns;
    limit_spend(guest, took);
    if (account->points != account->begun_points) {
        account->costly_ns += took;
        account->costly_events++;
    }
    if (account->limited || !account->measured) {
        return;
    }
    if (now - account->window_ns >= WINDOW_NS) {
        next_window(guest, now);
    } else if (account->points >= POINTS_LIMITED && account->costly_ns >= COSTLY_NS) {
        begin(guest, now);
    }
}

uint64_t limit_batch_begins(struct daemon *daemon)
{
    return list_empty(&daemon->watch.suspicious) ? 0 : daemon->loop->ops->now_ns(daemon->loop);
}

/* Unmasking and notifying is measured; polling and taking the events took about as long. */
void limit_batch_ends(struct daemon *daemon, uint64_t began_ns, unsigned events)
{
    struct account *account;
    if (!began_ns) {
        return;
    }
    uint64_t each = 2 * (daemon->loop->ops->now_ns(daemon->loop) - began_ns) / events;
    list_for_each(account, &daemon->watch.suspicious, struct account, link) {
        struct guest *guest = list_entry(account, struct guest, watch.account);
        unsigned costly = account->costly_events < account->events ? account->costly_events : account->events;
        limit_spend(guest, account->events * each);
        account->costly_ns += costly * each;
        account->events = account->costly_events = 0;
    }
}

void limit_charge_device(struct iod_device *device, enum limit_deed deed, unsigned times)
{
    limit_charge(device->guest, deed, times);
}

void limit_device_begins(struct iod_device *device)
{
    if (device->guest->watch.account.measured) {
        limit_work_begins(device->guest);
    }
}

void limit_device_ends(struct iod_device *device)
{
    limit_work_ends(device->guest);
}

/* ---- turns ---- */

static int64_t credit_of(const struct account *account, uint64_t now)
{
    int64_t credit = account->credit_ns + (int64_t)((now - account->credit_at_ns) / SHARE_PARTS);
    return credit < TURN_NS ? credit : TURN_NS;
}

uint64_t limit_debt(const struct account *account, uint64_t now)
{
    int64_t credit = account->limited ? credit_of(account, now) : 0;
    return credit < 0 ? (uint64_t)-credit : 0;
}

static void earn(struct guest *guest, uint64_t now)
{
    struct account *account = &guest->watch.account;
    account->credit_ns = credit_of(account, now);
    account->credit_at_ns = now;
}

/* When there is something to do for it. */
static uint64_t next_at(const struct guest *guest)
{
    const struct account *account = &guest->watch.account;
    uint64_t second = account->window_ns + WINDOW_NS;
    if (!has_work(guest)) {
        return second;
    }
    uint64_t turn = account->credit_at_ns + (uint64_t)(TURN_NS - account->credit_ns) * SHARE_PARTS;
    turn = turn > account->turn_at_ns + TURN_INTERVAL_NS ? turn : account->turn_at_ns + TURN_INTERVAL_NS;
    return turn < second ? turn : second;
}

/* The accesses first, then what they have set off. */
static void turn(struct guest *guest)
{
    dispatch_turn(guest);
    tasks_turn(guest);
}

void limit_wait(struct guest *guest)
{
    struct daemon *daemon = guest->daemon;
    uint64_t at = next_at(guest);
    if (at < daemon->watch.limit_at_ns) {
        daemon->watch.limit_at_ns = at;
        daemon->loop->ops->timer_set(daemon->watch.limit_timer, at);
    }
}

static void fire(void *self)
{
    struct daemon *daemon = self;
    struct account *account;
    uint64_t now = daemon->loop->ops->now_ns(daemon->loop);
    daemon->watch.limit_at_ns = NEVER;
    list_for_each(account, &daemon->watch.limited, struct account, link) {
        struct guest *guest = list_entry(account, struct guest, watch.account);
        earn(guest, now);
        if (now - account->window_ns >= WINDOW_NS) {
            second_over(guest, now);
        }
        if (account->limited && account->credit_ns >= TURN_NS && has_work(guest) &&
            now - account->turn_at_ns >= TURN_INTERVAL_NS) {
            account->turn_at_ns = now;
            turn(guest);
        }
    }
    list_for_each(account, &daemon->watch.limited, struct account, link) {
        limit_wait(list_entry(account, struct guest, watch.account));
    }
}

int limit_begin(struct daemon *daemon)
{
    daemon->watch.limit_at_ns = NEVER;
    daemon->watch.limit_timer = daemon->loop->ops->timer_add(daemon->loop, fire, daemon);
    return daemon->watch.limit_timer ? 0 : -ENOMEM;
}

void limit_end(struct daemon *daemon)
{
    daemon->loop->ops->timer_remove(daemon->watch.limit_timer);
}
