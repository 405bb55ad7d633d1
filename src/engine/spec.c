/* SPDX-License-Identifier: Apache-2.0
 * Speculation: the tokens that come next are guessed, and a request's guesses are rows of the same step as its
 * newest token. Row j says what follows guess j: while that is guess j + 1, one step has given several tokens.
 *
 * A guess is right if the sampler, asked as ever, picks that token at that place. Its random number is keyed by
 * (seed, position), so the text is the one without speculation, token for token, at any temperature; penalties,
 * grammars and stop tokens come along by themselves. (The rule of Leviathan et al. 2023 takes a guess with
 * probability min(1, p/q) and keeps the law of the text, but not the text. Here the guess is taken when the
 * target's own draw hits it: the law is the target's because every token is its draw. That takes fewer guesses
 * than min(1, p/q) where p is flat, unless the draft is drawn with the same random number, as spec_model.c does.)
 * The bits of a row are the same beside others only on a device that promises it (batch_invariant); else, as in
 * any larger batch, near-ties may fall the other way.
 *
 * Who guesses: a draft model (spec_model.c), or the request's own text: what came after the latest earlier place
 * of its newest `hi` tokens, or fewer, down to `lo` (prompt lookup; Saxena 2023). That place is looked for from
 * the end, over at most SCAN tokens.
 *
 * How many: as many as were right last time and one more, twice as many if all were. A draft with nothing right
 * is a miss; n misses make the request wait 2^n - 2 tokens, at most 62, and a draft with something right takes
 * two of them back. So a request whose first guesses are right less than one time in three soon drafts once in
 * 62 tokens. Guesses take rows that prompts leave, in time that streams can wait (pace.h), and blocks that nobody
 * else will need at once: they never push anybody out.
 *
 * K and V of wrong guesses stay behind the last right token and are written over. Blocks are committed up to
 * known tokens only (sched.c), and those that guesses are written to belong to nobody else: the first one is
 * owned for the newest token's sake, those behind it are fresh. */
#include "engine/internal.h"

enum { SCAN = 1 << 16, MOST_MISSES = 6 };

Status spec__start(const Engine *en, Req *r, Err *e) {
    const Spec *s = &en->spec;
    r->spec.len = s->k;
    if (s->k == 0) return OK;
    for (int i = 0; s->back.forward && i < r->in.n_prompt; i++) r->spec.off |= r->tok[i] >= s->V;
    return r->grammar ? grammar_state_copy(&r->spec.ahead, &r->place, e) : OK;
}

bool spec__push(Engine *en, Req *r, int32_t id) {
    SpecReq *q = &r->spec;
    if (q->n_draft == q->want || engine__ends_text(en, r, id)) return false;
    if (r->grammar) { /* after the last token of all nothing has to be computed */
        if (grammar_accept(&q->ahead, id, NULL) != OK || grammar_is_done(&q->ahead)) return false;
    }
    r->tok[r->n_tok + q->n_draft++] = id;
    return true;
}

/* ---- the request's own text ---- */

/* Where the longest run of lo..hi newest tokens stood before, the latest such place: the index behind it. 0: nowhere. */
static int find_run(const int32_t *tok, int n, int lo, int hi) {
    int best = lo - 1, at = 0, first = MAX(1, n - SCAN);
    for (int p = n - 1; p >= first && best < hi; p--) {
        int m = 0;
        while (m < hi && m < p && tok[p - 1 - m] == tok[n - 1 - m]) m++;
        if (m <= best) continue;
        best = m;
        at = p;
    }
    return at;
}

/* A run that repeats itself up to the end goes on doing so: guesses are read as soon as they are written. */
static void draft_text(Engine *en, Req *r) {
    const Spec *s = &en->spec;
    int at = r->spec.want > 0 ? find_run(r->tok, r->n_tok, s->lo, s->hi) : 0;
    if (at > 0)
        while (spec__push(en, r, r->tok[at])) at++;
}

/* ---- how many ---- */

/* Rows that may still be added. */
static int rows_left(const Engine *en) {
    int used = 0, deepest = 0;
    double work = 0.0;
    for (int i = 0; i < en->n_run; i++) {
        const Req *r = en->run[i];
        used += r->n_rows;
        deepest = MAX(deepest, r->n_kv);
        work += pace_work(&en->pace, r->n_rows, r->n_kv);
    }
    for (int i = 0; i < en->n_branch; i++) {
        const Branch *b = &en->branch[i];
        used += b->n_rows;
        work += pace_work(&en->pace, b->n_rows, b->r->in.n_prompt);
    }
    int left = MIN(engine__max_rows(&en->o) - used, en->spec.max_draft);
    if (left <= 0) return 0;
    return pace_rows(&en->pace, work, deepest, 1e-3 * en->o.itl_target_ms, left);
}

/* Blocks for up to n more rows of r; the rows that fit. One block stays free for each sequence that runs. */
static int take_room(Engine *en, const Req *r, int n) {
    int end = r->n_kv + r->n_rows, have = kv_seq_n_blocks(en->pool, r->kv);
    int more = kv_blocks_for(end + n) - have;
    if (more <= 0) return n;
    if (kv_n_free(en->pool) >= more + en->n_run &&
        kv_seq_grow(en->pool, r->kv, end + n, NULL) == OK)
        return n;
    return MIN(n, have * KV_BLOCK_TOK - end);
}

/* Guesses that r may have, of `left` that the step may. */
static int wish(Engine *en, const Req *r, int left) {
    const SpecReq *q = &r->spec;
    if (engine__ask_is_pending(r)) return 0; /* what follows its rows is not its own text */
    if (q->off || q->wait > 0 || r->n_rows == 0 || r->n_kv + r->n_rows < r->n_tok) return 0;
    int n = MIN(MIN(q->len, left), r->max_tok - r->n_tok - 1);
    if (n <= 0) return 0;
    if (en->spec.back.forward) n = MIN(n, en->spec.ctx - r->n_tok);
    return MAX(take_room(en, r, n), 0);
}

void spec__draft(Engine *en) {
    Spec *s = &en->spec;
    if (s->k == 0 || s->broken) return;
    int left = rows_left(en);
    for (int i = 0; i < en->n_run; i++) {
        Req *r = en->run[i];
        r->spec.want = wish(en, r, left);
        if (r->spec.want > 0 && r->grammar &&
            grammar_state_copy(&r->spec.ahead, &r->place, NULL) != OK)
            r->spec.want = 0;
        if (!s->back.forward) draft_text(en, r);
        left -= s->back.forward ? r->spec.want : r->spec.n_draft;
    }
    if (s->back.forward) spec__model_draft(en);
    for (int i = 0; i < en->n_run; i++) en->run[i]->n_rows += en->run[i]->spec.n_draft;
}

/* ---- how it went ---- */

static void count(Metrics *m, int n_draft, int n_right) {
    metrics_add(&m->spec_drafts, 1);
    metrics_add(&m->spec_draft_tok, (uint64_t)n_draft);
    metrics_add(&m->spec_accepted_tok, (uint64_t)n_right);
    for (int i = 0; i < n_right; i++) metrics_add(&m->spec_accepted_at[i], 1);
}

void spec__learn(Engine *en, Req *r, int n_right) {
    SpecReq *q = &r->spec;
    int n = q->n_draft;
    if (q->wait > 0) q->wait--;
    q->n_draft = 0;
    if (n == 0) return;
    count(&en->m, n, n_right);
    en->n_wrong += n - n_right;
    q->len = n_right < n ? n_right + 1 : MIN(MAX(q->len, 2 * n), en->spec.k);
    if (n_right > 0) {
        q->n_miss = MAX(q->n_miss - 2, 0);
    } else {
        q->n_miss = MIN(q->n_miss + 1, MOST_MISSES);
        q->wait = (1 << q->n_miss) - 2;
    }
}
