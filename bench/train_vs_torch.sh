#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/train_vs_torch.sh [options]   training steps of the same GPT: PyTorch and `ingot bench --train`
#
#   --pairs N      runs of each, in turn (3)
#   --dtype D      f32, bf16 or both (both, where the processor has bf16)
#   --reps N       timed steps of a run (7)
#   --threads N    (all processors)
#   --layers N --heads N --width N --vocab N --ctx N --batch N     (6 6 384 4096 256 16)
#
# Prints one JSON object a precision and adds it to bench/results/train_vs_torch.jsonl. ratio is the
# median over the pairs of ingot's tokens per second divided by PyTorch's; each run counts by its median.
. "$(dirname "$0")/lib.sh"
command_line="bench/train_vs_torch.sh $*"
PYTHON=${PYTHON:-/usr/bin/python3}
PEER=${TORCH_PEER:-$HERE/peers/torch_gpt.py}

pairs=3 dtype=both
declare -A size=([reps]=7 [threads]=$(nproc) [layers]=6 [heads]=6 [width]=384 [vocab]=4096 [ctx]=256 [batch]=16)
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --pairs) pairs=${2-}; shift ;;
        --dtype) dtype=${2-}; shift ;;
        --*) [ -n "${size[${1#--}]-}" ] || die "unknown option $1"; size[${1#--}]=${2-}; shift ;;
        *) die "unknown word $1" ;;
    esac
    shift
done

peer_args=() own_args=()
declare -A own_name=([layers]=n-layer [heads]=n-head [width]=n-embd)
for key in "${!size[@]}"; do
    peer_args+=("--$key" "${size[$key]}")
    own_args+=("--${own_name[$key]-$key}" "${size[$key]}")
done
[ "$dtype" = both ] || own_args+=(--dtype "$dtype")

out=$(mktemp)
trap 'rm -f "$out"' EXIT
about=$(circumstances "$command_line")
for ((i = 1; i <= pairs; i++)); do
    echo "pair $i of $pairs" >&2
    "$PYTHON" "$PEER" "${peer_args[@]}" --dtype "$dtype" | jq -c '. + {side: "torch"}' >>"$out"
    "$INGOT" bench --train "${own_args[@]}" --json | jq -c '. + {side: "ingot"}' >>"$out"
done

mkdir -p "$RESULTS"
for d in f32 bf16; do
    jq -cs --arg d $d --argjson about "$about" "$median"'
        map(select(.dtype == $d)) as $runs
        | [$runs[] | select(.side == "torch").tok_s_median] as $torch
        | [$runs[] | select(.side == "ingot").tok_s_median] as $ingot
        | if ($torch | length) == 0 or ($ingot | length) == 0 then empty else
          ($runs | map(select(.side == "ingot"))[0]) as $one
          | {bench: "train_vs_torch", dtype: $d, params: $one.params, batch: $one.batch, ctx: $one.ctx,
             threads: $one.threads, device: $one.device, torch: ($runs | map(select(.side == "torch"))[0].version),
             pairs: ($ingot | length), torch_tok_s: $torch, ingot_tok_s: $ingot,
             torch_median: ($torch | median), ingot_median: ($ingot | median),
             ratio: ([$ingot, $torch] | transpose | map(.[0] / .[1]) | median | round3)} + $about end' "$out"
done | tee -a "$RESULTS/train_vs_torch.jsonl"
