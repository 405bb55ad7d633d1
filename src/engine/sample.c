/* SPDX-License-Identifier: Apache-2.0
 * The sampler from outside: what options may say, and the steps of one token. A row that nothing adjusts is
 * used where it lies; else it is copied into the scratch first. Greedy needs one pass over the row. */
#include "engine/sample.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "engine/sample_internal.h"

/* ---- options ---- */

/* zero_is_off: 0 is fine whatever `least` is. */
static Status check_num(const char *field, double v, double least, double most, bool zero_is_off,
                        Err *e) {
    if ((v >= least && v <= most) || (zero_is_off && v == 0)) return OK;
    return err_set(e, ERR_ARG, "%s %g is out of range: %s%g to %g", field, v,
                   zero_is_off ? "0 (off) or " : "", least, most);
}

static Status check_int(const char *field, int64_t v, int64_t most, Err *e) {
    if (v >= 0 && v <= most) return OK;
    return err_set(e, ERR_ARG, "%s %lld is out of range: 0 to %lld", field, (long long)v,
                   (long long)most);
}

static Status check_bias(const SampleOpts *o, int n_vocab, Err *e) {
    TRY(check_int("logit_bias entries", o->n_bias, SAMPLE_MAX_BIAS, e));
    for (int i = 0; i < o->n_bias; i++) {
        SampleBias b = o->bias[i];
        if (b.id < 0 || (n_vocab > 0 && b.id >= n_vocab))
            return err_set(e, ERR_ARG, "logit_bias: token %d is out of range: 0 to %d", b.id,
                           n_vocab > 0 ? n_vocab - 1 : INT32_MAX);
        if (!(b.bias >= -100 && b.bias <= 100))
            return err_set(e, ERR_ARG, "logit_bias of token %d, %g, is out of range: -100 to 100",
                           b.id, (double)b.bias);
        for (int j = 0; j < i; j++)
            if (o->bias[j].id == b.id)
                return err_set(e, ERR_ARG, "logit_bias: token %d is there twice", b.id);
    }
    return OK;
}

static Status check_stop_ids(const SampleOpts *o, int n_vocab, Err *e) {
    TRY(check_int("stop_token_ids entries", o->n_stop_ids, SAMPLE_MAX_STOP_IDS, e));
    for (int i = 0; i < o->n_stop_ids; i++) {
        int32_t id = o->stop_ids[i];
        if (id < 0 || (n_vocab > 0 && id >= n_vocab))
            return err_set(e, ERR_ARG, "stop_token_ids: token %d is out of range: 0 to %d", id,
                           n_vocab > 0 ? n_vocab - 1 : INT32_MAX);
    }
    return OK;
}

Status sample_check_vocab(const SampleOpts *o, int n_vocab, Err *e) {
    TRY(check_num("temperature", o->temp, 0, SAMPLE_MAX_TEMP, false, e));
    TRY(check_int("top_k", o->top_k, INT32_MAX, e));
    if (!(o->top_p > 0 && o->top_p <= 1))
        return err_set(e, ERR_ARG, "top_p %g is out of range: above 0, at most 1", o->top_p);
    TRY(check_num("min_p", o->min_p, 0, 1, false, e));
    TRY(check_num("typical_p", o->typical, 0, 1, false, e));
    TRY(check_num("repetition_penalty", o->repetition, 0.01, SAMPLE_MAX_REPETITION, true, e));
    TRY(check_int("repeat_last_n", o->repeat_last_n, INT32_MAX, e));
    TRY(check_num("presence_penalty", o->presence, -2, 2, false, e));
    TRY(check_num("frequency_penalty", o->frequency, -2, 2, false, e));
    TRY(check_bias(o, n_vocab, e));
    TRY(check_stop_ids(o, n_vocab, e));
    TRY(check_int("min_tokens", o->min_tokens, INT32_MAX, e));
    TRY(check_int("top_logprobs", o->top_logprobs, SAMPLE_MAX_TOP, e));
    if (o->top_logprobs > 0 && !o->logprobs)
        return err_set(e, ERR_ARG, "top_logprobs %d needs logprobs", (int)o->top_logprobs);
    return OK;
}

Status sample_check(const SampleOpts *o, Err *e) { return sample_check_vocab(o, 0, e); }

/* ---- memory ---- */

size_t sample_bytes(int n_vocab) {
    size_t n = (size_t)n_vocab, b = (size_t)sample__n_block(n_vocab);
    return sizeof(Sampler) + n * sizeof(Cand) + b * sizeof(uint64_t) + (n + b) * sizeof(float);
}

Sampler *sample_init(void *mem, int n_vocab, const Kern *kern) {
    Sampler *s = mem;
    s->kern = kern;
    s->cand = (Cand *)(s + 1);
    s->sum = (uint64_t *)(s->cand + n_vocab);
    s->row = (float *)(s->sum + sample__n_block(n_vocab));
    s->peak = s->row + n_vocab;
    return s;
}

/* ---- the row ---- */

/* Best of a row as the model gave it. */
static Status look(Row *r, const float *x, int n, float *peak, Err *e) {
    TRY(sample__look(r, x, n, peak, e));
    return r->best >= 0 ? OK : err_set(e, ERR_INTERNAL, "all %d logits are -inf", n);
}

/* row = x where the mask allows, else -inf; whether it allows any. Most words of a mask are all or nothing. */
static bool copy_masked(float *row, const float *x, int n, const uint32_t *mask) {
    bool any = false;
    for (int i = 0; i < n; i += 32) {
        uint32_t word = mask[i / 32];
        int len = MIN(32, n - i);
        if (word == UINT32_MAX) memcpy(row + i, x + i, (size_t)len * sizeof *row);
        else
            for (int j = 0; j < len; j++) row[i + j] = word >> j & 1 ? x[i + j] : -INFINITY;
        any |= (word & (UINT32_MAX >> (32 - len))) != 0;
    }
    return any;
}

static void ban(float *row, int n, const int32_t *ids, int n_ids) {
    for (int i = 0; i < n_ids; i++)
        if (ids[i] >= 0 && ids[i] < n) row[ids[i]] = -INFINITY;
}

static void add_bias(float *row, int n, const SampleBias *b, int n_bias) {
    for (int i = 0; i < n_bias; i++)
        if (b[i].id >= 0 && b[i].id < n)
            row[b[i].id] = sample__as_logit((double)row[b[i].id] + (double)b[i].bias);
}

static bool is_short(const SampleIn *in) { return in->n_out < in->o->min_tokens; }

static bool is_adjusted(const SampleIn *in) {
    const SampleOpts *o = in->o;
    return in->mask || in->n_ban > 0 || o->n_bias > 0 || (in->hist && sample_needs_hist(o)) ||
           (is_short(in) && in->n_end_ids + o->n_stop_ids > 0);
}

/* Steps 1 to 3: r becomes the adjusted copy. */
static Status adjust(Row *r, const SampleIn *in, Sampler *s, Err *e) {
    const SampleOpts *o = in->o;
    int n = in->n_vocab;
    if (!in->mask) memcpy(s->row, in->logits, (size_t)n * sizeof *s->row);
    else if (!copy_masked(s->row, in->logits, n, in->mask))
        return err_set(e, ERR_ARG, "the token mask allows none of %d tokens", n);
    ban(s->row, n, in->ban, in->n_ban);
    if (is_short(in)) {
        ban(s->row, n, in->end_ids, in->n_end_ids);
        ban(s->row, n, o->stop_ids, o->n_stop_ids);
    }
    add_bias(s->row, n, o->bias, o->n_bias);
    if (in->hist && sample_needs_hist(o)) sample__penalize(s->row, n, in->hist, o);
    TRY(sample__look(r, s->row, n, s->peak, e));
    if (r->best < 0)
        return err_set(e, ERR_ARG, "no token is left: mask, bans and logits of -inf exclude all %d",
                       n);
    return OK;
}

/* ---- log-probabilities ---- */

static void fill_top(SampleOut *out, const Row *r, int n_top, double norm, Sampler *s) {
    out->n_top = MIN(n_top, r->n);
    if (out->n_top <= 0) return;
    sample__best(r, out->n_top, s);
    for (int i = 0; i < out->n_top; i++)
        out->top[i] = (SampleTop){s->cand[i].id, (double)s->cand[i].logit - norm};
}

Status sample_score(SampleOut *out, const float *logits, int n_vocab, int32_t id, int n_top,
                    Sampler *s, Err *e) {
    Row r = {0};
    TRY(look(&r, logits, n_vocab, s->peak, e));
    double norm = sample__log_sum_exp(s->kern, logits, n_vocab, r.top);
    *out = (SampleOut){.id = id};
    fill_top(out, &r, MIN(n_top, SAMPLE_MAX_TOP), norm, s);
    if (id < 0) return OK;
    out->logprob = (double)logits[id] - norm;
    out->rank = sample__rank(logits, n_vocab, id);
    return OK;
}

/* ---- one token ---- */

Status sample_pick(SampleOut *out, const SampleIn *in, Sampler *s, Err *e) {
    const SampleOpts *o = in->o;
    SampleOut got = {0};
    double norm = 0;
    Row r = {0};
    TRY(look(&r, in->logits, in->n_vocab, s->peak, e));
    if (o->logprobs) {
        norm = sample__log_sum_exp(s->kern, in->logits, in->n_vocab, r.top);
        fill_top(&got, &r, (int)o->top_logprobs, norm, s);
    }
    if (is_adjusted(in)) TRY(adjust(&r, in, s, e));
    got.id = r.best;
    if (o->temp > 0)
        got.id = sample__draw(&r, o, rng_uniform(rng_key(o->seed, "sample"), 0, in->pos), s);
    if (o->logprobs) {
        got.logprob = (double)in->logits[got.id] - norm;
        got.rank = sample__rank(in->logits, in->n_vocab, got.id);
    }
    *out = got;
    return OK;
}

Status sample_next(int32_t *id, const float *logits, int n_vocab, const SampleOpts *o, uint64_t pos,
                   Sampler *s, Err *e) {
    SampleIn in = {.logits = logits, .n_vocab = n_vocab, .o = o, .pos = pos};
    SampleOut out;
    TRY(sample_pick(&out, &in, s, e));
    *id = out.id;
    return OK;
}
