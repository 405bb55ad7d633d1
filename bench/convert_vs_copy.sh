#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/convert_vs_copy.sh FOLDER [TYPE...]   a Hugging Face folder converted, and its weights merely copied, in turn
#
#   --pairs N   pairs of runs (5)
#   --tmp DIR   where both write (a temporary folder)
# Prints a line for each type (auto f16 f32) and adds it to bench/results/convert.jsonl. The copy is dd with blocks of
# 8 MB and an fsync at the end, as ingot ends, too; before each run everything is synced. `gb_s` counts the folder's
# bytes; f32 of a 16-bit folder writes twice as many. The folder is read from the page cache where it fits.
# bench/peers/make_folder.py makes folders.
source "$(dirname "$0")/lib.sh"
command_line="bench/convert_vs_copy.sh ${*##*/}"
folder='' pairs=5 tmp='' types=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --pairs) pairs=${2-}; shift ;;
        --tmp) tmp=${2-}; shift ;;
        *) if [ -z "$folder" ]; then folder=$1; else types+=("$1"); fi ;;
    esac
    shift
done
[ -n "$folder" ] || die "give a folder"
[ ${#types[@]} -gt 0 ] || types=(auto f16 f32)
out=$(mktemp -d ${tmp:+-p "$tmp"})
trap 'rm -rf "$out"' EXIT
weights=("$folder"/*.safetensors)
TIMEFORMAT='%R %U %S'
timed() { # SIDE COMMAND...
    sync
    { time "${@:2}" >"$out/log" 2>&1 || { tail -3 "$out/log" >"$out/failed"; }; } 2>"$out/time"
    [ ! -e "$out/failed" ] || die "$1: $(cat "$out/failed")"
    jq -Rc --arg side "$1" 'split(" ") | map(tonumber) | {side: $side, wall: .[0], cpu: (.[1] + .[2])}' "$out/time" >>"$out/runs"
    rm -f "$out"/*.bin "$out"/*.gguf
}
copy() {
    local f
    for f in "${weights[@]}"; do dd if="$f" of="$out/${f##*/}.bin" bs=8M conv=fsync; done
}
mkdir -p "$RESULTS"
for type in "${types[@]}"; do
    rm -f "$out/runs"
    about=$(circumstances "$command_line")
    cat "${weights[@]}" >/dev/null
    for ((i = 1; i <= pairs; i++)); do
        timed copy copy
        timed ingot "$INGOT" convert "$folder" "$out/out.gguf" --type "$type" --quiet
    done
    jq -cs --argjson about "$about" --arg folder "$(basename "$folder")" --arg type "$type" \
        --argjson bytes "$(cat "${weights[@]}" | wc -c)" "$median"'
        def of($side; $what): [.[] | select(.side == $side)[$what]];
        def rate($side): $bytes / 1e9 / (of($side; "wall") | median) | round3;
        {bench: "convert", folder: $folder, type: $type, bytes_in: $bytes, pairs: (length / 2),
         copy_wall_s: of("copy"; "wall"), ingot_wall_s: of("ingot"; "wall"), copy_cpu_s: of("copy"; "cpu"),
         ingot_cpu_s: of("ingot"; "cpu"), copy_gb_s: rate("copy"), ingot_gb_s: rate("ingot"),
         ratio_wall: ([of("copy"; "wall"), of("ingot"; "wall")] | transpose | map(.[0] / .[1]) | median | round3)} + $about' \
        "$out/runs" | tee -a "$RESULTS/convert.jsonl"
done
