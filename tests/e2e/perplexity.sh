#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot perplexity with a tiny random model: numbers that fit together, refusals.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf 512 || fail "no model"
head -c 2000 "$E2E/lib.sh" >text.txt # a token is a byte

expect_ok "$INGOT" perplexity --help
out_has "lower is better"
expect_ok "$INGOT" perplexity model.gguf -f text.txt -c 100 --json --logprobs lp.txt
python3 - "$WORK/out" lp.txt text.txt <<'PY' || fail "numbers"
import json, math, sys
j = json.load(open(sys.argv[1]))
assert j["chunks"] == 20 and j["ctx"] == 100 and j["tokens"] == 20 * 49, j
assert abs(j["perplexity"] - math.exp(j["nll"] / j["tokens"])) < 1e-9 * j["perplexity"], j
rows = [line.split() for line in open(sys.argv[2])]
assert len(rows) == j["tokens"]
assert abs(-sum(float(r[1]) for r in rows) - j["nll"]) < 1e-5 * j["nll"]
text = open(sys.argv[3], "rb").read()
alphabet = [*range(33, 127), *range(161, 173), *range(174, 256)]
for k, (i, lp) in enumerate(rows):  # ids of tiny_model.py are the bytes themselves
    assert int(i) == text[k // 49 * 100 + 51 + k % 49], k
    assert float(lp) <= 0
PY
nll() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["nll"])' "$WORK/out"; }
expect_ok "$INGOT" perplexity model.gguf -f text.txt -c 100 --json
a=$(nll)
expect_ok "$INGOT" perplexity model.gguf -f - -c 100 --json --threads 1 <text.txt
eq "sum with one thread, from standard input" "$(nll)" "$a"

expect_ok "$INGOT" perplexity model.gguf -f text.txt -c 100 --chunks 3 --all --logprobs all.txt
eq "scored tokens of --all" "$(wc -l <all.txt)" 297
out_has "297 tokens scored in 3 windows of 100"
expect_ok "$INGOT" perplexity model.gguf -f text.txt
out_has "in 3 windows of 512"

# two models
expect_ok "$INGOT" quantize model.gguf q8.gguf q8_0
expect_ok "$INGOT" perplexity model.gguf q8.gguf -f text.txt -c 100
eq "lines" "$(wc -l <out)" 3
out_has "^difference: [+-][0-9.]+, a factor of (0\.9|1\.0)"

# ---- refusals ----
expect_fail 2 'no text' "$INGOT" perplexity model.gguf
printf 'short' >short.txt
: >empty.txt
expect_fail 2 'has 5 tokens, a window takes 100' "$INGOT" perplexity model.gguf -f short.txt -c 100
expect_fail 2 'empty' "$INGOT" perplexity model.gguf -f empty.txt
expect_fail 2 '513' "$INGOT" perplexity model.gguf -f text.txt -c 513
expect_fail 2 'takes one model' "$INGOT" perplexity model.gguf q8.gguf -f text.txt --logprobs x
expect_fail 1 'nowhere' "$INGOT" perplexity model.gguf -f nowhere
expect_fail 1 'nowhere' "$INGOT" perplexity nowhere -f text.txt
expect_fail 1 'no/such' "$INGOT" perplexity model.gguf -f text.txt -c 100 --logprobs no/such/file
expect_fail 2 'short.txt|5 tokens' "$INGOT" perplexity model.gguf -f short.txt --logprobs part.txt
[ -z "$(ls part.txt* 2>/dev/null)" ] || fail "a refused run left a file"
exit 0
