"""What somebody may need of photographs, and the kinds of models that give it."""

from __future__ import annotations

KINDS = ("detector", "model", "segmenter", "reader")
NEEDS = {
    "class": ("model", "reader"),
    "boxes": ("detector",),
    "count": ("detector",),
    "outlines": ("segmenter",),
    "words": ("reader",),
}
QUESTION = "Describe the picture."  # that a reader is asked
