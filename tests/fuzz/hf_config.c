/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the configuration of a Hugging Face folder: config.json, generation_config.json and
 * quant_config.json, one behind the other with a zero byte between. What is accepted has sizes within the
 * limits; what is refused, is so in one line. */
#include "format/hf_internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const HfConfig *c) {
    bool good = c->arch && c->n_layer >= 1 && c->n_layer <= 512 && c->C >= 8 && c->C <= 65536;
    good = good && c->nh >= 1 && c->nkv >= 1 && c->nh % c->nkv == 0 && c->hd >= 8 && c->hd <= 256;
    good = good && c->V >= 2 && c->ctx >= 1 && c->eps > 0 && c->n_end <= HF_MAX_ENDS;
    for (size_t i = 0; i < c->n_end; i++) good = good && c->end[i] >= 0 && c->end[i] < c->V;
    const HfQuant *q = &c->quant;
    good = good && (q->scheme == HF_UNPACKED || (q->bits >= 2 && q->bits <= 8));
    good =
        good && (q->scheme == HF_UNPACKED || q->scheme == HF_BNB || q->group == -1 || q->group > 0);
    if (!good) abort();
    for (int i = 0; c->rope.kind == HF_ROPE_LLAMA3 && i < c->hd / 2; i++)
        if (!(hf__llama3_divisor(c, i) >= 1.0f)) abort();
}

/* The next part as JSON; NULL where there is none. False where it is not JSON. */
static bool next_part(Json **out, const uint8_t **p, const uint8_t *end) {
    const uint8_t *stop = *p < end ? memchr(*p, 0, (size_t)(end - *p)) : NULL;
    if (!stop) stop = end;
    size_t n = (size_t)(stop - *p);
    bool good = n == 0 || json_parse(out, (Slice){(const char *)*p, n}, NULL) == OK;
    *p = stop < end ? stop + 1 : end;
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Json *part[3] = {0};
    HfModel m = {0};
    HfOpts o = {.type = HF_AS_STORED};
    Err e = {0};
    size_t live = mem_live_bytes();
    const uint8_t *p = data, *end = data + size;
    bool good = true;
    m.opts = &o;
    for (int i = 0; i < 3 && good && data; i++) good = next_part(&part[i], &p, end);
    if (good) {
        Status st = hf__read_config(&m, part[0], part[1], part[2], &e);
        if (st == OK) check(&m.cfg);
        else if ((st != ERR_FORMAT && st != ERR_UNSUPPORTED) || !e.msg[0] || strchr(e.msg, '\n'))
            abort();
    }
    for (int i = 0; i < 3; i++) json_free(part[i]);
    if (mem_live_bytes() != live) abort();
    return 0;
}
