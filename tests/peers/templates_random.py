#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random small templates beside Jinja.

    tests/peers/templates_random.py [N] [SEED]      INGOT=build/ingot

Expressions and statements are put together by kind (texts, numbers, lists, dicts), now and then of the wrong one. What
Python renders, `ingot template` must render to the same bytes; what fails there must fail here. Texts with addresses in
them (generators, methods) are left out. Differences are printed with the template, shortened where that keeps them.
"""
import os, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if p != HERE]  # a neighbour has the name of a module that jinja2's imports need
import importlib.util, json, random, re, subprocess, tempfile
from concurrent.futures import ThreadPoolExecutor

import jinja2

spec = importlib.util.spec_from_file_location("templates", os.path.join(HERE, "templates.py"))
templates = importlib.util.module_from_spec(spec)
spec.loader.exec_module(templates)
environment = templates.environment

NOW = 1718000000
VARIABLES = {
    "s": "Hello, World  foo-bar", "t": " \tÄöü ß straße\n", "e": "", "m": "a,b,,c;d", "w": "line one\nline two\r\n\nlast",
    "h": "<b a='1'>x & \"y\"</b>", "i": 7, "j": -3, "z": 0, "x": 2.5, "y": -0.125, "q": 1e20, "yes": True, "no": False,
    "nil": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "le": [], "lm": [1, "a", None, 2.0, [1], {"k": 1}],
    "d": {"b": 1, "a": 2, "C": 3}, "de": {}, "dn": {"x": {"y": [1, {"z": "deep"}]}, "k": "v"},
    "o": [{"n": "x", "v": 3, "g": "A"}, {"n": "y", "v": 1, "g": "b"}, {"n": "z", "v": 2, "g": "a"}],
}
R = random.Random()
pick = R.choice


def some(*makers):
    return pick(makers)()


def words():
    return pick(["'a'", "'abc'", "''", "' x '", "'A b-c'", "'é'", "'ﬁx'", "\"it's\"", "'1'", "'2.5'", "'\\n'", "'-'", "','", "' '", "'aXbX'",
                 "'%s'", "'%d|%5.1f'", "'{}'", "'日本'", "'ΑΣ'", "'1_0'", "'0x1f'"])


def text(n):
    if n <= 0:
        return some(words, lambda: pick(["s", "t", "e", "m", "w", "h"]))
    a = lambda: text(n - 1)
    i = lambda: number(n - 2)
    return some(
        lambda: f"{a()} ~ {value(n - 1)}", lambda: f"({a()} + {a()})", lambda: f"({a()} * {pick(['0', '1', '2', '3', '-1'])})",
        lambda: f"{atom(n)}.{pick(['upper', 'lower', 'title', 'capitalize', 'swapcase', 'strip', 'lstrip', 'rstrip', 'casefold'])}()",
        lambda: f"{atom(n)}.{pick(['strip', 'lstrip', 'rstrip', 'removeprefix', 'removesuffix'])}({a()})",
        lambda: f"{atom(n)}.replace({a()}, {a()}{pick(['', ', 1', ', 0', ', -1'])})",
        lambda: f"{atom(n)}.{pick(['center', 'ljust', 'rjust'])}({small()}{pick(['', ', words()'.replace('words()', repr('*'))])})",
        lambda: f"{atom(n)}.{pick(['zfill', 'expandtabs'])}({small()})", lambda: f"{atom(n)}.join({texts(n - 1)})",
        lambda: f"{atom(n)}[{index()}]", lambda: f"{atom(n)}[{bound()}:{bound()}]", lambda: f"{atom(n)}[{bound()}:{bound()}:{pick(['1', '2', '-1', '-2', '3'])}]",
        lambda: f"{a()} | {pick(['upper', 'lower', 'title', 'capitalize', 'trim', 'e', 'string', 'reverse', 'urlencode', 'striptags', 'safe', 'forceescape', 'first'])}",
        lambda: f"{a()} | {pick(['trim', 'default', 'join'])}({a()})", lambda: f"{a()} | replace({a()}, {a()})",
        lambda: f"{a()} | {pick(['indent', 'indent(2)', 'indent(1, true)', 'indent(3, blank=true)', 'indent(width=0, first=true)'])}",
        lambda: f"{a()} | center({small()})", lambda: f"{a()} | truncate({small()}{pick(['', ', true', ', false, end=' + repr('~'), ', leeway=0', ', true, ' + repr('') + ', 0'])})",
        lambda: f"{a()} | wordwrap({pick(['3', '5', '8', '1', '12'])}{pick(['', ', false', ', wrapstring=' + repr('|'), ', break_on_hyphens=false'])})",
        lambda: f"{value(n - 1)} | tojson{pick(['', '(indent=2)', '(ensure_ascii=true)', '(sort_keys=true)', '(separators=(' + repr(',') + ', ' + repr(':') + '))', '(indent=1, sort_keys=true)'])}",
        lambda: f"{dicts(n - 1)} | xmlattr", lambda: f"{number(n - 1)} | filesizeformat{pick(['', '(true)'])}",
        lambda: f"({a()} if {boolean(n - 1)} else {a()})", lambda: f"({a()} or {a()})", lambda: f"{a()} | {pick(['first', 'last'])}",
        lambda: f"'%{pick(['', '-', '0', '+', ' ', '#'])}{pick(['', '5', '3'])}{pick(['', '.2', '.0'])}{pick('sdiuxXoeEfFgGrc')}' % {value(n - 1)}",
        lambda: f"'{{:{pick(['', '<', '>', '^', '*^', '=', '0'])}{pick(['', '+', ' '])}{pick(['', '#'])}{pick(['', '6', '10'])}{pick(['', ','])}{pick(['', '.3', '.1'])}{pick(['', 's', 'd', 'x', 'X', 'b', 'o', 'e', 'f', 'g', '%'])}}}'.format({value(n - 1)})",
        lambda: f"'{{0}}-{{1!r}}-{{k}}'.format({value(n - 1)}, {value(n - 1)}, k={value(n - 1)})",
        lambda: f"'{{0[{pick(['0', '1', 'a', 'b'])}]}}'.format({value(n - 1)})",
        lambda: f"'%s' | format({value(n - 1)})", lambda: f"{value(n - 1)} | string", lambda: f"{strs(n)} | join({a()})",
        lambda: f"strftime_now({pick(['%Y', '%d %b %Y', '%H:%M', '%A %j', '%f|%Z|%z'])!r})")


def atom(n):
    t = text(n - 1)
    return t if re.fullmatch(r"\w+|'[^']*'", t) else f"({t})"


def small():
    return pick(["0", "1", "2", "3", "5", "8", "12", "20", "i"])


def index():
    return pick(["0", "1", "-1", "2", "-3", "9"])


def bound():
    return pick(["", "", "0", "1", "2", "-1", "-2", "9", "-9"])


def number(n):
    if n <= 0:
        return pick(["0", "1", "2", "-1", "7", "10", "2.5", "0.1", "1e3", "i", "j", "x", "y", "z", "q", "1.0", "100000", "3.14159"])
    a = lambda: number(n - 1)
    return some(
        lambda: f"({a()} {pick('+-*')} {a()})", lambda: f"({a()} {pick(['//', '%', '/'])} {a()})", lambda: f"({a()} ** {pick(['0', '1', '2', '3', '-1', '0.5'])})",
        lambda: f"(-{a()})", lambda: f"(+{a()})", lambda: f"{value(n - 1)} | {pick(['length', 'count'])}", lambda: f"{text(n - 1)} | wordcount",
        lambda: f"{atom(n)}.{pick(['find', 'rfind', 'count', 'index', 'rindex'])}({text(n - 1)}{pick(['', ', 1', ', 1, 4', ', -3', ', 50'])})",
        lambda: f"{value(n - 1)} | {pick(['int', 'float', 'int(5)', 'float(1.5)', 'int(default=3)', 'int(0, 16)', 'int(0, 2)'])}", lambda: f"{a()} | abs",
        lambda: f"{a()} | round{pick(['', '(1)', '(2)', '(-1)', '(0, ' + repr('floor') + ')', '(1, ' + repr('ceil') + ')'])}",
        lambda: f"{nums(n - 1)} | {pick(['sum', 'min', 'max', 'first', 'last', 'length'])}", lambda: f"o | sum(attribute='v')", lambda: f"({a()} if {boolean(n - 1)} else {a()})",
        lambda: f"{lists(n - 1)}.{pick(['count', 'index'])}({value(n - 2)})", lambda: f"d.{pick('abC')}", lambda: f"o[{index()}].v")


def nums(n):
    if n <= 0:
        return pick(["l", "[1, 2, 3]", "[]", "[0.5, -1, 7]", "range(4)", "range(1, 9, 3)", "range(5, 0, -2)", "(4, 5)", "[true, 2]"])
    a = lambda: nums(n - 1)
    return some(a, lambda: f"[{number(n - 1)}, {number(n - 1)}]", lambda: f"{a()} | sort{pick(['', '(true)', '(reverse=true)'])}", lambda: f"{a()} | {pick(['list', 'unique | list', 'reverse | list'])}",
                lambda: f"({a()} + {a()})", lambda: f"{a()} | {pick(['select', 'reject'])}({pick(['odd', 'even', 'number', 'integer', 'float'])!r}) | list", lambda: f"{a()} | select({pick(['gt', 'le', '==', 'ne', 'divisibleby'])!r}, {number(0)}) | list",
                lambda: f"{a()} | map({pick(['abs', 'int', 'float', 'round'])!r}) | list", lambda: f"({a()})[{bound()}:{bound()}:{pick(['', '1', '-1', '2'])}]", lambda: "o | map(attribute='v') | list")


def strs(n):
    if n <= 0:
        return pick(["ls", "['x', 'y']", "[]", "('p', 'q')", "'abc'", "d"])
    a = lambda: strs(n - 1)
    return some(a, lambda: f"[{text(n - 1)}, {text(n - 1)}]", lambda: f"{atom(n)}.{pick(['split', 'rsplit'])}({pick(['', text(0), text(0) + ', 1', 'none, 1', 'maxsplit=1', 'sep=' + words()])})",
                lambda: f"{atom(n)}.splitlines({pick(['', 'true'])})", lambda: f"{atom(n)}.{pick(['partition', 'rpartition'])}({text(0)})", lambda: f"{a()} | sort{pick(['', '(case_sensitive=true)', '(true)'])}",
                lambda: f"{a()} | {pick(['unique', 'reverse', 'map(' + repr('upper') + ')', 'select', 'map(' + repr('length') + ')', 'select(' + repr('string') + ')', 'reject(' + repr('in') + ', ' + repr('abc') + ')', 'map(' + repr('replace') + ', ' + repr('a') + ', ' + repr('b') + ')'])} | list",
                lambda: f"{a()} | list", lambda: f"{a()} | batch({pick('123')}{pick(['', ', 0'])}) | list", lambda: f"{a()} | slice({pick('123')}{pick(['', ', ' + repr('-')])}) | list",
                lambda: f"o | map(attribute={pick(['n', 'g', 'zz'])!r}{pick(['', ', default=' + repr('?')])}) | list", lambda: f"d | list", lambda: f"d.{pick(['keys', 'values', 'items'])}() | list")


def texts(n):
    return strs(n)


def lists(n):
    return some(lambda: nums(n), lambda: strs(n), lambda: pick(["lm", "le", "o", "[1, [2, 3]]"]), lambda: f"[{value(n - 1)}, {value(n - 1)}]",
                lambda: f"o | {pick(['selectattr', 'rejectattr'])}({pick(['v', 'n', 'g', 'zz'])!r}{pick(['', ', ' + repr('defined'), ', ' + repr('equalto') + ', 2', ', ' + repr('in') + ', [1, 2]', ', ' + repr('gt') + ', 1'])}) | list",
                lambda: f"o | {pick(['sort(attribute=' + repr('v') + ')', 'sort(attribute=' + repr('g,n') + ')', 'groupby(' + repr('g') + ')', 'groupby(' + repr('v') + ')', 'unique(attribute=' + repr('g') + ') | list', 'groupby(' + repr('zz') + ', default=0)', 'max(attribute=' + repr('v') + ')', 'min(attribute=' + repr('g') + ')'])}",
                lambda: f"{dicts(n - 1)} | dictsort{pick(['', '(true)', '(by=' + repr('value') + ')', '(false, ' + repr('key') + ', true)'])}", lambda: f"{dicts(n - 1)} | items | list", lambda: f"{lists(n - 1)} * 2" if n > 0 else "le")


def dicts(n):
    return some(lambda: pick(["d", "de", "dn", "dn.x", "{'k': 1}", "{1: 'a', 'b': none}", "dict(a=1, b='x')", "o[0]", "{}"]), lambda: f"{{{words()}: {value(n - 1)}, 'q': {value(n - 1)}}}", lambda: f"dict({dicts(n - 1)}, z={value(n - 1)})" if n > 0 else "d")


def boolean(n):
    if n <= 0:
        return pick(["yes", "no", "true", "false", "nil", "i", "e", "le", "s"])
    a = lambda: boolean(n - 1)
    return some(lambda: f"({a()} and {a()})", lambda: f"({a()} or {a()})", lambda: f"(not {a()})", lambda: f"({number(n - 1)} {pick(['<', '>', '<=', '>=', '==', '!='])} {number(n - 1)})",
                lambda: f"({text(n - 1)} {pick(['<', '>', '==', '!=', 'in', 'not in'])} {text(n - 1)})", lambda: f"({value(n - 1)} {pick(['==', '!=', 'in', 'not in'])} {value(n - 1)})", lambda: f"({value(n - 1)} in {lists(n - 1)})",
                lambda: f"({value(n - 1)} is {pick(['', 'not '])}{pick(['defined', 'none', 'string', 'number', 'integer', 'float', 'boolean', 'mapping', 'sequence', 'iterable', 'true', 'false', 'callable', 'upper', 'lower', 'odd', 'even', 'undefined', 'escaped', 'eq 1', 'in [1]', 'divisibleby 2', 'sameas none', 'gt 0', 'filter', 'test'])})",
                lambda: f"{atom(n)}.{pick(['isalpha', 'isdigit', 'isalnum', 'isspace', 'isupper', 'islower', 'istitle', 'isascii', 'isdecimal', 'isnumeric', 'isprintable', 'isidentifier'])}()", lambda: f"{atom(n)}.{pick(['startswith', 'endswith'])}({pick([text(0), '(' + words() + ', ' + words() + ')', text(0) + ', 1', text(0) + ', 0, -1'])})",
                lambda: f"({number(n - 1)} < {number(n - 1)} <= {number(n - 1)})")


def value(n):
    if R.random() < 0.03:
        return pick(["nowhere", "nowhere.at", "nil.x", "s.nothing", "d['nokey']", "lm[9]", "d.get('zz')", "d.get('a', 0)", "(1,)", "()", "[[]]", "-0.0", "1e16", "d.keys()", "d.items()", "d.values()"])
    return some(lambda: text(n), lambda: number(n), lambda: lists(n), lambda: dicts(n), lambda: boolean(n), lambda: pick(list(VARIABLES)))


def dash():
    return pick(["", "", "", "-", "+"])


def tag(body):
    return "{%" + dash() + " " + body + " " + dash() + "%}"


def literal():
    return pick([" ", "\n", "x", "  a\n", "\n  ", "|", "é", "{ }", "\t"])


def block(n):
    return "".join(some(literal, shown, *([lambda: statement(n - 1)] if n > 0 else [])) for _ in range(R.randint(1, 3)))


def shown():
    return "{{" + pick(["", "-"]) + " " + value(R.randint(0, 2)) + " " + pick(["", "-"]) + "}}"


LOOP = ["loop.index", "loop.index0", "loop.revindex", "loop.revindex0", "loop.first", "loop.last", "loop.length", "loop.previtem", "loop.nextitem", "loop.depth", "loop.cycle('a', 'b')", "loop.changed(it)", "it", "loop.depth0"]


def statement(n):
    b = lambda: block(n)
    v = lambda: value(1)
    return some(
        lambda: tag(f"if {boolean(1)}") + b() + tag("endif"), lambda: tag(f"if {boolean(1)}") + b() + tag(f"elif {v()}") + b() + tag("else") + b() + tag("endif"),
        lambda: tag(f"for it in {lists(1)}") + "{{ " + pick(LOOP) + " }}" + b() + pick(["", tag("if loop.index > 1") + tag(pick(["break", "continue"])) + tag("endif")]) + "{{ " + pick(LOOP) + " }}" + pick(["", tag("else") + b()]) + tag("endfor"),
        lambda: tag(f"for k, it in {dicts(1)}.items(){pick(['', ' if it', ' if k is string'])}") + "{{ k }}{{ it }}{{ " + pick(LOOP) + " }}" + tag("endfor"),
        lambda: tag(f"for it in {pick(['[1, [2, [3]], []]', '[[1], [[2]]]'])} recursive") + "{% if it is iterable %}({{ loop(it) }}){{ loop.depth }}{% else %}{{ it }}{% endif %}" + tag("endfor"),
        lambda: tag(f"set it = {v()}") + "{{ it }}", lambda: tag("set it") + b() + tag("endset") + "[{{ it }}]", lambda: tag("set it | upper") + b() + tag("endset") + "[{{ it }}]", lambda: tag(f"set k, it = {v()}, {v()}") + "{{ k }}{{ it }}",
        lambda: "{% set ns = namespace(a=0) %}" + tag(f"for it in {lists(1)}") + "{% set ns.a = ns.a + 1 %}" + b() + tag("endfor") + "{{ ns.a }}",
        lambda: tag("macro f(a, b='B', c=none)") + "<{{ a }}{{ b }}{{ c }}" + pick(["", "{{ varargs }}", "{{ kwargs }}", "{{ varargs }}{{ kwargs }}", "{{ caller is defined }}"]) + ">" + tag("endmacro") + "{{ f(" + pick(["", "1", "1, 2", "1, c=3", "1, 2, 3, 4", "b=2", "1, z=5", "*l", "**{'a': 1}", "1, *ls[:1], c=2", "a=1, **{'b': 2}"]) + ") }}",
        lambda: "{% macro f(x) %}<" + b() + "{{ caller(x) }}{{ x }}>{% endmacro %}" + tag("call(y) f(" + v() + ")") + "{{ y }}" + b() + tag("endcall"), lambda: tag(f"with it = {v()}, k = 2") + "{{ it }}" + b() + tag("endwith") + "{{ k is defined }}",
        lambda: tag(f"filter {pick(['upper', 'trim', 'indent(2)', 'replace(' + repr('a') + ', ' + repr('b') + ')', 'length', 'title'])}") + b() + tag("endfilter"), lambda: "{#" + dash() + " note " + dash() + "#}",
        lambda: tag("raw") + "{{ x }}" + tag("endraw"), lambda: tag("generation") + b() + tag("endgeneration"),
        lambda: "{% set g = " + strs(1) + " | map('upper') %}{{ g | first }}|{% for it in g %}{{ it }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}|{{ g | list }}", lambda: "{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.current }}{{ c.next() }}{% set jo = joiner('; ') %}{% for it in l %}{{ jo() }}{{ it }}{% endfor %}")


def template():
    return shown() if R.random() < 0.55 else block(R.randint(1, 3))


def ask(ingot, folder, path, *more):
    return subprocess.run([ingot, "template", path, "--vars", os.path.join(folder, "vars.json"), "--now", str(NOW), *more], capture_output=True, timeout=60)


def differs(ingot, folder, number_of_it, source, want, spans):
    """None: the same; an empty text: both fail; else what differs."""
    silent = (MemoryError, RecursionError, jinja2.exceptions.TemplateAssertionError)  # unknown filters are told of when they are met, not before
    if isinstance(want, silent) or (isinstance(want, bytes) and (b" at 0x" in want or b"generator object" in want)):
        return None
    path = os.path.join(folder, f"{number_of_it}.jinja")
    with open(path, "w", newline="") as f:
        f.write(source)
    got, fails = ask(ingot, folder, path), isinstance(want, Exception)
    told = ask(ingot, folder, path, "--spans").stdout.decode().split() if spans and not fails else []
    os.unlink(path)
    if told != [str(x) for span in spans for x in span] and not fails:
        return f"  python: spans {spans}\n  ingot:  {told}"
    if got.returncode in (0, 1, 2) and (got.returncode != 0) == fails and (fails or got.stdout == want):
        return "" if fails else None
    if b"over 64 bits" in got.stderr or b"no real number" in got.stderr:
        return None
    return f"  python: {want!r}\n  ingot:  {got.stdout!r} {got.stderr.decode().strip()}"


def main():
    n, seed = (int(sys.argv[1]) if len(sys.argv) > 1 else 2000), (int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30))
    R.seed(seed)
    ingot, env, bad, failed = os.environ.get("INGOT", "build/ingot"), environment(), 0, 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        with open(os.path.join(folder, "vars.json"), "w") as f:
            json.dump(VARIABLES, f)
        sources = [template() for _ in range(n)]
        wants = [templates.expected(env, source, VARIABLES) for source in sources]
        for source, what in zip(sources, pool.map(lambda k: differs(ingot, folder, k, sources[k], *wants[k]), range(n))):
            failed += what == ""
            if what:
                bad += 1
                print(f"DIFFERS {source!r}\n{what}")
    print(f"seed {seed}: {n} templates, {failed} that fail in both, {bad} differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
