/* SPDX-License-Identifier: BSD-2-Clause */
/* Which addresses of this process are foreign mappings: sorted runs of frames, kept small. */
#ifndef MOCKXEN_FOREIGN_H
#define MOCKXEN_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOREIGN_HOLE UINT32_MAX

/** Consecutive pages over consecutive frames, or a hole. */
struct foreign_run {
    uintptr_t addr;
    uint32_t pages, frame, domid, gen;
};

/** Add a run; -1 + errno. */
int foreign_add(const struct foreign_run *run);
/** Cut [addr, addr + pages) out; calls `gone` for each piece that was a run. */
void foreign_cut(uintptr_t addr, size_t pages, void (*gone)(void *arg, const struct foreign_run *piece),
                 void *arg);
/** Does the range touch a foreign page? Exported for the preload that refuses direct I/O. */
bool mockxen_is_foreign(const void *addr, size_t len);

#endif
