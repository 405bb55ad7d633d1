#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot bench: sizes as small as they go; what is printed, not how fast it is.
. "$(dirname "$0")/lib.sh"
MODEL=$E2E/../golden/data/llama_tied.gguf

# [least, median, most] are positive numbers in order
ordered='(.[0] > 0 and .[0] <= .[1] and .[1] <= .[2])'
check_json() { jq -es "$1" "$WORK/out" >/dev/null || fail "not so: $1"; }

# a model
expect_ok "$INGOT" bench "$MODEL" --pp 8 --tg 4 --reps 2 --json
eq lines "$(wc -l <out)" 1
check_json ".[0].bench == \"model\" and (.[0].tok_s_prefill | $ordered) and (.[0].tok_s_decode | $ordered)"
check_json ".[0] | (.tok_s_answers | $ordered) and .tok_s_answers[0] > 0 and .tok_s_answers[2] < .tok_s_decode[2]"
check_json '.[0] | .pp == 8 and .tg == 4 and .streams == 1 and .reps == 2 and .threads > 0'
check_json '.[0] | .read_gb_s > 0 and .decode_gb_s > 0 and .decode_read_share > 0'
# 115,328 bytes of weights, which each decoded token reads all (the head is the embedding), and some KV
check_json '.[0] | .step_bytes > 115328 and .step_bytes < 135328 and .load_s > 0'
check_json '.[0] | (.decode_gb_s * 1e9 / .tok_s_decode[1] / .step_bytes) | . > 0.99 and . < 1.01'
check_json ".[0] | (.tok_s_prefill_invariant | $ordered) and (.tok_s_decode_invariant | $ordered)"
expect_ok "$INGOT" bench "$MODEL" --pp 8 --tg 4 --reps 1 --streams 3 --threads 1 --no-price --json
check_json '.[0] | .streams == 3 and .threads == 1 and (has("tok_s_decode_invariant") | not)'
check_json '.[0] | (.decode_gb_s * 1e9 / .tok_s_decode[1] * 3 / .step_bytes) | . > 0.99 and . < 1.01'
expect_ok "$INGOT" bench "$MODEL" --pp 1 --tg 1 --reps 1 --cpu ref
out_has '^  prefill 1 '
out_has '^  decode 1 '
out_has 'cpu ref'
out_has 'The same bits for every batch .* prefill'
expect_ok "$INGOT" bench "$MODEL" --pp 8 --tg 4 --reps 1 --kv-cache-type q8_0 --json
check_json '.[0].kv == "q8_0"'
expect_ok "$INGOT" bench "$MODEL" --pp 28 --tg 4 --reps 1 --streams 40
out_has '40 streams'

# the engine
python3 "$E2E/tiny_model.py" long.gguf 8192 || fail "no model"
expect_ok "$INGOT" bench long.gguf --engine --pp 1500 --streams 2 --reps 2 --kv-cache-type q8_0 --json
check_json 'all(.kv == "q8_0")'
check_json 'length == 3 and .[0].scenario == "shared_prefix" and .[0].ratio > 0 and .[0].streams == 64'
check_json '.[1:] | all(.bench == "engine" and .scenario == "long_prompt" and .gaps > 0)'
check_json '.[1:] | all(.gap_median_ms > 0 and .gap_max_ms >= .gap_p99_ms and .ratio > 0 and .stolen_s >= 0)'
expect_fail 2 'give a model' "$INGOT" bench --engine
expect_fail 2 'is for --engine' "$INGOT" bench long.gguf --speculate ngram
for how in ngram "$MODEL"; do # a model that guesses for itself is always right
    expect_ok "$INGOT" bench "$MODEL" --engine --speculate "$how" --streams 2 --pp 8 --tg 6 --reps 2 --batch-invariant --json
    check_json "length == 1 and (.[0] | .scenario == \"speculate\" and .same == 2 and .pairs == 2 and (.ratio | $ordered))"
    check_json ".[0] | (.plain_tok_s | $ordered) and (.guess_tok_s | $ordered) and .k == 8"
    [ "$how" = ngram ] || check_json '.[0] | .right == 1 and .drafted > 0 and .tok_a_step > 1.5'
done
expect_fail 2 'context' "$INGOT" bench "$MODEL" --engine --speculate ngram --pp 4000 --tg 4000

# training steps and products
tiny=(--n-layer 1 --n-head 2 --n-embd 16 --vocab 40 --ctx 8 --batch 2 --reps 3)
for arch in gpt2 llama; do
    expect_ok "$INGOT" bench --train "${tiny[@]}" --arch $arch --dtype f32 --json
    check_json ".[0] | .bench == \"train\" and .arch == \"$arch\" and .dtype == \"f32\" and .batch == 2 and .ctx == 8"
    check_json ".[0] | [.tok_s_min, .tok_s_median, .tok_s_max] | $ordered"
done
expect_ok "$INGOT" bench --train "${tiny[@]}"
out_has 'f32 products'
out_has 'tokens/s'

# kernels: every slot once or more
expect_ok "$INGOT" bench --kernels --json
check_json 'length >= 40 and all(.bench == "kernel" and .value > 0 and .roof > 0 and .roof_share > 0)'
check_json 'map(.slot) | index("gemv q4_0") and index("gemm_f32") and index("attn f16") and index("adamw")'
expect_fail 2 'level|cpu' "$INGOT" bench --kernels --cpu mmx

# what is wrong is said in a line
expect_fail 2 'give a model' "$INGOT" bench
expect_fail 2 'one measurement at a time' "$INGOT" bench --train "$MODEL"
expect_fail 2 'one measurement at a time' "$INGOT" bench --train --products
expect_fail 2 'one measurement at a time' "$INGOT" bench --attention --kernels
expect_fail 2 'context of 32' "$INGOT" bench "$MODEL" --pp 30 --tg 4
expect_fail 2 'reps' "$INGOT" bench "$MODEL" --reps 0
expect_fail 2 'not a multiple' "$INGOT" bench --train --n-embd 384 --n-head 5
expect_fail 2 'key_length' "$INGOT" bench --train --n-embd 40 --n-head 10
expect_fail 1 'nowhere.gguf: No such file' "$INGOT" bench nowhere.gguf
head -c 5000 "$MODEL" >cut.gguf
expect_fail 1 'cut.gguf' "$INGOT" bench cut.gguf
echo ok
