"""Train the convolutional teacher: a ResNet-18 whose last stage keeps stride 16 and 256 channels (5.3 M parameters).

    python teacher.py --data DIR --out teacher.pt [--epochs 22] [--device cuda]

Its class map (8 x 8 at 128 px) teaches the ViT's patch tokens as well as its CLS token. Resumable: run it again.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from data import cut_mix, load, normalise, views
from safetensors.torch import load_file
from torch import Tensor, nn


class Teacher(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        net = torchvision.models.resnet18(num_classes=10)
        net.inplanes = 256
        net.layer4 = net._make_layer(torchvision.models.resnet.BasicBlock, 256, 2)
        net.fc = nn.Linear(256, 10)
        self.net = net.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 256, h/16, w/16)"""
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(images.contiguous(memory_format=torch.channels_last)))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))

    def classes(self, features: Tensor) -> Tensor:
        """Features -> (n, 10, h/16, w/16) logits of each place; their mean is the image's logits."""
        return F.conv2d(features, self.net.fc.weight[:, :, None, None], self.net.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.classes(self.features(images)).mean((2, 3))


def read_teacher(path: Path, device: str) -> Teacher:
    """From a checkpoint of this script or from safetensors."""
    packed = path.suffix == ".safetensors"
    teacher = Teacher().to(device)
    teacher.load_state_dict(load_file(path) if packed else torch.load(path, weights_only=True)["model"])
    return teacher.eval()


@torch.inference_mode()
def accuracy(model: Teacher, images: Tensor, labels: Tensor, size: int, device: str) -> float:
    model.eval()
    hits = 0
    for i in range(0, len(images), 128):
        x = F.interpolate(normalise(images[i : i + 128].to(device)), size=(size, size), mode="bilinear", antialias=True)
        with torch.autocast(device, torch.bfloat16):
            logits = model(x) + model(x.flip(-1))
        hits += int((logits.argmax(1).cpu() == labels[i : i + 128]).sum())
    return hits / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("teacher.pt"))
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    images, labels = load(args.data, "train")
    val = load(args.data, "val")
    model = Teacher().to(args.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    first, batch = 0, 64
    if args.out.exists():
        saved = torch.load(args.out, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["epoch"] + 1
    steps = len(images) // batch
    for epoch in range(first, args.epochs):
        model.train()
        size = 96 if epoch < 0.6 * args.epochs else 128
        order, start, total = torch.randperm(len(images)), time.time(), 0.0
        for step in range(steps):
            progress = (epoch + step / steps) / args.epochs
            rate = 0.2 * min(progress / 0.2, 0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.2) / 0.8)) + 1e-4
            for group in optimiser.param_groups:
                group["lr"] = rate
            pick = order[step * batch : (step + 1) * batch]
            x, y = views(images[pick].to(args.device), size), labels[pick].to(args.device)
            other, share = y, 1.0
            if torch.rand(1) < 0.3 and progress < 0.9:
                x, shuffle, share = cut_mix(x)
                other = y[shuffle]
            with torch.autocast(args.device, torch.bfloat16):
                logits = model(x).float()
            loss = share * F.cross_entropy(logits, y, label_smoothing=0.1)
            loss = loss + (1 - share) * F.cross_entropy(logits, other, label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss)
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch}, args.out)
        top1 = accuracy(model, *val, size=128, device=args.device)
        seconds = time.time() - start
        print(f"epoch {epoch + 1}/{args.epochs}  loss {total / steps:.3f}  val {top1:.4f}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
