#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot cost: the sums, tables of machines, what is refused.
source "$(dirname "$0")/lib.sh"

expect_ok "$INGOT" cost --tok-s 2-vcpu=100 --requests 5 --tokens 50 --utilization 0.5
out_has '^2-vcpu +0\.100 +2\.8 +100\.0 +0\.000278$'
out_has '^2-vcpu: 5 machines for 250 tokens a second, 50% of what they give$'
out_has '^  \$365\.00 a month for 13\.14 million requests: \$0\.0278 a thousand requests, \$0\.000556 a thousand tokens \(within \$0\.01\)$'

expect_ok "$INGOT" cost # nothing measured: what would be needed
out_has '^a100 +3\.670 +101\.9 +- +-$'
out_has 'Nothing is known of their speed'

expect_ok "$INGOT" cost --print-machines
sed 's/"tok_s":0/"tok_s":50/' out >mine.json
expect_ok "$INGOT" cost --machines mine.json --replicas 2 --requests 1 --tokens 100 --json
eq "machines" "$(jq '.machines | length' out)" 5
eq "month" "$(jq '.machines[0].usd_month' out)" 146
eq "load" "$(jq '.machines[0].load' out)" 1

expect_ok "$INGOT" cost --tok-s a10=50 --bought 3500 --own-month 100 --requests 0.1 --tokens 10
out_has '\$3500 and \$100 a month have paid after 4\.2 months'

echo '{"rate": 4, "tokens_out_per_s": 90, "slo": {"within": false}}
{"rate": 3, "tokens_out_per_s": 70, "slo": {"within": true}}
{"rate": 2, "tokens_out_per_s": 60, "slo": {"within": true}}' >load.jsonl
expect_ok "$INGOT" cost --load t4=load.jsonl --json
eq "the best that is within" "$(jq '.machines[2].tok_s' out)" 70
echo '{"sweep": "rate", "highest": 2, "sure": true, "tok_s": 60}' >>load.jsonl
expect_ok "$INGOT" cost --load t4=load.jsonl --json
eq "what the sweep found" "$(jq '.machines[2].tok_s' out)" 60
head -1 load.jsonl >none.jsonl
expect_fail 1 'none.jsonl: no point' "$INGOT" cost --load t4=none.jsonl
expect_fail 2 'NAME=VALUE is needed' "$INGOT" cost --load none.jsonl
expect_fail 2 'no machine is named "x"' "$INGOT" cost --tok-s x=3
expect_fail 2 'NAME=N is needed' "$INGOT" cost --tok-s a10=0
expect_fail 1 'none.json' "$INGOT" cost --machines none.json
echo '[{"name":"a"}]' >bad.json
expect_fail 1 'bad.json: machine 0: usd_per_hour is missing' "$INGOT" cost --machines bad.json
exit 0
