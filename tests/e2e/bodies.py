# SPDX-License-Identifier: Apache-2.0
"""bodies.py PORT KIND CLIENTS BYTES: that many clients post a body of so many bytes at one time; prints the statuses."""
import collections
import socket
import sys
import threading

port, kind, n_clients, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
head = b'{"prompt": "x", "max_tokens": 2, "other": ['
filled = {
    "text": (b'{"max_tokens": 2, "prompt": "', b"def add(a, b): ", b'"}'),
    "numbers": (head, b"1,", b"1]}"),
    "objects": (head, b"{},", b"{}]}"),
    "lists": (head, b"[[]],", b"[]]}"),
}
first, part, last = filled[kind]
body = first + part * ((size - len(first) - len(last)) // len(part)) + last
seen = collections.Counter()
lock = threading.Lock()


def ask():
    status = "closed"
    try:
        s = socket.create_connection(("127.0.0.1", port), timeout=60)
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        try:
            s.sendall((head % len(body)).encode() + body)
        except OSError:
            pass  # refused before all of it was sent: the answer is there
        answer = s.recv(4096)
        if answer:
            status = answer.split()[1].decode()
    except OSError:
        pass
    with lock:
        seen[status] += 1


threads = [threading.Thread(target=ask) for _ in range(n_clients)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(" ".join(sorted(seen)))
