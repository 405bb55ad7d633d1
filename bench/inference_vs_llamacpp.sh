#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/inference_vs_llamacpp.sh [options] MODEL.gguf...   prefill and decoding: llama.cpp and `ingot bench`
#
#   --pairs N      runs of each, in turn (3)
#   --pp N         tokens of a prompt (256)
#   --tg N         tokens decoded after it (32)
#   --streams N    sequences side by side (1)
#   --threads N    (all processors)
#   --reps N       rounds of a run (3)
#
# Prints one JSON object a model and adds it to bench/results/inference_vs_llamacpp.jsonl. Ratios are the
# medians over the pairs of ingot's tokens per second divided by llama.cpp's. bench/peers/README.md says how
# to install the peer (NODE_PATH, node 20).
. "$(dirname "$0")/lib.sh"
command_line="bench/inference_vs_llamacpp.sh $*"
NODE=${NODE:-node}
PEER=${LLAMACPP_PEER:-$HERE/peers/llamacpp.mjs}

pairs=3 models=()
declare -A opt=([pp]=256 [tg]=32 [streams]=1 [threads]=$(nproc) [reps]=3)
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '3,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --pairs) pairs=${2-}; shift ;;
        --*) [ -n "${opt[${1#--}]-}" ] || die "unknown option $1"; opt[${1#--}]=${2-}; shift ;;
        *) models+=("$1") ;;
    esac
    shift
done
[ ${#models[@]} -gt 0 ] || die "give a model"
args=()
for key in "${!opt[@]}"; do args+=("--$key" "${opt[$key]}"); done

out=$(mktemp)
trap 'rm -f "$out"' EXIT
mkdir -p "$RESULTS"
for model in "${models[@]}"; do
    about=$(circumstances "$command_line")
    : >"$out"
    for ((i = 1; i <= pairs; i++)); do
        echo "$model: pair $i of $pairs" >&2
        "$NODE" "$PEER" speed "$model" "${args[@]}" | jq -c '. + {side: "peer"}' >>"$out"
        "$INGOT" bench "$model" "${args[@]}" --no-price --json | jq -c '. + {side: "ingot"}' >>"$out"
    done
    jq -cs --argjson about "$about" "$median"'
        def of($side; $what): [.[] | select(.side == $side)[$what][1]];
        def ratio($what): [of("ingot"; $what), of("peer"; $what)] | transpose | map(.[0] / .[1]) | median | round3;
        (map(select(.side == "ingot"))[0]) as $one
        | {bench: "inference_vs_llamacpp", model: ($one.model | split("/")[-1]), device: $one.device,
           streams: $one.streams, threads: $one.threads, pp: $one.pp, tg: $one.tg, pairs: (length / 2),
           peer: (map(select(.side == "peer"))[0].version),
           peer_prefill: of("peer"; "tok_s_prefill"), ingot_prefill: of("ingot"; "tok_s_prefill"),
           peer_decode: of("peer"; "tok_s_decode"), ingot_decode: of("ingot"; "tok_s_decode"),
           read_gb_s: (map(select(.side == "ingot").read_gb_s) | median),
           decode_read_share: (map(select(.side == "ingot").decode_read_share) | median | round3),
           prefill_ratio: ratio("tok_s_prefill"), decode_ratio: ratio("tok_s_decode")} + $about' "$out"
done | tee -a "$RESULTS/inference_vs_llamacpp.jsonl"
