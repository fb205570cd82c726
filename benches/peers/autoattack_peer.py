"""The authors' AutoAttack on a network that we exported, image by image beside ours.

Not part of the tests. Needs torch, onnxruntime, safetensors and pyautoattack (which is the authors' code as a package):

    pip install torch onnxruntime safetensors pyautoattack==0.2.0
    cargo build --release -p tarrl-cli
    target/release/tarrl pretrain --method at --dataset fashion-mnist-sample --width 0.25 --epochs 2 --out at
    target/release/tarrl evaluate at/encoder.safetensors --dataset fashion-mnist-sample --images 10 --samples 1 --out page
    python benches/peers/autoattack_peer.py --tarrl target/release/tarrl --encoder at/encoder.safetensors \
        --head page/jobs/KEY/head.safetensors --images 60 --radius linf=8/255 --radius l2=0.5

KEY is the job `clean`. `--authors FOLDER` takes the authors' repository in place of the package. Encoder and head are
exported as ONNX and as safetensors; PyTorch loads the latter with strict=True. Both suites then attack the same images,
ours through `tarrl attack --points`, and every point of both is judged again: whether it lies in ball and box, computed
in double precision, and whether PyTorch in single and in double precision and onnxruntime misclassify it. A point counts
as misclassified where another class has at least the logit of the label; the authors count a tie as right.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import numpy as np
import onnxruntime
import torch

from exported import conv_small, excess, export, read_json, test_images, version_of, versions

THEIRS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def lost(logits, labels):
    """Where another class has at least the logit of the label."""
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return others.max(1) >= logits[rows, labels]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tarrl", type=pathlib.Path, required=True)
    parser.add_argument("--encoder", type=pathlib.Path, required=True)
    parser.add_argument("--head", type=pathlib.Path, required=True)
    parser.add_argument("--dataset", default="fashion-mnist-sample")
    parser.add_argument("--files", type=pathlib.Path, default=pathlib.Path("datasets/fashion-mnist-sample"))
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--radius", action="append", help="NORM=RADIUS; may be given several times")
    parser.add_argument("--authors", type=pathlib.Path, help="folder of the authors' repository")
    arguments = parser.parse_args()
    if arguments.authors:
        sys.path.insert(0, str(arguments.authors))
        from autoattack import AutoAttack
    else:
        from pyautoattack import AutoAttack
    torch.set_num_threads(1)
    folder = pathlib.Path(tempfile.mkdtemp())
    onnx = export(arguments.tarrl, arguments.encoder, arguments.head, folder / "f.onnx", "--side", 28, "--batch", "any")
    model = conv_small(export(arguments.tarrl, arguments.encoder, arguments.head, folder / "f.safetensors"))
    double = conv_small(folder / "f.safetensors").double()
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = ["torch", "onnxruntime"] + ([] if arguments.authors else ["pyautoattack"])
    print(f"{versions(*names)}; {version_of(arguments.tarrl)}")

    def outputs(points):
        x = torch.from_numpy(points)
        with torch.no_grad():
            return model(x).numpy(), double(x.double()).numpy(), session.run(None, {"x": points})[0]

    pixels, labels = test_images(arguments.files)
    for text in arguments.radius or ["linf=8/255"]:
        norm, radius = text.split("=")
        outcome, found = folder / "ours.json", folder / "ours.npz"
        command = [arguments.tarrl, "attack", "--checkpoint", arguments.encoder, "--head", arguments.head, "--dataset"]
        command += [arguments.dataset, "--norm", norm, "--epsilon", radius, "--images", arguments.images, "--threads", 1]
        begin = time.perf_counter()
        command += ["--json", outcome, "--points", found]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        samples, ours = read_json(outcome)["samples"], np.load(found)
        index = np.array([sample["index"] for sample in samples])
        images, y = (pixels[index] / 255).astype(np.float32), labels[index]
        assert (index == ours["index"]).all() and (y == ours["labels"]).all()
        assert np.array_equal(images, ours["images"].transpose(0, 3, 1, 2)), "the same pixels"
        single, exact, graph = outputs(images)
        print(f"\n{text}: clean outputs, largest difference to PyTorch in double precision, relative to the largest:")
        scale = np.abs(exact).max()
        print(f"  PyTorch {np.abs(single - exact).max() / scale:.1e}, onnxruntime {np.abs(graph - exact).max() / scale:.1e}")
        settings = {"verbose": False} if arguments.authors else {}
        suite = AutoAttack(
            model, norm=THEIRS[norm], eps=float(Fraction(radius)), seed=0, version="standard", device="cpu", **settings
        )
        begin = time.perf_counter()
        batch = {"bs" if arguments.authors else "batch_size": len(y)}
        theirs = suite.run_standard_evaluation(torch.from_numpy(images), torch.from_numpy(y), **batch)
        theirs = (theirs[0] if isinstance(theirs, tuple) else theirs).numpy()
        elapsed = time.perf_counter() - begin
        answers = {}
        for name, points, took in (
            ("theirs", theirs, elapsed),
            ("ours", np.ascontiguousarray(ours["points"].transpose(0, 3, 1, 2)), seconds),
        ):
            judged = [lost(logits, y) for logits in outputs(points)]
            answers[name] = judged[0]
            beyond, outside = excess(points, images, norm, float(Fraction(radius)))
            counts = "/".join(str(int(row.sum())) for row in judged)
            print(
                f"  {name}: broken {counts} of {len(y)} (PyTorch single/double, onnxruntime), "
                f"beyond the ball {beyond:+.1e}, beyond [0, 1] {outside:+.1e}, {took:.0f} s"
            )
        own = np.array([not sample["robust"] for sample in samples])
        same = int((answers["theirs"] == answers["ours"]).sum())
        print(f"  the same answer for {same} of {len(y)} images; ours as tarrl says: {int((own == answers['ours']).sum())}")
        for i in np.flatnonzero(answers["theirs"] != answers["ours"]):
            who = "theirs" if answers["theirs"][i] else "ours"
            print(f"  image {index[i]} of class {y[i]}: broken by {who} alone")
        by = {}
        for sample in samples:
            if not sample["robust"]:
                attack = sample["broken_by"]["attack"]
                by[attack] = by.get(attack, 0) + 1
        print("  ours by attack:", ", ".join(f"{attack} {count}" for attack, count in by.items()))


if __name__ == "__main__":
    main()
