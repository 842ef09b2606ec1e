"""What the trained tower sees of many scenes, from which the Llama's lessons are put together.

A view is seen alone, and so quarters of different scenes make new scenes; what the whole looked like is then not known,
and left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from llava import PATCHES, VIEWS, in_line, owners_in_views, patches, pixels, see, views
from scenes import LARGEST, PLACES, Picture, Scene
from torch import Tensor
from transformers import ViTModel

NO_IMAGE = np.empty(0, dtype=np.uint8)


@dataclass(frozen=True)
class Bank:
    """seen: (n, 5, 196, width) bfloat16; owner: (n, 5, 196), the place that each patch belongs to, or -1; pictures: of
    each scene; own: (n,), whether all its pictures stay in their quarters."""

    seen: Tensor
    owner: Tensor
    pictures: list[tuple[Picture, ...]]

    def save(self, path: Path) -> None:
        """As tensors."""
        rows = [(i, p.label, p.place, *p.box) for i, of_scene in enumerate(self.pictures) for p in of_scene]
        torch.save((self.seen, self.owner, torch.tensor(rows)), path)

    @staticmethod
    def read(path: Path) -> Bank:
        """As `save` wrote it."""
        seen, owner, rows = torch.load(path, weights_only=True)
        pictures: list[list[Picture]] = [[] for _ in seen]
        for scene, label, place, *box in rows.tolist():
            pictures[scene].append(Picture(label, place, (box[0], box[1], box[2], box[3])))
        return Bank(seen, owner, [tuple(of_scene) for of_scene in pictures])

    def whole(self, picks: list[int]) -> Drawn:
        """Scenes as they are."""
        made = [Scene(NO_IMAGE, NO_IMAGE, self.pictures[i]) for i in picks]
        return Drawn(self.seen[picks], self.owner[picks], made, torch.ones(len(picks), dtype=torch.bool))

    def mixed(self, count: int, rng: random.Random) -> Drawn:
        """Scenes of quarters from anywhere in the bank; the first view is zeros."""
        tiles = [(i, place) for i, of_scene in enumerate(self.pictures) if _apart(of_scene) for place in range(4)]
        seen = torch.zeros(count, *self.seen.shape[1:], dtype=self.seen.dtype)
        owner = torch.full((count, *self.owner.shape[1:]), -1)
        made = []
        for row in range(count):
            chosen: list[Picture] = []
            while not chosen:
                for place in range(len(PLACES)):
                    scene, quarter, picture = self._tile(tiles, {p.label for p in chosen}, rng)
                    seen[row, 1 + place] = self.seen[scene, 1 + quarter]
                    owner[row, 1 + place] = torch.where(self.owner[scene, 1 + quarter] >= 0, place, -1)
                    if picture is not None:
                        chosen.append(Picture(picture.label, place, picture.box))
            made.append(Scene(NO_IMAGE, NO_IMAGE, tuple(chosen)))
        return Drawn(seen, owner, made, torch.zeros(count, dtype=torch.bool))

    def _tile(
        self, tiles: list[tuple[int, int]], taken: set[int], rng: random.Random
    ) -> tuple[int, int, Picture | None]:
        """A quarter of some scene, and the picture in it, of none of the classes taken."""
        while True:
            scene, quarter = rng.choice(tiles)
            picture = next((p for p in self.pictures[scene] if p.place == quarter), None)
            if picture is None or picture.label not in taken:
                return scene, quarter, picture


@dataclass(frozen=True)
class Drawn:
    """Scenes for a step: seen, owner as in the bank; made: pictures without pixels; known: (n,), is the first view?"""

    seen: Tensor
    owner: Tensor
    made: list[Scene]
    known: Tensor

    def tokens(self) -> tuple[Tensor, Tensor]:
        """As image tokens: what is seen, (n, 1008, width), and owners, (n, 1008): -1 ground, -2 an end of a line, -3
        what is not known."""
        owner = self.owner.clone()
        owner[~self.known, 0] = -3
        width = self.seen.shape[-1]
        line = in_line(self.seen.flatten(0, 1), torch.zeros(width, dtype=self.seen.dtype))
        return line, in_line(owner.flatten(0, 1), torch.tensor(-2))


def _apart(pictures: tuple[Picture, ...]) -> bool:
    return all(p.box[side] // LARGEST == (p.box[2 + side] - 1) // LARGEST for p in pictures for side in (0, 1))


@torch.inference_mode()
def new_bank(tower: ViTModel, made: Iterator[Scene], device: str) -> Bank:
    """What a tower sees of scenes."""
    kept = torch.arange(PATCHES).expand(VIEWS, -1)
    seen, owner, pictures = [], [], []
    for scene in made:
        cells = patches(views(pixels([scene])), kept)
        seen.append(see(tower, cells.to(device), kept.to(device))[-1].to("cpu", torch.bfloat16))
        owner.append(owners_in_views([scene]))
        pictures.append(scene.pictures)
    return Bank(torch.stack(seen), torch.stack(owner), pictures)
