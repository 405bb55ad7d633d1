/* SPDX-License-Identifier: Apache-2.0
 * What sampling makes of logits, by definition. */
#include "kernel/logits.inc"

void kern_ref_logits(Kern *k) {
    k->exp_below = exp_below;
    k->weigh = weigh;
}
