#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/peers/quantize.sh [MODEL.gguf...]   `ingot quantize` against llama.cpp's own quantizer, byte by byte
#
# INGOT_PEERS names the folder whose node_modules holds node-llama-cpp (bench/peers/README.md); without it
# this is skipped. INGOT is the program (build/ingot). Without arguments: the fixtures of tests/golden and
# the files of quantize_models.py, which meet every rule. A MODEL.imatrix.gguf beside a model is used too.
set -u
cd "$(dirname "$0")/../.." || exit 2
if [ -z "${INGOT_PEERS-}" ]; then echo "INGOT_PEERS is not set"; exit 77; fi
export NODE_PATH=$INGOT_PEERS/node_modules
ingot=${INGOT:-build/ingot}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
rc=0
same=0

# compare MODEL TYPE [options]
compare() {
    python3 bench/peers/llamacpp_quantize.py file "$1" "$tmp/peer.gguf" "${@:2}" --threads 2 >"$tmp/log" 2>&1 ||
        { echo "peer failed: $*"; tail -3 "$tmp/log"; rc=1; return; }
    "$ingot" quantize "$1" "$tmp/ours.gguf" "${@:2}" --quiet >"$tmp/log" || { echo "ours failed: $*"; rc=1; return; }
    found=$(python3 tests/peers/gguf_diff.py "$tmp/ours.gguf" "$tmp/peer.gguf")
    if [ -z "$found" ]; then same=$((same + 1))
    else echo "DIFFERENT  $*"; head -5 <<<"$found"; rc=1; fi
}

if [ $# -eq 0 ]; then
    python3 tests/peers/quantize_models.py "$tmp/models" || exit 2
    set -- tests/golden/data/*.gguf "$tmp"/models/*[!x].gguf
fi
for model; do
    imatrix=${model%.gguf}.imatrix.gguf
    before=$same
    for type in q4_0 q4_1 q5_0 q5_1 q8_0 q4_K_S q4_K_M q5_K_S q5_K_M q6_K f16 bf16; do
        compare "$model" $type
        compare "$model" $type --pure
        if [ -e "$imatrix" ]; then compare "$model" $type --imatrix "$imatrix"; fi
    done
    compare "$model" q4_K_M --tensor-type 'ffn_(up|gate)=q5_K' --tensor-type 'blk\.[0-2]\.attn_V=q8_0'
    compare "$model" q4_K_M --output-tensor-type q8_0 --token-embedding-type q5_1
    compare "$model" q5_K_S --leave-output-tensor
    compare "$model" q8_0 --tensor-type attn_q=q4_0 --token-embedding-type f16
    echo "$((same - before)) files the same  $model"
done
"$ingot" quantize "$1" "$tmp/q8.gguf" q8_0 --quiet >"$tmp/log" && compare "$tmp/q8.gguf" q4_K_M --allow-requantize
exit $rc
