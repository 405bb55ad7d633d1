#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""s3_server.py FOLDER [MODE...]   a stand-in for an S3 store, path style

Checks the signature of every request by its own reading of Signature Version 4 (keys AKIDEXAMPLE / s3cr3t/key+,
region eu-test-1), the SHA-256 of every body, and the checksums that come along. Objects are FOLDER/objects/BUCKET/KEY
with KEY.meta beside, parts FOLDER/uploads/ID/N. Requests are lines of FOLDER/log. Prints the port.

Modes: token=T (a session token is wanted), anonymous (GET without a signature is fine), pages=N (N keys or parts a
page), fail=N (every N-th PUT is answered 503), drop=N (every N-th body of a GET is cut in half), late (completing is
answered 200 with an error in it, once), lost (completing works, and the connection breaks), nosums (checksums are not
known here), slow=S (each PUT takes S seconds)
"""
import base64
import datetime
import hashlib
import hmac
import http.server
import os
import socket
import sys
import threading
import time
import urllib.parse
import uuid
from xml.sax.saxutils import escape

FOLDER = sys.argv[1]
MODES = dict((m.partition("=")[0], m.partition("=")[2]) for m in sys.argv[2:])
KEY, SECRET, REGION = "AKIDEXAMPLE", "s3cr3t/key+", "eu-test-1"
lock = threading.Lock()
counts = {"PUT": 0, "GET": 0, "complete": 0}


def uri(s, keep=""):
    return "".join(chr(b) if chr(b).isascii() and (chr(b).isalnum() or chr(b) in "-._~" + keep) else f"%{b:02X}"
                   for b in s.encode("utf-8", "surrogateescape"))


class S3(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def reply(self, status, body=b"", **headers):
        if isinstance(body, str):
            body = ('<?xml version="1.0" encoding="UTF-8"?>\n' + body).encode()
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), str(v))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, message=""):
        self.reply(status, f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>")

    def signature_error(self, payload):
        """None, or what is wrong"""
        auth = self.headers.get("Authorization", "")
        if not auth:
            return None if "anonymous" in MODES and self.command == "GET" else "no signature"
        if not auth.startswith("AWS4-HMAC-SHA256 "):
            return "another algorithm"
        fields = dict(f.strip().split("=", 1) for f in auth[len("AWS4-HMAC-SHA256 "):].split(","))
        key, day, region, service, end = fields["Credential"].split("/")
        stamp = self.headers.get("x-amz-date", "")
        if (key, region, service, end) != (KEY, REGION, "s3", "aws4_request") or not stamp.startswith(day):
            return "the credential " + fields["Credential"]
        then = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
        if abs((datetime.datetime.utcnow() - then).total_seconds()) > 900:
            return "the time " + stamp
        if MODES.get("token", "") != self.headers.get("x-amz-security-token", ""):
            return "the session token"
        names = fields["SignedHeaders"].split(";")
        if names != sorted(names):
            return "the order of headers"
        have = {k.lower() for k in self.headers}
        if "host" not in names or any(k.startswith("x-amz-") and k not in names for k in have):
            return "a header that is not signed"
        if self.headers.get("x-amz-content-sha256") != hashlib.sha256(payload).hexdigest():
            return "the digest of the body"
        url = urllib.parse.urlsplit(self.path)
        query = sorted((uri(k), uri(v)) for k, v in urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        canon = "\n".join([self.command, uri(urllib.parse.unquote(url.path, errors="surrogateescape"), "/"),
                           "&".join(f"{k}={v}" for k, v in query),
                           *(f"{n}:{' '.join(self.headers[n].split())}" for n in names), "",
                           ";".join(names), self.headers["x-amz-content-sha256"]])
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, f"{day}/{region}/s3/aws4_request",
                          hashlib.sha256(canon.encode("utf-8", "surrogateescape")).hexdigest()])
        k = ("AWS4" + SECRET).encode()
        for part in (day, region, "s3", "aws4_request"):
            k = hmac.new(k, part.encode(), hashlib.sha256).digest()
        want = hmac.new(k, text.encode(), hashlib.sha256).hexdigest()
        return None if hmac.compare_digest(want, fields["Signature"]) else "the signature"

    def any(self):
        n = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(n)
        if len(body) < n:
            self.close_connection = True
            return
        url = urllib.parse.urlsplit(self.path)
        q = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(url.path, errors="surrogateescape").lstrip("/").partition("/")
        with lock, open(os.path.join(FOLDER, "log"), "a") as f:
            f.write(f"{self.command} {self.path} {n} range={self.headers.get('Range')}\n")
        wrong = self.signature_error(body)
        if wrong:
            return self.error(403, "SignatureDoesNotMatch", f"wrong: {wrong}")
        if bucket == "elsewhere":
            return self.reply(301, "<Error><Code>PermanentRedirect</Code></Error>", x_amz_bucket_region="us-west-9")
        if not os.path.isdir(os.path.join(FOLDER, "objects", bucket)):
            return self.error(404, "NoSuchBucket", "no such bucket")
        try:
            getattr(self, "s3_" + self.command.lower())(bucket, key, q, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = any

    def path_of(self, bucket, key):
        return os.path.join(FOLDER, "objects", bucket, key)

    def every(self, what, mode):
        with lock:
            counts[what] += 1
            return mode in MODES and counts[what] % int(MODES[mode]) == 0

    def s3_head(self, bucket, key, q, body):
        self.send_object(bucket, key)

    def s3_get(self, bucket, key, q, body):
        if "uploadId" in q:
            return self.list_parts(key, q)
        if not key:
            return self.list_objects(bucket, q)
        self.send_object(bucket, key)

    def send_object(self, bucket, key):
        p = self.path_of(bucket, key)
        if not os.path.isfile(p):
            return self.error(404, "NoSuchKey", "no such key")
        data = open(p, "rb").read()
        h = {"ETag": '"' + hashlib.md5(data).hexdigest() + '"'}
        if os.path.exists(p + ".meta"):
            h["x_amz_meta_sha256"] = open(p + ".meta").read()
        if self.command == "HEAD":
            return self.reply(200, b"", Content_Length=len(data), **h)
        status, rng = 200, self.headers.get("Range")
        if rng and data:
            a, _, b = rng.removeprefix("bytes=").partition("-")
            a, b = int(a), min(int(b), len(data) - 1)
            h["Content_Range"], status = f"bytes {a}-{b}/{len(data)}", 206
            data = data[a:b + 1]
        if self.every("GET", "drop"):
            self.reply(status, data[:len(data) // 2], Content_Length=len(data), **h)
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.reply(status, data, **h)

    def list_objects(self, bucket, q):
        top = os.path.join(FOLDER, "objects", bucket)
        keys = sorted(os.path.relpath(os.path.join(d, n), top) for d, _, ns in os.walk(top) for n in ns
                      if not n.endswith(".meta"))
        keys = [k for k in keys if k.startswith(q.get("prefix", "")) and k > q.get("continuation-token", "")]
        n = int(MODES.get("pages", 1000))
        out = "".join(f"<Contents><Key>{uri(k, '/').replace('%20', '+')}</Key><Size>{os.path.getsize(os.path.join(top, k))}"
                      f"</Size><Owner><ID>x</ID></Owner></Contents>" for k in keys[:n])
        more = len(keys) > n
        self.reply(200, '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                   f"<Name>{bucket}</Name><Prefix/><IsTruncated>{str(more).lower()}</IsTruncated>{out}"
                   + (f"<NextContinuationToken>{escape(keys[n - 1])}</NextContinuationToken>" if more else "")
                   + "</ListBucketResult>")

    def list_parts(self, key, q):
        d = os.path.join(FOLDER, "uploads", q["uploadId"])
        if not os.path.isdir(d):
            return self.error(404, "NoSuchUpload", "no such upload")
        have = sorted(int(n) for n in os.listdir(d) if n.isdigit() and int(n) > int(q.get("part-number-marker", 0)))
        n = int(MODES.get("pages", 1000))
        out = ""
        for i in have[:n]:
            data = open(os.path.join(d, str(i)), "rb").read()
            out += (f"<Part><PartNumber>{i}</PartNumber><ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag>"
                    f"<Size>{len(data)}</Size>")
            if "nosums" not in MODES:
                out += f"<ChecksumSHA256>{base64.b64encode(hashlib.sha256(data).digest()).decode()}</ChecksumSHA256>"
            out += "</Part>"
        self.reply(200, f"<ListPartsResult><IsTruncated>{str(len(have) > n).lower()}</IsTruncated>"
                   + (f"<NextPartNumberMarker>{have[n - 1]}</NextPartNumberMarker>" if len(have) > n else "")
                   + out + "</ListPartsResult>")

    def s3_put(self, bucket, key, q, body):
        time.sleep(float(MODES.get("slow", 0)))
        if self.every("PUT", "fail"):
            return self.error(503, "SlowDown", "Please reduce your request rate.")
        want = self.headers.get("x-amz-checksum-sha256")
        if not want or want != base64.b64encode(hashlib.sha256(body).digest()).decode():
            return self.error(400, "BadDigest", "checksum")
        tag = '"' + hashlib.md5(body).hexdigest() + '"'
        if "partNumber" in q:
            d = os.path.join(FOLDER, "uploads", q["uploadId"])
            if not os.path.isdir(d):
                return self.error(404, "NoSuchUpload", "no such upload")
            open(os.path.join(d, q["partNumber"]), "wb").write(body)
            return self.reply(200, b"", ETag=tag)
        self.put_object(bucket, key, body, self.headers.get("x-amz-meta-sha256"))
        self.reply(200, b"", ETag=tag)

    def put_object(self, bucket, key, data, sha):
        p = self.path_of(bucket, key)
        os.makedirs(os.path.dirname(p), exist_ok=True)
        open(p, "wb").write(data)
        if sha:
            open(p + ".meta", "w").write(sha)

    def s3_post(self, bucket, key, q, body):
        if "uploads" in q:
            up = uuid.uuid4().hex + "/+="
            d = os.path.join(FOLDER, "uploads", up)
            os.makedirs(d)
            open(os.path.join(d, "meta"), "w").write(self.headers.get("x-amz-meta-sha256", ""))
            return self.reply(200, f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket>"
                              f"<UploadId>{up}</UploadId></InitiateMultipartUploadResult>")
        d = os.path.join(FOLDER, "uploads", q.get("uploadId", "none"))
        if not os.path.isdir(d):
            return self.error(404, "NoSuchUpload", "no such upload")
        with lock:
            counts["complete"] += 1
        if "late" in MODES and counts["complete"] == 1:
            return self.reply(200, "<Error><Code>InternalError</Code><Message>try again</Message></Error>")
        import xml.etree.ElementTree as ET
        ns = {"s": "http://s3.amazonaws.com/doc/2006-03-01/"}
        data = b""
        for i, part in enumerate(ET.fromstring(body).findall("s:Part", ns)):
            n = part.find("s:PartNumber", ns).text
            one = open(os.path.join(d, n), "rb").read()
            if int(n) != i + 1 or part.find("s:ETag", ns).text != '"' + hashlib.md5(one).hexdigest() + '"':
                return self.error(400, "InvalidPart", f"part {n}")
            data += one
        self.put_object(bucket, key, data, open(os.path.join(d, "meta")).read())
        os.rename(d, d + "done")
        if "lost" in MODES:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.reply(200, "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")

    def s3_delete(self, bucket, key, q, body):
        d = os.path.join(FOLDER, "uploads", q["uploadId"])
        if not os.path.isdir(d):
            return self.error(404, "NoSuchUpload", "no such upload")
        os.rename(d, d + "aborted")
        self.reply(204)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *a):
        pass


s = Server(("127.0.0.1", 0), S3)
print(s.server_address[1], flush=True)
s.serve_forever()
