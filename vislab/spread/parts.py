"""What many processes found, as the part files of one Parquet table: each photograph in it once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.files import write
from ..core.imports import library

TRYING = ".trying-"  # begins the names of marks that stand in the folder while a photograph is done
KEYS = {"photo": "string", "job": "string"}  # columns of every table: whose row it is, and what made it


class Parts:
    """A folder of part files, `part-….parquet`, each written whole or not at all, which readers take for one table.

    columns: name -> type, such as "float64" or "list<float32>", besides those of KEYS.
    """

    def __init__(self, folder: Path, columns: Mapping[str, str]) -> None:
        self.folder, self.columns = folder, {**KEYS, **columns}

    def jobs(self) -> dict[str, set[str]]:
        """The jobs of each photograph whose row is there."""
        found: dict[str, set[str]] = {}
        for row in self.rows(list(KEYS)):
            found.setdefault(row["photo"], set()).add(row["job"])
        return found

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """All rows, by the names of columns, by default of all."""
        for path in self._paths():
            yield from self._read(path, columns).to_pylist()

    def add(self, name: str, rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> None:
        """Write rows as one part; the same name again replaces it. about: what is noted in the file itself."""
        arrow = library("pyarrow")
        schema = arrow.schema([(column, _type(kind)) for column, kind in self.columns.items()], metadata=dict(about))
        self._write(
            self.folder / f"part-{name}.parquet",
            arrow.table({c: [row.get(c) for row in rows] for c in self.columns}, schema),
        )

    def settle(self, jobs: Mapping[str, str]) -> None:
        """Leave of each of these photographs one row alone, that of its job; other photographs keep what they have."""
        arrow, there = library("pyarrow"), set()
        for path in self._paths():
            kept = []
            for number, row in enumerate(self._read(path, list(KEYS)).to_pylist()):
                key = row["photo"], row["job"]
                if key not in there and jobs.get(row["photo"], row["job"]) == row["job"]:
                    there.add(key)
                    kept.append(number)
            self._keep(path, arrow.array(kept, arrow.int64()))
        for pattern in (".part-*.part", f"{TRYING}*"):  # of processes that were killed
            for left in self.folder.glob(pattern):
                left.unlink(missing_ok=True)

    def _keep(self, path: Path, numbers: Any) -> None:
        table = self._read(path, None)
        if len(numbers) == 0:
            path.unlink()
        elif len(numbers) < len(table):
            self._write(path, table.take(numbers))

    def _write(self, path: Path, table: Any) -> None:
        sink = library("pyarrow").BufferOutputStream()
        library("pyarrow.parquet").write_table(table, sink, compression="zstd")
        write(path, sink.getvalue().to_pybytes())

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _read(self, path: Path, columns: Collection[str] | None) -> Any:
        return library("pyarrow.parquet").read_table(path, columns=columns, partitioning=None)


def _type(kind: str) -> Any:
    arrow = library("pyarrow")
    if kind.startswith("list<"):
        return arrow.list_(_type(kind[5:-1]))
    return arrow.type_for_alias(kind)
