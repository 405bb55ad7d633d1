#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot collect on a small tree made here, friendly and hostile.
source "$(dirname "$0")/lib.sh"

code() { # SEED LINES: lines of code that no other seed has
    awk -v s="$1" -v n="$2" 'BEGIN { for (i = 0; i < n; i++) printf "value_%d_%d = call%d(arg%d, %d)\n", s, i, i, s, s * i }'
}
paths() { jq -r .path "$1"; }

mkdir -p src/pkg/sub src/.git src/.venv/lib src/pkg/__pycache__ src/node_modules/x
code 1 50 >src/a.py
code 2 50 >src/pkg/b.py
cp src/a.py src/pkg/copy_of_a.py
{ code 2 24; echo "changed = 'one line'"; code 2 50 | tail -25; } >src/pkg/sub/nearly_b.py
code 3 50 >src/pkg/c.txt
for d in .git .venv/lib pkg/__pycache__ node_modules/x; do code 9 50 >src/$d/hidden.py; done
: >src/empty.py
echo 'x = 1' >src/short.py
printf '# caf\351 in latin-1, long enough to be kept if it were UTF-8, which it is not, so it is not kept at all, no\n' >src/latin.py
ln -s a.py src/link.py
ln -s .. src/pkg/loop
mkfifo src/pipe.py

# what is kept, in sorted order, and why the rest is not
expect_ok "$INGOT" collect src -o docs.jsonl --verbose
eq paths "$(paths docs.jsonl | xargs)" "src/a.py src/pkg/b.py"
eq text "$(jq -rj 'select(.path == "src/a.py").text' docs.jsonl | sha256sum)" "$(sha256sum <src/a.py)"
eq characters "$(sed -n 's/.* files, \([0-9,]*\) characters.*/\1/p' out | tr -d ,)" "$(cat src/a.py src/pkg/b.py | wc -m)"
out_has '^docs.jsonl: 2 of 9 files, '
err_has '^skip exact duplicate: src/pkg/copy_of_a.py$'
err_has '^skip near duplicate: src/pkg/sub/nearly_b.py$'
err_has '^skip too short: src/empty.py$'
err_has '^skip too short: src/short.py$'
err_has '^skip not UTF-8 text: src/latin.py$'
err_has '^skip link or special: src/link.py$'
err_has '^skip link or special: src/pipe.py$'
err_has '^skip excluded folder: src/pkg/__pycache__$'
err_has '^  near duplicate +1$'
err_has '^  excluded folder +4$'
err_has '^  other ending +2$'
err_lacks 'hidden'

# the same again gives the same bytes; options
cp docs.jsonl first.jsonl
expect_ok "$INGOT" collect src -o docs.jsonl --quiet
cmp docs.jsonl first.jsonl || fail "two runs differ"
eq quiet "$(wc -c <err)" 0
expect_ok "$INGOT" collect src -o more.jsonl --near-dup 0 --ext .py --ext txt --min-chars 5 --json
eq files "$(jq .files out)" 5
eq "json line" "$(wc -l <out)" 1
eq skipped "$(jq -c '[.skipped.exact_duplicate, .skipped.near_duplicate, .skipped.too_short]' out)" "[1,0,1]"
expect_ok "$INGOT" collect src/pkg/ src/pkg/../ -o two.jsonl
eq "two folders" "$(paths two.jsonl | xargs)" "pkg/b.py pkg/copy_of_a.py"
(cd src && expect_ok "$INGOT" collect . -o ../dot.jsonl) || exit 1
eq "name of ." "$(paths dot.jsonl | head -1)" "src/a.py"

# a million characters in one line; odd names
mkdir odd
{ printf 's = "'; head -c 1000000 /dev/zero | tr '\0' x; printf '"\n'; } >odd/long.py
code 4 30 >odd/$'new\nline.py'
code 5 30 >odd/$'bad\377byte.py'
code 6 30 >odd/"--json.py"
head -c 2000000 /dev/zero | tr '\0' y >odd/large.py
expect_ok "$INGOT" collect -o odd.jsonl -v -- odd
eq "odd files" "$(wc -l <odd.jsonl)" 4
err_has '^skip too large: odd/large.py$'
eq "long text" "$(jq -j 'select(.path == "odd/long.py").text' odd.jsonl | wc -c)" 1000007
eq "bad byte" "$(paths odd.jsonl | head -2 | tail -1)" $'odd/bad\xef\xbf\xbdbyte.py'

# a folder and a file without permission: skipped, said, the rest kept
mkdir -p closed/no closed/yes
code 7 30 >closed/no/a.py
code 8 30 >closed/yes/b.py
code 10 30 >closed/yes/c.py
chmod 000 closed/no closed/yes/c.py
as_user=()
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups); chmod 755 .; fi
if "${as_user[@]}" "$INGOT" --version >/dev/null 2>&1; then
    mkdir -m 777 open
    expect_ok "${as_user[@]}" "$INGOT" collect closed -o open/closed.jsonl -v
    eq "readable file" "$(paths open/closed.jsonl)" "closed/yes/b.py"
    err_has '^skip unreadable: closed/no$'
    err_has '^skip unreadable: closed/yes/c.py$'
    expect_fail 1 'Permission denied' "${as_user[@]}" "$INGOT" collect src -o denied.jsonl
fi
chmod 755 closed/no closed/yes/c.py

# what cannot work: one line, and no output left behind
expect_fail 1 'nowhere: No such file' "$INGOT" collect nowhere -o no.jsonl
expect_fail 1 'src/a.py: Not a directory' "$INGOT" collect src/a.py -o no.jsonl
expect_fail 1 'no-folder/no.jsonl' "$INGOT" collect src -o no-folder/no.jsonl
expect_fail 1 'No space left' "$INGOT" collect src -o /dev/full -q
expect_fail 1 'no file to keep' "$INGOT" collect src -o no.jsonl --ext .rs -q
expect_fail 2 'no output: -o' "$INGOT" collect src
expect_fail 2 'argument is missing' "$INGOT" collect -o no.jsonl
expect_fail 2 'near.dup.*1\.5' "$INGOT" collect src -o no.jsonl --near-dup 1.5
expect_fail 2 'min.chars' "$INGOT" collect src -o no.jsonl --min-char 5
expect_fail 2 'did you mean "collect"' "$INGOT" colect src
[ ! -e no.jsonl ] && [ ! -e no.jsonl.tmp ] || fail "an output was left behind"
[ -c /dev/full ] || fail "/dev/full is gone"

# whatever fails: the old output stays, or a file that could not be read is missing from the new one
for n in $(seq 1 40); do
    cp first.jsonl docs.jsonl
    if INGOT_FAULT=io:$n "$INGOT" collect src -o docs.jsonl --verbose >out 2>err; then
        cmp -s docs.jsonl first.jsonl || grep -q '^skip unreadable' err || fail "io:$n went unnoticed"
    else
        eq "io:$n, error lines" "$(grep -c '^ingot: ' err)" 1
        tail -1 err | grep -q 'docs.jsonl\|src\|: ' || fail "io:$n: no cause"
        [ ! -e docs.jsonl.tmp ] || fail "io:$n left its temporary file"
    fi
done
cp first.jsonl docs.jsonl

# a link or a device is written through, not replaced
echo old >target
ln -s target linked
expect_ok "$INGOT" collect src -q -o linked
[ -L linked ] || fail "the link was replaced"
cmp target first.jsonl || fail "the link's target is not the output"
ln -s /proc/self/fd/1 piped
eq "through a pipe" "$("$INGOT" collect src -q -o piped 2>/dev/null | head -2 | sha256sum)" "$(sha256sum <first.jsonl)"
[ -L piped ] || fail "the link to standard output was replaced"

# the progress line: on a terminal only
mkdir many
awk 'BEGIN { for (i = 0; i < 2000; i++) { f = "many/" i ".py"
    for (k = 0; k < 200; k++) printf "value_%d_%d = call%d(arg%d, %d)\n", i, k, k, i, i * k >f
    close(f) } }'
if command -v script >/dev/null; then
    script -qec "'$INGOT' collect many -o tty.jsonl" /dev/null >tty
    grep -q $'\rcollect  [0-9,]* files  [0-9,.]* files/s' tty || fail "no progress on a terminal"
    grep -qF $'\r\e[Ktty.jsonl: 2,000 of 2,000 files, ' tty || fail "the progress line was left on the terminal"
fi
expect_ok "$INGOT" collect many -o plain.jsonl
eq "standard error without a terminal" "$(wc -c <err)" 0

# a signal while it works: nothing new, the old file as it was (scripts start jobs with SIGINT ignored)
for sig in INT TERM; do
    python3 -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])' \
        "$INGOT" collect many -o docs.jsonl >out 2>err &
    pid=$!
    while [ ! -s docs.jsonl.tmp ] && kill -0 $pid 2>/dev/null; do sleep 0.002; done
    kill -$sig $pid 2>/dev/null
    if wait $pid; then
        echo "finished before the signal"
        cp first.jsonl docs.jsonl
        continue
    fi
    eq "exit after $sig" "$(cat err)" "ingot: interrupted"
    cmp docs.jsonl first.jsonl || fail "an interrupted run touched the output"
    [ ! -e docs.jsonl.tmp ] || fail "an interrupted run left its temporary file"
done

expect_ok "$INGOT" collect --help
out_has 'usage: ingot collect DIR'
out_has 'near-dup X'
echo ok
