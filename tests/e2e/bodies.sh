#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Many clients with long bodies at one time: the server grows by what is planned and no more, answers who is too many with
# 503 and goes on.
# alone: it fills processors and memory
source "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"

peak_mb() { awk '/^VmHWM/ { print int($2 / 1024) }' /proc/$PID/status; }

# bodies and JSON together, what two threads may take for one each while they prepare it, a little for each connection
plan_mb=$((64 + 2 * (64 / 4 + 6 * 8) + 128 / 4))
sanitized=$(nm "$INGOT" 2>/dev/null | grep -cE '__(a|t)san_init' || :)
for kind in text numbers objects lists; do
    clients=$([ $kind = text ] && echo 128 || echo 16)
    start --body-memory 64M
    before=$(peak_mb)
    statuses=$(timeout 100 python3 "$E2E/bodies.py" "${URL##*:}" $kind $clients 8300000) || fail "$kind: $statuses"
    case $statuses in "400" | "400 503" | "503") ;; *) fail "$kind: answered $statuses" ;; esac
    grown=$(($(peak_mb) - before))
    [ "$sanitized" != 0 ] || [ $grown -le $plan_mb ] || fail "$kind: $grown MB more, planned are $plan_mb"
    held=$(curl -s "$URL/metrics" | sed -n 's/^request_bodies_bytes //p')
    eq "held by $kind at the end" "$held" 0
    eq "a short one after $kind" "$(curl -s -o out -w '%{http_code}' "$URL/complete" -d '{"code": "x", "max_tokens": 2}')" 200
    kill -TERM $PID
    wait $PID
    eq "exit status after $kind" $? 0
done
start --body-memory 64M --max-body 1M
eq "over --max-body" "$(timeout 60 python3 "$E2E/bodies.py" "${URL##*:}" text 1 1200000)" 413
expect_fail 2 'body-memory.*max-body' "$INGOT" serve model.gguf --port 0 --body-memory 1M --max-body 2M
echo ok
