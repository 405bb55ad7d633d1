#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""known_server.py [--port N] [--ttft MS,SIGMA] [--itl MS,SIGMA] [--seed N] [--stall AT,SECONDS] [--tls CERT,KEY] [--log FILE]

A server with delays that are known: it answers chat, completions and the short routes with streams whose first token comes
after a log-normal time and whose further tokens come after log-normal gaps, and writes into the log, for each answer, the
request's id and the moments (Unix time) at which it wrote, so that what a client measures can be held against what
happened. --stall: so many seconds after the first request nothing is written for so many seconds.
"""
import argparse
import asyncio
import json
import math
import random
import signal
import ssl
import sys
import time


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--ttft", default="50,0.5")
    p.add_argument("--itl", default="10,0.5")
    p.add_argument("--stall", default="")
    p.add_argument("--tls", default="")
    p.add_argument("--log", default="")
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


opt = options()
rng = random.Random(opt.seed)
log = open(opt.log, "w", buffering=1 << 20) if opt.log else None
stall_at, stall_s = (float(v) for v in (opt.stall or "0,0").split(","))
begin = None


def draw(spec):
    median, sigma = (float(v) for v in spec.split(","))
    return median / 1000 * math.exp(sigma * rng.gauss(0, 1))


async def until(t):
    """Sleep until a moment, and not a millisecond longer: the loop's own timers are coarse."""
    while True:
        left = t - time.monotonic()
        if left <= 0:
            return
        await asyncio.sleep(left - 0.0005 if left > 0.002 else 0)


async def gate():
    """During the stall nobody gets a word."""
    if stall_s and begin + stall_at <= time.monotonic() < begin + stall_at + stall_s:
        await until(begin + stall_at + stall_s)


def event(route, text, usage=None, last=False):
    if route == "/v1/chat/completions":
        body = {"choices": [] if last else [{"index": 0, "delta": {"content": text}}]}
    elif route == "/v1/completions":
        body = {"choices": [] if last else [{"index": 0, "text": text}]}
    elif last:
        body = {"output": "all", "text": "all"}
    else:
        body = {"text": text}
    if usage:
        body["usage"] = usage
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(b):
    return b"%x\r\n%s\r\n" % (len(b), b)


async def read_request(r):
    head = (await r.readuntil(b"\r\n\r\n")).decode()
    n = [int(l.split(":")[1]) for l in head.split("\r\n") if l.lower().startswith("content-length")]
    name = [l.split(":")[1].strip() for l in head.split("\r\n") if l.lower().startswith("x-request-id")]
    return name[0] if name else "", head.split(" ")[1], await r.readexactly(n[0]) if n else b""


async def stream(w, route, q, t, name):
    n = int(q.get("max_tokens", 16))
    n_prompt = len(json.dumps(q).split())
    moments, meant = [], [draw(opt.ttft)] + [draw(opt.itl) for _ in range(n - 1)]
    w.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    at = t
    for i in range(n):
        at += meant[i]
        await until(at)
        await gate()
        w.write(chunk(event(route, "w%d " % i)))
        moments.append(time.time())
    w.write(chunk(event(route, "", {"prompt_tokens": n_prompt, "completion_tokens": n}, True)) +
            chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    if log:
        log.write(json.dumps({"id": name, "moments": moments, "end": time.time()}) + "\n")


async def whole(w, route, q):
    n = int(q.get("max_tokens", 16))
    if not route.startswith("/v1/models"):
        await asyncio.sleep(0.001)
    body = {"data": [{"id": "known"}], "choices": [{"text": "w", "message": {"content": "w"}}], "response": "w",
            "usage": {"prompt_tokens": len(json.dumps(q).split()), "completion_tokens": n}}
    b = json.dumps(body).encode()
    w.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(b), b))


async def client(r, w):
    global begin
    try:
        while True:
            name, route, body = await read_request(r)
            t = time.monotonic()
            q = json.loads(body) if body else {}
            if q.get("stream"):
                begin = begin or t
                await gate()
                await stream(w, route, q, t, name)
            else:
                await whole(w, route, q)
            await w.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        w.close()


async def main():
    tls = None
    if opt.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*opt.tls.split(","))
    s = await asyncio.start_server(client, "127.0.0.1", opt.port, ssl=tls, backlog=4096)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: (log and log.close(), sys.exit(0)))
    print(s.sockets[0].getsockname()[1], flush=True)
    await s.serve_forever()


try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(0)
