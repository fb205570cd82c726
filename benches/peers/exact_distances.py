"""Minimum-norm attacks on a linear classifier, where the least distance of every image is known: a table of
docs/attacks-compared.md.

Install beforehand (CPU is enough):
    pip install torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 foolbox==3.3.4 torchattacks==3.5.1 onnx==1.23.2
    pip install --no-deps adv-lib==0.2.8

The classifier has three classes and 48 inputs, drawn at random; forty images of 4 x 4 x 3 bytes. The least distance to
another class within the box [0, 1] is found in double precision: in l1 by the values with the largest weights first, in
l2 and l-infinity by bisection over the multiplier. Prints the table as Markdown; takes a minute on two cores.
`--export DIR` instead writes the classifier as head.json behind an encoder flat.onnx that only lays the values of an image
in a row, the images as images.npz and the least distances as least.json; docs/attacks-compared.md says how TARRL's rows
come from them.
"""

import argparse
import importlib.machinery
import importlib.util
import json
import logging
import math
import sys
import types
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
if importlib.util.find_spec("visdom") is None:
    sys.modules["visdom"] = types.ModuleType("visdom")
    sys.modules["visdom"].__spec__ = importlib.machinery.ModuleSpec("visdom", None)

import adv_lib.attacks as advlib
import foolbox
import numpy as np
import torch
import torchattacks
from foolbox import attacks as fool

CLASSES, INPUTS, IMAGES = 3, 48, 40


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(INPUTS, CLASSES)
        self.passes = 0

    def forward(self, x):
        self.passes += len(x)
        return self.linear(x.flatten(1))


def subject():
    torch.manual_seed(0)
    net = Classifier().eval()
    net.linear.weight.data = torch.randn(CLASSES, INPUTS)
    net.linear.bias.data = -net.linear.weight.data.sum(1) / 2
    x = torch.randint(0, 256, (IMAGES, 3, 4, 4)) / 255
    return net, x, net(x).argmax(1)


def least(net, x, y):
    """The least distance of every image in each norm."""
    weight, bias = net.linear.weight.detach().double().numpy(), net.linear.bias.detach().double().numpy()
    found = {norm: [] for norm in ("linf", "l2", "l1")}
    for u, label in zip(x.flatten(1).double().numpy(), y.tolist()):
        best = dict.fromkeys(found, math.inf)
        for other in range(CLASSES):
            if other == label:
                continue
            w = weight[other] - weight[label]
            gap = -(bias[other] - bias[label] + w @ u)
            room = np.where(w > 0, 1 - u, u)
            if np.abs(w) @ room < gap:
                continue
            rest, moved = gap, 0.0
            for i in np.argsort(-np.abs(w)):
                step = min(room[i], rest / abs(w[i]))
                rest, moved = rest - step * abs(w[i]), moved + step
            best["l1"] = min(best["l1"], moved)
            for norm, move in (("linf", lambda t: np.minimum(t, room)), ("l2", lambda t: np.minimum(t * np.abs(w), room))):
                low, high = 0.0, 1e6
                for _ in range(200):
                    middle = (low + high) / 2
                    low, high = (low, middle) if np.abs(w) @ move(middle) >= gap else (middle, high)
                distance = move(high).max() if norm == "linf" else np.linalg.norm(move(high))
                best[norm] = min(best[norm], distance)
        for norm in found:
            found[norm].append(float(best[norm]))
    return {norm: np.array(values) for norm, values in found.items()}


def rows(net, x, y):
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    of_foolbox = lambda attack: lambda: attack(model, x, y, epsilons=None)[1]
    of_advlib = lambda attack, **options: lambda: attack(net, x, y, **options)
    of_torchattacks = lambda attack, **options: lambda: attack(net, **options)(x, y)
    return [
        ("linf", "foolbox LInfFMN, defaults", of_foolbox(fool.LInfFMNAttack())),
        ("linf", "foolbox LinfDeepFool, defaults", of_foolbox(fool.LinfDeepFoolAttack())),
        ("linf", "adv-lib fmn, 300 steps", of_advlib(advlib.fmn, norm=math.inf, steps=300)),
        ("linf", "adv-lib pdpgd, 300 steps", of_advlib(advlib.pdpgd, norm=math.inf, num_steps=300)),
        ("l2", "foolbox L2FMN, defaults", of_foolbox(fool.L2FMNAttack())),
        ("l2", "foolbox DDN, defaults", of_foolbox(fool.DDNAttack())),
        ("l2", "foolbox L2DeepFool, defaults", of_foolbox(fool.L2DeepFoolAttack())),
        ("l2", "foolbox L2CarliniWagner, 5 searches of 200", of_foolbox(fool.L2CarliniWagnerAttack(binary_search_steps=5, steps=200))),
        ("l2", "torchattacks CW, defaults", of_torchattacks(torchattacks.CW)),
        ("l2", "torchattacks CW, c = 10, 1000 steps", of_torchattacks(torchattacks.CW, c=10, steps=1000)),
        ("l2", "torchattacks DeepFool, defaults", of_torchattacks(torchattacks.DeepFool)),
        ("l2", "adv-lib ddn, 300 steps", of_advlib(advlib.ddn, steps=300)),
        ("l2", "adv-lib fmn, 300 steps", of_advlib(advlib.fmn, norm=2, steps=300)),
        ("l2", "adv-lib alma, 300 steps", of_advlib(advlib.alma, distance="l2", num_steps=300)),
        ("l2", "adv-lib pdgd, 300 steps", of_advlib(advlib.pdgd, num_steps=300)),
        ("l2", "adv-lib sdf, defaults", of_advlib(advlib.sdf)),
        ("l1", "foolbox L1FMN, defaults", of_foolbox(fool.L1FMNAttack())),
        ("l1", "foolbox EAD, 4 searches of 200", of_foolbox(fool.EADAttack(binary_search_steps=4, steps=200))),
        ("l1", "adv-lib fmn, 300 steps", of_advlib(advlib.fmn, norm=1, steps=300)),
        ("l1", "adv-lib alma, 300 steps", of_advlib(advlib.alma, distance="l1", num_steps=300)),
        ("l1", "adv-lib pdpgd, 300 steps", of_advlib(advlib.pdpgd, norm=1, num_steps=300)),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path)
    folder = parser.parse_args().export
    net, x, y = subject()
    exact = least(net, x, y)
    if folder:
        import onnx
        from onnx import TensorProto, helper

        folder.mkdir(parents=True, exist_ok=True)
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        ends = [value("x", ["n", 3, 4, 4])], [value("y", ["n", INPUTS])]
        graph = helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "flat", *ends)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "flat.onnx")
        weight, bias = (tensor.detach().double().flatten().tolist() for tensor in (net.linear.weight, net.linear.bias))
        (folder / "head.json").write_text(json.dumps({"k": CLASSES, "d": INPUTS, "weight": weight, "bias": bias}))
        bytes_of = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        np.savez(folder / "images.npz", images=bytes_of, labels=y.numpy())
        (folder / "least.json").write_text(json.dumps({norm: values.tolist() for norm, values in exact.items()}))
        return
    print("| norm | attack | wrong in f32, of 40 | right again in f64 | distance over the least: median | largest | passes |")
    print("|---|---|---:|---:|---:|---:|---:|")
    order = {"linf": math.inf, "l2": 2, "l1": 1}
    for norm, name, attack in rows(net, x, y):
        net.passes = 0
        points = attack().detach()
        passes = net.passes / IMAGES
        wrong = net(points).argmax(1) != y
        double = points.flatten(1).double() @ net.linear.weight.detach().double().T + net.linear.bias.detach().double()
        lost = wrong & (double.argmax(1) == y)
        moved = torch.linalg.vector_norm((points.double() - x.double()).flatten(1), order[norm], dim=1).numpy()
        ratio = (moved / exact[norm])[wrong.numpy()]
        print(
            f"| {norm} | {name} | {int(wrong.sum())} | {int(lost.sum())} | {np.median(ratio):.3f} | {ratio.max():.3f} | {passes:.0f} |",
            flush=True,
        )


main()
