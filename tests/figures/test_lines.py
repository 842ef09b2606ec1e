"""Laws of the lines between patches: where patches meet, on the photograph alone, and never the map itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures import heatmap, photo, pixels

import vislab
from vislab.core.geometry import Frame
from vislab.figures import drawing, lines, panel

FRAMES = {
    "stretched": Frame.stretch((96, 120), (48, 64)),
    "padded": Frame((96, 60), (48, 64), (0.5, 0.5), (0.0, 17.0)),
    "cropped": Frame((200, 200), (48, 64), (0.5, 0.5), (-20.0, -15.0)),
}


def on(name: str) -> vislab.Heatmap:
    frame = FRAMES[name]
    flat = np.arange(12, dtype=np.float32).reshape(3, 4)
    return replace(heatmap(), values=flat, grid=vislab.Grid(3, 4, (16, 16), 1), frame=frame, image=photo(frame.source))


@pytest.mark.parametrize("name", FRAMES)
def test_lines_are_where_two_patches_meet(name: str) -> None:
    heat = on(name)
    bare, ruled = vislab.overlay(heat), vislab.overlay(heat, grid=True)
    changed = (bare != ruled).any(2)
    height, width = heat.frame.source
    seen = {(y, x): heat.cell_at(x + 0.5, y + 0.5) for y in range(height) for x in range(width)}
    for (y, x), cell in seen.items():
        near = {seen.get((y + dy, x + dx)) for dy in (-2, -1, 0, 1, 2) for dx in (-2, -1, 0, 1, 2)}
        if changed[y, x]:
            assert cell is not None  # what the model never saw has no patches
            assert len(near) > 1
    inner = [(y, x) for (y, x), cell in seen.items() if cell and seen.get((y, x + 1)) not in (None, cell)]
    assert all(changed[y, max(0, x - 1) : x + 3].any() for y, x in inner)


def test_small_patches_have_faint_lines() -> None:
    assert [lines.faintness(px) for px in (6, 12, 24, 400)] == [0.25, 0.5, lines.STRONGEST, lines.STRONGEST]


def test_a_page_has_them_too_and_a_plain_file(tmp_path: Path) -> None:
    heat = on("stretched")
    with drawing.styled():
        bare, ruled = (
            drawing.figure_of(panel.panel(heat, grid=grid), vector=True).axes[0].collections for grid in (False, True)
        )
    assert len(bare) == 0
    rows, columns = (one.get_segments() for one in ruled)
    assert [segment[0][1] for segment in rows] == pytest.approx([0, 32, 64, 96])
    assert [segment[0][0] for segment in columns] == pytest.approx([0, 30, 60, 90, 120])
    plain = vislab.save(tmp_path / "plain.png", heat, grid=True, plain=True)
    assert (pixels(plain) == vislab.overlay(heat, grid=True)).all()


def test_the_patch_that_asks_is_marked_in_plain_files_too(tmp_path: Path) -> None:
    heat = replace(on("stretched"), query="patch (1, 2)")
    plain = pixels(vislab.save(tmp_path / "plain.png", heat, plain=True))
    changed = np.argwhere((plain != vislab.overlay(heat)).any(2))
    assert changed.min(0).tolist() == pytest.approx([32, 60], abs=2)
    assert changed.max(0).tolist() == pytest.approx([64, 90], abs=2)
