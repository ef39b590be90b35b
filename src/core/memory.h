/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest's memory: a cache of foreign mappings, bounded in bytes, mapped in small pieces. A mapping that a
 * balloon or a memory-map change made stale is dropped by memory_invalidate; while an I/O uses it, it is
 * retired instead and goes with the last user.
 */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest;
struct guest_memory;
struct iod_device;
struct chunk;

struct guest_memory *memory_create(struct guest *guest, uint64_t limit);
void memory_destroy(struct guest_memory *memory); /* nothing may be in use */
void memory_invalidate(struct guest_memory *memory);
/* Gives back all that is idle (a dead domain stays as a zombie until the last mapping is gone). */
void memory_drop_idle(struct guest_memory *memory);

/*
 * The page that holds the address, and a use of its chunk; NULL: not there. The caller gives the use back.
 * The pointer is to the byte; *room says how many bytes follow in the same mapped run.
 */
void *memory_get(struct guest_memory *memory, uint64_t address, size_t *room, struct chunk **chunk);
void memory_put(struct guest_memory *memory, struct chunk *chunk);

int memory_copy(struct guest_memory *memory, uint64_t address, void *bytes, size_t length, bool to_guest);

struct inspector;
/* In the object that is open: bytes mapped, their limit, how often a page was there already. */
void memory_inspect(const struct guest_memory *memory, struct inspector *inspector);

/* The device is quiet: its windows let go of their pages until they are used again. */
void windows_release(struct iod_device *device);
void windows_destroy(struct iod_device *device);

#endif
