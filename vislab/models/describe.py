"""A module -> Model: its tokens, found by experiment, its labels and its shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..core.geometry import Grid
from ..engine.hooks import capture
from .calling import arguments, core, family_of, image_part, seeing
from .classes import said_names
from .clips import OfClip, sheets
from .embedding import DoesNotRun, Lost, NoAttention, entrance
from .feasible import runs, squares
from .flow import flow
from .image_text import image_text
from .model import Model
from .modes import evaluating, frozen
from .places import Places, noise, places
from .preprocessing import Preprocessing, input_sizes, of_module
from .texts import Texts

_CLS = ("cls_token", "class_token", "class_embedding", "cls_embedding")
_NO_CLS = re.compile(r"reg|storage|dist|prompt|mask|query|quer")  # in the names of other tokens
_COMMON = (224, 384, 256, 336, 448, 512, 518, 240, 192, 128, 96, 64, 32)  # px, where what a module says does not do


def described(
    name: str,
    module: nn.Module,
    how: Preprocessing | None,
    labels: Sequence[str] | None = None,
    grid: Grid | None = None,
    tokenizer: Any = None,
) -> Model:
    """A Model of a module. grid: what the user says of its tokens, which is checked. tokenizer: of an image-text model.

    Raises ValueError where the places of its tokens cannot be found, or are others than the user says.
    """
    tower = image_text(module)
    texts = None if tower is None else Texts(name, tokenizer)
    module = image_part(module) if tower is None else tower
    if family_of(module) == "vit_mae":
        module = getattr(core(module), "vit", module)  # the decoder's layers are not the encoder's
        dropped: float = getattr(module.config, "mask_ratio", 0.0)
        if dropped > 0:
            raise ValueError(f"{name} drops {dropped:.0%} of its patches: set config.mask_ratio = 0 to keep all")
    module = seeing(module)
    try:
        size, found = _placed(name, module, how, grid)
    except Lost as lost:
        if texts is None and isinstance(lost, DoesNotRun) and (made := _of_clip(name, module, how, labels)) is not None:
            return made
        return replace(_blind(name, module, how, labels, lost), texts=texts)
    order = flow(module, found.path, noise(module, size, 0), _arguments(module, size))
    config: Any = getattr(core(module), "config", None)
    return Model(
        name=name,
        module=module,
        family=family_of(module),
        own_size=size,
        preprocessing=how or of_module(module, size),
        patch=found.grid.patch,
        prefix=found.grid.prefix,
        suffix=found.grid.suffix,
        cls=found.grid.prefix > 0 and _first_is_cls(module, size, found),
        names=tuple(labels) if labels else said_names(module),
        layers=order.layers,
        heads=found.heads or _said(config, "num_attention_heads") or 1,
        dim=found.dim,
        biased=any(getattr(config, f"use_{which}relative_position_bias", False) for which in ("", "shared_")),
        found=found,
        beside=order.beside,
        texts=texts,
    )


def _of_clip(name: str, module: nn.Module, how: Preprocessing | None, labels: Sequence[str] | None) -> Model | None:
    """A Model of a module that runs on clips; None of one that does not."""
    tried = () if isinstance(module, OfClip) else tuple(sheets(module))
    for sheet in tried:
        each = how or of_module(module, sheet.size)
        if each.size != sheet.size:
            raise ValueError(
                f"{name} takes frames of {sheet.size[0]}×{sheet.size[1]} px, and its processor makes others, of "
                f"{each.size[0]}×{each.size[1]} px: give load the one that it was trained with, processor=…"
            )
        whole = Preprocessing(sheet.input_size, mean=each.mean, std=each.std, bgr=each.bgr)
        made = described(name, sheet, whole, labels or said_names(module))
        if made.attends or sheet is tried[-1]:
            return replace(made, of_frame=each, patch=sheet.patch_size)
    return None


def _said(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    return value if isinstance(value, int) else None


# ---- places ----


def _placed(
    name: str, module: nn.Module, how: Preprocessing | None, grid: Grid | None
) -> tuple[tuple[int, int], Places]:
    """The input size that a module was made for, (height, width) px, and the places of its tokens in it."""
    if not any(p.is_floating_point() for p in module.parameters()):
        raise ValueError(f"{name} has no weights, so nothing to run on an image: load takes a Vision Transformer")
    if any(part.is_meta for part in (*module.parameters(), *module.buffers())):
        raise ValueError(
            f"{name} is on the meta device, or a part of it: it has shapes there and no weights. Give it memory by "
            "module.to_empty(device='cpu'), load its state_dict, and give vislab.load that"
        )
    refused: Lost | None = None
    unattending = 0  # sizes on which it ran, and nothing attended
    said = [*_sizes(module, how, grid)]
    for size in _and_common(said) if grid is None else said:
        if size not in said and not isinstance(refused, DoesNotRun):
            break  # it runs on a size that it says
        try:
            return size, places(module, size, _arguments(module, size), claim=grid)
        except Lost as error:
            if refused is None or (isinstance(refused, DoesNotRun) and not isinstance(error, DoesNotRun)):
                refused = error
            unattending += isinstance(error, NoAttention)
            if unattending == 2:
                break  # a convolutional network, which would run on all of them
    if grid is not None:
        found = f"{grid} of {grid.patch[0]}×{grid.patch[1]} px after {grid.prefix} and before {grid.suffix} others"
        raise ValueError(f"{name} does not have the grid that was given, {found}: {refused}") from refused
    assert refused is not None
    raise refused


def _blind(name: str, module: nn.Module, how: Preprocessing | None, labels: Sequence[str] | None, lost: Lost) -> Model:
    """A Model of a module none of whose attention is one map over the image, but which runs on an image."""
    for size in _and_common(_sizes(module, how, None)):
        try:
            runs(module, size)
        except Lost:
            continue
        side = squares(size)
        said = "; if you know where they are, vislab.load(module, grid=vislab.Grid(…))" if type(lost) is Lost else ""
        return Model(
            name=name,
            module=module,
            family=family_of(module),
            own_size=size,
            preprocessing=how or of_module(module, size),
            patch=(side, side),
            prefix=0,
            suffix=0,
            cls=False,
            names=tuple(labels) if labels else said_names(module),
            layers=0,
            heads=0,
            dim=0,
            biased=False,
            blind=f"{lost}{said}",
        )
    raise ValueError(f"{name}: {lost}. {_advice(module, lost)}") from lost


def _sizes(module: nn.Module, how: Preprocessing | None, grid: Grid | None) -> Iterator[tuple[int, int]]:
    """Input sizes, (height, width) px, the likeliest first."""
    if grid is not None:
        yield grid.rows * grid.patch[0], grid.cols * grid.patch[1]
    said = input_sizes(module)
    yield from said
    if how is not None and how.size not in said:
        yield how.size
    if not said:
        yield from ((side, side) for side in _COMMON)


def _and_common(said: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The sizes that a module says, then others: one that was made for another size may still say what it once took."""
    return [*dict.fromkeys([*said, *((side, side) for side in _COMMON)])]


def _arguments(module: nn.Module, size: tuple[int, int]) -> dict[str, Any]:
    side = _said(getattr(core(module), "config", None), "patch_size") or 16
    return arguments(module, size[0] // side * (size[1] // side), interpolated=False)


def _advice(module: nn.Module, refused: Lost | None) -> str:
    """What to try with a module whose tokens were not found."""
    if isinstance(refused, DoesNotRun):
        if channels := _channels(module):
            made = "pixels.mean(1, keepdim=True)" if channels == 1 else f"pixels as {channels} channels"
            return (
                f"It takes images of {channels} channel{'s' * (channels > 1)}, and pictures have 3: load a module "
                f"around it, whose forward(self, pixels) is `return self.model({made})`; vislab.capture reads its "
                "attention on any input as it is"
            )
        return (
            "load takes what runs on one image of 3 channels alone, perhaps a part of this module; vislab.capture "
            "reads the attention of any module as it is"
        )
    return (
        "Say where they are, vislab.load(module, grid=vislab.Grid(rows, cols, patch, prefix, suffix)), or read its "
        "attention as it is by vislab.capture"
    )


def _channels(module: nn.Module) -> int | None:
    """How many channels an image has on which a module runs that does not run on 3, by trying."""
    weight, size = next(module.parameters()), (input_sizes(module) or [(224, 224)])[0]
    convolutions = (part.in_channels for part in module.modules() if isinstance(part, nn.Conv2d))
    for channels in dict.fromkeys((next((n for n in convolutions if n != 3), 1), 1, 4)):
        try:
            with torch.no_grad(), evaluating(module):
                entrance(module, torch.zeros(1, channels, *size, device=weight.device, dtype=weight.dtype), {})
        except NoAttention:
            return channels
        except Lost:
            continue
        return channels
    return None


# ---- what the tokens are ----


def _first_is_cls(module: nn.Module, size: tuple[int, int], found: Places) -> bool:
    """Whether token 0 sums up the image. Names of parameters tell; where they do not, whether the output reads it."""
    leaves = {path.rpartition(".")[2] for path, _ in module.named_parameters()}
    if leaves & {*_CLS}:
        return True
    if any(_NO_CLS.search(leaf) for leaf in leaves if leaf.endswith(("token", "tokens", "embed", "embeddings"))):
        return False
    pixels = noise(module, size, 0)
    with torch.inference_mode(False), torch.enable_grad(), frozen(module), evaluating(module):
        try:
            with capture(module, gradients=True) as cap:
                output = module(pixels, **_arguments(module, size))
                summary = next(x for x in _tensors(output) if x.ndim == 2)
                cap.differentiate((summary * torch.randn_like(summary)).sum())
            read = cap.queries_read(cap.layers[-1])[0]
        except (RuntimeError, ValueError, TypeError, StopIteration, LookupError):
            return True  # nothing sums it up better
    return bool(read[0])


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else [output]
    return (x for x in parts if isinstance(x, torch.Tensor))
