/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target without the fuzzer: over the files given, or over tests/fuzz/corpus/<program>/
 * and, because a parser meets them first, over nothing at all and over one byte. `make test` and
 * `make asan` replay every corpus this way; the closing line is one tests/run reads.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input lies in a block of exactly its size, so that a read past its end is seen. */
static void one(const uint8_t *data, size_t n) {
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy) exit(2);
    if (n) memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void file(const char *path) {
    FILE *f = fopen(path, "rb");
    uint8_t *buf = NULL;
    size_t n = 0, cap = 0;
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    printf("%s\n", path); /* the last one printed is the one that crashed */
    for (;;) {
        if (n == cap) {
            cap = cap ? 2 * cap : 65536;
            buf = realloc(buf, cap);
            if (!buf) exit(2);
        }
        size_t got = fread(buf + n, 1, cap - n, f);
        if (got == 0) break;
        n += got;
    }
    fclose(f);
    one(buf, n);
    free(buf);
}

static int folder(const char *program) {
    const char *slash = strrchr(program, '/');
    char dir[512], path[1024];
    struct dirent **ent = NULL;
    int n, used = 0;
    snprintf(dir, sizeof dir, "tests/fuzz/corpus/%s", slash ? slash + 1 : program);
    n = scandir(dir, &ent, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (ent[i]->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", dir, ent[i]->d_name);
            file(path);
            used++;
        }
        free(ent[i]);
    }
    free(ent);
    return used;
}

int main(int argc, char **argv) {
    int n = argc - 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    one(NULL, 0);
    one((const uint8_t *)"{", 1);
    for (int i = 1; i < argc; i++) file(argv[i]);
    if (argc == 1) n = folder(argv[0]);
    printf("%d inputs\n[  PASSED  ] 1 test(s).\n", n);
    return 0;
}
