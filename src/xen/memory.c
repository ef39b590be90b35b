/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest memory: foreign mappings and grants. The caches and the rules of use are the core's. */
#include "xen/handles.h"

#include <sys/mman.h>

_Static_assert(sizeof(xen_pfn_t) == sizeof(uint64_t), "frame numbers are handed through as they are");

int xen_foreign_map(struct hypervisor *hv, uint16_t domid, const uint64_t *gfns, unsigned count, int *errors,
                    void **at)
{
    *at = xenforeignmemory_map(xen_of(hv)->foreignmemory, domid, PROT_READ | PROT_WRITE, count,
                               (const xen_pfn_t *)gfns, errors);
    return *at ? 0 : xen_result(-1);
}

void xen_foreign_unmap(struct hypervisor *hv, void *at, unsigned count)
{
    xenforeignmemory_unmap(xen_of(hv)->foreignmemory, at, count);
}

int xen_grant_map(struct hypervisor *hv, uint16_t domid, const uint32_t *refs, unsigned count, bool writable,
                  void **at)
{
    struct xen_hypervisor *xen = xen_of(hv);

    if (!xen->gnttab) {
        return xen->gnttab_error;
    }
    /* The library only reads refs; its prototype lacks the const. */
    *at = xengnttab_map_domain_grant_refs(xen->gnttab, count, domid, (uint32_t *)(uintptr_t)refs,
                                          writable ? PROT_READ | PROT_WRITE : PROT_READ);
    return *at ? 0 : xen_result(-1);
}

void xen_grant_unmap(struct hypervisor *hv, void *at, unsigned count)
{
    if (xen_of(hv)->gnttab) {
        xengnttab_unmap(xen_of(hv)->gnttab, at, count);
    }
}

int xen_modified_memory(struct hypervisor *hv, uint16_t domid, uint64_t gfn, uint32_t count)
{
    return xen_result(xendevicemodel_modified_memory(xen_of(hv)->devicemodel, domid, gfn, count));
}
