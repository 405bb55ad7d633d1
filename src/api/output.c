/* SPDX-License-Identifier: Apache-2.0
 * The states of output.h. `held` is the text whose meaning is still open. */
#include "api/output.h"

#include "text/json.h"

enum { START, TEXT, CALL, WHOLE };

/* Tags around calls: of the whole list (may be empty), of one call. */
typedef struct CallTags {
    const char *open, *close;
} CallTags;

#define BAR "\xef\xbd\x9c"   /* U+FF5C */
#define BLANK "\xe2\x96\x81" /* U+2581 */
#define DS(words) "<" BAR words BAR ">"
static const CallTags tags[] = {
    [API_CALLS_TAGS] = {"<tool_call>", "</tool_call>"},
    [API_CALLS_DEEPSEEK] = {DS("tool" BLANK "call" BLANK "begin"),
                            DS("tool" BLANK "call" BLANK "end")},
};
static const char ds_sep[] = DS("tool" BLANK "sep");
static const char *const ds_around[] = {DS("tool" BLANK "calls" BLANK "begin"),
                                        DS("tool" BLANK "calls" BLANK "end")};

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static Slice trim(Slice s) {
    while (s.n > 0 && is_blank(s.p[0])) s.p++, s.n--;
    while (s.n > 0 && is_blank(s.p[s.n - 1])) s.n--;
    return s;
}

static Slice held(const ApiOutput *o) { return (Slice){sb_str(&o->held), o->held.n}; }

/* Take n bytes off the front. */
static void drop(ApiOutput *o, size_t n) {
    memmove(o->held.p, o->held.p + n, o->held.n - n);
    o->held.n -= n;
    o->held.p[o->held.n] = '\0';
}

static size_t find(Slice s, const char *tag) {
    const char *at = s.n ? memmem(s.p, s.n, tag, strlen(tag)) : NULL;
    return at ? (size_t)(at - s.p) : SIZE_MAX;
}

/* Bytes at the end of s that may be the beginning of tag. */
static size_t overlap(Slice s, const char *tag) {
    size_t most = MIN(strlen(tag) - 1, s.n);
    for (size_t n = most; n > 0; n--) {
        if (memcmp(s.p + s.n - n, tag, n) == 0) return n;
    }
    return 0;
}

static void give(ApiOutput *o, size_t n) {
    if (n == 0) return;
    o->sink.content(o->sink.ctx, (Slice){sb_str(&o->held), n});
    drop(o, n);
}

/* ---- calls ---- */

static void put_call(ApiOutput *o, Slice name, Slice arguments) {
    o->sink.call(o->sink.ctx, o->n_calls, name, arguments);
    o->n_calls++;
}

/* {"name", "arguments" | "parameters"}; false: it is something else. */
static bool put_json_call(ApiOutput *o, const Json *j) {
    Slice name = json_str(json_get(j, "name"));
    const Json *args = json_get(j, "arguments");
    StrBuf text = {0};
    JsonW w;
    if (!args) args = json_get(j, "parameters");
    if (name.n == 0 || (args && !json_is_object(args) && !json_is_str(args))) return false;
    jw_init(&w, &text);
    if (json_is_str(args)) sb_put(&text, json_str(args).p, json_str(args).n);
    else if (args) jw_json(&w, NULL, args);
    else sb_puts(&text, "{}");
    if (!text.failed) put_call(o, name, (Slice){sb_str(&text), text.n});
    sb_deinit(&text);
    return true;
}

static bool put_call_text(ApiOutput *o, Slice s) {
    Json *j = NULL;
    bool ok = json_parse(&j, s, NULL) == OK && put_json_call(o, j);
    json_free(j);
    return ok;
}

/* function<sep>NAME\n```json\n{...}\n``` */
static bool put_deepseek(ApiOutput *o, Slice s) {
    size_t at = find(s, ds_sep), skip = sizeof ds_sep - 1;
    if (at == SIZE_MAX) return false;
    Slice rest = {s.p + at + skip, s.n - at - skip};
    size_t eol = find(rest, "\n"), fence = find(rest, "```json");
    if (eol == SIZE_MAX || fence == SIZE_MAX || fence < eol) return false;
    Slice name = trim((Slice){rest.p, eol}), args = {rest.p + fence + 7, rest.n - fence - 7};
    size_t close = find(args, "```");
    if (close != SIZE_MAX) args.n = close;
    args = trim(args);
    Json *j = NULL;
    bool ok = json_parse(&j, args, NULL) == OK && json_is_object(j) && name.n > 0;
    if (ok) put_call(o, name, args);
    json_free(j);
    return ok;
}

static bool put_one(ApiOutput *o, Slice s) {
    return o->calls == API_CALLS_DEEPSEEK ? put_deepseek(o, s) : put_call_text(o, trim(s));
}

/* ---- whole answers that are calls ---- */

/* Several objects, with blanks or ';' between them, as Llama writes parallel calls. */
static bool put_bare(ApiOutput *o, Slice s) {
    static const char mark[] = "<|python_tag|>";
    size_t from = 0;
    int depth = 0, n_before = o->n_calls;
    bool in_str = false;
    if (s.n >= sizeof mark - 1 && memcmp(s.p, mark, sizeof mark - 1) == 0) {
        s.p += sizeof mark - 1;
        s.n -= sizeof mark - 1;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (in_str) {
            if (s.p[i] == '\\') i++;
            else in_str = s.p[i] != '"';
            continue;
        }
        if (depth == 0 && (is_blank(s.p[i]) || s.p[i] == ';')) continue;
        if (depth == 0 && s.p[i] != '{') break;
        if (depth == 0) from = i;
        in_str = s.p[i] == '"';
        depth += (s.p[i] == '{') - (s.p[i] == '}');
        if (depth == 0 && !put_call_text(o, (Slice){s.p + from, i + 1 - from})) break;
    }
    return o->n_calls > n_before;
}

static bool put_list(ApiOutput *o, Slice s) {
    Json *j = NULL;
    int n_before = o->n_calls;
    if (json_parse(&j, s, NULL) == OK) {
        for (size_t i = 0; i < json_len(j); i++) {
            if (!put_json_call(o, json_at(j, i))) break;
        }
    }
    json_free(j);
    return o->n_calls > n_before;
}

static void finish_whole(ApiOutput *o) {
    Slice s = trim(held(o));
    bool ok = false;
    if (o->calls == API_CALLS_NAMED) {
        put_call(o, o->named, s);
        ok = true;
    } else if (o->calls == API_CALLS_LIST) {
        ok = put_list(o, s);
    } else {
        ok = put_bare(o, s);
    }
    if (ok) sb_clear(&o->held);
    else give(o, o->held.n);
}

/* ---- states: each moves on as far as it can; false: it waits for more ---- */

/* The first character says whether the whole answer is calls. */
static bool in_start(ApiOutput *o, bool end) {
    size_t blanks = 0;
    while (blanks < o->held.n && is_blank(o->held.p[blanks])) blanks++;
    bool forced = o->calls == API_CALLS_NAMED || o->calls == API_CALLS_LIST;
    if (!forced && o->calls == API_CALLS_BARE && blanks == o->held.n && !end) return false;
    char first = blanks < o->held.n ? o->held.p[blanks] : '\0';
    bool bare = o->calls == API_CALLS_BARE && (first == '{' || first == '<');
    o->state = forced || bare ? WHOLE : TEXT;
    return true;
}

static void skip_blanks(ApiOutput *o) {
    size_t n = 0;
    while (n < o->held.n && is_blank(o->held.p[n])) n++;
    if (n > 0) drop(o, n);
}

/* The text in front of a tag at `at`, without the blanks between them; the tag of n bytes goes. */
static void give_before(ApiOutput *o, size_t at, size_t n) {
    size_t text = at;
    while (text > 0 && is_blank(o->held.p[text - 1])) text--;
    give(o, text);
    drop(o, at - text + n);
}

/* Marks around a whole list of calls say nothing: drop one that stands before `at`. */
static bool drop_around(ApiOutput *o, size_t at) {
    for (size_t i = 0; o->calls == API_CALLS_DEEPSEEK && i < COUNT_OF(ds_around); i++) {
        size_t mark = find(held(o), ds_around[i]);
        if (mark >= at) continue;
        give_before(o, mark, strlen(ds_around[i]));
        return true;
    }
    return false;
}

/* Bytes at the end that may turn out to belong to a tag, blanks in front of it included. */
static size_t to_hold(const ApiOutput *o) {
    size_t n = overlap(held(o), tags[o->calls].open);
    for (size_t i = 0; o->calls == API_CALLS_DEEPSEEK && i < COUNT_OF(ds_around); i++)
        n = MAX(n, overlap(held(o), ds_around[i]));
    while (n < o->held.n && is_blank(o->held.p[o->held.n - n - 1])) n++;
    return n;
}

static bool in_text(ApiOutput *o, bool end) {
    if (o->calls != API_CALLS_TAGS && o->calls != API_CALLS_DEEPSEEK) {
        give(o, o->held.n);
        return false;
    }
    if (o->n_calls > 0) skip_blanks(o); /* blanks between calls are no content */
    size_t at = find(held(o), tags[o->calls].open);
    if (drop_around(o, at)) return true;
    if (at == SIZE_MAX) {
        give(o, o->held.n - (end ? 0 : to_hold(o)));
        return false;
    }
    give_before(o, at, strlen(tags[o->calls].open));
    o->state = CALL;
    return true;
}

static bool in_call(ApiOutput *o, bool end) {
    const CallTags *t = &tags[o->calls];
    size_t at = find(held(o), t->close);
    if (at == SIZE_MAX && !end) return false;
    size_t n = at == SIZE_MAX ? o->held.n : at;
    if (put_one(o, (Slice){sb_str(&o->held), n})) {
        drop(o, n + (at == SIZE_MAX ? 0 : strlen(t->close)));
    } else { /* no call: what it was */
        o->sink.content(o->sink.ctx, slice_of(t->open));
        give(o, n + (at == SIZE_MAX ? 0 : strlen(t->close)));
    }
    o->state = TEXT;
    return true;
}

/* ---- the door ---- */

void api_output_init(ApiOutput *o, const ApiSink *sink, ApiCalls calls, Slice named) {
    *o = (ApiOutput){.sink = *sink, .calls = calls, .named = named, .state = START};
}

void api_output_push(ApiOutput *o, Slice text, bool end) {
    sb_put(&o->held, text.p, text.n);
    if (o->held.failed || (o->held.n == 0 && !(end && o->calls == API_CALLS_NAMED))) return;
    for (bool more = true; more;) {
        more = false;
        if (o->state == START) more = in_start(o, end);
        else if (o->state == TEXT) more = in_text(o, end);
        else if (o->state == CALL) more = in_call(o, end);
        if (o->held.n == 0) break;
    }
    if (end && o->state == WHOLE) finish_whole(o);
}

int api_output_n_calls(const ApiOutput *o) { return o->n_calls; }

void api_output_deinit(ApiOutput *o) { sb_deinit(&o->held); }
