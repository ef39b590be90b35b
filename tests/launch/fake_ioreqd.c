/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stands in ioreqd's place where no guest is needed: says that it is ready, ends by SIGTERM with status 0.
 * $FAKE_IOREQD: "late" (never ready), "mute" (closes the descriptor without a word and goes on), "die" (after its first
 * words, status 3), "stubborn" (no SIGTERM ends it).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(int signo)
{
    _exit(0);
}

int main(int argc, char **argv)
{
    const char *mode = getenv("FAKE_IOREQD") ?: "";
    int fd = -1;

    signal(SIGTERM, strcmp(mode, "stubborn") ? end : SIG_IGN);
    fprintf(stderr, "ioreqd:");
    for (int i = 1; i < argc; i++) {
        fprintf(stderr, " %s", argv[i]);
        fd = !strcmp(argv[i - 1], "--ready-fd") ? atoi(argv[i]) : fd;
    }
    fprintf(stderr, "\nioreqd: domid 5: an image is not there\n");
    if (!strcmp(mode, "die")) {
        return 3;
    }
    if (strcmp(mode, "late") && strcmp(mode, "mute") && write(fd, "ready\n", 6) != 6) {
        return 4;
    }
    if (strcmp(mode, "late")) {
        close(fd);
    }
    for (;;) {
        pause();
    }
}
