/* SPDX-License-Identifier: BSD-2-Clause */
/* Self test of the mock: a first slice. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "guest.h"

int main(void)
{
    struct mock *m = mock_start(&(struct mock_options){ .verbose = true });
    struct mock_guest *g = mock_domain_new(m, MOCK_HVM, 16 << 20, 2);
    char dom[16];
    char *argv[] = { (char *)MOCK_PEER, dom, (char *)"0x500", (char *)"0x50f", NULL };
    struct mock_daemon *d;
    struct timespec a, b;

    snprintf(dom, sizeof(dom), "%u", mock_domid(g));
    d = mock_spawn_daemon(m, argv);
    if (mock_daemon_wait_log(d, "ready", 5000)) {
        fprintf(stderr, "not ready: %s\n", mock_daemon_log(d));
        return 1;
    }
    printf("in %x %x\n", vcpu_inl(g, 0, 0x504), vcpu_inb(g, 1, 0x501));
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 100000; i++) {
        vcpu_inl(g, 0, 0x504);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("ns per round trip: %ld\n", ((b.tv_sec - a.tv_sec) * 1000000000l + b.tv_nsec - a.tv_nsec) / 100000);
    mock_daemon_free(d);
    mock_guest_free(g);
    mock_stop(m);
    return 0;
}
