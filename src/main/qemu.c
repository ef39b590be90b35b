/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/qemu.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "launch/query_pci.h"

struct qemu {
    struct neighbours neighbours;
    struct loop *loop;
};

struct question {
    struct query_pci *query;
    void (*known)(void *self, const struct neighbour_claim *claims, unsigned count, const char *why);
    void *self;
};

static void answered(void *self, const struct pci_owner *owners, unsigned count, const struct iod_error *error)
{
    struct question question = *(struct question *)self;
    struct neighbour_claim *claims = count ? calloc(count, sizeof(*claims)) : NULL;

    free(self);
    for (unsigned i = 0; claims && i < count; i++) {
        claims[i].sbdf = (uint16_t)(owners[i].bus << 8 | owners[i].slot << 3 | owners[i].function);
        snprintf(claims[i].owner, sizeof(claims[i].owner), "%s of QEMU", owners[i].name);
    }
    /* Nobody listens: a QEMU that was not started by libxl, or one that is still to come. */
    bool nobody = error && (error->code == ENOENT || error->code == ECONNREFUSED);
    question.known(question.self, claims, claims ? count : 0, error && !nobody ? error->text : NULL);
    free(claims);
}

static void *ask(struct neighbours *neighbours, uint16_t domid,
                 void (*known)(void *self, const struct neighbour_claim *claims, unsigned count, const char *why),
                 void *self)
{
    struct qemu *qemu = (struct qemu *)((char *)neighbours - offsetof(struct qemu, neighbours));
    struct question *question = calloc(1, sizeof(*question));
    struct iod_error error;
    char path[108]; /* of a unix socket */

    if (!question) {
        return NULL;
    }
    question->known = known;
    question->self = self;
    query_pci_path(domid, path, sizeof(path));
    question->query = query_pci_start(qemu->loop, path, QUERY_PCI_LIMIT_NS, answered, question, &error);
    if (!question->query) {
        free(question);
        return NULL;
    }
    return question;
}

static void cancel(struct neighbours *neighbours, void *query)
{
    struct question *question = query;

    query_pci_cancel(question->query);
    free(question);
}

struct neighbours *qemu_create(struct loop *loop)
{
    struct qemu *qemu = calloc(1, sizeof(*qemu));

    if (!qemu) {
        return NULL;
    }
    qemu->neighbours.ask = ask;
    qemu->neighbours.cancel = cancel;
    qemu->loop = loop;
    return &qemu->neighbours;
}

void qemu_destroy(struct neighbours *neighbours)
{
    free(neighbours);
}
