#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hub_server.py FOLDER [TOKEN]   a stand-in for the Hugging Face hub

FOLDER/OWNER/REPO/... are repositories. Files over 1000 bytes count as LFS: they have a sha256 in the list and are
answered by a redirect to another port of this program, which refuses requests that carry a token. With TOKEN the hub
wants it. FOLDER/OWNER/REPO.json, where it is there, is the answer of the API instead. Prints the port.
"""
import hashlib
import http.server
import json
import os
import sys
import threading
import urllib.parse

FOLDER, TOKEN = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Base(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def plain(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), str(v))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def note(self, who):
        with open(os.path.join(FOLDER, "log"), "a") as f:
            f.write(f"{who} {self.path} {self.headers.get('Range')} {self.headers.get('Authorization')}\n")

    def ranged(self, data, etag):
        rng = self.headers.get("Range")
        if not rng:
            return self.plain(200, data, ETag=etag)
        a, _, b = rng.removeprefix("bytes=").partition("-")
        a, b = int(a), min(int(b), len(data) - 1)
        self.plain(206, data[a:b + 1], ETag=etag, Content_Range=f"bytes {a}-{b}/{len(data)}")


class Cdn(Base):
    def do_GET(self):
        self.note("cdn")
        if self.headers.get("Authorization"):
            return self.plain(400, b"only one auth mechanism allowed")
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.ranged(open(FOLDER + path, "rb").read(), '"cdn"')


class Hub(Base):
    def do_GET(self):
        self.note("hub")
        parts = urllib.parse.urlsplit(self.path).path.strip("/").split("/")
        if TOKEN and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.plain(401, b"", X_Error_Message="Invalid credentials", X_Error_Code="RepoNotFound")
        if parts[:2] == ["api", "models"]:
            return self.api(f"{parts[2]}/{parts[3]}", urllib.parse.unquote(parts[5]))
        if len(parts) > 4 and parts[2] == "resolve":
            return self.resolve("/".join(parts[:2]), urllib.parse.unquote("/".join(parts[4:])))
        self.plain(404)

    def api(self, repo, rev):
        top = os.path.join(FOLDER, repo)
        if os.path.exists(top + ".json"):
            return self.plain(200, open(top + ".json", "rb").read())
        if not os.path.isdir(top):
            return self.plain(404, b"", X_Error_Message="Repository not found")
        if rev not in ("main", "refs/pr/1", COMMIT):
            return self.plain(404, b"", X_Error_Message=f"Invalid rev id: {rev}")
        out = []
        for folder, _, names in os.walk(top):
            for n in names:
                full = os.path.join(folder, n)
                data = open(full, "rb").read()
                one = {"rfilename": os.path.relpath(full, top), "size": len(data),
                       "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
                if len(data) > 1000:
                    one["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
                out.append(one)
        self.plain(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": out}).encode())

    def resolve(self, repo, name):
        full = os.path.join(FOLDER, repo, name)
        if not os.path.isfile(full):
            return self.plain(404, b"", X_Error_Message="Entry not found")
        data = open(full, "rb").read()
        if len(data) <= 1000:
            return self.ranged(data, '"%s"' % hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
        self.plain(302, b"", Location=f"http://127.0.0.1:{cdn.server_address[1]}/{repo}/{urllib.parse.quote(name)}",
                   X_Linked_Etag='"%s"' % hashlib.sha256(data).hexdigest(), X_Linked_Size=len(data))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *a):
        pass


cdn = Server(("127.0.0.1", 0), Cdn)
hub = Server(("127.0.0.1", 0), Hub)
threading.Thread(target=cdn.serve_forever, daemon=True).start()
print(hub.server_address[1], flush=True)
hub.serve_forever()
