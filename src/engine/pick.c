/* SPDX-License-Identifier: Apache-2.0
 * Which token a row of logits gives to its request. A choice depends on nothing but its own row and request, so
 * the rows of a step are shared among the device's threads, which idle meanwhile: with a large vocabulary and many
 * streams one thread would need a fifth of a step for it. Requests with a grammar are left to the engine's thread,
 * and so are the rows behind a request's first one, which are there only if its guesses were right. */
#include "engine/internal.h"

static SampleIn input(const Engine *en, const Req *r, const float *row) {
    return (SampleIn){.logits = row,
                      .n_vocab = en->n_vocab,
                      .o = &r->in.sample,
                      .pos = (uint64_t)r->n_tok,
                      .n_out = r->n_tok - r->in.n_prompt,
                      .hist = r->hist,
                      .end_ids = en->end_ids,
                      .n_end_ids = r->in.ignore_end ? 0 : en->n_end_ids};
}

typedef struct Share {
    const Engine *en;
    const float *logits;
} Share;

/* Every n-th request, with a sampler of its own. */
static void pick_share(void *ctx, int64_t part, int worker) {
    const Share *s = ctx;
    const Engine *en = s->en;
    (void)worker;
    for (int64_t i = part; i < en->n_run; i += en->n_picker) {
        Req *r = en->run[i];
        if (r->asked || r->grammar || r->out_row < 0) continue;
        SampleIn in = input(en, r, s->logits + (size_t)r->out_row * (size_t)en->V);
        r->is_picked = sample_pick(&r->picked, &in, en->sampler[part], NULL) == OK;
    }
}

void engine__pick_all(Engine *en, const float *logits) {
    for (int i = 0; i < en->n_run; i++) en->run[i]->is_picked = false;
    if (en->back.host.team && en->n_run > 1)
        team_run(en->back.host.team, en->n_picker, pick_share, &(Share){en, logits});
}

Status engine__pick(SampleOut *out, Engine *en, Req *r, const float *row, Err *e) {
    SampleIn in = input(en, r, row);
    if (r->is_picked) {
        *out = r->picked;
        r->is_picked = false;
        return OK;
    }
    if (!r->grammar) return sample_pick(out, &in, en->sampler[0], e);
    in.mask = en->mask;
    TRY(grammar_mask(&r->place, en->mask, e));
    TRY(sample_pick(out, &in, en->sampler[0], e));
    return grammar_accept(&r->place, out->id, e);
}
