"""The class page's kernel outside a browser: compiled anew, and run by wasmtime.

python tests/kernel.py    # compiles vislab/page/static/vit.c into vit.wasm beside it
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

STATIC = Path(__file__).parents[1] / "vislab" / "page" / "static"
FLAGS = ["-target", "wasm32-freestanding", "-mcpu=generic+simd128+bulk_memory", "-O3", "-nostdlib", "-s"]
FLAGS += ["-Wall", "-Wextra", "-Werror", "-Wl,--no-entry", "-Wl,-z,stack-size=65536"]


def compiled() -> bytes:
    """vit.c as WebAssembly, by the compiler that pyproject.toml pins: the same bytes each time and everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "vit.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "vit.c", "-o", str(out)]
        caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        done = subprocess.run(command, cwd=STATIC, env=os.environ | caches, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return out.read_bytes()


def dequantised(model: Any, kind: Any) -> tuple[Any, list[Any]]:
    """The model's weights as a page holds them, also put into its module -> its form, and `quantise.stored` of them."""
    import torch

    from vislab.page import weights
    from vislab.page.class_page import weights_file
    from vislab.page.quantise import stored, unpacked

    form = weights.form_of(model)
    data = weights_file(model, form, kind)
    state, cls = model.module.state_dict(), None
    for layer, place, values in unpacked(data):
        value = torch.from_numpy(values)
        if layer < form.layers:
            names = [f"vit.layers.{layer}.{one}" for one in weights._spread(weights.LAYER[place])]
            for name, part in zip(names, value.chunk(len(names)), strict=True):
                state[name] = part
        elif place == len(weights.ENDS):
            state[weights.POSITIONS][0, 1:] = value
        elif weights.ENDS[place] == weights.CLS:
            cls = value
        else:
            name = weights.ENDS[place]
            state[name] = value.reshape(state[name].shape)
    state[weights.CLS][0, 0] = cls - state[weights.POSITIONS][0, 0]
    model.module.load_state_dict(state)
    return form, list(stored(data))


class Kernel:
    """vit.wasm with a model in it. form: `vislab.page.weights.Form`; tensors: as `quantise.stored` gives them."""

    def __init__(self, form: Any, tensors: Iterable[tuple[int, int, np.ndarray, np.ndarray | None]]) -> None:
        import wasmtime

        self.form = form
        engine = wasmtime.Engine()
        self.store = wasmtime.Store(engine)
        module = wasmtime.Module.from_file(engine, str(STATIC / "vit.wasm"))
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        widths = (form.dim, form.layers, form.heads, form.hidden, form.pixels, form.classes)
        assert self("configure", *widths, form.epsilon) == 0
        for layer, place, values, steps in tensors:
            if (layer, place) == (form.layers, 7):
                self.positions = values
                continue
            rows, cols = values.shape if values.ndim == 2 else (len(values), 0)
            given = self.sent(values), rows, cols, 0 if steps is None else self.sent(steps)
            assert self("put", layer, place, *given) == 0

    def __call__(self, name: str, *arguments: float) -> int:
        found: int = self.exports[name](self.store, *arguments)
        return found

    def room(self, count: int) -> int:
        address = self("alloc", 4 * count) & 0xFFFFFFFF
        assert address
        return address

    def sent(self, values: np.ndarray) -> int:
        """Where an array lies in the kernel's memory: int8 as it is, all else as float32."""
        data = np.ascontiguousarray(values, None if values.dtype == np.int8 else "<f4").tobytes()
        address = self.room(-(-len(data) // 4))
        self.exports["memory"].write(self.store, data, address)
        return address

    def read(self, address: int, *shape: int) -> np.ndarray:
        data = self.exports["memory"].read(self.store, address, address + 4 * int(np.prod(shape)))
        return np.frombuffer(data, "<f4").reshape(shape).copy()

    def forward(
        self, patches: np.ndarray, positions: np.ndarray, scale: np.ndarray, on: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """patches: (n, pixels), positions: (n, dim), scale and on: (layers, heads) -> what the kernel leaves."""
        form, tokens = self.form, len(patches) + 1
        mark = self("mark")
        padded, each = -(-form.classes // 8) * 8, tokens * form.dim
        states, q, k = self.room((form.layers + 1) * each), self.room(each), self.room(each)
        self("embed", len(patches), self.sent(patches), self.sent(positions), states)
        factors, cls = self.sent(scale), self.room(form.layers * form.heads * tokens)
        read, row = self.room(tokens * padded), self.sent(np.eye(1, tokens))
        assert self("forward", tokens, states, factors, self.sent(np.ones_like(scale) if on is None else on), cls) == 0
        assert self("classify", tokens, states + 4 * form.layers * each, read) == 0
        assert self("walk", tokens, states, factors, form.layers - 1, row) == 0
        attention = []
        for layer in range(form.layers):
            at = factors + 4 * layer * form.heads
            assert self("look", tokens, states + 4 * layer * each, layer, at, q, k) == 0
            of_heads = [self.read(one, form.heads, tokens, form.dim // form.heads) for one in (q, k)]
            attention.append(of_heads[0] @ of_heads[1].swapaxes(1, 2))
        found = {
            "logits": self.read(read, tokens, padded)[0, : form.classes],
            "products": np.stack(attention),
            "cls": self.read(cls, form.layers, form.heads, tokens),
            "states": self.read(states, form.layers + 1, tokens, form.dim),
            "rollout": self.read(row, tokens),
        }
        self("release", mark)
        return found


if __name__ == "__main__":
    (STATIC / "vit.wasm").write_bytes(compiled())
