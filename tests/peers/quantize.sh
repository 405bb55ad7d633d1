#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/peers/quantize.sh [MODEL.gguf...]   `ingot quantize` against llama.cpp's own quantizer, byte by byte
#
# INGOT_PEERS names the folder whose node_modules holds node-llama-cpp (bench/peers/README.md); without it
# this is skipped. INGOT is the program (build/ingot). Without arguments: the fixtures of tests/golden.
# One difference is allowed for: the head of a q4_0 file while there is no q6_k kernel.
set -u
cd "$(dirname "$0")/../.." || exit 2
if [ -z "${INGOT_PEERS-}" ]; then echo "INGOT_PEERS is not set"; exit 77; fi
export NODE_PATH=$INGOT_PEERS/node_modules
ingot=${INGOT:-build/ingot}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
[ $# -gt 0 ] || set -- tests/golden/data/*.gguf

rc=0
for model; do
    for way in q8_0 q4_0 "q4_0 --pure" f16 bf16; do
        # shellcheck disable=SC2086  # a type and its flag are two words
        python3 bench/peers/llamacpp_quantize.py file "$model" "$tmp/peer.gguf" $way >"$tmp/log" 2>&1 ||
            { echo "peer failed: $model $way"; tail -3 "$tmp/log"; rc=1; continue; }
        # shellcheck disable=SC2086
        "$ingot" quantize "$model" "$tmp/ours.gguf" $way --quiet >"$tmp/log" || { rc=1; continue; }
        found=$(python3 tests/peers/gguf_diff.py "$tmp/ours.gguf" "$tmp/peer.gguf" |
            grep -vE '^tensor (output|token_embd).weight: .* q8_0 against .* q6_k$')
        if [ -z "$found" ]; then echo "same  $model $way"
        else echo "DIFFERENT  $model $way"; echo "$found" | head -5; rc=1; fi
    done
done
exit $rc
