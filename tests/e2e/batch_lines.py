# SPDX-License-Identifier: Apache-2.0
"""Requests of a batch, and what must be true of their answers.

batch_lines.py make N [TOKENS [URL]]   N requests of four kinds (or all of one), some of them wrong; without URL also a line that
                                       is none and one whose custom_id comes twice
batch_lines.py check IN FILE...        each line of IN has one answer in one of the files, its own; prints how many are errors
"""
import hashlib
import json
import sys

URLS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]


def body(kind, i, n):
    return [{"messages": [{"role": "user", "content": f"q{i}"}], "max_tokens": n},
            {"prompt": f"p{i}", "max_tokens": n, "stream": True, "temperature": 0},
            {"input": f"x{i}"}, {"input": "hello", "max_output_tokens": n}][kind]


def make(n, tokens=8, url=None):
    for i in range(n):
        kind = URLS.index(url) if url else i % 4
        b = body(kind, i, tokens)
        if i % 50 == 8:
            b["temperature" if kind != 2 else "dimensions"] = 99
        print(json.dumps({"custom_id": f"c{i}", "method": "POST", "url": URLS[kind], "body": b}))
    if not url:
        print("nonsense\n")
        print(json.dumps({"custom_id": "c5", "method": "POST", "url": URLS[1], "body": {"prompt": "x"}}))


def check_answer(a, line):
    ok = a["response"] is not None and a["response"]["status_code"] == 200
    if a["custom_id"]:
        assert json.loads(line)["custom_id"] == a["custom_id"]
    if ok and a["response"]["body"]["object"] != "list":
        ask, used = json.loads(line)["body"], a["response"]["body"]["usage"]
        n = used.get("completion_tokens", used.get("output_tokens"))
        assert 0 <= n <= ask.get("max_tokens", ask.get("max_output_tokens")), a
    return ok


def check(lines, files):
    want, seen, errors = {}, set(), 0
    for i, line in enumerate(open(lines, "rb").read().split(b"\n")):
        if line.strip():
            want[f"batch_req_{i + 1}_{hashlib.sha256(line).hexdigest()[:16]}"] = line
    for name in files:
        text = open(name, "rb").read()
        assert not text or text.endswith(b"\n"), "a torn line"
        for line in text.split(b"\n")[:-1]:
            a = json.loads(line)
            assert a["id"] in want, "an answer to nothing: " + a["id"]
            assert a["id"] not in seen, "twice: " + a["id"]
            seen.add(a["id"])
            errors += not check_answer(a, want[a["id"]])
    assert len(seen) == len(want), f"{len(seen)} answers for {len(want)} lines"
    print(errors)


if sys.argv[1] == "make":
    make(int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 8, sys.argv[4] if len(sys.argv) > 4 else None)
else:
    check(sys.argv[2], sys.argv[3:])
