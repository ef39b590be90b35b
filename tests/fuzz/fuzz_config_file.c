/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes as the text of a configuration file: either guests that keep the rules, or findings that people can
 * read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/xl_cfg.h"

#include "fuzz.h"

/* libconfig 1.5 forgets a string that stood before a syntax error: its own, and a few bytes a bad file. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

static void check_line(const char *text)
{
    FUZZ_CHECK(text && text[0]);
    for (; *text; text++) {
        FUZZ_CHECK((unsigned char)*text >= 0x20 && *text != 0x7f);
    }
}

static void check_findings(const struct findings *findings)
{
    for (unsigned i = 0; i < findings->count; i++) {
        check_line(findings->list[i].where);
        check_line(findings->list[i].what);
        FUZZ_CHECK(!findings->list[i].remedy || findings->list[i].remedy[0]);
    }
}

static void check_guest(const struct config *config, unsigned index)
{
    const struct guest_spec *guest = &config->guests[index];
    FUZZ_CHECK(guest->domain && guest->domain[0] && strlen(guest->domain) < 128 && guest->origin &&
               guest->wait);
    FUZZ_CHECK(guest->slots <= 28 && guest->stuck_ms <= 86400000);
    FUZZ_CHECK(guest->device_count || guest->slots);
    for (unsigned i = 0; i < guest->device_count; i++) {
        struct device_spec again;
        FUZZ_CHECK(guest->devices[i].origin && strncmp(guest->devices[i].origin, "F:", 2) == 0);
        FUZZ_CHECK(!device_spec_get(&guest->devices[i], "node"));
        FUZZ_CHECK(device_spec_parse(&again, guest->devices[i].text, NULL) == 0);
        FUZZ_CHECK(again.count == guest->devices[i].count);
        device_spec_finish(&again);
    }
    for (unsigned i = 0; i < index; i++) {
        FUZZ_CHECK(strcmp(config->guests[i].domain, guest->domain) != 0);
    }
}

static void check_printing(const struct config *config)
{
    struct findings findings = {0};
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    for (unsigned i = 0; to && i < config->count && i < 4; i++) {
        if (config_print_dt(config, config->guests[i].domain, to, &findings)) {
            FUZZ_CHECK(findings_fatal(&findings));
        }
    }
    check_findings(&findings);
    findings_finish(&findings);
    if (to) {
        fclose(to);
    }
    free(text);
}

/* The same bytes as an xl.cfg. */
static void check_xl(const char *text)
{
    struct findings findings = {0};
    struct xl_cfg cfg;
    if (!xl_cfg_parse(&cfg, text, "F", &findings)) {
        FUZZ_CHECK(findings_fatal(&findings));
    }
    for (unsigned i = 0; i < cfg.count; i++) {
        struct xl_disk disk;
        bool scsi;
        FUZZ_CHECK(cfg.values[i].name[0] && cfg.values[i].line);
        xl_disk_parse(&disk, cfg.values[i].text);
        FUZZ_CHECK(!disk.vdev || xl_disk_index(disk.vdev, &scsi) >= -1);
    }
    check_findings(&findings);
    findings_finish(&findings);
    xl_cfg_finish(&cfg);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct config config;
    struct findings findings = {0};
    char *text = malloc(length + 1);
    if (!text) {
        return 0;
    }
    if (length) {
        memcpy(text, bytes, length);
    }
    text[length] = '\0';
    check_xl(text);
    if (config_load_text(text, "F", &config, &findings)) {
        FUZZ_CHECK(findings_fatal(&findings) && !config.count && !config.guests);
    } else {
        FUZZ_CHECK(!findings_fatal(&findings));
        for (unsigned i = 0; i < config.count; i++) {
            check_guest(&config, i);
        }
        check_printing(&config);
    }
    check_findings(&findings);
    findings_finish(&findings);
    config_finish(&config);
    free(text);
    return 0;
}
