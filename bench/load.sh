#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/load.sh   what ingot load says beside what a server with known delays wrote, and what a thousand streams cost it
#
#   --rate R (40)   --requests N (800)   --users N (1000)
#
# Prints a line for each and adds it to bench/results/load.jsonl (RESULTS=folder: elsewhere). Where something else runs,
# start it with priority: chrt -f 5 bench/load.sh
source "$(dirname "$0")/lib.sh"
command_line="bench/load.sh $*"
rate=40 requests=800 users=1000
while [ $# -gt 0 ]; do
    case $1 in
        --rate) rate=$2; shift ;;
        --requests) requests=$2; shift ;;
        --users) users=$2; shift ;;
        -h | --help) sed -n '3,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) die "unknown option $1" ;;
    esac
    shift
done
tests=$(cd "$(dirname "$0")/../tests/e2e" && pwd)
about=$(circumstances "$command_line")
work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
mkdir -p "$RESULTS"

start() { # options of known_server.py
    : >"$work/port"
    python3 "$tests/known_server.py" "$@" >"$work/port" &
    server=$!
    for _ in $(seq 200); do
        [ -s "$work/port" ] && break
        sleep 0.05
    done
    url=http://127.0.0.1:$(cat "$work/port")
}
stop() {
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
}
put() { jq -c --argjson about "$about" '. + $about | del(.url)' | tee -a "$RESULTS/load.jsonl"; }

start --ttft 150,0.4 --itl 25,0.4 --log "$work/server"
"$INGOT" load "$url" --rate "$rate" --requests "$requests" --warmup 8 --max-tokens 8 --no-probe --json -q --log "$work/log" >"$work/point"
stop
python3 "$tests/load_truth.py" "$work/server" "$work/point" "$work/log" >"$work/truth" || true
worst=$(grep -oE '[+-][0-9.]+%' "$work/truth" | tr -d '+%-' | sort -g | tail -1)
jq --argjson worst "$worst" '{bench: "load_truth", worst_percent: $worst} + .' "$work/point" | put

start --ttft 200,0.01 --itl 200,0.01
"$INGOT" load "$url" --concurrency "$users" --requests $((3 * users)) --warmup 0 --max-tokens 20 --no-probe --json -q >"$work/point"
stop
jq '{bench: "load_streams"} + .' "$work/point" | put
