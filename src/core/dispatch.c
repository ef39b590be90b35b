/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way of one access: event -> slot -> request copied out once -> single accesses (cursor.c) -> answer. A
 * guest has a budget per round, then the others have their turn; a limited one (limit.h) has turns of its
 * own.
 */
#include <errno.h>
#include <string.h>

#include "core/cursor.h"
#include "core/points.h"

/* Handler calls that one guest gets before the others have their turn. */
#define ROUND_BUDGET 512
#define RING_BUDGET 512
#define KNOCKS_MAX 4u /* events of one access that a limited guest has between two turns */

static uint64_t ones(unsigned bytes)
{
    return bytes >= 8 ? UINT64_MAX : (UINT64_C(1) << (bytes * 8)) - 1;
}

static struct guest *guest_of(const struct iod_access *access)
{
    return access->server->guest;
}

static bool is_limited(const struct guest *guest)
{
    return __builtin_expect(guest->watch.account.limited, 0);
}

/* ---- queues ---- */

/* The guest has ready accesses: it is served in the next round, or has its turn when it may. */
static void join_round(struct guest *guest)
{
    if (is_limited(guest)) {
        limit_wait(guest);
    } else if (list_empty(&guest->run_link)) {
        list_add_tail(&guest->daemon->run_queue, &guest->run_link);
    }
}

static void queue(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    list_remove(&access->link);
    access->state = ACCESS_READY;
    list_add_tail(&guest->ready, &access->link);
    join_round(guest);
}

/* The batch leaves it. A ring's cursor between two requests is nobody's access. */
static void note_left(struct iod_access *access)
{
    if (access->vcpu != RING_VCPU || access->active) {
        stuck_note(access);
    }
}

void dispatch_ready(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    queue(access);
    guest->daemon->loop->ops->task_soon(guest->daemon->run_task);
}

void dispatch_resume(struct guest *guest)
{
    if (!list_empty(&guest->ready)) {
        join_round(guest);
        guest->daemon->loop->ops->task_soon(guest->daemon->run_task);
    }
}

bool dispatch_event(struct daemon *daemon, uint32_t port)
{
    struct iod_access *access = port < daemon->port_room ? daemon->ports[port] : NULL;
    if (!access) {
        return true; /* unbound while its event was on the way */
    }
    point_event(access);
    bool idle = access->state == ACCESS_IDLE;
    if (idle) {
        dispatch_ready(access);
    } /* else its slot is looked at anyway; a vCPU sends nothing new before it was answered */
    guest_of(access)->watch.account.events++;
    if (!is_limited(guest_of(access))) {
        return true;
    }
    if (idle) {
        point_delay(access);
        note_left(access);
    }
    if (access->watch.knocks < KNOCKS_MAX) {
        access->watch.knocks++;
        return true;
    }
    /* A ring's: they would come as fast as they are taken. Until a turn finds nothing there. */
    guest_of(access)->watch.account.masked += !access->watch.masked;
    access->watch.masked = true;
    limit_wait(guest_of(access));
    return false;
}

/* ---- one request ---- */

static void answer(struct iod_access *access)
{
    struct guest *guest = guest_of(access);
    struct daemon *daemon = guest->daemon;
    struct server *server = access->server;
    if (guest_dirty(guest)) {
        limit_charge(guest, DEED_COMMIT, 1);
        guest_commit(guest); /* before the vCPU goes on: its next access may be to the new place */
    }
    access->active = false;
    uint64_t data = access->request.data_is_ptr ? access->request.data : access->value;
    if (!access->request.data_is_ptr) {
        data &= ones(access->request.size);
    }
    if (access->vcpu == RING_VCPU) {
        point_answer(access, data);
        watch_access_end(access);
        return;
    }
    daemon->hv->ops->slot_answer(server->pages, access->vcpu, data);
    point_answer(access, data);
    watch_access_end(access);
    if (daemon->notify_count == EVENT_BATCH) {
        dispatch_flush(daemon);
    }
    daemon->notify[daemon->notify_count++] = access->local;
    point_notify(access);
}

/* Serves the request that the cursor holds. True: it is answered. */
static bool serve_request(struct iod_access *access, unsigned *budget)
{
    switch (cursor_advance(access, budget)) {
    case STEP_DONE:
        answer(access);
        return true;
    case STEP_BUDGET:
        queue(access); /* dispatch_run comes back after a look at the descriptors: others have their turn */
        stuck_note(access);
        return false;
    case STEP_WAIT:
        break;
    }
    return false;
}

static bool take(struct iod_access *access)
{
    struct hypervisor *hv = guest_of(access)->daemon->hv;
    struct ioreq_pages *pages = access->server->pages;
    if (access->vcpu == RING_VCPU) {
        if (hv->ops->ring_take(pages, &access->request) <= 0) {
            return false;
        }
        access->server->watch.ring++;
        point_ring(access, access->request.data);
        return true;
    }
    if (hv->ops->slot_take(pages, access->vcpu, false, &access->request) <= 0) {
        return false;
    }
    point_take(access, access->request.data);
    return true;
}

/* Serves what the ring holds. False: it must be waited for (a device, or the next round). */
static bool drain_ring(struct server *server, unsigned *budget)
{
    struct iod_access *ring = &server->ring;
    if (ring->state == ACCESS_PARKED || ring->state == ACCESS_DEFERRED) {
        return false;
    }
    list_remove(&ring->link);
    ring->state = ACCESS_IDLE;
    if (ring->active && !serve_request(ring, budget)) {
        return false;
    }
    for (unsigned i = 0; i < RING_BUDGET && *budget; i++) {
        if (!take(ring)) {
            return true;
        }
        (*budget)--; /* also for what is malformed: a guest that refills the ring must not hold the round */
        if (!cursor_begin(ring)) {
            answer(ring);
        } else if (!serve_request(ring, budget)) {
            return false;
        }
    }
    dispatch_ready(ring); /* not empty yet, as far as we know: nobody may overtake it */
    return false;
}

static void serve(struct iod_access *access, unsigned *budget)
{
    struct server *server = access->server;
    access->state = ACCESS_IDLE;
    if (server->buf != BUFIOREQ_OFF) {
        /* Buffered writes came first. */
        if (!drain_ring(server, budget)) {
            if (access->vcpu != RING_VCPU) {
                /* Behind the ring's own cursor, wherever that waits. */
                list_add_tail(&server->guest->behind_ring, &access->link);
                access->state = ACCESS_PARKED;
                stuck_note(access);
            }
            return;
        }
        struct iod_access *behind;
        list_for_each(behind, &server->guest->behind_ring, struct iod_access, link) {
            if (behind->server == server) {
                dispatch_ready(behind);
            }
        }
        if (access->vcpu == RING_VCPU) {
            return;
        }
    }
    if (!access->active) {
        if (!take(access)) {
            list_remove(&access->watch.link); /* nobody waits */
            return;
        }
        if (!cursor_begin(access)) {
            answer(access);
            return;
        }
    }
    serve_request(access, budget);
}

/* While its time is measured: the clock around each access. */
static void serve_measured(struct iod_access *access, unsigned *budget)
{
    struct guest *guest = guest_of(access);
    limit_work_begins(guest);
    serve(access, budget);
    limit_work_ends(guest);
}

static void run_guest(struct guest *guest)
{
    unsigned budget = ROUND_BUDGET;
    /* What becomes ready meanwhile is for the next round. */
    struct list round;
    list_init(&round);
    while (!list_empty(&guest->ready)) {
        struct list *first = guest->ready.next;
        list_remove(first);
        list_add_tail(&round, first);
    }
    while (!list_empty(&round)) {
        struct iod_access *access = list_first(&round, struct iod_access, link);
        list_remove(&access->link);
        if (!budget || is_limited(guest)) {
            list_add_tail(&guest->ready, &access->link);
            note_left(access);
        } else if (__builtin_expect(guest->watch.account.measured, 0)) {
            serve_measured(access, &budget);
        } else {
            serve(access, &budget);
        }
    }
}

static void unmask(struct iod_access *access)
{
    struct hypervisor *hv = guest_of(access)->daemon->hv;
    if (!access->watch.masked) {
        return;
    }
    access->watch.masked = false;
    guest_of(access)->watch.account.masked--;
    if (access->local) {
        hv->ops->event_unmask(hv, &access->local, 1);
    }
}

static void for_each_access(struct guest *guest, void (*act)(struct iod_access *access))
{
    struct server *server;
    list_for_each(server, &guest->servers, struct server, link) {
        for (unsigned i = 0; i < guest->vcpus; i++) {
            act(&server->slots[i]);
        }
        act(&server->ring);
    }
}

void dispatch_unmask(struct guest *guest)
{
    for_each_access(guest, unmask);
}

static void look_if_masked(struct iod_access *access)
{
    if (access->watch.masked && access->state == ACCESS_IDLE) {
        queue(access);
    }
}

static void serve_in_turn(struct iod_access *access)
{
    unsigned budget = ROUND_BUDGET;
    uint64_t taken = access->server->watch.taken;
    bool resumed = access->active;
    access->watch.knocks = 0;
    serve_measured(access, &budget);
    taken = access->server->watch.taken - taken;
    guest_of(access)->watch.account.delayed += taken;
    guest_of(access)->watch.account.pieces += (unsigned)taken;
    if (!taken && !resumed && access->state == ACCESS_IDLE) {
        unmask(access); /* nothing was there: its next event says when something is */
    }
}

/* In the order in which they came, until the credit is used up. */
void dispatch_turn(struct guest *guest)
{
    struct daemon *daemon = guest->daemon;
    struct account *account = &guest->watch.account;
    for_each_access(guest, look_if_masked);
    while (!list_empty(&guest->ready) && account->credit_ns > 0 && account->limited) {
        struct iod_access *access = list_first(&guest->ready, struct iod_access, link);
        list_remove(&access->link);
        serve_in_turn(access);
    }
    uint64_t before = account->total_ns;
    limit_work_begins(guest);
    dispatch_flush(daemon);
    limit_work_ends(guest);
    /* The events, and waking up for it, took about as long each. */
    limit_spend(guest, 2 * (account->total_ns - before));
}

void dispatch_flush(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->notify_count; i++) {
        daemon->hv->ops->event_notify(daemon->hv, daemon->notify[i]);
    }
    daemon->notify_count = 0;
    if (__builtin_expect(!list_empty(&daemon->watch.fresh), 0)) {
        stuck_stamp(daemon);
    }
}

void dispatch_run(struct daemon *daemon)
{
    struct list round;
    list_init(&round);
    while (!list_empty(&daemon->run_queue)) {
        struct list *first = daemon->run_queue.next;
        list_remove(first);
        list_add_tail(&round, first);
    }
    struct guest *guest;
    while ((guest = list_first(&round, struct guest, run_link))) {
        list_remove(&guest->run_link);
        run_guest(guest);
        if (!list_empty(&guest->ready)) {
            join_round(guest);
        }
    }
    if (!list_empty(&daemon->run_queue)) {
        daemon->loop->ops->task_again(daemon->run_task);
    }
}
