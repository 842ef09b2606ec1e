"""A model and photographs -> one HTML file in which the model runs, or a folder of files for a server."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.checks import shown
from ..core.files import check_folder, write
from . import script
from .quantise import Weights, check_weights, packed
from .samples import Sample, brought
from .weights import ENDS, LARGEST, PATCH, SMALLEST, Form, form_of, tensors

if TYPE_CHECKING:
    from torch import nn

    from ..models.model import Model

PIECE = 98_304  # characters of base64 in one element, a multiple of 4: a browser reads and frees a small one sooner

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="vislab {version}">
<link rel="icon" href="data:,">
<title>{title}</title>
{style}
</head>
<body>
<main id="page"><p id="opening" role="status">Opening the model &hellip;</p></main>
<noscript><p>This page computes in your browser: allow it to run JavaScript.</p></noscript>
<script type="application/json" id="about">{about}</script>
{parts}{script}
</body>
</html>
"""


def class_page(
    path: str | os.PathLike[str],
    *,
    images: Sequence[Any] | None = None,
    model: str | Path | nn.Module | Model = "embedded",
    weights: Weights = "int8",
) -> Path:
    """Write one HTML file in which a Vision Transformer runs, for a class: no Python, no network, no library.

    images: photographs that the page brings, as `load_image` takes them; by default those that come with vislab, with
    their credits. model: as `load` takes it; a ViTForImageClassification of transformers, up to ViT-Small. weights:
    "int8" or "float16"; of the embedded model the page has 7.9 MB, or 14.3 MB. Returns the path.

    The page shows attention of any patch, layer and head, rollout, and the lens, of a pupil's own photograph, at patch
    sizes from 56 to 8 px; it has nine guided steps and a quiz. Raises ValueError for a model that it cannot run, with
    the reason, and what `load` and `load_image` raise.
    """
    target = _target(path)
    about, parts = _contents(images, model, weights)
    write(target, _single(about, parts).encode())
    return target


def class_site(
    folder: Path,
    *,
    images: Sequence[Any] | None = None,
    model: str | Path | nn.Module | Model = "embedded",
    weights: Weights = "int8",
) -> Path:
    """The same page as files for a server: index.html and its parts in a folder, which is made -> index.html."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{str(folder)!r} is a file: name a folder for the site")
    about, parts = _contents(images, model, weights)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in _hosted(about, parts).items():
        write(folder / name, data)
    return folder / "index.html"


def _target(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a page is written to a path that ends with .html, not to {shown(path)}")
    target = Path(path).expanduser()
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a page is written to a path that ends with .html, not {shown(os.fspath(path))}")
    check_folder(target)
    return target


def _contents(images: Sequence[Any] | None, model: Any, weights: Weights) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the page is told, and its parts by the names of their files."""
    check_weights(weights)
    photographs = brought(images)
    from ..models.load import load

    loaded = load(model)
    form = form_of(loaded)
    data = weights_file(loaded, form, weights)
    parts = {"vit.wasm": (script.STATIC / "vit.wasm").read_bytes(), "weights.gz": gzip.compress(data, 9, mtime=0)}
    parts |= {f"photo-{i}.jpg": one.jpeg for i, one in enumerate(photographs)}
    return _about(loaded, form, photographs, weights), parts


def weights_file(model: Model, form: Form, weights: Weights) -> bytes:
    """The model's weights as the page reads them; positions and both ends finely, for all hangs on them."""
    places = {
        ENDS.index("classifier.weight"): "float32",
        len(ENDS): "float32",
        ENDS.index(f"{PATCH}.weight"): "float16",
    }
    return packed(tensors(model, form), weights, {(form.layers, place): kind for place, kind in places.items()})


def _about(model: Model, form: Form, photographs: Sequence[Sample], weights: Weights) -> dict[str, Any]:
    from ..figures.colours import colour_table
    from ..figures.diagram import bare

    how = model.preprocessing
    numbers = {"mean": how.mean, "deviation": how.std, "sizes": sizes(form)}
    return {
        "name": model.name,
        "weights": weights,
        "version": import_module("vislab").__version__,
        "labels": model.labels,
        "form": dataclasses.asdict(form) | numbers,
        "samples": [{"name": one.name, "title": one.title, "credit": one.credit} for one in photographs],
        "diagram": bare(),
        "colours": base64.b64encode(colour_table("viridis").tobytes()).decode(),
    }


def sizes(form: Form) -> dict[int, dict[str, list[float] | None]]:
    """Patch size, px -> what makes such patches, and their positions, of the model's own.

    pixels: (own patch, patch), the pseudo-inverse of a resize in one direction; places: (grid, own grid), an
    interpolation in one direction; None for the model's own size. Both are taken in both directions.
    """
    import torch

    from ..models.patch_size import interpolate_positions, pi_resize

    found: dict[int, dict[str, list[float] | None]] = {}
    own = form.side // form.patch
    for patch in range(LARGEST, SMALLEST - 1, -1):
        if form.side % patch:
            continue
        now = form.side // patch
        kernel = torch.eye(form.patch, dtype=torch.float64).reshape(
            form.patch, 1, 1, form.patch
        )  # upright, torch 2.15 resizes it wrongly
        grid = torch.eye(own, dtype=torch.float64)[None]
        pixels = pi_resize(kernel, (1, patch)).flatten().float().tolist()
        places = interpolate_positions(grid, (own, 1), (now, 1)).flatten().float().tolist()
        found[patch] = {"pixels": None, "places": None} if patch == form.patch else {"pixels": pixels, "places": places}
    return found


def _single(about: Mapping[str, Any], parts: Mapping[str, bytes]) -> str:
    """One file: the parts as base64, and a policy that allows these very scripts and no request."""
    page, style = plain(script.page_script()), script.style()
    policy = (
        f"default-src 'none'; script-src {_hash(page)} 'wasm-unsafe-eval'; worker-src blob:; style-src {_hash(style)}; "
        "img-src blob: data:; media-src blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    held = [("worker.js", plain(script.worker_script()))]
    for name, data in parts.items():
        text = base64.b64encode(data).decode()
        held += [(name, text[start : start + PIECE]) for start in range(0, len(text), PIECE)]
    return _page(
        about,
        policy,
        f"<style>{style}</style>",
        "".join(f'<script type="text/plain" data-part="{name}">{text}</script>\n' for name, text in held),
        f'<script type="module">{page}</script>',
    )


def plain(code: str) -> str:
    """JavaScript in ASCII, its other letters as escapes: a page of ASCII alone takes a browser half the memory."""
    escaped = [code[i] if code[i] < "\x80" else json.dumps(code[i])[1:-1] for i in range(len(code))]
    return "".join(escaped)


def _hosted(about: Mapping[str, Any], parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Name -> bytes of the files of a site, which asks its own server alone."""
    policy = (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
        "img-src blob: data:; media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    index = _page(
        about, policy, '<link rel="stylesheet" href="page.css">', "", '<script type="module" src="page.js"></script>'
    )
    texts = {"page.js": script.page_script(), "worker.js": script.worker_script(), "page.css": script.style()}
    return {**parts, **{name: text.encode() for name, text in texts.items()}, "index.html": index.encode()}


def _page(about: Mapping[str, Any], policy: str, style: str, parts: str, code: str) -> str:
    title = f"A Vision Transformer in one page: {about['name']}"
    told = json.dumps(about, separators=(",", ":")).replace("<", "\\u003c")
    version, named = about["version"], html.escape(title).encode("ascii", "xmlcharrefreplace").decode()
    return HTML.format(policy=policy, version=version, title=named, style=style, about=told, parts=parts, script=code)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
