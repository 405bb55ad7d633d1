/* SPDX-License-Identifier: Apache-2.0
 * What the hf_out*.c files share. Not for other folders. */
#ifndef INGOT_FORMAT_HF_OUT_INTERNAL_H
#define INGOT_FORMAT_HF_OUT_INTERNAL_H

#include "format/hf_internal.h"
#include "format/hf_out.h"

struct HfOut {
    const Gguf *g; /* borrowed */
    HfConfig cfg;
    HfOutTensor *tensor; /* owned */
    size_t n, cap;
    char note[HF_NOTE];
    Err *e; /* while planning */
};

/* The rotation as config.json has it, into o->cfg.rope. ERR_UNSUPPORTED names what it has no word for. */
MUST_CHECK Status hf__out_rope(HfOut *o, const HfSpec *s, Err *e);
/* Find factor, frequencies and context that give these divisors of n frequencies, as rope_type llama3 makes them:
 * into c->rope, whose base is set. 0: none do; 1: nearly; 2: to the bit. */
int hf__deduce_llama3(HfConfig *c, const float *d, int n);

#endif
