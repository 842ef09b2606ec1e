"""What the training scripts share: their arguments, the loop over steps, rates, a running mean, checkpoints."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer


class Stateful(Protocol):
    """A module, an optimiser, a schedule: what says and takes back its state."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


@dataclass(frozen=True)
class Moment:
    """One step of a run."""

    step: int  # from 0
    progress: float  # share of the run that is over, 0..1
    pick: Tensor  # (batch,) int64, which items are learned from


class Run:
    """Steps over items in random order, for minutes, whatever the machine, or for epochs; goes on where it stopped.

    An epoch leaves out the items that fill no batch; fewer items than a batch are a batch. A checkpoint is written
    every so many epochs and at the end.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        count: int,
        batch: int,
        minutes: float = math.inf,
        epochs: float = math.inf,
        every: int = 1,
    ) -> None:
        self.checkpoint, self.count, self.batch = checkpoint, count, min(batch, count)
        self.minutes, self.epochs, self.every = minutes, epochs, every
        self.per_epoch = count // self.batch
        self._kept: dict[str, Stateful] = {}
        self._step, self._spent = 0, 0.0
        self._losses: list[float] = []

    def keep(self, **kept: Stateful) -> None:
        """Name what a checkpoint holds beside the step and the minutes; where there is one, it is read."""
        self._kept = kept
        if self.checkpoint.exists():
            saved = torch.load(self.checkpoint, weights_only=True)
            for name, item in kept.items():
                item.load_state_dict(saved[name])
            self._step, self._spent = saved["step"], saved["minutes"]

    def steps(self, report: Callable[[], str]) -> Iterator[Moment]:
        """The steps that are left. `report` is called at each checkpoint and at the end; what it returns is printed."""
        began = time.monotonic() - 60 * self._spent
        order = torch.empty(0, dtype=torch.long)
        progress = self._progress()
        if progress >= 1:
            self._tell(progress, report)
        while progress < 1:
            if len(order) < self.batch:
                order = torch.randperm(self.count)
            pick, order = order[: self.batch], order[self.batch :]
            yield Moment(self._step, progress, pick)
            self._step += 1
            self._spent = (time.monotonic() - began) / 60
            progress = self._progress()
            if self._step % (self.every * self.per_epoch) == 0 or progress >= 1:
                self._save()
                self._tell(progress, report)
            elif self._step % 20 == 0:
                print(f"\r{progress:.0%}  step {self._step}", end="", flush=True)

    def note(self, loss: Tensor) -> None:
        """Count a step's loss in the mean that the next report tells."""
        self._losses.append(float(loss.detach()))

    def _progress(self) -> float:
        return min(1.0, max(self._spent / self.minutes, self._step / self.per_epoch / self.epochs))

    def _tell(self, progress: float, report: Callable[[], str]) -> None:
        said = [f"{progress:.0%}", f"{self._spent:.0f} min", f"epoch {self._step / self.per_epoch:.1f}"]
        if self._losses:
            said.append(f"loss {sum(self._losses) / len(self._losses):.3f}")
            self._losses.clear()
        print("\r" + "  ".join(filter(None, [*said, report()])), flush=True)

    def _save(self) -> None:
        state = {name: item.state_dict() for name, item in self._kept.items()}
        unfinished = self.checkpoint.with_suffix(".part")
        torch.save({**state, "step": self._step, "minutes": self._spent}, unfinished)
        unfinished.replace(self.checkpoint)


def descend(loss: Tensor, optimiser: Optimizer, *, clip: float | None = None) -> None:
    """One step down the loss's gradient, whose norm is at most `clip`."""
    optimiser.zero_grad()
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
    optimiser.step()


def to_fast(master: nn.Module, fast: nn.Module) -> None:
    """Copy float32 weights to those of lower precision that a step runs with."""
    for slow, quick in zip(master.parameters(), fast.parameters(), strict=True):
        quick.data.copy_(slow.data)


def to_master(fast: nn.Module, master: nn.Module, *, clip: float = 1.0) -> None:
    """Move the gradients of a step to the float32 weights, whose norm is then at most `clip`."""
    for slow, quick in zip(master.parameters(), fast.parameters(), strict=True):
        slow.grad = None if quick.grad is None else quick.grad.float()
        quick.grad = None
    nn.utils.clip_grad_norm_(master.parameters(), clip)


def adamw(model: nn.Module, rate: float) -> AdamW:
    """AdamW of what is not frozen, in which matrices and filters decay; biases and what scales do not."""
    learning = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in learning if p.ndim > 1]
    plain = [p for p in learning if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    return AdamW(groups, lr=rate, betas=(0.9, 0.99))


def set_rate(optimiser: Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def rise(step: int, steps: int) -> float:
    """Up to 1 in the first steps. -> 0..1"""
    return min(1.0, (step + 1) / steps)


def fall(progress: float, start: float) -> float:
    """1 until a share of the run, then along half a cosine down to 0 at its end. -> 0..1"""
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, progress - start) / (1 - start)))


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, step: int) -> None:
    """Draw a running mean of the weights towards those of now: nearly all the way at first, 0.2 % a step at last."""
    share = 1 - min(0.998, (step + 1) / (step + 20))
    for running, now in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if running.is_floating_point():
            running.lerp_(now, share)


@torch.inference_mode()
def accuracy(classify: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, device: str) -> float:
    """Share of images whose class has the highest logit. uint8 (n, 3, 224, 224) -> `classify` -> (n, classes)"""
    parts = zip(images.split(64), labels.split(64), strict=True)
    hits = sum(int((classify(part.to(device)).argmax(1).cpu() == true).sum()) for part, true in parts)
    return hits / len(images)


def parser(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def require(command: argparse.ArgumentParser, *paths: str) -> None:
    """Give a command the paths that it needs, and the device to run on."""
    for name in paths:
        command.add_argument(f"--{name}", type=Path, required=True)
    command.add_argument("--device", default="cpu")
