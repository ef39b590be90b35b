/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * In the xenstore helper: trees, told branch by branch. A watch names what has changed; its branch is read
 * whole, in one transaction, so that what is told is what stood there at one time. Bounded: names that wait,
 * nodes and bytes of a branch, levels.
 */
#include "xen/store_helper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 4
#define PATH_ROOM 1100u /* of a tree, a branch and a node in it */

/* ---- which branches wait ---- */

static void clear_dirty(struct helper_tree *tree)
{
    for (unsigned i = 0; i < tree->dirty_count; i++) {
        free(tree->dirty[i]);
    }
    free(tree->dirty);
    tree->dirty = NULL;
    tree->dirty_count = 0;
}

static void add_dirty(struct helper_tree *tree, const char *name, size_t length)
{
    if (length == 0 || length > STORE_PATH_MAX) {
        return;
    }
    for (unsigned i = 0; i < tree->dirty_count; i++) {
        if (strlen(tree->dirty[i]) == length && memcmp(tree->dirty[i], name, length) == 0) {
            return;
        }
    }
    if (tree->dirty_count == TREE_BRANCHES_MAX) {
        tree->all = true; /* once these are told */
        return;
    }
    if (!tree->dirty && !(tree->dirty = calloc(TREE_BRANCHES_MAX, sizeof(*tree->dirty)))) {
        tree->all = true;
        return;
    }
    char *copy = strndup(name, length);
    if (!copy) {
        tree->all = true;
        return;
    }
    tree->dirty[tree->dirty_count++] = copy;
}

static void remove_first(struct helper_tree *tree)
{
    free(tree->dirty[0]);
    tree->dirty_count--;
    memmove(tree->dirty, tree->dirty + 1, tree->dirty_count * sizeof(*tree->dirty));
}

/* ---- their life ---- */

static struct helper_tree *find(struct helper *h, uint32_t id)
{
    for (unsigned i = 0; i < STORE_TREES_MAX; i++) {
        if (h->trees[i].id == id) {
            return &h->trees[i];
        }
    }
    return NULL;
}

static void token_of(const struct helper_tree *tree, char token[24])
{
    snprintf(token, 24, "tree %u", tree->id);
}

int tree_begin(struct helper *h, uint32_t id, const char *path, unsigned depth)
{
    struct helper_tree *tree = find(h, 0);
    char token[24];

    if (!id || find(h, id) || !tree || !store_path_valid(path) || depth < 1 || depth > STORE_DEPTH_MAX) {
        return -EINVAL;
    }
    *tree = (struct helper_tree){.id = id, .depth = depth};
    strcpy(tree->path, path); /* a valid one fits */
    token_of(tree, token);
    tree->watched = xs_watch(h->xs, path, token);
    tree->all = !tree->watched; /* a new watch fires at once */
    return 0;
}

static void forget(struct helper_tree *tree)
{
    clear_dirty(tree);
    *tree = (struct helper_tree){0};
}

void tree_end(struct helper *h, uint32_t id)
{
    struct helper_tree *tree = id ? find(h, id) : NULL;
    char token[24];

    if (tree) {
        token_of(tree, token);
        if (tree->watched) {
            xs_unwatch(h->xs, tree->path, token);
        }
        forget(tree);
    }
}

void trees_forget(struct helper *h)
{
    for (unsigned i = 0; i < STORE_TREES_MAX; i++) {
        forget(&h->trees[i]);
    }
}

/* ---- reasons ---- */

void trees_event(struct helper *h, const char *path, const char *token)
{
    uint32_t id;
    struct helper_tree *tree;

    if (sscanf(token, "tree %u", &id) != 1 || !id || !(tree = find(h, id))) {
        return;
    }
    size_t length = strlen(tree->path);
    if (strncmp(path, tree->path, length) || path[length] != '/') {
        tree->all = true; /* the tree itself, or what it stands in */
    } else {
        const char *name = path + length + 1;
        add_dirty(tree, name, strcspn(name, "/"));
    }
}

void trees_domain(struct helper *h, unsigned domid)
{
    char name[16];

    snprintf(name, sizeof(name), "%u", domid);
    for (unsigned i = 0; i < STORE_TREES_MAX; i++) {
        if (h->trees[i].id) {
            add_dirty(&h->trees[i], name, strlen(name));
        }
    }
}

void trees_poll(struct helper *h)
{
    for (unsigned i = 0; i < STORE_TREES_MAX; i++) {
        if (h->trees[i].id && !h->trees[i].watched) {
            h->trees[i].all = true;
        }
    }
}

/* ---- reading one branch into h->bytes: per node path, NUL, 'v' and value or '-', NUL ---- */

struct reading {
    struct helper *h;
    xs_transaction_t transaction;
    size_t prefix; /* of path: the tree and the branch, with a slash behind each */
    size_t used;
    unsigned count;
    bool whole;
    char path[PATH_ROOM];
};

static void keep_node(struct reading *reading)
{
    unsigned length = 0;
    char *value = xs_read(reading->h->xs, reading->transaction, reading->path, &length);
    const char *path = reading->path + reading->prefix;
    size_t path_size = strlen(path) + 1;

    if (!value) {
        return;
    }
    bool text = length <= STORE_VALUE_MAX && strlen(value) == length && store_text_valid(value, length + 1);
    size_t value_size = text ? length + 2 : 2;
    if (reading->count == STORE_NODES_MAX || path_size > STORE_PATH_MAX + 1 ||
        path_size + value_size > STORE_BRANCH_BYTES - reading->used) {
        reading->whole = false;
    } else {
        char *to = reading->h->bytes + reading->used;
        memcpy(to, path, path_size);
        to[path_size] = text ? 'v' : '-';
        memcpy(to + path_size + 1, text ? value : "", value_size - 1);
        reading->used += path_size + value_size;
        reading->count++;
    }
    free(value);
}

/* At most STORE_DEPTH_MAX deep. */
static void walk(struct reading *reading, unsigned depth)
{
    size_t length = strlen(reading->path);
    unsigned count = 0;
    char **names;

    if (depth == 0) {
        keep_node(reading);
        return;
    }
    names = xs_directory(reading->h->xs, reading->transaction, reading->path, &count);
    for (unsigned i = 0; names && i < count && reading->whole; i++) {
        int more = snprintf(reading->path + length, PATH_ROOM - length, "/%s", names[i]);
        if (more > 0 && (size_t)more < PATH_ROOM - length) {
            walk(reading, depth - 1);
        } else {
            reading->whole = false;
        }
        reading->path[length] = '\0';
    }
    free(names);
}

/* 0, or -EAGAIN: others change it all the time. */
static int read_branch(struct helper *h, const struct helper_tree *tree, const char *name,
                       struct reading *reading)
{
    for (unsigned i = 0; i < TRIES; i++) {
        *reading = (struct reading){.h = h, .whole = true};
        reading->transaction = xs_transaction_start(h->xs);
        if (reading->transaction == XBT_NULL) {
            return -EAGAIN;
        }
        int length = snprintf(reading->path, PATH_ROOM, "%s/%s", tree->path, name);
        reading->prefix = (size_t)length + 1;
        walk(reading, tree->depth);
        if (xs_transaction_end(h->xs, reading->transaction, false)) {
            return 0;
        }
    }
    return -EAGAIN;
}

/* ---- telling ---- */

static bool put_nodes(struct helper *h, const struct helper_tree *tree, const struct reading *reading)
{
    const char *at = h->bytes;

    for (unsigned i = 0; i < reading->count; i++) {
        struct store_message message;
        size_t path_size = strlen(at) + 1;
        const char *value = at + path_size;
        size_t value_size = strlen(value + 1) + 1;
        message.kind = STORE_NODE;
        message.epoch = h->epoch;
        message.id = tree->id;
        message.error = 0;
        message.node.path_size = (uint32_t)path_size;
        message.node.value_size = value[0] == 'v' ? (uint32_t)value_size : 0;
        memcpy(message.node.bytes, at, path_size);
        memcpy(message.node.bytes + path_size, value + 1, message.node.value_size);
        if (!helper_put(h, &message)) {
            return false;
        }
        at = value + 1 + value_size;
    }
    return true;
}

static bool put_branch(struct helper *h, const struct helper_tree *tree, const char *name,
                       const struct reading *reading)
{
    struct store_message message = {.kind = STORE_BRANCH, .epoch = h->epoch, .id = tree->id};
    char *end;
    unsigned long domid = strtoul(name, &end, 10);

    if (reading->whole && !put_nodes(h, tree, reading)) {
        return false;
    }
    snprintf(message.branch.name, sizeof(message.branch.name), "%s", name);
    message.branch.whole = reading->whole;
    if (name[0] >= '0' && name[0] <= '9' && !*end && domid < STORE_DOMID_END && h->place[domid]) {
        message.branch.introduced = true;
        message.branch.domain = h->sent[h->place[domid] - 1];
    }
    return helper_put(h, &message);
}

static unsigned own_domid(struct helper *h)
{
    unsigned length;
    char *text = xs_read(h->xs, XBT_NULL, "domid", &length);
    unsigned long domid = text ? strtoul(text, NULL, 10) : 0;

    free(text);
    return domid < STORE_DOMID_END ? (unsigned)domid : 0;
}

/* All its branches wait from now on. */
static enum helper_step list_all(struct helper *h, struct helper_tree *tree)
{
    unsigned count = 0;
    char **names = xs_directory(h->xs, XBT_NULL, tree->path, &count);
    struct store_message message = {.kind = STORE_TREE_BEGIN, .epoch = h->epoch, .id = tree->id};

    if (!names && errno != ENOENT && !helper_alive(h)) {
        return STEP_DEAD;
    }
    clear_dirty(tree);
    tree->all = false;
    tree->ending = true;
    for (unsigned i = 0; names && i < count && i < TREE_BRANCHES_MAX; i++) {
        add_dirty(tree, names[i], strlen(names[i]));
    }
    free(names);
    message.domain.domid = (uint16_t)own_domid(h);
    return helper_put(h, &message) ? STEP_DONE : STEP_END;
}

static enum helper_step tell_first(struct helper *h, struct helper_tree *tree)
{
    struct reading reading;
    const char *name = tree->dirty[0];
    int error = read_branch(h, tree, name, &reading);

    if (error || reading.count == 0) { /* perhaps for want of a connection */
        if (!helper_alive(h)) {
            return STEP_DEAD;
        }
    }
    if (error) { /* the others' turn */
        char *first = tree->dirty[0];
        memmove(tree->dirty, tree->dirty + 1, (tree->dirty_count - 1) * sizeof(*tree->dirty));
        tree->dirty[tree->dirty_count - 1] = first;
        return STEP_LATER;
    }
    bool put = !store_text_valid(name, STORE_PATH_MAX + 1) || put_branch(h, tree, name, &reading);
    remove_first(tree);
    return put ? STEP_DONE : STEP_END;
}

enum helper_step trees_step(struct helper *h)
{
    enum helper_step step = STEP_IDLE;

    for (unsigned i = 0; i < STORE_TREES_MAX && step == STEP_IDLE; i++) {
        struct helper_tree *tree = &h->trees[h->next_tree];
        h->next_tree = (h->next_tree + 1) % STORE_TREES_MAX; /* each has its turn */
        if (!tree->id) {
            continue;
        }
        if (tree->dirty_count) {
            step = tell_first(h, tree);
        } else if (tree->ending) {
            struct store_message message = {.kind = STORE_TREE_END, .epoch = h->epoch, .id = tree->id};
            tree->ending = false;
            step = helper_put(h, &message) ? STEP_DONE : STEP_END;
        } else if (tree->all) {
            step = list_all(h, tree);
        }
    }
    return step;
}
