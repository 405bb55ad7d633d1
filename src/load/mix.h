/* SPDX-License-Identifier: Apache-2.0
 * Lengths drawn from a mixture, written
 *
 *   256            always 256
 *   64-1024        evenly from 64 to 1024
 *   300~0.8        log-normal: the median, the standard deviation of the logarithm; at most 100 medians
 *   64:0.7,1024:0.3   either with this weight; parts of any kind
 */
#ifndef INGOT_LOAD_MIX_H
#define INGOT_LOAD_MIX_H

#include "base/err.h"

enum { LOAD_MAX_PARTS = 16, LOAD_MAX_LENGTH = 1000000 };

typedef struct LoadMixPart {
    double lo, hi; /* lo alone: hi equals it */
    double sigma;  /* > 0: log-normal around lo */
    double weight;
} LoadMixPart;

typedef struct LoadMix {
    LoadMixPart part[LOAD_MAX_PARTS];
    int n;
} LoadMix;

/* ERR_ARG names `what`, the text and what is wrong with it. Lengths from `least` to LOAD_MAX_LENGTH. */
MUST_CHECK Status load_mix_parse(LoadMix *out, const char *what, const char *text, int least,
                                 Err *e);
/* Length i of a seed. */
int load_mix_draw(const LoadMix *m, uint64_t seed, uint64_t i);

#endif
