/* SPDX-License-Identifier: BSD-2-Clause */
/* A doubly linked ring of members embedded in their owners. */
#ifndef CORE_LIST_H
#define CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_add_tail(struct list *head, struct list *member)
{
    member->prev = head->prev;
    member->next = head;
    head->prev->next = member;
    head->prev = member;
}

static inline void list_add_head(struct list *head, struct list *member)
{
    list_add_tail(head->next, member);
}

/* Leaves the member a ring of its own, so that removing twice is harmless. */
static inline void list_remove(struct list *member)
{
    member->prev->next = member->next;
    member->next->prev = member->prev;
    list_init(member);
}

#define list_entry(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))
/* The body may remove the current member, nothing else. */
#define list_for_each(item, head, type, member)                                                              \
    for (struct list *iter_ = (head)->next, *next_ = iter_->next;                                            \
         iter_ != (head) && ((item) = list_entry(iter_, type, member), true);                                \
         iter_ = next_, next_ = iter_->next)

#endif
