"""Files of PyTorch's two ONNX exporters through onnxruntime and through this program, and our own files through others.

Not part of the tests. Needs torch, onnx, onnxruntime, onnxscript and vnnlib, and two programs of this workspace:

    cargo build -p tarrl-interop --example forward --example checkpoints
    cargo build -p tarrl-cli
    mkdir encoders && target/debug/examples/checkpoints encoders
    python benches/peers/onnx_peer.py --forward target/debug/examples/forward --tarrl target/debug/tarrl \
        --encoders encoders/*.safetensors --side 32

Prints a table of the largest differences; fails if a file is refused or a difference is above its tolerance.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

# Sums of a few hundred terms of size one in f32, through up to eighteen layers.
TOLERANCE = 2e-5


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """The residual network of 18 layers for small images, on the sphere if asked."""

    def __init__(self, width=64, sphere=False):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2471, 0.2435, 0.2616]).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        layers, inputs = [], width
        for stage in range(4):
            for i in range(2):
                layers.append(Block(inputs, width << stage, 2 if stage and not i else 1))
                inputs = width << stage
        self.layers = nn.Sequential(*layers)
        self.sphere = sphere

    def forward(self, x):
        x = (x - self.mean) / self.std
        x = self.layers(F.relu(self.bn(self.stem(x)))).mean((2, 3))
        return F.normalize(x, dim=1) if self.sphere else x


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class ViT(nn.Module):
    """A vision transformer with its own attention, or with PyTorch's module of it."""

    def __init__(self, d=48, depth=3, heads=3, module=False):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, d))
        self.pos = nn.Parameter(torch.randn(1, 65, d))
        self.module = module
        make = lambda: nn.MultiheadAttention(d, heads, batch_first=True) if module else Attention(d, heads)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm1": nn.LayerNorm(d, eps=1e-6), "attn": make(), "norm2": nn.LayerNorm(d, eps=1e-6),
                "mlp": nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d)),
            }) for _ in range(depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for block in self.blocks:
            z = block["norm1"](x)
            x = x + (block["attn"](z, z, z, need_weights=False)[0] if self.module else block["attn"](z))
            x = x + block["mlp"](block["norm2"](x))
        return self.norm(x)[:, 0]


def convolutions():
    """Pools of every kind, grouped and dilated convolutions, the activations of mobile networks."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=4), nn.SiLU(), nn.Conv2d(16, 24, 1), nn.GroupNorm(4, 24),
        nn.Hardswish(), nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.Conv2d(24, 32, 3, padding=1), nn.LeakyReLU(0.1),
        nn.MaxPool2d(2, 2, ceil_mode=True), nn.Conv2d(32, 32, (3, 3), stride=1, padding="same"), nn.ELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 64), nn.BatchNorm1d(64), nn.PReLU(64), nn.Linear(64, 10))


def randomize(model, seed):
    """Statistics, scales and shifts that are no zeros and ones."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def ours(forward, model, x, d):
    with tempfile.TemporaryDirectory() as folder:
        images, output = pathlib.Path(folder, "x"), pathlib.Path(folder, "y")
        images.write_bytes(x.astype("<f4").tobytes())
        n, c, side, _ = x.shape
        done = subprocess.run([forward, model, str(n), str(c), str(side), images, output], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{model}: {done.stderr}")
        return np.frombuffer(output.read_bytes(), "<f4").reshape(n, d)


def exports(folder):
    """Every model by both exporters, with a fixed and with a free batch."""
    torch.manual_seed(0)
    models = {
        "resnet18": (ResNet18(16), [18, 20]), "resnet18 on the sphere": (ResNet18(16, True), [18]),
        "convolutions": (convolutions(), [17, 20]), "vit": (ViT(), [17, 20, 23]),
        "vit, MultiheadAttention": (ViT(module=True), [18]),
    }
    for name, (model, opsets) in models.items():
        randomize(model, 1)
        for opset in opsets:
            for dynamo in [True, False]:
                if not dynamo and opset > 20:
                    continue
                for free in [True, False]:
                    path = pathlib.Path(folder, f"{name} {opset} {dynamo} {free}.onnx")
                    x = torch.rand(3 if free else 2, 3, 32, 32)
                    extra = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo and free else {}
                    if not dynamo and free:
                        extra = {"dynamic_axes": {"x": {0: "batch"}}}
                    torch.onnx.export(model, (x,), path, dynamo=dynamo, opset_version=opset, input_names=["x"], verbose=False, **extra)
                    yield name, opset, dynamo, free, path, model, x


def foreign(arguments, folder):
    print("| model | opset | exporter | batch | to onnxruntime | to PyTorch |\n|---|---:|---|---|---:|---:|")
    worst = 0.0
    for name, opset, dynamo, free, path, model, x in exports(folder):
        images = x.numpy()
        session = onnxruntime.InferenceSession(str(path))
        theirs = session.run(None, {session.get_inputs()[0].name: images})[0]
        found = ours(arguments.forward, path, images, theirs.shape[1])
        with torch.no_grad():
            torchs = model(x).numpy()
        scale = max(1.0, np.abs(theirs).max())
        differences = [np.abs(found - other).max() / scale for other in (theirs, torchs)]
        worst = max(worst, *differences)
        exporter = "dynamo" if dynamo else "legacy"
        print(f"| {name} | {opset} | {exporter} | {'free' if free else 2} | {differences[0]:.1e} | {differences[1]:.1e} |", flush=True)
    if worst > TOLERANCE:
        sys.exit(f"a difference of {worst} is above {TOLERANCE}")


def own(arguments, folder):
    """Our files: the checker, onnxruntime beside the native encoder, the parser of VNN-LIB."""
    print("| encoder | batch | checker | onnxruntime to ours |\n|---|---|---|---:|")
    for encoder in arguments.encoders:
        for batch in ["one", "any"]:
            path = pathlib.Path(folder, f"{pathlib.Path(encoder).stem}-{batch}.onnx")
            subprocess.run([arguments.tarrl, "export", encoder, "--out", path, "--batch", batch, "--side", arguments.side], check=True, stdout=subprocess.DEVNULL)
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            shape = [d.dim_value or 3 for d in model.graph.input[0].type.tensor_type.shape.dim]
            x = np.random.default_rng(0).random(shape, dtype=np.float32)
            theirs = onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]
            found = ours(arguments.forward, encoder, x, theirs.shape[1])
            difference = np.abs(found - theirs).max() / max(1.0, np.abs(theirs).max())
            print(f"| {pathlib.Path(encoder).stem} | {batch} | accepts | {difference:.1e} |", flush=True)
            if difference > TOLERANCE:
                sys.exit("too far")


def queries(arguments):
    import vnnlib

    for folder in arguments.queries:
        files = sorted(pathlib.Path(folder, "vnnlib2").glob("*.vnnlib"))
        for path in files:
            vnnlib.parse_query_file(str(path))
        print(f"{folder}: the parser of VNN-LIB 2.0 accepts {len(files)} queries")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forward", required=True, help="the example `forward`")
    parser.add_argument("--tarrl", help="the program")
    parser.add_argument("--encoders", nargs="*", default=[], help="checkpoints of ours to export")
    parser.add_argument("--side", default="32", help="the side of the images of these encoders")
    parser.add_argument("--queries", nargs="*", default=[], help="folders that `tarrl export --vnnlib` wrote")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.encoders:
            own(arguments, folder)
        queries(arguments)
        foreign(arguments, folder)


if __name__ == "__main__":
    main()
