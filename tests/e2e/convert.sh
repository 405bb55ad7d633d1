#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot convert: folders to files that run, types, layouts, refusals.
source "$(dirname "$0")/lib.sh"
HF=$E2E/../golden/hf
PACKED=$E2E/../golden/packed

expect_ok "$INGOT" convert --help
out_has "LlamaForCausalLM"
for name in gpt2 llama mistral qwen2 qwen3; do
    expect_ok "$INGOT" convert "$HF/$name" "$name.gguf" --quiet
    out_has "^model: .*ForCausalLM|^model: .*LMHeadModel"
    out_has "vocabulary of 56"
    expect_ok "$INGOT" run "$name.gguf" -p "the cat in" -n 8 --temp 0 --ids
    expect_ok "$INGOT" info "$name.gguf"
    [ ! -e "$name.gguf.plain" ] || fail "$name.gguf.plain is left behind"
done

# the type of the folder is kept; others say what they are
expect_ok "$INGOT" convert "$HF/llama" again.gguf --type bf16
cmp -s llama.gguf again.gguf || fail "auto is not the folder's bf16"
expect_ok "$INGOT" convert "$HF/llama" f16.gguf --type f16 --json
out_has '"architecture":"llama"'
out_has '"chat_template":true'
# a type with blocks is what quantize makes of the stored one
for type in q8_0 q4_0 q4_K_M; do
    expect_ok "$INGOT" convert "$HF/llama" direct.gguf --type $type --threads 2 -q
    expect_ok "$INGOT" quantize llama.gguf two.gguf $type -q
    cmp -s direct.gguf two.gguf || fail "$type is not what quantize makes"
    [ ! -e direct.gguf.plain ] || fail "direct.gguf.plain is left behind"
done

# packed weights become f16 where no type is said; what was lost is printed
for name in awq gptq gptq3 nf4; do
    expect_ok "$INGOT" convert "$PACKED/$name" "$name.gguf"
    out_has "^before: .* of (awq|gptq|bitsandbytes), [34] bits"
    out_has "^lost: .*(nothing|relative squared error .* most in blk)"
    expect_ok "$INGOT" run "$name.gguf" -p "the cat in" -n 8 --temp 0 --ids
    expect_ok "$INGOT" convert "$PACKED/$name" f32.gguf --type f32
    out_has "^lost: +nothing"
    for type in q8_0 q4_0; do
        expect_ok "$INGOT" convert "$PACKED/$name" direct.gguf --type $type --losses
        out_has "^blk.0.ffn_down.weight +$type +[0-9.e-]+"
        expect_ok "$INGOT" convert "$PACKED/$name" again.gguf --type $type --json --threads 1
        out_has '"worst_tensor":"[a-z]'
        cmp -s direct.gguf again.gguf || fail "$name as $type depends on threads"
    done
done

# an adapter
expect_fail 2 "an adapter needs --base" "$INGOT" convert "$PACKED/adapter" lora.gguf
expect_ok "$INGOT" convert "$PACKED/adapter" lora.gguf --base "$HF/llama"
out_has "^adapter: 14 pairs of rank 2 for llama, alpha 8"
expect_ok "$INGOT" convert "$PACKED/adapter" lora2.gguf --base llama.gguf --json
out_has '"rank":2'
cmp -s lora.gguf lora2.gguf || fail "a folder and a file as base give different adapters"
expect_ok "$INGOT" run llama.gguf -p "the cat in" -n 8 --temp 0 --ids --lora lora.gguf
expect_fail 1 "is no half of a pair for a matrix of the base" "$INGOT" convert "$PACKED/adapter" no.gguf --base "$HF/gpt2"
expect_fail 2 "cannot be \"q8_0\"" "$INGOT" convert "$PACKED/adapter" no.gguf --base llama.gguf --type q8_0

# refusals: one line that names what is wrong, and no file
expect_fail 2 'unknown type "q9"' "$INGOT" convert "$HF/llama" no.gguf --type q9
expect_fail 1 "no config.json" "$INGOT" convert "$WORK" no.gguf
cp -r "$HF/gpt2" copy && chmod -R u+w copy
sed -i 's/{/{"alibi": true,/' copy/config.json
expect_fail 1 'config.json: key "alibi"' "$INGOT" convert copy no.gguf
expect_ok "$INGOT" convert copy yes.gguf --ignore alibi -q
rm copy/tokenizer.json
expect_fail 1 "no tokenizer.json" "$INGOT" convert copy no.gguf --ignore alibi
mv copy/model.safetensors copy/pytorch_model.bin
expect_fail 1 "pytorch_model.bin: pickled weights" "$INGOT" convert copy no.gguf --ignore alibi
cp -r "$HF/llama" cut && chmod -R u+w cut
truncate -s -5 cut/model-00002-of-00003.safetensors
expect_fail 1 "model-00002-of-00003.safetensors: .*data_offsets" "$INGOT" convert cut no.gguf
rm copy/* && ln -s /dev/zero copy/config.json
expect_fail 1 "config.json: .*not a regular file" "$INGOT" convert copy no.gguf
rm copy/config.json && mkfifo copy/config.json
expect_fail 1 "config.json: .*not a regular file" "$INGOT" convert copy no.gguf
rm copy/config.json && cp "$HF/llama"/* copy && chmod -R u+w copy && sed -i 's|model-00002|../llama/model-00002|' copy/model.safetensors.index.json
expect_fail 1 "not named NAME.safetensors in the same folder" "$INGOT" convert copy no.gguf
[ ! -e no.gguf ] || fail "a refused folder left a file"
[ ! -e no.gguf.tmp ] || fail "a refused folder left a temporary file"
