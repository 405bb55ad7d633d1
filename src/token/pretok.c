/* SPDX-License-Identifier: Apache-2.0
 *
 * Pre-tokenizers: one row per value of tokenizer.ggml.pre, and the walk over a text. What the pattern
 * leaves out between two matches is a chunk of its own, and so is the rest of a text once a match limit
 * is reached: any bytes can be encoded. Ill-formed UTF-8 never meets the pattern.
 */
#include "text/utf8.h"
#include "token/internal.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CL100K(digits)                                                                        \
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+" \
    "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const PreTok rows[] = {
    {"default", GPT2, tok__scan_gpt2, false, false},
    {"gpt-2", GPT2, tok__scan_gpt2, false, false},
    {"phi-2", GPT2, tok__scan_gpt2, false, false},
    {"llama-bpe", CL100K("\\p{N}{1,3}"), tok__scan_llama3, true, true},
    {"qwen2", CL100K("\\p{N}"), tok__scan_qwen2, false, false},
    {"deepseek-r1-qwen", CL100K("\\p{N}"), tok__scan_qwen2, false, false},
};

const PreTok *tok__pretok_find(Slice name) {
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (slice_eq_str(name, rows[i].name)) return &rows[i];
    }
    return NULL;
}

/* End of the run of ill-formed bytes at pos. */
static size_t bad_end(Slice s, size_t pos) {
    uint32_t cp;
    while (pos < s.n && utf8_decode(&cp, s.p + pos, s.n - pos) == 0) pos++;
    return pos;
}

/* Next match that is not empty, into match_b, match_e; none: both at the end of the stretch. */
static void find_match(Chunks *c) {
    Slice s = {c->text.p + c->valid_b, c->valid_e - c->valid_b};
    size_t b = 0, e = 0, from = c->pos - c->valid_b;
    uint32_t cp;
    bool found = regex_find(c->re, c->sc, s, from, &b, &e);
    while (found && b == e && b < s.n) {
        from = b + (size_t)utf8_decode(&cp, s.p + b, s.n - b);
        found = regex_find(c->re, c->sc, s, from, &b, &e);
    }
    c->match_b = found ? c->valid_b + b : c->valid_e;
    c->match_e = found ? c->valid_b + e : c->valid_e;
}

/* End of the chunk at pos: a gap first, then the match behind it. */
static size_t pattern_end(Chunks *c) {
    if (c->pos >= c->match_e) find_match(c);
    return c->pos < c->match_b ? c->match_b : c->match_e;
}

ChunkKind tok__chunk_next(Chunks *c, Slice *out) {
    size_t end;
    ChunkKind kind = CHUNK_TEXT;
    if (c->pos == c->text.n) return CHUNK_END;
    if (c->pos == c->valid_e) {
        c->valid_b = c->pos;
        c->valid_e += utf8_valid_prefix((Slice){c->text.p + c->pos, c->text.n - c->pos});
        c->match_b = c->match_e = c->pos;
    }
    if (c->pos == c->valid_e) {
        c->valid_e = end = bad_end(c->text, c->pos);
        kind = CHUNK_BYTES;
    } else if (c->re) {
        end = pattern_end(c);
    } else {
        end = c->pos + c->pre->scan(c->text.p + c->pos, c->valid_e - c->pos);
    }
    *out = (Slice){c->text.p + c->pos, end - c->pos};
    c->pos = end;
    return kind;
}
