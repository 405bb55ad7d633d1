/* SPDX-License-Identifier: Apache-2.0
 *
 * What a template makes of messages is not written down anywhere, so a few are rendered and looked at: whether what was
 * put in comes out, and as what. A probe that fails says no.
 */
#include "token/chat_internal.h"

enum { PROBE_STEPS = 200000, PROBE_BYTES = 4 << 20 };

#define USER "{\"role\":\"user\",\"content\":\"q\"}"
#define CALL(content, args)                                                                 \
    "[" USER ",{\"role\":\"assistant\",\"content\":" content                                \
    ",\"tool_calls\":[{\"id\":\"abcdef123\",\"type\":\"function\",\"function\":{\"name\":"  \
    "\"probe_name\",\"arguments\":" args "}}]},{\"role\":\"tool\",\"name\":\"probe_name\"," \
    "\"tool_call_id\":\"abcdef123\",\"content\":\"12\"}," USER "]"
#define OBJECT "{\"probe_key\":\"v\"}"
#define TEXT "\"{\\\"probe_key\\\": \\\"v\\\"}\""

static const char tool[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"probe_name\",\"description\":\"d\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"probe_key\":{\"type\":\"string\","
    "\"description\":\"d\"}},\"required\":[\"probe_key\"]}}}]";

/* The text of these messages in *out, which is emptied first; empty where the template refuses them. */
static Status probe(StrBuf *out, const Chat *c, const char *messages, const char *tools, Err *e) {
    Json *m = NULL, *t = NULL;
    Err why = {0};
    sb_clear(out);
    Status st = json_parse(&m, slice_of(messages), &why);
    if (st == OK && tools) st = json_parse(&t, slice_of(tools), &why);
    ChatReq req = {.messages = m,
                   .tools = t,
                   .add_prompt = true,
                   .opts = {.now_s = 1,
                            .max_steps = PROBE_STEPS,
                            .max_out = PROBE_BYTES,
                            .max_mem = PROBE_BYTES}};
    if (st == OK) st = chat_render(out, NULL, c, &req, &why);
    json_free(m);
    json_free(t);
    return st == ERR_NOMEM ? err_set(e, st, "%s", why.msg) : OK;
}

static bool shows(const StrBuf *b, const char *text) { return strstr(sb_str(b), text) != NULL; }

static Status probe_contents(ChatCaps *out, const Chat *c, StrBuf *b, Err *e) {
    TRY(probe(b, c, "[{\"role\":\"user\",\"content\":\"probe_text\"}]", NULL, e));
    out->texts = shows(b, "probe_text");
    TRY(probe(b, c,
              "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"probe_text\"}]}]",
              NULL, e));
    out->parts = shows(b, "probe_text") && !shows(b, "'type'") && !shows(b, "\"type\"");
    return OK;
}

/* How a call came out: 2 as JSON, 1 somehow, 0 not at all. */
static int rate(const StrBuf *b) {
    return !shows(b, "probe_name") || !shows(b, "probe_key") ? 0 : 1 + shows(b, "\"probe_key\"");
}

static Status probe_calls(ChatCaps *out, const Chat *c, StrBuf *b, Err *e) {
    static const char *const calls[] = {CALL("null", OBJECT), CALL("null", TEXT),
                                        CALL("\"\"", OBJECT), CALL("\"\"", TEXT)};
    int got[4];
    for (int i = 0; i < 4; i++) {
        TRY(probe(b, c, calls[i], NULL, e));
        got[i] = i < 2 && shows(b, "None") ? 0 : rate(b);
    }
    out->object_args = MAX(got[0], got[2]) >= MAX(got[1], got[3]);
    out->null_content = MAX(got[0], got[1]) > 0;
    out->empty_content = MAX(got[2], got[3]) > 0;
    return OK;
}

Status tok__chat_probe(ChatCaps *out, const Chat *c, Err *e) {
    StrBuf b = {0};
    Status st = probe_contents(out, c, &b, e);
    if (st == OK) st = probe_calls(out, c, &b, e);
    if (st == OK) st = probe(&b, c, "[" USER "]", tool, e);
    out->tools = st == OK && shows(&b, "probe_name");
    sb_deinit(&b);
    return st;
}

/* Where answers have channels, what is written behind one also stands between its parts. */
Status tok__chat_probe_end(int32_t *out, const Chat *c, const Tokenizer *tok, Err *e) {
    static const char answer[] = "probe_answer";
    StrBuf b = {0};
    TokBuf ids = {0};
    *out = -1;
    if (c->marks && c->marks->channels) return OK;
    Status st =
        probe(&b, c, "[" USER ",{\"role\":\"assistant\",\"content\":\"probe_answer\"}]", NULL, e);
    const char *at = st == OK ? strstr(sb_str(&b), answer) : NULL;
    for (at = at ? at + strlen(answer) : NULL; at && (*at == ' ' || *at == '\n');) at++;
    if (at) st = tok_encode(tok, slice_of(at), true, &ids, e);
    if (st == OK && ids.n && tok_type(tok, ids.v[0]) == TOK_CONTROL) *out = ids.v[0];
    tokbuf_deinit(&ids);
    sb_deinit(&b);
    return st;
}
