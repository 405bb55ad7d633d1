#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chat templates beside Jinja itself, set up as Transformers does.

    tests/peers/templates.py [FILE.jinja ...]      INGOT=build/ingot
    tests/peers/templates.py --write               tests/golden/data/chat/expected.json anew
    NODE_PATH=... tests/peers/templates.py --js    count what @huggingface/jinja, a second reader, says differently

Without files: those of tests/golden/data/chat and of $INGOT_TEST_DATA/templates. Every template is rendered for every
conversation below; where Python renders, `ingot template` must print the same bytes and the same spans of
{% generation %}, where Python fails, it must fail too. Small templates of one expression each are held to Python in
the same way.
"""
import os, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if p != HERE]  # a neighbour has the name of a module that jinja2's imports need
import datetime, glob, json, subprocess, tempfile, time

os.environ["TZ"] = "UTC0"
time.tzset()

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1718000000


class Generation(Extension):
    """As Transformers counts: a span begins where the text stood that was yielded so far."""

    tags = {"generation"}
    blocks, spans = [], []

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_count"), [], [], body).set_lineno(line)

    def _count(self, caller):
        text, begin = caller(), len("".join(Generation.blocks))
        Generation.spans.append([begin, begin + len(text)])
        return text


def environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def fail(message):
        raise jinja2.exceptions.TemplateError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = fail
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)
    return env


def user(text):
    return {"role": "user", "content": text}


def says(text, **more):
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "  Be brief.\n"}
CALL = {"type": "function", "id": "c12345678", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}
TEXT_CALL = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1.5}'}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The \"weather\" <here> & 'there'",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer",
                       "default": 1e20}}, "required": ["city"], "x": [None, True, 0.1, -3, 1e-7]}}}
TOOLS = [TOOL, {"type": "function", "function": {"name": "look", "description": "Looks.\nThen tells", "parameters": {
    "type": "object", "properties": {"what": {"type": ["string", "null"], "description": "thing"}, "how": {"type": "string", "enum": ["a", "b"], "default": "a"},
    "deep": {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "number"}}}}, "any": {"oneOf": [{"type": "boolean"}, {"type": "string"}]}}}}}]
CONVERSATIONS = [
    [], [user("Hi")], [SYSTEM, user("Hi")], [user(""), says(""), user("\n x \n")],
    [SYSTEM, user("Grüße, 世界 🙂"), says("Hallo\u00a0!"), user("a\tb\"c'd\\e")],
    [user("think"), says("<think>\nhm\n</think>\n\nyes"), user("more")],
    [user("w?"), says("", tool_calls=[CALL]), {"role": "tool", "content": "12 °C", "name": "weather"}],
    [user("w?"), says(None, tool_calls=[TEXT_CALL]), {"role": "tool", "content": "12"}, says("ok"), user("?")],
    [user("w?"), says("so", tool_calls=[CALL, CALL]), {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}],
    [user("w?"), says("", tool_calls=[CALL]), {"role": "tool", "content": {"t": [1, 2.0, None]}}],
    [user("a"), user("b")], [says("first")], [{"role": "odd", "content": "x"}], [{"role": "user"}],
    [user([{"type": "text", "text": "in parts"}])], [SYSTEM, SYSTEM, user("twice")],
]

SMALL = """
{{ [1, 2.0, 'a\\'b', "q", none, true, {'k': (1,)}, (), 1e16, 1e15, 0.0001, 1e-5, -0.0, 1.5e300] }}
{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -2 ** 2 }} {{ 7.5 // -2 }} {{ -7.5 % 2 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 2 not in [1, 2] }} {{ not 1 == 2 }} {{ 1 == 1.0 == true }}
{{ 'abcdef'[1:4] }} {{ 'abcdef'[::-1] }} {{ [1,2,3,4][-3:-1] }} {{ 'äöü'[1] }} {{ 'äöü'[-1:] }} {{ (1,2,3)[5:] }}
{{ 'a,b,,c'.split(',') }} {{ '  a  b '.split() }} {{ 'a b c d'.split(' ', 2) }} {{ 'a b c'.rsplit(' ', 1) }} {{ ' a b  c '.split(none, 1) }}
{{ 'xxaxx'.strip('x') }}|{{ ' a '.lstrip() }}|{{ 'abc'.rstrip('cb') }}|{{ '\\u00a0x\\n'.strip() }}
{{ 'hello world-foo bar'|title }} {{ "they're".title() }} {{ 'hELLO'|capitalize }} {{ 'Straße'|upper }} {{ 'ÀÉ'|lower }}
{% for x in [3,1,2]|sort %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}-{{ loop.nextitem }};{% endfor %}
{% for x in range(10) if x is odd %}{{ x }}{{ loop.cycle('a','b') }}{% if x > 5 %}{% break %}{% endif %}{% else %}none{% endfor %}
{% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}={{ v }} {% endfor %}{% for k, v in {'b': 1}.items() %}{{ k }}{{ v }}{% endfor %}
{% set ns = namespace(a=1) %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}
{% set x = 9 %}{% for i in range(3) %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}
{% macro m(a, b='d', c=none) %}[{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, 4) }}{{ m(b=1) }}{{ m(1, z=2) }}
{% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(3) %}body {{ y }}{% endcall %}
{{ [1,2,3]|tojson }} {{ {'a': [1, {'b': none}], 'ü': 'é\\n\\u2028"'}|tojson }} {{ {'a': [1, []], 'b': {}}|tojson(indent=2) }}
{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }} {{ 'é🙂\\x7f'|tojson(ensure_ascii=true) }}
{{ [{'n': 1, 'x': {'y': 5}}, {'n': 2}]|map(attribute='n')|list }} {{ ['a','b']|map('upper')|join('-') }} {{ [{'n':1}]|map(attribute='z', default='?')|list }}
{{ [{'r': 'a'}, {'r': 'b'}]|selectattr('r', 'equalto', 'a')|list }} {{ [0, 1, 2]|select|list }} {{ [1,2,3]|reject('odd')|list }} {{ [{'r': 1}, {}]|rejectattr('r', 'defined')|list }}
{{ undefined_thing }}|{{ undefined_thing is defined }}|{{ undefined_thing|default('d') }}|{{ ''|default('e', true) }}|{{ x.y is defined }}
{{ {}.x.y }}
{{ undefined_thing.y }}
{{ 'a' + 1 }}
{{ 'a' ~ 1 ~ none ~ 1.0 }} {{ 'x' * 3 }} {{ [1] + [2] }} {{ [0] * 2 }} {{ (1,) + (2,) }}
{{ 3.14159|round(2) }} {{ 2.5|round }} {{ 7|round(1) }} {{ 2.1|round(0, 'ceil') }} {{ '12'|int + 1 }} {{ '1.9'|int }} {{ 'x'|int(5) }} {{ '0x1f'|int(base=16) }} {{ '2.5'|float }} {{ -3|abs }} {{ (-3)|abs }}
{{ 'line1\\nline2\\n\\nx'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent(1, blank=true) }}
{{ 'a.b.c'.replace('.', '', 1) }} {{ 'aaa'|replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }}
{{ [3,1,2]|sort(reverse=true) }} {{ ['b','A','c']|sort }} {{ ['a','A','b']|unique|list }} {{ [1,2,3]|first }} {{ [1,2,3]|last }} {{ [1,2]|reverse|list }} {{ 'abc'|reverse }} {{ [1,5,2]|max }} {{ [1,5,2]|min }} {{ [1,2]|sum }}
{{ 1 is number }} {{ true is number }} {{ true is integer }} {{ 1 is boolean }} {{ 'a' is string }} {{ {} is mapping }} {{ 'a' is iterable }} {{ [] is sequence }} {{ 4 is divisibleby 2 }} {{ 3 is even }} {{ 1 is in [1] }} {{ none is none }} {{ 1 is true }} {{ true is true }} {{ 1 is sameas 1 }}
{{ '%s is %d and %.2f' % ('a', 3, 2.5) }} {{ '%s'|format('x') }} {{ '{} {1} {a}'|length }} {{ '{0}-{x}'.format(1, x=2) }}
{{ 'yes' if 1 else 'no' }} {{ 'yes' if 0 }} {{ 1 if 0 else 2 if 0 else 3 }} {{ 0 or 'x' }} {{ 1 and '' or 'z' }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t %}  block {{ a }} {% endset %}[{{ t }}]{% set u | upper | trim %} up {% endset %}[{{ u }}]
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}{% filter upper %}abc{% endfilter %}
{% raw %}{{ x }}{% y %}{% endraw %}{# gone #}!
a {%- if true -%}  b  {%- endif -%} c {%+ if true %} d {% endif +%}  e
  {% if true %}
  x
  {% endif %}
y
{{ messages.append(1) }}
{{ [1].append(2) }}
{{ {'items': 5}['items'] }}
{{ 'a\\'b"c' }} {{ "\\x41\\u00e9\\t\\q" }} {{ 'a' 'b' }} {{ 0x1F + 0b11 + 0o17 + 1_000 }} {{ 1.5e3 }} {{ 1e3 }}
{{ strftime_now('%d %b %Y %H:%M') }} {{ raise_exception is defined }}
{{ raise_exception('no') }}
{{ (1, 2) }} {{ 1, 2 }} {{ [] is defined and not [] }} {{ {'a': 1}.get('b', 3) }} {{ {'a': 1}['a'] }} {{ {'a':1}|length }} {{ {'b':1,'a':2}|list }} {{ {'a': 1}.keys()|list }} {{ {'a':1}.values()|list }}
{% for x in [[1,[2]],[3]] recursive %}{% if x is iterable %}({{ loop(x) }}){{ loop.depth }}{% else %}{{ x }}{% endif %}{% endfor %}
{% generation %}inside {{ 1 }}{% endgeneration %} outside
{{ [1,2,3,4,5]|batch(2)|list }} {% for g, l in [{'a':1,'b':2},{'a':1,'b':3},{'a':0,'b':1}]|groupby('a') %}{{ g }}{{ l|length }}{% endfor %}
{{ range(3) | list }} {{ range(1, 10, 3)|list }} {{ range(5, 0, -2)|join(',') }} {{ 10 ** 15 * 10 }} {{ -1 ** 2 }} {{ 2 ** -1 }} {{ 1.0 }} {{ 100000.0 * 10 }} {{ 3 * 1.1 }}
{{ 'a-b_c'.partition('-') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc') }} {{ 'abcabc'.find('c') }} {{ 'abcabc'.count('b') }} {{ 'a\\nb\\r\\nc'.splitlines() }} {{ 'Ab'.swapcase() }} {{ '12'.isdigit() }} {{ 'x'.join(['a','b']) }} {{ 'a'.ljust(3) }}| {{ 'abc'.center(6) }}|
{{ x is not defined }} {{ none|string }} {{ true|string|lower }} {{ 5|string ~ 'x' }} {{ '<a>'|e }} {{ 'a b'|wordcount }} {{ [[1,2],[3]]|map('first')|list }} {{ 'abc'|list }} {{ 'abc'|first }}
{{ 1 / 0 }}
{{ 'é\\x00\\x7f\\u200b' | list }}
"""


compiled = {}


def expected(env, source, variables):
    """Bytes and spans, or what Python says against it."""
    Generation.blocks, Generation.spans = [], []
    try:
        if source not in compiled:
            compiled.clear()
            compiled[source] = env.from_string(source)
        for block in compiled[source].generate(**variables):
            Generation.blocks.append(block)
        return "".join(Generation.blocks).encode(), Generation.spans
    except Exception as e:  # a failure is a failure
        return e, []


def dump(folder, name, value):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return path


def ask(ingot, folder, source, messages, tools, prompt, variables, *more):
    words = [ingot, "template", dump(folder, "t.jinja", source), "--messages", dump(folder, "m.json", messages),
             "--vars", dump(folder, "v.json", {"bos_token": "<s>", "eos_token": "</s>", **variables}), "--now", str(NOW)]
    words += ["--tools", dump(folder, "tools.json", tools)] if tools is not None else []
    words += [] if prompt else ["--no-prompt"]
    return subprocess.run(words + list(more), capture_output=True, timeout=60)


def want_of(env, source, messages, tools, prompt, variables):
    return expected(env, source, dict(messages=messages, tools=tools, documents=None, bos_token="<s>", eos_token="</s>",
                                      add_generation_prompt=prompt) | variables)


def check(env, ingot, folder, label, source, *request):
    want, spans = want_of(env, source, *request)
    got = ask(ingot, folder, source, *request)
    fails = isinstance(want, Exception)
    same = got.returncode in (0, 1, 2) and (got.returncode != 0) == fails and (fails or got.stdout == want)
    if same and "generation " in source and not fails:
        told = [[int(x) for x in line.split()] for line in ask(ingot, folder, source, *request, "--spans").stdout.decode().splitlines()]
        same, want, got.stdout = told == spans, spans, told
    if not same:
        print(f"DIFFERS {label}\n  python: {want!r}\n  ingot:  {got.stdout!r} {got.stderr.decode().strip()}")
    return same


VARIABLES = [{}, {"enable_thinking": False, "thinking": True, "builtin_tools": ["code_interpreter", "weather"],
                  "documents": [{"title": "A\nB", "text": "x " * 40}, {"text": 1}], "date_string": "today",
                  "reasoning_effort": "high"}]


def cases_of(files):
    for f in files:
        source = open(f).read()
        for i, c in enumerate(CONVERSATIONS):
            for t in (None, [TOOL], TOOLS):
                for p, v in ((True, 0), (False, 1)):
                    yield f, i, source, (c, t, p, VARIABLES[v])


def write(env, files):
    cases = []
    for f, i, source, request in cases_of(files):
        if (i + request[2] + len(request[1] or [])) % 2 or i in (5, 8):
            continue
        want, spans = want_of(env, source, *request)
        cases.append({"template": os.path.basename(f), "conversation": i, "tools": len(request[1] or []), "prompt": request[2],
                      "vars": VARIABLES.index(request[3]), "text": None if isinstance(want, Exception) else want.decode(), "spans": spans})
    kept = []
    for c in cases:  # a failure or two of each template are enough
        if c["text"] is None and sum(k["template"] == c["template"] and k["text"] is None for k in kept) > 1:
            continue
        kept.append(c)
    kept = kept[::4]
    with open(os.path.join(HERE, "../golden/data/chat/expected.json"), "w") as f:
        json.dump({"now": NOW, "conversations": CONVERSATIONS, "tools": TOOLS, "one_tool": [TOOL], "vars": VARIABLES, "cases": kept}, f, ensure_ascii=False, separators=(",", ":"))
    print(f"{len(kept)} cases")


def js(env, files):
    """How often the JavaScript reader says something else than Python; where they differ Python is right here."""
    cases = [(label, source, *request) for label, _, source, request in cases_of(files)]
    asked = [{"source": s, "variables": dict(messages=m, tools=t, documents=None, bos_token="<s>", eos_token="</s>", add_generation_prompt=p) | v,
              "now": NOW} for _, s, m, t, p, v in cases]
    done = subprocess.run(["node", os.path.join(HERE, "templates.cjs")], input=json.dumps(asked), capture_output=True, text=True, check=True)
    bad = 0
    for (label, *case), got in zip(cases, json.loads(done.stdout)):
        want, _ = want_of(env, *case)
        same = isinstance(want, Exception) == (got is None) and (got is None or got.encode() == want)
        bad += not same
        if not same:
            print(f"JS DIFFERS {label}: python {want!r:.200}, js {got!r:.200}")
    print(f"{len(cases)} renderings, {bad} differ")


def main():
    ingot, words = os.environ.get("INGOT", "build/ingot"), sys.argv[1:]
    own = sorted(glob.glob(os.path.join(HERE, "../golden/data/chat/*.jinja")))
    env, n, bad = environment(), 0, 0
    if words == ["--write"]:
        return write(env, own)
    files = [w for w in words if w != "--js"] or own + sorted(glob.glob(os.path.join(os.environ.get("INGOT_TEST_DATA", "/nowhere"), "templates/*")))
    if "--js" in words:
        return js(env, files)
    with tempfile.TemporaryDirectory() as folder:
        cases = [(f"small: {s}", s, [user("x")], None, True, {}) for s in SMALL.strip("\n").split("\n")]
        cases += [(f"{os.path.basename(f)} #{i} tools={len(r[1] or [])} prompt={r[2]} vars={bool(r[3])}", source, *r) for f, i, source, r in cases_of(files)]
        for case in cases:
            n += 1
            bad += not check(env, ingot, folder, *case)
            sys.stdout.flush()
    print(f"{n} renderings of {len(files)} templates and {len(SMALL.strip().splitlines())} lines, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
