#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a server may still do once it serves: as whom it runs, where it writes.
source "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"
code() { curl -s -o out -w '%{http_code}' "$@"; }
threads() { # FIELD: its values in all threads of the server
    cat /proc/$PID/task/*/status | sed -n "s/^$1:[[:space:]]*//p" | tr '\t' ' ' | sort -u
}
landlock=$(python3 -c 'import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))')

# ---- whoever it is ----
start
grep -q '^confined: user ' serve.log || fail "no line: $(cat serve.log)"
eq "NoNewPrivs" "$(threads NoNewPrivs)" 1
grep -qE '^Max core file size +0 +0 ' /proc/$PID/limits || fail "$(cat /proc/$PID/limits)"
[ "$landlock" -le 0 ] || grep -q "writes only below $INGOT_STATE_DIR" serve.log || fail "$(cat serve.log)"
eq "a rating" "$(code "$URL/feedback" -d '{"request_id": "x", "rating": 4}')" 200
stop
start --no-sandbox
grep -q 'files not confined (--no-sandbox)' serve.log || fail "$(cat serve.log)"
stop

# ---- from here on as root ----
if [ "$(id -u)" != 0 ]; then
    expect_fail 1 'only root' "$INGOT" serve model.gguf --user nobody --port 0
    skip "not root: --user is not looked at"
fi
start
grep -q '^running as root' serve.log || fail "no warning: $(cat serve.log)"
stop
expect_fail 1 'no-such-user' "$INGOT" serve model.gguf --user no-such-user --port 0
expect_fail 2 'rights of root' "$INGOT" serve model.gguf --user root --port 0
chmod 755 .
mkdir outside
chmod 777 outside
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout k.pem -out c.pem -days 2 \
    -subj /CN=localhost -addext 'subjectAltName=IP:127.0.0.1' 2>/dev/null || fail "no certificate"
chmod 600 k.pem
"$INGOT" keys create first >first 2>/dev/null || fail "no key"
start --user nobody --tls-cert c.pem --tls-key k.pem
nobody=$(id -u nobody)
eq "Uid" "$(threads Uid)" "$nobody $nobody $nobody $nobody"
eq "Gid" "$(threads Gid)" "$(for _ in 1 2 3 4; do id -g nobody; done | xargs)"
eq "Groups" "$(threads Groups | xargs)" "$(id -G nobody)"
for f in CapInh CapPrm CapEff CapBnd CapAmb; do eq "$f" "$(threads $f)" 0000000000000000; done
eq "NoNewPrivs" "$(threads NoNewPrivs)" 1
grep -q "^confined: user nobody ($nobody:" serve.log || fail "$(cat serve.log)"
grep -q 'tls_key: k.pem cannot be read by nobody: SIGHUP will keep' serve.log || fail "$(cat serve.log)"
key="Authorization: Bearer $(cat first)"
eq "over TLS, with root's key file" "$(code --cacert c.pem -H "$key" "$URL/v1/models")" 200
eq "a rating" "$(code --cacert c.pem -H "$key" "$URL/feedback" -d '{"request_id": "x", "rating": 4}')" 200
eq "whose folder" "$(stat -c %U "$INGOT_STATE_DIR")" nobody
eq "whose files" "$(stat -c %U "$INGOT_STATE_DIR"/* | sort -u)" nobody

# a reload: what cannot be read is said, and nothing changes
"$INGOT" keys create second >second 2>/dev/null || fail "no key"
kill -HUP $PID
for _ in $(seq 100); do grep -q 'reload: k.pem.*stays as it was' serve.log && break; sleep 0.05; done
grep -q 'reload: k.pem.*stays as it was' serve.log || fail "$(cat serve.log)"
chown nobody k.pem
kill -HUP $PID
for _ in $(seq 100); do grep -q 'read again' serve.log && break; sleep 0.05; done
eq "a key made by root meanwhile" "$(code --cacert c.pem -H "Authorization: Bearer $(cat second)" "$URL/v1/models")" 200
eq "when it was used" "$(for _ in $(seq 60); do
    [ "$("$INGOT" keys list --json | jq '.keys[] | select(.name == "second") | .last_used > 0')" = true ] && echo true && break; sleep 0.1; done)" true
kill -TERM $PID
wait $PID
eq "exit status" $? 0

# keys.db made by root for a server that has none yet
rm -r "$INGOT_STATE_DIR"
start --user nobody:nogroup
"$INGOT" keys create third >third 2>/dev/null || fail "no key"
eq "whose keys.db" "$(stat -c %U "$INGOT_STATE_DIR/keys.db")" nobody
kill -HUP $PID
for _ in $(seq 100); do [ "$(code "$URL/v1/models")" = 401 ] && break; sleep 0.05; done
eq "with a first key" "$(code "$URL/v1/models")" 401
eq "and with it" "$(code -H "Authorization: Bearer $(cat third)" "$URL/v1/models")" 200
stop

# ---- writing elsewhere: the log's folder is allowed, a log elsewhere is not after a change by SIGHUP ----
mkdir logs
chown nobody logs
"$INGOT" serve model.gguf --port 0 --user nobody --log-file logs/s.log 2>err &
PID=$!
for _ in $(seq 200); do grep -q '^listening' logs/s.log 2>/dev/null && break; sleep 0.05; done
grep -q "below $INGOT_STATE_DIR and logs" logs/s.log || [ "$landlock" -le 0 ] || fail "$(cat logs/s.log err)"
kill -TERM $PID
wait $PID
eq "exit status" $? 0
rm -rf "$INGOT_STATE_DIR"
mkdir -p closed
chmod 700 closed
expect_fail 1 'user nobody does not reach it' "$INGOT" serve model.gguf --port 0 --user nobody --state-dir closed/state
chmod 777 outside
expect_fail 1 'neither root' "$INGOT" serve model.gguf --port 0 --user nobody --state-dir outside
echo ok
