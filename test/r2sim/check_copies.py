"""Copies, listings and deletes of many keys as boto3 sees them."""

import datetime
import os
import unittest

from sim import B, Case


class Copies(Case):
    def setUp(self):
        super().setUp()
        self.body = os.urandom(100000)
        self.tag = self.put("src", self.body, Metadata={"a": "1", "b": "2"},
                            ContentType="x/y", CacheControl="c")["ETag"]

    def copy(self, key="dst", source="src", **kw):
        return self.s3.copy_object(Bucket=B, Key=key,
                                   CopySource={"Bucket": B, "Key": source},
                                   **kw)

    def head(self, key="dst"):
        return self.s3.head_object(Bucket=B, Key=key)

    def test_directives(self):
        r = self.copy()
        self.assertEqual(r["CopyObjectResult"]["ETag"], self.tag)
        self.assertIn("LastModified", r["CopyObjectResult"])
        self.assertEqual(self.get("dst")["Body"].read(), self.body)
        self.assertEqual(self.head()["Metadata"], {"a": "1", "b": "2"})
        self.copy(MetadataDirective="COPY", Metadata={"z": "9"},
                  ContentType="no/no")
        h = self.head()
        self.assertEqual((h["Metadata"], h["ContentType"]),
                         ({"a": "1", "b": "2"}, "x/y"))
        self.copy(MetadataDirective="REPLACE", Metadata={"z": "9"})
        h = self.head()
        self.assertEqual((h["Metadata"], h["ContentType"]),
                         ({"z": "9"}, "application/octet-stream"))
        self.assertNotIn("CacheControl", h)
        self.wire(200, None, "PUT", f"/{B}/dst", b"", {
            "x-amz-copy-source": f"/{B}/src",
            "x-amz-metadata-directive": "MERGE",
            "x-amz-meta-b": "two", "x-amz-meta-c": "3"})
        h = self.head()
        self.assertEqual((h["Metadata"], h["ContentType"],
                          h["CacheControl"]),
                         ({"a": "1", "b": "two", "c": "3"}, "x/y", "c"))
        self.wire(400, "InvalidArgument", "PUT", f"/{B}/dst", b"", {
            "x-amz-copy-source": f"/{B}/src",
            "x-amz-metadata-directive": "MIX"})
        self.copy(key="src", MetadataDirective="REPLACE",
                  Metadata={"self": "1"}, StorageClass="STANDARD_IA")
        self.assertEqual(self.head("src")["Metadata"], {"self": "1"})
        self.assertEqual(self.get("src")["Body"].read(), self.body)
        self.copy(key="src")
        self.s3.delete_object(Bucket=B, Key="src")
        self.assertEqual(self.get("dst")["Body"].read(), self.body)

    def test_conditions(self):
        old = datetime.datetime(2001, 1, 1)
        new = datetime.datetime(2099, 1, 1)
        self.copy(CopySourceIfMatch=self.tag, CopySourceIfNoneMatch='"no"',
                  CopySourceIfModifiedSince=old)
        self.copy(CopySourceIfUnmodifiedSince=new)
        for kw in ({"CopySourceIfMatch": '"no"'},
                   {"CopySourceIfNoneMatch": self.tag},
                   {"CopySourceIfModifiedSince": new},
                   {"CopySourceIfUnmodifiedSince": old}):
            self.refused(412, "PreconditionFailed", self.copy, **kw)

    def destination(self, status, key, **headers):
        headers = {f"cf-copy-destination-{k.replace('_', '-')}": v
                   for k, v in headers.items()}
        self.wire(status, "PreconditionFailed" if status == 412 else None,
                  "PUT", f"/{B}/{key}", b"",
                  {"x-amz-copy-source": f"{B}/src", **headers})

    def test_conditions_on_the_destination(self):
        self.destination(200, "dst", if_none_match="*")
        self.destination(412, "dst", if_none_match="*")
        self.destination(200, "dst", if_match=self.tag)
        self.destination(412, "dst", if_match='"no"')
        self.destination(412, "other", if_match=self.tag)
        self.destination(412, "dst",
                         if_unmodified_since="Mon, 01 Jan 2001 00:00:00 GMT")
        self.destination(412, "dst",
                         if_modified_since="Thu, 01 Jan 2099 00:00:00 GMT")
        self.refused(404, "404", self.head, "other")

    def test_sources(self):
        self.refused(404, "NoSuchKey", self.copy, source="none")
        self.refused(404, "NoSuchBucket", self.s3.copy_object, Bucket=B,
                     Key="dst", CopySource="nobucket/k")
        self.wire(400, "InvalidArgument", "PUT", f"/{B}/dst", b"",
                  {"x-amz-copy-source": "nothing"})
        self.put("ü +%", b"odd")
        self.copy(source="ü +%")
        self.assertEqual(self.get("dst")["Body"].read(), b"odd")
        self.s3.create_bucket(Bucket="second")
        self.s3.copy_object(Bucket="second", Key="k",
                            CopySource={"Bucket": B, "Key": "src"})
        r = self.s3.get_object(Bucket="second", Key="k")
        self.assertEqual(r["Body"].read(), self.body)


class Listings(Case):
    def setUp(self):
        super().setUp()
        self.names = [f"d{i}/f{j}" for i in range(3) for j in range(4)] + [
            "top", "top2", "z<&>'\""]
        for name in self.names:
            self.put(name, b"x")

    def keys(self, r):
        return [o["Key"] for o in r.get("Contents", [])]

    def prefixes(self, r):
        return [p["Prefix"] for p in r.get("CommonPrefixes", [])]

    def test_both_versions_page_by_page(self):
        for op in "list_objects", "list_objects_v2":
            for size in 1, 2, 5, 1000:
                for delimiter in "", "/":
                    kw = {"Delimiter": delimiter} if delimiter else {}
                    pages = self.s3.get_paginator(op).paginate(
                        Bucket=B, PaginationConfig={"PageSize": size}, **kw)
                    keys, prefixes = [], []
                    for p in pages:
                        keys += self.keys(p)
                        prefixes += self.prefixes(p)
                    self.assertEqual(prefixes, ["d0/", "d1/", "d2/"]
                                     if delimiter else [])
                    self.assertEqual(keys, [n for n in self.names if not
                                            delimiter or "/" not in n])

    def test_parameters(self):
        v2 = self.s3.list_objects_v2
        r = v2(Bucket=B, Prefix="d1/", Delimiter="/", FetchOwner=True)
        self.assertEqual(self.keys(r), self.names[4:8])
        self.assertEqual((r["KeyCount"], r["MaxKeys"], r["Prefix"],
                          r["Delimiter"], r["Name"]),
                         (4, 1000, "d1/", "/", B))
        self.assertIn("Owner", r["Contents"][0])
        self.assertEqual(self.keys(v2(Bucket=B, StartAfter="d2/f3")),
                         self.names[12:])
        self.assertEqual(self.keys(v2(Bucket=B, StartAfter="d2/f")),
                         self.names[8:])
        r = v2(Bucket=B, MaxKeys=0)
        self.assertEqual((r["KeyCount"], r["IsTruncated"]), (0, True))
        r = v2(Bucket=B, MaxKeys=0, Prefix="none")
        self.assertEqual(r["IsTruncated"], False)
        self.assertEqual(v2(Bucket=B, MaxKeys=5000)["MaxKeys"], 5000)
        r = v2(Bucket=B, Delimiter="f")
        self.assertEqual(self.prefixes(r), ["d0/f", "d1/f", "d2/f"])
        r = self.s3.list_objects(Bucket=B, Marker="d2/f3", MaxKeys=1)
        self.assertEqual((self.keys(r), r["NextMarker"], r["Marker"]),
                         (["top"], "top", "d2/f3"))

    def test_keys_added_between_pages(self):
        r = self.s3.list_objects_v2(Bucket=B, MaxKeys=3)
        self.put("d0/f00", b"")
        self.put("d0/f9", b"")
        r = self.s3.list_objects_v2(
            Bucket=B, ContinuationToken=r["NextContinuationToken"])
        self.assertEqual(self.keys(r)[:2], ["d0/f3", "d0/f9"])

    def test_refusals(self):
        for query, status, code in (
                ("list-type=2&max-keys=-1", 400, "InvalidMaxKeys"),
                ("list-type=2&max-keys=x", 400, "InvalidMaxKeys"),
                ("max-keys=", 400, "InvalidMaxKeys"),
                ("encoding-type=base64", 501, "NotImplemented"),
                ("list-type=3", 501, "NotImplemented"),
                ("list-type=2&marker=a", 501, "NotImplemented"),
                ("include=metadata", 501, "NotImplemented"),
                ("continuation-token=x", 400, "InvalidArgument"),
                ("continuation-token=x&list-type=2", 400, "InvalidArgument")):
            self.wire(status, code, "GET", f"/{B}?{query}")
        r = self.wire(200, None, "GET", f"/{B}?list-type=2&max-keys=2.7")
        self.assertIn(b"<KeyCount>2</KeyCount>", r[2])
        self.refused(404, "NoSuchBucket", self.s3.list_objects_v2,
                     Bucket="other")

    def test_short_pages(self):
        self.sim.control("limits?page=2")
        r = self.s3.list_objects_v2(Bucket=B, MaxKeys=10)
        self.assertEqual((len(r["Contents"]), r["IsTruncated"],
                          r["MaxKeys"]), (2, True, 10))

    def test_delete_objects(self):
        def delete(keys, **kw):
            return self.s3.delete_objects(Bucket=B, Delete={
                "Objects": [{"Key": k} for k in keys], **kw})
        r = delete(self.names[:12] + ["missing", "z<&>'\""], Quiet=True)
        self.assertEqual(len(r["Deleted"]), 14)
        self.assertEqual(self.keys(self.s3.list_objects_v2(Bucket=B)),
                         ["top", "top2"])
        self.refused(400, "MalformedXML", delete,
                     [f"k{i}" for i in range(1001)])
        path = f"/{B}?delete"
        for xml in (b"", b"<Delete></Delete>", b"<Delete>", b"<x/>",
                    b"<Delete><Quiet>yes</Quiet><Object><Key>a</Key>"
                    b"</Object></Delete>"):
            self.wire(400, "MalformedXML", "POST", path, xml)
        xml = b"<Delete><Object><Key>top</Key></Object></Delete>"
        self.wire(400, "BadDigest", "POST", path, xml,
                  {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})
        self.wire(200, None, "POST", path, xml)
        xml = b"<Delete><Object><Key> top2</Key></Object></Delete>"
        self.wire(200, None, "POST", path, xml)
        self.assertEqual(self.keys(self.s3.list_objects_v2(Bucket=B)),
                         ["top2"])


if __name__ == "__main__":
    unittest.main()
