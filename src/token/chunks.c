/* SPDX-License-Identifier: Apache-2.0
 *
 * The walk over a text, chunk by chunk. Every pass is a stage that cuts the piece it was given; a stage
 * that is through asks the one before for the next piece, so nothing is ever stored. What a pattern
 * leaves out between two matches is a piece of its own, and so is the rest of a piece once a match limit
 * is reached: any bytes can be encoded. Ill-formed UTF-8 never meets a pass.
 */
#include "text/utf8.h"
#include "token/internal.h"

Status tok__splitter_init(Splitter *s, const Pass *p, Err *e) {
    *s = (Splitter){.scan = p->scan};
    return p->scan ? OK : regex_new(&s->re, p->pattern, e);
}

void tok__chunks_init(Chunks *c, const Splitter *pass, int n_pass, RegexScratch *const *sc,
                      Slice text) {
    c->pass = pass;
    c->n_pass = n_pass;
    c->text = text;
    c->pos = 0;
    for (int i = 0; i < n_pass; i++) c->stage[i] = (Stage){.sc = sc ? sc[i] : NULL};
}

/* End of the run of ill-formed bytes at pos. */
static size_t bad_end(Slice s, size_t pos) {
    uint32_t cp;
    while (pos < s.n && utf8_decode(&cp, s.p + pos, s.n - pos) == 0) pos++;
    return pos;
}

/* The match at or after pos, none: [n, n). An empty one counts where it cuts something off. */
static void find_match(const Splitter *p, Stage *s, size_t pos) {
    size_t b = 0, e = 0, from = pos;
    uint32_t cp;
    bool found = regex_find(p->re, s->sc, s->text, from, &b, &e);
    while (found && b == e && b == pos && b < s->text.n) {
        from = b + (size_t)utf8_decode(&cp, s->text.p + b, s->text.n - b);
        found = regex_find(p->re, s->sc, s->text, from, &b, &e);
    }
    s->match_b = found ? b : s->text.n;
    s->match_e = found ? e : s->text.n;
}

/* End of the match or gap that starts at pos. */
static size_t segment_end(const Splitter *p, Stage *s, size_t pos, bool *is_match) {
    if (pos >= s->match_e) find_match(p, s, pos);
    *is_match = pos >= s->match_b;
    return *is_match ? s->match_e : s->match_b;
}

/* End of the piece at s->pos; *drop if it is not to be given. */
static size_t piece_end(const Splitter *p, Stage *s, bool *drop) {
    bool first, next;
    *drop = false;
    if (p->scan) return p->scan(s->text.p, s->text.n, s->pos);
    size_t end = segment_end(p, s, s->pos, &first), more;
    *drop = p->mode == SPLIT_REMOVED && first != p->invert;
    bool alone = p->mode == SPLIT_ISOLATED || p->mode == SPLIT_REMOVED || end == s->text.n;
    while (!alone) {
        more = segment_end(p, s, end, &next);
        bool a = first != p->invert, b = next != p->invert;
        bool join = p->mode == SPLIT_WITH_PREVIOUS ? !a && b
                    : p->mode == SPLIT_WITH_NEXT   ? a && !b
                                                   : a == b;
        alone = !join || p->mode != SPLIT_CONTIGUOUS || more == s->text.n;
        if (join) end = more;
        first = next;
    }
    return end;
}

/* The next piece of stage k. */
static bool stage_next(Chunks *c, int k, Slice *out) {
    Stage *s = &c->stage[k];
    for (bool drop = true; drop;) {
        while (s->pos == s->text.n) {
            if (k == 0 || !stage_next(c, k - 1, &s->text)) return false;
            s->pos = s->match_b = s->match_e = 0;
        }
        size_t end = piece_end(&c->pass[k], s, &drop);
        *out = (Slice){s->text.p + s->pos, end - s->pos};
        s->pos = end;
    }
    return true;
}

/* The next stretch of well-formed or of ill-formed bytes. */
static ChunkKind stretch_next(Chunks *c, Slice *out) {
    if (c->pos == c->text.n) return CHUNK_END;
    size_t end = c->pos + utf8_valid_prefix((Slice){c->text.p + c->pos, c->text.n - c->pos});
    ChunkKind kind = end > c->pos ? CHUNK_TEXT : CHUNK_BYTES;
    if (kind == CHUNK_BYTES) end = bad_end(c->text, c->pos);
    *out = (Slice){c->text.p + c->pos, end - c->pos};
    c->pos = end;
    return kind;
}

ChunkKind tok__chunk_next(Chunks *c, Slice *out) {
    if (c->n_pass == 0) return stretch_next(c, out);
    while (!stage_next(c, c->n_pass - 1, out)) {
        Slice stretch = {0};
        ChunkKind kind = stretch_next(c, &stretch);
        if (kind == CHUNK_TEXT) {
            Stage *s = &c->stage[0];
            *s = (Stage){.sc = s->sc, .text = stretch};
            continue;
        }
        if (kind != CHUNK_END) *out = stretch;
        return kind;
    }
    return CHUNK_TEXT;
}
