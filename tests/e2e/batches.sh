#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# /v1/files and /v1/batches: from the upload to the answers, with keys, cancelled, expired, refused, on a full disk, and
# with a server that is killed again and again and goes on with no line lost or done twice.
source "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_chat.py" model.gguf || fail "no model"
lines() { python3 "$E2E/batch_lines.py" "$@"; }
kill9() { { kill -9 $PID; wait $PID; } 2>/dev/null; }
code() { curl -s -o out -w '%{http_code}' "$@"; }
upload() { curl -s "${AUTH[@]}" "$URL/v1/files" -F purpose=batch -F "file=@$1" | jq -r .id; }
begin() { # FILE ENDPOINT [WINDOW]
    curl -s "${AUTH[@]}" "$URL/v1/batches" \
        -d "{\"input_file_id\": \"$1\", \"endpoint\": \"$2\", \"completion_window\": \"${3-24h}\"}" | jq -r .id
}
batch() { curl -s "${AUTH[@]}" "$URL/v1/batches/$1" | jq -r "${2-.status}"; }
await() { # BATCH STATUS
    for _ in $(seq 600); do
        s=$(batch "$1")
        [ "$s" = "$2" ] && return 0
        case $s in completed | failed | expired | cancelled) break ;; esac
        sleep 0.05
    done
    fail "$1 is $s, not $2: $(curl -s "${AUTH[@]}" "$URL/v1/batches/$1")"
}
fetch() { # BATCH: its outputs in ./o and ./e
    : >o; : >e
    local o e
    o=$(batch "$1" .output_file_id); e=$(batch "$1" .error_file_id)
    [ "$o" = null ] || curl -s "${AUTH[@]}" "$URL/v1/files/$o/content" >o
    [ "$e" = null ] || curl -s "${AUTH[@]}" "$URL/v1/files/$e/content" >e
}
AUTH=()
URLC=/v1/completions

# ---- a batch ----
lines make 120 8 $URLC >in.jsonl
start
F=$(upload in.jsonl)
eq "what was uploaded" "$(curl -s "$URL/v1/files/$F/content" | md5sum)" "$(md5sum <in.jsonl)"
eq "its size" "$(curl -s "$URL/v1/files/$F" | jq -c '[.bytes, .filename, .purpose, .object]')" \
    "[$(stat -c %s in.jsonl),\"in.jsonl\",\"batch\",\"file\"]"
B=$(begin "$F" $URLC)
await "$B" completed
eq "counts" "$(batch "$B" '.request_counts | "\(.total) \(.completed) \(.failed)"')" "120 117 3"
fetch "$B"
eq "errors" "$(lines check in.jsonl o e)" 3
eq "errors stand apart" "$(wc -l <e)" 3
for kind in /v1/chat/completions /v1/embeddings /v1/responses; do
    lines make 20 4 $kind >other.jsonl
    B2=$(begin "$(upload other.jsonl)" $kind)
    await "$B2" completed
    fetch "$B2"
    eq "$kind" "$(lines check other.jsonl o e)" 1
done

# ---- what is refused ----
eq "no form" "$(code "$URL/v1/files" -d x)" 400
eq "another purpose" "$(code "$URL/v1/files" -F purpose=fine-tune -F file=@in.jsonl)" 400
eq "no such file" "$(code "$URL/v1/files/file-0")" 404
eq "a path" "$(code "$URL/v1/files/..%2Fbatches.db/content")" 404
eq "no such input" "$(code "$URL/v1/batches" -d '{"input_file_id": "file-0", "endpoint": "/v1/completions"}')" 400
eq "an endpoint" "$(code "$URL/v1/batches" -d "{\"input_file_id\": \"$F\", \"endpoint\": \"/complete\"}")" 400
eq "a window" "$(code "$URL/v1/batches" -d "{\"input_file_id\": \"$F\", \"endpoint\": \"$URLC\", \"completion_window\": \"8d\"}")" 400
eq "an output as input" "$(code "$URL/v1/batches" -d "{\"input_file_id\": \"$(batch "$B" .output_file_id)\", \"endpoint\": \"$URLC\"}")" 400
B2=$(begin "$F" /v1/embeddings)
await "$B2" failed
eq "lines of another endpoint" "$(batch "$B2" '.errors.data[0] | "\(.code) \(.line)"')" "mismatched_endpoint 1"
(head -3 in.jsonl; echo; echo nonsense; head -1 in.jsonl) >bad.jsonl
B2=$(begin "$(upload bad.jsonl)" $URLC)
await "$B2" failed
eq "bad lines" "$(batch "$B2" '[.errors.data[] | "\(.code) \(.line)"] | join(", ")')" "invalid_json_line 5, duplicate_custom_id 6"
eq "it has no output" "$(batch "$B2" .output_file_id)" null
echo >empty.jsonl
B2=$(begin "$(upload empty.jsonl)" $URLC)
await "$B2" failed
eq "no lines" "$(batch "$B2" '.errors.data[0].code')" empty_file
eq "cancel what is over" "$(code -X POST "$URL/v1/batches/$B/cancel")" 409
eq "pages" "$(curl -s "$URL/v1/batches?limit=2" | jq -c '[(.data | length), .has_more]')" "[2,true]"
last=$(curl -s "$URL/v1/batches?limit=2" | jq -r .last_id)
eq "the next page" "$(curl -s "$URL/v1/batches?limit=100&after=$last" | jq -c '[(.data | length), .has_more]')" "[5,false]"
eq "deleted" "$(curl -s -X DELETE "$URL/v1/files/$F" | jq .deleted)" true
eq "gone" "$(code "$URL/v1/files/$F/content")" 404

# ---- cancelled; a file that is read stays ----
lines make 3000 400 $URLC >long.jsonl
F=$(upload long.jsonl)
B=$(begin "$F" $URLC)
for _ in $(seq 200); do [ "$(batch "$B" .request_counts.completed)" -ge 2 ] && break; sleep 0.02; done
eq "its input" "$(code -X DELETE "$URL/v1/files/$F")" 409
# somebody who waits for an answer does not wait for the batch
t0=$(date +%s%N)
eq "beside it" "$(code "$URL$URLC" -d '{"prompt": "x", "max_tokens": 4}')" 200
[ $((($(date +%s%N) - t0) / 1000000)) -lt 3000 ] || fail "a client waited for a batch"
curl -s -X POST "$URL/v1/batches/$B/cancel" | jq -e '.status == "cancelling" and .cancelling_at != null' >/dev/null || fail "no cancel"
await "$B" cancelled
n=$(batch "$B" .request_counts.completed)
fetch "$B"
eq "what was done" "$(wc -l <o)" "$n"
[ "$n" -ge 2 ] && [ "$n" -lt 3000 ] || fail "$n lines done"
eq "its blocks" "$(curl -s "$URL/health" | jq .requests_running)" 0
stop

# ---- keys ----
"$INGOT" keys create one >one 2>/dev/null
"$INGOT" keys create two >two 2>/dev/null
"$INGOT" keys create three --scopes inference >three 2>/dev/null
start --max-file-size 20K
eq "no key" "$(code "$URL/v1/files")" 401
eq "another scope" "$(code -H "Authorization: Bearer $(cat three)" "$URL/v1/files")" 403
AUTH=(-H "Authorization: Bearer $(cat one)")
F=$(upload in.jsonl)
eq "its file" "$(curl -s "${AUTH[@]}" "$URL/v1/files" | jq '.data | length')" 1
B=$(begin "$F" $URLC)
await "$B" completed
eq "too large" "$(code "${AUTH[@]}" "$URL/v1/files" -F purpose=batch -F file=@long.jsonl)" 413
AUTH=(-H "Authorization: Bearer $(cat two)")
eq "another's file" "$(code "${AUTH[@]}" "$URL/v1/files/$F")" 404
eq "another's batch" "$(code "${AUTH[@]}" "$URL/v1/batches/$B")" 404
eq "another's input" "$(code "${AUTH[@]}" "$URL/v1/batches" -d "{\"input_file_id\": \"$F\", \"endpoint\": \"$URLC\"}")" 400
eq "others' files" "$(curl -s "${AUTH[@]}" "$URL/v1/files" | jq '.data | length')" 0
"$INGOT" serve model.gguf --port 0 2>second.log &
second=$!
for _ in $(seq 200); do grep -q '^listening' second.log && break; sleep 0.05; done
grep -q 'files and batches are not kept: .*another process' second.log || fail "$(cat second.log)"
kill $second && wait $second
stop
rm -r state
AUTH=()

# ---- kill -9, SIGTERM ----
lines make 600 150 $URLC >in.jsonl
lines make 200 20 /v1/chat/completions >chat.jsonl
start
B=$(begin "$(upload in.jsonl)" $URLC)
B2=$(begin "$(upload chat.jsonl)" /v1/chat/completions)
dd if=/dev/urandom of=state/batches/file-0123.tmp bs=1k count=1 2>/dev/null # an upload that was cut off
kills=0
for i in $(seq 10); do
    sleep 0.$((RANDOM % 15 + 10))
    [ "$(batch "$B")" = completed ] && break
    if [ $((i % 4)) = 0 ]; then kill -TERM $PID; wait $PID; else kill9; kills=$((kills + 1)); fi
    start
done
[ ! -e state/batches/file-0123.tmp ] || fail "the rest of an upload was kept"
await "$B" completed
await "$B2" completed
fetch "$B"
eq "errors after $kills kills" "$(lines check in.jsonl o e)" 12
fetch "$B2"
eq "of the other" "$(lines check chat.jsonl o e)" 4
[ $kills -ge 1 ] || fail "only $kills kills"
stop

# ---- the window is over; while the server was away, too ----
start
B=$(begin "$(upload long.jsonl)" $URLC 1m)
for _ in $(seq 200); do [ "$(batch "$B" .request_counts.completed)" -ge 2 ] && break; sleep 0.02; done
kill9
python3 -c "
import sqlite3
with sqlite3.connect('state/batches.db') as db: db.execute('update batches set t_expires = 1 where state < 3')"
start
await "$B" expired
fetch "$B"
eq "expired lines" "$(jq -r .error.code e | grep -c batch_expired)" "$((3000 - $(wc -l <o) - $(jq -c 'select(.response)' e | wc -l)))"
eq "all of them" "$(lines check long.jsonl o e)" "$(wc -l <e)"
stop

# ---- the disk is full for a while ----
start
B=$(begin "$(upload in.jsonl)" $URLC)
for _ in $(seq 200); do [ "$(batch "$B" .request_counts.completed)" -ge 20 ] && break; sleep 0.02; done
kill9
ulimit -S -f 60
trap '' XFSZ
start
for _ in $(seq 100); do grep -q 'tried again' serve.log && break; sleep 0.05; done
grep -q 'File too large; it is tried again' serve.log || fail "$(cat serve.log)"
eq "it waits" "$(batch "$B")" in_progress
eq "others are answered" "$(code "$URL$URLC" -d '{"prompt": "x", "max_tokens": 4}')" 200
kill9
ulimit -S -f unlimited
start
await "$B" completed
fetch "$B"
eq "after a full disk" "$(lines check in.jsonl o e)" 12
stop
