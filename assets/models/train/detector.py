"""Train the embedded YOLO12n on Imagenette, which has no boxes: first as a classifier, then on the boxes of `boxes.py`.

    python detector.py begin --data DIR --teacher teacher.safetensors --out RUN [--minutes 30]
    python detector.py train --boxes BOXES --start RUN/begun.safetensors --out RUN/first [--minutes 60]
    python detector.py relabel --data DIR --boxes BOXES --weights RUN/first/detector.safetensors --out AGREED
    python sift.py --data DIR --teacher teacher.safetensors --boxes AGREED --out SIFTED
    python paste.py --data DIR --teacher teacher.safetensors --boxes AGREED --sifted SIFTED --out PASTED
    python detector.py train --boxes PASTED --start RUN/first/detector.safetensors --size 224 --out RUN/second
    python detector.py mean --first RUN/first/detector.safetensors --second RUN/second/detector.safetensors --out FILE
    python detector.py measure --data DIR --drawn ../../../tests/imagenette_boxes*.json [--weights FILE]

`begin` teaches backbone and neck what the convolutional teacher knows of the same augmented view: its class
probabilities, its class map (from the neck at stride 16) and its features (from the backbone at stride 16). `train` is
ultralytics' own trainer. Both take the minutes given, whatever the machine, and go on when they are run again.
`relabel` keeps the images on which the detector and the proposals agree, with the mean of both boxes. `mean` is that of
two stages' weights. `measure` makes the card's tables, one for each set of boxes drawn by hand. Each takes
`--device cuda` too.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from boxes import iou, label_files, read_boxes, read_checks, read_unclear, start_data_set, write_one
from data import LABELS, class_loss, load, mixed, normalise
from loop import Run, accuracy, adamw, descend, fall, follow, parser, require, rise, set_rate
from precision import quality, recalled
from safetensors.torch import load_file, save_file
from teacher import divergence, read_teacher
from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.nms import non_max_suppression

SHIPPED = Path(__file__).parents[1] / "yolo12n-imagenette"
STRIDE_16, NECK = 6, (17, 20)  # layers: backbone at stride 16; neck at strides 16 and 32


def new_model() -> DetectionModel:
    model = DetectionModel(yaml.safe_load((SHIPPED / "model.yaml").read_text()), verbose=False)
    model.names = dict(enumerate(LABELS))
    return model


def save(model: nn.Module, path: Path) -> None:
    """Weights as float16."""
    weights = {key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()}
    save_file({key: v.contiguous() for key, v in weights.items()}, path)


class Begun(nn.Module):
    """The detector without its head, and what only this stage needs: readings as classes and as teacher's features."""

    def __init__(self) -> None:
        super().__init__()
        self.yolo = new_model()
        self.image = nn.Linear(128 + 256, len(LABELS))
        self.places = nn.Conv2d(128, len(LABELS), 1)
        self.features = nn.Conv2d(128, 256, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, 3, h, w) in 0..1 -> logits (n, 10), class map (n, 10, h/16, w/16), features (n, 256, h/16, w/16)."""
        outputs: list[Tensor] = []
        x = images
        for layer in self.yolo.model[:-1]:
            x = layer(x if layer.f == -1 else [x if i == -1 else outputs[i] for i in layer.f])
            outputs.append(x)
        fine, coarse = (outputs[i] for i in NECK)
        pooled = torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1)
        return self.image(pooled), self.places(fine), self.features(outputs[STRIDE_16])


def begin(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    images, labels = load(args.data, "train")
    val_images, val_labels = (part[::5] for part in load(args.data, "val"))
    teacher = read_teacher(args.teacher, args.device).bfloat16()
    model, mean = (Begun().to(args.device).to(memory_format=torch.channels_last) for _ in range(2))
    mean.load_state_dict(model.state_dict())
    mean.eval()
    optimiser = adamw(model, args.rate)
    run = Run(args.out / "begin.pt", count=len(images), batch=args.batch, minutes=args.minutes)
    run.keep(model=model, mean=mean, optimiser=optimiser)
    black, white = (normalise(torch.full((1, 3, 1, 1), v)).to(args.device) for v in (0, 255))

    def classify(x: Tensor) -> Tensor:
        return mean(F.interpolate(x.float() / 255, size=(args.size, args.size), mode="bilinear"))[0]

    def report() -> str:
        save(mean.yolo, args.out / "begun.safetensors")
        return f"val {accuracy(classify, val_images, val_labels, args.device):.3f}"

    model.train()
    for now in run.steps(report):
        set_rate(optimiser, args.rate * rise(now.step, 200) * fall(now.progress, 0.2) + 1e-5)
        chance = 0.3 if now.progress < 0.9 else 0.0
        batch = mixed(images[now.pick].to(args.device), labels[now.pick].to(args.device), args.size, chance)
        with torch.no_grad():
            features = teacher.features(batch.images.bfloat16())
            taught = teacher.classes(features).float()
        x = (batch.images - black) / (white - black)
        logits, places, looks = model(x.contiguous(memory_format=torch.channels_last))
        soft = divergence(logits, taught.mean((2, 3)))
        dense = divergence(places.movedim(1, -1).flatten(0, 2), taught.movedim(1, -1).flatten(0, 2))
        guided = F.mse_loss(looks.movedim(1, -1), F.layer_norm(features.float().movedim(1, -1), (256,)))
        loss = 0.3 * class_loss(logits, batch) + soft + 0.5 * dense + 0.5 * guided
        descend(loss, optimiser, clip=5.0)
        follow(mean, model, now.step)
        run.note(loss)


class Trainer(DetectionTrainer):
    """ultralytics' trainer, from weights of ours; the running mean is saved as float16 safetensors each epoch."""

    start: Path

    def get_model(self, cfg: object = None, weights: nn.Module | None = None, verbose: bool = False) -> DetectionModel:
        torch.set_num_threads(os.cpu_count() or 1)  # ultralytics leaves one idle
        model = new_model()
        model.load_state_dict(weights.float().state_dict() if weights is not None else load_file(self.start))
        return model.to(memory_format=torch.channels_last)

    def save_model(self) -> bool:
        save(self.ema.ema, Path(self.args.save_dir) / "detector.safetensors")
        return super().save_model()


def train(args: argparse.Namespace) -> None:
    last = args.out / "weights" / "last.pt"
    going_on = last.exists() and torch.load(last, weights_only=False)["epoch"] >= 0  # -1: it came to its end
    Trainer.start = args.start
    trainer = Trainer(
        overrides={
            "model": str(last if going_on else SHIPPED / "model.yaml"),
            "resume": str(last) if going_on else False,
            "data": str(args.boxes / "data.yaml"),
            "project": str(args.out.parent.resolve()),
            "name": args.out.name,
            "exist_ok": True,
            "time": args.minutes / 60,
            "imgsz": args.size,
            "batch": args.batch,
            "nbs": args.batch,  # a step each batch
            "freeze": args.freeze,
            "cls": 1.0,  # the classes lag behind the boxes
            "device": args.device,
            "optimizer": "AdamW",
            "lr0": args.rate,
            "lrf": 0.02,
            "cos_lr": True,
            "warmup_epochs": 0.5,
            "warmup_bias_lr": 0.0,
            "mosaic": args.mosaic,
            "close_mosaic": 1,
            "cache": "ram",
            "amp": False,
            "val": False,
            "plots": False,
            "patience": 0,
        }
    )
    trainer.train()


def read(weights: Path, device: str) -> DetectionModel:
    model = new_model()
    model.load_state_dict(load_file(weights))
    return model.eval().to(device)


@torch.no_grad()
def detections(model: DetectionModel, images: Tensor, size: int, threshold: float) -> list[np.ndarray]:
    """uint8 (n, 3, 224, 224) -> for each (k, 6): corners in px of 224, confidence, class; the most confident first."""
    device = next(model.parameters()).device
    x = images.to(device).float() / 255
    if size != x.shape[-1]:
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    found = non_max_suppression(model(x)[0], conf_thres=threshold, iou_thres=0.6)
    scale = np.array([224 / size] * 4 + [1, 1])
    return [rows.double().cpu().numpy() * scale for rows in found]


def relabel(args: argparse.Namespace) -> None:
    """Where the detector's most confident box of the image's class agrees with the box proposed, their mean."""
    model = read(args.weights, args.device)
    images, labels = load(args.data, "train")
    start_data_set(args.out)
    proposed = label_files(args.boxes)
    kept = 0
    for i in range(0, len(proposed), 64):
        files = proposed[i : i + 64]
        names = [int(path.stem) for path in files]
        for n, path, rows in zip(names, files, detections(model, images[names], args.size, 0.05), strict=True):
            boxes = agreed(rows[rows[:, 5] == int(labels[n])], read_boxes(path))
            if len(boxes):
                write_one(args.out, n, images[n].permute(1, 2, 0).numpy(), int(labels[n]), boxes)
                kept += 1
        print(f"\r{i + len(files)} of {len(proposed)} images: {kept} on which both agree", end="", flush=True)
    print()


def agreed(rows: np.ndarray, proposed: np.ndarray, needed: float = 0.5) -> np.ndarray:
    """Means of detections and the boxes proposed at an IoU ≥ needed; none unless the first of both agree.

    (n, 6), the most confident first, and (k, 4), the most heat first -> (m, 4), px
    """
    rows = rows[rows[:, 4] >= rows[:1, 4].max(initial=0) / 2]  # further objects, about as sure
    if not len(rows) or iou(rows[:1, :4], proposed[:1])[0, 0] < needed:
        return np.empty((0, 4))
    overlap = iou(proposed, rows[:, :4])
    near = overlap.max(1) >= needed
    return (proposed[near] + rows[overlap.argmax(1)[near], :4].clip(0, 224)) / 2


def mean(args: argparse.Namespace) -> None:
    """The mean of one lineage's weights, `--share` the second's, is often better than both (Wortsman et al. 2022)."""
    model, other = read(args.first, "cpu"), read(args.second, "cpu").state_dict()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.lerp_(other[name], args.share)
    save(model, args.out)


def measure(args: argparse.Namespace) -> None:
    """The table of the card, of each file of boxes by itself; then the class of the top box of all images."""
    model = read(args.weights, args.device)
    for path in args.drawn:
        images, labels, drawn = read_checks(args.data, path)
        unclear = read_unclear(path)
        print(f"{path.name}: {len(images)} images, {sum(len(boxes) for boxes in drawn)} boxes")
        print("| size | mAP50 | class of the top box | its place |\n|---|---|---|---|")
        for size in (128, 160, 192, 224):
            found = detections(model, images, size, 0.001)
            print(*quality(f"{size} px", found, drawn, labels), recalled(found, drawn, labels), sep="\n", flush=True)
            found_in, there = scenes(model, images, labels, drawn, size)
            print(f"  in scenes of two to four of the images: {found_in} of {there} found", flush=True)
        if unclear.any():  # of the last size, the one that ships
            clear = np.flatnonzero(~unclear)
            name = f"{size} px, without {unclear.sum()} unclear images"
            print(*quality(name, [found[k] for k in clear], [drawn[k] for k in clear], labels[clear]), sep="\n")
    images, labels = load(args.data, "val")
    right = 0
    for i in range(0, len(images), 64):
        found = detections(model, images[i : i + 64], 224, 0.01)
        right += sum(
            len(r) > 0 and r[0, 5] == label for r, label in zip(found, labels[i : i + 64].tolist(), strict=True)
        )
    print(f"class of the top box, all {len(images)} validation images at 224 px: {right / len(images):.1%}")


def scenes(
    model: DetectionModel, images: Tensor, labels: Tensor, drawn: list[np.ndarray], size: int
) -> tuple[int, int]:
    """Eight scenes put together from two to four images -> how many of these are found in them, and how many there are.

    Found: a box of the image's class, above 0.2, overlaps one drawn with an IoU of 0.5 at least.
    """
    rng, found, total = np.random.default_rng(3), 0, 0
    for count in (2, 2, 3, 3, 4, 4, 4, 4):
        scene = torch.full((1, 3, 224, 224), 114, dtype=torch.uint8)
        parts = []
        for place, k in enumerate(rng.choice(len(images), count, replace=False)):
            x, y = place % 2 * 112, place // 2 * 112 if count > 2 else 56
            small = F.interpolate(images[k : k + 1].float(), size=(112, 112), mode="area")
            scene[:, :, y : y + 112, x : x + 112] = small.round().byte()
            parts.append((int(labels[k]), drawn[k] / 2 + [x, y, x, y]))
        [rows] = detections(model, scene, size, 0.2)
        found += sum(bool((iou(rows[rows[:, 5] == label, :4], boxes) >= 0.5).any()) for label, boxes in parts)
        total += count
    return found, total


def main() -> None:
    script = parser(__doc__)
    steps = script.add_subparsers(required=True)
    for run, paths, values in (
        (begin, ("data", "teacher", "out"), {"minutes": 30.0, "size": 128, "batch": 64, "rate": 2e-3}),
        (
            train,
            ("boxes", "start", "out"),
            {"minutes": 60.0, "size": 128, "batch": 16, "rate": 1e-3, "mosaic": 0.5, "freeze": 0},
        ),
        (relabel, ("data", "boxes", "weights", "out"), {"size": 224}),
        (mean, ("first", "second", "out"), {"share": 0.5}),
        (measure, ("data",), {"weights": SHIPPED / "model.safetensors"}),
    ):
        command = steps.add_parser(run.__name__)
        command.set_defaults(run=run)
        require(command, *paths)
        for name, value in values.items():
            command.add_argument(f"--{name}", type=Path if isinstance(value, Path) else type(value), default=value)
        if run is measure:
            command.add_argument(
                "--drawn", type=Path, nargs="+", required=True, help="boxes drawn by hand, sets of them"
            )
    args = script.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
