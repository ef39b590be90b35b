/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Trees and changes on the daemon's side. All that is wanted stays in lists here until the helper has
 * answered, so that a new helper, or one that lost xenstored, is simply told again.
 */
#include "xen/store_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <ioreqd/loop.h>

#define CHANGES_MAX 16384u /* that wait at a time: some for each device of a thousand guests */

void mailbox_init(struct mailbox *mailbox, struct loop *loop)
{
    *mailbox = (struct mailbox){.loop = loop, .fd = -1};
    list_init(&mailbox->trees);
    list_init(&mailbox->changes);
}

void mailbox_finish(struct mailbox *mailbox)
{
    struct store_tree *tree;
    struct mailbox_change *change;

    list_for_each(tree, &mailbox->trees, struct store_tree, link) {
        list_remove(&tree->link);
        free(tree);
    }
    list_for_each(change, &mailbox->changes, struct mailbox_change, link) {
        list_remove(&change->link);
        free(change);
    }
    free(mailbox->bytes);
    free(mailbox->table);
}

/* ---- to the helper ---- */

static size_t command_size(const struct store_command *command)
{
    return offsetof(struct store_command, bytes) + command->size;
}

/* False: the socket is full (the helper waits for xenstored), or the helper is gone: its watch will tell. */
static bool put(struct mailbox *mailbox, struct store_command *command)
{
    ssize_t sent;

    command->epoch = mailbox->epoch;
    do {
        sent = send(mailbox->fd, command, command_size(command), MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)command_size(command);
}

static bool put_tree(struct mailbox *mailbox, const struct store_tree *tree)
{
    struct store_command command = {.kind = STORE_TREE, .id = tree->id, .depth = tree->depth};

    command.size = (uint32_t)strlen(tree->path) + 1;
    memcpy(command.bytes, tree->path, command.size);
    return put(mailbox, &command);
}

static bool put_all(struct mailbox *mailbox)
{
    struct store_tree *tree;
    struct mailbox_change *change;

    list_for_each(tree, &mailbox->trees, struct store_tree, link) {
        if (!tree->sent && !(tree->sent = put_tree(mailbox, tree))) {
            return false;
        }
    }
    list_for_each(change, &mailbox->changes, struct mailbox_change, link) {
        if (!change->sent && !(change->sent = put(mailbox, &change->command))) {
            return false;
        }
    }
    return true;
}

void mailbox_flush(struct mailbox *mailbox)
{
    if (mailbox->connected && mailbox->fd >= 0 && mailbox->watch) {
        bool all = put_all(mailbox);
        mailbox->loop->ops->watch_set(mailbox->watch, IOD_READABLE | (all ? 0 : IOD_WRITABLE));
    }
}

void mailbox_connected(struct mailbox *mailbox, uint32_t epoch)
{
    if (!mailbox->connected || mailbox->epoch != epoch) {
        mailbox_lost(mailbox);
        mailbox->connected = true;
        mailbox->epoch = epoch;
        mailbox_flush(mailbox);
    }
}

void mailbox_lost(struct mailbox *mailbox)
{
    struct store_tree *tree;
    struct mailbox_change *change;

    mailbox->connected = false;
    mailbox->used = mailbox->nodes = 0;
    list_for_each(tree, &mailbox->trees, struct store_tree, link) {
        tree->sent = false;
    }
    list_for_each(change, &mailbox->changes, struct mailbox_change, link) {
        change->sent = false;
    }
}

/* ---- what is wanted ---- */

static uint32_t new_id(struct mailbox *mailbox)
{
    return ++mailbox->next_id;
}

struct store_tree *mailbox_tree_add(struct mailbox *mailbox, const char *path, unsigned depth,
                                    const struct store_tree_events *events, void *self)
{
    struct store_tree *tree;

    if (!store_path_valid(path) || depth < 1 || depth > STORE_DEPTH_MAX ||
        mailbox->tree_count == STORE_TREES_MAX || !(tree = calloc(1, sizeof(*tree)))) {
        return NULL;
    }
    *tree = (struct store_tree){
        .mailbox = mailbox, .id = new_id(mailbox), .depth = depth, .events = events, .self = self};
    strcpy(tree->path, path); /* a valid one fits */
    list_add_tail(&mailbox->trees, &tree->link);
    mailbox->tree_count++;
    mailbox_flush(mailbox);
    return tree;
}

/* Appends a copy of the command, as far as its bytes go. */
static int add_change(struct mailbox *mailbox, const struct store_command *command,
                      void (*done)(void *self, int error), void *self)
{
    struct mailbox_change *change;

    if (mailbox->change_count == CHANGES_MAX) {
        return -ENOBUFS;
    }
    change = malloc(offsetof(struct mailbox_change, command) + command_size(command));
    if (!change) {
        return -ENOMEM;
    }
    change->sent = false;
    change->done = done;
    change->self = self;
    memcpy(&change->command, command, command_size(command));
    list_add_tail(&mailbox->changes, &change->link);
    mailbox->change_count++;
    mailbox_flush(mailbox);
    return 0;
}

void mailbox_tree_remove(struct store_tree *tree)
{
    if (!tree) {
        return;
    }
    struct mailbox *mailbox = tree->mailbox;
    struct store_command command = {.kind = STORE_TREE_FREE, .id = tree->id};
    bool sent = tree->sent;
    list_remove(&tree->link);
    mailbox->tree_count--;
    free(tree);
    if (sent) { /* unheard for want of memory, it is told of in vain until the next connection */
        add_change(mailbox, &command, NULL, NULL);
    }
}

static bool append(struct store_command *command, const char *text)
{
    size_t size = strlen(text) + 1;

    if (size > sizeof(command->bytes) - command->size) {
        return false;
    }
    memcpy(command->bytes + command->size, text, size);
    command->size += (uint32_t)size;
    return true;
}

static int append_change(struct store_command *command, const struct store_change *change)
{
    static const char kinds[2][2] = {{STORE_REMOVE, STORE_REMOVE_IF}, {STORE_WRITE, STORE_REPLACE}};
    const char kind[] = {kinds[change->value != NULL][change->was != NULL], '\0'};

    if (!store_path_valid(change->path) ||
        (change->value && !store_text_valid(change->value, STORE_VALUE_MAX + 1)) ||
        (change->was && !store_text_valid(change->was, STORE_VALUE_MAX + 1))) {
        return -EINVAL;
    }
    bool fits = append(command, kind) && append(command, change->path) &&
                (!change->value || append(command, change->value)) &&
                (!change->was || append(command, change->was));
    return fits ? 0 : -E2BIG;
}

int mailbox_change(struct mailbox *mailbox, const struct store_change *changes, unsigned count,
                   void (*done)(void *self, int error), void *self)
{
    struct store_command command;

    command.kind = STORE_CHANGE;
    command.epoch = command.depth = command.size = 0;
    command.id = new_id(mailbox);
    for (unsigned i = 0; i < count; i++) {
        int error = append_change(&command, &changes[i]);
        if (error) {
            return error;
        }
    }
    return add_change(mailbox, &command, done, self);
}

void mailbox_forget(struct mailbox *mailbox, void *self)
{
    struct mailbox_change *change;

    list_for_each(change, &mailbox->changes, struct mailbox_change, link) {
        if (change->self == self) {
            change->done = NULL;
        }
    }
}

/* ---- what the helper says; it read others' text, and the daemon is worth more: all is checked again ---- */

static struct store_tree *find_tree(const struct mailbox *mailbox, uint32_t id)
{
    struct store_tree *tree;

    list_for_each(tree, &mailbox->trees, struct store_tree, link) {
        if (tree->id == id) {
            return tree;
        }
    }
    return NULL;
}

static bool hear_changed(struct mailbox *mailbox, uint32_t id, int error)
{
    struct mailbox_change *change;

    list_for_each(change, &mailbox->changes, struct mailbox_change, link) {
        if (change->command.id == id) {
            list_remove(&change->link);
            mailbox->change_count--;
            if (change->done) {
                change->done(change->self, error);
            }
            free(change);
            return true;
        }
    }
    return true; /* made again after a loss, and answered twice */
}

static bool keep(struct mailbox *mailbox, const char *text, size_t size)
{
    if (size > mailbox->room - mailbox->used) {
        size_t room = mailbox->room ? mailbox->room * 2 : 4096;
        while (size > room - mailbox->used) {
            room *= 2;
        }
        char *bytes = room <= 2 * STORE_BRANCH_BYTES ? realloc(mailbox->bytes, room) : NULL;
        if (!bytes) {
            return false;
        }
        mailbox->bytes = bytes;
        mailbox->room = room;
    }
    memcpy(mailbox->bytes + mailbox->used, text, size);
    mailbox->used += size;
    return true;
}

/* Texts are kept as offsets first (the bytes may move), then as pointers. */
static bool hear_node(struct mailbox *mailbox, const struct store_message *message)
{
    uint32_t path_size = message->node.path_size, value_size = message->node.value_size;
    const char *path = message->node.bytes, *value = path + path_size;

    if (mailbox->nodes && mailbox->branch_tree != message->id) {
        return false;
    }
    if (!mailbox->table && !(mailbox->table = calloc(STORE_NODES_MAX, sizeof(*mailbox->table)))) {
        return false;
    }
    if (mailbox->nodes == STORE_NODES_MAX || mailbox->used + path_size + value_size > STORE_BRANCH_BYTES ||
        !store_text_valid(path, path_size) || strlen(path) + 1 != path_size ||
        (value_size && (!store_text_valid(value, value_size) || strlen(value) + 1 != value_size))) {
        return false;
    }
    mailbox->branch_tree = message->id;
    mailbox->table[mailbox->nodes++].value = value_size ? "" : NULL;
    return keep(mailbox, path, path_size) && keep(mailbox, value, value_size);
}

static bool hear_branch(struct mailbox *mailbox, const struct store_message *message)
{
    struct store_tree *tree = find_tree(mailbox, message->id);
    unsigned count = mailbox->nodes;
    const char *at = mailbox->bytes;

    mailbox->nodes = 0;
    mailbox->used = 0;
    if (!store_text_valid(message->branch.name, sizeof(message->branch.name)) ||
        (count && mailbox->branch_tree != message->id) ||
        (message->branch.introduced && !store_domain_valid(&message->branch.domain))) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        struct store_node *node = &mailbox->table[i];
        node->path = at;
        at += strlen(at) + 1;
        if (node->value) {
            node->value = at;
            at += strlen(at) + 1;
        }
    }
    if (tree) {
        tree->events->branch(tree->self,
                             &(struct store_branch){
                                 .name = message->branch.name,
                                 .domain = message->branch.introduced ? &message->branch.domain : NULL,
                                 .nodes = mailbox->table,
                                 .count = message->branch.whole ? count : 0,
                                 .whole = message->branch.whole,
                             });
    }
    return true;
}

bool mailbox_hear(struct mailbox *mailbox, const struct store_message *message)
{
    struct store_tree *tree;

    switch (message->kind) {
    case STORE_TREE_BEGIN:
        tree = find_tree(mailbox, message->id);
        if (tree) {
            tree->events->begin(tree->self, message->domain.domid);
        }
        return true;
    case STORE_TREE_END:
        tree = find_tree(mailbox, message->id);
        if (tree) {
            tree->events->end(tree->self);
        }
        return true;
    case STORE_NODE:
        return hear_node(mailbox, message);
    case STORE_BRANCH:
        return hear_branch(mailbox, message);
    case STORE_CHANGED:
        return hear_changed(mailbox, message->id, message->error);
    default:
        return false;
    }
}
