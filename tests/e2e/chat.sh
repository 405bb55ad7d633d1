#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot run as a conversation: one message, lines from a pipe with commands, reasoning, a terminal, models without a
# template, templates that refuse.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
cat >think.jinja <<'J'
{%- for m in messages %}
{%- if m.role == 'system' and not loop.first %}{{ raise_exception('system comes first') }}{% endif %}
{{- '<|turn|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|done|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|turn|>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}
J
python3 "$E2E/tiny_chat.py" model.gguf think.jinja '<|turn|>' '<|done|>' || fail "no model"
run() { "$INGOT" run model.gguf --threads 1 "$@"; }

# ---- one message ----
expect_ok run -p hi -n 5 --ids --seed 1
plain=$(cat out)
expect_ok run -p hi -n 5 --json --seed 1
jq -e '.prompt_tokens == 2 and .content == null' out >/dev/null || fail "-p alone continues a text: $(cat out)"
expect_ok run -p hi -n 5 --ids --seed 1 --no-chat
eq "--no-chat says the same" "$(cat out)" "$plain"
echo '[{"role": "user", "content": "hi"}]' >m.json
expect_ok "$INGOT" template model.gguf -m m.json --ids
n=$(wc -w <out)
expect_ok run -p hi --chat -n 5 --json --seed 1
jq -e ".prompt_tokens == $n" out >/dev/null || fail "--chat: not the template's $n tokens: $(cat out)"
echo '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]' >m.json
expect_ok "$INGOT" template model.gguf -m m.json --ids
n=$(wc -w <out)
expect_ok run -p hi --system "Be brief." -n 5 --json
jq -e ".prompt_tokens == $n" out >/dev/null || fail "--system: not the template's $n tokens: $(cat out)"
expect_ok run -p hi --chat --regex 'yes|no'
grep -qE '^(yes|no)$' out || fail "a grammar in a conversation: $(cat out)"
printf '{{ messages[0].content }}!' >own.jinja
expect_ok run -p hi --template own.jinja -n 2 --json
jq -e '.prompt_tokens == 3' out >/dev/null || fail "--template: $(cat out)"
# the token behind an answer ends one, though no name in the program tells
expect_ok run -p hi --chat -n 8000 --temp 100 --top-k 0 --top-p 1 --seed 3 --json
jq -e '.finish == "stop" and (.stop == 258 or .stop == 256)' out >/dev/null || fail "no end: $(head -c 300 out)"
for seed in 1 2 3 4 5 6; do
    expect_ok run -p hi --chat -n 8000 --temp 100 --top-k 0 --top-p 1 --seed $seed --json
    jq -r .stop out
done >stops
grep -q 258 stops || fail "<|done|> never ended an answer: $(cat stops)"

# ---- reasoning ----
think=$'<think>\nhm\n</think>\n\nyes'
expect_ok run -p hi --chat --regex "$think" --json
jq -e '.reasoning == "hm" and .content == "yes"' out >/dev/null || fail "reasoning: $(cat out)"
expect_ok run -p hi --chat --regex "$think"
eq "a pipe gets it as it comes" "$(cat out)" "$think"
expect_ok run -p hi --no-think --regex 'yes' --json
jq -e '.content == "yes" and .reasoning == null' out >/dev/null || fail "--no-think: $(cat out)"

# ---- lines from a pipe ----
printf '%s\n' one '/system Be brief.' '"""two' 'lines"""' '/save a.json' /undo '/save b.json' /retry '/save c.json' /reset \
    '/save d.json' '/load a.json' '/save e.json' /nope /help '/load nowhere.json' |
    run --regex "($think)|[a-c]{3}" --seed 3 >out 2>err
eq "exit status after a failed command" $? 1
err_has 'nowhere.json'
out_has 'There is no /nope'
out_has 'Type a message'
jq -e '[.[].role] == ["system", "user", "assistant", "user", "assistant"] and .[3].content == "two\nlines" and .[0].content == "Be brief."' a.json >/dev/null || fail "a.json: $(cat a.json)"
jq -e '[.[].content | contains("think")] | any | not' a.json >/dev/null || fail "reasoning in the conversation: $(cat a.json)"
jq -e '[.[].role] == ["system", "user", "assistant"]' b.json >/dev/null || fail "b.json: $(cat b.json)"
jq -e '[.[].role] == ["system", "user", "assistant"]' c.json >/dev/null || fail "c.json: $(cat c.json)"
jq -e '[.[].role] == ["system"]' d.json >/dev/null || fail "d.json: $(cat d.json)"
cmp a.json e.json || fail "what was saved is not what was loaded"
printf 'one\n/quit\ntwo\n' | run -n 3 --ids >out 2>err || fail "/quit"
eq "answers before /quit" "$(wc -l <out)" 1
expect_ok "$INGOT" template model.gguf -m a.json --ids # what is saved is what `ingot template` reads

# ---- models without a template ----
python3 "$E2E/tiny_chat.py" marks.gguf - '<|im_start|>' '<|im_end|>' || fail "no model"
echo hi | "$INGOT" run marks.gguf -n 3 --json >out 2>err || fail "marks"
err_has 'no chat template in the model: <\|im_start\|>'
jq -e '.prompt_tokens == 21' out >/dev/null || fail "the default of a model with marks: $(cat out)"
python3 "$E2E/tiny_chat.py" plain.gguf || fail "no model"
echo hi | "$INGOT" run plain.gguf -n 3 --json >out 2>err || fail "plain"
err_has 'no chat template in the model: texts are continued'
jq -e '.prompt_tokens == 2' out >/dev/null || fail "the default of other models: $(cat out)"
echo hi | "$INGOT" run plain.gguf --chat -n 3 --json >out 2>err || fail "plain --chat"
err_has 'plain text, "user: ..."'
jq -e '.prompt_tokens == 19' out >/dev/null || fail "plain conversation: $(cat out)"

# ---- what is refused ----
printf '{{ raise_exception("no users") }}' >refuse.jinja
expect_fail 1 'line 1, column [0-9]+: no users' run -p hi --template refuse.jinja
expect_fail 1 'nowhere.jinja' run -p hi --template nowhere.jinja
expect_fail 2 'limit is 63' run -c 64 --chat -p "$(printf 'x%.0s' $(seq 99))"

# ---- a terminal ----
cat >terminal.py <<'PY'
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], [sys.argv[1], "run", "model.gguf", "--threads", "1", "--regex", "<think>\nhm\n</think>\n\nyes"])
seen = b""
def until(word, limit=30):
    global seen
    end = time.time() + limit
    while word not in seen:
        if time.time() > end: sys.exit(f"no {word!r} in {seen[-300:]!r}")
        if not select.select([fd], [], [], 0.5)[0]: continue
        try: seen += os.read(fd, 65536)
        except OSError: break
    if word not in seen: sys.exit(f"no {word!r} in {seen[-300:]!r}")
    before, seen = seen[:seen.index(word)], seen[seen.index(word) + len(word):]
    return before
until(b"Type a message")
until(b"> ")
os.write(fd, b"hello\n")
until(b"\x1b[2mhm\x1b[0m")
until(b"yes")
until(b"> ")
os.write(fd, b'"""a\n')
until(b"... ")
os.write(fd, b'b"""\n')
until(b"yes")
until(b"> ")
os.write(fd, b"/system\n")
until(b"no system message")
os.write(fd, b"/quit\n")
for _ in range(300):
    done, status = os.waitpid(pid, os.WNOHANG)
    if done: sys.exit(os.waitstatus_to_exitcode(status))
    if select.select([fd], [], [], 0.05)[0]:
        try: os.read(fd, 65536)
        except OSError: time.sleep(0.05)
sys.exit("still there after /quit")
PY
python3 terminal.py "$INGOT" >out 2>err || fail "terminal"
exit 0
