"""One photo of many: what tells its results apart from those of other settings, and its row in a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.fingerprints import of_bytes
from ..core.heatmap import Heatmap

TOP = 3  # classes in a row
COLUMNS = (
    *("photo", "figure", "error", "width", "height", "rows", "cols", "target"),
    *(f"{name}_{k}" for k in range(1, TOP + 1) for name in ("label", "probability")),
    *("lowest", "highest", "mean", "entropy", "top_tenth", "peak_x", "peak_y"),
)

# What columns are, in the words of whoever reads the table.
COLUMN_WORDS = {
    "rows, cols": "patches of the map",
    "target": "what was explained",
    "label_1, probability_1": "what the model says of the photo, the most probable class first",
    "lowest, highest, mean": "values of the map",
    "entropy": "how spread the map is, from 0, one patch alone, to 1, all alike",
    "top_tenth": "share of the map in the tenth of the patches where it is highest",
    "peak_x, peak_y": "centre of the highest patch, in pixels of the photo",
    "error": "why a photo is not shown",
}


def job_of(**settings: Any) -> str:
    """A fingerprint of all that decides what is drawn: the same job makes the same files."""
    return of_bytes(json.dumps(settings, sort_keys=True, default=str).encode())


def done(job: str, figure: Path, others: Iterable[Path]) -> dict[str, Any] | None:
    """The row of a photo whose files are all there and were made by this job; else None.

    A figure is written last, whole or not at all: where it is, the others were.
    """
    from ..figures.provenance import provenance

    if not all(path.exists() for path in (figure, *others)):
        return None
    try:
        notes = provenance(figure).get("notes", {})
    except (OSError, ValueError):
        return None
    return notes["row"] if notes.get("job") == job else None


def row_of(heat: Heatmap, predictions: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Size, predictions and statistics of a heatmap, by the names of `COLUMNS`.

    entropy: of the values' magnitudes, 1 where all are equal, 0 where all but one are 0. top_tenth: the share of their
    sum in the tenth of the patches where they are largest. peak_x, peak_y: the largest value's patch, source pixels.
    """
    size = np.abs(heat.values).ravel().astype(np.float64)
    share = size / size.sum() if size.sum() else np.full(size.size, 1 / size.size)
    some = share[share > 0]
    entropy = float(-(some * np.log(some)).sum() / np.log(size.size)) if size.size > 1 else 0.0
    peak = np.unravel_index(int(heat.values.argmax()), heat.values.shape)
    x0, y0, x1, y1 = heat.box(int(peak[0]), int(peak[1]))
    row: dict[str, Any] = {"height": heat.frame.source[0], "width": heat.frame.source[1]}
    row |= {"rows": heat.grid.rows, "cols": heat.grid.cols, "target": heat.target}
    for k, (label, probability) in enumerate(predictions[:TOP], 1):
        row |= {f"label_{k}": label, f"probability_{k}": probability}
    row |= {"lowest": float(heat.values.min()), "highest": float(heat.values.max()), "mean": float(heat.values.mean())}
    row |= {"entropy": entropy, "top_tenth": float(np.sort(share)[::-1][: max(1, size.size // 10)].sum())}
    return row | {"peak_x": (x0 + x1) / 2, "peak_y": (y0 + y1) / 2}


def table(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV, RFC 4180; numbers with six digits."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{one:.6g}" if isinstance(one, float) else one for name, one in row.items()})
    return file.getvalue().encode(errors="surrogateescape")  # names of files that are no UTF-8 stay as they are
