#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot pull against servers of all kinds: whole files, ranges, faults, kills, redirects, TLS, proxies, the hub.
. "$(dirname "$0")/lib.sh"
unset HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy HF_TOKEN HF_ENDPOINT \
    SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE HF_HUB_OFFLINE
export HOME=$WORK/home
mkdir home srv hub

serve() { # NAME PROGRAM ARGS...: start it, its port in $PORT
    local name=$1
    shift
    mkfifo "$name.fifo"
    "$@" >"$name.fifo" 2>/dev/null &
    read -r PORT <"$name.fifo"
    [ -n "$PORT" ] || fail "$name does not start"
}
same() { cmp -s "$1" "$2" || fail "$1 differs from $2"; }
gone() { for f; do [ ! -e "$f" ] || fail "$f is there"; done; }
pull() { "$INGOT" pull "$@"; }
refused() { # PATTERN ARGS...: fails, and leaves nothing
    local pattern=$1
    shift
    rm -rf x x.part x.part.json
    expect_fail 1 "$pattern" timeout 60 "$INGOT" pull "$@" -o x --quiet
    gone x
}

head -c 3000 /dev/urandom >srv/small.bin
head -c 9000000 /dev/urandom >srv/big.bin
head -c 5000000 /dev/urandom >srv/flipped
: >srv/empty.bin
touch -d '2001-02-03 04:05:06 UTC' srv/*
serve files "$E2E/file_server.py" srv
U=http://127.0.0.1:$PORT FILES=$PORT

# ---- whole files; the time of the server's; what is there already ----
expect_ok pull $U/small.bin
same small.bin srv/small.bin
eq "its time" "$(stat -c %Y small.bin)" "$(stat -c %Y srv/small.bin)"
expect_ok pull $U/small.bin
out_has "there already"
echo other >small.bin
expect_fail 2 "small.bin: exists and differs; --force" pull $U/small.bin
gone small.bin.part small.bin.part.json
expect_ok pull $U/small.bin --force
same small.bin srv/small.bin
expect_ok pull $U/empty.bin
same empty.bin srv/empty.bin
mkdir into
expect_ok pull "$U/-chunked/small.bin?x=1" -o into
same into/small.bin srv/small.bin
expect_ok pull $U/-relative/small.bin -o rel
same rel srv/small.bin

# ---- ranges, several at a time, and servers that do them badly ----
for mode in '' -etag=weak -etag=none -etag=none,nodate -noranges -nolength,noranges -drop=300000 -status=503:2 -linked; do
    expect_ok timeout 100 "$INGOT" pull $U/$mode/big.bin -o "got$mode" --piece 1M --quiet
    same "got$mode" srv/big.bin
    gone "got$mode.part" "got$mode.part.json"
done
[ "$(grep -c 'GET /big.bin range=bytes' srv/log)" -ge 9 ] || fail "not in parts"
expect_ok pull $U/-linked,good=30/big.bin -o runs-out --piece 512K --quiet
same runs-out srv/big.bin
expect_ok pull $U/-long/small.bin -o long
same long srv/small.bin
expect_ok pull $U/-flip=5/big.bin -o flip --piece 1M
err_has "changed on the server; starting over"
same flip srv/flipped

# ---- refusals ----
refused '404: Entry not found' $U/none.bin
refused 'more than 8 redirects' $U/-loop/small.bin
refused 'redirect refused' $U/-scheme=file/small.bin
refused 'connection broke after 3000 bytes' $U/-long,noranges/small.bin --retries 1
refused 'head of the answer is over' $U/-head=200000/small.bin
refused 'sends it packed' $U/-gzip/small.bin
refused 'a web page, not a file' $U/-html/small.bin
refused 'another range' $U/-badrange/small.bin
refused 'again and again' $U/-changing/big.bin --piece 1M
refused 'says 429.*too many requests' $U/-status=429/small.bin --retries 1
refused 'says 500' $U/-status=500/small.bin --retries 0
refused 'no answer in time' $U/-hang/small.bin --retries 0 --stall-timeout 1
refused 'no answer in time' $U/-slow=100/small.bin --retries 0 --stall-timeout 1
refused 'connection broke' $U/-chunked,cut,noranges/small.bin --retries 0
refused 'cannot connect to 127.0.0.1' http://127.0.0.1:1/x --retries 0
N=$(printf 'n%.0s' {1..64}).invalid # longer than a name may be: refused without asking anybody
refused 'cannot resolve n+.invalid; set HTTPS_PROXY' http://$N/x
expect_fail 1 'cannot resolve n+.invalid; set HTTPS_PROXY or HF_ENDPOINT' env HF_ENDPOINT=https://$N "$INGOT" pull hf:a/b
expect_fail 2 'want hf:' pull ftp://x/y
expect_fail 2 'credentials in it' pull http://a:b@x/y
expect_fail 2 'names no file; say -o' pull $U/

# an endless body ends with the limit on files, and what came of it stays out of the way
(ulimit -f 3000; "$INGOT" pull $U/-endless,noranges/small.bin -o endless --quiet --retries 0 2>err)
err_has 'endless.part: File too large'
gone endless
(ulimit -f 3000; "$INGOT" pull $U/big.bin -o toobig --quiet 2>err)
err_has 'toobig.part: File too large'
gone toobig toobig.part

# ---- digests ----
sum=$(sha256sum <srv/small.bin | cut -d' ' -f1)
expect_ok pull $U/small.bin -o sum --sha256 "$sum"
out_has "sha256: $sum"
refused 'sha256 is .*, want 0000' $U/small.bin --sha256 "$(printf '0%.0s' {1..64})"
gone x.part x.part.json
expect_fail 2 'want 64 hex' pull $U/small.bin --sha256 12
(cd srv && sha256sum small.bin >small.bin.sha256)
expect_ok pull $U/small.bin -o sum2
echo "$(printf '1%.0s' {1..64})  small.bin" >srv/small.bin.sha256
refused 'want 1111' $U/small.bin
rm srv/small.bin.sha256
refused 'want 0000' $U/-linked,lie/small.bin

# ---- two at a time, kills, going on ----
"$INGOT" pull $U/-slow=300000/big.bin -o slow --quiet --connections 1 &
pid=$!
for _ in {1..100}; do [ -e slow.part ] && break; sleep 0.05; done
expect_fail 1 'another process is at work' pull $U/big.bin -o slow --quiet
sleep 1 # some of it has come
kill -TERM $pid
wait $pid && fail "a stopped pull says it is fine"
[ -e slow.part.json ] || fail "no state of what is there"
expect_ok pull $U/-slow=100000000/big.bin -o slow --json
same slow srv/big.bin
for round in {1..12}; do # the server gives a file that takes about a second; killed at any time
    "$INGOT" pull $U/-slow=1500000/big.bin -o killed --piece 256K --quiet &
    pid=$!
    sleep 0.$((RANDOM % 10))$((RANDOM % 10))
    kill -9 $pid 2>/dev/null
    wait $pid 2>/dev/null
    [ ! -e killed ] || { same killed srv/big.bin; rm killed; }
done
expect_ok pull $U/-slow=1500000/big.bin -o killed --piece 256K --json
same killed srv/big.bin
for n in {1..60}; do # and at each step of writing
    INGOT_FAULT=kill:$n "$INGOT" pull $U/big.bin -o steps --piece 2M --quiet --connections 2 2>/dev/null && break
    [ ! -e steps ] || same steps srv/big.bin
done 2>/dev/null
expect_ok pull $U/big.bin -o steps --piece 2M --quiet
same steps srv/big.bin
# states that lie are not believed
for state in '{' '{"format":"ingot part 1","size":9000000,"piece":1048576,"etag":"","modified":"","sha256":"","done":[[0,9000000]]}' \
    '{"format":"ingot part 1","size":99,"piece":0,"etag":"","modified":"","sha256":"","done":[]}' \
    '{"format":"ingot part 1","size":9000000,"piece":1,"etag":"x","modified":"","sha256":"","done":[[5,4]]}'; do
    echo "$state" >lies.part.json
    : >lies.part
    expect_ok pull $U/big.bin -o lies --quiet --force
    same lies srv/big.bin
done

# ---- secrets stay with their origin ----
serve others "$E2E/file_server.py" srv
: >srv/log
expect_ok pull $U/-redirect=127.0.0.1:$PORT/small.bin -o moved --header 'X-Secret: s' --header 'Authorization: Basic x'
grep -q "redirect=.*secret=s" srv/log || fail "the header was not sent"
! grep "host=127.0.0.1:$PORT" srv/log | grep -qE 'secret=s|Basic' || fail "a secret went to another host"
grep -q "host=127.0.0.1:$PORT" srv/log || fail "the redirect was not followed"

# ---- TLS ----
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost 2>/dev/null
    serve tls "$E2E/file_server.py" srv cert.pem key.pem
    TLS=$PORT
    refused 'the certificate of localhost is refused.*--cacert' https://localhost:$TLS/small.bin
    expect_ok pull https://localhost:$TLS/small.bin -o tls1 --cacert cert.pem
    expect_ok env SSL_CERT_FILE=cert.pem "$INGOT" pull https://localhost:$TLS/small.bin -o tls2
    same tls2 srv/small.bin
    refused 'the certificate of 127.0.0.1 is refused' https://127.0.0.1:$TLS/small.bin --cacert cert.pem
    refused 'redirect from https to http' https://localhost:$TLS/-redirect=127.0.0.1:$FILES/small.bin --cacert cert.pem
fi

# ---- proxies ----
serve proxy "$E2E/proxy.py" plog
PROXY=http://127.0.0.1:$PORT
expect_ok env http_proxy=$PROXY "$INGOT" pull http://any.invalid:$FILES/small.bin -o p1
same p1 srv/small.bin
expect_ok env HTTP_PROXY=$PROXY "$INGOT" pull http://any.invalid:$FILES/small.bin -o p2
expect_ok env ALL_PROXY=$PROXY "$INGOT" pull http://any.invalid:$FILES/small.bin -o p3
expect_fail 1 'cannot resolve n+.invalid' env HTTP_PROXY=$PROXY REQUEST_METHOD=GET "$INGOT" pull http://$N:$FILES/small.bin -o p4
expect_fail 1 'cannot resolve n+.invalid; a proxy is set' env HTTP_PROXY=$PROXY NO_PROXY=.invalid "$INGOT" pull http://$N:$FILES/small.bin -o p4
expect_fail 1 'cannot resolve the proxy' env HTTP_PROXY=http://$N:1 "$INGOT" pull http://any.invalid:$FILES/small.bin -o p4
if [ -n "${TLS-}" ]; then
    expect_ok env HTTPS_PROXY=$PROXY NO_PROXY=other "$INGOT" pull https://localhost:$TLS/small.bin -o p5 --cacert cert.pem
    grep -q "^CONNECT localhost:$TLS" plog || fail "the proxy was not asked"
fi
serve locked "$E2E/proxy.py" plog2 us:pw
expect_ok env HTTP_PROXY=http://us:pw@127.0.0.1:$PORT "$INGOT" pull http://any.invalid:$FILES/small.bin -o p6
[ -z "${TLS-}" ] || expect_fail 1 'proxy does not lead to localhost: it says 407' env HTTPS_PROXY=http://127.0.0.1:$PORT "$INGOT" pull https://localhost:$TLS/small.bin -o p7
expect_fail 1 'says 407; the proxy wants credentials' env HTTP_PROXY=http://127.0.0.1:$PORT "$INGOT" pull http://any.invalid:$FILES/small.bin -o p7

# ---- the hub ----
R=hub/own/rep G=hub/own/gg
mkdir -p $R/sub $G
echo '{"a": 1}' >$R/config.json
echo '{}' >$R/tokenizer.json
: >$R/merges.txt
head -c 3000000 /dev/urandom >$R/model-00001-of-00002.safetensors
head -c 20000 /dev/urandom >$R/model-00002-of-00002.safetensors
cp $R/model-00002-of-00002.safetensors $R/consolidated.safetensors
echo pickle >$R/pytorch_model.bin
echo y >"$R/sub/f g%.txt"
for n in m-Q4_K_M m-Q4_K_S m-Q8_0-00001-of-00002 m-Q8_0-00002-of-00002; do head -c 3000 /dev/urandom >$G/$n.gguf; done
serve hub "$E2E/hub_server.py" hub t0ken
export HF_ENDPOINT=http://127.0.0.1:$PORT
expect_fail 1 'says 401: Invalid credentials; private or not there: set HF_TOKEN' pull hf:own/rep
expect_fail 1 'HF_TOKEN is not accepted' env HF_TOKEN=other "$INGOT" pull hf:own/rep
expect_fail 2 'HF_TOKEN: not a token' env HF_TOKEN='a b' "$INGOT" pull hf:own/rep
mkdir -p home/.cache/huggingface
echo t0ken >home/.cache/huggingface/token
expect_ok pull hf:own/rep --piece 500K
out_has '^rep: 5 files of 3.0 MB'
for f in config.json tokenizer.json merges.txt model-00001-of-00002.safetensors model-00002-of-00002.safetensors; do same rep/$f $R/$f; done
eq "files" "$(ls rep | wc -l)" 5
grep -q '^cdn .*/model-00001' hub/log || fail "the other host was not asked"
! grep '^cdn' hub/log | grep -q t0ken || fail "the token went to another host"
expect_ok pull hf:own/rep
out_has 'there already'
echo changed >rep/config.json
expect_fail 2 'rep/config.json: exists and differs; --force' pull hf:own/rep --quiet
expect_ok pull hf:own/rep --force --json
eq "present" "$(jq .n_present out)" 4
export HF_TOKEN=t0ken
expect_ok pull hf:own/rep@refs/pr/1 --include '*.txt' --exclude merges.txt -o inc
same "inc/sub/f g%.txt" "$R/sub/f g%.txt"
gone inc/merges.txt
expect_ok pull hf:own/rep --list --json
eq "rows" "$(jq '.files | length' out)" 5
expect_fail 1 'Invalid rev id: nope' pull hf:own/rep@nope
expect_fail 1 'name one, hf:OWNER/REPO:FILE; there are m-Q' pull hf:own/gg
expect_ok pull hf:own/gg:q4_k_m
same m-Q4_K_M.gguf $G/m-Q4_K_M.gguf
expect_ok pull hf:own/gg:m-Q4_K_S.gguf -o small.gguf
expect_fail 1 'several files have that' pull hf:own/gg:q4
expect_fail 1 'no such file in the repository; there are' pull hf:own/gg:q9
expect_ok pull hf:own/gg:q8_0 -o parts
same parts/m-Q8_0-00002-of-00002.gguf $G/m-Q8_0-00002-of-00002.gguf
expect_fail 1 'Repository not found' pull hf:own/none
for bad in hf: hf:a/b/c hf:../b hf:a/b@ hf:a/..; do expect_fail 2 'want hf:OWNER' pull "$bad"; done
expect_fail 2 'HF_HUB_OFFLINE' env HF_HUB_OFFLINE=1 "$INGOT" pull hf:own/rep

# hostile lists
mkdir -p hub/evil
bad_list() { # PATTERN JSON
    echo "$2" >hub/evil/list.json
    expect_fail 1 "$1" pull hf:evil/list -o evil --include '*'
    gone evil ../evil
}
for name in ../x /etc/x a/../../x a//b ./x . '' x.part x.part.json 'a\u0007b' 'a\u009bb'; do
    bad_list 'is refused' "{\"siblings\": [{\"rfilename\": \"$name\", \"size\": 1}]}"
done
bad_list 'another file has that place' '{"siblings": [{"rfilename": "a", "size": 1}, {"rfilename": "a", "size": 1}]}'
bad_list 'another file has that place' '{"siblings": [{"rfilename": "a", "size": 1}, {"rfilename": "a/b", "size": 1}]}'
bad_list 'no list of files' '{"siblings": 1}'
bad_list 'without a name' '{"siblings": [{"rfilename": 3}]}'
bad_list 'json' '{"siblings": ['
bad_list 'needs .* bytes more, the disk has' '{"siblings": [{"rfilename": "a", "size": 60000000000000}]}'
# a size that is not what the file has
echo '{"siblings": [{"rfilename": "config.json", "size": 99}]}' >hub/evil/size.json
mkdir -p hub/evil/size && echo '{}' >hub/evil/size/config.json
expect_fail 1 'the list says 99' pull hf:evil/size -o evil --quiet
echo ok
