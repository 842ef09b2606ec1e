"""Weights in one file: matrices in 8 bits, one step a row, or in float16; all else in float32."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from ..core.checks import meant, one_of, shown

Weights = Literal["int8", "float16"]
NONE: Mapping[tuple[int, int], str] = MappingProxyType({})
Tensor = tuple[int, int, np.ndarray]  # layer, place, values


def check_weights(weights: object) -> None:
    """ValueError for weights that the page cannot hold."""
    kinds = get_args(Weights)
    if not one_of(weights, kinds):
        raise ValueError(f"weights are 'int8' or 'float16', not {shown(weights)}{meant(weights, kinds)}")


def quantised(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix in 8 bits -> (steps (rows,) float32, numbers (rows, cols) int8): matrix ≈ steps · numbers.

    The step of a row is its largest magnitude / 127, so no number is off by more than half a step.
    """
    steps = (np.abs(matrix).max(1) / 127).astype(np.float32)
    return steps, np.rint(matrix / np.where(steps > 0, steps, 1)[:, None]).astype(np.int8)


def packed(tensors: Iterable[Tensor], weights: Weights, finer: Mapping[tuple[int, int], str] = NONE) -> bytes:
    """Tensors as one file: the length of its head, uint32; its head, JSON; their bytes, each from a multiple of 4.

    weights: what matrices become. finer: (layer, place) of those that become "float32" or "float16" instead. The head
    lists [layer, place, rows, cols, kind, offset], cols 0 for a vector; int8 is the steps of all rows, then
    the numbers.
    """
    head, body = [], bytearray()
    for layer, place, values in tensors:
        kind = finer.get((layer, place), weights) if values.ndim == 2 else "float32"
        rows, cols = values.shape if values.ndim == 2 else (len(values), 0)
        head.append([layer, place, rows, cols, kind, len(body)])
        if kind == "int8":
            steps, numbers = quantised(values)
            body += steps.astype("<f4").tobytes() + numbers.tobytes()
        else:
            body += values.astype("<f2" if kind == "float16" else "<f4").tobytes()
        body += bytes(-len(body) % 4)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text + bytes(body)


def unpacked(data: bytes) -> Iterator[Tensor]:
    """What `packed` wrote, as the page computes with it: float32."""
    for layer, place, values, steps in stored(data):
        yield layer, place, values if steps is None else values * steps[:, None]


def stored(data: bytes) -> Iterator[tuple[int, int, np.ndarray, np.ndarray | None]]:
    """What `packed` wrote, as the kernel takes it: float32 and None, or int8 and the step of each row."""
    [length] = struct.unpack_from("<I", data)
    for layer, place, rows, cols, kind, start in json.loads(data[4 : 4 + length]):
        at, count = 4 + length + start, rows * max(1, cols)
        steps = None
        if kind == "int8":
            steps = np.frombuffer(data, "<f4", rows, at)
            values = np.frombuffer(data, np.int8, count, at + 4 * rows)
        else:
            values = np.frombuffer(data, "<f2" if kind == "float16" else "<f4", count, at).astype(np.float32)
        yield layer, place, values.reshape((rows, cols) if cols else rows), steps
