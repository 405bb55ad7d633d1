/* SPDX-License-Identifier: Apache-2.0
 * Requests that want more of the prompt than what comes after it; ask.h says what there is.
 *
 * Row p of a request (its token at position p) is wanted for its logits, which are about the token at p + 1, for
 * its hidden state, or for neither. After a step the wanted ones among its rows are taken out of the pass, as many
 * at a time as there is room for logits, and n_told moves on. A preempted request computes rows again, but none
 * before n_told is looked at twice, and as n_told and the sums stay, it goes on where it was.
 *
 * A choice stands behind the prompt in the same KV places: when it is read, the next one takes its place (n_kv goes
 * back to the prompt's end), so blocks behind the prompt never become findable. Where there is room, those that come
 * after it are read in the same step, each in a sequence that shares the prompt's blocks and lasts for this step (a
 * branch), so that many choices cost few passes. The last prompt row's logits score the first token of every choice,
 * and the last token of a choice is never read: choices of one token cost no rows at all. Engine thread, but for what
 * engine_submit calls. */
#include "engine/ask.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "engine/internal.h"
#include "engine/sample_internal.h"

struct Ask {
    EngineAsk in; /* [const] choices: own copies */
    int C;        /* [const] width of a hidden state */
    int n_told; /* rows of positions before it are told, of the prompt or of the choice that is read */
    int i_choice;    /* the one that stands behind the prompt */
    bool over;       /* all was told */
    double *sum;     /* [C] pooled so far */
    float *pooled;   /* [C] */
    AskScore *score; /* [n_choices] */
    double *logprob; /* of all choices' tokens, one choice after another */
};

/* ---- coming ---- */

static Status check_choices(const Engine *en, const EngineReq *r, Err *e) {
    const EngineAsk *a = r->ask;
    int most = en->o.max_ctx + 1 - r->n_prompt; /* the last token is never read */
    if (a->n_choices < 0 || a->n_choices > ASK_MAX_CHOICES)
        return err_set(e, ERR_ARG, "%d choices are out of range: 0 to %d", a->n_choices,
                       ASK_MAX_CHOICES);
    if (a->n_choices > 0 && r->max_new != 0)
        return err_set(e, ERR_ARG, "choices and max_new %d: it has to be 0", r->max_new);
    for (int i = 0; i < a->n_choices; i++) {
        const AskChoice *c = &a->choices[i];
        if (c->n < 1 || c->n > most)
            return err_set(e, ERR_ARG, "choice %d has %d tokens, 1 to %d fit", i, c->n, most);
        for (int k = 0; k < c->n; k++)
            if (c->tok[k] < 0 || c->tok[k] >= en->n_vocab)
                return err_set(e, ERR_ARG, "choice %d, token %d is %d, the vocabulary has %d", i, k,
                               c->tok[k], en->n_vocab);
    }
    return OK;
}

/* A token that cannot be chosen has no probability. */
static Status check_prompt(const Engine *en, const EngineReq *r, Err *e) {
    for (int i = 1; i < r->n_prompt; i++)
        if (r->prompt[i] >= en->n_vocab)
            return err_set(e, ERR_ARG, "prompt token %d is %d, the vocabulary has %d", i,
                           r->prompt[i], en->n_vocab);
    return OK;
}

Status engine__ask_check(const Engine *en, const EngineReq *r, Err *e) {
    const EngineAsk *a = r->ask;
    if (!a->prompt_logprobs && !a->pool && a->n_choices == 0 && r->max_new == 0)
        return err_set(e, ERR_ARG, "max_new 0, and nothing else is asked for");
    if (a->prompt_top < 0 || a->prompt_top > SAMPLE_MAX_TOP)
        return err_set(e, ERR_ARG, "prompt_top %d is out of range: 0 to %d", a->prompt_top,
                       SAMPLE_MAX_TOP);
    if (a->pool < ASK_POOL_NONE || a->pool > ASK_POOL_FIRST)
        return err_set(e, ERR_ARG, "pool %d is out of range: 0 to %d", (int)a->pool,
                       ASK_POOL_FIRST);
    TRY(check_choices(en, r, e));
    return a->prompt_logprobs ? check_prompt(en, r, e) : OK;
}

int engine__ask_longest(const EngineReq *r) {
    int n = 0;
    for (int i = 0; r->ask && i < r->ask->n_choices; i++) n = MAX(n, r->ask->choices[i].n);
    return n;
}

/* Space for everything in one piece, widest elements first. */
static Ask *alloc_ask(const EngineAsk *in, int C, int n_tok) {
    size_t wide = in->pool ? (size_t)C : 0, k = (size_t)in->n_choices, n = (size_t)n_tok;
    Ask *a = mem_alloc_n(1, sizeof *a + k * (sizeof(AskScore) + sizeof(AskChoice)) +
                                (n + wide) * sizeof(double) + wide * sizeof(float) +
                                n * sizeof(int32_t));
    if (!a) return NULL;
    *a = (Ask){.in = *in, .C = C, .i_choice = -1};
    a->score = (AskScore *)(a + 1);
    AskChoice *choices = (AskChoice *)(a->score + k);
    a->logprob = (double *)(choices + k);
    a->sum = a->logprob + n;
    a->pooled = (float *)(a->sum + wide);
    int32_t *tok = (int32_t *)(a->pooled + wide);
    double *lp = a->logprob;
    for (size_t i = 0; i < k; i++) {
        AskChoice c = in->choices[i];
        choices[i] = (AskChoice){tok, c.n};
        a->score[i] = (AskScore){.n = c.n, .tok_logprob = lp};
        memcpy(tok, c.tok, (size_t)c.n * sizeof *tok);
        tok += c.n;
        lp += c.n;
    }
    a->in.choices = choices;
    for (size_t i = 0; i < wide; i++) a->sum[i] = 0.0;
    return a;
}

/* The next choice that has tokens to be read is put behind the prompt; false: there is none. */
static bool next_choice(Req *r) {
    Ask *a = r->ask;
    while (++a->i_choice < a->in.n_choices) {
        AskChoice c = a->in.choices[a->i_choice];
        if (c.n < 2) continue;
        memcpy(r->tok + r->in.n_prompt, c.tok, (size_t)c.n * sizeof *c.tok);
        r->n_tok = r->in.n_prompt + c.n - 1;
        return true;
    }
    r->n_tok = r->in.n_prompt;
    return false;
}

Status engine__ask_new(Req *r, const Engine *en, const EngineAsk *in, Err *e) {
    int64_t n_tok = 0;
    for (int i = 0; i < in->n_choices; i++) n_tok += in->choices[i].n;
    if (n_tok > INT32_MAX)
        return err_set(e, ERR_ARG, "choices of %lld tokens, at most %d", (long long)n_tok,
                       INT32_MAX);
    r->ask = alloc_ask(in, en->C, (int)n_tok);
    if (!r->ask)
        return err_set(e, ERR_NOMEM, "request with %d choices of %d tokens", in->n_choices,
                       (int)n_tok);
    next_choice(r);
    return OK;
}

void engine__ask_free(Ask *a) { mem_free(a); }

/* ---- which rows ---- */

static bool wants_logits(const Req *r, int p) {
    const EngineAsk *a = &r->ask->in;
    return p < r->in.n_prompt - 1 ? a->prompt_logprobs : a->n_choices > 0;
}

static bool wants_hidden(const Req *r, int p) {
    switch (r->ask->in.pool) {
    case ASK_POOL_LAST: return p == r->in.n_prompt - 1;
    case ASK_POOL_MEAN: return p < r->in.n_prompt;
    case ASK_POOL_FIRST: return p == 0;
    default: return false;
    }
}

/* Position of the first wanted row that is not told; n_tok: there is none. */
static int first_wanted(const Req *r) {
    int p = r->ask->n_told;
    while (p < r->n_tok && !wants_logits(r, p) && !wants_hidden(r, p)) p++;
    return p;
}

int engine__ask_reusable(const Req *r) {
    if (!r->ask) return r->n_tok;
    int p = first_wanted(r);
    return r->ask->in.n_choices > 0 ? MIN(p, r->in.n_prompt) : p;
}

int engine__ask_committable(const Req *r, int n) {
    return r->ask && r->ask->in.n_choices > 0 ? MIN(n, r->in.n_prompt) : n;
}

bool engine__ask_is_dense(const Req *r) {
    return r->ask && r->ask->in.prompt_logprobs && r->n_kv < r->in.n_prompt - 1;
}

bool engine__ask_is_pending(const Req *r) { return r->ask && !r->ask->over; }

bool engine__ask_in_step(const Req *r) {
    if (!engine__ask_is_pending(r) || r->n_rows == 0) return false;
    int end = r->n_kv + r->n_rows;
    return end == r->n_tok || first_wanted(r) < end;
}

int engine__ask_n_logits(const Req *r) {
    int n = 0;
    if (!engine__ask_is_pending(r)) return 0;
    for (int p = MAX(r->n_kv, r->ask->n_told); p < r->n_kv + r->n_rows; p++)
        n += wants_logits(r, p);
    return n;
}

/* ---- branches ---- */

const int32_t *engine__ask_choice(const Req *r, int i) { return r->ask->in.choices[i].tok; }

/* Whether this step reads the rest of a choice of r, whose prompt is behind it. */
static bool ends_choice(const Req *r) {
    return engine__ask_is_pending(r) && r->ask->in.n_choices > 0 && r->n_rows > 0 &&
           r->n_kv >= r->in.n_prompt && r->n_kv + r->n_rows == r->n_tok;
}

/* n rows of a choice in a sequence of its own, in blocks that leave one free for each sequence that runs. What the
 * prompt's last block holds is copied before this step writes behind it. */
static bool open_branch(Engine *en, Req *r, int i_choice, int n) {
    int from = r->in.n_prompt, need = kv_blocks_for(from + n) - from / KV_BLOCK_TOK;
    int32_t src = -1, dst = -1;
    if (en->n_branch == engine__max_branches(&en->o) || need + en->n_run > kv_n_free(en->pool))
        return false;
    int kv = kv_seq_open(en->pool, NULL);
    if (kv < 0) return false; /* never: there are as many as places */
    kv_seq_share(en->pool, kv, r->kv, from);
    if (kv_seq_grow(en->pool, kv, from + n, NULL) != OK ||
        kv_seq_own(en->pool, kv, from, &src, &dst, NULL) != OK) { /* never: they were counted */
        kv_seq_release(en->pool, kv);
        return false;
    }
    if (src >= 0 && en->back.kv_copy) en->back.kv_copy(en->back.ctx, dst, src);
    en->branch[en->n_branch++] = (Branch){.r = r, .kv = kv, .i_choice = i_choice, .n_rows = n};
    return true;
}

int engine__ask_branch(Engine *en, Req *r, int left) {
    int used = 0;
    if (!ends_choice(r)) return 0;
    const EngineAsk *a = &r->ask->in;
    for (int i = r->ask->i_choice + 1; i < a->n_choices; i++) {
        int n = a->choices[i].n - 1;
        if (n == 0) continue; /* the prompt's last row was about it */
        if (n > left - used || !open_branch(en, r, i, n)) break;
        used += n;
    }
    return used;
}

void engine__ask_drop_branches(Engine *en, const Req *r) {
    for (int i = 0; i < en->n_branch; i++) {
        Branch *b = &en->branch[i];
        if (!b->r || (r && b->r != r)) continue;
        kv_seq_release(en->pool, b->kv);
        if (en->uses) en->uses[b->i_seq] = (LoraUse){0};
        b->r = NULL;
    }
    if (!r) en->n_branch = 0;
}

/* ---- results of a row ---- */

static bool is_cancelled(const Req *r) {
    return atomic_load_explicit(&r->cancelled, memory_order_relaxed);
}

static Status tell_prompt(Engine *en, Req *r, int p, const float *logits, Err *e) {
    const EngineAsk *a = &r->ask->in;
    SampleOut out;
    TRY(sample_score(&out, logits, en->n_vocab, r->tok[p + 1], a->prompt_top, en->sampler[0], e));
    if (a->on_prompt && !is_cancelled(r)) a->on_prompt(r->in.ctx, p + 1, &out);
    return OK;
}

/* log of the sum that a row's probabilities are shares of. */
static Status log_norm(double *norm, const Engine *en, const float *logits, Err *e) {
    Row row = {0};
    TRY(sample__look(&row, logits, en->n_vocab, NULL, e));
    if (row.best < 0) return err_set(e, ERR_INTERNAL, "all %d logits are -inf", en->n_vocab);
    *norm = sample__log_sum_exp(en->back.host.kern, logits, en->n_vocab, row.top);
    return OK;
}

/* Token k of choices from .. to - 1, which a row is about. */
static Status score_choices(Engine *en, Ask *a, int from, int to, int k, const float *logits,
                            Err *e) {
    double norm = 0.0;
    TRY(log_norm(&norm, en, logits, e));
    for (int i = from; i < to; i++) {
        double *lp = a->logprob + (a->score[i].tok_logprob - a->logprob);
        lp[k] = (double)logits[a->in.choices[i].tok[k]] - norm;
    }
    return OK;
}

/* The last prompt row is about the first token of each choice, a later one about the next of its own. */
static Status use_logits(Engine *en, Req *r, int p, const float *x, Err *e) {
    Ask *a = r->ask;
    int k = p + 1 - r->in.n_prompt;
    if (k < 0) return tell_prompt(en, r, p, x, e);
    if (k == 0) return score_choices(en, a, 0, a->in.n_choices, 0, x, e);
    return score_choices(en, a, a->i_choice, a->i_choice + 1, k, x, e);
}

/* Rows come in the order of their positions, whatever the chunks: the sum has one order of additions. */
static Status use_hidden(Engine *en, Req *r, int p, const float *x, Err *e) {
    Ask *a = r->ask;
    (void)en, (void)p, (void)e;
    for (int i = 0; i < a->C; i++) a->sum[i] += (double)x[i];
    return OK;
}

/* ---- after a step ---- */

typedef struct Source {
    bool (*wants)(const Req *r, int p);
    Status (*get)(void *ctx, const Batch *b, const float **x, Err *e);
    Status (*use)(Engine *en, Req *r, int p, const float *x, Err *e);
    int width;
} Source;

/* Give the wanted rows from position p on to s->use, max_seqs at a time. */
static AskEnd take(Engine *en, Req *r, const Source *s, int p, Err *e) {
    int end = r->n_kv + r->n_rows, base = r->row0 - r->n_kv;
    while (p < end) {
        Batch b = en->batch;
        const float *x = NULL;
        for (b.n_out = 0; p < end && b.n_out < en->o.max_seqs; p++)
            if (s->wants(r, p)) en->out[b.n_out++] = base + p;
        if (b.n_out == 0) break;
        if (s->get(en->back.ctx, &b, &x, e) != OK) return ASK_LOST;
        for (int i = 0; i < b.n_out; i++)
            if (s->use(en, r, en->out[i] - base, x + (size_t)i * (size_t)s->width, e) != OK)
                return ASK_FAILED;
    }
    return ASK_GOES_ON;
}

/* Row k of branch b is about token k of its choice, from 1 on. */
typedef struct BranchRow {
    int b, k;
} BranchRow;

/* The next row of r's branches; false: that was the last. */
static bool next_row(const Engine *en, const Req *r, BranchRow *at) {
    for (at->k++; at->b < en->n_branch; at->b++, at->k = 1)
        if (en->branch[at->b].r == r && at->k <= en->branch[at->b].n_rows) return true;
    return false;
}

/* Score the choices in r's branches, max_seqs rows at a time; the last of them is the one that was read last. */
static AskEnd take_branches(Engine *en, Req *r, Err *e) {
    BranchRow at = {0, 0};
    for (bool more = next_row(en, r, &at); more;) {
        Batch b = en->batch;
        BranchRow told = at;
        const float *x = NULL;
        for (b.n_out = 0; more && b.n_out < en->o.max_seqs; more = next_row(en, r, &at))
            en->out[b.n_out++] = en->branch[at.b].row0 + at.k - 1;
        if (en->back.logits(en->back.ctx, &b, &x, e) != OK) return ASK_LOST;
        for (int i = 0; i < b.n_out; i++, next_row(en, r, &told), x += en->V) {
            int c = r->ask->i_choice = en->branch[told.b].i_choice;
            if (score_choices(en, r->ask, c, c + 1, told.k, x, e) != OK) return ASK_FAILED;
        }
    }
    return ASK_GOES_ON;
}

static AskEnd tell_pooled(Req *r, Err *e) {
    Ask *a = r->ask;
    double n = a->in.pool == ASK_POOL_MEAN ? (double)r->in.n_prompt : 1.0, sq = 0.0;
    for (int i = 0; i < a->C; i++) sq += (a->sum[i] / n) * (a->sum[i] / n);
    if (!isfinite(sq)) {
        err_set(e, ERR_INTERNAL, "a hidden state is not a number: the model's weights are broken");
        return ASK_FAILED;
    }
    double by = a->in.normalize && sq > 0.0 ? n * sqrt(sq) : n;
    for (int i = 0; i < a->C; i++) a->pooled[i] = (float)(a->sum[i] / by);
    if (a->in.on_pooled && !is_cancelled(r)) a->in.on_pooled(r->in.ctx, a->pooled, a->C);
    return ASK_GOES_ON;
}

static void tell_choices(Req *r) {
    Ask *a = r->ask;
    double best = -HUGE_VAL, total = 0.0;
    for (int i = 0; i < a->in.n_choices; i++) {
        AskScore *s = &a->score[i];
        for (int k = 0; k < s->n; k++) s->logprob += s->tok_logprob[k];
        best = MAX(best, s->logprob);
    }
    for (int i = 0; i < a->in.n_choices; i++) {
        AskScore *s = &a->score[i]; /* none has any probability: all have the same share */
        s->prob = isfinite(best) ? exp(s->logprob - best) : 1.0;
        total += s->prob;
    }
    for (int i = 0; i < a->in.n_choices; i++) a->score[i].prob /= total;
    if (a->in.on_choices && !is_cancelled(r))
        a->in.on_choices(r->in.ctx, a->score, a->in.n_choices);
}

AskEnd engine__ask_step(Engine *en, Req *r, Err *e) {
    Ask *a = r->ask;
    int from = MAX(r->n_kv, a->n_told), end = r->n_kv + r->n_rows, n_prompt = r->in.n_prompt;
    const Source logits = {wants_logits, en->back.logits, use_logits, en->V};
    const Source hidden = {wants_hidden, en->back.hidden, use_hidden, en->C};
    AskEnd st = take(en, r, &logits, from, e);
    if (st == ASK_GOES_ON) st = take_branches(en, r, e);
    if (st == ASK_GOES_ON) st = take(en, r, &hidden, from, e);
    if (st == ASK_GOES_ON && a->in.pool && from < n_prompt && end >= n_prompt)
        st = tell_pooled(r, e);
    if (st != ASK_GOES_ON) return st;
    a->n_told = MAX(a->n_told, end);
    if (end < r->n_tok) return ASK_GOES_ON;
    if (next_choice(r)) {
        a->n_told = n_prompt;
        return ASK_AGAIN;
    }
    if (a->in.n_choices > 0) tell_choices(r);
    a->over = true;
    return r->in.max_new > 0 ? ASK_GENERATES : ASK_DONE;
}
