#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot keys: making, listing and revoking; where the file is; what is refused; kills; several at once.
source "$(dirname "$0")/lib.sh"
command -v jq >/dev/null || skip "no jq"
unset INGOT_STATE_DIR XDG_STATE_HOME
export HOME=$WORK/home
mkdir -p "$HOME"

# ---- where ----
expect_ok "$INGOT" keys create first
key=$(cat "$WORK/out")
[[ $key =~ ^sk-[0-9A-Za-z]{8}-[0-9A-Za-z]{38}$ ]] || fail "no key: $key"
err_has "^key ${key:3:8}: shown once"
err_lacks "${key:12}"
eq "default folder" "$(stat -c %a "$HOME/.local/state/ingot")" 700
eq "mode of the file" "$(stat -c %a "$HOME/.local/state/ingot/keys.db")" 600
! grep -q "${key:12:32}" -r "$HOME" || fail "the secret is in a file"
XDG_STATE_HOME=$WORK/xdg expect_ok "$INGOT" keys create
[ -f "$WORK/xdg/ingot/keys.db" ] || fail "XDG_STATE_HOME was not used"
INGOT_STATE_DIR=$WORK/env expect_ok "$INGOT" keys create
[ -f "$WORK/env/keys.db" ] || fail "INGOT_STATE_DIR was not used"
INGOT_STATE_DIR=$WORK/env expect_ok "$INGOT" keys create --state-dir "$WORK/flag/"
[ -f "$WORK/flag/keys.db" ] || fail "--state-dir was not used"
HOME=relative expect_fail 1 'INGOT_STATE_DIR' "$INGOT" keys create
export INGOT_STATE_DIR=$WORK/state

# ---- create, list, revoke ----
expect_ok "$INGOT" keys list --json
eq "no keys" "$(jq -c .keys "$WORK/out")" "[]"
[ ! -e "$WORK/state" ] || fail "looking made something"
expect_ok "$INGOT" keys create --name "bob's laptop" --scopes inference,admin --models 'a,qwen*' --expires 12h --json
id=$(jq -r .id "$WORK/out")
eq "id and key" "$(jq -r .key "$WORK/out" | cut -c4-11)" "$id"
expect_ok "$INGOT" keys list --json
jq -e --arg id "$id" '.keys[0] | .id == $id and .name == "bob'"'"'s laptop" and .state == "valid" and .scopes == "inference,admin"
    and .models == "a,qwen*" and .expires - .created == 43200 and .last_used == 0' "$WORK/out" >/dev/null || fail "$(cat "$WORK/out")"
expect_ok "$INGOT" keys create day --expires 2100-02-28
expect_ok "$INGOT" keys list --json
eq "a day" "$(jq '.keys[] | select(.name == "day").expires' "$WORK/out")" "$(date -ud 2100-02-28 +%s)"
expect_ok "$INGOT" keys revoke "$id"
expect_ok "$INGOT" keys revoke "$id" --json
jq -e '.revoked' "$WORK/out" >/dev/null || fail "$(cat "$WORK/out")"
expect_ok "$INGOT" keys list
out_has "^$id  revoked .* bob's laptop$"

# ---- what is refused ----
expect_fail 1 'no key with id "00000000"' "$INGOT" keys revoke 00000000
expect_fail 2 'is not the id of a key' "$INGOT" keys revoke "$key"
expect_fail 2 'argument is missing' "$INGOT" keys revoke
expect_fail 2 'name of a key' "$INGOT" keys create ''
expect_fail 2 'name of a key' "$INGOT" keys create $'a\nb'
expect_fail 2 'two names' "$INGOT" keys create a --name b
expect_fail 2 'scope "root"' "$INGOT" keys create a --scopes root
expect_fail 2 'empty name' "$INGOT" keys create a --models a,,b
for t in tomorrow 2026-13-01 2026-02-29 2020-1-1 0d 1y -5d 2026-01-01x; do
    expect_fail 2 'expire' "$INGOT" keys create a --expires=$t
done
expect_fail 2 'expired already' "$INGOT" keys create a --expires 2020-01-01
expect_fail 2 'unknown command "creat".*create' "$INGOT" keys creat
expect_ok "$INGOT" keys --help
out_has 'revoke'
head -c 5000 /dev/urandom >"$WORK/bad"
mkdir "$WORK/broken" && cp "$WORK/bad" "$WORK/broken/keys.db"
expect_fail 1 'broken/keys.db: it is not a SQLite file' "$INGOT" keys list --state-dir "$WORK/broken"
expect_fail 1 'broken/keys.db' "$INGOT" keys create --state-dir "$WORK/broken"
cmp -s "$WORK/bad" "$WORK/broken/keys.db" || fail "a foreign file was written"
touch "$WORK/file"
expect_fail 1 'file' "$INGOT" keys create --state-dir "$WORK/file/x"

# ---- several at once, into a folder that is not there yet ----
seq 12 | xargs -P 6 -I{} "$INGOT" keys create n{} --state-dir "$WORK/many" >shown 2>shown.err || fail "$(cat shown.err)"
eq "keys shown" "$(sort -u shown | wc -l)" 12
eq "keys kept" "$("$INGOT" keys list --json --state-dir "$WORK/many" | jq '.keys | length')" 12

# ---- killed at each step: what was shown is there, and the next one works ----
for ((n = 1; n < 200; n++)); do
    dir=$WORK/kill$n
    shown=$(INGOT_FAULT=kill:$n "$INGOT" keys create killed --state-dir "$dir" 2>/dev/null)
    rc=$?
    [ -z "$shown" ] || "$INGOT" keys list --state-dir "$dir" | grep -q "${shown:3:8}" || fail "a key is lost after kill $n"
    [ $((n % 4)) != 0 ] || expect_ok "$INGOT" keys create --state-dir "$dir"
    [ $rc = 137 ] || break
done
eq "the last one" $rc 0
[ $n -gt 5 ] || fail "only $n steps"
echo ok
