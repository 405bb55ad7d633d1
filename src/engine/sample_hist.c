/* SPDX-License-Identifier: Apache-2.0
 * Counts of the tokens that came so far. All tokens stand in order in tok[]; each distinct one has an entry
 * with its counts, found through an open-addressed table of entry numbers that is at most half full.
 * A penalty step walks the entries. Tokens are taken back newest first, so an entry that goes is always the
 * one that came last, in entry[] and in the table: emptying its slot cannot break the way to another. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/sample_internal.h"

typedef struct Entry {
    int32_t id;
    int n_all;    /* in tok[]: at least 1 */
    int n_window; /* among the newest `window` tokens */
    int n_output;
} Entry;

struct SampleHist {
    int max_tok, n_tok, n_prompt, n_entry;
    int window;     /* tokens that repetition looks at */
    uint32_t slots; /* power of two, at least 2 * max_tok */
    int32_t *tok;   /* [max_tok], behind this struct, as are the next two */
    int32_t *slot;  /* [slots] number of an entry + 1, or 0 */
    Entry *entry;   /* [max_tok] */
};

static size_t n_slots(int max_tok) {
    size_t n = 2;
    while (n < 2 * (size_t)max_tok) n *= 2;
    return n;
}

bool sample_needs_hist(const SampleOpts *o) {
    bool repetition = o->repetition > 0 && o->repetition != 1;
    return repetition || o->presence != 0 || o->frequency != 0;
}

size_t sample_hist_bytes(int max_tok) {
    size_t each = sizeof(int32_t) + sizeof(Entry);
    return sizeof(SampleHist) + (size_t)max_tok * each + n_slots(max_tok) * sizeof(int32_t);
}

SampleHist *sample_hist_init(void *mem, int max_tok, int64_t repeat_last_n) {
    SampleHist *h = mem;
    *h = (SampleHist){.max_tok = max_tok, .slots = (uint32_t)n_slots(max_tok)};
    h->window = repeat_last_n > 0 && repeat_last_n < max_tok ? (int)repeat_last_n : max_tok;
    h->slot = (int32_t *)(h + 1);
    h->tok = h->slot + h->slots;
    h->entry = (Entry *)(h->tok + max_tok);
    memset(h->slot, 0, h->slots * sizeof *h->slot);
    return h;
}

/* The slot of a token, or the empty one where it belongs. */
static int32_t *slot_of(const SampleHist *h, int32_t id) {
    uint32_t i = (uint32_t)id * 0x9E3779B1u;
    for (i ^= i >> 16;; i++) {
        int32_t *at = &h->slot[i & (h->slots - 1)];
        if (*at == 0 || h->entry[*at - 1].id == id) return at;
    }
}

/* Of a token that is in tok[]. */
static Entry *entry_of(SampleHist *h, int32_t id) { return &h->entry[*slot_of(h, id) - 1]; }

void sample_hist_push(SampleHist *h, int32_t id, bool is_output) {
    if (h->n_tok >= h->max_tok || id < 0) return;
    bool output = is_output || h->n_prompt < h->n_tok;
    if (h->n_tok >= h->window) entry_of(h, h->tok[h->n_tok - h->window])->n_window--;
    h->tok[h->n_tok++] = id;
    h->n_prompt += !output;
    int32_t *slot = slot_of(h, id);
    if (*slot == 0) {
        *slot = ++h->n_entry;
        h->entry[*slot - 1] = (Entry){.id = id};
    }
    Entry *t = &h->entry[*slot - 1];
    t->n_all++;
    t->n_window++;
    t->n_output += output;
}

/* Take back the newest token. */
static void pop(SampleHist *h) {
    int32_t *slot = slot_of(h, h->tok[--h->n_tok]);
    Entry *t = &h->entry[*slot - 1];
    bool output = h->n_tok >= h->n_prompt;
    t->n_all--;
    t->n_window--;
    t->n_output -= output;
    h->n_prompt -= !output;
    if (h->n_tok >= h->window) entry_of(h, h->tok[h->n_tok - h->window])->n_window++;
    if (t->n_all > 0) return;
    *slot = 0;
    h->n_entry--;
}

void sample_hist_truncate(SampleHist *h, int n) {
    while (h->n_tok > MAX(n, 0)) pop(h);
}

int sample_hist_n(const SampleHist *h) { return h->n_tok; }

int sample_hist_n_output(const SampleHist *h) { return h->n_tok - h->n_prompt; }

float sample__as_logit(double y) {
    if (y == -HUGE_VAL) return -INFINITY;
    return y > (double)FLT_MAX ? FLT_MAX : y < -(double)FLT_MAX ? -FLT_MAX : (float)y;
}

void sample__penalize(float *row, int n, const SampleHist *h, const SampleOpts *o) {
    for (int i = 0; i < h->n_entry; i++) {
        const Entry *t = &h->entry[i];
        if (t->id >= n) continue;
        double y = (double)row[t->id];
        if (t->n_window > 0 && o->repetition > 0) y = y > 0 ? y / o->repetition : y * o->repetition;
        if (t->n_output > 0) y -= o->frequency * t->n_output + o->presence;
        row[t->id] = sample__as_logit(y);
    }
}
