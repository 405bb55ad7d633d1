#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot tokenizer on a tokenizer.json: the same commands as on GGUF, many texts at once, the bench.
source "$(dirname "$0")/lib.sh"

cat >tokenizer.json <<'EOF'
{"added_tokens": [{"id": 5, "content": "<end>", "special": true}],
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
 "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġa": 4},
           "merges": [["a", "b"], "Ġ a"]}}
EOF
echo '{"eos_token": {"content": "<end>"}}' >tokenizer_config.json

expect_ok "$INGOT" tokenizer encode tokenizer.json 'ab ab a'
eq ids "$(cat out)" "2 3 2 4"
expect_ok "$INGOT" tokenizer encode tokenizer.json --special 'ab<end>'
eq special "$(cat out)" "2 5"
expect_ok "$INGOT" tokenizer decode tokenizer.json 2 4 5
eq text "$(cat out)" "ab a"
expect_ok "$INGOT" tokenizer show tokenizer.json --json
eq shown "$(jq -c '[.model, .pattern, .n_vocab, .eot]' out)" '["gpt2","gpt-2",6,5]'

printf 'ab\0\0a b\0' >texts
expect_ok "$INGOT" tokenizer encode tokenizer.json - --null <texts
eq lines "$(cat out)" $'2\n\n0 3 1'

head -c 100000 /dev/zero | tr '\0' 'a' >long.txt
expect_ok "$INGOT" tokenizer bench tokenizer.json long.txt -n 2 --json
eq bench "$(jq -c '[.bytes, .tokens, .n]' out)" '[100000,100000,2]'

sed -i 's/BPE/Unigram/' tokenizer.json
expect_fail 1 'tokenizer.json: model: "Unigram" is not supported, only BPE' \
    "$INGOT" tokenizer encode tokenizer.json ab
