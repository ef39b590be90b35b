/* SPDX-License-Identifier: BSD-2-Clause */
/* The smallest emulator: claims [FIRST, LAST] of the ports and answers every read with addr * 3 + size. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xen/hvm/ioreq.h>
#include <xen/memory.h>

int main(int argc, char **argv)
{
    domid_t dom = (domid_t)(argc > 3 ? atoi(argv[1]) : 0);
    xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);
    xenforeignmemory_handle *fm = xenforeignmemory_open(NULL, 0);
    xenevtchn_handle *ec = xenevtchn_open(NULL, 0);
    unsigned nr = 0, local[128];
    void *page = NULL;
    ioservid_t id;
    int port;

    if (argc < 4 || xendevicemodel_create_ioreq_server(dm, dom, 0, &id) ||
        xendevicemodel_nr_vcpus(dm, dom, &nr) ||
        !xenforeignmemory_map_resource(fm, dom, XENMEM_resource_ioreq_server, id, 1, 1, &page,
                                       PROT_READ | PROT_WRITE, 0) ||
        xendevicemodel_map_io_range_to_ioreq_server(dm, dom, id, 0, strtoull(argv[2], NULL, 0),
                                                    strtoull(argv[3], NULL, 0)) ||
        xendevicemodel_set_ioreq_server_state(dm, dom, id, 1)) {
        perror("mock-peer");
        return 1;
    }
    struct ioreq *slot = page;

    for (unsigned i = 0; i < nr; i++) {
        local[i] = (unsigned)xenevtchn_bind_interdomain(ec, dom, slot[i].vp_eport);
    }
    fprintf(stderr, "mock-peer: ready, server %u\n", id);
    while ((port = xenevtchn_pending(ec)) >= 0) {
        for (unsigned i = 0; i < nr; i++) {
            if (local[i] == (unsigned)port && slot[i].state == STATE_IOREQ_READY) {
                __atomic_thread_fence(__ATOMIC_ACQUIRE);
                slot[i].data = slot[i].addr * 3 + slot[i].size;
                __atomic_thread_fence(__ATOMIC_RELEASE);
                slot[i].state = STATE_IORESP_READY;
                xenevtchn_unmask(ec, (evtchn_port_t)port);
                xenevtchn_notify(ec, (evtchn_port_t)port);
                port = 0;
            }
        }
        if (port) {
            xenevtchn_unmask(ec, (evtchn_port_t)port);
        }
    }
    return 0;
}
