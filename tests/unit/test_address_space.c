/* SPDX-License-Identifier: BSD-2-Clause */
/* The address space against a model that looks at every address. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/address_space.h"

#define SPACE 64u
#define ACTORS 6u

struct fake {
    struct placement placement;
    uint64_t base, length, order; /* order 0: hidden */
};

struct model {
    struct address_space space;
    struct fake fakes[ACTORS];
    uint64_t clock;
    bool claimed[SPACE]; /* as the hypervisor was told */
};

static void model_init(struct model *model)
{
    memset(model, 0, sizeof(*model));
    address_space_init(&model->space, SPACE - 1);
    for (unsigned i = 0; i < ACTORS; i++) {
        list_init(&model->fakes[i].placement.link);
        model->fakes[i].placement.region = (struct iod_region *)&model->fakes[i];
    }
}

static const struct fake *model_top(const struct model *model, uint64_t address)
{
    const struct fake *top = NULL;
    for (unsigned i = 0; i < ACTORS; i++) {
        const struct fake *fake = &model->fakes[i];
        if (fake->order && fake->base <= address && address - fake->base < fake->length &&
            (!top || fake->order > top->order)) {
            top = fake;
        }
    }
    return top;
}

/* Check writes a message for each assertion: the loops over all addresses look first and assert once. */
static bool tell(struct model *model, const struct interval_set *set, bool claimed)
{
    bool twice = false;
    for (unsigned i = 0; i < set->count; i++) {
        for (uint64_t a = set->items[i].start; a <= set->items[i].end; a++) {
            twice = twice || model->claimed[a] == claimed;
            model->claimed[a] = claimed;
        }
    }
    return !twice;
}

static bool as_in_model(const struct model *model, uint64_t a)
{
    uint64_t gap_end = 0;
    const struct fake *top = model_top(model, a);
    const struct segment *segment = address_space_find(&model->space, a, &gap_end);
    if (model->claimed[a] != (top != NULL) || (segment ? segment->region : NULL) != (const void *)top) {
        return false;
    }
    if (segment) {
        return segment->base == top->base;
    }
    bool next_claimed = gap_end >= SPACE - 1 || model_top(model, gap_end + 1);
    return gap_end >= a && next_claimed && !model_top(model, gap_end < SPACE ? gap_end : SPACE - 1);
}

static void commit_and_compare(struct model *model)
{
    struct interval_set gained, lost;
    ck_assert_int_eq(address_space_commit(&model->space, &gained, &lost), 0);
    bool gained_once = tell(model, &gained, true), lost_once = tell(model, &lost, false);
    ck_assert(gained_once && lost_once);
    interval_set_clear(&gained);
    interval_set_clear(&lost);
    for (uint64_t a = 0; a < SPACE; a++) {
        if (!as_in_model(model, a)) {
            ck_abort_msg("address %llu", (unsigned long long)a);
        }
    }
}

START_TEST(random_changes)
{
    struct model model;
    srand((unsigned)_i);
    model_init(&model);
    for (unsigned round = 0; round < 300; round++) {
        struct fake *fake = &model.fakes[(unsigned)rand() % ACTORS];
        if (rand() % 3) {
            fake->base = (uint64_t)rand() % SPACE;
            fake->length = 1 + (uint64_t)rand() % (SPACE - fake->base);
            fake->order = ++model.clock;
            ck_assert_int_eq(address_space_place(&model.space, &fake->placement, fake->base, fake->length), 0);
        } else {
            fake->order = 0;
            address_space_remove(&model.space, &fake->placement);
        }
        if (rand() % 2) {
            commit_and_compare(&model);
        }
    }
    commit_and_compare(&model);
    address_space_finish(&model.space);
}
END_TEST

START_TEST(bounds)
{
    struct model model;
    model_init(&model);
    struct placement *placement = &model.fakes[0].placement;
    ck_assert_int_lt(address_space_place(&model.space, placement, SPACE, 1), 0);
    ck_assert_int_lt(address_space_place(&model.space, placement, 0, 0), 0);
    ck_assert_int_lt(address_space_place(&model.space, placement, 1, SPACE), 0);
    ck_assert_int_lt(address_space_place(&model.space, placement, 1, UINT64_MAX), 0);
    ck_assert_int_eq(address_space_place(&model.space, placement, 0, SPACE), 0);
    address_space_finish(&model.space);
}
END_TEST

START_TEST(hole_is_below)
{
    struct model model;
    uint64_t gap;
    model_init(&model);
    ck_assert_int_eq(address_space_add_hole(&model.space, 4, 11), 0);
    ck_assert_int_eq(address_space_place(&model.space, &model.fakes[0].placement, 0, 8), 0);
    struct interval_set gained, lost;
    ck_assert_int_eq(address_space_commit(&model.space, &gained, &lost), 0);
    ck_assert_uint_eq(gained.count, 1);
    ck_assert_uint_eq(gained.items[0].end, 11);
    interval_set_clear(&gained);
    interval_set_clear(&lost);
    ck_assert_ptr_eq(address_space_find(&model.space, 5, &gap)->region, (void *)&model.fakes[0]);
    ck_assert_ptr_null(address_space_find(&model.space, 9, &gap)->region);
    address_space_finish(&model.space);
}
END_TEST

START_TEST(top_of_the_range)
{
    struct interval_set set = {0};
    ck_assert_int_eq(interval_set_add(&set, UINT64_MAX - 3, UINT64_MAX), 0);
    ck_assert_int_eq(interval_set_add(&set, 0, 3), 0);
    ck_assert_uint_eq(set.count, 2);
    ck_assert_int_eq(interval_set_remove(&set, UINT64_MAX, UINT64_MAX), 0);
    ck_assert_uint_eq(set.items[1].end, UINT64_MAX - 1);
    ck_assert(!interval_set_touches(&set, 5, 9));
    ck_assert(interval_set_touches(&set, 4, 9));
    interval_set_clear(&set);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("address_space");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, random_changes, 0, 20);
    tcase_add_test(tcase, bounds);
    tcase_add_test(tcase, hole_is_below);
    tcase_add_test(tcase, top_of_the_range);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
