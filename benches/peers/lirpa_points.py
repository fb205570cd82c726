"""Points evaluated in double precision against the bounds of auto_LiRPA, which are in single, and of ours, in double.

Not part of the tests. Needs what `lirpa_peer.py` needs; one image takes about a second:

    python benches/peers/lirpa_points.py --lirpa auto_LiRPA --tarrl target/release/tarrl --encoder encoder.safetensors \
        --epsilon 0.000001 --epsilon 0.0001 --epsilon 1/255

For every radius `tarrl certify` and `tarrl export --vnnlib` write the network, the boxes and our bounds. The points are
corners of the box that every side has (ends rounded inwards to single precision): at random, and those of the signs of
the gradient of each feature, both ways. A feature is left outside if a point of an image exceeds its bound.

Encoders must end with an average, as the small ones do. What we certify multiplies its sum by a reciprocal in single
precision, as the encoder does; the ONNX file divides. So our bounds are asked about the one, theirs about the other.
"""

import argparse
import copy
import fractions
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import torch

from exported import version_of
from lirpa_peer import BOUND, GAP, claimed, network

RANDOM = 200


def inner_box(text, shape, epsilon):
    """The image of a query, and its box with ends rounded inwards to single precision."""
    ends = np.zeros((2, int(np.prod(shape))))
    for less, kind, i, value in BOUND.findall(text):
        if kind == "X":
            ends[int(less == "<"), int(i)] = float(value)
    # Ends are cut at 0 and 1, so that the image is at the distance of the radius from the other end.
    image = np.where(ends[0] > 0, ends[0] + epsilon, ends[1] - epsilon)
    low, high = ends.astype(np.float32)
    low = np.where(low < ends[0], np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > ends[1], np.nextafter(high, np.float32(-np.inf)), high)
    return [torch.from_numpy(row).view(shape) for row in (image, low, high)]


def corners(exact, low, high, draws):
    """Corners of the box: at random, and along the gradients of the features at the middle."""
    middle = ((low.double() + high.double()) / 2).requires_grad_()
    signs = [torch.sign(torch.randn((RANDOM, *low.shape[1:]), generator=draws))]
    for feature in exact(middle)[0]:
        slope = torch.autograd.grad(feature, middle, retain_graph=True)[0]
        signs += [torch.sign(slope).float(), -torch.sign(slope).float()]
    signs = torch.cat(signs)
    return torch.where(signs >= 0, high, low).double()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lirpa", type=pathlib.Path, help="folder of auto_LiRPA's repository")
    parser.add_argument("--tarrl", type=pathlib.Path, required=True)
    parser.add_argument("--encoder", type=pathlib.Path, required=True)
    parser.add_argument("--dataset", default="fashion-mnist-sample")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--epsilon", action="append", required=True)
    parser.add_argument("--method", action="append", help="of auto_LiRPA: IBP, CROWN, alpha-CROWN")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if arguments.lirpa:
        sys.path.insert(0, str(arguments.lirpa))
    import auto_LiRPA
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    print(f"auto_LiRPA {auto_LiRPA.__version__}, torch {torch.__version__}; {version_of(arguments.tarrl)}\n")
    print("| ε | bounds | images with a point outside | features outside | farthest beyond | median width of a feature |")
    print("|---|---|---:|---:|---:|---:|")
    for epsilon in arguments.epsilon:
        folder = pathlib.Path(tempfile.mkdtemp())
        common = ["--dataset", arguments.dataset, "--samples", arguments.samples]
        certified = folder / "certificates.safetensors"
        for run in (
            ["certify", arguments.encoder, "--epsilon", epsilon, *common, "--out", certified],
            ["export", arguments.encoder, "--certificates", certified, "--vnnlib", folder / "f", *common],
        ):
            subprocess.run(list(map(str, [arguments.tarrl, *run])), check=True, stdout=subprocess.DEVNULL)
        model = folder / "f/onnx/f.onnx"
        single = network(model)
        exact = copy.deepcopy(single).double()
        shape = [d.dim_value for d in onnx.load(model).graph.input[0].type.tensor_type.shape.dim]
        cells = exact[:-2](torch.zeros(shape).double())[0, 0].numel()
        ours = float(np.float32(1 / cells)) * cells
        beyond, widths = {}, {}
        draws = torch.Generator().manual_seed(0)
        for query in sorted((folder / "f/vnnlib1").glob("*.vnnlib")):
            text = query.read_text()
            image, low, high = inner_box(text, shape, float(fractions.Fraction(epsilon)))
            values = exact(corners(exact, low, high, draws)).detach().numpy()
            ends = np.array([values.min(0), values.max(0)])
            far, near = claimed(text, values.shape[1])
            gap = GAP * np.maximum(np.abs(ours * exact(image)[0].detach().numpy()), 1.0)
            bounds = {"tarrl certify": (far + gap, near - gap)}
            for method in arguments.method or ["IBP", "CROWN"]:
                x = BoundedTensor((low + high) / 2, PerturbationLpNorm(norm=np.inf, x_L=low, x_U=high))
                found = BoundedModule(single, x.detach(), device="cpu").compute_bounds(x=(x,), method=method)
                bounds[method] = [bound[0].detach().double().numpy() for bound in found]
            for name, (least, most) in bounds.items():
                reached = ends * (ours if name == "tarrl certify" else 1.0)
                beyond.setdefault(name, []).append(np.maximum(least - reached[0], reached[1] - most))
                widths.setdefault(name, []).append(most - least)
        for name, rows in beyond.items():
            rows = np.array(rows)
            outside = f"{(rows > 0).any(1).sum()} of {len(rows)} | {(rows > 0).sum()} of {rows.size}"
            farthest = f"{rows.max():.1e}" if rows.max() > 0 else "inside"
            print(f"| {epsilon} | {name} | {outside} | {farthest} | {np.median(widths[name]):.3g} |")


if __name__ == "__main__":
    main()
