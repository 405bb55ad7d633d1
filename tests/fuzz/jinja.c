/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a template, rendered over a small conversation within tight limits: it ends, a failure has words, and
 * the same template renders to the same text twice.
 */
#include <stdlib.h>

#include "text/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char values[] = "[{\"role\":\"system\",\"content\":\"Be "
                             "brief.\"},{\"role\":\"user\",\"content\":\"a <b> \\u00e9\\n\"},"
                             "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
                             "\"c\",\"function\":{\"name\":\"f\","
                             "\"arguments\":{\"x\":[1,2.5,true,null,-7],\"y\":\"z\"}}}]}]";

static Status render(StrBuf *out, JinjaSpans *spans, const Jinja *t, const Json *m, Err *e) {
    JinjaVar vars[] = {{"messages", m, {NULL, 0}},
                       {"tools", json_at(m, 1), {NULL, 0}},
                       {"bos_token", NULL, {"<s>", 3}},
                       {"add_generation_prompt", json_at(m, 0), {NULL, 0}}};
    JinjaOpts o = {.now_s = 1718000000, .max_steps = 50000, .max_out = 1 << 18, .max_mem = 1 << 20};
    return jinja_render(out, spans, t, vars, COUNT_OF(vars), &o, e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Jinja *t = NULL;
    Json *m = NULL;
    StrBuf one = {0}, two = {0};
    JinjaSpans spans = {0};
    Err e = {0};
    if (json_parse(&m, (Slice){values, sizeof values - 1}, &e) != OK) abort();
    Status st = jinja_parse(&t, (Slice){(const char *)data, size}, &e);
    if (st == OK) {
        st = render(&one, &spans, t, m, &e);
        for (size_t i = 0; i < spans.n; i++)
            if (spans.v[i].begin > spans.v[i].end) abort();
        if (render(&two, NULL, t, m, NULL) != st || one.n != two.n) abort();
        if (one.n && memcmp(one.p, two.p, one.n) != 0) abort();
    }
    if (st != OK && !e.msg[0]) abort();
    jinja_free(t);
    json_free(m);
    jinja_spans_deinit(&spans);
    sb_deinit(&one);
    sb_deinit(&two);
    return 0;
}
