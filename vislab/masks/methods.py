"""The ways to make masks, with the options of each and what they are by default."""

from __future__ import annotations

from typing import Any, Literal

Kind = Literal["semantic", "instance", "panoptic"]
KINDS = ("semantic", "instance", "panoptic")  # of a segmentation model
OF_HEATMAPS: dict[str, dict[str, Any]] = {"otsu": {}, "threshold": {"level": 0.5}, "share": {"level": 0.5}}
OF_TOKENS: dict[str, dict[str, Any]] = {"kmeans": {"clusters": 4, "seed": 0}, "tokencut": {"tau": 0.2}}
METHODS = (*OF_HEATMAPS, *OF_TOKENS, *KINDS)
