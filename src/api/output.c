/* SPDX-License-Identifier: Apache-2.0
 * The states of output.h. `held` is the text whose meaning is still open. */
#include "api/output.h"

#include "text/json.h"

enum { START, TEXT, CALL, WHOLE };
enum { HOLD_BLANKS = 512 }; /* in front of what may become a tag */

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

static bool is_known(const ApiOutput *o, Slice name) {
    return name.n > 0 && (!o->sink.known || o->sink.known(o->sink.tools, name));
}

/* {"name", "arguments" | "parameters"}; false: it is something else. hand_over: give it to the sink. */
static bool take_json_call(ApiOutput *o, const Json *j, bool hand_over) {
    Slice name = json_str(json_get(j, "name"));
    const Json *args = json_get(j, "arguments");
    StrBuf text = {0};
    JsonW w;
    if (!args) args = json_get(j, "parameters");
    if (!is_known(o, name) || (args && !json_is_object(args) && !json_is_str(args))) return false;
    if (!args && o->calls == API_CALLS_BARE) return false; /* an object with a name, and no call */
    if (!hand_over) return true;
    jw_init(&w, &text);
    if (json_is_str(args)) sb_put(&text, json_str(args).p, json_str(args).n);
    else if (args) jw_json(&w, NULL, args);
    else sb_puts(&text, "{}");
    if (!text.failed) put_call(o, name, (Slice){sb_str(&text), text.n});
    sb_deinit(&text);
    return true;
}

static bool take_call_text(ApiOutput *o, Slice s, bool hand_over) {
    Json *j = NULL;
    bool ok = json_parse(&j, s, NULL) == OK && take_json_call(o, j, hand_over);
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
    bool ok = json_parse(&j, args, NULL) == OK && json_is_object(j) && is_known(o, name);
    if (ok) put_call(o, name, args);
    json_free(j);
    return ok;
}

static bool put_one(ApiOutput *o, Slice s) {
    return o->calls == API_CALLS_DEEPSEEK ? put_deepseek(o, s) : take_call_text(o, trim(s), true);
}

/* ---- whole answers that are calls ---- */

/* Where the object that begins at s.p[at] ends; 0: it does not. */
static size_t object_end(Slice s, size_t at) {
    int depth = 0;
    bool in_str = false;
    for (size_t i = at; i < s.n; i++) {
        char c = s.p[i];
        if (in_str) {
            if (c == '\\') i++;
            else in_str = c != '"';
            continue;
        }
        in_str = c == '"';
        depth += (c == '{') - (c == '}');
        if (depth == 0) return i + 1;
    }
    return 0;
}

/* Several objects, with blanks or ';' between them, as Llama writes parallel calls. False: that is not all of it. */
static bool take_bare(ApiOutput *o, Slice s, bool hand_over) {
    static const char mark[] = "<|python_tag|>";
    size_t at = 0;
    bool any = false;
    if (s.n >= sizeof mark - 1 && memcmp(s.p, mark, sizeof mark - 1) == 0) at = sizeof mark - 1;
    while (at < s.n) {
        if (is_blank(s.p[at]) || s.p[at] == ';') {
            at++;
            continue;
        }
        size_t end = s.p[at] == '{' ? object_end(s, at) : 0;
        if (end == 0 || !take_call_text(o, (Slice){s.p + at, end - at}, hand_over)) return false;
        at = end;
        any = true;
    }
    return any;
}

static bool take_list(ApiOutput *o, Slice s, bool hand_over) {
    Json *j = NULL;
    bool ok = json_parse(&j, s, NULL) == OK && json_is_array(j) && json_len(j) > 0;
    for (size_t i = 0; ok && i < json_len(j); i++) ok = take_json_call(o, json_at(j, i), hand_over);
    json_free(j);
    return ok;
}

static void finish_whole(ApiOutput *o) {
    Slice s = trim(held(o));
    bool ok = false;
    if (o->calls == API_CALLS_NAMED) {
        put_call(o, o->named, s);
        ok = true;
    } else if (o->calls == API_CALLS_LIST) {
        ok = take_list(o, s, false) && take_list(o, s, true);
    } else {
        ok = take_bare(o, s, false) && take_bare(o, s, true);
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
    if (!forced && o->calls == API_CALLS_BARE && blanks == o->held.n && blanks < HOLD_BLANKS &&
        !end)
        return false;
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
    size_t most = MIN(o->held.n, n + HOLD_BLANKS);
    while (n < most && is_blank(o->held.p[o->held.n - n - 1])) n++;
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

/* Where the closing tag begins; what was looked through before is not looked through again. */
static size_t find_close(ApiOutput *o, const char *close) {
    Slice all = held(o), rest = {all.p + o->looked, all.n - o->looked};
    size_t at = find(rest, close);
    if (at != SIZE_MAX) return o->looked + at;
    o->looked = all.n - overlap(all, close);
    return SIZE_MAX;
}

static bool in_call(ApiOutput *o, bool end) {
    const CallTags *t = &tags[o->calls];
    size_t at = find_close(o, t->close);
    if (at == SIZE_MAX && !end) return false;
    size_t n = at == SIZE_MAX ? o->held.n : at;
    o->looked = 0;
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
