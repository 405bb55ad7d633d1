/* SPDX-License-Identifier: Apache-2.0
 * A sampler for tests. */
#ifndef INGOT_TESTS_UNIT_ENGINE_SAMPLER_H
#define INGOT_TESTS_UNIT_ENGINE_SAMPLER_H

#include "base/config.h"
#include "base/mem.h"
#include "engine/sample.h"
#include "test.h"

/* At the level of INGOT_CPU, or the best. Released by mem_free. */
static UNUSED Sampler *sampler_for(int n_vocab) {
    static Kern kern;
    if (!kern.weigh) OK_(kern_init(&kern, config_get("INGOT_CPU"), TERR));
    void *mem = mem_alloc_n(1, sample_bytes(n_vocab));
    TRUE_(mem != NULL);
    return sample_init(mem, n_vocab, &kern);
}

#endif
