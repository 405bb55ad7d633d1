#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# LoRA adapters: run, perplexity, info and a server with two of them; files that do not fit.
source "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v python3 >/dev/null || skip "no python3"
export PYTHONDONTWRITEBYTECODE=1
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"
python3 "$E2E/tiny_lora.py" one.gguf 1 || fail "no adapter"
python3 "$E2E/tiny_lora.py" two.gguf 2 7 || fail "no adapter"

# ---- run ----
ids() { # OPTIONS...: 24 greedy ids
    expect_ok "$INGOT" run model.gguf -p "def add(a, b):" -n 24 --temp 0 --ids "$@"
    cat out
}
base=$(ids)
one=$(ids --lora one.gguf)
two=$(ids --lora two.gguf)
[ "$one" != "$base" ] && [ "$two" != "$base" ] && [ "$one" != "$two" ] || fail "adapters change nothing"
eq "scale 0" "$(ids --lora one.gguf:0)" "$base"
eq "scale 1, with a name" "$(ids --lora a=one.gguf:1)" "$one"
[ "$(ids --lora one.gguf:-1)" != "$one" ] || fail "the scale changes nothing"
cp one.gguf 'b=c.gguf'
eq "a path with an equals sign" "$(ids --lora ./b=c.gguf)" "$one"

# ---- refusals ----
expect_fail 2 'one adapter at a time' "$INGOT" run model.gguf -p x --lora one.gguf --lora two.gguf
expect_fail 2 'one adapter at a time' "$INGOT" perplexity model.gguf -f model.gguf --lora one.gguf --lora two.gguf
expect_fail 1 'none.gguf' "$INGOT" run model.gguf -p x --lora none.gguf
expect_fail 2 'no file' "$INGOT" run model.gguf -p x --lora a=
expect_fail 2 'a name of 0 bytes' "$INGOT" run model.gguf -p x --lora =one.gguf
expect_fail 2 'outside -1e6 to 1e6' "$INGOT" run model.gguf -p x --lora one.gguf:1e9
expect_fail 1 'model.gguf: not a LoRA adapter: general.type is missing' "$INGOT" run model.gguf -p x --lora model.gguf
expect_fail 1 'one.gguf.*(missing|not)' "$INGOT" run one.gguf -p x
sed 's/adapter.type/adapter.kind/' one.gguf >odd.gguf
expect_fail 1 'odd.gguf: not a LoRA adapter: adapter.type is missing' "$INGOT" run model.gguf -p x --lora odd.gguf
sed 's/blk.1.ffn_up/blk.7.ffn_up/g' one.gguf >odd.gguf
expect_fail 1 'odd.gguf: tensor "blk.7.ffn_up.weight" is not in the model \(llama, 2 layers\)' \
    "$INGOT" run model.gguf -p x --lora odd.gguf

# ---- info ----
expect_ok "$INGOT" info one.gguf --no-tensors
out_has '^LoRA adapter for llama: rank 4, alpha 8, 14 matrices$'
out_lacks 'memory'
expect_ok "$INGOT" info one.gguf --json
python3 -c 'import json; a = json.load(open("out"))["adapter"]
assert a == {"type": "lora", "architecture": "llama", "rank": 4, "alpha": 8, "matrices": 14}, a' || fail "json"
expect_ok "$INGOT" info odd.gguf --no-tensors
out_has 'LoRA adapter for llama'

# ---- perplexity ----
head -c 3000 "$E2E/lora.sh" >text
ppl() {
    expect_ok "$INGOT" perplexity model.gguf -f text -c 64 --chunks 4 --json "$@"
    python3 -c 'import json; print(json.load(open("out"))["perplexity"])'
}
base_ppl=$(ppl)
[ "$(ppl --lora one.gguf)" != "$base_ppl" ] || fail "the adapter changes nothing"
eq "perplexity at scale 0" "$(ppl --lora one.gguf:0)" "$base_ppl"

# ---- serve ----
"$INGOT" serve model.gguf --port 0 --lora one.gguf --lora second=two.gguf --batch-invariant 2>serve.log &
PID=$!
for _ in $(seq 200); do
    URL=$(sed -n 's/^listening on //p' serve.log)
    [ -z "$URL" ] || break
    sleep 0.05
done
[ -n "$URL" ] || fail "the server did not start: $(cat serve.log)"
grep -q '^adapter "second" at 1: two.gguf, rank 7' serve.log || fail "$(cat serve.log)"
complete() { # MODEL: what it writes
    curl -s -d "{\"code\": \"def add(a, b):\", \"max_tokens\": 24, \"temperature\": 0$1}" "$URL/complete" |
        python3 -c 'import json, sys; print(ascii(json.load(sys.stdin)["completion"]))'
}
for round in 1 2; do # at one time, again and again: none sees another's
    for k in 1 2 3; do
        complete ', "model": "one"' >"s1.$k" &
        a=$!
        complete ', "model": "second"' >"s2.$k" &
        b=$!
        complete ', "model": "model"' >"s3.$k" &
        c=$!
        complete '' >"s4.$k"
        wait $a $b $c
        eq "the same again" "$(cat "s1.$k" "s2.$k" "s3.$k")" "$(cat s1.1 s2.1 s3.1)"
    done
    eq "the model by name" "$(cat s3.1)" "$(cat s4.1)"
    [ "$(cat s1.1)" != "$(cat s3.1)" ] && [ "$(cat s1.1)" != "$(cat s2.1)" ] || fail "adapters change nothing"
done
text_of() { # IDS: as complete shows them
    # shellcheck disable=SC2086
    "$INGOT" tokenizer decode model.gguf $1 | python3 -c 'import sys
print(ascii(sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n")))'
}
one=$(ids --lora one.gguf --batch-invariant)
curl -s "$URL/metrics" | grep -q '^vllm:lora_requests_info{.*max_lora="[0-9]*",running_lora_adapters="",waiting_lora_adapters=""} 1' ||
    fail "$(curl -s "$URL/metrics" | grep lora)"
eq "the server's text is run's" "$(cat s1.1)" "$(text_of "$one")"
code=$(curl -s -o out -w '%{http_code}' -d '{"code": "x", "model": "three"}' "$URL/complete")
eq "status of an unknown model" "$code" 404
out_has 'model: \\"three\\" does not exist'
code=$(curl -s -o out -w '%{http_code}' -d '{"code": "x", "model": 3}' "$URL/complete")
eq "status of a model that is no name" "$code" 422
kill -INT $PID
wait $PID
eq "exit status" $? 0
expect_fail 2 'two adapters are named "one"' "$INGOT" serve model.gguf --lora one.gguf --lora one=two.gguf
expect_fail 2 'own name' "$INGOT" serve model.gguf --lora model=two.gguf
exit 0
