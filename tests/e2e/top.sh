#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot top: once, as JSON, as lines, on a terminal with its keys; servers that are gone, and that are none.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"

"$INGOT" serve model.gguf --port 0 2>serve.log &
server=$!
for _ in $(seq 200); do
    URL=$(sed -n 's/^listening on //p' serve.log)
    [ -z "$URL" ] || break
    sleep 0.05
done
[ -n "$URL" ] || fail "the server did not start: $(cat serve.log)"
for _ in $(seq 100); do
    [ "$(curl -s -o /dev/null -w '%{http_code}' "$URL/health/ready")" = 200 ] && break
    sleep 0.05
done
for i in 1 2 3; do
    curl -s "$URL/v1/completions" -d '{"prompt": "ab", "max_tokens": 9, "ignore_eos": true}' >/dev/null || fail "no answer"
done
sleep 2.2 # samples are taken once a second

expect_ok "$INGOT" top "$URL/" --once --window 1
out_has "^$URL  model  up .*last 1 min$"
out_has '^requests +[0-9.]+/s  running 0  waiting 0'
out_has '^KV cache +\[\.*\] 0% of [0-9,]+ blocks$'
out_has '^errors +0/s  0 since the start'

expect_ok "$INGOT" top "$URL" --once --json
eq "tokens" "$(jq .totals.new_tokens out)" 27

timeout -s INT 2 "$INGOT" top "$URL" --interval 0.2 >lines 2>err
[ "$(grep -c 'req/s.*tok/s.*errors 0$' lines)" -ge 3 ] || fail "$(cat lines)"

# A terminal: it draws, takes keys, outlives the server, and gives the terminal back.
cat >terminal.py <<'E2'
import os, pty, re, select, signal, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "top", sys.argv[2], "--interval", "0.2"])
seen = ""
def until(pattern, seconds=15):
    global seen
    end = time.time() + seconds
    while not re.search(pattern, seen):
        if time.time() > end: sys.exit(f"never saw {pattern}: {seen[-1500:]!r}")
        if select.select([fd], [], [], 0.1)[0]: seen += os.read(fd, 65536).decode()
    seen = ""
until("last 5 min")
assert not termios.tcgetattr(fd)[3] & termios.ICANON
os.write(fd, b"w")
until("last 15 min")
os.kill(int(sys.argv[3]), signal.SIGKILL)
until("refused|Couldn't connect|connect")
os.write(fd, b"q")
until(r"\x1b\[\?1049l")
_, status = os.waitpid(pid, 0)
assert status == 0, status
E2
python3 terminal.py "$(realpath "$INGOT")" "$URL" $server || fail "the terminal"

expect_fail 1 '127.0.0.1' "$INGOT" top "$URL" --once
python3 -m http.server 0 --bind 127.0.0.1 >http.log 2>&1 &
for _ in $(seq 100); do
    OTHER=$(sed -n 's/.*(\(http:[^)]*\)).*/\1/p' http.log)
    [ -z "$OTHER" ] || break
    sleep 0.05
done
[ -z "$OTHER" ] || expect_fail 1 'status 404: is this ingot serve' "$INGOT" top "$OTHER" --once
expect_fail 2 'choose 1, 5, 15 or 60' "$INGOT" top --window 7
exit 0
