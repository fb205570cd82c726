#!/usr/bin/env bash
# What: the crate pytorch-reader 0.22.1 on a tensor that PyTorch 2.15.0 saved with a
#   pending sign, as imaginary parts of conjugates have, beside plain, transposed,
#   sliced and half ones.
# Guess: the values that torch.load gives, or an error.
# Behavior: the sign is a word in the pickle beside the stored values; the reader passes
#   over it, and the values come back negated. The others are right to the bit.
# TARRL: looks for that word and refuses the file.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
python_with 'torch==2.15.0' 'numpy==2.4.6'
cargo_with 'pytorch-reader = "=0.22.1"' <<'RS'
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let reader = pytorch_reader::PytorchReader::new(&path).unwrap();
    let mut names = reader.keys();
    names.sort();
    for name in names {
        let tensor = reader.get(&name).unwrap();
        let hex: String = tensor.read().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{name} {:?} {hex}", tensor.dtype());
    }
}
RS
cat >"$WORK/make.py" <<'PY'
import sys

import torch

z = torch.complex(torch.arange(4.0), torch.arange(1.0, 5.0))
sign = z.conj().imag
x = torch.arange(6.0).view(2, 3)
assert sign.is_neg()
tensors = {"sign": sign, "plain": x, "transposed": x.t(), "slice": x[1:, ::2], "half": x.bfloat16(), "parameter": torch.nn.Parameter(x)}
torch.save(tensors, sys.argv[1])
loaded = torch.load(sys.argv[1])
expected = {name: loaded[name].detach().resolve_neg().contiguous() for name in tensors}
for name in sorted(expected):
    values = expected[name].view(torch.uint8).flatten().tolist()
    print(name, "".join(f"{byte:02x}" for byte in values))
print("negated", "".join(f"{byte:02x}" for byte in (-expected["sign"]).contiguous().view(torch.uint8).tolist()))
PY
"$PYTHON" "$WORK/make.py" "$WORK/m.pt" >"$WORK/expected"
"$PROGRAM" "$WORK/m.pt" | tee "$WORK/read"
for name in plain transposed slice half parameter; do
    [ "$(awk -v n="$name" '$1 == n { print $2 }' "$WORK/expected")" = "$(awk -v n="$name" '$1 == n { print $3 }' "$WORK/read")" ] ||
        changed "$name is read otherwise than by PyTorch"
done
[ "$(awk '$1 == "negated" { print $2 }' "$WORK/expected")" = "$(awk '$1 == "sign" { print $3 }' "$WORK/read")" ] ||
    changed "a pending sign is read otherwise"
echo "the pending sign is lost, all else is right"
