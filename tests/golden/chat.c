/* SPDX-License-Identifier: Apache-2.0
 * Chat templates in the manner of many makers, and what Python's Jinja, set up as Transformers sets it up, makes of them:
 * tests/golden/data/chat, written by tests/peers/templates.py --write. Never skips. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "text/jinja.h"

#define DIR "tests/golden/data/chat/"

static Json *read_cases(void) {
    StrBuf b = {0};
    Json *j = NULL;
    OK_(io_read_file(&b, DIR "expected.json", 1 << 20, TERR));
    OK_(json_parse(&j, (Slice){sb_str(&b), b.n}, TERR));
    sb_deinit(&b);
    return j;
}

static Jinja *read_template(Slice name) {
    char path[256];
    StrBuf b = {0};
    Jinja *t = NULL;
    snprintf(path, sizeof path, DIR "%.*s", (int)name.n, name.p);
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    OK_(jinja_parse(&t, (Slice){sb_str(&b), b.n}, TERR));
    sb_deinit(&b);
    return t;
}

static int add_vars(JinjaVar *v, int n, char names[][32], const Json *vars) {
    Slice key = {0};
    const Json *value = NULL;
    for (void *it = json_next(vars, NULL, &key, &value); it;
         it = json_next(vars, it, &key, &value)) {
        snprintf(names[n], sizeof names[n], "%.*s", (int)key.n, key.p);
        v[n] = (JinjaVar){.name = names[n], .json = value};
        n++;
    }
    return n;
}

static Status render(StrBuf *out, JinjaSpans *spans, const Json *all, const Json *c,
                     const Json *words) {
    char names[16][32];
    JinjaVar v[24];
    int64_t n_tools = json_int(json_get(c, "tools")), i = json_int(json_get(c, "conversation"));
    const Json *tools = n_tools == 0   ? json_at(words, 2)
                        : n_tools == 1 ? json_get(all, "one_tool")
                                       : json_get(all, "tools");
    const Json *conversation = json_at(json_get(all, "conversations"), (size_t)i);
    JinjaVar fixed[] = {
        {.name = "messages", .json = conversation},
        {.name = "tools", .json = tools},
        {.name = "documents", .json = json_at(words, 2)},
        {.name = "bos_token", .text = slice_of("<s>")},
        {.name = "eos_token", .text = slice_of("</s>")},
        {.name = "add_generation_prompt",
         .json = json_at(words, json_bool(json_get(c, "prompt")) ? 0 : 1)},
    };
    memcpy(v, fixed, sizeof fixed);
    const Json *vars = json_at(json_get(all, "vars"), (size_t)json_int(json_get(c, "vars")));
    int n = add_vars(v, (int)COUNT_OF(fixed), names, vars);
    JinjaOpts o = {.now_s = json_int(json_get(all, "now"))};
    Jinja *t = read_template(json_str(json_get(c, "template")));
    Status st = jinja_render(out, spans, t, v, n, &o, TERR);
    jinja_free(t);
    return st;
}

static void check_spans(const JinjaSpans *got, const Json *want) {
    EQ(got->n, json_len(want));
    for (size_t i = 0; i < got->n; i++) {
        EQ(got->v[i].begin, json_int(json_at(json_at(want, i), 0)));
        EQ(got->v[i].end, json_int(json_at(json_at(want, i), 1)));
    }
}

TEST(what_python_makes_of_them) {
    Json *all = read_cases(), *words = NULL;
    const Json *cases = json_get(all, "cases");
    int n_failing = 0, n_spans = 0;
    setenv("TZ", "UTC0", 1);
    OK_(json_parse(&words, slice_of("[true,false,null]"), TERR));
    TRUE_(json_len(cases) > 80);
    for (size_t i = 0; i < json_len(cases); i++) {
        const Json *c = json_at(cases, i), *want = json_get(c, "text");
        StrBuf out = {0};
        JinjaSpans spans = {0};
        Status st = render(&out, &spans, all, c, words);
        if (want && st != OK) FAIL("case %zu: %s", i, test_err.msg);
        if (want) {
            EQ_STR(sb_str(&out), json_str(want).p);
            check_spans(&spans, json_get(c, "spans"));
        } else {
            EQ(st, ERR_FORMAT);
        }
        n_failing += !want;
        n_spans += spans.n > 0;
        sb_deinit(&out);
        jinja_spans_deinit(&spans);
    }
    TRUE_(n_failing > 0 && n_spans > 5);
    json_free(words);
    json_free(all);
}
