/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/points.h"

/*
 * Pieces are small because a page costs tens of microseconds to map on Arm: a large piece would stall every
 * guest. A piece in which some page could not be mapped is not kept; the wanted page is then mapped alone, so
 * that a hole is asked for again each time (it may have got RAM meanwhile, and no INVALIDATE says so).
 */
#define PIECE_PAGES 16u
#define BUCKETS_MIN 64u

struct chunk {
    struct chunk *next;  /* in the bucket */
    struct list link;    /* idle: by age, oldest first */
    uint64_t gfn;
    uint32_t pages;      /* PIECE_PAGES or 1 */
    uint32_t uses;
    bool retired;        /* not in the table any more */
    uint8_t *at;
};

struct guest_memory {
    struct guest *guest;
    struct hypervisor *hv;
    uint64_t limit, mapped; /* bytes */
    uint64_t hits, misses;  /* of memory_get */
    struct chunk **buckets;
    uint32_t bucket_count, chunk_count;
    struct list idle;
};

static uint32_t bucket_of(const struct guest_memory *memory, uint64_t gfn, uint32_t pages)
{
    uint64_t key = (gfn / pages) * 2 + (pages == 1);
    return (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & (memory->bucket_count - 1);
}

struct guest_memory *memory_create(struct guest *guest, uint64_t limit)
{
    struct guest_memory *memory = calloc(1, sizeof(*memory));
    if (!memory) {
        return NULL;
    }
    memory->guest = guest;
    memory->hv = guest->daemon->hv;
    memory->limit = limit;
    memory->bucket_count = BUCKETS_MIN;
    list_init(&memory->idle);
    memory->buckets = calloc(memory->bucket_count, sizeof(*memory->buckets));
    if (!memory->buckets) {
        free(memory);
        return NULL;
    }
    return memory;
}

static void table_remove(struct guest_memory *memory, struct chunk *chunk)
{
    struct chunk **at = &memory->buckets[bucket_of(memory, chunk->gfn, chunk->pages)];
    while (*at != chunk) {
        at = &(*at)->next;
    }
    *at = chunk->next;
    memory->chunk_count--;
}

static void chunk_unmap(struct guest_memory *memory, struct chunk *chunk)
{
    list_remove(&chunk->link);
    memory->hv->ops->foreign_unmap(memory->hv, chunk->at, chunk->pages);
    memory->mapped -= (uint64_t)chunk->pages * HV_PAGE_SIZE;
    free(chunk);
}

/* Grows the table with the cache, so that a look-up stays short. A failure only leaves longer buckets. */
static void table_grow(struct guest_memory *memory)
{
    if (memory->chunk_count < memory->bucket_count * 2) {
        return;
    }
    struct chunk **old = memory->buckets;
    uint32_t old_count = memory->bucket_count;
    struct chunk **buckets = calloc((size_t)old_count * 4, sizeof(*buckets));
    if (!buckets) {
        return;
    }
    memory->buckets = buckets;
    memory->bucket_count = old_count * 4;
    for (uint32_t i = 0; i < old_count; i++) {
        for (struct chunk *chunk = old[i], *next; chunk; chunk = next) {
            next = chunk->next;
            uint32_t bucket = bucket_of(memory, chunk->gfn, chunk->pages);
            chunk->next = buckets[bucket];
            buckets[bucket] = chunk;
        }
    }
    free(old);
}

static void make_room(struct guest_memory *memory, uint64_t bytes)
{
    while (memory->mapped + bytes > memory->limit) {
        struct chunk *oldest = list_first(&memory->idle, struct chunk, link);
        if (!oldest) {
            /* all in use: what I/O needs may pass the limit for its time; it is bounded by the queues */
            return;
        }
        table_remove(memory, oldest);
        chunk_unmap(memory, oldest);
    }
}

static struct chunk *table_find(struct guest_memory *memory, uint64_t gfn, uint32_t pages)
{
    uint64_t first = gfn - gfn % pages;
    struct chunk *chunk = memory->buckets[bucket_of(memory, first, pages)];
    while (chunk && (chunk->gfn != first || chunk->pages != pages)) {
        chunk = chunk->next;
    }
    return chunk;
}

static struct chunk *chunk_map(struct guest_memory *memory, uint64_t gfn, uint32_t pages)
{
    uint64_t gfns[PIECE_PAGES];
    int errors[PIECE_PAGES];
    uint64_t first = gfn - gfn % pages;
    for (uint32_t i = 0; i < pages; i++) {
        gfns[i] = first + i;
    }
    make_room(memory, (uint64_t)pages * HV_PAGE_SIZE);
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    if (!chunk) {
        return NULL;
    }
    void *at;
    if (memory->hv->ops->foreign_map(memory->hv, memory->guest->domid, gfns, pages, errors, &at) < 0) {
        free(chunk);
        return NULL;
    }
    for (uint32_t i = 0; i < pages; i++) {
        if (errors[i]) {
            memory->hv->ops->foreign_unmap(memory->hv, at, pages);
            free(chunk);
            return NULL;
        }
    }
    *chunk = (struct chunk){.gfn = first, .pages = pages, .at = at};
    list_init(&chunk->link);
    uint32_t bucket = bucket_of(memory, first, pages);
    chunk->next = memory->buckets[bucket];
    memory->buckets[bucket] = chunk;
    memory->chunk_count++;
    memory->mapped += (uint64_t)pages * HV_PAGE_SIZE;
    table_grow(memory);
    return chunk;
}

static struct chunk *map_missing(struct guest_memory *memory, uint64_t gfn)
{
    struct guest *guest = memory->guest;
    struct chunk *chunk = chunk_map(memory, gfn, PIECE_PAGES);
    if (!chunk) {
        chunk = chunk_map(memory, gfn, 1);
    }
    if (guest->watch.allowance) {
        guest->watch.allowance--;
    } else {
        limit_charge(guest, DEED_MISS, 1);
    }
    point_miss(guest, gfn, chunk ? chunk->pages : 0);
    return chunk;
}

void *memory_get(struct guest_memory *memory, uint64_t address, size_t *room, struct chunk **chunk)
{
    uint64_t gfn = address >> HV_PAGE_SHIFT;
    struct chunk *found = table_find(memory, gfn, PIECE_PAGES);
    if (!found) {
        found = table_find(memory, gfn, 1);
    }
    memory->hits += found != NULL;
    if (!found) {
        memory->misses++;
        found = map_missing(memory, gfn);
    }
    if (!found) {
        return NULL;
    }
    list_remove(&found->link); /* in use: not idle */
    found->uses++;
    size_t offset = (size_t)(address - (found->gfn << HV_PAGE_SHIFT));
    *room = (size_t)found->pages * HV_PAGE_SIZE - offset;
    *chunk = found;
    return found->at + offset;
}

void memory_put(struct guest_memory *memory, struct chunk *chunk)
{
    if (--chunk->uses) {
        return;
    }
    if (chunk->retired) {
        chunk_unmap(memory, chunk);
    } else {
        list_add_tail(&memory->idle, &chunk->link);
        make_room(memory, 0);
    }
}

static void drop_windows(struct guest_memory *memory)
{
    struct iod_device *device;
    list_for_each(device, &memory->guest->devices, struct iod_device, link) {
        windows_release(device);
    }
}

void memory_drop_idle(struct guest_memory *memory)
{
    struct chunk *chunk;
    while ((chunk = list_first(&memory->idle, struct chunk, link))) {
        table_remove(memory, chunk);
        chunk_unmap(memory, chunk);
    }
}

void memory_invalidate(struct guest_memory *memory)
{
    uint64_t before = memory->mapped;
    drop_windows(memory);
    memory_drop_idle(memory);
    for (uint32_t i = 0; i < memory->bucket_count; i++) {
        for (struct chunk *chunk = memory->buckets[i]; chunk; chunk = chunk->next) {
            chunk->retired = true;
        }
        memory->buckets[i] = NULL;
    }
    memory->chunk_count = 0;
    point_invalidate(memory->guest, before, memory->mapped);
}

void memory_destroy(struct guest_memory *memory)
{
    if (memory) {
        memory_drop_idle(memory);
        free(memory->buckets);
        free(memory);
    }
}

int memory_copy(struct guest_memory *memory, uint64_t address, void *bytes, size_t length, bool to_guest)
{
    uint8_t *next = bytes;
    if (length && address + (length - 1) < address) {
        return -EFAULT;
    }
    while (length) {
        size_t room;
        struct chunk *chunk;
        uint8_t *at = memory_get(memory, address, &room, &chunk);
        if (!at) {
            return -EFAULT;
        }
        size_t part = length < room ? length : room;
        if (to_guest) {
            memcpy(at, next, part);
        } else {
            memcpy(next, at, part);
        }
        memory_put(memory, chunk);
        address += part;
        next += part;
        length -= part;
    }
    return 0;
}

void memory_inspect(const struct guest_memory *memory, struct inspector *inspector)
{
    inspector->number(inspector, "mapped", memory->mapped);
    inspector->number(inspector, "limit", memory->limit);
    inspector->number(inspector, "pieces", memory->chunk_count);
    inspector->number(inspector, "hits", memory->hits);
    inspector->number(inspector, "misses", memory->misses);
}
