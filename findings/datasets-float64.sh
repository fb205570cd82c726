#!/usr/bin/env bash
# What: columns of 64-bit floats and of whole numbers with gaps in datasets 5.2.0
#   read with_format("numpy").
# Guess: a column comes back with the type in its schema, float64 and int64.
# Behavior: a single row gives a float64 scalar as float64, a slice of rows gives
#   the same column as float32, and a vector is float32 either way: stored
#   features, bounds or radii lose eight digits. A column of whole numbers with
#   one gap comes back as float32, in which indices above 16,777,216 are other
#   indices. The stored values are right: without a format they come back whole.
# TARRL: a table that is compared with ours to more than seven digits should
#   be read without a format.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'datasets==5.2.0' 'pillow==13.0.0' 'numpy==2.4.6'
HF_HOME=$WORK/home "$PYTHON" - <<'PY'
import datasets, numpy as np

third = 1 / 3
table = datasets.Dataset.from_dict(
    {"scalar": [third, third], "vector": [[third, 0.1]] * 2, "index": [16777217, None], "whole": [16777217, 3]}
)
print("schema", {k: str(v) for k, v in table.features.items()})
read = table.with_format("numpy")[:]
for name, values in read.items():
    print(name, values.dtype, values)
row = table.with_format("numpy")[0]
print("one row:", {k: getattr(v, "dtype", type(v)) for k, v in row.items()})
assert row["scalar"].dtype == np.float64 and row["scalar"] == third
assert row["vector"].dtype == read["scalar"].dtype == read["vector"].dtype == np.float32
assert float(read["scalar"][0]) != third and table[0]["vector"][0] == third
assert read["index"].dtype == np.float32 and read["index"][0] == 16777216
assert read["whole"].dtype == np.int64 and read["whole"][0] == 16777217
PY
