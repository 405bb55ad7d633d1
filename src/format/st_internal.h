/* SPDX-License-Identifier: Apache-2.0
 * What the st_*.c files share. Not for other folders. */
#ifndef INGOT_FORMAT_ST_INTERNAL_H
#define INGOT_FORMAT_ST_INTERNAL_H

#include "base/arena.h"
#include "format/gguf_internal.h"
#include "format/safetensors.h"

/* The index of names (gguf_index.c) wants the name first. */
_Static_assert(offsetof(StTensor, name) == 0, "name comes first");

struct St {
    IoMap map; /* owned where owns_map, else the caller's bytes */
    bool owns_map;
    size_t n_files;
    uint64_t n_bytes;
    StTensor *tensor; /* owned */
    size_t n, cap;
    GgufIndex index;
    Arena mem; /* names */
};

static inline GgufNames st__names(const St *s) { return (GgufNames){s->tensor, sizeof *s->tensor}; }

/* Nothing in it yet. NULL: out of memory. */
St *st__new(void);
/* Add the tensors of one file, whose bytes are part, to s. On failure s can only be closed. */
MUST_CHECK Status st__add_file(St *s, IoMap part, Err *e);
/* Fill e with `tensor "name": message`. */
Status st__err(Err *e, Status code, Slice name, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Type by its name in a file; ST_TYPE_COUNT if it is not known. */
StType st__type_find(Slice name);
/* Elements and bytes from type and shape; false where they do not fit into 63 bits. */
MUST_CHECK bool st__count(StTensor *t);

#endif
