/* SPDX-License-Identifier: Apache-2.0
 * The XML that S3 stores answer with: elements, attributes that do not matter, the five entities and character
 * numbers. No document types, no CDATA, no mixed text: those are refused. Depth and lengths are bounded. */
#include "hub/internal.h"

#include <stdlib.h>

enum { XML_MAX_PATH = 256 };

typedef struct Xml {
    const char *p, *end;
    char path[XML_MAX_PATH];
    size_t n_path;
    const char *text; /* since the last tag */
    StrBuf value;
} Xml;

static Status bad(const char *what, Err *e) { return err_set(e, ERR_FORMAT, "xml: %s", what); }

static const struct {
    const char *name;
    char c;
} ENTITIES[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}};

/* "#13;" or "#xD;" at p; bytes taken, 0: no number. Only ASCII is ever written so. */
static size_t char_number(char *out, const char *p, const char *end) {
    const char *semi = memchr(p, ';', MIN((size_t)(end - p), (size_t)8));
    if (!semi || p[0] != '#') return 0;
    bool hex = p[1] == 'x';
    char digits[8] = {0};
    const char *from = p + 1 + hex;
    if (semi <= from || (size_t)(semi - from) >= sizeof digits) return 0;
    memcpy(digits, from, (size_t)(semi - from));
    if (digits[strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789")]) return 0;
    unsigned long v = strtoul(digits, NULL, hex ? 16 : 10);
    if (v == 0 || v > 0x7F) return 0;
    *out = (char)v;
    return (size_t)(semi - p) + 1;
}

static size_t entity(char *out, const char *p, const char *end) {
    for (size_t i = 0; i < COUNT_OF(ENTITIES); i++) {
        size_t n = strlen(ENTITIES[i].name);
        if ((size_t)(end - p) < n || memcmp(p, ENTITIES[i].name, n) != 0) continue;
        *out = ENTITIES[i].c;
        return n;
    }
    return char_number(out, p, end);
}

static Status decode(Xml *x, const char *p, const char *end, Err *e) {
    sb_clear(&x->value);
    while (p < end) {
        if (*p != '&') {
            sb_putc(&x->value, *p++);
            continue;
        }
        char c = 0;
        size_t n = entity(&c, p + 1, end);
        if (n == 0) return bad("an entity that is not known", e);
        sb_putc(&x->value, c);
        p += n + 1;
    }
    return sb_check(&x->value, e);
}

static Status open_tag(Xml *x, Slice name, Err *e) {
    if (x->n_path + name.n + 2 > sizeof x->path) return bad("nested too deep", e);
    if (x->n_path > 0) x->path[x->n_path++] = '/';
    memcpy(x->path + x->n_path, name.p, name.n);
    x->n_path += name.n;
    x->path[x->n_path] = '\0';
    return OK;
}

static Status close_tag(Xml *x, Slice name, Status (*fn)(void *, const char *, Slice, Err *),
                        void *ctx, Err *e) {
    const char *slash = strrchr(x->path, '/');
    const char *last = slash ? slash + 1 : x->path;
    if (x->n_path == 0 || !slice_eq_str(name, last))
        return bad("a tag is closed that is not open", e);
    TRY(fn(ctx, x->path, (Slice){sb_str(&x->value), x->value.n}, e));
    x->n_path = slash ? (size_t)(slash - x->path) : 0;
    x->path[x->n_path] = '\0';
    return OK;
}

static bool is_name(Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  strchr("-_.:", c);
        if (!ok || c == '\0') return false;
    }
    return s.n > 0;
}

/* What stands between < and >. */
static Status one_tag(Xml *x, Slice t, Status (*fn)(void *, const char *, Slice, Err *), void *ctx,
                      Err *e) {
    bool closes = t.n > 0 && t.p[0] == '/';
    bool empty = t.n > 0 && t.p[t.n - 1] == '/';
    Slice name = {t.p + closes, 0};
    while (name.n < t.n - closes && !strchr(" \t\r\n/", name.p[name.n])) name.n++;
    if (!is_name(name)) return bad("a tag without a name", e);
    if (!closes) TRY(open_tag(x, name, e));
    if (!closes && !empty) return OK;
    if (!closes) sb_clear(&x->value);
    return close_tag(x, name, fn, ctx, e);
}

Status hub__xml_walk(Slice text, Status (*fn)(void *ctx, const char *path, Slice value, Err *e),
                     void *ctx, Err *e) {
    Xml x = {.p = text.p, .end = text.p + text.n, .text = text.p};
    Status st = OK;
    while (st == OK) {
        const char *lt = memchr(x.p, '<', (size_t)(x.end - x.p));
        const char *gt = lt ? memchr(lt, '>', (size_t)(x.end - lt)) : NULL;
        if (!lt) break;
        if (!gt) {
            st = bad("a tag without an end", e);
            break;
        }
        Slice tag = {lt + 1, (size_t)(gt - lt - 1)};
        x.p = gt + 1;
        if (tag.n > 0 && tag.p[0] == '?') continue;
        if (tag.n > 0 && tag.p[0] == '!') st = bad("declarations are not taken", e);
        if (st == OK) st = decode(&x, x.text, lt, e);
        if (st == OK) st = one_tag(&x, tag, fn, ctx, e);
        x.text = x.p;
    }
    if (st == OK && x.n_path > 0) st = bad("it ends in the middle", e);
    sb_deinit(&x.value);
    return st;
}
