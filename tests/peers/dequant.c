/* SPDX-License-Identifier: Apache-2.0
 * dequant LEVEL TYPE < blocks > f32   to_f32 of the kernel table on standard input; dequant.py builds and runs it. */
#include <stdio.h>
#include <stdlib.h>

#include "kernel/kernel.h"

enum { MAX_BYTES = 16 << 20 };

int main(int argc, char **argv) {
    Kern k;
    DType t;
    Err e = {0};
    if (argc != 3 || kern_init(&k, argv[1], &e) != OK || !dtype_from_name(&t, argv[2])) {
        fprintf(stderr, "dequant: %s\n", e.msg[0] ? e.msg : "LEVEL TYPE");
        return 2;
    }
    char *b = malloc(MAX_BYTES);
    if (!b) return 2;
    size_t bytes = fread(b, 1, MAX_BYTES, stdin);
    size_t n = bytes / (size_t)dtype_info(t)->block_bytes * (size_t)dtype_info(t)->block;
    float *y = malloc(n * sizeof *y + 1);
    if (!y) return 2;
    k.to_f32[t](y, b, n);
    return fwrite(y, sizeof *y, n, stdout) == n ? 0 : 2;
}
