"""auto_LiRPA on the networks that we exported, beside our certificates: the same boxes, both sides' bounds and seconds.

Not part of the tests. Needs torch, onnx and auto_LiRPA; its package index has 0.3, which wants an old torch, so `--lirpa`
takes the folder of its repository:

    pip install torch onnx appdirs tqdm pyyaml graphviz packaging ninja psutil sortedcontainers
    python benches/peers/lirpa_peer.py --lirpa auto_LiRPA --tarrl target/release/tarrl \
        --encoder plain/encoder.safetensors --head page/jobs/KEY/head.safetensors --epsilon 1/255 --epsilon 2/255

What is compared is what `tarrl certify` and `tarrl export --vnnlib` wrote, read by this script alone: the network from the
ONNX file, box and bounds from the queries. Seconds are those of a processor, of which both programs get one; ours are with
the attack that `tarrl certify` runs beside. `confirmed` counts the queries that the bounds
of auto_LiRPA answer by `unsat`: all of its bounds lie inside of ours, widened by the gap of a query. The distance is that of
the farthest corner of the box of features. Bounds of auto_LiRPA are those of real arithmetic computed in single
precision, without a claim about rounding.
"""

import argparse
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from exported import test_images, version_of

# How far beyond a certified bound a query looks, relative to the feature and at least absolutely.
GAP = 1e-4


def of_channels(op, value):
    """A product or a sum with a constant of each channel, as a convolution, which auto_LiRPA takes anywhere."""
    layer = nn.Conv2d(value.numel(), value.numel(), 1, groups=value.numel(), bias=op == "Add")
    constant = layer.bias if op == "Add" else layer.weight
    layer.weight.data.fill_(1.0)
    constant.data = value.reshape(constant.shape)
    return layer


def network(path):
    """The network of an ONNX file as PyTorch modules: constants, convolutions with ReLU, a global average, a matrix."""
    graph = onnx.load(path).graph
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    layers = []
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type in ("Conv", "Gemm"):
            weight = values[node.input[1]]
            bias = values[node.input[2]] if len(node.input) > 2 else None
            if node.op_type == "Conv":
                padding = attributes["pads"][:2]
                layer = nn.Conv2d(
                    weight.shape[1] * attributes.get("group", 1), len(weight), weight.shape[2:], attributes["strides"],
                    padding, groups=attributes.get("group", 1), bias=bias is not None,
                )
            else:
                layer = nn.Linear(weight.shape[1], len(weight), bias=bias is not None)
            layer.weight.data = weight
            if bias is not None:
                layer.bias.data = bias
        elif node.op_type in ("Mul", "Add"):
            layer = of_channels(node.op_type, values[node.input[1]])
        else:
            layer = {"Relu": nn.ReLU, "GlobalAveragePool": lambda: nn.AdaptiveAvgPool2d(1), "Flatten": nn.Flatten}[
                node.op_type
            ]()
        layers.append(layer)
    return nn.Sequential(*layers).eval()


BOUND = re.compile(r"\(([<>])= ([XY])_(\d+) (-?[0-9.]+(?:[eE]-?\d+)?)\)")


def box(text, shape):
    """Least and largest pixels of a query."""
    ends = np.zeros((2, int(np.prod(shape))))
    for less, kind, i, value in BOUND.findall(text):
        if kind == "X":
            ends[int(less == "<"), int(i)] = float(value)
    return [torch.from_numpy(row.astype(np.float32)).view(shape) for row in ends]


def claimed(text, features):
    """The interval of each feature that a query looks beyond."""
    ends = np.zeros((2, features))
    for less, kind, i, value in BOUND.findall(text):
        if kind == "Y":
            ends[int(less == ">"), int(i)] = float(value)
    return ends


def children():
    """Seconds of a processor that the programs run from here took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def certificates(arguments, epsilon, folder):
    """Queries of features and of classes by image, the ONNX files, and seconds of an image."""
    tarrl, common = arguments.tarrl, ["--dataset", arguments.dataset, "--samples", arguments.samples]
    certified = folder / "certificates.safetensors"
    begin = children()
    run = [tarrl, "certify", arguments.encoder, "--epsilon", epsilon, *common, "--out", certified]
    said = subprocess.run(list(map(str, run)), check=True, capture_output=True, text=True).stdout
    seconds = (children() - begin) / arguments.samples
    queries = {}
    for name, head in (("features", []), ("classes", ["--head", arguments.head])):
        run = [tarrl, "export", arguments.encoder, "--certificates", certified, "--vnnlib", folder / name, *common, *head]
        subprocess.run(list(map(str, run)), check=True, stdout=subprocess.DEVNULL)
        found = sorted((folder / name / "vnnlib1").glob("*.vnnlib"))
        queries[name] = {path.stem: path.read_text() for path in found}
    return queries, said.splitlines()[0], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lirpa", type=pathlib.Path, help="folder of auto_LiRPA's repository")
    parser.add_argument("--tarrl", type=pathlib.Path, required=True)
    parser.add_argument("--encoder", type=pathlib.Path, required=True)
    parser.add_argument("--head", type=pathlib.Path, required=True)
    parser.add_argument("--dataset", default="fashion-mnist-sample")
    parser.add_argument("--files", type=pathlib.Path, default=pathlib.Path("datasets/fashion-mnist-sample"))
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--epsilon", action="append")
    parser.add_argument("--method", action="append", help="of auto_LiRPA: IBP, CROWN, alpha-CROWN")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.lirpa:
        sys.path.insert(0, str(arguments.lirpa))
    import auto_LiRPA
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    # The first core that this process may use, for both programs.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    print(f"auto_LiRPA {auto_LiRPA.__version__}, torch {torch.__version__}; {version_of(arguments.tarrl)}")
    _, labels = test_images(arguments.files)
    for epsilon in arguments.epsilon or ["1/255"]:
        folder = pathlib.Path(tempfile.mkdtemp())
        queries, said, seconds = certificates(arguments, epsilon, folder)
        encoder, classifier = (network(folder / name / "onnx" / "f.onnx") for name in ("features", "classes"))
        shape = [d.dim_value for d in onnx.load(folder / "features/onnx/f.onnx").graph.input[0].type.tensor_type.shape.dim]
        boxes = {name: box(text, shape) for name, text in queries["features"].items()}
        clean = {name: encoder((low + high) / 2)[0].detach().double().numpy() for name, (low, high) in boxes.items()}
        ours = {}
        for name, text in queries["features"].items():
            gap = GAP * np.maximum(np.abs(clean[name]), 1.0)
            low, high = claimed(text, len(gap))
            ours[name] = (low + gap, high - gap, low, high)
        reach = lambda low, high, z: np.sqrt((np.maximum(np.abs(high - z), np.abs(z - low)) ** 2).sum())
        distances = {name: reach(low, high, clean[name]) for name, (low, high, *_) in ours.items()}
        print(f"\nε = {epsilon}, {len(boxes)} images")
        print("| | seconds an image | width of a feature, median | distance, median | queries confirmed | classes certified |")
        print("|---|---:|---:|---:|---:|---:|")
        widths = np.concatenate([high - low for low, high, *_ in ours.values()])
        row = lambda *cells: print("| " + " | ".join(cells) + " |")
        median = lambda values: f"{np.median(list(values)):.4f}"
        row("tarrl certify", f"{seconds:.2f}", median(widths), median(distances.values()), "", str(len(queries["classes"])))
        for method in arguments.method or ["IBP", "CROWN", "alpha-CROWN"]:
            found, took, certain = {}, [], 0
            for name, (low, high) in boxes.items():
                x = BoundedTensor((low + high) / 2, PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high))
                begin = time.process_time()
                bounds = BoundedModule(encoder, x.detach(), device="cpu").compute_bounds(x=(x,), method=method)
                took.append(time.process_time() - begin)
                found[name] = [bound[0].detach().double().numpy() for bound in bounds]
                # Is the label ahead of every other class?
                label, classes = int(labels[int(name.split("-")[1])]), len(classifier[-1].bias)
                others = [j for j in range(classes) if j != label]
                margins = torch.zeros(1, len(others), classes)
                margins[0, range(len(others)), others] = -1.0
                margins[0, :, label] = 1.0
                least = BoundedModule(classifier, x.detach(), device="cpu").compute_bounds(
                    x=(x,), C=margins, method=method, bound_upper=False
                )[0]
                certain += int(least.min() > 0)
            confirmed = sum(
                (found[name][0] > low).all() and (found[name][1] < high).all() for name, (_, _, low, high) in ours.items()
            )
            row(
                method, f"{np.mean(took):.2f}", median(np.concatenate([u - l for l, u in found.values()])),
                median(reach(*found[name], clean[name]) for name in found), f"{confirmed} of {len(ours)}", str(certain),
            )
        print(said)


if __name__ == "__main__":
    main()
