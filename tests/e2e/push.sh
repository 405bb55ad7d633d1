#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot push, and pull from where it pushed to: a store that checks every signature by its own means, with faults.
. "$(dirname "$0")/lib.sh"
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy AWS_PROFILE \
    AWS_SESSION_TOKEN AWS_DEFAULT_REGION AWS_ENDPOINT_URL_S3 AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE
export HOME=$WORK/home AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=s3cr3t/key+ AWS_REGION=eu-test-1
mkdir home

store() { # NAME MODES...: start a store of its own
    local name=$1
    shift
    mkdir -p "$name/objects/models"
    mkfifo "$name.fifo"
    "$E2E/s3_server.py" "$name" "$@" >"$name.fifo" 2>/dev/null &
    read -r PORT <"$name.fifo"
    [ -n "$PORT" ] || fail "$name does not start"
    export AWS_ENDPOINT_URL=http://127.0.0.1:$PORT
    O=$name/objects/models
}
same() { cmp -s "$1" "$2" || fail "$1 differs from $2"; }
gone() { for f; do [ ! -e "$f" ] || fail "$f is there"; done; }
push() { "$INGOT" push "$@"; }
pull() { "$INGOT" pull "$@"; }

head -c 3000 /dev/urandom >small.bin
head -c 10000000 /dev/urandom >big.bin
: >empty.bin
mkdir -p dir/sub
echo a >dir/a.json
head -c 2500000 /dev/urandom >"dir/sub/b c.bin"
echo h >dir/.hidden
echo p >dir/x.part
ln -s ../small.bin dir/link.bin

store plain pages=3
expect_ok push small.bin s3://models/
same $O/small.bin small.bin
eq "its digest" "$(cat $O/small.bin.meta)" "$(sha256sum <small.bin | cut -d' ' -f1)"
expect_ok push small.bin s3://models/
out_has 'there already'
expect_ok push empty.bin s3://models/empty
same $O/empty empty.bin
expect_ok push small.bin 's3://models/a b/ü+&=%~*().bin' --json
eq "sent" "$(jq .sent out)" 3000
same "$O/a b/ü+&=%~*().bin" small.bin
expect_ok push big.bin s3://models/deep/big.bin --piece 1M --json
eq "sent" "$(jq .sent out)" 10000000
same $O/deep/big.bin big.bin
gone big.bin.push
expect_ok push dir s3://models/dir --piece 1M
eq "files" "$(find $O/dir -type f ! -name '*.meta' | wc -l)" 3
same "$O/dir/sub/b c.bin" "dir/sub/b c.bin"
same $O/dir/link.bin small.bin

# ---- back ----
expect_ok pull s3://models/deep/big.bin -o back --piece 1M
same back big.bin
expect_ok pull s3://models/dir/ -o backdir # two pages of a listing
eq "files" "$(find backdir -type f | wc -l)" 3
same "backdir/sub/b c.bin" "dir/sub/b c.bin"
expect_ok pull 's3://models/a b/' --include '*.bin' -o backab
same 'backab/ü+&=%~*().bin' small.bin
expect_ok pull s3://models/empty
same empty empty.bin
printf '0%.0s' {1..64} >$O/small.bin.meta
expect_fail 1 'want 0000' pull s3://models/small.bin -o lie --quiet
gone lie lie.part

# ---- refusals ----
expect_fail 1 'none: .* says 404: NoSuchKey' pull s3://models/none
expect_fail 1 'nothing there' pull s3://models/none/
expect_fail 1 '404: NoSuchBucket' push small.bin s3://nobucket/
expect_fail 1 'the bucket is in us-west-9: set AWS_REGION' push small.bin s3://elsewhere/x
expect_fail 1 'the bucket is in us-west-9: set AWS_REGION' pull s3://elsewhere/x
expect_fail 1 '403: SignatureDoesNotMatch' env AWS_SECRET_ACCESS_KEY=other "$INGOT" push small.bin s3://models/x
expect_fail 2 'AWS_ACCESS_KEY_ID without AWS_SECRET' env -u AWS_SECRET_ACCESS_KEY "$INGOT" push small.bin s3://models/x
expect_fail 2 'no keys: set AWS_ACCESS_KEY_ID' env -u AWS_ACCESS_KEY_ID "$INGOT" push small.bin s3://models/x
expect_fail 2 'AWS_PROFILE=w: no aws_access_key_id' env -u AWS_ACCESS_KEY_ID AWS_PROFILE=w "$INGOT" push small.bin s3://models/x
expect_fail 2 'want s3://BUCKET' push small.bin https://x/
expect_fail 2 'a bucket of 3 to 63' push small.bin s3://x/
expect_fail 1 'not there' push nofile s3://models/
expect_fail 1 'no upload to that place' push small.bin s3://models/x --abort
expect_fail 1 'cannot connect' env AWS_ENDPOINT_URL=http://127.0.0.1:1 "$INGOT" push small.bin s3://models/ --retries 0

# keys from a file
mkdir home/.aws
printf '[work]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s3cr3t/key+\n' >home/.aws/credentials
printf "[profile work]\nregion = eu-test-1\nendpoint_url = $AWS_ENDPOINT_URL/\n" >home/.aws/config
expect_ok env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_REGION -u AWS_ENDPOINT_URL AWS_PROFILE=work \
    "$INGOT" push small.bin s3://models/by-profile
same $O/by-profile small.bin

# ---- a session token; no keys ----
store token token=tok/en+=
expect_fail 1 'session token' push small.bin s3://models/
expect_ok env AWS_SESSION_TOKEN=tok/en+= "$INGOT" push small.bin s3://models/
store open anonymous
cp small.bin $O/
expect_ok env -u AWS_ACCESS_KEY_ID "$INGOT" pull s3://models/small.bin -o anonymous
same anonymous small.bin

# ---- stores with faults ----
store fails fail=3 drop=3
expect_ok push big.bin s3://models/big.bin --piece 1M --json --connections 2
[ "$(jq .retries out)" -ge 3 ] || fail "no retries"
same $O/big.bin big.bin
expect_ok pull s3://models/big.bin -o back2 --piece 1M --quiet
same back2 big.bin
store late late
expect_fail 1 'InternalError' push big.bin s3://models/big.bin --piece 1M --quiet
[ -e big.bin.push ] || fail "no state of a broken upload"
expect_ok push big.bin s3://models/big.bin --piece 1M --json
eq "sent again" "$(jq .sent out)" 0
same $O/big.bin big.bin
gone big.bin.push
store lost lost
expect_ok push big.bin s3://models/big.bin --piece 1M --quiet
same $O/big.bin big.bin

# ---- kills, going on, giving up ----
for mode in pages=3 nosums; do
    store kill-$mode $mode slow=0.1
    for round in {1..5}; do
        "$INGOT" push big.bin s3://models/big.bin --piece 1M --quiet --connections 1 >/dev/null &
        pid=$!
        sleep 0.$((RANDOM % 10))$((RANDOM % 10))
        kill -9 $pid
        wait $pid
    done 2>/dev/null
    expect_ok push big.bin s3://models/big.bin --piece 1M --json
    same $O/big.bin big.bin
    puts=$(grep -c '^PUT .*partNumber' kill-$mode/log)
    [ "$puts" -le 15 ] || fail "$puts parts sent for 10, with 5 kills"
    # one that was killed between its beginning and its remembering cannot be found again
    [ "$(ls kill-$mode/uploads | wc -l)" -le 3 ] || fail "a new upload after each kill"
done
store stop slow=0.2
"$INGOT" push big.bin s3://models/big.bin --piece 1M --quiet --connections 1 2>err &
pid=$!
for _ in {1..100}; do grep -q partNumber=2 stop/log 2>/dev/null && break; sleep 0.1; done
kill -TERM $pid
wait $pid && fail "a stopped push says it is fine"
err_has 'stopped; the same command goes on'
expect_ok push big.bin s3://models/big.bin --abort
out_has 'given up'
gone big.bin.push
# another content under the same name begins anew
"$INGOT" push big.bin s3://models/big.bin --piece 1M --quiet --connections 1 2>/dev/null &
pid=$!
for _ in {1..100}; do [ -e big.bin.push ] && break; sleep 0.1; done
kill -9 $pid
wait $pid 2>/dev/null
head -c 5000000 /dev/urandom >big.bin
expect_ok push big.bin s3://models/big.bin --piece 1M --json
eq "sent" "$(jq .sent out)" 5000000
same $O/big.bin big.bin
echo ok
