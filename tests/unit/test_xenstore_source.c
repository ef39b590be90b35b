/* SPDX-License-Identifier: BSD-2-Clause */
/* Guests by xenstore, over an xenstore of the test's own, which tells things in the order that the test wants. */
#include "config/xenstore.h"
#include "core/store.h"
#include "fake_xen.h"
#include "unit.h"

enum { TREES = 3, CHANGES = 16 };

struct store_tree {
    char path[64];
    const struct store_tree_events *events;
    void *self;
};

/* What the source asks of xenstore. */
static struct {
    struct store_tree trees[TREES];
    unsigned tree_count;
    char changes[CHANGES][128]; /* "PATH=VALUE", "-PATH" */
    unsigned change_count;
} seen;

static int watch(struct store *store, const struct store_events *events, void *self)
{
    return 0;
}

static struct store_tree *tree_add(struct store *store, const char *path, unsigned depth,
                                   const struct store_tree_events *events, void *self)
{
    ck_assert_uint_lt(seen.tree_count, TREES);
    struct store_tree *tree = &seen.trees[seen.tree_count++];
    snprintf(tree->path, sizeof(tree->path), "%s", path);
    tree->events = events;
    tree->self = self;
    return tree;
}

static void tree_remove(struct store_tree *tree)
{
}

static int change(struct store *store, const struct store_change *changes, unsigned count,
                  void (*done)(void *self, int error), void *self)
{
    for (unsigned i = 0; i < count; i++) {
        ck_assert_uint_lt(seen.change_count, CHANGES);
        snprintf(seen.changes[seen.change_count++], sizeof(seen.changes[0]), "%s%s%s%s", changes[i].value ? "" : "-",
                 changes[i].path, changes[i].value ? "=" : "", changes[i].value ? changes[i].value : "");
    }
    return 0; /* and is never done: so there is one of each device */
}

static void forget(struct store *store, void *self)
{
}

static const struct store_ops store_ops = {
    .watch = watch, .tree_add = tree_add, .tree_remove = tree_remove, .change = change, .forget = forget
};
static struct store store = { .ops = &store_ops };

static const struct store_tree *own_tree(void)
{
    for (unsigned i = 0; i < seen.tree_count; i++) {
        if (!strcmp(seen.trees[i].path, "ioreqd")) {
            return &seen.trees[i];
        }
    }
    ck_abort_msg("the source does not look at its own tree");
    return NULL;
}

/* ioreqd/7 has a disk, and options that are wrong. */
static void tell_disk(void)
{
    static const struct store_domain domain = { .domid = 7, .type = "pvh" };
    static const struct store_node nodes[] = { { "0", "virtio-blk,path=/nowhere" }, { "options", "colour=blue" } };
    const struct store_branch branch = { .name = "7", .domain = &domain, .nodes = nodes, .count = 2, .whole = true };
    own_tree()->events->branch(own_tree()->self, &branch);
}

/*
 * A node that is written while the first listing is on its way: its status must not go with what an earlier daemon left
 * of statuses, which the first listing clears.
 */
START_TEST(written_before_the_first_listing)
{
    struct iod_error error;
    struct fake_xen *fake = fake_create(NULL, &store, &error);
    struct xenstore_source *source = xenstore_source_create(fake_daemon(fake), &store, ARCH_X86, &error);
    ck_assert_ptr_nonnull(source);
    if (_i) {
        tell_disk();
        fake_run_ms(fake, 50);
        ck_assert_uint_eq(seen.change_count, 0);
    }
    for (unsigned i = 0; i < seen.tree_count; i++) {
        const struct store_tree *tree = &seen.trees[i];
        tree->events->begin(tree->self, 0);
        if (tree == own_tree()) {
            tell_disk();
        }
        tree->events->end(tree->self);
    }
    fake_run_ms(fake, 50);
    ck_assert_uint_eq(seen.change_count, 3);
    ck_assert_str_eq(seen.changes[0], "-ioreqd-status");
    ck_assert_ptr_nonnull(strstr(seen.changes[1], "ioreqd-status/7/0/error=colour=blue: expected"));
    ck_assert_str_eq(seen.changes[2], "ioreqd-status/7/0/state=error");
    xenstore_source_destroy(source);
    fake_free(fake);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("xenstore source");
    TCase *source = tcase_create("source");
    tcase_set_timeout(source, 30);
    tcase_add_loop_test(source, written_before_the_first_listing, 0, 2);
    suite_add_tcase(suite, source);
    return unit_run(suite);
}
