"""From a clip and a model of clips to a heatmap of each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.clip import told
from ..core.geometry import Grid
from ..core.heatmap import Heatmap
from ..methods.request import Head, Layer, Request, Target
from ..models.cache import model_of
from ..models.clips import clip_of
from ..models.model import Model
from .explain import heatmap


def explain_clip(
    frames: Sequence[Any],
    *,
    model: str | Path | Model | Any = "embedded",
    method: str = "rollout",
    layer: Layer = -1,
    head: Head = "mean",
    target: Target = None,
    attention_scale: float | Mapping[int, float] = 1.0,
    **options: Any,
) -> list[Heatmap]:
    """Where a model of clips looks, or what speaks for a class in a clip, as one heatmap a frame.

    frames: as many pictures as the model takes, of one size, each what `load_image` takes, such as those of
    `vislab.frames`. model: a Model, or what `load` takes: VideoMAE, ViViT and other modules that run on
    (batch, frames, 3, height, width) or (batch, 3, frames, height, width). The rest is as of `explain`, and goes
    through all frames at once: the values of all frames together are the map. Frames that a token sees together share
    its values; the heatmaps' facts say how many these are.

        clip = [*vislab.frames("clip.mp4", every=4)][:16]
        heats = vislab.explain_clip(clip, model="MCG-NJU/videomae-base-finetuned-kinetics")  # needs the network
        vislab.save("sheet.pdf", heats, normalise="shared")  # needs the network

    Raises ValueError for another number of frames, for a model of single images, and for what is unknown or impossible.
    """
    request = Request(method, layer, head, "cls", target, attention_scale, options=options)
    ready = model_of(model)
    clip, each = ready.clip, ready.of_frame
    if clip is None or each is None:
        raise ValueError(
            f"{ready.name} sees single images, not clips: [vislab.explain(frame, model=…) for frame in frames]"
        )
    pictures = clip_of(frames, clip.frames, ready.name)
    sheet = heatmap(ready, None, np.stack(pictures), request, token=None)
    if (sheet.grid.rows, sheet.grid.cols) != (ready.grid().rows, ready.grid().cols):
        raise ValueError(
            f"the cells of {method}'s map, {sheet.grid}, are no patches of the frames of {ready.name}: take "
            "method='integrated_gradients' or 'occlusion'"
        )
    grid = Grid(*clip.grid, (clip.side, clip.side), ready.prefix, ready.suffix)
    heats = []
    for number, (picture, values) in enumerate(zip(pictures, clip.by_frames(sheet.values), strict=True)):
        which = {"index": number, "of": clip.frames, "seen together": clip.tubelet}
        facts = {**sheet.facts, **told(frames[number]), "frames": which}
        facts.pop("cells", None)  # which would be the sheet's
        frame = each.frame((picture.shape[0], picture.shape[1]))
        heats.append(replace(sheet, values=values, grid=grid, frame=frame, image=picture, facts=facts))
    return heats
