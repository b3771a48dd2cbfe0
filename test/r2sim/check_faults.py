"""Faults, limits, counters, the log, the clock and the shaping of time."""

import http.client
import os
import socket
import threading
import time
import unittest
from urllib.parse import quote

from sim import B, MIB, Case, Sim


class Faults(Case):
    def setUp(self):
        super().setUp()
        self.body = os.urandom(200000)
        self.put("k", self.body)
        self.path = f"/{B}/k"

    def fault(self, rules):
        self.sim.faults(rules)

    def test_rules_that_are_none(self):
        for rules in ("op=GET", "action=nothing", "op=GET action=status:x",
                      "bogus", "action=delay:9-1", "action=cut:1 skip=x"):
            answer = self.sim.control("faults",
                                      f"# fine\n\n{rules}\n".encode())
            self.assertEqual(answer, {"bad_line": 3}, rules)

    def test_statuses_skip_count_and_keys(self):
        self.fault("op=GET key=k skip=1 count=2 action=status:503 "
                   "retry-after=7\nop=HeadObject key=o* "
                   "action=status:400 code=ExpiredToken")
        got = [self.sim.raw("GET", self.path) for _ in range(4)]
        self.assertEqual([g[0] for g in got], [200, 503, 503, 200])
        self.assertEqual(got[1][1]["retry-after"], "7")
        self.assertIn(b"ServiceUnavailable", got[1][2])
        self.assertEqual(self.sim.raw("HEAD", f"/{B}/other")[0], 400)
        self.assertEqual(self.sim.raw("HEAD", self.path)[0], 200)
        self.assertEqual([f["hits"] for f in self.sim.stats()["faults"]],
                         [2, 1])

    def test_every_operation_has_a_name(self):
        id = self.s3.create_multipart_upload(Bucket=B, Key="k")["UploadId"]
        up = f"{self.path}?uploadId={quote(id, safe='')}"
        source = {"x-amz-copy-source": f"{B}/k"}
        asked = [
            ("GET", "GET", self.path, {}), ("HEAD", "HEAD", self.path, {}),
            ("LIST", "GET", f"/{B}?list-type=2", {}),
            ("LIST", "GET", f"/{B}", {}), ("PUT", "PUT", self.path, {}),
            ("COPY", "PUT", self.path, source),
            ("DELETE", "DELETE", self.path, {}),
            ("DELETES", "POST", f"/{B}?delete", {}),
            ("CREATE", "POST", f"{self.path}?uploads", {}),
            ("PART", "PUT", up + "&partNumber=1", {}),
            ("PARTCOPY", "PUT", up + "&partNumber=1", source),
            ("COMPLETE", "POST", up, {}), ("ABORT", "DELETE", up, {}),
            ("LISTPARTS", "GET", up, {}),
            ("LISTUPLOADS", "GET", f"/{B}?uploads", {}),
            ("HEADBUCKET", "HEAD", f"/{B}", {}),
            ("LISTBUCKETS", "GET", "/", {}),
            ("MAKEBUCKET", "PUT", "/newone", {}),
            ("RMBUCKET", "DELETE", f"/{B}", {}),
            ("LOCATION", "GET", f"/{B}?location", {}),
            ("CONFIG", "GET", f"/{B}?versioning", {})]
        for name, method, path, headers in asked:
            self.fault(f"op={name} action=status:599")
            self.sim.control("reset")
            self.assertEqual(self.sim.raw(method, path, b"", headers)[0],
                             599, name)
            self.assertEqual(self.sim.stats()["ops"][name], 1)
        self.fault("")
        self.assertEqual(self.get("k")["Body"].read(), self.body)

    def test_percent_is_about_right(self):
        self.fault("op=GET percent=20 action=status:500")
        c = http.client.HTTPConnection("127.0.0.1", self.sim.port)
        bad = sum(self.sim.raw("GET", self.path, connection=c)[0] == 500
                  for _ in range(300))
        c.close()
        self.assertTrue(30 <= bad <= 90, bad)

    def test_bodies_that_are_no_xml(self):
        self.fault("op=LIST action=html:520")
        r = self.sim.raw("GET", f"/{B}")
        self.assertEqual((r[0], r[1]["content-type"]), (520, "text/html"))
        self.fault("op=LIST action=badxml")
        self.assertNotIn(b"</ListBucketResult>",
                         self.sim.raw("GET", f"/{B}")[2])
        self.fault("op=LIST action=hugexml:3000000")
        self.assertGreater(len(self.sim.raw("GET", f"/{B}")[2]), 3000000)
        self.fault("op=COPY action=error200")
        r = self.sim.raw("PUT", f"/{B}/copy", b"",
                         {"x-amz-copy-source": f"{B}/k"})
        self.assertEqual(r[0], 200)
        self.assertIn(b"<Error>", r[2])
        self.assertEqual(self.sim.raw("HEAD", f"/{B}/copy")[0], 404)

    def test_lost_answers(self):
        for action, done in (("lost", True), ("lost:1", True),
                             ("drop", False), ("drop:1", False)):
            self.fault(f"op=PUT key=new count=1 action={action}")
            with self.assertRaises((ConnectionError,
                                    http.client.BadStatusLine)) as e:
                self.sim.raw("PUT", f"/{B}/new", b"body")
            self.assertEqual(
                isinstance(e.exception, http.client.RemoteDisconnected),
                action.endswith(":1"), (action, e.exception))
            self.assertEqual(self.sim.raw("GET", f"/{B}/new")[0],
                             200 if done else 404)
            self.sim.raw("DELETE", f"/{B}/new")
        id = self.s3.create_multipart_upload(Bucket=B, Key="m")["UploadId"]
        tag = self.s3.upload_part(Bucket=B, Key="m", UploadId=id,
                                  PartNumber=1, Body=b"x")["ETag"]
        self.fault("op=COMPLETE count=1 action=lost")
        with self.assertRaises(Exception):
            self.s3.complete_multipart_upload(
                Bucket=B, Key="m", UploadId=id, MultipartUpload={
                    "Parts": [{"PartNumber": 1, "ETag": tag}]})
        self.assertEqual(self.get("m")["Body"].read(), b"x")

    def test_bodies_that_break_off(self):
        for action in "cut:1000", "rst:1000":
            self.fault(f"op=GET action={action}")
            with self.assertRaises((http.client.IncompleteRead,
                                    ConnectionError)) as e:
                self.sim.raw("GET", self.path)
            if action[0] == "c":
                self.assertEqual(e.exception.partial, self.body[:1000])
            else:
                self.assertIsInstance(e.exception, ConnectionError)
        self.fault("op=LIST action=cut:50")
        with self.assertRaises(http.client.IncompleteRead):
            self.sim.raw("GET", f"/{B}")

    def test_bodies_that_wait(self):
        self.fault("op=GET action=stall:1000 ms=400")
        start = time.monotonic()
        self.assertEqual(self.sim.raw("GET", self.path)[2], self.body)
        self.assertGreaterEqual(time.monotonic() - start, 0.4)
        self.fault("op=GET action=slow:400000")
        start = time.monotonic()
        self.assertEqual(self.sim.raw("GET", self.path)[2], self.body)
        self.assertAlmostEqual(time.monotonic() - start, 0.5, delta=0.2)
        self.fault("op=GET action=delay:100-200\nop=* action=delay:100\n"
                   "op=GET count=1 action=status:500")
        start = time.monotonic()
        self.assertEqual(self.sim.raw("GET", self.path)[0], 500)
        self.assertTrue(0.2 <= time.monotonic() - start < 0.6)

    def test_answers_that_lie(self):
        h = {"Range": "bytes=100-199"}

        def get():
            return self.sim.raw("GET", self.path, headers=h)
        self.fault("op=GET action=whole")
        r = get()
        self.assertEqual((r[0], r[2]), (200, self.body))
        self.fault("op=GET action=range")
        self.assertEqual(get()[1]["content-range"], "bytes 101-199/200000")
        self.fault("op=GET action=long:5")
        r = get()
        self.assertEqual((len(r[2]), r[1]["content-range"]),
                         (105, "bytes 100-199/200000"))
        self.fault("op=GET action=corrupt:7")
        bad = get()[2]
        self.assertEqual([i for i in range(100)
                          if bad[i] != self.body[100 + i]], [7])
        self.fault("op=GET action=nolength")
        r = get()
        self.assertNotIn("content-length", r[1])
        self.assertEqual(r[2], self.body[100:200])
        self.fault("op=GET action=gzip")
        self.assertEqual(get()[1]["content-encoding"], "gzip")
        self.fault("op=GET action=noetag")
        self.assertNotIn("etag", get()[1])
        self.fault("op=GET action=etag")
        self.assertIn("0123456789abcdef", get()[1]["etag"])
        tag = self.s3.head_object(Bucket=B, Key="k")["ETag"]
        r = self.sim.raw("GET", self.path, headers={"If-Match": tag})
        self.assertEqual(r[0], 412)
        self.fault("op=PUT action=etag")
        self.assertIn("0123456789abcdef", self.put("e", b"1")["ETag"])
        self.fault("op=GET action=close")
        self.assertEqual(get()[1]["connection"].lower(), "close")

    def test_listings_that_lie(self):
        for i in range(4):
            self.put(f"l{i}")

        def keys(**kw):
            r = self.s3.list_objects_v2(Bucket=B, Prefix="l", **kw)
            return [o["Key"] for o in r["Contents"]]
        self.fault("op=LIST action=dup")
        self.assertEqual(keys(), [k for i in range(4) for k in 2 * [f"l{i}"]])
        self.fault("op=LIST action=unsorted")
        self.assertEqual(keys(), ["l3", "l2", "l1", "l0"])
        self.fault("")
        first = self.s3.list_objects_v2(Bucket=B, Prefix="l", MaxKeys=1)
        self.fault("op=LIST action=loop")
        token = first["NextContinuationToken"]
        again = self.s3.list_objects_v2(Bucket=B, Prefix="l", MaxKeys=1,
                                        ContinuationToken=token)
        self.assertEqual(again["NextContinuationToken"], token)

    def test_one_key_of_many_deletes(self):
        self.put("gone")
        self.fault("op=DELETEKEY key=k action=status:500 code=AccessDenied")
        r = self.s3.delete_objects(Bucket=B, Delete={
            "Objects": [{"Key": "gone"}, {"Key": "k"}]})
        self.assertEqual([d["Key"] for d in r["Deleted"]], ["gone"])
        self.assertEqual([(e["Key"], e["Code"]) for e in r["Errors"]],
                         [("k", "AccessDenied")])
        self.assertEqual(self.sim.raw("HEAD", self.path)[0], 200)

    def test_clock_that_is_wrong(self):
        from email.utils import parsedate_to_datetime
        for how in ("fault", "control"):
            if how == "fault":
                self.fault("op=HEAD count=1 action=skew:3600")
                self.sim.raw("HEAD", self.path)
            else:
                self.sim.control("clock?skew=3600")
            r = self.sim.raw("GET", self.path)
            self.assertEqual(r[0], 403)
            self.assertIn(b"RequestTimeTooSkewed", r[2])
            skew = (parsedate_to_datetime(r[1]["date"]).timestamp() -
                    time.time())
            self.assertAlmostEqual(skew, 3600, delta=3)
            self.assertEqual(
                self.sim.raw("GET", self.path, skew=skew)[0], 200)
            self.fault("")
            self.assertEqual(self.sim.raw("GET", self.path)[0], 200)


class Limits(Case):
    def slow(self, n, method, path, body=b""):
        """n requests at once, each 0.3 s long; their statuses."""
        self.sim.control("latency?ms=300")
        codes = []
        threads = [threading.Thread(target=lambda: codes.append(
            self.sim.raw(method, path, body)[0])) for _ in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.sim.control("latency?ms=0")
        return sorted(codes)

    def test_overlapping_writes(self):
        self.assertEqual(self.slow(5, "PUT", f"/{B}/k", b"x"), [200] * 5)
        self.sim.control("limits?write=overlap")
        self.assertEqual(self.slow(5, "PUT", f"/{B}/k", b"x"),
                         [200] + [429] * 4)
        for _ in range(20):
            self.put("k", b"x")
        r = self.sim.stats()
        self.assertEqual((r["refused"], r["status"]["429"]), (4, 4))

    def test_one_write_a_second(self):
        self.sim.control("limits?write=second")
        self.put("k", b"1")
        start = time.monotonic()
        r = self.refused(429, "ServiceUnavailable", self.put, "k", b"2")
        self.assertIn("Reduce your concurrent request rate",
                      r["Error"]["Message"])
        self.refused(429, "ServiceUnavailable", self.s3.copy_object,
                     Bucket=B, Key="k", CopySource=f"{B}/k")
        self.put("other", b"1")
        self.get("k")
        time.sleep(1.02 - (time.monotonic() - start))
        self.put("k", b"3")
        self.assertEqual(self.get("k")["Body"].read(), b"3")

    def test_reads_parts_and_all(self):
        self.put("k", b"x")
        self.sim.control("limits?reads=3")
        self.assertEqual(self.slow(6, "GET", f"/{B}/k"),
                         [200] * 3 + [429] * 3)
        self.sim.control("limits?reads=0&parts=2")
        id = self.s3.create_multipart_upload(Bucket=B, Key="k")["UploadId"]
        path = f"/{B}/k?partNumber=1&uploadId={quote(id, safe='')}"
        self.assertEqual(self.slow(4, "PUT", path, b"x"),
                         [200] * 2 + [429] * 2)
        self.sim.control("limits?parts=0&total=4")
        self.sim.control("reset")
        self.assertEqual(self.slow(6, "HEAD", f"/{B}/k"),
                         [200] * 4 + [429] * 2)
        self.assertEqual(self.sim.stats()["concurrent_max"], 4)
        for _ in range(200):
            self.assertEqual(self.sim.raw("GET", f"/{B}/k")[0], 200)


class Counting(Case):
    def setUp(self):
        self.log = f"/tmp/r2sim-log-{os.getpid()}"
        self.options = ("--log", self.log)
        self.addCleanup(lambda: os.unlink(self.log))
        super().setUp()

    def test_classes_bytes_and_log(self):
        self.put("a b", b"x" * 1000)
        self.get("a b", Range="bytes=0-99")["Body"].read()
        self.s3.head_object(Bucket=B, Key="a b")
        n = len(self.sim.raw("GET", f"/{B}?list-type=2")[2])
        self.refused(412, "PreconditionFailed", self.put, "a b", b"",
                     IfNoneMatch="*")
        self.s3.delete_object(Bucket=B, Key="a b")
        e = self.sim.raw("GET", f"/{B}/none", secret="wrong")
        s = self.sim.stats()
        self.assertEqual((s["class_a"], s["class_b"], s["free"], s["total"]),
                         (3, 2, 1, 7))
        self.assertEqual(s["bytes_in"], 1000)
        self.assertEqual(s["ops"]["PUT"], 2)
        self.assertEqual(s["status"], {"200": 3, "204": 1, "206": 1,
                                       "403": 1, "412": 1})
        with open(self.log) as f:
            lines = [line.split() for line in f]
        self.assertEqual([line[:3] for line in lines], [
            ["PUT", "a%20b", "200"], ["GET", "a%20b", "206"],
            ["HEAD", "a%20b", "200"], ["LIST", "-", "200"],
            ["PUT", "a%20b", "412"], ["DELETE", "a%20b", "204"],
            ["GET", "none", "403"]])
        self.assertEqual([int(line[3]) for line in lines][:4],
                         [0, 100, 0, n])
        self.assertEqual(lines[0][4], "1000")
        self.assertEqual(s["bytes_out"],
                         sum(int(line[3]) for line in lines))
        self.assertGreater(len(e[2]), 100)
        self.sim.control("reset")
        self.assertEqual(self.sim.stats()["total"], 0)


class Shaping(unittest.TestCase):
    def setUp(self):
        self.sim = Sim("--synthetic", "bucket:s/:2000:10000000", auth=False)
        self.addCleanup(self.sim.stop)

    def many(self, n, what):
        errors = []

        def one():
            try:
                what()
            except Exception as e:
                errors.append(e)
        threads = [threading.Thread(target=one) for _ in range(n)]
        start = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        return time.monotonic() - start

    def test_latency_of_96_connections(self):
        self.sim.control("latency?ms=100")

        def ten():
            c = http.client.HTTPConnection("127.0.0.1", self.sim.port)
            for _ in range(10):
                self.sim.raw("HEAD", f"/{B}/s/f00000001", sign=False,
                             connection=c)
            c.close()
        took = self.many(96, ten)
        self.assertTrue(1.0 <= took < 1.8, took)

    def test_bandwidth_of_a_connection(self):
        self.sim.control("bandwidth?bytes=20000000")
        path = f"/{B}/s/f00000001"
        took = self.many(8, lambda: self.sim.raw("GET", path, sign=False))
        self.assertTrue(0.49 <= took < 0.9, took)
        took = self.many(4, lambda: self.sim.raw(
            "PUT", f"/{B}/up", bytes(8 * MIB), sign=False))
        self.assertTrue(0.41 <= took < 0.9, took)

    def test_a_reader_that_leaves(self):
        for _ in range(50):
            s = socket.create_connection(("127.0.0.1", self.sim.port))
            s.sendall(f"GET /{B}/s/f00000002 HTTP/1.1\r\nHost: x\r\n\r\n"
                      .encode())
            s.recv(1000)
            s.close()
        self.assertEqual(self.sim.raw("HEAD", f"/{B}/s/f00000002",
                                      sign=False)[0], 200)


if __name__ == "__main__":
    unittest.main()
