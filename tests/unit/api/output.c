/* SPDX-License-Identifier: Apache-2.0
 * Chat answers taken apart: whatever the cuts between pieces, the parts are the same. */
#include "api/output.h"

#include "test.h"

/* What came, as one text: c(...) f(name:arguments), neighbours of a kind joined. */
typedef struct Seen {
    StrBuf b;
    char last;
} Seen;

static void note(Seen *s, char kind, Slice text) {
    if (s->last != kind || kind == 'f') {
        if (s->last) sb_puts(&s->b, ")");
        sb_printf(&s->b, "%c(", kind);
    }
    s->last = kind;
    sb_put(&s->b, text.p, text.n);
}

static void on_content(void *ctx, Slice t) { note(ctx, 'c', t); }
static void on_call(void *ctx, int index, Slice name, Slice args) {
    Seen *s = ctx;
    StrBuf t = {0};
    sb_printf(&t, "%d:%.*s:%.*s", index, (int)name.n, name.p, (int)args.n, args.p);
    note(s, 'f', (Slice){sb_str(&t), t.n});
    sb_deinit(&t);
}

static bool known(const void *tools, Slice name) {
    (void)tools;
    return name.n == 1;
}

/* The parts of text in pieces of `step` bytes. */
static void take(Seen *seen, ApiCalls calls, const char *text, size_t step) {
    ApiSink sink = {.content = on_content, .call = on_call, .known = known, .ctx = seen};
    ApiOutput o;
    size_t n = strlen(text);
    *seen = (Seen){0};
    api_output_init(&o, &sink, calls, slice_of("named"));
    for (size_t at = 0; at < n; at += step)
        api_output_push(&o, (Slice){text + at, MIN(step, n - at)}, false);
    api_output_push(&o, (Slice){"", 0}, true);
    api_output_deinit(&o);
    if (seen->last) sb_puts(&seen->b, ")");
}

static void expect(ApiCalls calls, const char *text, const char *want) {
    size_t n = strlen(text);
    for (size_t step = 1; step <= n + 1; step++) {
        Seen seen;
        take(&seen, calls, text, step);
        if (strcmp(sb_str(&seen.b), want) != 0)
            FAIL("in pieces of %zu, \"%s\" gives %s, not %s", step, text, sb_str(&seen.b), want);
        sb_deinit(&seen.b);
    }
}

TEST(text_is_content) {
    expect(API_CALLS_NONE, "hello <b>you</b>", "c(hello <b>you</b>)");
    expect(API_CALLS_NONE, "a < b", "c(a < b)");
    expect(API_CALLS_NONE, "  <thin", "c(  <thin)");
    expect(API_CALLS_NONE, "<tool_call>{}</tool_call>", "c(<tool_call>{}</tool_call>)");
    expect(API_CALLS_NONE, "", "");
}

TEST(calls_in_tags) {
    expect(API_CALLS_TAGS,
           "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
           "f(0:f:{\"a\":1})");
    expect(API_CALLS_TAGS,
           "I look.\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n"
           "<tool_call>{\"name\": \"g\", \"arguments\": {\"x\": \"</tool\"}}</tool_call>\n",
           "c(I look.)f(0:f:{})f(1:g:{\"x\":\"</tool\"})");
    expect(API_CALLS_TAGS, "\n<tool_call>{\"name\": \"f\"}</tool_call>", "f(0:f:{})");
    expect(API_CALLS_TAGS, "<tool_call>{\"name\": \"f\", \"arguments\": {}}", "f(0:f:{})");
    expect(API_CALLS_TAGS, "<tool_call>broken</tool_call> on",
           "c(<tool_call>broken</tool_call> on)");
    expect(API_CALLS_TAGS, "a <tool b", "c(a <tool b)");
}

TEST(bare_calls) {
    expect(API_CALLS_BARE, "{\"name\": \"f\", \"parameters\": {\"a\": \"}\"}}",
           "f(0:f:{\"a\":\"}\"})");
    expect(API_CALLS_BARE,
           "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": "
           "{}}",
           "f(0:f:{})f(1:g:{})");
    expect(API_CALLS_BARE, "{\"name\": \"Alice\", \"age\": 5}",
           "c({\"name\": \"Alice\", \"age\": 5})");
    expect(API_CALLS_BARE, "{\"name\": \"f\"}", "c({\"name\": \"f\"})");
    expect(API_CALLS_BARE, "{\"name\": \"f\", \"parameters\": {}} and more",
           "c({\"name\": \"f\", \"parameters\": {}} and more)");
    expect(API_CALLS_TAGS, "<tool_call>{\"name\": \"evil\"}</tool_call>",
           "c(<tool_call>{\"name\": \"evil\"}</tool_call>)");
    expect(API_CALLS_BARE, "{\"a\": 1}", "c({\"a\": 1})");
    expect(API_CALLS_BARE, "no {\"name\": \"f\"}", "c(no {\"name\": \"f\"})");
}

#define BAR "\xef\xbd\x9c"
#define GAP "\xe2\x96\x81"
TEST(calls_of_deepseek) {
    expect(API_CALLS_DEEPSEEK,
           "go <" BAR "tool" GAP "calls" GAP "begin" BAR "><" BAR "tool" GAP "call" GAP "begin" BAR
           ">function<" BAR "tool" GAP "sep" BAR ">f\n```json\n{\"a\": 1}\n```<" BAR "tool" GAP
           "call" GAP "end" BAR "><" BAR "tool" GAP "calls" GAP "end" BAR ">",
           "c(go)f(0:f:{\"a\": 1})");
}

TEST(forced_calls) {
    expect(API_CALLS_NAMED, "{\"a\": 2}", "f(0:named:{\"a\": 2})");
    expect(API_CALLS_LIST,
           "[{\"name\": \"f\", \"parameters\": {}}, {\"name\": \"g\", \"parameters\": {\"b\": 1}}]",
           "f(0:f:{})f(1:g:{\"b\":1})");
    expect(API_CALLS_LIST, " [{\"name\": \"f\", \"parameters\": {}}]", "f(0:f:{})");
}
