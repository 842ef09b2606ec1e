"""A Model: a module that is run on images, under capture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.checks import shown, whole
from ..core.geometry import Frame, Grid
from ..core.images import load_image
from ..engine.capture import Capture
from ..engine.hooks import capture
from ..engine.site import AttentionRefused
from .blocks import blocks
from .budget import Budget, budget, settings_of
from .calling import core
from .classes import label_names
from .classified import Classified
from .clips import OfClip, clip_of
from .embedding import reason
from .modes import evaluating, frozen
from .outline import Outline
from .patch_size import resized
from .placed import Stuck
from .places import noise
from .preprocessing import ImageSize, Preprocessing
from .run import Prepared, Run
from .spending import Spending
from .tokens import Tokens
from .worth import worth


@dataclass(frozen=True, eq=False)
class Model(Classified):
    """A Vision Transformer ready to look at images; make one with `vislab.load`.

    name: as it was loaded or named, or the module's class. module: what runs. preprocessing: how an image becomes its
    input. patch: (height, width) px. layers, heads: of its attention, 0 layers where none is one map over the image.
    labels: names of its classes, None where it has none. texts: how an image-text model is given texts, which are its
    classes then; None of any other. of_frame: how one frame reaches a model of clips, whose image is their sheet; None
    of a model of images. given: whether the module was given, and no name loads it. lock: held while the module is at
    work.
    """

    of_frame: Preprocessing | None = None
    given: bool = False

    @classmethod
    def of(cls, outline: Outline, module: nn.Module) -> Model:
        return cls(**vars(outline), module=module)

    @property
    def clip(self) -> OfClip | None:
        """The sheet of a model of clips; None of a model of images."""
        return self.module if isinstance(self.module, OfClip) else None

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
        grids = [(p, Outline.grid(self, size, p)) for p in tokens.fovea_patches] if planned.layout else []
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

        tokens: how they are spent, as of `run`, a fovea in pixels of the input; the forwards are captured then. Raises
        ValueError for a model without a classifier.
        """
        size, grid, asked = self.input_size(image_size), self.grid(image_size, patch_size), Tokens.of(tokens)
        sizes: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size, "frame": Frame.stretch(size, size)}
        planned = None if asked is None else budget(self, asked, size, **sizes)
        arguments, pixels = self._arguments(size, grid), pixels.to(self.device, self.dtype)
        with self.lock, torch.no_grad(), evaluating(self.module), self._patched(patch_size):
            spending = None if planned is None else self._spending(planned, size, Frame.stretch(size, size))
            parts = []
            alone = spending is not None and spending.blocks.tables  # rows of positions are given to all images alike
            for part in pixels.split(1) if alone else [pixels]:
                with nullcontext() if spending is None else self.captured(spending=spending):
                    parts.append(self.class_logits(self.forward(part, arguments)))
        if parts[0] is None:
            raise ValueError(self._names_nothing())
        return torch.cat([part for part in parts if part is not None]).float()

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
