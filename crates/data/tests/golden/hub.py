"""Writes hub.parquet beside this file: four pictures of 3 × 2 pixels in the schema of the Hugging Face hub, by pyarrow.

    pip install pyarrow
    python crates/data/tests/golden/hub.py

Two row groups, pages packed by Snappy, labels in a dictionary, names of the classes in the metadata. Picture i has the
levels (10 i + 3 row + column, 100 + i, 200 - column).
"""

import json
import pathlib
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq


def png(i):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in range(2):
        rows += b"\0" + bytes(v for column in range(3) for v in (10 * i + 3 * row + column, 100 + i, 200 - column))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


features = {
    "img": {"_type": "Image"},
    "label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"},
}
table = pa.table(
    {
        "img": pa.array(
            [{"bytes": png(i), "path": None} for i in range(4)],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "label": pa.array([2, 0, 1, 2], pa.int64()),
    }
).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
path = pathlib.Path(__file__).with_name("hub.parquet")
pq.write_table(table, path, row_group_size=2, compression="snappy")
print(path, path.stat().st_size, "bytes, pyarrow", pa.__version__)
