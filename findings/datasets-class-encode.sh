#!/usr/bin/env bash
# What: Dataset.class_encode_column of datasets 5.2.0 on a column of whole
#   numbers, which is what train_test_split(stratify_by_column=...) asks for.
# Guess: labels 0 to 11 stay what they are; the column only gains names.
# Behavior: the numbers are turned into text and sorted as text, so with more
#   than ten classes 10 becomes 2, 11 becomes 3, and 2 becomes 4: a head trained
#   on the encoded labels and judged on the original ones is wrong on all classes
#   but 0 and 1. (Labels 1 to 10, as SVHN has them, become 0, 2, ..., 9, 1.)
# TARRL: a reader of tables should take whole numbers as they are, never by
#   the order of their text, and print the names that it found beside the
#   numbers.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'datasets==5.2.0' 'pillow==13.0.0' 'numpy==2.4.6'
HF_HOME=$WORK/home "$PYTHON" - <<'PY'
import datasets

datasets.disable_progress_bars()
for labels in (list(range(12)), list(range(1, 11)), list(range(10))):
    encoded = datasets.Dataset.from_dict({"label": labels}).class_encode_column("label")
    print(labels, "->", list(encoded["label"]), encoded.features["label"].names)
    moved = [a for a, b in zip(labels, encoded["label"]) if a != b]
    if labels == list(range(12)):
        assert moved == list(range(2, 12)) and encoded["label"][10] == 2
    elif labels == list(range(1, 11)):
        assert list(encoded["label"]) == [0, 2, 3, 4, 5, 6, 7, 8, 9, 1]
    else:
        assert moved == []
PY
