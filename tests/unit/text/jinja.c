/* SPDX-License-Identifier: Apache-2.0
 * Chat templates: texts as Python's Jinja makes them (tests/peers/templates.py holds many more beside it), errors
 * with their place, and foreign templates that would never end. */
#include "text/jinja.h"

#include "test.h"

static const char messages_json[] =
    "[{\"role\":\"system\",\"content\":\" Be brief. \"},{\"role\":\"user\",\"content\":\"2 < 3?\"},"
    "{\"role\":\"assistant\",\"content\":\"Yes\",\"tool_calls\":[{\"name\":\"f\",\"arguments\":{"
    "\"a\":[1,2.5,"
    "null,true]}}]}]";

static Status render(StrBuf *out, const char *source, const JinjaOpts *o) {
    Jinja *t = NULL;
    Json *messages = NULL;
    OK_(json_parse(&messages, slice_of(messages_json), TERR));
    JinjaVar vars[] = {{"messages", messages, {NULL, 0}}, {"bos_token", NULL, slice_of("<s>")}};
    Status st = jinja_parse(&t, slice_of(source), TERR);
    if (st == OK) st = jinja_render(out, NULL, t, vars, COUNT_OF(vars), o, TERR);
    jinja_free(t);
    json_free(messages);
    return st;
}

static const char *const cases[][2] = {
    {"a{# nothing #}b", "ab"},
    {"{{ bos_token }}|{{ nowhere }}|{{ nowhere is defined }}", "<s>||False"},
    {"{% for m in messages %}\n{{ loop.index }}{{ ',' if not loop.last }}\n{% endfor %}\n",
     "1,\n2,\n3\n"},
    {"{%- for m in messages -%} [{{- m.role -}}] {%- endfor -%}", "[system][user][assistant]"},
    {"{{ messages[0].content | trim }}/{{ messages[0]['content'].strip() }}",
     "Be brief./Be brief."},
    {"{{ messages[-1].tool_calls | tojson }}",
     "[{\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, null, true]}}]"},
    {"{{ messages[1].content | tojson }}", "\"2 < 3?\""},
    {"{{ messages[2].tool_calls[0].arguments }}", "{'a': [1, 2.5, None, True]}"},
    {"{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 2 %}{% endfor %}{{ "
     "ns.n }}",
     "6"},
    {"{% set x = 1 %}{% for m in messages %}{% set x = 5 %}{% endfor %}{{ x }}", "1"},
    {"{% macro f(a, b='z') %}{{ a ~ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=2) }}", "1z12"},
    {"{{ messages[1:] | length }}{{ 'abc'[::-1] }}{{ 'a,b,c'.split(',', 1) }}", "2cba['a', 'b,c']"},
    {"{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ 1 < 2 < 2 }}", "-4 2 3.5 8 False"},
    {"{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join }}",
     "2 < 3?"},
    {"{% if messages[0].role == 'system' and 'x' not in 'abc' %}y{% else %}n{% endif %}", "y"},
    {"{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"},
    {"{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
};

TEST(texts_are_those_of_jinja) {
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        StrBuf out = {0};
        if (render(&out, cases[i][0], NULL) != OK) FAIL("%s: %s", cases[i][0], test_err.msg);
        EQ_STR(sb_str(&out), cases[i][1]);
        sb_deinit(&out);
    }
}

static const char *const wrong[][2] = {
    {"a\n  {{ 1 + }}", "line 2"},
    {"{% if %}", "line 1"},
    {"{% for x in messages %}", "line 1"},
    {"{{ raise_exception('no roles') }}", "no roles"},
    {"{{ 1 // 0 }}", "line 1"},
    {"{{ 'a' + 1 }}", "line 1"},
    {"{{ messages | nosuchfilter }}", "nosuchfilter"},
    {"{{ 'x", "line 1"},
};

TEST(errors_name_their_place) {
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        StrBuf out = {0};
        FAILS(ERR_FORMAT, render(&out, wrong[i][0], NULL));
        if (!strstr(test_err.msg, wrong[i][1])) FAIL("%s: %s", wrong[i][0], test_err.msg);
        EQ(out.n, 0);
        sb_deinit(&out);
    }
}

TEST(foreign_templates_are_bounded) {
    static const char *const greedy[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        ("{% set ns = namespace(s='x') %}{% for a in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% "
         "endfor %}"),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    };
    JinjaOpts few = {.max_steps = 200000, .max_out = 1 << 20, .max_mem = 4 << 20};
    for (size_t i = 0; i < COUNT_OF(greedy); i++) {
        StrBuf out = {0};
        Status st = render(&out, greedy[i], &few);
        if (st != ERR_FULL && st != ERR_FORMAT) FAIL("%s: %d", greedy[i], (int)st);
        sb_deinit(&out);
    }
    StrBuf deep = {0}, out = {0};
    for (int i = 0; i < 100000; i++) sb_putc(&deep, '(');
    StrBuf source = {0};
    sb_puts(&source, "{{ ");
    sb_put(&source, deep.p, deep.n);
    TRUE_(render(&out, sb_str(&source), &few) != OK);
    sb_deinit(&deep);
    sb_deinit(&source);
    sb_deinit(&out);
}
