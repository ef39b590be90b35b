/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

enum {
    FINDINGS_MAX = 1000, /* who has more than these mends some of them first */
    TEXT_MAX = 512,
};

/* What is quoted comes from files: it stays one line that no terminal interprets. */
static void make_printable(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

static char *copy(const char *text)
{
    char *printable = text ? strndup(text, TEXT_MAX) : NULL;
    if (printable) {
        make_printable(printable);
    }
    return printable;
}

void findings_add(struct findings *findings, bool fatal, const char *where, const char *remedy,
                  const char *format, ...)
{
    char what[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    struct finding finding = {
        .fatal = fatal, .where = copy(where), .what = copy(what), .remedy = copy(remedy)};
    struct finding *list = NULL;
    if (findings->count < FINDINGS_MAX && finding.where && finding.what && (finding.remedy || !remedy)) {
        list = reallocarray(findings->list, findings->count + 1, sizeof(*list));
    }
    if (!list) {
        findings->cut = true;
        free(finding.where);
        free(finding.what);
        free(finding.remedy);
        return;
    }
    findings->list = list;
    list[findings->count++] = finding;
}

bool findings_fatal(const struct findings *findings)
{
    return findings_fatal_since(findings, 0);
}

bool findings_fatal_since(const struct findings *findings, unsigned before)
{
    for (unsigned i = before; i < findings->count; i++) {
        if (findings->list[i].fatal) {
            return true;
        }
    }
    return findings->cut;
}

void findings_print(const struct findings *findings, FILE *to)
{
    for (unsigned i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->list[i];
        fprintf(to, "%s: %s%s%s%s\n", finding->where, finding->fatal ? "" : "warning: ", finding->what,
                finding->remedy ? "; " : "", finding->remedy ? finding->remedy : "");
    }
    if (findings->cut) {
        fprintf(to, "there are more findings than are kept; mend the first %u\n", findings->count);
    }
}

int findings_error(const struct findings *findings, struct iod_error *error)
{
    for (unsigned i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->list[i];
        if (finding->fatal) {
            return iod_fail(error, EINVAL, "%s: %s%s%s", finding->where, finding->what,
                            finding->remedy ? "; " : "", finding->remedy ? finding->remedy : "");
        }
    }
    return findings->cut ? iod_fail(error, ENOMEM, "out of memory") : 0;
}

void findings_finish(struct findings *findings)
{
    for (unsigned i = 0; i < findings->count; i++) {
        free(findings->list[i].where);
        free(findings->list[i].what);
        free(findings->list[i].remedy);
    }
    free(findings->list);
    *findings = (struct findings){0};
}
