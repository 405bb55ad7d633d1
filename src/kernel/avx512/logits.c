/* SPDX-License-Identifier: Apache-2.0
 * What sampling makes of logits with the instructions of avx512. */
#include "kernel/logits.inc"

void kern_avx512_logits(Kern *k) {
    k->exp_below = exp_below;
    k->weigh = weigh;
}
