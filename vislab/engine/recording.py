"""A Recording: the sites of one capture while forwards run, and what the capture asked to be done to them."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple

from torch import Tensor, nn

from ..core.checks import listed
from .arrangement import Arrangement
from .attention import Call, versions
from .layouts import Key, shapes
from .site import Recorded, Refused, Site, Unproven, Unseen
from .steps import begins, joined
from .verification import Check


class Caller(NamedTuple):
    """A module that runs, and the frame of Python in which it does."""

    module: nn.Module
    frame: FrameType


@dataclass(frozen=True, eq=False)
class Visit:
    """One call of attention, as one capture takes part in it.

    recording: of that capture. site: where the call is kept. scale: the capture's attention scale. modules: of the
    captured module that run, the innermost first.
    """

    recording: Recording
    site: Site
    scale: float
    modules: Sequence[nn.Module]

    def keep(
        self,
        call: Call,
        check: Check | None = None,
        result: Tensor | None = None,
        arrangement: Arrangement | None = None,
        frames: int = 1,
    ) -> None:
        """The site can be read. result: what the call made, where the gradient is to be taken."""
        batches, batch = self.recording.batches, call.shape[0] // frames
        if batches is not None and batch != 1 and batch not in batches:
            model = listed(map(str, sorted(batches)))
            self.refuse(f"it attends within {batch} windows, frames or crops of a batch of {model}")
            return
        in_graph = self.recording.gradients and result is not None and result.requires_grad
        self.site.state = Recorded(
            call, versions(call), check, result if in_graph else None, arrangement if in_graph else None, frames
        )

    def refuse(self, reason: str) -> None:
        self.site.state = Refused(reason)

    def settle(self, module: nn.Module) -> None:
        """The module whose site this is, found out later than its softmax."""
        self.site.path, self.site.kind = self.recording.paths[module], type(module).__name__
        self.recording.changed()

    def enlist(self) -> None:
        """From now on the site is one of those that the capture shows."""
        self.recording.enlist(self.site)


class Recording:
    """The sites of one capture, in execution order, of the last forward.

    root: the captured module. scale: the attention scale, of all sites or by their index in execution order. gradients:
    whether values and graph are kept. steps: whether all forwards of a generation count, not the last one alone. paths:
    of the modules in the captured one. batches: what may be the batch size of the model's input, None where that cannot
    be told.
    """

    def __init__(self, root: nn.Module, scale: float | Mapping[int, float], gradients: bool, steps: bool) -> None:
        self.root, self.scale, self.gradients, self.steps = root, scale, gradients, steps
        self.paths = {module: name for name, module in root.named_modules()}
        self.batches: frozenset[int] | None = None
        self.in_forward = self.followed = self.ran = False
        self.inputs: Key = ()
        self._sites: list[Site] = []
        self._before: list[Site] = []  # of the generation's earlier forwards
        self._generated: list[Site] = []  # those of them that the last forward left
        self._door: FrameType | None = None
        self._shown: dict[str, Site] | None = None

    # ---- while a forward runs ----

    def begin(self, inputs: Sequence[Tensor], *, followed: bool) -> None:
        """The captured module begins to run; what it did in an earlier forward is forgotten.

        followed: whether an earlier forward with such inputs taught how its tensors are laid out.
        """
        self.ran = True
        self.in_forward, self._door, self.followed, self.inputs = True, None, followed, shapes(inputs)
        self._before, self._sites, self._shown = self._sites, [], None
        sizes = {t.shape[0] for t in inputs if t.ndim > 1}
        sizes |= {t.shape[1] for t in inputs if t.ndim == 3}  # or (tokens, batch, width)
        sizes |= {t.shape[0] * t.shape[1] for t in inputs if t.ndim == 5 and t.shape[2] == 3}  # tiles of each image
        self.batches = frozenset(sizes) or None

    def finish(self) -> None:
        """The captured module has run: where steps count, what its earlier forwards did is part of the whole."""
        if self.steps:
            before, later = self._before, self.sites.values()
            if begins(before, [*later]):  # what ran since, such as a vision tower before the text, is part of it
                before = [site for site in before if site not in self._generated]
            self._sites = self._generated = joined(before, [*later])
            self._shown = None
        self._before = []

    def end(self) -> None:
        """The captured module has run, or failed."""
        self.in_forward, self.followed, self.batches = False, False, None

    def close(self) -> None:
        """The capture is over."""
        self.end()
        self._door = None

    def expect(self, module: nn.Module) -> None:
        """A module that bears the name of attention begins to run."""
        self._sites.append(Site(self.paths[module], type(module).__name__))
        self._shown = None

    def visit(self, callers: Sequence[Caller]) -> Visit | None:
        """A call of attention, made while these modules run, the innermost first; None where none of them is ours."""
        own = [caller for caller in callers if caller.module in self.paths]
        if not own:
            return None
        if not self.in_forward:
            self._come_in(own[-1], {caller.frame for caller in own})
        module = own[0].module
        site = Site(self.paths[module], type(module).__name__, Unproven())
        scale = self.scale
        if isinstance(scale, Mapping):
            scale = scale.get(self.count, 1.0)
        return Visit(self, site, float(scale), [caller.module for caller in own])

    def _come_in(self, door: Caller, frames: set[FrameType]) -> None:
        """The captured module runs in part, or by another door than its forward: each such run is a forward."""
        if self._door in frames:
            return
        self._door, path = door.frame, self.paths[door.module]
        attended = [site for site in self._sites if not isinstance(site.state, Unseen)]
        self._sites = [site for site in attended if not _within(site.path, path)]
        self._shown = None

    def enlist(self, site: Site) -> None:
        """A site has attended."""
        first = next((s for s in self._sites if s.path == site.path and isinstance(s.state, Unseen)), None)
        if first is not None:
            self._sites.remove(first)
        self._sites.append(site)
        self._shown = None

    def changed(self) -> None:
        """A site has another name than before."""
        self._shown = None

    # ---- afterwards ----

    @property
    def count(self) -> int:
        """How many sites have attended."""
        return sum(not isinstance(site.state, Unseen) for site in self._sites)

    @property
    def sites(self) -> Mapping[str, Site]:
        """By name, in execution order; modules in which nothing attended are there where no site lies around them."""
        if self._shown is None:
            attended = [site for site in self._sites if not isinstance(site.state, Unseen)]
            paths, turns = Counter(site.path for site in attended), Counter[str]()
            for site in attended:
                site.turn = turns[site.path] if paths[site.path] > 1 else None
                turns[site.path] += 1
            self._shown = {
                site.name: site
                for site in self._sites
                if not isinstance(site.state, Unseen) or not self._part_of(site, paths)
            }
        return self._shown

    @staticmethod
    def _part_of(site: Site, paths: Iterable[str]) -> bool:
        """Whether a module in which nothing attended is part of one that did, or has it as a part."""
        return any(_within(path, site.path) or (_within(site.path, path) and not named(site.kind)) for path in paths)

    def check_scale(self) -> None:
        """Raise ValueError where a site that is to be scaled was none."""
        if isinstance(self.scale, Mapping) and self.ran:
            for index in self.scale:
                if index >= self.count:
                    raise ValueError(
                        f"attention_scale is for no site {index!r}: their indices run from 0 to {self.count - 1}"
                    )


@functools.cache
def named(kind: str) -> bool:
    """Whether a module's class bears the name of attention."""
    return re.search(r"att(entio)?n", kind, re.IGNORECASE) is not None


def _within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith(outer + ".")
