/* SPDX-License-Identifier: Apache-2.0
 *
 * Pre-tokenizers: what each value of tokenizer.ggml.pre means. A text goes through the passes of a
 * row one after the other; each pass cuts the pieces of the one before (chunks.c). Rows repeat what the
 * makers' files are read as by llama.cpp, since a GGUF file says no more than the name: where a pattern
 * there matches less than it says (it knows one class of letters, and white space outside of ASCII never
 * counts as itself), the pattern here is written that way.
 */
#include "text/utf8.h"
#include "token/internal.h"

#define CUT "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define BLANK "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CL100K(letters, digits, others) \
    CUT "|[^\\r\\n\\p{L}\\p{N}]?" letters "|" digits "| ?[^\\s" others "]+[\\r\\n]*|" BLANK
/* upper: letters but a-z; lower: letters but A-Z; what is in neither ASCII half is in both */
#define CASED(letters, cut, digits)                                                            \
    "[^\\r\\n\\p{L}\\p{N}]?(?:(?![a-z])" letters ")*(?:(?![A-Z])" letters ")+" cut             \
    "|[^\\r\\n\\p{L}\\p{N}]?(?:(?![a-z])" letters ")+(?:(?![A-Z])" letters ")*" cut "|" digits \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANK
#define MARKED "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+" CUT "?"
#define ASCII_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
#define PUNCT_WORD ASCII_WORD "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
#define KANA "\\x{3040}-\\x{30ff}"
#define HAN_KANA "[\\x{4e00}-\\x{9fa5}" KANA "]+"
#define HAN                                                                            \
    "\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{20000}-\\x{2a6df}\\x{2a700}-\\x{2ceaf}" \
    "\\x{2ceb0}-\\x{2ebef}\\x{f900}-\\x{faff}\\x{2f800}-\\x{2fa1f}"
#define NO_HAN "(?:(?![" HAN "])\\p{L})+"

/* U+0800..U+9FA5 and U+AC00..U+D7FF without white space */
#define FAR_EAST                                                                   \
    "[\\x{800}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}" \
    "\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+"

/* As code points: some of these letters are canonically equivalent to others. */
#define DEEPSEEK_LETTERS                                                                        \
    "\\s?[A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"         \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"      \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"               \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}" \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}"              \
    "\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}"              \
    "\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}"      \
    "\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"     \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"              \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}"      \
    "\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}"      \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}"                \
    "\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}"               \
    "\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}"              \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}"              \
    "\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"          \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"      \
    "\\x{1e900}-\\x{1e943}]+"

typedef enum PassId {
    PASS_NONE,
    PASS_GPT2,
    PASS_LLAMA3,
    PASS_QWEN2,
    PASS_QWEN35,
    PASS_DIGIT,    /* each number alone */
    PASS_DIGITS_3, /* numbers in threes from the left */
    PASS_DIGITS,   /* numbers together */
    PASS_ASCII_3,  /* 0-9 in threes from the left */
    PASS_GROUPS, /* numbers in threes from the right; what stands before them sticks to the first */
    PASS_SUPER,  /* 0-9 in threes from the right */
    PASS_NEWLINE, /* each CR, LF alone */
    PASS_LINES,   /* LF and the rest */
    PASS_PUNCT,   /* llama.cpp's guess where the file does not say */
    PASS_FALCON,
    PASS_DS_LETTERS,
    PASS_DS_PUNCT,
    PASS_DS_TAIL,
    PASS_FAR_EAST,
    PASS_CODER_LETTERS,
    PASS_CODER_PUNCT,
    PASS_HAN_KANA,
    PASS_DEEPSEEK3,
    PASS_SPARK,
    PASS_YOUTU_SCRIPTS,
    PASS_YOUTU,
    PASS_BLOOM,
    PASS_TEKKEN,
    PASS_GPT4O,
    PASS_GRANITE,
    PASS_TINY_AYA,
    PASS_SENTINEL,
    PASS_IMAGE,
    PASS_CHAMELEON_SPACE,
    PASS_CHAMELEON_PUNCT,
    PASS_KIMI,
    PASS_BAILING,
    PASS_SEED,
    PASS_UFAK,
    PASS_AFMOE_SCRIPTS,
    PASS_EXAONE_MOE,
    PASS_MINICPM5,
    PASS_JAIS2,
    PASS_COUNT
} PassId;

static const Pass passes[PASS_COUNT] = {
    [PASS_GPT2] = {GPT2, tok__scan_gpt2},
    [PASS_LLAMA3] = {CL100K("\\p{L}+", "\\p{N}{1,3}", "\\p{L}\\p{N}"), tok__scan_llama3},
    [PASS_QWEN2] = {CL100K("\\p{L}+", "\\p{N}", "\\p{L}\\p{N}"), tok__scan_qwen2},
    [PASS_QWEN35] = {CL100K("[\\p{L}\\p{M}]+", "\\p{N}", "\\p{L}\\p{M}\\p{N}"), tok__scan_qwen35},
    [PASS_DIGIT] = {"\\p{N}", tok__scan_digit},
    [PASS_DIGITS_3] = {"\\p{N}{1,3}", tok__scan_digits_3},
    [PASS_DIGITS] = {"\\p{N}+", NULL},
    [PASS_ASCII_3] = {"[0-9][0-9][0-9]", NULL},
    [PASS_GROUPS] = {NULL, tok__scan_groups},
    [PASS_SUPER] = {NULL, tok__scan_super},
    [PASS_NEWLINE] = {"[\\r\\n]", NULL},
    [PASS_LINES] = {"[^\\n]+|[\\n]+", tok__scan_lines},
    [PASS_PUNCT] = {"[\\p{P}$+<=>^~|]+", NULL},
    [PASS_FALCON] = {"[\\p{P}$+<=>^~|`]+", NULL},
    [PASS_DS_LETTERS] = {DEEPSEEK_LETTERS, NULL},
    [PASS_DS_PUNCT] = {"\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}"
                       "\\x{3001}\\x{3002}]+",
                       NULL},
    [PASS_DS_TAIL] = {"\\s+$", NULL},
    [PASS_FAR_EAST] = {FAR_EAST, NULL},
    [PASS_CODER_LETTERS] = {"\\s?\\p{L}+", NULL},
    [PASS_CODER_PUNCT] = {"\\s?\\p{P}+", NULL},
    [PASS_HAN_KANA] = {HAN_KANA, NULL},
    [PASS_DEEPSEEK3] = {PUNCT_WORD "[\\r\\n]*|" BLANK, NULL},
    [PASS_SPARK] = {PUNCT_WORD "|[\\r\\n]|\\s+(?!\\S)|\\s+", NULL},
    [PASS_YOUTU_SCRIPTS] = {"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}"
                            "\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}\\x{ff1a}\\x{ff1b}"
                            "\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+"
                            "|[\\x{3105}-\\x{312f}]+|" HAN_KANA,
                            NULL},
    [PASS_YOUTU] = {MARKED "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANK, NULL},
    [PASS_BLOOM] = {" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+",
                    NULL},
    [PASS_TEKKEN] = {CASED("\\p{L}", "", "\\p{N}"), tok__scan_tekken},
    [PASS_GPT4O] = {CASED("\\p{L}", CUT "?", "\\p{N}{1,3}"), tok__scan_gpt4o},
    [PASS_GRANITE] = {CASED("[\\p{L}\\p{M}]", CUT "?", "\\p{N}{1,3}"), tok__scan_granite},
    [PASS_TINY_AYA] = {MARKED "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANK, NULL},
    [PASS_SENTINEL] = {"<sentinel:[0-9]+>", NULL},
    [PASS_IMAGE] = {"IMGIMG[A-I]{1,4}Z", NULL},
    [PASS_CHAMELEON_SPACE] = {"[\\t\\n]|    |  ", NULL},
    [PASS_CHAMELEON_PUNCT] = {"[\\p{P}!-/:-@\\[-`{-~]", NULL},
    [PASS_KIMI] = {"[" HAN "]+|[^\\r\\n\\p{L}\\p{N}]?" NO_HAN CUT "?|\\p{N}{1,3}"
                   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BLANK,
                   NULL},
    [PASS_BAILING] = {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
                      "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
                      NULL},
    [PASS_SEED] = {CUT "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" BLANK,
                   NULL},
    [PASS_UFAK] = {"[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BLANK,
                   NULL},
    [PASS_AFMOE_SCRIPTS] = {"[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{8c48}-\\x{faff}" KANA
                            "\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{eff}"
                            "\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}"
                            "\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+",
                            NULL},
    [PASS_EXAONE_MOE] = {CUT "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}"
                             "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
                         NULL},
    [PASS_MINICPM5] = {CL100K("\\p{L}+", "\\p{N}+", "\\p{L}\\p{N}"), NULL},
    [PASS_JAIS2] = {CUT "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
                        "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)"
                        "|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)"
                        "|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s",
                    NULL},
};

/* What the rows have beside passes. */
enum { WORDS = 1, BOS = 2, CHARS = 4 };

static const struct {
    const char *names; /* separated by spaces */
    uint8_t pass[TOK_MAX_PASSES];
    uint8_t flags;
} rows[] = {
    {"default", {PASS_PUNCT, PASS_GPT2, PASS_DIGITS, PASS_ASCII_3}, 0},
    {"gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
     "jina-v1-en jina-v2-code roberta-bpe exaone4 mpt olmo jais trillion granite-docling",
     {PASS_GPT2},
     0},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     {PASS_LLAMA3},
     WORDS | BOS},
    {"dbrx smaug-bpe glm4 chatglm-bpe", {PASS_LLAMA3}, 0},
    {"qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2",
     {PASS_QWEN2},
     0},
    {"qwen35", {PASS_QWEN35}, 0},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b mellum2",
     {PASS_DIGIT, PASS_GPT2},
     0},
    {"falcon", {PASS_FALCON, PASS_GPT2, PASS_ASCII_3}, 0},
    {"deepseek-llm",
     {PASS_NEWLINE, PASS_DS_LETTERS, PASS_DS_PUNCT, PASS_DS_TAIL, PASS_FAR_EAST, PASS_DIGITS},
     0},
    {"deepseek-coder",
     {PASS_NEWLINE, PASS_CODER_LETTERS, PASS_CODER_PUNCT, PASS_FAR_EAST, PASS_DIGIT},
     0},
    {"deepseek-v3 hunyuan-dense joyai-llm hy_v4",
     {PASS_DIGITS_3, PASS_HAN_KANA, PASS_DEEPSEEK3},
     0},
    {"spark2_5", {PASS_DIGITS_3, PASS_HAN_KANA, PASS_SPARK, PASS_DIGIT}, 0},
    {"youtu", {PASS_YOUTU_SCRIPTS, PASS_YOUTU}, WORDS},
    {"bloom gpt3-finnish poro-chat", {PASS_BLOOM}, 0},
    {"viking", {PASS_BLOOM, PASS_DIGIT}, 0},
    {"tekken", {PASS_TEKKEN}, WORDS | BOS},
    {"gpt-4o llama4 kanana2 talkie minimax-m2", {PASS_GPT4O}, 0},
    {"granite-embed-multi-97m", {PASS_GRANITE}, WORDS},
    {"tiny_aya cohere2moe", {PASS_GROUPS, PASS_TINY_AYA}, 0},
    {"chameleon",
     {PASS_SENTINEL, PASS_IMAGE, PASS_CHAMELEON_SPACE, PASS_DIGIT, PASS_CHAMELEON_PUNCT, PASS_GPT2},
     BOS},
    {"kimi-k2", {PASS_KIMI}, 0},
    {"superbpe", {PASS_DIGITS, PASS_SUPER}, 0},
    {"bailingmoe bailingmoe2 llada-moe", {PASS_BAILING}, 0},
    {"seed-coder", {PASS_SEED}, 0},
    {"ufakzeka", {PASS_UFAK}, 0},
    {"afmoe", {PASS_GROUPS, PASS_AFMOE_SCRIPTS, PASS_DEEPSEEK3}, 0},
    {"laguna", {PASS_LINES, PASS_QWEN2}, 0},
    {"exaone-moe", {PASS_EXAONE_MOE}, 0},
    {"minicpm5", {PASS_DIGITS_3, PASS_MINICPM5}, WORDS},
    {"jais-2", {PASS_JAIS2}, 0},
    {"gemma4 granite-embed-multi-311m sarvam-moe", {PASS_LINES}, CHARS},
};

/* True if name is one of the words of names. */
static bool is_one_of(const char *names, Slice name) {
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, " ");
        if (slice_eq((Slice){p, n}, name)) return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

bool tok__pretok_find(PreTok *out, Slice name) {
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (!is_one_of(rows[i].names, name)) continue;
        *out = (PreTok){.whole_words = rows[i].flags & WORDS,
                        .add_bos = rows[i].flags & BOS,
                        .chars = rows[i].flags & CHARS};
        while (out->n < TOK_MAX_PASSES && rows[i].pass[out->n]) {
            out->pass[out->n] = passes[rows[i].pass[out->n]];
            out->n++;
        }
        return true;
    }
    return false;
}

/* ---- written down ---- */

/* "\\x{2581}" at p: its code point and length; 0: something else, or an ASCII character. */
static size_t read_escape(uint32_t *cp, const char *p) {
    size_t n = 3;
    *cp = 0;
    if (strncmp(p, "\\x{", 3) != 0) return 0;
    for (; p[n] && p[n] != '}' && n < 10; n++) {
        const char *digits = "0123456789abcdef", *d = strchr(digits, p[n]);
        if (!d) return 0;
        *cp = *cp << 4 | (uint32_t)(d - digits);
    }
    return p[n] == '}' && *cp > 0x7f && *cp <= 0x10ffff ? n + 1 : 0;
}

void tok__put_pattern(StrBuf *b, const char *p) {
    char c[4];
    uint32_t cp;
    for (size_t n; *p; p += n) {
        n = read_escape(&cp, p);
        if (n) {
            sb_put(b, c, (size_t)utf8_encode(c, cp));
            continue;
        }
        n = p[0] == '\\' && p[1] ? 2 : 1;
        sb_put(b, p, n);
    }
}

const char *tok__pass_pattern(TokScanFn scan) {
    for (size_t i = 0; i < PASS_COUNT; i++)
        if (passes[i].scan == scan && passes[i].pattern) return passes[i].pattern;
    return NULL;
}

TokScanFn tok__pass_scan(Slice pattern) {
    for (size_t i = 0; i < PASS_COUNT; i++)
        if (passes[i].scan && passes[i].pattern && slice_eq_str(pattern, passes[i].pattern))
            return passes[i].scan;
    return NULL;
}

bool tok__pretok_splits(HfCut *c, Slice name) {
    PreTok pre = {0};
    if (!tok__pretok_find(&pre, name)) return false;
    for (int i = 0; i < pre.n; i++) {
        const Pass *p = &pre.pass[i];
        const char *scan = p->scan ? tok__scan_name(p->scan) : NULL;
        StrBuf *b = &c->split[c->n_split++];
        if (!p->pattern) return false;
        sb_puts(b, scan ? "scan:" : "isolated:");
        if (scan) sb_puts(b, scan);
        else tok__put_pattern(b, p->pattern);
    }
    return true;
}

/* The first name of the first row whose passes are these. */
const char *tok__pretok_name(const HfCut *c, bool whole_words) {
    static const char *const names[] = {"gpt-2",
                                        "llama-bpe",
                                        "smaug-bpe",
                                        "qwen2",
                                        "qwen35",
                                        "starcoder",
                                        "falcon",
                                        "deepseek-llm",
                                        "deepseek-coder",
                                        "deepseek-v3",
                                        "spark2_5",
                                        "youtu",
                                        "bloom",
                                        "viking",
                                        "tekken",
                                        "gpt-4o",
                                        "granite-embed-multi-97m",
                                        "chameleon",
                                        "kimi-k2",
                                        "bailingmoe",
                                        "seed-coder",
                                        "ufakzeka",
                                        "laguna",
                                        "exaone-moe",
                                        "minicpm5",
                                        "jais-2",
                                        "default"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        PreTok pre = {0};
        HfCut own = {0};
        bool same = tok__pretok_find(&pre, slice_of(names[i])) && pre.whole_words == whole_words &&
                    tok__pretok_splits(&own, slice_of(names[i])) && own.n_split == c->n_split;
        for (int k = 0; same && k < own.n_split; k++)
            same = !own.split[k].failed && !strcmp(sb_str(&own.split[k]), sb_str(&c->split[k]));
        tok__hf_cut_deinit(&own);
        if (same) return names[i];
    }
    return NULL;
}
