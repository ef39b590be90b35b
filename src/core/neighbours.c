/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the other emulator of a guest holds, asked before the guest's devices choose their places, and again before one
 * is added: its own may have come and gone meanwhile.
 */
#include "core/neighbours.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

static void known(void *self, const struct neighbour_claim *claims, unsigned count, const char *why)
{
    struct guest *guest = self;
    guest->neighbour_query = NULL;
    if (why) {
        guest_log(guest, IOD_LOG_WARNING, "the other emulator does not say which PCI functions it has: %s", why);
    }
    /* It always has some: none is no answer, and what it said before is still the best that is known. */
    struct neighbour_claim *copy = count ? calloc(count, sizeof(*copy)) : NULL;
    if (copy) {
        memcpy(copy, claims, count * sizeof(*copy));
        free(guest->neighbours);
        guest->neighbours = copy;
        guest->neighbour_count = count;
    }
    guest->neighbours_known(guest);
}

bool neighbours_ask(struct guest *guest, void (*then)(struct guest *guest))
{
    struct neighbours *neighbours = guest->daemon->config.neighbours;
    if (!neighbours || !guest->spec.beside || guest_is_arm(guest)) {
        return false;
    }
    guest->neighbours_known = then;
    if (!guest->neighbour_query) {
        guest->neighbour_query = neighbours->ask(neighbours, guest->domid, known, guest);
    }
    return guest->neighbour_query;
}

void neighbours_forget(struct guest *guest)
{
    if (guest->neighbour_query) {
        guest->daemon->config.neighbours->cancel(guest->daemon->config.neighbours, guest->neighbour_query);
        guest->neighbour_query = NULL;
    }
    free(guest->neighbours);
    guest->neighbours = NULL;
    guest->neighbour_count = 0;
}

const char *guest_function_owner(const struct guest *guest, uint16_t sbdf, char *text, size_t size)
{
    for (unsigned i = 0; i < guest->neighbour_count; i++) {
        if (guest->neighbours[i].sbdf == sbdf) {
            snprintf(text, size, "%s", guest->neighbours[i].owner);
            return text;
        }
    }
    return foreign_owner(guest, CLAIM_FUNCTION, sbdf, sbdf, text, size);
}
