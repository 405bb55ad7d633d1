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
