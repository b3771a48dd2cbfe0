"""Requests of the bare client: SigV4 with an unsigned payload, done before
the clock runs. Range is not signed, so one signature serves every range."""

import datetime
import hashlib
import hmac
from urllib.parse import quote, urlsplit


class Signer:
    def __init__(self, endpoint, bucket, key, secret):
        self.base = f"{endpoint}/{bucket}/"
        self.host = urlsplit(endpoint).netloc
        self.bucket = bucket
        self.key = key
        stamp = datetime.datetime.now(datetime.timezone.utc)
        self.date = stamp.strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.date[:8]}/auto/s3/aws4_request"
        k = b"AWS4" + secret.encode()
        for part in self.scope.split("/"):
            k = hmac.digest(k, part.encode(), "sha256")
        self.signing_key = k

    def sign(self, method, key, query=""):
        path = quote(f"/{self.bucket}/{key}", safe="/~")
        names = "host;x-amz-content-sha256;x-amz-date"
        canonical = "\n".join([
            method, path, query, f"host:{self.host}",
            "x-amz-content-sha256:UNSIGNED-PAYLOAD",
            f"x-amz-date:{self.date}", "", names, "UNSIGNED-PAYLOAD"])
        text = "\n".join(["AWS4-HMAC-SHA256", self.date, self.scope,
                          hashlib.sha256(canonical.encode()).hexdigest()])
        mac = hmac.new(self.signing_key, text.encode(), "sha256").hexdigest()
        return [f"x-amz-date: {self.date}",
                "x-amz-content-sha256: UNSIGNED-PAYLOAD",
                f"Authorization: AWS4-HMAC-SHA256 Credential={self.key}/"
                f"{self.scope}, SignedHeaders={names}, Signature={mac}"]

    def get(self, key, first=None, last=None):
        """A line for the bare client."""
        byte_range = "-" if first is None else f"{first}-{last}"
        return "\t".join(["GET", self.base + quote(key), byte_range, "-", "-",
                          "-", *self.sign("GET", key)])

    def put(self, key, path, offset, length, query=""):
        url = self.base + quote(key) + (f"?{query}" if query else "")
        return "\t".join(["PUT", url, "-", path, str(offset), str(length),
                          "Expect:", *self.sign("PUT", key, query)])
