/* SPDX-License-Identifier: Apache-2.0
 *
 * PCRE2 with the Unicode classes written out first (regex_expand.c). Compiled by the JIT where there is
 * one, interpreted otherwise; both under the same limits, so no pattern or text can hold a thread for
 * long. PCRE2's memory comes from base/mem.h.
 */
#include "text/regex.h"

#include "text/regex_expand.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { HEAP_LIMIT_KIB = 32 << 10, PAREN_LIMIT = 200 };

struct Regex {
    pcre2_general_context *mem;
    pcre2_code *code;
};

struct RegexScratch {
    pcre2_match_data *data;
    pcre2_match_context *ctx;
};

static void *pcre_alloc(size_t n, void *unused) {
    (void)unused;
    return mem_alloc_n(n, 1);
}

static void pcre_free(void *p, void *unused) {
    (void)unused;
    mem_free(p);
}

/* Words for a failed compilation; the offset is mapped back to the pattern as given. */
static Status compile_failed(const char *pattern, int code, size_t at_expanded, Err *e) {
    PCRE2_UCHAR msg[120] = "";
    pcre2_get_error_message(code, msg, sizeof msg);
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return err_set(e, ERR_NOMEM, "regular expression: out of memory");
    StrBuf again = {0};
    size_t at = 0;
    Status st = at_expanded ? regex__expand(&again, pattern, at_expanded, &at, e) : OK;
    sb_deinit(&again);
    if (st != OK) return st;
    return err_set(e, ERR_ARG, "regular expression, offset %zu: %s", at, (const char *)msg);
}

static Status compile(Regex *r, const char *pattern, Slice expanded, Err *e) {
    enum { FLAGS = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY };
    pcre2_compile_context *cc = pcre2_compile_context_create(r->mem);
    if (!cc) return err_set(e, ERR_NOMEM, "regular expression: out of memory");
    pcre2_set_parens_nest_limit(cc, PAREN_LIMIT);
    int code;
    size_t at;
    r->code = pcre2_compile((PCRE2_SPTR)expanded.p, expanded.n, FLAGS, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!r->code) return compile_failed(pattern, code, at, e);
    /* failure only means that matching is interpreted */
    (void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
    return OK;
}

Status regex_new(Regex **out, const char *pattern, Err *e) {
    if (strlen(pattern) > REGEX_MAX_PATTERN) {
        return err_set(e, ERR_ARG, "regular expression: %zu bytes, limit %d", strlen(pattern),
                       REGEX_MAX_PATTERN);
    }
    StrBuf expanded = {0};
    Regex *r = mem_new(Regex);
    if (r) r->mem = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    Status st = r && r->mem ? OK : err_set(e, ERR_NOMEM, "regular expression: out of memory");
    if (st == OK) st = regex__expand(&expanded, pattern, 0, NULL, e);
    if (st == OK) st = compile(r, pattern, (Slice){sb_str(&expanded), expanded.n}, e);
    sb_deinit(&expanded);
    if (st != OK) {
        regex_free(r);
        return st;
    }
    *out = r;
    return OK;
}

void regex_free(Regex *r) {
    if (!r) return;
    pcre2_code_free(r->code);
    pcre2_general_context_free(r->mem);
    mem_free(r);
}

Status regex_scratch_new(RegexScratch **out, const Regex *r, Err *e) {
    RegexScratch *s = mem_new(RegexScratch);
    if (s) s->data = pcre2_match_data_create(1, r->mem);
    if (s && s->data) s->ctx = pcre2_match_context_create(r->mem);
    if (!s || !s->ctx) {
        regex_scratch_free(s);
        return err_set(e, ERR_NOMEM, "regular expression: out of memory");
    }
    pcre2_set_match_limit(s->ctx, REGEX_MATCH_LIMIT);
    pcre2_set_depth_limit(s->ctx, REGEX_MATCH_LIMIT);
    pcre2_set_heap_limit(s->ctx, HEAP_LIMIT_KIB);
    *out = s;
    return OK;
}

void regex_scratch_free(RegexScratch *s) {
    if (!s) return;
    pcre2_match_context_free(s->ctx);
    pcre2_match_data_free(s->data);
    mem_free(s);
}

bool regex_find(const Regex *r, RegexScratch *sc, Slice s, size_t from, size_t *begin,
                size_t *end) {
    if (from > s.n) return false;
    /* without NO_UTF_CHECK every call would read the whole text again */
    int rc = pcre2_match(r->code, (PCRE2_SPTR)(s.n ? s.p : ""), s.n, from, PCRE2_NO_UTF_CHECK,
                         sc->data, sc->ctx);
    /* the machine code's stack is small: the interpreter has the whole heap limit */
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(r->code, (PCRE2_SPTR)s.p, s.n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         sc->data, sc->ctx);
    }
    if (rc < 0) return false;
    const size_t *range = pcre2_get_ovector_pointer(sc->data);
    if (range[1] < range[0] || range[0] < from) return false; /* \K within a lookbehind */
    *begin = range[0];
    *end = range[1];
    return true;
}
