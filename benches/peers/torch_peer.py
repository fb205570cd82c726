"""The workloads of `cargo xtask bench` and `cargo xtask gpu-check`, in PyTorch on the CPU or a GPU.

Prints `ready` after warming up; then runs the workload once for each line of standard input and prints its seconds;
at the end of the input prints the peak of resident memory in millions of bytes and PyTorch's version.

Settings: `eager` as anybody would write it; `tuned` with channels last and, for inference, batch norm folded into the
convolutions; `compiled` as `tuned` and through torch.compile. The caller chooses the allocator by environment.
"""

import argparse
import copy
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

EPSILON, STEP, STEPS, TEMPERATURE = 8 / 255, 2 / 255, 5, 0.5


def conv_bn(inputs, outputs, kernel, stride):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class ConvSmall(nn.Module):
    shape, dim, batch = (1, 28, 28), 128, 256

    def __init__(self):
        super().__init__()
        plan = [(1, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2)]
        self.layers = nn.ModuleList(conv_bn(i, o, 3, s) for i, o, s in plan)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return x.mean((2, 3))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3, stride)
        self.second = conv_bn(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class ResNet18(nn.Module):
    shape, dim, batch = (3, 32, 32), 512, 64

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 64, 3, 1)
        plan = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        plan += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
        self.blocks = nn.Sequential(*(Block(*p) for p in plan))

    def forward(self, x):
        return self.blocks(F.relu(self.stem(x))).mean((2, 3))


def folded(model):
    """An inference copy with batch norm inside the convolutions and no gradient in the weights."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
    return model.requires_grad_(False)


def nt_xent(a, b):
    z = F.normalize(torch.cat([a, b]))
    n = len(a)
    similarities = (z @ z.T / TEMPERATURE).fill_diagonal_(-1e9)
    return F.cross_entropy(similarities, torch.arange(2 * n, device=z.device).roll(n))


def workload(activity, model, x, y, tuned, compiled):
    build = torch.compile if compiled else lambda f: f
    inference = folded if tuned else lambda m: copy.deepcopy(m).eval().requires_grad_(False)
    if activity == "forward":
        frozen = build(inference(model))

        def run():
            with torch.no_grad():
                return frozen(x)

    elif activity == "input-grad":
        frozen = build(inference(model))

        def run():
            u = x.detach().requires_grad_()
            return torch.autograd.grad(frozen(u).square().sum() / len(u), u)

    elif activity == "train":
        network = build(model.train())
        weights = list(model.parameters())

        def run():
            return torch.autograd.grad(network(x).square().sum() / len(x), weights)

    elif activity == "ssl-step":
        projector = nn.Sequential(
            nn.Linear(model.dim, model.dim, bias=False), nn.BatchNorm1d(model.dim), nn.ReLU(), nn.Linear(model.dim, 128)
        )
        projector = projector.to(x.device)
        network = build(model.train())
        head = build(projector)
        attacked = build(lambda frozen, u, z: (frozen(u) - z).square().sum())
        weights = [*model.parameters(), *projector.parameters()]
        optimizer = torch.optim.SGD(weights, lr=1e-3, momentum=0.9)

        def run():
            optimizer.zero_grad(set_to_none=True)
            n = len(x)
            h = network(torch.cat([x, y]))
            z = head(h)
            # Weights move every step: running statistics by buffers, folding would have to be repeated.
            model.eval().requires_grad_(False)
            with torch.no_grad():
                reference = network(x)
            u = (x + torch.empty_like(x).uniform_(-EPSILON, EPSILON)).clamp_(0, 1)
            for _ in range(STEPS):
                u.requires_grad_()
                (slope,) = torch.autograd.grad(attacked(network, u, reference), u)
                u = torch.min(torch.max(u.detach() + STEP * slope.sign(), x - EPSILON), x + EPSILON).clamp_(0, 1)
            model.train().requires_grad_(True)
            displacement = (network(u) - h[:n]).square().sum(1).mean()
            loss = nt_xent(z[:n], z[n:]) + displacement
            loss.backward()
            optimizer.step()
            return loss

    else:
        raise SystemExit(f"unknown activity {activity}")
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", required=True, help="ACTIVITY:ENCODER")
    parser.add_argument("--setting", choices=["eager", "tuned", "compiled"], default="eager")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of products and activations, on a GPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    activity, encoder = options.workload.split(":")
    model = {"conv-small": ConvSmall, "resnet18-cifar": ResNet18}[encoder]()
    x, y = torch.rand(2, options.batch or model.batch, *model.shape).to(options.device)
    model = model.to(options.device)
    # f32 means f32 here; the default would round the factors of convolutions to TF32.
    torch.backends.cudnn.allow_tf32 = False
    tuned = options.setting != "eager"
    if tuned:
        model = model.to(memory_format=torch.channels_last)
        x, y = (v.contiguous(memory_format=torch.channels_last) for v in (x, y))
    step = workload(activity, model, x, y, tuned, options.setting == "compiled")

    def run():
        with torch.autocast("cuda", torch.bfloat16, enabled=options.dtype == "bf16"):
            step()
        if options.device == "cuda":
            torch.cuda.synchronize()

    for _ in range(2):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, "PyTorch", torch.__version__, flush=True)


main()
