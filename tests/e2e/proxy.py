#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""proxy.py LOG [USER:PASSWORD]   a small HTTP proxy: CONNECT and whole URLs, each a line in LOG; every name leads to
127.0.0.1. Prints its port."""
import base64
import socket
import socketserver
import sys
import threading

LOG, CRED = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None


def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    finally:
        try:
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().decode("latin-1").split()
        if len(line) != 3:
            return
        head = []
        while (h := self.rfile.readline().decode("latin-1")).strip():
            head.append(h)
        auth = [h.split(" ", 2)[2].strip() for h in head if h.lower().startswith("proxy-authorization:")]
        with open(LOG, "a") as f:
            f.write(" ".join(line[:2]) + "\n")
        if CRED and auth != [base64.b64encode(CRED.encode()).decode()]:
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                             b"Content-Length: 0\r\n\r\n")
            return
        url = line[1]
        host = url if line[0] == "CONNECT" else url.split("/")[2]
        s = socket.create_connection(("127.0.0.1", int(host.rsplit(":", 1)[1])))
        if line[0] == "CONNECT":
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = "/" + url.split("/", 3)[3]
            rest = "".join(h for h in head if not h.lower().startswith(("proxy-", "connection:")))
            s.sendall(f"{line[0]} {path} HTTP/1.1\r\nConnection: close\r\n{rest}\r\n".encode("latin-1"))
        threading.Thread(target=pump, args=(self.connection, s), daemon=True).start()
        pump(s, self.connection)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

    def handle_error(self, *a):
        pass


s = Server(("127.0.0.1", 0), Handler)
print(s.server_address[1], flush=True)
s.serve_forever()
