#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot export: folders that convert to the same file, run the same, and what is refused.
source "$(dirname "$0")/lib.sh"
HF=$E2E/../golden/hf
ids() { "$INGOT" run "$1" -p "the cat in" -n 12 --temp 0 --ids; }

expect_ok "$INGOT" export --help
out_has "LlamaForCausalLM|Hugging Face"
mkdir hf
for name in gpt2 llama mistral qwen2 qwen3; do
    expect_ok "$INGOT" convert "$HF/$name" "$name.gguf" -q
    expect_ok "$INGOT" export "$name.gguf" "hf/$name"
    out_has "^model:  .*(ForCausalLM|LMHeadModel)"
    out_has "^folder: hf/$name is .* in 1 file"
    [ ! -e "hf/$name.tmp" ] || fail "hf/$name.tmp is left behind"
    expect_ok "$INGOT" convert "hf/$name" again.gguf -q
    cmp -s "$name.gguf" again.gguf || fail "$name: another file"
    # expanded blocks compute what the blocks compute
    expect_ok "$INGOT" quantize "$name.gguf" q8.gguf q8_0 -q
    expect_ok "$INGOT" export q8.gguf "hf/$name" --force --type f32 -q
    expect_ok "$INGOT" convert "hf/$name" f32.gguf -q
    eq "$name: expanded" "$(ids f32.gguf)" "$(ids q8.gguf)"
done

# several files with an index; JSON; replacing
expect_ok "$INGOT" export llama.gguf hf/llama --force --shard-size 4K --json
out_has '"class":"LlamaForCausalLM".*"type":"bf16".*"files":[1-9][0-9]*.*"chat_template":true'
[ -e hf/llama/model.safetensors.index.json ] || fail "no index"
[ ! -e hf/llama/model.safetensors ] || fail "the one file of before is still there"
expect_ok "$INGOT" convert hf/llama again.gguf -q
cmp -s llama.gguf again.gguf || fail "several files: another file"
python3 - <<'PY' || fail "config.json"
import json
c = json.load(open("hf/llama/config.json"))
assert c["architectures"] == ["LlamaForCausalLM"] and c["model_type"] == "llama" and c["torch_dtype"] == "bfloat16"
assert c["rope_scaling"]["rope_type"] == "llama3" and isinstance(c["rope_scaling"]["factor"], float), c["rope_scaling"]
assert c["eos_token_id"] == json.load(open("hf/llama/generation_config.json"))["eos_token_id"] and len(c["eos_token_id"]) == 3
t = json.load(open("hf/llama/tokenizer_config.json"))
assert t["bos_token"] == "<s>" and "messages" in t["chat_template"] and t["model_max_length"] == 64
assert json.load(open("hf/llama/tokenizer.json"))["model"]["type"] == "BPE"
i = json.load(open("hf/llama/model.safetensors.index.json"))
assert i["metadata"]["total_size"] > 30000 and len(i["weight_map"]) == 21
PY
expect_ok "$INGOT" export llama.gguf hf/m --class MistralForCausalLM -q
grep -q '"MistralForCausalLM"' hf/m/config.json || fail "--class is not heeded"

# refusals: one line that says why, and nothing left behind
expect_fail 2 'hf/llama: is there already \(--force replaces it\)' "$INGOT" export llama.gguf hf/llama -q
echo mine >hf/llama/notes.txt
expect_fail 1 '"notes.txt" in it is none of the files' "$INGOT" export llama.gguf hf/llama --force -q
[ -e hf/llama/notes.txt ] || fail "a foreign file is gone"
expect_fail 1 'none/x.tmp: No such file' "$INGOT" export llama.gguf none/x -q
expect_fail 1 'none.gguf' "$INGOT" export none.gguf hf/x -q
expect_fail 2 'class BertModel is not one of llama: choose LlamaForCausalLM' "$INGOT" export llama.gguf hf/x --class BertModel -q
expect_fail 2 'shard' "$INGOT" export llama.gguf hf/x --shard-size none -q
expect_fail 2 'type' "$INGOT" export llama.gguf hf/x --type q8_0
PYTHONDONTWRITEBYTECODE=1 python3 "$E2E/tiny_model.py" tiny.gguf || fail "no model"
expect_ok "$INGOT" export tiny.gguf hf/tiny -q
expect_ok "$INGOT" convert hf/tiny tiny2.gguf -q
eq "a model from elsewhere" "$(ids tiny2.gguf)" "$(ids tiny.gguf)"
[ ! -e hf/x ] && [ ! -e hf/x.tmp ] || fail "a refused export left a folder"

# killed in the middle, the next one clears up
INGOT_FAULT=kill:20 bash -c '"$0" export llama.gguf hf/k -q; exit $?' "$INGOT" 2>/dev/null && fail "not killed"
[ -d hf/k.tmp ] && [ ! -e hf/k ] || fail "a killed export left $(ls -d hf/k*)"
expect_ok "$INGOT" export llama.gguf hf/k -q
[ -d hf/k ] && [ ! -e hf/k.tmp ] || fail "the leftover is still there"
