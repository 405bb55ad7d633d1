/* SPDX-License-Identifier: Apache-2.0
 * Stop strings, each with the automaton of Knuth, Morris and Pratt (1977). After every byte it says how much
 * of its string the text ends with; the greatest such number is what has to be held back. What is held back
 * is then the beginning of that string, so there is no buffer. */
#include "engine/stop.h"

Status sample_stop_check(const Slice *strs, int n, Err *e) {
    if (n < 0 || n > SAMPLE_MAX_STOPS)
        return err_set(e, ERR_ARG, "%d stop strings, the limit is %d", n, SAMPLE_MAX_STOPS);
    for (int i = 0; i < n; i++) {
        if (strs[i].n == 0) return err_set(e, ERR_ARG, "stop string %d is empty", i);
        if (strs[i].n > SAMPLE_MAX_STOP_BYTES)
            return err_set(e, ERR_ARG, "stop string %d has %zu bytes, the limit is %d", i,
                           strs[i].n, SAMPLE_MAX_STOP_BYTES);
    }
    return OK;
}

size_t sample_stop_bytes(const Slice *strs, int n) {
    size_t bytes = 0;
    for (int i = 0; i < n; i++) bytes += 2 * strs[i].n;
    return bytes;
}

/* fail[i] = length of the longest proper end of text[0..i] that text begins with; below 256. */
static void build_fail(uint8_t *fail, const uint8_t *text, size_t n) {
    size_t k = 0;
    fail[0] = 0;
    for (size_t i = 1; i < n; i++) {
        while (k > 0 && text[i] != text[k]) k = fail[k - 1];
        if (text[i] == text[k]) k++;
        fail[i] = (uint8_t)k;
    }
}

void sample_stop_init(SampleStop *s, const Slice *strs, int n, bool include, void *mem) {
    uint8_t *at = mem;
    *s = (SampleStop){.n = n, .include = include};
    for (int i = 0; i < n; i++) {
        size_t len = strs[i].n;
        memcpy(at, strs[i].p, len);
        build_fail(at + len, at, len);
        s->s[i].text = at;
        s->s[i].fail = at + len;
        s->s[i].len = (uint16_t)len;
        at += 2 * len;
    }
}

/* The longest part of a string that the text ends with: which string, or -1. */
static int longest(const SampleStop *s) {
    int best = -1;
    for (int i = 0; i < s->n; i++)
        if (s->s[i].at > (best < 0 ? 0 : s->s[best].at)) best = i;
    return best;
}

/* One more byte for all strings: the longest that is complete with it, or -1. */
static int step(SampleStop *s, uint8_t c) {
    int done = -1;
    for (int i = 0; i < s->n; i++) {
        size_t k = s->s[i].at;
        while (k > 0 && s->s[i].text[k] != c) k = s->s[i].fail[k - 1];
        if (s->s[i].text[k] == c) k++;
        bool whole = k == s->s[i].len;
        if (whole && s->muted)
            k = s->s[i].fail[k - 1]; /* its end may be the beginning of another */
        s->s[i].at = (uint16_t)k;
        if (whole && !s->muted && (done < 0 || k > s->s[done].len)) done = i;
    }
    return done;
}

/* The first n bytes of what was held followed by the piece. */
static void put_joined(StrBuf *out, const uint8_t *held, size_t n_held, Slice piece, size_t n) {
    size_t head = MIN(n, n_held);
    if (head > 0) sb_put(out, held, head);
    if (n > head) sb_put(out, piece.p, n - head);
}

bool sample_stop_push(SampleStop *s, Slice piece, StrBuf *out) {
    if (s->hit) return true;
    int was = longest(s), done = -1;
    const uint8_t *held = was < 0 ? NULL : s->s[was].text;
    size_t n_held = was < 0 ? 0 : s->s[was].at, n = 0;
    while (n < piece.n && done < 0) done = step(s, (uint8_t)piece.p[n++]);
    int last = longest(s);
    size_t back = done >= 0 ? (s->include ? 0 : s->s[done].len) : last < 0 ? 0 : s->s[last].at;
    put_joined(out, held, n_held, piece, n_held + n - back);
    s->hit = done + 1;
    return s->hit > 0;
}

void sample_stop_finish(SampleStop *s, StrBuf *out) {
    int held = longest(s);
    if (!s->hit && held >= 0) sb_put(out, s->s[held].text, s->s[held].at);
    for (int i = 0; i < s->n; i++) s->s[i].at = 0;
}
