#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot lora merge: the merged model is the base with the adapter.
source "$(dirname "$0")/lib.sh"
export PYTHONDONTWRITEBYTECODE=1
python3 "$E2E/tiny_model.py" base.gguf || fail "no model"
python3 "$E2E/tiny_lora.py" lora.gguf 1 || fail "no adapter"
ids() { "$INGOT" run "$@" -p "def add(a, b):" -n 24 --temp 0 --ids 2>/dev/null; }
head -c 3000 "$E2E/merge.sh" >text
ppl() {
    "$INGOT" perplexity "$@" -f text -c 64 --chunks 4 --json -q >ppl.json || fail "no perplexity of $*"
    python3 -c 'import json; print(json.load(open("ppl.json"))["perplexity"])'
}
near() { python3 -c "import sys; sys.exit(abs($2 - $3) > $4 * $3)" || fail "$1: $2, want $3"; }

expect_ok "$INGOT" lora merge --help
expect_ok "$INGOT" lora merge base.gguf lora.gguf out.gguf
out_has '^merged: 14 of [0-9]+ tensors, rank 4, alpha 8, scale 1$'
eq "merged" "$(ids out.gguf)" "$(ids base.gguf --lora lora.gguf)"
[ "$(ids out.gguf)" != "$(ids base.gguf)" ] || fail "merging changed nothing"
near "perplexity" "$(ppl out.gguf)" "$(ppl base.gguf --lora lora.gguf)" 1e-4
expect_ok "$INGOT" lora merge base.gguf lora.gguf half.gguf --scale -0.5 --json
out_has '"scale":-0.5.*"rank":4.*"matrices":14'
near "scale" "$(ppl half.gguf)" "$(ppl base.gguf --lora lora.gguf:-0.5)" 1e-4
expect_ok "$INGOT" lora merge base.gguf lora.gguf back.gguf --scale 0
eq "scale 0" "$(ids back.gguf)" "$(ids base.gguf)"
expect_ok "$INGOT" lora merge base.gguf lora.gguf f16.gguf --type f16 -q
expect_ok "$INGOT" info f16.gguf
near "f16" "$(ppl f16.gguf)" "$(ppl base.gguf --lora lora.gguf)" 1e-2

expect_fail 1 'base.gguf: not a LoRA adapter' "$INGOT" lora merge base.gguf base.gguf x.gguf
expect_fail 2 'out.gguf is input and output' "$INGOT" lora merge out.gguf lora.gguf out.gguf
expect_fail 1 'none.gguf' "$INGOT" lora merge none.gguf lora.gguf x.gguf
expect_fail 2 'an argument is missing' "$INGOT" lora merge base.gguf lora.gguf
[ ! -e x.gguf ] && [ ! -e x.gguf.tmp ] || fail "a refused merge left a file"
