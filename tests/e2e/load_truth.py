#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load_truth.py SERVER.jsonl POINT.json LOG.jsonl [SHARE]   what ingot load says beside what the server wrote when

SERVER.jsonl is known_server.py's log, POINT.json what `ingot load --json` printed, LOG.jsonl its --log. For every request
the truth is when the server wrote, less when the request was meant to start. Quantiles have to agree to within SHARE (0.02),
and as much more as the generator itself says that it came late at its p99, at most a millisecond: where it was later than
that and quantiles disagree, the machine was busy with other things, which proves nothing (status 3). Lengths of answers
have to agree to the token.
"""
import json
import math
import sys


MOST_SLACK_MS = 1


def lines(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def quantile(v, q):
    v = sorted(v)
    return v[max(math.ceil(q * len(v) - 1e-9), 1) - 1]


def main():
    server, log = {s["id"]: s for s in lines(sys.argv[1])}, lines(sys.argv[3])
    point = lines(sys.argv[2])[-1]
    share = float(sys.argv[4]) if len(sys.argv) > 4 else 0.02
    lag = point["generator"]["lag_ms"]["p99"]
    slack = min(lag, MOST_SLACK_MS)
    kept = [o for o in log if "warmup" not in o]
    pairs = [(o["at"], server[o["request_id"]]["moments"], server[o["request_id"]]["end"]) for o in kept]
    truth = {
        "ttft_ms": [(m[0] - at) * 1e3 for at, m, _ in pairs],
        "itl_ms": [(b - a) * 1e3 for _, m, _ in pairs for a, b in zip(m, m[1:])],
        "tpot_ms": [(m[-1] - m[0]) * 1e3 / (len(m) - 1) for _, m, _ in pairs],
        "e2e_ms": [(end - at) * 1e3 for at, _, end in pairs],
    }
    bad = off = 0
    for name, v in truth.items():
        for q, key in ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"), (0, "mean")):
            want, got = quantile(v, q) if q else sum(v) / len(v), point[name][key]
            wrong = abs(got - want) > share * want + slack
            print("%-8s %-5s written %9.3f ms, measured %9.3f ms, %+.2f%%%s"
                  % (name, key, want, got, 100 * (got / want - 1), "  WRONG" if wrong else ""))
            off += wrong
        bad += len(v) != point[name]["n"]
    for key in ("ttft_ms", "e2e_ms", "tpot_ms"):  # the histograms beside the requests one by one
        for q, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
            bad += abs(point[key][name] / quantile([o[key] for o in kept], q) - 1) > 0.003
    bad += point["tokens_out"] != sum(len(m) for _, m, _ in pairs)
    busy = off > 0 and lag > MOST_SLACK_MS
    print("the generator was late by %.3f ms at its p99; %d times wrong, %d other things%s"
          % (lag, off, bad, ": the machine is too busy to tell" if busy else ""))
    sys.exit(1 if bad else 3 if busy else 1 if off else 0)


main()
