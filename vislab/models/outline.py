"""An Outline: what is known of a model before it runs, without a framework; and the sizes it can take."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.checks import shown, whole
from ..core.costs import attention_memory
from ..core.geometry import Frame, Grid
from .preprocessing import ImageSize, Preprocessing, sides

# transformers' model types whose forward interpolates positions by the recorded patch size; held by the tests
RESIZABLE = (
    "vit",
    "deit",
    "vit_msn",
    "vit_mae",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "clip_vision_model",
    "siglip_vision_model",
    "beit",
    "data2vec-vision",
    "dpt",
)


@dataclass(frozen=True, eq=False)
class Outline:
    """What is known of a Vision Transformer before it runs.

    family: transformers' model type, "" for modules of other libraries. own_size: (height, width) px of the input that
    it was made for. patch: (height, width) px. prefix, suffix: tokens before and after the patches. cls: whether the
    first token is CLS. names: of its classes, as whoever made or loaded it says, in the order of the logits, or None.
    biased: whether relative positions are added to its attention.
    """

    name: str
    family: str
    own_size: tuple[int, int]
    preprocessing: Preprocessing
    patch: tuple[int, int]
    prefix: int
    suffix: int
    cls: bool
    names: tuple[str, ...] | None
    layers: int
    heads: int
    dim: int
    biased: bool

    @property
    def attends(self) -> bool:
        """Whether it has attention that is one map over the image; else `patch` is the side of squares."""
        return self.layers > 0

    @property
    def unseen(self) -> str:
        """Why it has none, where it has none."""
        return ""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of its classes, or None for a model without a classifier."""
        return self.names

    @property
    def resizable(self) -> bool:
        """Whether patch and image size can be changed.

        transformers interpolates position embeddings from a square grid only; DINOv3 has none.
        """
        own = Grid.of(self.own_size, self.patch)
        return self.family in RESIZABLE and (own.rows == own.cols or self.family == "dinov3_vit")

    def grid(self, image_size: ImageSize | None = None, patch_size: int | None = None) -> Grid:
        """The token grid of an input. image_size: px, side of a square or (height, width); patch_size: px.

        Raises ValueError for sizes that leave pixels over, with those near them that do not.
        """
        size = self.input_size(image_size)
        patch = self.patch if patch_size is None else (self._patch_size(patch_size),) * 2
        if image_size is not None or patch_size is not None:
            self._filled(size, patch)
        return Grid.of(size, patch, self.prefix, self.suffix)

    def _filled(self, size: tuple[int, int], patch: tuple[int, int]) -> None:
        """Raise ValueError for patches that leave pixels of an input over."""
        Grid.of(size, patch)
        if any(s % p for s, p in zip(size, patch, strict=True)):
            p = patch[0]
            fitting = [d for d in range(4, min(size) + 1) if size[0] % d == 0 and size[1] % d == 0]
            near = sorted({max(p, s // p * p) for s in size} | {(s // p + 1) * p for s in size})
            other = f", or a patch_size of {', '.join(map(str, fitting)) or 'another size'}" if self.resizable else ""
            raise ValueError(
                f"patches of {p} px do not fill an input of {size[0]}×{size[1]} px: take an image_size of "
                f"{' or '.join(map(str, near))}{other}"
            )

    def frame(
        self, source: tuple[int, int], *, image_size: ImageSize | None = None, patch_size: int | None = None
    ) -> Frame:
        """From an image of `source`, (height, width), to the cells of its grid: 0 is the grid's top left corner."""
        return self.preprocessing.frame(source, self.input_size(image_size))

    def input_size(self, image_size: ImageSize | None = None) -> tuple[int, int]:
        """(height, width) px of the input that is asked for. Raises ValueError for sizes that the model cannot take."""
        if image_size is None:
            return self.preprocessing.size
        size = sides(image_size)
        if size != self.preprocessing.size and not self.resizable:
            height, width = self.preprocessing.size
            raise ValueError(
                f"{self.name} takes {height}×{width} px only, not {size[0]}×{size[1]}: leave image_size out"
            )
        return size

    def _patch_size(self, patch_size: int) -> int:
        if not whole(patch_size) or patch_size < 1:
            raise ValueError(f"patch_size is a whole number of pixels above 0, not {shown(patch_size)}")
        patch_size = int(patch_size)
        if (patch_size, patch_size) != self.patch and self.attends and not self.resizable:
            raise ValueError(f"{self.name} keeps its patches of {self.patch[0]} px: leave patch_size out")
        return patch_size

    def memory(self, grid: Grid, value: int, *, gradients: bool = False) -> int:
        """Bytes that a forward under capture needs beside the weights, at most and roughly. value: bytes of a number.

        Queries and keys of every layer are kept, where one projection makes them with the values too, and for gradients
        all that the backward pass reads; the activations of a few layers live at a time. Relative position bias, where
        there is one, is kept whole.
        """
        bias = attention_memory(grid.tokens, self.heads, self.layers + 6, value) if self.biased else 0
        return grid.tokens * self.dim * value * ((12 if gradients else 3) * self.layers + 40) + bias
