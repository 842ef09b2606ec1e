"""What the score of one target depends on: the model run again and again, by gradients and by captum."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .calls import wide
from .geometry import Grid
from .models import ImageSize, Model, Prepared
from .reading import Answer, Question, encoder, layer_index, pooling_head, token_name
from .sites import AttentionRefused, Capture, Site, whole

Target = str | int | Callable[[Any], Tensor] | None
Progress = Callable[[int, int], None]

_NODES = 16  # of Gauss and Legendre, at which a path through the model is looked at
_BATCH_TOKENS = 2048  # run at a time with gradients, which bounds the activations that are kept


class Probe:
    """One image in a model that is ready for it, run as often as a method needs; made by `probing`.

    pixels: (1, 3, height, width), the model's input. target: what is explained, in words, known after the first run.
    """

    def __init__(
        self,
        model: Model,
        given: Prepared,
        target: Target,
        attention_scale: float | Mapping[int, float],
        progress: Progress | None,
    ) -> None:
        self.model, self.grid, self.frame, self.pixels = model, given.grid, given.frame, given.pixels
        self.target: str | None = None
        self._arguments, self._scale, self._progress = given.arguments, attention_scale, progress
        self._asked = target
        self._index: int | None = None
        self._count: Callable[[int], object] = int

    @property
    def batch(self) -> int:
        """How many images are run at a time; for a function of the output one, since it may look at the first only."""
        return 1 if self.of_function else max(1, _BATCH_TOKENS // self.grid.tokens)

    @property
    def of_function(self) -> bool:
        """Whether the target is a function of the model's output."""
        return callable(self._asked)

    def captured(self, times: int = 1, weights: float | Tensor = 1.0) -> Capture:
        """A forward of the image, so many times over, and the backward pass of its score to the attention of all sites.

        weights: of the scores, (times,).
        """
        with self.model.captured(self._scale, gradients=True) as cap:
            output = self.model.module(self.pixels.expand(times, -1, -1, -1), **self._arguments)
            cap.differentiate((self._score(output) * weights).sum())
        return cap

    def run(self, pixels: Tensor) -> tuple[Capture, Tensor]:
        """pixels: (batch, 3, height, width) -> what attended, and the scores of the target, (batch,)."""
        with self.model.captured(self._scale) as cap:
            scores = self._score(self.model.module(pixels, **self._arguments))
        self._count(len(pixels))
        return cap, scores

    def scores(self, pixels: Tensor) -> Tensor:
        return self.run(pixels)[1]

    @torch.no_grad()
    def settled(self) -> tuple[Capture, Tensor]:
        """The plain run of the image, which finds the predicted class where no target was given."""
        return self.run(self.pixels)

    @contextmanager
    def counting(self, total: int) -> Iterator[None]:
        """Images run inside the block are told as progress: by default a bar, where it takes more than 2 seconds."""
        from tqdm.auto import tqdm

        runs = 0

        def count(more: int) -> None:
            nonlocal runs
            runs += more
            bar.update(more)
            if self._progress is not None:
                self._progress(runs, total)

        with tqdm(total=total, unit="run", delay=2, leave=False, disable=self._progress is not None) as bar:
            self._count = count
            try:
                yield
            finally:
                self._count = int

    def _score(self, output: Any) -> Tensor:
        if self.of_function:
            assert callable(self._asked)
            self.target = getattr(self._asked, "__name__", type(self._asked).__name__)
            score = self._asked(output)
            if not isinstance(score, Tensor) or score.numel() != 1:
                said = f"shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
                raise ValueError(f"a target takes the model's output to one number in a tensor, not to {said}")
            return score.reshape(1)
        logits = self.model.class_logits(output)
        if logits is None:
            raise ValueError(
                f"{self.model.name} has no classifier, so it has no class to explain: give target a function of its "
                f"output ({type(output).__name__}) that makes one number of it, or take vislab.load('embedded')"
            )
        if self._index is None:
            self._index = self._class(logits)
        return logits[:, self._index]

    def _class(self, logits: Tensor) -> int:
        labels, count = self.model.labels, logits.shape[1]
        index = int(logits[0].argmax()) if self._asked is None else self._asked
        if not whole(index) or not 0 <= index < count:
            raise ValueError(
                f"{self.model.name} has {count} classes without names: target is an index from 0 to {count - 1}, or a "
                f"function of the model's output, not {index!r}"
            )
        self.target = labels[index] if labels is not None and len(labels) == count else f"class {index}"
        return index


@contextmanager
def probing(
    model: Model,
    image: np.ndarray,
    target: Target,
    *,
    attention_scale: float | Mapping[int, float] = 1.0,
    image_size: ImageSize | None = None,
    patch_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Probe]:
    """The model ready to be asked about a target in an image, (H, W, 3) uint8; afterwards it is what it was.

    target: a class, by label or index; by default the predicted one; or a function of the model's output for one image
    that gives one number. progress: told (done, total) by methods that take long; by default a bar is shown.
    """
    if model.labels is not None and target is not None and not callable(target):
        target = model.class_index(target)
    with model.prepared(image, image_size=image_size, patch_size=patch_size, gradients=True) as given:
        yield Probe(model, given, target, attention_scale, progress)


def relevance(probe: Probe, question: Question) -> Answer:
    """Relevance propagated through all layers (Chefer, Gur & Wolf 2021); see `Capture.relevance`.

    It starts from the token that is asked for; else from CLS where the score reads it, from the pooling head, or from
    the mean of the tokens that the score reads.
    """
    cap = probe.captured()
    sites, start, name = _start(cap, probe, question)
    return Answer(cap.relevance(start, sites=sites)[0, probe.grid.patch_tokens], name)


def grad_rollout(probe: Probe, question: Question, *, residual: float = 0.5) -> Answer:
    """Rollout through attention weighted by its positive gradients; see `Capture.grad_rollout`.

    It starts where `relevance` does. residual: share of the residual path.
    """
    cap = probe.captured()
    sites, start, name = _start(cap, probe, question)
    return Answer(cap.grad_rollout(start, sites=sites, residual=residual)[0, probe.grid.patch_tokens], name)


def _start(cap: Capture, probe: Probe, question: Question) -> tuple[list[Site], int | Tensor, str]:
    """The sites that the score depends on, what the walk through them starts with, and that in words."""
    grid, sites = probe.grid, encoder(cap, probe.grid)
    while len(sites) > 1 and not cap.queries_read(sites[-1]).any():
        sites = sites[:-1]
    if question.token is not None:
        return sites, question.token, token_name(grid, question.token)
    read = cap.queries_read(sites[-1])[0]
    if question.cls and read[0]:
        return sites, 0, "CLS"
    pooling = pooling_head(cap, grid, -1)
    if pooling is not None and cap.queries_read(pooling).any():
        weighted = cap.attention(pooling, slice(None)) * cap.gradient(pooling, slice(None)).relu()
        return sites, weighted[0].mean((0, 1)), f"pooling head {pooling.name}"
    name = "mean of all queries" if read.all() else f"mean of the {int(read.sum())} tokens that the score reads"
    return sites, read / read.sum().clamp_min(1), name


def grad_cam(probe: Probe, question: Question) -> Answer:
    """Grad-CAM on the tokens that the attention of a layer reads, as captum's LayerGradCam defines it.

    Signed: what speaks against the target is below 0. Prefix and suffix tokens take no part. Source: Selvaraju et al.
    2017, eqs. 1 and 2, without the ReLU.
    """
    from captum.attr import LayerGradCam

    cap, _ = probe.settled()
    sites = encoder(cap, probe.grid)
    site = sites[layer_index(question.layer, len(sites))]
    pixels = probe.pixels.clone().requires_grad_()
    with _seen_as_image(probe.model.module.get_submodule(site.name), probe.grid) as seen:
        found = LayerGradCam(probe.scores, seen).attribute(pixels)
    return Answer(found.detach()[0, 0].flatten(), signed=True)


def integrated_gradients(probe: Probe, question: Question, *, steps: int = 50) -> Answer:
    """Integrated Gradients from an input of zeros, the mean colour of the preprocessing, through captum.

    Signed: the values of all patches sum to the score's difference between image and zeros. steps: of the integral.
    Source: Sundararajan, Taly & Yan 2017.
    """
    from captum.attr import IntegratedGradients

    if steps < 1:
        raise ValueError(f"integrated_gradients takes at least 1 step, not {steps}")
    probe.settled()
    pixels = probe.pixels.clone().requires_grad_()
    with probe.counting(steps):
        found = IntegratedGradients(probe.scores).attribute(pixels, n_steps=steps, internal_batch_size=probe.batch)
    return Answer(_by_patch(found.detach(), probe.grid).sum((0, 2, 4)).flatten(), signed=True)


@torch.no_grad()
def occlusion(probe: Probe, question: Question) -> Answer:
    """By how much the score falls when a patch is replaced by zeros, the mean colour of the preprocessing, by captum.

    Signed: a patch without which the score rises is below 0. Source: Zeiler & Fergus 2014.
    """
    from captum.attr import Occlusion

    probe.settled()
    grid = probe.grid
    with probe.counting(grid.patches + 1):
        found = Occlusion(probe.scores).attribute(
            probe.pixels,
            sliding_window_shapes=(3, *grid.patch),
            strides=(3, *grid.patch),
            perturbations_per_eval=probe.batch,
        )
    return Answer(_by_patch(found, grid)[0, :, 0, :, 0].flatten(), signed=True)


def cls_contribution(probe: Probe, question: Question) -> Answer:
    """What each patch adds to the score through the attention of CLS in the last layer.

    Signed. CLS takes from each token its attention × value. While all that it takes grows from nothing to what it is,
    each token has its share in the score's growth: the integral of gradient × attention × value, summed over the heads
    (Sundararajan, Taly & Yan 2017, along this path). The shares of all tokens, CLS' own and the output projection's
    bias included, sum to the score minus that of a model whose CLS takes nothing in this layer.
    """
    cap, _ = probe.settled()
    site = encoder(cap, probe.grid)[-1]
    attention = probe.model.module.get_submodule(site.name)
    if not question.cls:
        raise ValueError(f"{probe.model.name} has no CLS token that could contribute: take method='token_contribution'")
    norms = [name for name, part in attention.named_modules() if re.search("Norm", type(part).__name__)]
    if any(not re.search(r"(q|k|query|key)_?(layer)?norm", name) for name in norms):
        raise AttentionRefused(
            f"the contributions through {site.name!r} ({site.kind}) do not add up: it normalises what its heads take"
        )
    nodes, weights = (torch.from_numpy(x).to(probe.pixels) for x in np.polynomial.legendre.leggauss(_NODES))
    values = torch.zeros(probe.grid.patches, dtype=wide(probe.pixels.dtype), device=probe.pixels.device)
    # of the nodes on -1..1 and their weights, as they are on 0..1
    for share, weight in zip(((nodes + 1) / 2).split(probe.batch), (weights / 2).split(probe.batch), strict=True):
        with _first_token_scaled(attention, share):
            cap = probe.captured(len(share), weight / share)
        if not cap.queries_read(site.name)[:, 0].any():
            raise ValueError(
                f"the score reads nothing of CLS, {probe.model.name} averages patches: take method='token_contribution'"
            )
        shares = cap.attention(site.name, 0) * cap.gradient(site.name, 0)
        values += shares.sum((0, 1))[probe.grid.patch_tokens]
    return Answer(values, signed=True)


@torch.no_grad()
def token_contribution(probe: Probe, question: Question) -> Answer:
    """What each patch adds to the score through average pooling: the classifier read on every patch token alone.

    Signed. The last layer's output of a patch is put in the place of every token that the classifier reads, CLS and
    patches; the scores are divided by the number of patches, so that their sum is the score averaged over the patches.
    Of a model that normalises its tokens and averages the patches, that is the score itself.
    """
    if probe.of_function:
        raise ValueError("token_contribution reads the classifier: target is a class, not a function of the output")
    cap, _ = probe.settled()
    last = probe.model.module.get_submodule(_block(probe.model.module, encoder(cap, probe.grid)[-1].name))
    grid = probe.grid

    def one_by_one(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tokens = output if isinstance(output, Tensor) else output[0]
        _check_tokens(tokens, grid)
        alone = tokens[0, grid.patch_tokens, None].expand(-1, grid.prefix + 1 + grid.suffix, -1)
        return alone if isinstance(output, Tensor) else (alone, *output[1:])

    with last.register_forward_hook(one_by_one):
        return Answer(probe.scores(probe.pixels) / grid.patches, signed=True)


def both_contribution(probe: Probe, question: Question) -> Answer:
    """What each patch adds to the score through CLS and through average pooling: the mean of the two. Signed."""
    through = [method(probe, question).values for method in (token_contribution, cls_contribution)]
    return Answer(torch.stack(through).mean(0), signed=True)


def _block(module: nn.Module, path: str) -> str:
    """The path of the layer that an attention module is part of: the last one along its path that stands in a list."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        if isinstance(module.get_submodule(".".join(parts[: count - 1])), nn.ModuleList | nn.Sequential):
            return ".".join(parts[:count])
    raise ValueError(f"{path} stands in no list of layers, whose last one the classifier reads")


@contextmanager
def _first_token_scaled(attention: nn.Module, shares: Tensor) -> Iterator[None]:
    """Attention that hands on only a share of what it has for the first token, one share an image of the batch."""

    def scaled(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        tokens = output if isinstance(output, Tensor) else output[0]
        tokens = torch.cat([tokens[:, :1] * shares[:, None, None], tokens[:, 1:]], 1)
        return tokens if isinstance(output, Tensor) else (tokens, *output[1:])

    with attention.register_forward_hook(scaled):
        yield


def _check_tokens(tokens: Tensor, grid: Grid) -> None:
    if tokens.ndim != 3 or tokens.shape[1] != grid.tokens:
        raise ValueError(f"{grid} were expected between the layers, not a tensor of shape {tuple(tokens.shape)}")


def _by_patch(pixels: Tensor, grid: Grid) -> Tensor:
    """(1, channels, height, width) -> (channels, rows, patch height, cols, patch width), where there are patches."""
    height, width = grid.rows * grid.patch[0], grid.cols * grid.patch[1]
    inside = pixels[0, :, :height, :width]
    return inside.unflatten(2, (grid.cols, -1)).unflatten(1, (grid.rows, -1))


@contextmanager
def _seen_as_image(attention: nn.Module, grid: Grid) -> Iterator[nn.Module]:
    """A layer whose output is the patch tokens that enter an attention module, (batch, channels, rows, cols)."""
    seen = nn.Identity()

    def through(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tokens = next(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim == 3)
        _check_tokens(tokens, grid)
        before, patches, after = tokens.split((grid.prefix, grid.patches, grid.suffix), 1)
        image = seen(patches.mT.unflatten(2, (grid.rows, grid.cols)))
        replaced = torch.cat([before, image.flatten(2).mT, after], 1)
        swap = {id(tokens): replaced}  # queries, keys and values of nn.MultiheadAttention are one tensor
        return tuple(swap.get(id(x), x) for x in args), {name: swap.get(id(x), x) for name, x in kwargs.items()}

    with attention.register_forward_pre_hook(through, with_kwargs=True):
        yield seen
