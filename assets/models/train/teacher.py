"""Train the convolutional teacher: a ResNet-18 whose last stage keeps stride 16 and 256 channels (5.3 M parameters).

    python teacher.py --data DIR --out teacher.pt [--epochs 22] [--device cuda]

Its class map (8 x 8 at 128 px) teaches the ViT's patch tokens as well as its CLS token. Resumable: run it again.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from data import class_loss, load, mixed, normalise
from loop import Run, accuracy, descend, fall, parser, require, set_rate
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

    def shallow(self, images: Tensor) -> Tensor:
        """What the second stage sees. (n, 3, h, w) -> (n, 128, h/8, w/8)"""
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(images.contiguous(memory_format=torch.channels_last)))))
        return net.layer2(net.layer1(x))

    def features(self, images: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, 256, h/16, w/16)"""
        return self.net.layer4(self.net.layer3(self.shallow(images)))

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


def divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """How far a student's classes are from the teacher's: KL, mean over the first axis. Both (n, classes)"""
    return F.kl_div(logits.log_softmax(1), taught.log_softmax(1), log_target=True, reduction="batchmean")


def main() -> None:
    command = parser(__doc__)
    require(command, "data")
    command.add_argument("--out", type=Path, default=Path("teacher.pt"))
    command.add_argument("--epochs", type=int, default=22)
    args = command.parse_args()

    images, labels = load(args.data, "train")
    val_images, val_labels = load(args.data, "val")
    model = Teacher().to(args.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    run = Run(args.out, count=len(images), batch=64, epochs=args.epochs)
    run.keep(model=model, optimiser=optimiser)

    def classify(x: Tensor) -> Tensor:
        """By each image and its mirror image."""
        x = F.interpolate(normalise(x), size=(128, 128), mode="bilinear", antialias=True)
        with torch.autocast(args.device, torch.bfloat16):
            return model(x) + model(x.flip(-1))

    def report() -> str:
        model.eval()
        return f"val {accuracy(classify, val_images, val_labels, args.device):.4f}"

    for now in run.steps(report):
        model.train()
        set_rate(optimiser, 0.2 * min(now.progress / 0.2, fall(now.progress, 0.2)) + 1e-4)
        size = 96 if now.step // run.per_epoch < 0.6 * args.epochs else 128
        chance = 0.3 if now.progress < 0.9 else 0.0
        batch = mixed(images[now.pick].to(args.device), labels[now.pick].to(args.device), size, chance)
        with torch.autocast(args.device, torch.bfloat16):
            logits = model(batch.images).float()
        loss = class_loss(logits, batch)
        descend(loss, optimiser)
        run.note(loss)


if __name__ == "__main__":
    main()
