#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/quantize_vs_llamacpp.sh MODEL.gguf [TYPE]   one file quantized by llama.cpp and by ingot, in turn
#
#   --pairs N   pairs of runs (2); each program gets all processors
# Prints a line and adds it to bench/results/quantize_vs_llamacpp.jsonl. Times are of the whole program: wall,
# and processor time (user and system, all threads), which a busy machine distorts less. The two files are
# compared. bench/peers/README.md says how to install the other side.
source "$(dirname "$0")/lib.sh"
command_line="bench/quantize_vs_llamacpp.sh ${*##*/}"
model='' type=q4_K_M pairs=2
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --pairs) pairs=${2-}; shift ;;
        *) if [ -z "$model" ]; then model=$1; else type=$1; fi ;;
    esac
    shift
done
[ -n "$model" ] || die "give a model"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
about=$(circumstances "$command_line")
TIMEFORMAT='%R %U %S'
timed() { # SIDE COMMAND...
    { time "${@:2}" >"$out/log" 2>&1 || { tail -3 "$out/log" >"$out/failed"; }; } 2>"$out/time"
    [ ! -e "$out/failed" ] || die "$1: $(cat "$out/failed")"
    jq -Rc --arg side "$1" 'split(" ") | map(tonumber) | {side: $side, wall: .[0], cpu: (.[1] + .[2])}' "$out/time" >>"$out/runs"
}
for ((i = 1; i <= pairs; i++)); do
    timed peer python3 "$HERE/peers/llamacpp_quantize.py" file "$model" "$out/peer.gguf" "$type"
    timed ingot "$INGOT" quantize "$model" "$out/ours.gguf" "$type" --quiet
done
same=false
if cmp -s "$out/ours.gguf" "$out/peer.gguf"; then same=true; fi
mkdir -p "$RESULTS"
jq -cs --argjson about "$about" --arg model "$(basename "$model")" --arg type "$type" --argjson same "$same" \
    --argjson bytes "$(stat -c %s "$model")" "$median"'
    def of($side; $what): [.[] | select(.side == $side)[$what]];
    def ratio($what): [of("peer"; $what), of("ingot"; $what)] | transpose | map(.[0] / .[1]) | median | round3;
    {bench: "quantize_vs_llamacpp", model: $model, bytes_in: $bytes, type: $type, pairs: (length / 2), same_bytes: $same,
     peer_wall_s: of("peer"; "wall"), ingot_wall_s: of("ingot"; "wall"), peer_cpu_s: of("peer"; "cpu"),
     ingot_cpu_s: of("ingot"; "cpu"), ratio_wall: ratio("wall"), ratio_cpu: ratio("cpu")} + $about' "$out/runs" |
    tee -a "$RESULTS/quantize_vs_llamacpp.jsonl"
