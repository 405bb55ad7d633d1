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

static JinjaSpans *spans_wanted;

static Status render(StrBuf *out, const char *source, const JinjaOpts *o) {
    Jinja *t = NULL;
    Json *messages = NULL;
    OK_(json_parse(&messages, slice_of(messages_json), TERR));
    JinjaVar vars[] = {{"messages", messages, {NULL, 0}}, {"bos_token", NULL, slice_of("<s>")}};
    Status st = jinja_parse(&t, slice_of(source), TERR);
    if (st == OK) st = jinja_render(out, spans_wanted, t, vars, COUNT_OF(vars), o, TERR);
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
    /* generators give each element once */
    {"{% set g = ['a','b','c'] | map('upper') %}{{ g | first }}{{ g | list }}{{ g | list }}",
     "A['B', 'C'][]"},
    {"{% set g = [1,2,3,4] | select %}{% for x in g %}{{ x }}{% if x == 2 %}{% break %}{% endif "
     "%}{% "
     "endfor %}|{{ g | join }}",
     "12|34"},
    /* loops */
    {"{% for x in 'ab' %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.length }}{{ "
     "loop.previtem }}{{ loop.nextitem }}{{ loop.cycle(1, 2) }}{{ loop.changed(x) }};{% endfor %}",
     "02True2b1True;11False2a2True;"},
    {"{% for x in [[1,[2]],[3]] recursive %}{% if x is iterable %}({{ loop(x) }}){{ loop.depth "
     "}}{% "
     "else %}{{ x }}{% endif %}{% endfor %}",
     "(1(2)2)1(3)1"},
    {"{% for x in [] %}a{% else %}b{% endfor %}", "b"},
    /* macros */
    {"{% macro f(a, b='z') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, "
     "k=4) "
     "}}{{ f(*[5, 6]) }}{{ f(**{'b': 7}) }}",
     "12(3,){'k': 4}56(){}7(){}"},
    {"{% macro f(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) f(3) %}b{{ y }}{% endcall %}{{ "
     "f.name "
     "}}{{ f.arguments }}",
     "<b3>f('x',)"},
    {"{% set t | upper %} a {% endset %}[{{ t }}]{% filter trim %} b {% endfilter %}", "[ A ]b"},
    /* markup */
    {"{{ '<' ~ ('<' | safe) }}{{ '<' + ('<' | safe) }}{{ ('<' | e) | e }}{{ ['<' | safe] }}",
     "<<&lt;<&lt;[Markup('<')]"},
    /* texts */
    {"{{ '%05.1f|%-4d|%x|%r|%(k)s' % {'k': 1} if false else '%05.1f|%-4d|%+x|%r' % (2.25, 7, -255, "
     "'a') "
     "}}",
     "002.2|7   |-ff|'a'"},
    {"{{ '{:>6,}|{:<4}|{:^5}|{:.2e}|{0}'.format(1234567, 'a', 'b', 3.14159) if false else "
     "'{:>10,}|{:<4}|{:^5}|{:.2e}|{:#x}|{k!r}'.format(1234567, 'a', 'b', 3.14159, 255, k='z') }}",
     " 1,234,567|a   |  b  |3.14e+00|0xff|'z'"},
    {"{{ 'one two-three four' | wordwrap(8) }}|{{ 'a b c d e f' | truncate(5, leeway=0) }}|{{ 'a/b "
     "?&' "
     "| urlencode }}|{{ {'a': 1, 'b': none} | xmlattr }}|{{ '<p>x &amp; y</p>' | striptags }}",
     "one two-\nthree\nfour|a...|a/b%20%3F%26| a=\"1\"|x & y"},
    {"{{ 'a\nb' | indent(2, true) }}|{{ \"they're ok\" | title }}|{{ 'Straße ΑΣ'.upper().lower() "
     "}}|{{ "
     "1500000 | filesizeformat }}",
     "  a\n  b|They're Ok|strasse ας|1.5 MB"},
    {"{{ 'abcabc'.find('c', 3) }}{{ ' a  b '.rsplit(none, 1) }}{{ 'a\r\nb\\x0bc'.splitlines() }}{{ "
     "'7'.zfill(3) }}{{ 'a\\tb'.expandtabs(4) }}{{ '²'.isdigit() }}{{ '²'.isdecimal() }}",
     "5[' a', 'b']['a', 'b', 'c']007a   bTrueFalse"},
    /* lists and dicts */
    {"{{ {'a': 1}.keys() }}{{ {'a': 1}.values() }}{{ {'a': 1}.items() }}{{ range(3) }}{{ "
     "range(9)[1:7:2] }}",
     "dict_keys(['a'])dict_values([1])dict_items([('a', 1)])range(0, 3)range(1, 7, 2)"},
    {"{% for g in [{'k': 'B', 'n': 1}, {'k': 'a', 'n': 2}, {'k': 'b', 'n': 3}] | groupby('k') %}{{ "
     "g.grouper }}{{ g.list | sum(attribute='n') }}{% endfor %}",
     "a2B4"},
    {"{{ range(5) | slice(2) | list }}{{ range(5) | batch(2, 'x') | list }}{{ [3,1] | sort }}{{ "
     "{'b': "
     "1, 'a': 2} | dictsort }}",
     "[[0, 1, 2], [3, 4]][[0, 1], [2, 3], [4, 'x']][1, 3][('a', 2), ('b', 1)]"},
    {"{{ {'b': [1, {}], 'a': 'é'} | tojson(indent=1, sort_keys=true, ensure_ascii=true) }}",
     "{\n \"a\": \"\\u00e9\",\n \"b\": [\n  1,\n  {}\n ]\n}"},
    {"{{ 7.5 // -2 }} {{ -7.5 % 2 }} {{ 2.675 | round(2) }} {{ 1250 | round(-2) }} {{ '0x1f' | "
     "int(0, "
     "16) }} {{ 1e16 }} {{ 0.1 + 0.2 }}",
     "-4.0 0.5 2.67 1200 31 1e+16 0.30000000000000004"},
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
    {"{{ f(a=1, 2) }}", "line 1, column 11"},
    {"{% macro f(a=1, b) %}{% endmacro %}", "column 18"},
    {"{% macro f(a) %}{% endmacro %}\n{{ f(1, 2) }}", "line 2"},
    {"{% macro f(a) %}{% endmacro %}{{ f(z=1) }}", "takes no argument z"},
    {"{{ 'x' | trim(1, 2, 3) }}", "trim takes 1 arguments, not 3"},
    {"{{ 'x'.replace('a') }}", "replace wants 2 arguments"},
    {"{{ 'x' | indent(widht=1) }}", "takes no argument widht"},
    {"{{ messages | map('upper') | last }}", "generator"},
    {"{{ messages.append(1) }}", "line 1"},
    {"{{ '%d' % 'x' }}", "line 1"},
    {"{{ '{} {1}'.format(1, 2) }}", "line 1"},
    {"{{ nowhere.at }}", "'nowhere' is undefined"},
    {"{% break %}", "line 1, column 4"},
    {"{% filter length %}x{% endfilter %}", "line 1"},
    {"{{ {[]: 1} }}", "line 1"},
    {"{{ nowhere | int }}", "'nowhere' is undefined"},
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

static void check_spans(const char *source, size_t n, const size_t (*want)[2]) {
    StrBuf out = {0};
    JinjaSpans spans = {0};
    spans_wanted = &spans;
    sb_puts(&out, "äb"); /* what stands in front counts */
    OK_(render(&out, source, NULL));
    EQ(spans.n, n);
    for (size_t i = 0; i < n; i++) {
        EQ(spans.v[i].begin, want[i][0]);
        EQ(spans.v[i].end, want[i][1]);
    }
    spans_wanted = NULL;
    jinja_spans_deinit(&spans);
    sb_deinit(&out);
}

/* Characters, not bytes; what is captured first counts from where its statement began. */
TEST(spans_are_those_of_transformers) {
    check_spans("é{% generation %}ü{% endgeneration %}x{% generation %}y{% endgeneration %}", 2,
                (const size_t[][2]){{3, 4}, {5, 6}});
    check_spans(
        "{% for m in messages %}{{ loop.index }}{% generation %}ab{% endgeneration %}{% endfor %}",
        3, (const size_t[][2]){{3, 5}, {6, 8}, {9, 11}});
    check_spans("12{% set x %}345{% generation %}ab{% endgeneration %}{% endset %}{{ x }}", 1,
                (const size_t[][2]){{4, 6}});
    check_spans(
        "{% macro f() %}..{% generation %}a{% endgeneration %}{% endmacro %}1{{ f() }}2{{ f() }}",
        2, (const size_t[][2]){{3, 4}, {7, 8}});
    check_spans("{% generation %}a{% generation %}b{% endgeneration %}{% endgeneration %}", 2,
                (const size_t[][2]){{2, 3}, {2, 4}});
}

/* Whatever it costs, it ends, and says where. */
TEST(hostile_templates_end) {
    static const char *const greedy[] = {
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ ('a' * 100000) | list | map('upper') | join('x' * 10000) }}",
        "{{ ('a' * 1000000).replace('', 'x' * 1000) }}",
        "{{ '%4096s' % 'x' ~ '%99999999999s' % 'x' }}",
        "{{ '{:{}}'.format('x', 99999999) }}",
        "{{ ('a ' * 500000) | wordwrap(1) | indent(64) | indent(64) }}",
        "{{ range(0, 9223372036854775807, 1) }}",
        "{% set ns = namespace(l=[]) %}{% for i in range(300) %}{% set ns.l = [ns.l] %}{% endfor "
        "%}{{ ns.l "
        "}}",
        "{% set ns = namespace(l=[]) %}{% for i in range(300) %}{% set ns.l = [ns.l, ns.l] %}{% "
        "endfor "
        "%}{{ ns.l == [ns.l] }}{{ ns.l | tojson }}",
        "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, **{'k' "
        "~ i: i}) "
        "%}{% endfor %}",
        "{{ ('-' * 4000000) | wordwrap(3) | length }}{{ ('a-' * 4000000) | wordwrap(3) | length }}",
        "{% for i in range(9999) %}{{ ('<!--' * 100000) | striptags | length }}{% endfor %}",
        "{% set a = 'a' * 2000000 %}{% for i in range(99999) %}{{ a.rfind('a' * 1000 ~ 'b') }}{% "
        "endfor %}",
        "{% set a = 'a' * 2000000 %}{% for i in range(99999) %}{{ a.find('a' * 1000 ~ 'b') }}{% "
        "endfor %}",
        "{% set a = ' ' * 2000000 %}{% for i in range(99999) %}{{ a | int }}{% endfor %}",
        "{% set a = [''] * 100000 %}{% for i in range(99999) %}{{ a | join }}{% endfor %}",
    };
    JinjaOpts few = {.max_steps = 2000000, .max_out = 1 << 20, .max_mem = 16 << 20};
    for (size_t i = 0; i < COUNT_OF(greedy); i++) {
        StrBuf out = {0};
        Status st = render(&out, greedy[i], &few);
        if (st == OK) FAIL("%s: %zu bytes", greedy[i], out.n);
        if (!strstr(test_err.msg, "line 1, column")) FAIL("%s: %s", greedy[i], test_err.msg);
        EQ(out.n, 0);
        sb_deinit(&out);
    }
}
