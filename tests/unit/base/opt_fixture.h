/* SPDX-License-Identifier: Apache-2.0
 * An option table of every type, shared by the tests of base/opt*.c. */
#ifndef INGOT_TEST_OPT_FIXTURE_H
#define INGOT_TEST_OPT_FIXTURE_H

#include <stdio.h>

#include "base/opt.h"
#include "test.h"

typedef struct Demo {
    int64_t batch, seed;
    double rate;
    bool mmap, quiet;
    const char *dtype, *model;
    OptList files;
} Demo;

static const OptSpec DEMO[] = {
    {"batch_size", 'b', OPT_INT, offsetof(Demo, batch), "16", 1, 256, NULL, NULL,
     "sequences decoded together in one step"},
    {"learning_rate", 0, OPT_FLOAT, offsetof(Demo, rate), "5e-5", 0, 1, NULL, NULL,
     "step size of the optimizer at the end of the warm-up"},
    {"mmap", 0, OPT_BOOL, offsetof(Demo, mmap), "true", 0, 0, NULL, NULL, "map the file"},
    {"quiet", 'q', OPT_BOOL, offsetof(Demo, quiet), NULL, 0, 0, NULL, NULL, "print nothing"},
    {"dtype", 0, OPT_CHOICE, offsetof(Demo, dtype), "bf16", 0, 0, "f32|f16|bf16", "TYPE",
     "number format of the weights while they are trained, which is not the one they are saved in"},
    {"model", 'm', OPT_STR, offsetof(Demo, model), NULL, 0, 0, NULL, "FILE", "model to load"},
    {"file", 'f', OPT_LIST, offsetof(Demo, files), NULL, 0, 0, NULL, "FILE", "text to read"},
    {"seed", 0, OPT_INT, offsetof(Demo, seed), NULL, 0, 0, NULL, NULL, "of all random numbers"},
};
enum { N_DEMO = COUNT_OF(DEMO) };

/* A bound set; d gets the defaults. */
static inline OptSet *demo_new(Demo *d) {
    OptSet *o = NULL;
    memset(d, 0xAB, sizeof *d);
    OK_(opt_new(&o, DEMO, N_DEMO, d, TERR));
    return o;
}

#endif
