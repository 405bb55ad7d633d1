#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot batch: a file of requests; torn, foreign and full outputs; killed again and again, with no line lost or done twice.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_chat.py" model.gguf || fail "no model"
lines() { python3 "$E2E/batch_lines.py" "$@"; }

lines make 120 >in.jsonl
expect_ok "$INGOT" batch model.gguf in.jsonl out.jsonl --json
jq -e '.lines == 122 and .left == 0 and .failed == 5 and .completed == 117 and .completion_tokens > 0' out >/dev/null ||
    fail "$(cat out)"
eq "errors" "$(lines check in.jsonl out.jsonl)" 5
eq "a wrong field" "$(jq -r 'select(.custom_id == "c8") | .response.status_code, .response.body.error.param' out.jsonl | xargs)" \
    "400 temperature"
eq "a line that is none" "$(jq -r 'select(.custom_id == null) | .error.code' out.jsonl)" invalid_json_line
eq "a custom_id twice" "$(jq -r 'select(.error.code == "duplicate_custom_id") | .custom_id' out.jsonl)" c5
cp out.jsonl whole.jsonl
expect_ok "$INGOT" batch -m model.gguf -i in.jsonl -o out.jsonl --json
jq -e '.done_before == 122 and .completion_tokens == 0' out >/dev/null || fail "$(cat out)"
cmp out.jsonl whole.jsonl || fail "a finished output was changed"
answers() {
    jq -c 'select(.response.body.object == "text_completion") | [.custom_id, .response.body.choices[0].text]' "$1" | sort
}

# ---- torn, foreign, full ----
head -c 3000 whole.jsonl >out.jsonl
expect_ok "$INGOT" batch model.gguf in.jsonl out.jsonl
eq "after a torn line" "$(lines check in.jsonl out.jsonl)" 5
eq "the same answers" "$(answers out.jsonl | md5sum)" "$(answers whole.jsonl | md5sum)"
sed 's/"p1"/"other"/' in.jsonl >in2.jsonl
expect_fail 1 'out.jsonl: line [0-9]+ answers a line that reads otherwise' "$INGOT" batch model.gguf in2.jsonl out.jsonl
echo 'my notes' >notes
expect_fail 1 'notes: line 1 is no JSON' "$INGOT" batch model.gguf in.jsonl notes
printf 'my notes' >notes
expect_fail 1 'notes: line 1 is no answer' "$INGOT" batch model.gguf in.jsonl notes
eq "notes as they were" "$(cat notes)" "my notes"
(cat whole.jsonl; tail -1 whole.jsonl) >twice.jsonl
expect_fail 1 'answers a line a second time' "$INGOT" batch model.gguf in.jsonl twice.jsonl
expect_fail 2 'one file' "$INGOT" batch model.gguf in.jsonl in.jsonl
expect_fail 1 'none.jsonl' "$INGOT" batch model.gguf none.jsonl out2.jsonl
[ ! -e out2.jsonl ] || fail "an output without an input"
expect_fail 2 'an argument is missing' "$INGOT" batch model.gguf in.jsonl
(ulimit -f 8; trap '' XFSZ; "$INGOT" batch model.gguf in.jsonl full.jsonl -q >out 2>err) && fail "a full disk was not seen"
grep -q '^ingot: full.jsonl: File too large' err || fail "$(cat err)"
expect_ok "$INGOT" batch model.gguf in.jsonl full.jsonl -q
eq "after a full disk" "$(lines check in.jsonl full.jsonl)" 5

# ---- kill -9 at random moments, SIGINT ----
lines make 1200 150 >in.jsonl
rm -f out.jsonl
kills=0
for i in $(seq 12); do
    "$INGOT" batch model.gguf in.jsonl out.jsonl -q >out 2>err &
    pid=$!
    sleep 0.$((RANDOM % 25 + 10))
    if [ $((i % 4)) = 0 ]; then kill -INT $pid; else kill -9 $pid && kills=$((kills + 1)); fi
    wait $pid
done 2>/dev/null
expect_ok "$INGOT" batch model.gguf in.jsonl out.jsonl
eq "errors after $kills kills" "$(lines check in.jsonl out.jsonl)" 26
[ $kills -ge 1 ] || fail "only $kills kills"
