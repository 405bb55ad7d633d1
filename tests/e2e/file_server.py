#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""file_server.py FOLDER [CERT KEY]   an HTTP server for tests of the client, with every fault a server can have

Prints its port, then serves files of FOLDER with ranges and ETags until it is killed. What it does wrong stands at
the beginning of the path: /MODE,MODE.../FILE. Requests are logged as lines in FOLDER/log.

  noranges     200 to every request              drop=N       close after N bytes of a body
  long, short  Content-Length says 10 more/less  changing     other bytes and ETag each time a range is asked for
  flip=N       another file from request N on    etag=none, etag=weak
  status=N[:K] that status for the first K requests (all), with Retry-After: 1 if the mode retry is there
  slow=N       N bytes a second                  hang         says nothing
  head=N       a head of N bytes                 endless      a body without end, no length
  chunked      no length                         redirect=HOST:PORT  302 to there; loop: 302 to itself
  gzip         Content-Encoding: gzip            html         as text/html
  badrange     another range than was asked for  linked       X-Linked-Etag with the sha256, and a redirect
  expire=N     (after linked) a link that is good for N requests
With CERT KEY after FOLDER it speaks TLS.
"""
import email.utils
import hashlib
import http.server
import os
import socket
import sys
import threading
import time
import urllib.parse

FOLDER = sys.argv[1]
counts, lock = {}, threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def note(self):
        with lock, open(os.path.join(FOLDER, "log"), "a") as f:
            f.write(f"{self.command} {self.path} range={self.headers.get('Range')} "
                    f"auth={self.headers.get('Authorization')} secret={self.headers.get('X-Secret')} "
                    f"if-range={self.headers.get('If-Range')} host={self.headers.get('Host')}\n")

    def do_GET(self):
        self.note()
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        parts = path.lstrip("/").split("/")
        modes = {}
        while len(parts) > 1 and parts[0].startswith("-"):
            for m in parts.pop(0)[1:].split(","):
                k, _, v = m.partition("=")
                modes[k] = v
        with lock:
            n = counts[path] = counts.get(path, 0) + 1
        try:
            self.answer(modes, "/".join(parts), n, path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def plain(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, modes, name, n, path):
        if "hang" in modes:
            time.sleep(60)
            self.close_connection = True
            return
        if "status" in modes:
            code, _, k = modes["status"].partition(":")
            if not k or n <= int(k):
                extra = {"Retry_After": 1} if "retry" in modes else {}
                return self.plain(int(code), b"words of a refusal", **extra)
        if "loop" in modes:
            return self.plain(302, b"", Location=self.path)
        if "redirect" in modes:
            return self.plain(302, b"elsewhere", Location=f"http://{modes['redirect']}/{name}")
        if "relative" in modes:
            return self.plain(307, b"", Location=f"../{name}")
        if "scheme" in modes:
            return self.plain(302, b"", Location=modes["scheme"] + ":///etc/passwd")
        if "expire" in modes and n > int(modes["expire"]):
            with lock:
                counts[path] = 0
            return self.plain(403, b"run out")
        full = os.path.join(FOLDER, "flipped" if "flip" in modes and n >= int(modes["flip"]) else name)
        if not os.path.isfile(full):
            return self.plain(404, b"no such file", X_Error_Message="Entry not found")
        data = open(full, "rb").read()
        if "linked" in modes:
            sha = hashlib.sha256(data).hexdigest()
            if "lie" in modes:
                sha = "0" * 64
            to = f"/-expire={modes.get('good', '1000000')}/{name}"
            return self.plain(302, b"", Location=to, X_Linked_Etag=f'"{sha}"', X_Linked_Size=len(data))
        self.send_file(modes, data, full, n)

    def send_file(self, modes, data, full, n):
        rng = self.headers.get("Range")
        etag = '"' + hashlib.md5(data).hexdigest() + '"'
        if "changing" in modes:
            data = bytes(b ^ (n & 255) for b in data[:4096]) + data[4096:]
            etag = f'"v{n}"'
        if modes.get("etag") == "weak":
            etag = "W/" + etag
        mtime = os.stat(full).st_mtime
        first, last, status = 0, len(data) - 1, 200
        cond = self.headers.get("If-Range")
        if rng and "noranges" not in modes and (not cond or cond in (etag, email.utils.formatdate(mtime, usegmt=True))):
            a, _, b = rng.removeprefix("bytes=").partition("-")
            first, last, status = int(a), min(int(b or last), last), 206
            if first > last:
                return self.plain(416, b"", Content_Range=f"bytes */{len(data)}")
            if "badrange" in modes:
                first += 1
        body = data[first:last + 1]
        self.send_response(status)
        if modes.get("etag") != "none":
            self.send_header("ETag", etag)
        if "nodate" not in modes:
            self.send_header("Last-Modified", email.utils.formatdate(mtime, usegmt=True))
        if status == 206:
            total = len(data) + (5 if "total" in modes else 0)
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        if "gzip" in modes:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", "text/html" if "html" in modes else "application/octet-stream")
        if "head" in modes:
            for i in range(int(modes["head"]) // 1000):
                self.send_header(f"X-Filler-{i}", "x" * 980)
        length = len(body) + (10 if "long" in modes else -10 if "short" in modes else 0)
        if "endless" in modes or "chunked" in modes:
            self.send_header("Transfer-Encoding", "chunked")
        elif "nolength" in modes:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.send_body(modes, body)

    def send_body(self, modes, body):
        if "endless" in modes:
            while True:
                self.wfile.write(b"10000\r\n" + b"e" * 65536 + b"\r\n")
        if "chunked" in modes:
            for i in range(0, len(body), 5000):
                part = body[i:i + 5000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            if "cut" not in modes:
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.drop()
            return
        if "slow" in modes:
            step = max(1, int(modes["slow"]) // 20)
            for i in range(0, len(body), step):
                self.wfile.write(body[i:i + step])
                self.wfile.flush()
                time.sleep(0.05)
            return
        if "drop" in modes and len(body) > int(modes["drop"]):
            self.wfile.write(body[:int(modes["drop"])])
            return self.drop()
        self.wfile.write(body)
        if "long" in modes or "short" in modes:
            self.close_connection = True

    def drop(self):
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *a):
        pass


def main():
    s = Server(("127.0.0.1", 0), Handler)
    if len(sys.argv) > 2:
        import ssl
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(sys.argv[2], sys.argv[3])
        s.socket = ctx.wrap_socket(s.socket, server_side=True)
    print(s.server_address[1], flush=True)
    s.serve_forever()


if __name__ == "__main__":
    main()
