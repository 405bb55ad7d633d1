/* SPDX-License-Identifier: Apache-2.0
 * Duplicates. Exact ones by SHA-256. Near ones by MinHash over shingles of five tokens (Broder,
 * "On the resemblance and containment of documents", 1997): the share of equal places of two
 * signatures estimates the Jaccard similarity of the two sets of shingles. Locality-sensitive
 * hashing finds candidates: the signature is cut into bands, and documents that agree on a
 * whole band share a chain. Rows per band are as many as still find a pair at the threshold
 * with probability 0.9999.
 *
 * Memory per kept document: 512 bytes of signature, about 400 of chains, 64 of digests. One
 * thread. Tokens: runs of letters, digits, underscores and bytes above 0x7f; any other byte
 * that is not white space alone. So layout does not count. */
#include <math.h>

#include "data/internal.h"

enum { SHINGLE = 5 };

/* ---- signatures ---- */

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool is_word(unsigned char c) {
    return c >= 0x80 || c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static bool is_space(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Hash of the token at *pos, which moves behind it; false at the end. */
static bool next_token(Slice s, size_t *pos, uint64_t *hash) {
    size_t i = *pos;
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    while (i < s.n && is_space((unsigned char)s.p[i])) i++;
    if (i == s.n) return false;
    do {
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
        i++;
    } while (i < s.n && is_word((unsigned char)s.p[i - 1]) && is_word((unsigned char)s.p[i]));
    *pos = i;
    *hash = h;
    return true;
}

/* The k-th hash of a shingle is its low word plus k times its high word (Kirsch and Mitzenmacher,
 * "Less hashing, same performance", 2006), an addition each. Signed, because baseline x86-64 has a
 * vector comparison for signed numbers only; which order the least is in does not matter. */
static void sig_add(Sig *sig, uint64_t shingle) {
    uint32_t x = (uint32_t)shingle, step = (uint32_t)(shingle >> 32) | 1u;
    for (int k = 0; k < SIG_HASHES; k++) {
        int32_t h = (int32_t)x;
        sig->h[k] = h < sig->h[k] ? h : sig->h[k];
        x += step;
    }
}

static uint64_t shingle_hash(const uint64_t last[SHINGLE], size_t n) {
    uint64_t h = 0;
    for (size_t i = n > SHINGLE ? n - SHINGLE : 0; i < n; i++) {
        h = h * 0xd6e8feb86659fd93u + last[i % SHINGLE];
    }
    return mix64(h);
}

void data__sig(Sig *out, Slice text) {
    uint64_t last[SHINGLE] = {0}, tok;
    size_t pos = 0, n = 0;
    for (int k = 0; k < SIG_HASHES; k++) out->h[k] = INT32_MAX;
    while (next_token(text, &pos, &tok)) {
        last[n++ % SHINGLE] = tok;
        if (n >= SHINGLE) sig_add(out, shingle_hash(last, n));
    }
    if (n > 0 && n < SHINGLE) sig_add(out, shingle_hash(last, n));
}

double data__sig_similarity(const Sig *a, const Sig *b) {
    int n = 0;
    for (int k = 0; k < SIG_HASHES; k++) n += a->h[k] == b->h[k];
    return (double)n / SIG_HASHES;
}

/* ---- exact ---- */

static Sha256 *exact_slot(Sha256 *slot, size_t cap, const Sha256 *d) {
    static const Sha256 empty;
    uint64_t h;
    memcpy(&h, d->b, sizeof h);
    size_t i = (size_t)h & (cap - 1);
    while (memcmp(&slot[i], d, sizeof *d) != 0 && memcmp(&slot[i], &empty, sizeof empty) != 0) {
        i = (i + 1) & (cap - 1);
    }
    return &slot[i];
}

static Status exact_grow(ExactSet *s, Err *e) {
    static const Sha256 empty;
    size_t cap = s->cap ? 2 * s->cap : 1024;
    Sha256 *slot = mem_new_n(Sha256, cap);
    if (!slot) return err_set(e, ERR_NOMEM, "digests of %zu documents", cap / 2);
    for (size_t i = 0; i < s->cap; i++) {
        if (memcmp(&s->slot[i], &empty, sizeof empty) != 0)
            *exact_slot(slot, cap, &s->slot[i]) = s->slot[i];
    }
    mem_free(s->slot);
    s->slot = slot;
    s->cap = cap;
    return OK;
}

Status data__exact_add(ExactSet *s, const Sha256 *d, bool *was_there, Err *e) {
    if (2 * s->n >= s->cap) TRY(exact_grow(s, e));
    Sha256 *slot = exact_slot(s->slot, s->cap, d);
    *was_there = memcmp(slot, d, sizeof *d) == 0;
    if (!*was_there) s->n++;
    *slot = *d;
    return OK;
}

void data__exact_deinit(ExactSet *s) {
    mem_free(s->slot);
    *s = (ExactSet){0};
}

/* ---- near ---- */

/* Chance that two documents of similarity t agree on at least one band of `rows`. */
static double band_hit(double t, int rows) {
    double p = pow(t, (double)rows);
    return 1.0 - pow(1.0 - p, (double)(SIG_HASHES / rows));
}

void data__near_init(NearSet *s, double threshold) {
    *s = (NearSet){.threshold = threshold, .rows = 16};
    while (s->rows > 1 && band_hit(threshold, s->rows) < 0.9999) s->rows /= 2;
    s->bands = SIG_HASHES / s->rows;
}

void data__near_deinit(NearSet *s) {
    mem_free(s->sig);
    mem_free(s->next);
    mem_free(s->stamp);
    mem_free(s->head);
    *s = (NearSet){0};
}

static uint32_t *chain(const NearSet *s, uint32_t *head, size_t n_head, const Sig *sig, int band) {
    uint64_t h = (uint64_t)band;
    for (int r = 0; r < s->rows; r++) h = mix64(h ^ (uint32_t)sig->h[band * s->rows + r]);
    return &head[h & (n_head - 1)];
}

static void link_doc(const NearSet *s, uint32_t *head, size_t n_head, size_t doc) {
    for (int b = 0; b < s->bands; b++) {
        uint32_t *c = chain(s, head, n_head, &s->sig[doc], b);
        uint32_t node = (uint32_t)(doc * (size_t)s->bands + (size_t)b);
        s->next[node] = *c;
        *c = node + 1;
    }
}

static bool same_band(const NearSet *s, const Sig *a, const Sig *b, int band) {
    size_t at = (size_t)band * (size_t)s->rows;
    return memcmp(a->h + at, b->h + at, (size_t)s->rows * sizeof a->h[0]) == 0;
}

static bool find_in_band(NearSet *s, const Sig *sig, int band) {
    uint32_t link = *chain(s, s->head, s->n_head, sig, band);
    for (; link; link = s->next[link - 1]) {
        uint32_t doc = (link - 1) / (uint32_t)s->bands, b = (link - 1) % (uint32_t)s->bands;
        if (b != (uint32_t)band || s->stamp[doc] == s->search) continue;
        if (!same_band(s, &s->sig[doc], sig, band)) continue;
        s->stamp[doc] = s->search;
        if (data__sig_similarity(&s->sig[doc], sig) >= s->threshold) return true;
    }
    return false;
}

bool data__near_find(NearSet *s, const Sig *sig) {
    if (s->n == 0) return false;
    if (++s->search == 0) { /* stamps of 2^32 searches ago would count as ours */
        memset(s->stamp, 0, s->cap * sizeof *s->stamp);
        s->search = 1;
    }
    for (int b = 0; b < s->bands; b++) {
        if (find_in_band(s, sig, b)) return true;
    }
    return false;
}

static Status near_grow_docs(NearSet *s, Err *e) {
    size_t cap = s->cap ? 2 * s->cap : 256;
    if (cap > UINT32_MAX / (size_t)s->bands) {
        return err_set(e, ERR_FULL, "near-duplicate index: %zu documents are the limit", s->cap);
    }
    Sig *sig = mem_realloc_n(s->sig, cap, sizeof *sig);
    if (sig) s->sig = sig;
    uint32_t *next = mem_realloc_n(s->next, cap * (size_t)s->bands, sizeof *next);
    if (next) s->next = next;
    uint32_t *stamp = mem_realloc_n(s->stamp, cap, sizeof *stamp);
    if (stamp) s->stamp = stamp;
    if (!sig || !next || !stamp) return err_set(e, ERR_NOMEM, "signatures of %zu documents", cap);
    memset(s->stamp + s->cap, 0, (cap - s->cap) * sizeof *stamp);
    s->cap = cap;
    return OK;
}

/* Chains are one node long on average when there are as many heads as nodes. */
static Status near_grow_heads(NearSet *s, Err *e) {
    size_t n_head = 1024;
    while (n_head < s->cap * (size_t)s->bands) n_head *= 2;
    if (n_head <= s->n_head) return OK;
    uint32_t *head = mem_new_n(uint32_t, n_head);
    if (!head) return err_set(e, ERR_NOMEM, "%zu chains of signatures", n_head);
    for (size_t d = 0; d < s->n; d++) link_doc(s, head, n_head, d);
    mem_free(s->head);
    s->head = head;
    s->n_head = n_head;
    return OK;
}

Status data__near_add(NearSet *s, const Sig *sig, Err *e) {
    if (s->n == s->cap) TRY(near_grow_docs(s, e));
    TRY(near_grow_heads(s, e));
    s->sig[s->n] = *sig;
    link_doc(s, s->head, s->n_head, s->n);
    s->n++;
    return OK;
}
