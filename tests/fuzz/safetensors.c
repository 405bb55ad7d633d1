/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as a safetensors file. One that opens has all data inside, its tensors are found by name, and they
 * cover the data without overlap: their bytes add up. */
#include "format/safetensors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const St *s, const uint8_t *p, size_t n) {
    uint64_t head, total = 0;
    memcpy(&head, p, sizeof head);
    for (size_t i = 0; i < st_n_tensors(s); i++) {
        const StTensor *t = st_tensor_at(s, i);
        const uint8_t *d = t->data;
        if (d < p + 8 + head || t->n_bytes > n || d + t->n_bytes > p + n) abort();
        if (st_find(s, t->name) != t) abort();
        if (t->n_bytes != t->n_elem * st_type_bytes(t->type)) abort();
        total += t->n_bytes;
    }
    if (total != n - 8 - head) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    St *s = NULL;
    Err e = {0};
    size_t live = mem_live_bytes();
    Status st = st_open_bytes(&s, data, size, &e);
    if (st == OK) check(s, data, size);
    else if (s || st != ERR_FORMAT || !e.msg[0] || strchr(e.msg, '\n')) abort();
    st_close(s);
    if (mem_live_bytes() != live) abort();
    return 0;
}
