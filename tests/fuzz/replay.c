/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs a fuzz target once over every file of the folders given: any build, any compiler, no fuzzer needed. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return -1;
    }
    size_t room = 1 << 20;
    uint8_t *bytes = malloc(room);
    size_t length = bytes ? fread(bytes, 1, room, file) : 0;
    fclose(file);
    /* Of exactly the length, so that a sanitizer sees a byte read behind it. */
    uint8_t *exact = realloc(bytes, length ? length : 1);
    if (!exact) {
        free(bytes);
        return -1;
    }
    LLVMFuzzerTestOneInput(exact, length);
    free(exact);
    return 0;
}

static int replay_folder(const char *folder)
{
    DIR *directory = opendir(folder);
    if (!directory) {
        perror(folder);
        return -1;
    }
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (replay_file(path)) {
            count = -1;
            break;
        }
        count++;
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int count = replay_folder(argv[i]);
        if (count <= 0) {
            fprintf(stderr, "%s: no corpus\n", argv[i]);
            return EXIT_FAILURE;
        }
        printf("%s: %d inputs\n", argv[i], count);
    }
    return argc > 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}
