"""A Model: a module that runs, with the Outline of it; and a Run of it on an image."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import check_counts, meant, one_of, shown, whole
from ..core.geometry import Frame, Grid
from ..core.images import load_image
from ..engine.capture import Capture
from ..engine.hooks import capture
from ..engine.site import AttentionRefused
from .blocks import blocks
from .budget import Budget, budget, settings_of
from .calling import arguments, core
from .classes import Classes, classes, columns, label_names, logits_of, remember, watched
from .clips import OfClip, clip_of
from .device import free_memory
from .embedding import Lost, reason, shape_of
from .feasible import runs
from .modes import evaluating, frozen
from .outline import RESIZABLE, Outline
from .patch_size import resized
from .places import Places, noise, places
from .preprocessing import ImageSize, Preprocessing, sides
from .spending import Spending
from .texts import Texts
from .tokens import Tokens
from .worth import worth

FEW = 20  # classes that a message lists


class Stuck(ValueError):
    """A forward that did not run through; its cause is what the model's own code raised."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as a model's input.

    pixels: (1, 3, height, width). frame: of the grid's cells, which is that of the pixels but where the grid has
    another corner. by_pixels: of the pixels. arguments: what the module takes beside them. spending: how its forwards
    spend their tokens, where they do.
    """

    pixels: Tensor
    grid: Grid
    frame: Frame
    by_pixels: Frame
    arguments: Mapping[str, Any]
    spending: Spending | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """One forward under capture. logits: (classes,) or None where the model has no classifier."""

    capture: Capture
    grid: Grid
    frame: Frame
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Model(Outline):
    """A Vision Transformer ready to look at images; make one with `vislab.load`.

    module: what runs; the rest says what is known of it. found: where the experiment found its tokens; None of what
    comes from files that say all. beside: the path of a part that attends in several places side by side, "" where all
    come one after the other. blind: why none of its attention is one map over the image, where it has no layers. texts:
    how an image-text model is given texts, which are its classes then; None of any other. of_frame: how one frame
    reaches a model of clips, whose image is their sheet; None of a model of images. lock: held while the module is at
    work.
    """

    module: nn.Module
    found: Places | None = None
    beside: str = ""
    blind: str = ""
    texts: Texts | None = None
    of_frame: Preprocessing | None = None
    lock: Any = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def of(cls, outline: Outline, module: nn.Module) -> Model:
        return cls(**vars(outline), module=module)

    @property
    def clip(self) -> OfClip | None:
        """The sheet of a model of clips; None of a model of images."""
        return self.module if isinstance(self.module, OfClip) else None

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    def run(
        self,
        image: np.ndarray,
        *,
        image_size: ImageSize | None = None,
        patch_size: int | None = None,
        attention_scale: float | Mapping[int, float] = 1.0,
        **tokens: Any,
    ) -> Run:
        """One forward under capture; the model is afterwards what it was.

        image: (H, W, 3) uint8, of a model of clips (frames, H, W, 3). tokens: how it spends them, the settings of
        `Tokens` by name (keep, merge, fovea, heads_off, …).
        """
        with (
            self.prepared(image, image_size=image_size, patch_size=patch_size, tokens=Tokens.of(tokens)) as prepared,
            torch.no_grad(),
            self.captured(attention_scale, spending=prepared.spending) as cap,
        ):
            output = self.forward(prepared.pixels, prepared.arguments)
        logits = self.class_logits(output)
        return Run(cap, prepared.grid, prepared.frame, None if logits is None else logits[0].float())

    @contextmanager
    def prepared(
        self,
        image: np.ndarray,
        *,
        image_size: ImageSize | None = None,
        patch_size: int | None = None,
        tokens: Tokens | None = None,
        gradients: bool = False,
    ) -> Iterator[Prepared]:
        """The module made ready for an image, in evaluation mode and at work for nobody else; afterwards what it was.

        image: (H, W, 3) uint8, of a model of clips (frames, H, W, 3). tokens: how they are spent. gradients: whether
        they will be taken; the weights are then frozen, and gradients are on whatever surrounds it.
        """
        grid, size, source = self.grid(image_size, patch_size), self.input_size(image_size), image.shape[:2]
        sizes: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size}
        planned = None if tokens is None else budget(self, tokens, (source[0], source[1]), **sizes)
        many = planned is not None and planned.layout is not None
        self._fits(Grid(1, planned.counts[0], grid.patch) if planned and many else grid, gradients=gradients)
        with ExitStack() as stack:
            stack.enter_context(self.lock)
            if gradients:
                stack.enter_context(torch.inference_mode(False))
                stack.enter_context(torch.enable_grad())
                stack.enter_context(frozen(self.module))
            stack.enter_context(evaluating(self.module))
            pixels, by_pixels = self._pixels(image, size)
            stack.enter_context(self._patched(patch_size))
            frame, arguments = self._of_cells(by_pixels, grid), self._arguments(size, grid)
            spending = None if planned is None else self._spending(planned, size, frame)
            cells = grid if planned is None else planned.cells
            yield Prepared(pixels.to(self.device, self.dtype), cells, frame, by_pixels, arguments, spending)

    def _pixels(self, image: np.ndarray, size: tuple[int, int]) -> tuple[Tensor, Frame]:
        clip, each = self.clip, self.of_frame
        if clip is None or each is None:
            return self.preprocessing(image, size)
        if image.ndim != 4:
            raise ValueError(
                f"{self.name} takes clips of {clip.frames} frames, not one picture: vislab.explain_clip(frames, "
                "model=…), or `vislab figure clip.mp4` on the command line"
            )
        frames = torch.cat([each(frame)[0] for frame in image])
        return clip.sheet(frames[None]), Frame.stretch(size, size)

    def forward(self, pixels: Tensor, arguments: Mapping[str, Any]) -> Any:
        """What the module makes of pixels, (n, 3, height, width). Raises ValueError in words where it cannot."""
        try:
            with watched(self.module) as watch:
                output = self.module(pixels, **arguments)
            if watch is not None:
                remember(self.module, watch.judged(self.module, output))
            return output
        except (MemoryError, torch.OutOfMemoryError, AttentionRefused):
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OSError) as error:
            own = tuple(pixels.shape[2:]) == self.own_size
            part = "load the part that sees the image alone" if own else "leave image_size out"
            raise Stuck(
                f"{self.name} does not run through on an input of {shape_of(pixels)} alone: {reason(error)}; {part}"
            ) from error

    @contextmanager
    def captured(
        self,
        attention_scale: float | Mapping[int, float] = 1.0,
        *,
        gradients: bool = False,
        spending: Spending | None = None,
    ) -> Iterator[Capture]:
        """`capture` of the module, with a scale by layer counted from either end, its tokens spent where they are."""
        with ExitStack() as stack:
            cap = stack.enter_context(
                capture(self.module, attention_scale=self._scales(attention_scale), gradients=gradients)
            )
            if spending is not None:
                stack.enter_context(spending.on(cap))
            try:
                yield cap
            except Stuck as error:
                if spending is None or error.__cause__ is None:
                    raise
                named = " and ".join(settings_of(spending.tokens))
                raise AttentionRefused(
                    f"{self.name} does not run through with {named}: {reason(error.__cause__)}; leave {named} out"
                ) from error

    def _spending(self, planned: Budget, size: tuple[int, int], frame: Frame) -> Spending:
        """How forwards of an input of (height, width) px spend their tokens. AttentionRefused where they cannot."""
        grid, tokens = planned.grid, planned.tokens

        def run() -> Any:
            return self.forward(noise(self.module, size, 0), self._arguments(size, grid))

        found, named = blocks(self.module, run, grid, self.layers), settings_of(tokens)
        joins = [name for name, on in (("gather", tokens.gather), ("merge", tokens.merge)) if on]
        why = found.bound if named != ["heads_off"] or not found.names else ""
        if not why and found.tables and joins:
            why = "a token that stands for several has no position of its own among its rotary ones"
            named = joins
        if why:
            raise AttentionRefused(
                f"{' and '.join(named)} cannot be done in {self.name}: {why}; leave {' and '.join(named)} out, or take "
                "a plain ViT, such as vislab.load('embedded')"
            )
        grids = [(p, super(Model, self).grid(size, p)) for p in tokens.fovea_patches] if planned.layout else []
        embeds = tuple((patch, of_size, self._arguments(size, of_size)) for patch, of_size in grids)
        decides = worth(tokens.keep_by, planned.cells, frame)
        return Spending(self.module, found, tokens, grid, planned.cells, self.cls, decides, planned.layout, embeds)

    def predict(
        self,
        image: Any,
        *,
        top: int = 5,
        labels: Sequence[str] | None = None,
        image_size: ImageSize | None = None,
        patch_size: int | None = None,
        attention_scale: float | Mapping[int, float] = 1.0,
        **tokens: Any,
    ) -> list[tuple[str, float]]:
        """The most probable classes. -> [(label, probability)], most probable first. image: of a clip its frames.

        labels: of an image-text model, the texts that the image is compared with, each as it is. Where classes do not
        exclude each other, each probability is for itself (a sigmoid); of a model that gives numbers, [(label,
        number)]: see `classes`. tokens: how they are spent, as of `run`. Raises ValueError for a model without a
        classifier, and for texts that it cannot take.
        """
        model, clip = self if labels is None else self.labelled(label_names(labels)), self.clip
        picture = load_image(image) if clip is None else np.stack(clip_of(image, clip.frames, self.name))
        sizes: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size}
        return model.top(model.run(picture, attention_scale=attention_scale, **sizes, **tokens), top)

    def logits(
        self, pixels: Tensor, *, image_size: ImageSize | None = None, patch_size: int | None = None, **tokens: Any
    ) -> Tensor:
        """Plain forwards, nothing captured. pixels: (n, 3, h, w) from `preprocessing` -> (n, classes) float32.

        tokens: how they are spent, as of `run`, but for a fovea; each image then has a forward of its own, captured.
        Raises ValueError for a model without a classifier.
        """
        size, grid, asked = self.input_size(image_size), self.grid(image_size, patch_size), Tokens.of(tokens)
        if asked is not None and asked.fovea is not None:
            raise ValueError("a fovea lies in an image, and these are pixels of inputs: leave fovea out")
        sizes: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size}
        planned = None if asked is None else budget(self, asked, size, **sizes)
        arguments, pixels = self._arguments(size, grid), pixels.to(self.device, self.dtype)
        with self.lock, torch.no_grad(), evaluating(self.module), self._patched(patch_size):
            spending = None if planned is None else self._spending(planned, size, Frame.stretch(size, size))
            parts = []
            for part in [pixels] if spending is None else pixels.split(1):
                with nullcontext() if spending is None else self.captured(spending=spending):
                    parts.append(self.class_logits(self.forward(part, arguments)))
        if parts[0] is None:
            raise ValueError(self._names_nothing())
        return torch.cat([part for part in parts if part is not None]).float()

    @property
    def unseen(self) -> str:
        return self.blind

    def __repr__(self) -> str:
        clip, (height, width) = self.clip, self.preprocessing.size
        of = f"input {height}×{width} px"
        sees = f"{self.layers} layers of {self.heads} heads, patches of {self.patch[0]}×{self.patch[1]} px"
        if clip is not None:
            of = f"clips of {clip.frames} frames of {clip.size[0]}×{clip.size[1]} px"
            sees = f"{self.layers} layers of {self.heads} heads, patches of {clip.side}×{clip.side} px"
            sees += f" in {clip.tubelet} frames" if clip.tubelet > 1 else ""
        known = self._known_classes()
        given = "" if known is None else f", {len(known.labels)} {'numbers' if known.kind == 'number' else 'classes'}"
        given += "" if self.texts is None else ", takes texts"
        attention = sees if self.attends else "no attention that is one map over the image"
        return f"<Model {self.name}: {attention}, {of}{given}>"

    # ---- classes ----

    @property
    def classes(self) -> Classes | None:
        """What its logits are; None for a model without a classifier. One that nobody describes is run once to tell."""
        if self.texts is None and self.names is None and columns(self.module) is None:
            size = self.preprocessing.size
            pixels = torch.zeros(1, 3, *size, device=self.device, dtype=self.dtype)
            with self.lock, torch.no_grad(), evaluating(self.module):
                self.forward(pixels, self._arguments(size, self.grid()))
        return self._known_classes()

    def _known_classes(self) -> Classes | None:
        if self.texts is None:
            return classes(self.module, self.names, columns(self.module))
        return None if self.names is None else self.texts.classes(self.module, self.names)

    @property
    def labels(self) -> tuple[str, ...] | None:
        found = self.classes
        return None if found is None else found.labels

    def class_logits(self, output: Any) -> Tensor | None:
        """The logits of classes in what the module returned, (n, classes); None for a model without a classifier."""
        if self.texts is not None:
            return None if self.names is None else self.texts.logits(self.module, output, self.names)
        logits, found = logits_of(output), self.classes
        return None if logits is None or found is None or logits.shape[1] != len(found.labels) else logits

    def class_index(self, target: str | int) -> int:
        """The index of a class, given by its label or its index. Raises ValueError for one that is not there."""
        labels = self.labels
        if labels is None:
            raise ValueError(self._names_nothing())
        if one_of(target, labels):
            return labels.index(target)
        if whole(target) and 0 <= target < len(labels):
            return int(target)
        hint = meant(shown(target), labels) or (f": it knows {', '.join(labels)}" if len(labels) <= FEW else "")
        unread = ", for it has no text tower that vislab reads" if isinstance(target, str) and " " in target else ""
        raise ValueError(
            f"{self.name} knows no class {shown(target)}: give a label or an index from 0 to "
            f"{len(labels) - 1}{unread}{hint}"
        )

    def labelled(self, labels: Sequence[str]) -> Model:
        """An image-text model with texts as its classes. Raises ValueError for texts that it cannot take."""
        if self.texts is None:
            raise ValueError(
                f"{self.name} has no text tower that vislab reads: leave labels out, or take an image-text model such "
                "as 'openai/clip-vit-base-patch16'"
            )
        self.read(labels)
        return replace(self, names=tuple(labels))

    def read(self, texts: Sequence[str]) -> None:
        """Have the embeddings of texts ready, which are made once; before the first of them, the model's own forward
        must confirm what is computed with them. Raises ValueError for texts that it cannot take.
        """
        if self.texts is None or not texts:
            return
        with self.lock, evaluating(self.module):
            pixels = noise(self.module, self.own_size, 0)
            self.texts.prove(self.module, pixels, arguments(self.module, 0, interpolated=False), texts[0])
            self.texts.embeddings(self.module, texts)

    def _names_nothing(self) -> str:
        if self.texts is not None:
            return (
                f"{self.name} has no classes of its own: it compares an image with texts. Give target a text, such as "
                "'a red door', or texts for classes, model.predict(image, labels=[…]) or vislab.load(…, labels=[…])"
            )
        return (
            f"{self.name} has no classifier: what it returns are features, and it names nothing. Methods for one "
            "target take a function of its output as target; a model that classifies is vislab.load('embedded')"
        )

    def top(self, run: Run, count: int = 5) -> list[tuple[str, float]]:
        """The most probable classes of a run that was made, or the numbers that it gave, the highest first."""
        found = self.classes
        if run.logits is None or found is None:
            raise ValueError(self._names_nothing())
        check_counts(top=count)
        best = found.scores(run.logits).topk(min(count, len(found.labels)))
        return [(found.labels[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    @contextmanager
    def _patched(self, patch_size: int | None) -> Iterator[None]:
        if patch_size is None or not self.attends:
            yield
        else:
            with resized(core(self.module), int(patch_size)):
                yield

    def _scales(self, attention_scale: float | Mapping[int, float]) -> float | Mapping[int, float]:
        if not self.attends and attention_scale != 1:
            raise ValueError(
                f"{self.name} has no attention that is one map over the image, and so none to scale: leave "
                "attention_scale out"
            )
        if not isinstance(attention_scale, Mapping):
            return attention_scale
        for layer in attention_scale:
            if not whole(layer) or not -self.layers <= layer < self.layers:
                raise ValueError(
                    f"attention_scale is for no layer {shown(layer)}: layers of {self.name} run from 0 to "
                    f"{self.layers - 1}"
                )
        return {layer % self.layers: scale for layer, scale in attention_scale.items()}

    def _arguments(self, size: tuple[int, int], grid: Grid) -> dict[str, Any]:
        own = size == self.own_size and (grid.patch == self.patch or not self.attends)
        return arguments(self.module, grid.patches, interpolated=not own)

    # ---- places ----

    def input_size(self, image_size: ImageSize | None = None) -> tuple[int, int]:
        size = self.preprocessing.size if image_size is None else sides(image_size)
        if not self.attends:
            return self._tried(size)
        if size in (self.preprocessing.size, self.own_size) or self._by_rule(size):
            return size
        if self.family in RESIZABLE:  # made for a grid that is not square, which it would not interpolate from
            return super().input_size(image_size)
        try:
            self._places(size)
        except Lost as lost:
            height, width = (max(p, side // p * p) for side, p in zip(size, self.patch, strict=True))
            if (height, width) != size and self._takes((height, width)):
                self._filled(size, self.patch)
            try:
                return super().input_size(image_size)  # which says that it takes its own alone
            except ValueError as refusal:
                raise ValueError(f"{refusal} (it was tried: {lost})") from lost
        return size

    def _tried(self, size: tuple[int, int]) -> tuple[int, int]:
        """A size that the module runs on, once it was tried. Raises ValueError with what the module says of it."""
        if size != self.own_size:
            with self.lock:
                try:
                    runs(self.module, size)
                except Lost as error:
                    own = f"{self.own_size[0]}×{self.own_size[1]} px"
                    raise ValueError(f"{self.name} was made for {own}, and {error}") from error
        return size

    def _takes(self, size: tuple[int, int]) -> bool:
        try:
            self._places(size)
        except Lost:
            return False
        return True

    def grid(self, image_size: ImageSize | None = None, patch_size: int | None = None) -> Grid:
        size = self.input_size(image_size)
        if self._by_rule(size) or not self.attends:
            return super().grid(image_size, patch_size)
        if patch_size is not None:
            self._patch_size(patch_size)
        try:
            found = self._places(size)
        except Lost as lost:
            raise ValueError(
                f"the preprocessing of {self.name} makes inputs of {size[0]}×{size[1]} px, and {lost}: it was made for "
                f"image_size={self.own_size}"
            ) from lost
        if image_size is not None and found.corner == (0.0, 0.0) and not found.overlap:
            self._filled(size, self.patch)
        return found.grid

    def frame(
        self, source: tuple[int, int], *, image_size: ImageSize | None = None, patch_size: int | None = None
    ) -> Frame:
        frame = super().frame(source, image_size=image_size)
        return self._of_cells(frame, self.grid(image_size, patch_size))

    @property
    def _regular(self) -> bool:
        """Whether its grid is the input cut into patches from the top left corner, as an Outline takes it to be."""
        found = self.found
        if found is None:
            return True
        return found.corner == (0.0, 0.0) and found.grid == Grid.of(self.own_size, self.patch, self.prefix, self.suffix)

    def _by_rule(self, size: tuple[int, int]) -> bool:
        """Whether the grid of an input follows from the patch size, so that nothing has to be tried."""
        return self._regular and (size == self.own_size or self.resizable)

    def _places(self, size: tuple[int, int]) -> Places:
        """By experiment, remembered. Raises Lost."""
        own = size == self.own_size
        if own and self.found is not None:
            return self.found
        with self.lock:
            patches = size[0] // self.patch[0] * (size[1] // self.patch[1])
            return places(self.module, size, arguments(self.module, patches, interpolated=not own))

    def _of_cells(self, frame: Frame, grid: Grid) -> Frame:
        """The frame of the grid's cells, from that of the input's pixels."""
        if self._by_rule(frame.model) or not self.attends:
            return frame
        top, left = self._places(frame.model).corner
        if (top, left) == (0, 0):
            return frame
        offset = (frame.offset[0] - top, frame.offset[1] - left)
        return Frame(frame.source, (grid.rows * grid.patch[0], grid.cols * grid.patch[1]), frame.scale, offset)

    def forecast(self, grid: Grid, *, gradients: bool = False) -> int:
        """Bytes that a forward under capture needs beside the weights, in the dtype that they have now."""
        return self.memory(grid, torch.finfo(self.dtype).bits // 8, gradients=gradients)

    def _fits(self, grid: Grid, *, gradients: bool = False) -> None:
        free, needed = free_memory(self.device), self.forecast(grid, gradients=gradients)
        if needed <= free:
            return
        patch, rows = grid.patch, math.isqrt(grid.patches)
        while rows and self.forecast(Grid(rows, rows, patch, self.prefix, self.suffix), gradients=gradients) > free:
            rows -= 1
        fits = f"take an image_size of at most {rows * patch[0]} px, or larger patches" if rows else "none would fit"
        raise MemoryError(
            f"{grid} would need about {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free on {self.device}: {fits}"
        )
