#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot run with a tiny random model: one prompt, piped prompts, a terminal, Ctrl-C, wrong values.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf 16384 || fail "no model"

# ---- one prompt ----
expect_ok "$INGOT" run --help
out_has "Ctrl-C stops"
expect_ok "$INGOT" run model.gguf -p "def add(a, b):" -n 40 --temp 0 --ids
[ "$(wc -w <out)" = 40 ] || fail "not 40 ids"
[ "$(wc -l <out)" = 1 ] || fail "not one line"
ids=$(cat out)
expect_ok "$INGOT" run model.gguf -p "def add(a, b):" -n 40 --temp 0 --ids --threads 1 --prefill-chunk 3 --kv-cache-type f32
eq "ids with one thread, small chunks and an f32 cache" "$(cat out)" "$ids"
expect_ok "$INGOT" run model.gguf -p "def add(a, b):" -n 40 --temp 0 --ids --kv-cache-type q8_0
[ "$(wc -w <out)" = 40 ] || fail "not 40 ids with a q8_0 cache"
expect_fail 2 'f16\|q8_0\|f32|kv-cache-type' "$INGOT" run model.gguf -p x --kv-cache-type q4_0
expect_ok "$INGOT" run model.gguf -p "def add(a, b):" -n 40 --temp 0
text=$(tr -d '\0' <out | od -c)
# shellcheck disable=SC2086
"$INGOT" tokenizer decode model.gguf $ids >decoded || fail "decode"
python3 - out decoded <<'PY' || fail "text is not the decoded ids"
import sys
a, b = (open(p, "rb").read().decode("utf-8", "replace").rstrip("\n") for p in sys.argv[1:])
sys.exit(a != b)
PY
printf 'def add(a, b):' >prompt.txt
expect_ok "$INGOT" run model.gguf -f prompt.txt -n 40 --temp 0
eq "text of a prompt file" "$(tr -d '\0' <out | od -c)" "$text"
expect_ok "$INGOT" run model.gguf -f - -n 40 --temp 0 <prompt.txt
eq "text of standard input" "$(tr -d '\0' <out | od -c)" "$text"

expect_ok "$INGOT" run model.gguf -p "hello" -n 7 --temp 0 --json
python3 - "$WORK/out" <<'PY' || fail "json"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["prompt_tokens"] == 5 and j["tokens"] == 7 == len(j["ids"]), j
assert j["finish"] == "length" and isinstance(j["text"], str), j
PY

# ---- sampling ----
expect_ok "$INGOT" run model.gguf -p "hello" -n 30 --seed 5 --ids
a=$(cat out)
expect_ok "$INGOT" run model.gguf -p "hello" -n 30 --seed 5 --ids
eq "the same seed" "$(cat out)" "$a"
expect_ok "$INGOT" run model.gguf -p "hello" -n 30 --seed 6 --ids
[ "$(cat out)" != "$a" ] || fail "another seed, the same text"
expect_ok "$INGOT" run model.gguf -p "hello" -n 30 --ids -v
err_has "seed [0-9]+"
err_has "prompt: 5 tokens, .* generated: 30 tokens"
a=$(cat out) seed=$(sed -n 's/.*seed \([0-9]*\)$/\1/p' err)
expect_ok "$INGOT" run model.gguf -p "hello" -n 30 --ids --seed "$seed"
eq "the seed that --verbose printed" "$(cat out)" "$a"
expect_ok "$INGOT" run model.gguf -p "hello" -n 30 --top-k 1 --seed 9 --ids
a=$(cat out)
expect_ok "$INGOT" run model.gguf -p "hello" -n 30 --temp 0 --ids
eq "top-k 1 is greedy" "$(cat out)" "$a"

# ---- stop strings, several samples ----
expect_ok "$INGOT" run model.gguf -p "hello" -n 40 --temp 0 --json
jq -e '.stop == null and .cached_tokens == 0' out >/dev/null || fail "no stop string, nothing cached"
python3 - <<'PY' || fail "no stop string found"
import json
text = json.load(open("out"))["text"]
plain = lambda c: c.isascii() and c.isprintable() and c != " "
at = next(i for i in range(3, 30) if plain(text[i]) and plain(text[i + 1]) and text.find(text[i:i + 2]) == i)
open("stop", "w").write(text[at:at + 2])
open("before", "w").write(text[:at])
PY
expect_ok "$INGOT" run model.gguf -p "hello" -n 40 --temp 0 --json --stop "never there" --stop "$(cat stop)"
python3 - <<'PY' || fail "the text does not end before the stop string"
import json
j = json.load(open("out"))
assert j["text"] == open("before").read() and j["finish"] == "stop" and j["stop"] == open("stop").read(), j
assert j["tokens"] == len(j["ids"]) < 40, j
PY
expect_ok "$INGOT" run model.gguf -p "hello" -n 40 --temp 0 --json --include-stop --stop "$(cat stop)"
jq -e --rawfile a before --rawfile b stop '.text == $a + $b' out >/dev/null || fail "text with its stop string"
expect_ok "$INGOT" run model.gguf -p "hello" -n 40 --temp 0 --stop "$(cat stop)"
{ cat before; echo; } | cmp - out || fail "the text printed is another"
expect_fail 2 'stop string 1 is empty' "$INGOT" run model.gguf -p a --stop a --stop ""
# shellcheck disable=SC2046
expect_fail 2 '17 stop strings, the limit is 16' "$INGOT" run model.gguf -p a $(printf -- '--stop %d ' $(seq 17))
expect_fail 2 'samples' "$INGOT" run model.gguf -p a --samples 0

expect_ok "$INGOT" run model.gguf -p "hello" -n 12 --seed 3 --json
one=$(jq -c .ids out)
expect_ok "$INGOT" run model.gguf -p "hello" -n 12 --seed 3 --json --samples 4
eq "samples" "$(jq '.samples | length' out)" 4
eq "the first of many is the only one" "$(jq -c '.samples[0].ids' out)" "$one"
eq "samples that differ" "$(jq -c '.samples[].ids' out | sort -u | wc -l)" 4
expect_ok "$INGOT" run model.gguf -p "hello" -n 12 --seed 3 --ids --samples 4
eq "lines of ids" "$(grep -cE '^[0-9]+( [0-9]+){11}$' out)" 4
expect_ok "$INGOT" run model.gguf -p ab -n 50 --temp 1 --seed 4 --regex '[a-c]{3}-[0-9]{2}' --samples 3
eq "samples of an expression" "$(grep -cE '^[a-c]{3}-[0-9]{2}$' out)" 3
eq "their headings" "$(grep -cE '^--- [1-3] of 3$' out)" 3

# ---- special tokens ----
for way in "" --special; do
    # shellcheck disable=SC2086
    expect_ok "$INGOT" run model.gguf -p "<|endoftext|>" -n 1 --json $way
    out_has "\"prompt_tokens\":$([ -n "$way" ] && echo 1 || echo 13),"
done

# ---- wrong values ----
expect_fail 2 'prompt is empty' "$INGOT" run model.gguf -p ""
expect_fail 2 'give one' "$INGOT" run model.gguf -p a -f prompt.txt
expect_fail 2 'argument is missing' "$INGOT" run -p a
expect_fail 2 'temp' "$INGOT" run model.gguf -p a --temp -1
expect_fail 2 'temp' "$INGOT" run model.gguf -p a --temp nan
expect_fail 2 'top_p' "$INGOT" run model.gguf -p a --top-p 0
expect_fail 2 'top_k' "$INGOT" run model.gguf -p a --top-k -1
expect_fail 2 '^ingot: n: ' "$INGOT" run model.gguf -p a -n 0
expect_fail 2 'max_ctx 99999 .*16384' "$INGOT" run model.gguf -p a -c 99999
expect_fail 2 'prompt has 200 tokens, the limit is 99' "$INGOT" run model.gguf -c 100 -p "$(printf 'x%.0s' $(seq 200))"
expect_fail 1 'nowhere.gguf' "$INGOT" run nowhere.gguf -p a
expect_fail 1 'nowhere.txt' "$INGOT" run model.gguf -f nowhere.txt
head -c 5000 model.gguf >half.gguf
expect_fail 1 'half.gguf' "$INGOT" run half.gguf -p a
printf 'GGUF' >four.gguf
expect_fail 1 'four.gguf' "$INGOT" run four.gguf -p a
"$INGOT" run model.gguf -p a -n 5 >/dev/full 2>err
eq "exit status of a full disk" $? 1
err_has '^ingot: standard output: No space left'

# ---- piped prompts ----
printf 'one\n\n/help\ntwo' | "$INGOT" run model.gguf -n 4 --temp 0 --ids >out 2>err || fail "piped prompts"
eq "lines of ids" "$(grep -cE '^[0-9]+( [0-9]+){3}$' out)" 2
out_has "/quit"
printf '/quit\none\n' | "$INGOT" run model.gguf -n 4 --ids >out 2>err || fail "quit"
[ ! -s out ] || fail "went on after /quit"

# ---- Ctrl-C, a reader that leaves ----
"$INGOT" run model.gguf -p a -n 16000 -c 16384 --ids --ignore-end >out 2>err &
pid=$!
for _ in $(seq 200); do [ -s out ] && break; sleep 0.02; done
kill -INT $pid
wait $pid
eq "exit status after Ctrl-C" $? 1
n=$(wc -w <out)
{ [ "$n" -gt 0 ] && [ "$n" -lt 16000 ]; } || fail "$n tokens after Ctrl-C"
[ "$(tail -c 1 out)" = "" ] || fail "no newline after Ctrl-C"
timeout 20 "$INGOT" run model.gguf -p a -n 16000 -c 16384 --ids --ignore-end 2>err | head -c 20 >/dev/null
eq "exit status when the reader left" "${PIPESTATUS[0]}" 1

# ---- answers held to a form ----
cat >schema.json <<'J'
{"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 17}, "b": {"type": "boolean"}},
 "required": ["n", "b"], "additionalProperties": false}
J
for seed in 1 2 3; do
    expect_ok "$INGOT" run model.gguf -p ab -n 400 --temp 1 --top-k 0 --top-p 1 --seed $seed --schema schema.json --json
    python3 - <<'P' || fail "the schema was not kept"
import json
r = json.load(open("out"))
v = json.loads(r["text"])
assert set(v) == {"n", "b"} and 3 <= v["n"] <= 17 and v["b"] in (True, False), v
P
done
expect_ok "$INGOT" run model.gguf -p ab -n 50 --temp 1 --seed 4 --regex '[a-c]{3}-[0-9]{2}'
grep -qE '^[a-c]{3}-[0-9]{2}$' out || fail "the expression was not kept: $(cat out)"
echo 'root ::= "yes" | "no"' >yes.gbnf
expect_ok "$INGOT" run model.gguf -p ab -n 50 --grammar yes.gbnf
grep -qE '^(yes|no)$' out || fail "the grammar was not kept: $(cat out)"
expect_fail 1 'yes.gbnf' "$INGOT" run model.gguf -p ab --schema yes.gbnf
expect_fail 1 'regex: 1:' "$INGOT" run model.gguf -p ab --regex '(('
expect_fail 2 'three ways' "$INGOT" run model.gguf -p ab --regex a --grammar yes.gbnf

# ---- guesses ahead ----
for t in "--temp 0" "--temp 0.9 --seed 3" "--temp 0.9 --seed 3 --regex ([a-c]{2}[0-9]){30}"; do
    # shellcheck disable=SC2086
    expect_ok "$INGOT" run model.gguf -p "abcabcabc" -n 60 --ids --batch-invariant $t
    a=$(cat out)
    for s in "ngram" "model.gguf" "model.gguf --speculate-tokens 32 --prefill-chunk 3"; do
        # shellcheck disable=SC2086
        expect_ok "$INGOT" run model.gguf -p "abcabcabc" -n 60 --ids --batch-invariant $t -v --speculate $s
        eq "ids with --speculate $s, $t" "$(cat out)" "$a"
        err_has "guessed: [0-9]+ tokens"
    done
done
expect_ok "$INGOT" run model.gguf -p "abcabcabc" -n 60 --ignore-end --temp 0 --json --speculate model.gguf
python3 - <<'P' || fail "its own draft model: $(cat out)"
import json
r = json.load(open("out"))
assert r["drafted"] > 40 and r["drafted_right"] > 0.9 * r["drafted"], r
P
expect_fail 1 'nowhere.gguf' "$INGOT" run model.gguf -p a --speculate nowhere.gguf
expect_fail 1 'half.gguf' "$INGOT" run model.gguf -p a --speculate half.gguf
expect_fail 2 'speculate_tokens' "$INGOT" run model.gguf -p a --speculate ngram --speculate-tokens 33

# ---- a terminal ----
cat >terminal.py <<'PY'
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], [sys.argv[1], "run", "model.gguf", "--temp", "0", "-n", "9000", "-c", "16384", "--ids", "--ignore-end"])
seen = b""
def until(word, limit=20):
    global seen
    end = time.time() + limit
    while word not in seen:
        if time.time() > end or not select.select([fd], [], [], 0.5)[0]:
            if time.time() > end: sys.exit(f"no {word!r} in {seen[-300:]!r}")
            continue
        try: seen += os.read(fd, 65536)
        except OSError: break
    if word not in seen: sys.exit(f"no {word!r} in {seen[-300:]!r}")
    seen = seen[seen.index(word) + len(word):]
until(b"Type a text")
until(b"> ")
os.write(fd, b"ab\x7fc\n")        # an edit on the way
for _ in range(3): until(b" 1")   # ids are coming
os.write(fd, b"\x03")
until(b"> ")
os.write(fd, b"/help\n")
until(b"/quit")
until(b"> ")
os.write(fd, b"\x04")            # may come before the editor is ready: it counts all the same
for _ in range(200):
    done, status = os.waitpid(pid, os.WNOHANG)
    if done: sys.exit(os.waitstatus_to_exitcode(status))
    if select.select([fd], [], [], 0.05)[0]:
        try: os.read(fd, 65536)
        except OSError: time.sleep(0.05)  # its end is closed: it is about to leave
sys.exit("still there after Ctrl-D")
PY
python3 terminal.py "$INGOT" >out 2>err || fail "terminal"
exit 0
