/* SPDX-License-Identifier: Apache-2.0
 *
 * The n-th allocation fails, for n = 1, 2, ... until none is left to fail, in a template that goes through all parts of
 * the engine: each time there are words, no leak, and output and spans are as they were.
 */
#include "base/fault.h"
#include "test.h"
#include "token/chat.h"

static const char source[] =
    "{% macro f(a, b=[1, 2]) %}{{ a }}{{ b | tojson(indent=2) }}{{ varargs }}{{ kwargs }}{{ "
    "caller() if "
    "caller }}{% endmacro %}"
    "{% set ns = namespace(n=0) %}{% set t %}{{ 'é' * 3 }}{% endset %}"
    "{% for m in messages if m.role %}{% generation %}{{ m.content | upper | indent(2) }}{% set "
    "ns.n = "
    "ns.n + loop.index %}{% endgeneration %}{{ loop.cycle('x', 'y') }}{% else %}-{% endfor %}"
    "{% call(z) f(1, *[3, 4], **{'k': 5}) %}{{ z }}{% endcall %}"
    "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}{% "
    "endif "
    "%}{% endfor %}"
    "{{ '%5s|%-3d|%.2f' % ('a', 7, 2.5) }}{{ '{:>{}} {k!r}'.format(5, 9, k=[1]) }}"
    "{{ 'a b-c d' | wordwrap(3) | urlencode }}{{ '<b>' | e + '<' }}{{ {'a': '<'} | xmlattr }}"
    "{{ '<p>a&lt;b</p>' | striptags | title }}{{ [{'k': 'b'}, {'k': 'A'}] | groupby('k') }}"
    "{{ [3, 1, 2] | sort | map('string') | list | join('-') }}{{ {'b': 1, 'a': 2} | dictsort | "
    "list }}"
    "{{ 'a,b'.split(',')[::-1] }}{{ 'ß'.upper() ~ t.casefold() }}{{ strftime_now('%Y') }}{{ "
    "range(9)[1:3] "
    "}}{{ messages }}";

static Status step(Err *e) {
    Chat *c = NULL;
    Json *m = NULL, *fit = NULL;
    StrBuf out = {0};
    JinjaSpans spans = {0};
    OK_(json_parse(&m,
                   slice_of(
                       "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\nb\"}]},"
                       "{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                       "\"arguments\":\"{}\"}}]},{\"role\":\"user\",\"content\":\"c\"}]"),
                   NULL));
    sb_puts(&out, "before");
    Status st = sb_check(&out, e);
    if (st == OK) st = chat_new_text(&c, slice_of(source), NULL, e);
    if (st == OK) st = chat_messages(&fit, c, m, e);
    if (st == OK) {
        st = chat_render(&out, &spans, c, &(ChatReq){.messages = fit, .opts = {.now_s = 1}}, e);
        if (st == OK) EQ(spans.n, 3);
        else EQ(spans.n, 0);
        if (st == OK) TRUE_(out.n > 200);
        else EQ_STR(sb_str(&out), "before");
    }
    json_free(m);
    json_free(fit);
    chat_free(c);
    sb_deinit(&out);
    jinja_spans_deinit(&spans);
    return st;
}

TEST(fault_jinja) {
    size_t live = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fault_arm(FAULT_ALLOC, n);
        Status st = step(&e);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (mem_live_bytes() != live)
            FAIL("n = %d: %zu bytes more", (int)n, mem_live_bytes() - live);
        if (!fired) {
            OK_(st);
            TRUE_(n > 50);
            return;
        }
        if (st == OK) FAIL("n = %d: the fault went unnoticed", (int)n);
        if (!e.msg[0]) FAIL("n = %d: no words", (int)n);
        EQ(st, ERR_NOMEM);
    }
}
