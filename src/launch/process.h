/* SPDX-License-Identifier: BSD-2-Clause */
/* A process that is not our child: its end is noticed all the same (a pidfd). */
#ifndef LAUNCH_PROCESS_H
#define LAUNCH_PROCESS_H

#include <sys/types.h>

#include "core/loop.h"

struct process;

/* ended(self) is called once, later. NULL with errno set: ESRCH: there is none. */
struct process *process_follow(struct loop *loop, pid_t pid, void (*ended)(void *self), void *self);
void process_signal(struct process *process,
                    int signo); /* that very process, never one with the same number; NULL is fine */
void process_forget(struct process *process);            /* NULL is fine */

/* The pid in a file that holds nothing else, of a process that lives; 0: none. *stale: the file is one, its
 * process is dead. */
pid_t process_of_file(const char *path, int *stale);

#endif
