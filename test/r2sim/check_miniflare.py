"""The same requests go to r2sim and to Cloudflare's own local R2, miniflare;
status, headers that matter and document must be the same. Where miniflare is
known to do otherwise than R2, the request is not in the list.

    .venv/bin/python test/r2sim/check_miniflare.py
"""

import hashlib
import os
import re
import subprocess
import unittest
from urllib.parse import quote, urlsplit

from sim import B, HERE, KEY, MIB, SECRET, Sim

PREFIX = "/cdn-cgi/local/r2/s3"
K = f"/{B}/k"
OLD = "Mon, 01 Jan 2001 00:00:00 GMT"
NEW = "Thu, 01 Jan 2099 00:00:00 GMT"
FIVE = b"5" * 5 * MIB
TAG = '"' + hashlib.md5(b"0123456789").hexdigest() + '"'
SAME = ("etag", "content-type", "content-range", "content-length",
        "accept-ranges", "cache-control", "content-encoding", "x-amz-meta-a",
        "x-amz-meta-b", "content-disposition", "content-language")


class Miniflare(Sim):
    def __init__(self):
        env = dict(os.environ, R2_ACCESS_KEY_ID=KEY,
                   R2_SECRET_ACCESS_KEY=SECRET)
        root = os.path.join(HERE, "../..")
        self.process = subprocess.Popen(
            [os.path.join(root, ".venv/bin/node"),
             os.path.join(root, "test/servers/miniflare/server.mjs"), B],
            stdout=subprocess.PIPE, text=True, env=env)
        for line in self.process.stdout:
            if line.startswith("endpoint "):
                break
        self.port = urlsplit(line.split()[1]).port
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.keep = True


def objects():
    """(method, path, body, headers, further arguments of Sim.raw)"""
    put = {"Content-Type": "x/y", "Cache-Control": "c", "x-amz-meta-a": "1",
           "Content-Disposition": "inline", "Content-Language": "de"}
    yield "PUT", K, b"0123456789", put
    yield "GET", K
    yield "HEAD", K
    for r in ("0-0", "3-", "-4", "-99", "5-99", "10-", "9-3", "-0", "x", "-",
              "1-2,4-5", "0-9"):
        yield "GET", K, b"", {"Range": f"bytes={r}"}
    yield "HEAD", K, b"", {"Range": "bytes=2-4"}
    for name, values in (("If-Match", (TAG, '"no"', "*", f'"a", {TAG}',
                                       "W/" + TAG)),
                         ("If-None-Match", (TAG, '"no"', "*", "W/" + TAG)),
                         ("If-Modified-Since", (OLD, NEW)),
                         ("If-Unmodified-Since", (OLD, NEW))):
        for v in values:
            yield "GET", K, b"", {name: v}
            yield "HEAD", K, b"", {name: v}
            if name != "If-None-Match" or v[0] != "W":
                yield "PUT", f"/{B}/c", b"x", {name: v}
    yield "GET", K, b"", {"If-Match": TAG, "If-Unmodified-Since": OLD}
    yield "GET", K, b"", {"If-None-Match": '"no"', "If-Modified-Since": NEW}
    yield "GET", K, b"", {"If-Match": '"no"', "Range": "bytes=1-2"}
    yield "GET", K, b"", {"If-None-Match": TAG, "Range": "bytes=1-2"}
    yield "GET", f"/{B}/none"
    yield "HEAD", f"/{B}/none"
    yield "GET", "/nobucket/k"
    yield "PUT", f"/{B}/e", b""
    yield "GET", f"/{B}/e"
    yield "GET", f"/{B}/e", b"", {"Range": "bytes=0-"}
    yield "POST", f"/{B}/posted", b"p"
    yield "PUT", f"/{B}/posted?uploadId=x", b"over"
    yield "GET", f"/{B}/posted"
    yield "DELETE", f"/{B}/posted"
    yield "DELETE", f"/{B}/posted?acl"


def refusals():
    for h, v in (("Content-MD5", "short"),
                 ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
                 ("x-amz-tagging", "a=b"), ("x-amz-acl", "odd"),
                 ("x-amz-acl", "private"), ("x-amz-grant-read", "x"),
                 ("x-amz-server-side-encryption", "aws:kms"),
                 ("x-amz-server-side-encryption", "AES256"),
                 ("x-amz-storage-class", "GLACIER"),
                 ("x-amz-storage-class", "STANDARD"),
                 ("x-amz-expected-bucket-owner", "1"), ("x-amz-odd", "1")):
        yield "PUT", f"/{B}/r", b"x", {h: v}
    yield "GET", K, b"", {"x-amz-expected-bucket-owner": "1"}
    yield "DELETE", f"/{B}/r", b"", {"x-amz-mfa": "1"}
    for q in ("tagging", "acl", "attributes", "torrent", "retention",
              "legal-hold"):
        yield "GET", f"{K}?{q}"
    yield "PUT", f"{K}?tagging", b"x"
    yield "PATCH", K
    yield "PATCH", f"/{B}"
    for q in ("versioning", "encryption", "tagging", "object-lock",
              "replication"):
        yield "GET", f"/{B}?{q}"
    yield "GET", f"/{B}?location&odd"
    yield "PUT", f"/{B}?odd"
    yield "DELETE", f"/{B}?odd"
    yield "POST", f"/{B}"


def copies():
    yield "PUT", f"/{B}/src", b"copied", {"x-amz-meta-a": "1",
                                          "Content-Type": "x/y"}
    src = {"x-amz-copy-source": f"/{B}/src"}
    tag = '"' + hashlib.md5(b"copied").hexdigest() + '"'
    for h in ({}, {"x-amz-metadata-directive": "COPY", "x-amz-meta-b": "2"},
              {"x-amz-metadata-directive": "REPLACE", "x-amz-meta-b": "2"},
              {"x-amz-metadata-directive": "MIX"}):
        yield "PUT", f"/{B}/dst", b"", {**src, **h}
        yield "GET", f"/{B}/dst"
    for name, values in (("match", (tag, '"no"')),
                         ("none-match", (tag, '"no"')),
                         ("modified-since", (OLD, NEW)),
                         ("unmodified-since", (OLD, NEW))):
        for v in values:
            yield "PUT", f"/{B}/dst", b"", {
                **src, f"x-amz-copy-source-if-{name}": v}
    for s in (f"{B}/none", "nobucket/k", "nothing", f"{B}/",
              f"{B}/%73rc"):
        yield "PUT", f"/{B}/dst", b"", {"x-amz-copy-source": s}
    yield "PUT", f"/{B}/src", b"", {**src,
                                    "x-amz-metadata-directive": "REPLACE"}


def listings():
    for name in ("a/1", "a/2", "b/1", "c", "d&<é", "k"):
        yield "PUT", f"/{B}/{quote(name)}", name.encode()
    for q in ("list-type=2", "list-type=2&delimiter=/", "delimiter=%2F",
              "", "prefix=a/", "list-type=2&prefix=a/&delimiter=/",
              "encoding-type=url&list-type=2", "encoding-type=x",
              "list-type=3", "list-type=2&max-keys=0", "max-keys=2",
              "max-keys=2&marker=a/2", "max-keys=1&delimiter=/",
              "list-type=2&max-keys=-1", "max-keys=", "max-keys=x",
              "list-type=2&max-keys=2.7&start-after=a/2",
              "list-type=2&max-keys=5000", "list-type=2&start-after=a/1",
              "marker=a/1", "list-type=2&marker=x", "odd=1",
              "continuation-token=x", "prefix=none&list-type=2",
              "list-type=2&prefix=d&encoding-type=url"):
        yield "GET", f"/{B}?" + q.replace("/", "%2F")
    yield "GET", f"/{B}?list-type=2&prefix=a/"  # to be encoded: 403
    for xml in (b"<Delete><Object><Key>c</Key></Object><Object><Key>zz</Key>"
                b"</Object><Quiet>true</Quiet></Delete>", b"<Delete></Delete>",
                b"", b"<Delete>", b"<x/>",
                b"<Delete><Quiet>yes</Quiet><Object><Key>k</Key></Object>"
                b"</Delete>", b"<Delete><Object><Key>d&amp;&lt;</Key>"
                b"</Object></Delete>"):
        yield "POST", f"/{B}?delete", xml
    xml = "".join(f"<Object><Key>k{i}</Key></Object>" for i in range(1001))
    yield "POST", f"/{B}?delete", f"<Delete>{xml}</Delete>".encode()
    yield "GET", f"/{B}?list-type=2"


def signatures():
    q = f"/{B}?list-type=2"
    yield "GET", q, b"", {}, {"sign": False}
    yield "GET", q, b"", {}, {"secret": "wrong!"}
    yield "GET", q, b"", {}, {"key": KEY[::-1]}
    yield "GET", q, b"", {}, {"skew": 1000}
    yield "GET", q, b"", {}, {"skew": -1000}
    yield "GET", f"/{B}/none", b"", {}, {"skew": 800}
    yield "HEAD", K, b"", {}, {"secret": "wrong!"}
    sha = hashlib.sha256(b"?").hexdigest()
    yield "PUT", f"/{B}/s", b"x", {}, {"payload": sha}
    yield "PUT", f"/{B}/s", b"x", {}, {"payload": "UNSIGNED-PAYLOAD"}


class Alike(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.servers = [Sim("--path-prefix", PREFIX), Miniflare()]

    @classmethod
    def tearDownClass(cls):
        for s in cls.servers:
            s.stop()

    @staticmethod
    def plain(s, text):
        text = text.decode("utf-8", "replace")
        text = text.replace(str(s.port), "PORT").replace("&#34;", "&quot;")
        text = text.replace("&#38;", "&amp;").replace("&#60;", "&lt;")
        text = text.replace("&#39;", "&apos;").replace("&#62;", "&gt;")
        text = re.sub(r"<(LastModified|NextContinuationToken|UploadId|"
                      r"Location|StringToSign|StringToSignBytes|"
                      r"CanonicalRequest|CanonicalRequestBytes|"
                      r"SignatureProvided)>[^<]*<", r"<\1>...<", text)
        return re.sub(r"&quot;([0-9a-f]{32}(-\d+)?)&quot;", r'"\1"', text)

    def ask(self, s, method, path, body=b"", headers={}, kw={}):
        status, got, text = s.raw(method, PREFIX + path, body, headers, **kw)
        same = {h: got[h] for h in SAME if h in got}
        if method == "HEAD" and status >= 400 or status in (204, 304) or (
                b"<" in text):
            same.pop("content-length", None)
            same.pop("content-type", None)
        if not text and same.get("content-length", "0") == "0":
            same.pop("content-length", None)
        return status, same, self.plain(s, text)

    def both(self, *request):
        sim, real = (self.ask(s, *request) for s in self.servers)
        self.assertEqual(sim, real, f"(r2sim, miniflare) on {request}")

    def all(self, requests):
        for request in requests:
            with self.subTest(request=str(request)[:100]):
                self.both(*request)

    def test_1_objects(self):
        self.all(objects())

    def test_2_refusals(self):
        self.all(refusals())

    def test_3_copies(self):
        self.all(copies())

    def test_4_signatures(self):
        self.all(signatures())

    def test_5_listings(self):
        for s in self.servers:
            for key in ("c", "e", "r", "s", "src", "dst"):
                s.raw("DELETE", f"{PREFIX}/{B}/{key}")
        self.all(listings())

    def upload(self, s, sizes, order=None, change=lambda parts: parts,
               end="COMPLETE"):
        """What the last of the requests of an upload answers."""
        text = s.raw("POST", f"{PREFIX}{K}?uploads")[2].decode()
        id = quote(re.search("<UploadId>(.*?)<", text)[1], safe="")
        parts = []
        for n, size in enumerate(sizes, 1):
            r = s.raw("PUT", f"{PREFIX}{K}?partNumber={n}&uploadId={id}",
                      FIVE[:size] + bytes(max(0, size - len(FIVE))))
            parts.append((n, r[1]["etag"]))
        parts = change(parts)
        xml = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag>"
                      "</Part>" for n, tag in parts)
        xml = f"<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>"
        if end == "ABORT":
            return [self.ask(s, m, f"{K}?uploadId={id}", b)[:1] + (m,)
                    for m, b in (("DELETE", b""), ("DELETE", b""),
                                 ("POST", xml.encode()))]
        first = self.ask(s, "POST", f"{K}?uploadId={id}", xml.encode())
        return first, self.ask(s, "GET", K, b"", {"Range": "bytes=0-3"})

    def test_6_uploads(self):
        for sizes, change in (
                ((5 * MIB, 5 * MIB, 7), list), ((3,), list),
                ((3, 5 * MIB), list), ((5 * MIB, 7), list),
                ((5 * MIB,), lambda p: p * 2),
                ((5 * MIB,), lambda p: [(2, p[0][1])]),
                ((5 * MIB,), lambda p: [(1, '"e"')]),
                ((5 * MIB,), lambda p: [(10001, '"e"')]),
                ((5 * MIB,), lambda p: [("x", '"e"')]),
                ((5 * MIB,), lambda p: [])):
            with self.subTest(sizes=sizes):
                sim, real = (self.upload(s, sizes, change=change)
                             for s in self.servers)
                for got in (sim, real):  # parts have other ETags there
                    got[1][1].pop("etag", None)
                self.assertEqual(
                    (sim[0][0], re.sub('"[0-9a-f-]*"', "TAG", sim[0][2]),
                     sim[1]),
                    (real[0][0], re.sub('"[0-9a-f-]*"', "TAG", real[0][2]),
                     real[1]))
        sim, real = (self.upload(s, (3,), end="ABORT") for s in self.servers)
        self.assertEqual(sim, real)
        for n in ("0", "10001", "", "abc", "1.0"):
            self.both("PUT", f"{K}?partNumber={n}&uploadId=x", b"x")
        self.both("DELETE", f"{K}?uploadId=x")
        self.both("PUT", f"{K}?partNumber=1&uploadId=x", b"x",
                  {"x-amz-server-side-encryption": "AES256"})


if __name__ == "__main__":
    unittest.main()
