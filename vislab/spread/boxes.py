"""What is asked of a detector about one of its boxes, on each photograph of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import photo_errors
from .figures import Figures

if TYPE_CHECKING:
    import numpy as np

    from ..core.clip import ClipFrame
    from ..core.heatmap import Heatmap


@dataclass(frozen=True, eq=False)
class BoxFigures(Figures):
    """A question to one detector; each figure shows the box that was asked about.

    model: the detector's name. asked: keywords of `explain_box`. trust: as of `load_detector`.
    """

    trust: bool = False

    def loaded(self) -> Any:
        from ..detectors.load import load_detector

        return load_detector(self.model, trust=self.trust, device=self.device)

    def explained(self, ready: Any, image: np.ndarray | ClipFrame, *, name: str) -> Heatmap:
        from ..api.explain_box import explain_box

        with photo_errors(ValueError, IndexError, name=name):
            return explain_box(image, detector=ready, **self.asked)

    def predictions(self, ready: Any, image: np.ndarray, heat: Heatmap) -> list[tuple[str, float]]:
        """None: a detector says what it finds, box by box."""
        return []
