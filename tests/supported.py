"""The README's tables of models: a mark stands where a test of this project goes through the model.

    python tests/supported.py

writes them into README.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import conftest  # noqa: F401 - the environment that the tests run in
import families
import tiny
from detectors import test_detr, test_maps, test_yolo
from methods import test_relevance
from models import test_patch_size

from vislab.models import load

README = Path(__file__).parents[1] / "README.md"
# The name in the table, and the names that tests call the family by; the first that fits.
FAMILIES = {
    "ViT": "ViT.*",
    "DeiT": "DeiT.*",
    "MSN": "MSN",
    "MAE": "MAE.*",
    "DINOv2": "DINOv2",
    "DINOv2 with registers": "DINOv2 with registers",
    "DINOv3": "DINOv3",
    "CLIP": "CLIP.*",
    "SigLIP2": "SigLIP2.*",
    "SigLIP": "SigLIP.*",
    "BEiT": "BEiT.*",
    "data2vec": "data2vec.*",
    "DPT": "DPT",
    "YOLOS": "YOLOS.*",
    "torchvision's ViT": "torchvision",
    "timm's EVA": "timm,? EVA.*",
    "timm's DINOv3": "timm,? DINOv3",
    "timm's ViT": "timm.*",
}
DETECTORS = {
    "YOLO12": "yolo12.",
    "YOLO11": "yolo11.",
    "YOLO26": "yolo26.",
    "YOLOE": "yoloe.*",
    "YOLOv10": "yolov10.",
    "YOLOv8": "yolov8.",
    "RT-DETR of ultralytics": "rtdetr",
    "DETR of transformers": "detr",
    "RT-DETR of transformers": "rt_detr.*",
    "YOLOS of transformers": "yolos",
}


def family_of(name: str, known: Mapping[str, str]) -> str:
    found = next((family for family, pattern in known.items() if re.fullmatch(pattern, name)), None)
    if found is None:
        raise LookupError(f"the tests go through {name!r}, which no row of tests/supported.py takes")
    return found


def marks_of_families() -> dict[str, Collection[str]]:
    """Column -> the families that its test goes through."""
    resizable = [n for n in tiny.FAMILIES if load.load(tiny.make(n)).resizable]  # test_non_square_input_is_taken_…
    tried: dict[str, Iterable[str]] = {
        "attention": families.FAMILIES,  # engine, methods
        "heatmaps": tiny.FAMILIES,  # test_models
        "every method": test_relevance.CLASSIFIERS,
        "any input size": [*resizable, *tiny.ANY_SIZE],
        "any patch size": test_patch_size.CHANGING,
    }
    return {column: {family_of(name, FAMILIES) for name in names} for column, names in tried.items()}


def marks_of_detectors() -> dict[str, Collection[str]]:
    tried: dict[str, Iterable[str]] = {
        "boxes": [*test_yolo.BOXED, *test_detr.MAKERS],
        "attention": [*test_yolo.ATTENDING, *test_detr.ATTENDING],
        "sampled points": test_maps.SAMPLING,
    }
    return {column: {family_of(name, DETECTORS) for name in names} for column, names in tried.items()}


def table(known: Iterable[str], marks: Mapping[str, Collection[str]]) -> str:
    """A line for all that have the same marks, those with most of them first."""
    lines: dict[tuple[bool, ...], list[str]] = {}
    for family in known:
        lines.setdefault(tuple(family in column for column in marks.values()), []).append(family)
    body = [
        f"| {', '.join(names)} | {' | '.join('✓' if one else '–' for one in own)} |"
        for own, names in sorted(lines.items(), key=lambda line: -sum(line[0]))
    ]
    return "\n".join([f"| | {' | '.join(marks)} |", f"|---|{':-:|' * len(marks)}", *body])


def tables() -> str:
    return f"{table(FAMILIES, marks_of_families())}\n\n{table(DETECTORS, marks_of_detectors())}"


def in_place(text: str) -> str:
    """The README with the tables as they are now."""
    return re.sub(r"(?s)(?<=<!-- models -->\n).*(?=<!-- /models -->)", lambda _: tables() + "\n", text)


if __name__ == "__main__":
    README.write_text(in_place(README.read_text(encoding="utf-8")), encoding="utf-8")
