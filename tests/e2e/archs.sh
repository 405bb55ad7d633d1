#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every architecture the program knows, from training to text: trained from scratch, looked at, run, measured,
# quantized, resumed. Its names come from the program's own help.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"

python3 - <<'P'
import json, random
random.seed(3)
words = "def return if else for in range len self print import class None True False".split()
with open("docs.jsonl", "w") as f:
    for i in range(60):
        text = "\n".join(" ".join(random.choice(words) for _ in range(8)) for _ in range(20))
        f.write(json.dumps({"path": "f%d.py" % i, "text": text}) + "\n")
open("text.txt", "w").write(" ".join(random.choice(words) for _ in range(300)))
P
expect_ok "$INGOT" tokenizer train docs.jsonl -o tok.gguf --vocab 300
expect_ok "$INGOT" prepare docs.jsonl -o data/d --tokenizer tok.gguf
cat >c.yaml <<'Y'
dataset: d
n_layer: 2
n_head: 4
n_embd: 32
n_ff: 64
block_size: 32
batch_size: 2
gradient_accumulation_steps: 1
dropout: 0
dtype: f32
warmup_iters: 2
learning_rate: 1e-2
min_lr: 1e-3
max_iters: 40
eval_interval: 20
eval_iters: 2
log_interval: 20
threads: 2
Y

"$INGOT" train --help >help
archs=$(tr '\n' ' ' <help | grep -oE 'gpt2(\|[a-z0-9]+)+' | head -1 | tr '|' ' ')
[ "$(wc -w <<<"$archs")" -ge 6 ] || fail "architectures in the help: $archs"
for a in $archs; do
    more=()
    [ "$a" = gpt2 ] || more=(--n_kv_head 2)
    [ "$a" = qwen3 ] && more+=(--head_dim 16 --no-tie_embeddings)
    expect_ok "$INGOT" train c.yaml --arch "$a" --name "$a" "${more[@]}" --json
    m=runs/$a/model.gguf
    expect_ok "$INGOT" info "$m" --json
    python3 - "$a" <<'P' || fail "$a: info"
import json, sys
arch, d = sys.argv[1], json.load(open("out"))
meta = {e["key"]: e["value"] for e in d["metadata"]}
names = {t["name"] for t in d["tensors"]}
assert meta["general.architecture"] == arch and d["memory"]["kv_cache"] > 0
assert ("blk.1.attn_k.bias" in names) == (arch in ("qwen2", "starcoder2"))
assert ("blk.1.attn_q_norm.weight" in names) == (arch == "qwen3")
assert (meta.get("qwen3.attention.key_length") == 16) == (arch == "qwen3")
P
    expect_ok "$INGOT" run "$m" -p "def return" -n 8 --temp 0 --json
    expect_ok "$INGOT" perplexity "$m" -f text.txt -c 32 --json
    # it has learned: far from the 300 of a guess
    python3 -c 'import json; assert json.load(open("out"))["perplexity"] < 60' || fail "$a: perplexity $(cat out)"
    expect_ok "$INGOT" quantize "$m" q.gguf q8_0 --quiet
    expect_ok "$INGOT" perplexity "$m" q.gguf -f text.txt -c 32
    expect_ok "$INGOT" train c.yaml --arch "$a" --name "$a" "${more[@]}" --resume
    expect_ok "$INGOT" train c.yaml --init_from "$m" --name "again-$a" --max_iters 2 --eval_interval 1
done

# a head width that does not fit is named
expect_fail 2 'key_length 12 is not a multiple of 8' "$INGOT" train c.yaml --arch qwen3 --head_dim 12 --name x
exit 0
