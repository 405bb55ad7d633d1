/* SPDX-License-Identifier: Apache-2.0
 *
 * How a tokenizer.json cuts text: its normalizer and its pre_tokenizer as passes. What is understood is
 * understood exactly; anything else is refused, since a text cut elsewhere would be other tokens.
 */
#include "text/json.h"
#include "token/internal.h"

enum { MAX_STEPS = 64 }; /* members of all sequences together */

static const char space_sign[] = "\xe2\x96\x81";

typedef struct Reader {
    HfCut *c;
    int n_steps;
} Reader;

static Status unsupported(const char *what, Slice type, Err *e) {
    char shown[64];
    return err_set(e, ERR_UNSUPPORTED, "%s: \"%s\" is not supported", what, tok__show(shown, type));
}

/* ---- passes ---- */

static StrBuf *new_split(HfCut *c, Err *e) {
    if (c->n_split == TOK_MAX_PASSES) {
        err_set(e, ERR_UNSUPPORTED, "pre_tokenizer: over %d steps", (int)TOK_MAX_PASSES);
        return NULL;
    }
    return &c->split[c->n_split++];
}

static Status add_split(HfCut *c, const char *mode, const char *pattern, Err *e) {
    StrBuf *b = new_split(c, e);
    if (!b) return ERR_UNSUPPORTED;
    sb_puts(b, mode);
    sb_puts(b, pattern);
    return sb_check(b, e);
}

/* s as a pattern that matches just itself. */
static void put_literal(StrBuf *b, Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool plain = (c & 0x80) || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                     (c >= 'a' && c <= 'z');
        if (plain) sb_putc(b, c);
        else sb_printf(b, "\\x{%x}", (unsigned)(uint8_t)c);
    }
}

/* Patterns that are scanned by hand, beside those of pretok.c. */
static const struct {
    const char *regex, *scan;
} scan_rows[] = {
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "llama3_fold"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "qwen2_fold"},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
     "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     "qwen35_fold"},
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt2"},
    {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "gpt2"},
    {"\\p{N}{1,3}", "digits_3"},
    {"\\p{N}", "digit"},
};
static const char *scan_of(Slice regex) {
    for (size_t i = 0; i < COUNT_OF(scan_rows); i++) {
        if (slice_eq_str(regex, scan_rows[i].regex)) return scan_rows[i].scan;
    }
    TokScanFn fn = tok__pass_scan(regex);
    return fn ? tok__scan_name(fn) : NULL;
}

const char *tok__hf_regex_of(const char *scan) {
    for (size_t i = 0; i < COUNT_OF(scan_rows); i++) {
        if (!strcmp(scan, scan_rows[i].scan)) return scan_rows[i].regex;
    }
    TokScanFn fn = tok__scan_find(scan);
    return fn ? tok__pass_pattern(fn) : NULL;
}

static Status mode_of(const char **out, Slice behavior, Err *e) {
    static const char *const rows[][2] = {{"Isolated", "isolated:"},
                                          {"Removed", "removed:"},
                                          {"MergedWithPrevious", "with_previous:"},
                                          {"MergedWithNext", "with_next:"},
                                          {"Contiguous", "contiguous:"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        *out = rows[i][1];
        if (slice_eq_str(behavior, rows[i][0])) return OK;
    }
    return unsupported("pre_tokenizer: behavior", behavior, e);
}

static Status read_split(HfCut *c, const Json *j, Err *e) {
    Slice behavior = {0}, regex = {0}, literal = {0};
    const char *mode;
    bool invert = false;
    const Json *pattern = json_get(j, "pattern");
    TRY(json_opt_str(&behavior, j, "behavior", e));
    TRY(json_opt_bool(&invert, j, "invert", e));
    TRY(mode_of(&mode, behavior, e));
    if (json_is_object(pattern)) {
        TRY(json_opt_str(&regex, pattern, "Regex", e));
        TRY(json_opt_str(&literal, pattern, "String", e));
    }
    if (regex.n + literal.n == 0 || memchr(regex.p ? regex.p : "", 0, regex.n))
        return err_set(e, ERR_FORMAT, "pre_tokenizer: Split without a pattern");
    const char *scan = scan_of(regex);
    if (scan && !invert && !strcmp(mode, "isolated:")) return add_split(c, "scan:", scan, e);
    /* spaces are written as U+2581 before this pass: none is left */
    if (c->chars && slice_eq_str(literal, " ")) return OK;
    StrBuf *b = new_split(c, e);
    if (!b) return ERR_UNSUPPORTED;
    if (invert) sb_putc(b, '!');
    sb_puts(b, mode);
    sb_put(b, regex.p, regex.n);
    put_literal(b, literal);
    return sb_check(b, e);
}

/* ---- kinds of steps ---- */

static Status read_byte_level(HfCut *c, const Json *j, Err *e) {
    bool space = true, regex = true;
    TRY(json_opt_bool(&space, j, "add_prefix_space", e));
    TRY(json_opt_bool(&regex, j, "use_regex", e));
    c->bytes = true;
    if (space && c->n_split)
        return err_set(e, ERR_UNSUPPORTED, "pre_tokenizer: a prefix space behind another step");
    if (space) c->prefix = PREFIX_SPACE_IF_NONE;
    return regex ? add_split(c, "scan:", "gpt2", e) : OK;
}

static Status read_metaspace(HfCut *c, const Json *j, Err *e) {
    Slice sign = slice_of(space_sign), scheme = {0};
    bool space = true, split = true;
    TRY(json_opt_str(&sign, j, "replacement", e));
    TRY(json_opt_str(&scheme, j, "prepend_scheme", e));
    TRY(json_opt_bool(&space, j, "add_prefix_space", e));
    TRY(json_opt_bool(&split, j, "split", e));
    if (!slice_eq_str(sign, space_sign)) return unsupported("Metaspace: replacement", sign, e);
    if (scheme.n) space = !slice_eq_str(scheme, "never");
    c->chars = true;
    c->prefix_first = slice_eq_str(scheme, "first");
    if (space) c->prefix = PREFIX_SPACE_IF_NONE;
    return split ? add_split(c, "scan:", "space_each", e) : OK;
}

static Status read_digits(HfCut *c, const Json *j, Err *e) {
    bool each = false;
    TRY(json_opt_bool(&each, j, "individual_digits", e));
    return each ? add_split(c, "scan:", "digit", e) : add_split(c, "isolated:", "\\p{N}+", e);
}

static Status read_punctuation(HfCut *c, const Json *j, Err *e) {
    Slice behavior = slice_of("Isolated");
    const char *mode;
    TRY(json_opt_str(&behavior, j, "behavior", e));
    TRY(mode_of(&mode, behavior, e));
    return add_split(c, mode, "[\\p{P}!-/:-@\\[-`{-~]", e);
}

static Status read_whitespace(HfCut *c, const Json *j, Err *e) {
    (void)j;
    return add_split(c,
                     "!removed:", "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]+|[^\\p{L}\\p{M}\\p{Nd}\\p{Pc}\\s]+",
                     e);
}

static Status read_whitespace_split(HfCut *c, const Json *j, Err *e) {
    (void)j;
    return add_split(c, "removed:", "\\s", e);
}

static const struct {
    const char *type;
    Status (*read)(HfCut *c, const Json *j, Err *e);
} steps[] = {
    {"Split", read_split},
    {"ByteLevel", read_byte_level},
    {"Metaspace", read_metaspace},
    {"Digits", read_digits},
    {"Punctuation", read_punctuation},
    {"Whitespace", read_whitespace},
    {"WhitespaceSplit", read_whitespace_split},
};

static Status read_step(Reader *r, const Json *j, Err *e) {
    Slice type = {0};
    TRY(json_opt_str(&type, j, "type", e));
    if (++r->n_steps > MAX_STEPS)
        return err_set(e, ERR_FORMAT, "pre_tokenizer: over %d steps", (int)MAX_STEPS);
    if (slice_eq_str(type, "Sequence")) {
        const Json *list = json_get(j, "pretokenizers");
        for (size_t i = 0; i < json_len(list); i++) TRY(read_step(r, json_at(list, i), e));
        return OK;
    }
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        if (slice_eq_str(type, steps[i].type)) return steps[i].read(r->c, j, e);
    }
    return unsupported("pre_tokenizer", type, e);
}

/* ---- normalizer ---- */

static Status read_replace(HfCut *c, const Json *j, Err *e) {
    Slice from = {0}, to = {0};
    const Json *pattern = json_get(j, "pattern");
    if (json_is_object(pattern)) TRY(json_opt_str(&from, pattern, "String", e));
    TRY(json_opt_str(&to, j, "content", e));
    if (!slice_eq_str(from, " ") || !slice_eq_str(to, space_sign))
        return unsupported("normalizer: Replace of", from, e);
    c->chars = true;
    return OK;
}

static Status read_prepend(HfCut *c, const Json *j, Err *e) {
    Slice what = {0};
    TRY(json_opt_str(&what, j, "prepend", e));
    if (!slice_eq_str(what, space_sign)) return unsupported("normalizer: Prepend of", what, e);
    c->prefix = PREFIX_SPACE;
    return OK;
}

static Status read_normalizer(Reader *r, const Json *j, Err *e) {
    static const char *const forms[][2] = {{"NFC", "nfc"},
                                           {"NFD", "nfd"},
                                           {"NFKC", "nfkc"},
                                           {"NFKD", "nfkd"}};
    Slice type = {0};
    HfCut *c = r->c;
    TRY(json_opt_str(&type, j, "type", e));
    if (++r->n_steps > MAX_STEPS)
        return err_set(e, ERR_FORMAT, "normalizer: over %d steps", (int)MAX_STEPS);
    if (slice_eq_str(type, "Sequence")) {
        const Json *list = json_get(j, "normalizers");
        for (size_t i = 0; i < json_len(list); i++) TRY(read_normalizer(r, json_at(list, i), e));
        return OK;
    }
    if (slice_eq_str(type, "Replace")) return read_replace(c, j, e);
    if (slice_eq_str(type, "Prepend")) return read_prepend(c, j, e);
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        if (!slice_eq_str(type, forms[i][0]) || c->form) continue;
        c->form = forms[i][1];
        return OK;
    }
    return unsupported("normalizer", type, e);
}

/* ---- the whole ---- */

Status tok__hf_cut_read(HfCut *c, const Json *root, Err *e) {
    Reader r = {.c = c};
    const Json *normalizer = json_get(root, "normalizer"), *pre = json_get(root, "pre_tokenizer");
    if (normalizer) TRY(read_normalizer(&r, normalizer, e));
    if (pre) TRY(read_step(&r, pre, e));
    if (c->bytes == c->chars) {
        return err_set(e, ERR_UNSUPPORTED, "pre_tokenizer: %s",
                       c->bytes ? "bytes and U+2581 for spaces at once"
                                : "neither ByteLevel nor U+2581 for spaces");
    }
    if (c->prefix == PREFIX_SPACE && !c->chars)
        return err_set(e, ERR_UNSUPPORTED, "normalizer: Prepend in front of bytes");
    return OK;
}

void tok__hf_cut_deinit(HfCut *c) {
    for (int i = 0; i < c->n_split; i++) sb_deinit(&c->split[i]);
}

const char *tok__hf_cut_name(const HfCut *c, bool whole_words) {
    static const struct {
        const char *name;
        bool whole_words;
        const char *split[TOK_MAX_PASSES];
    } rows[] = {
        {"gpt-2", false, {"scan:gpt2"}},
        {"llama-bpe", true, {"scan:llama3_fold"}},
        {"smaug-bpe", false, {"scan:llama3_fold"}},
        {"qwen2", false, {"scan:qwen2_fold"}},
        {"qwen35", false, {"scan:qwen35_fold"}},
        {"starcoder", false, {"scan:digit", "scan:gpt2"}},
        {"deepseek-coder",
         false,
         {"isolated:[\r\n]", "isolated:\\s?\\p{L}+", "isolated:\\s?\\p{P}+",
          "isolated:[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", "scan:digit"}},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int k = 0;
        if (rows[i].whole_words != whole_words) continue;
        while (k < c->n_split && rows[i].split[k] &&
               !strcmp(sb_str(&c->split[k]), rows[i].split[k]))
            k++;
        if (k == c->n_split && !rows[i].split[k]) return rows[i].name;
    }
    return tok__pretok_name(c, whole_words);
}
