#!/usr/bin/env python3
"""The sample bucket of scripts/demo.

    demo-data.py fill ENDPOINT BUCKET KEY SECRET_FILE           uploads it
    demo-data.py check FOLDER                                   reads it back
    demo-data.py write FOLDER ENDPOINT BUCKET KEY SECRET_FILE   adds to it

`fill` is an S3 client like any other: r2fs has no part in it. `check` opens
the arrays below a mount with zarr and compares them with what numpy computes.
`write` makes an array through the mount and reads it past the mount.
"""

import io
import os
import struct
import sys
import tarfile
import tempfile
import time
import zlib

import numpy as np
import zarr

SHAPE = (60, 180, 360)
ARRAYS = {
    "zarr/temperature-v2.zarr": dict(zarr_format=2, chunks=(10, 90, 180)),
    "zarr/temperature-v3.zarr": dict(zarr_format=3, chunks=(10, 90, 180)),
    "zarr/temperature-sharded.zarr": dict(zarr_format=3, chunks=(5, 30, 60),
                                          shards=(20, 90, 180)),
}
TEXT = """This bucket was made by scripts/demo. Look around:

  zarr/           the same array three times: Zarr v2, v3, and v3 with shards
  images/         PNG pictures
  shards/         tar files as training pipelines read them
  empty-file      an object of no bytes
  empty-folder/   a folder with nothing in it
"""


def temperature():
    day = np.arange(SHAPE[0])[:, None, None]
    latitude = np.linspace(-90, 90, SHAPE[1])[None, :, None]
    longitude = np.linspace(0, 360, SHAPE[2])[None, None, :]
    return (30 * np.cos(np.radians(latitude))
            + 5 * np.sin(np.radians(longitude + 6 * day))
            ).astype("float32")


def png(pixels):
    """A PNG file of an array of height x width x 3 bytes."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + pixels[y].tobytes() for y in range(height))

    def chunk(kind, body):
        return (struct.pack(">I", len(body)) + kind + body
                + struct.pack(">I", zlib.crc32(kind + body)))

    return (b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2,
                                         0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def picture(i, size=256):
    y, x = np.mgrid[0:size, 0:size]
    wave = np.sin((x + 40 * i) / 20) * np.cos((y - 25 * i) / 30)
    pixels = np.empty((size, size, 3), "uint8")
    pixels[..., 0] = 127 + 127 * wave
    pixels[..., 1] = x * 255 // size
    pixels[..., 2] = y * 255 // size
    return png(pixels)


def shard(first, count):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(first, first + count):
            for name, body in ((f"{i:06}.png", picture(i, 64)),
                               (f"{i:06}.cls", b"%d\n" % (i % 10))):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def objects(scratch):
    """Every (key, body) of the bucket."""
    data = temperature()
    for name, how in ARRAYS.items():
        array = zarr.create_array(os.path.join(scratch, name),
                                  shape=data.shape, dtype=data.dtype, **how)
        array[:] = data
    for folder, _, files in os.walk(scratch):
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                yield os.path.relpath(path, scratch), f.read()
    for i in range(6):
        yield f"images/picture-{i}.png", picture(i)
    for i in range(4):
        yield f"shards/shard-{i:05}.tar", shard(i * 25, 25)
    yield "README.txt", TEXT.encode()
    yield "empty-file", b""
    yield "empty-folder/", b""


def client(endpoint, key, secret_file):
    import boto3
    from botocore.config import Config
    from botocore.handlers import add_expect_header

    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    with open(secret_file) as f:
        secret = f.read().strip()
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="auto",
        aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, proxies={},
                      request_checksum_calculation="when_required"))
    # R2 sends no "100 Continue": boto3 would wait a second for it.
    s3.meta.events.unregister("before-call.s3", add_expect_header)
    return s3


def fill(endpoint, bucket, key, secret_file):
    s3 = client(endpoint, key, secret_file)
    count = size = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, body in objects(scratch):
            s3.put_object(Bucket=bucket, Key=name, Body=body)
            count += 1
            size += len(body)
    print(f"{count} objects, {size / 1e6:.1f} MB")


def write(folder, endpoint, bucket, key, secret_file):
    name = "zarr/made-by-the-demo.zarr"
    expected = temperature()[:8]
    array = zarr.create_array(os.path.join(folder, name), overwrite=True,
                              shape=expected.shape, dtype=expected.dtype,
                              chunks=(4, 90, 180))
    array[:] = expected
    s3 = client(endpoint, key, secret_file)
    with tempfile.TemporaryDirectory() as scratch:
        found = s3.list_objects_v2(Bucket=bucket, Prefix=name + "/")
        for item in found.get("Contents", []):
            path = os.path.join(scratch, item["Key"])
            if item["Key"].endswith("/"):
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            s3.download_file(bucket, item["Key"], path)
        copy = zarr.open_array(os.path.join(scratch, name), mode="r")
        same = np.array_equal(copy[:], expected)
    print(f"{name}: written through the mount, downloaded by another client, "
          f"{'equal to' if same else 'DIFFERENT FROM'} numpy's")
    sys.exit(not same)


def check(folder):
    expected = temperature()
    bad = 0
    for name in ARRAYS:
        start = time.monotonic()
        array = zarr.open_array(os.path.join(folder, name), mode="r")
        same = np.array_equal(array[:], expected)
        took = time.monotonic() - start
        bad += not same
        print(f"{name}: {array.shape} {array.dtype}, read in {took:.2f} s, "
              f"{'equal to' if same else 'DIFFERENT FROM'} numpy's")
    sys.exit(bad != 0)


if __name__ == "__main__":
    actions = {"fill": (fill, 4), "check": (check, 1), "write": (write, 5)}
    action, count = actions.get(sys.argv[1] if len(sys.argv) > 1 else "",
                                (None, 0))
    if not action or len(sys.argv) != 2 + count:
        sys.exit(__doc__)
    action(*sys.argv[2:])
