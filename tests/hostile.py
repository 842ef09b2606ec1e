"""Hostile inputs for the public functions: files, arrays, modules, names and options that nobody should give."""

from __future__ import annotations

import functools
import io
import os
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from PIL import Image
from torch import nn

import vislab

PICTURE = np.random.default_rng(3).integers(0, 255, (40, 48, 3), dtype=np.uint8)
NAMES = (
    "",
    " ",
    "rolout",
    "../../etc/passwd",
    "embeded",
    "模型",
    "a\0b",
    "x" * 5000,
    "%s%n{0}",
    "C:\\photo.jpg",
    "~nobody/x",
    "-1",
    "None",
    "🙂.png",
    "nan",
    "facebook/does-not-exist",
    "timm/vit_tiny",
    "torchvision/resnet",
)


@dataclass(frozen=True)
class Hostile:
    """One input. call: gives it to a public function, in a folder. sound: it may be right after all."""

    name: str
    call: Callable[[Path], Any]
    sound: bool = False


@functools.cache
def model() -> Any:
    return vislab.load(tiny.make("ViT classifier"))


@functools.cache
def heat() -> Any:
    return vislab.explain(PICTURE, model=model())


@functools.cache
def run() -> Any:
    return model().run(PICTURE)


@functools.cache
def detector() -> Any:
    return vislab.load_detector("embedded")


# ---- values of wrong kinds ----


def values(chance: random.Random) -> dict[str, Any]:
    """Values of all kinds, by what they are."""
    return {
        "none": None,
        "true": True,
        "false": False,
        "text": chance.choice(NAMES),
        "nan": float("nan"),
        "inf": float("inf"),
        "-inf": float("-inf"),
        "negative": -chance.randint(1, 99),
        "huge": 10 ** chance.randint(19, 40),
        "zero": 0,
        "fraction": chance.uniform(0.1, 0.9),
        "large": chance.uniform(2, 1e300),
        "list": [1, 2, 3],
        "empty": [],
        "dict": {"a": 1},
        "object": object(),
        "bytes": b"x",
        "pair": (chance.randint(1, 9), "y"),
        "array": np.arange(3.0),
        "function": print,
        "tensor": torch.ones(2),
        "complex": 1j,
        "type": int,
        "set": {1},
        "numpy nan": np.float32("nan"),
        "nested": [[[]]],
        "generator": (i for i in ()),
        "numbers": (float("nan"), 3),
        "huge numbers": (10**30, 10**30),
        "text number": "1",
    }


NUMBER = {"zero", "fraction"}  # values that a share may have
PATHS = "path text bytes"


def options() -> dict[str, tuple[Callable[..., Any], dict[str, set[str]]]]:
    """Public functions, and for each option of theirs the kinds of values it takes."""
    at = {"model": model()}
    no = {"none"}
    texts = {"text", "text number"}
    scale = {"fraction", "large"}
    shares = NUMBER
    forward = {"attention_scale": scale | {"huge"}, "patch_size": no | {"huge"}, "image_size": no}
    look = {"opacity": shares, "colormap": set(), "smooth": {"true", "false"}, "normalise": set(), "threshold": shares}
    target = {"zero", "none", "function"}
    boxes = {"detector": detector(), "image_size": 64}
    return {
        "explain": (
            functools.partial(vislab.explain, PICTURE, **at),
            {
                "method": set(),
                "layer": {"zero"},
                "head": set(),
                "query": {"tensor"},
                "target": no,
                "region": no,
                **forward,
            },
        ),
        "explain cls": (
            functools.partial(vislab.explain, PICTURE, method="cls", **at),
            {"layer": {"zero", "negative"}, "head": {"zero", "negative"}},
        ),
        "explain relevance": (functools.partial(vislab.explain, PICTURE, method="relevance", **at), {"target": target}),
        "explain rollout": (
            functools.partial(vislab.explain, PICTURE, **at),
            {"start": {"zero"}, "residual": shares, "discard": shares},
        ),
        "explain occlusion": (functools.partial(vislab.explain, PICTURE, method="occlusion", **at), {"target": target}),
        "explain ig": (
            functools.partial(vislab.explain, PICTURE, method="integrated_gradients", **at),
            {"steps": set()},
        ),
        "explain model": (functools.partial(vislab.explain, PICTURE), {"model": set()}),
        "load": (functools.partial(vislab.load, "embedded"), {"device": no, "dtype": no, "processor": no}),
        "load name": (lambda name: vislab.load(name), {"name": set()}),
        "load_image": (functools.partial(vislab.load_image, PICTURE), {"bands": no | {"list"}, "stretch": no}),
        "detect": (
            functools.partial(vislab.detect, PICTURE, **boxes),
            {"confidence": shares, "iou": shares, "image_size": no, "attention_scale": scale | {"huge"}},
        ),
        "detect name": (functools.partial(vislab.detect, PICTURE), {"detector": set()}),
        "explain_box": (
            functools.partial(vislab.explain_box, PICTURE, **boxes),
            {
                "box": {"zero", "none"},
                "query": no | {"tensor"},
                "method": no,
                "layer": {"zero"},
                "head": {"zero"},
                "attention_scale": scale | {"huge"},
                "image_size": no,
            },
        ),
        "focus": (
            functools.partial(vislab.focus, PICTURE, **at, detector=detector()),
            {"confidence": shares, "margin": shares, "run_whole": {"true", "false"}},
        ),
        "overlay": (functools.partial(vislab.overlay, heat()), {**look, "image": no, "detections": no, "ax": no}),
        "panel": (
            lambda **o: vislab.panel([heat()], **o),
            {
                **look,
                "width": no | {"fraction"},
                "theme": set(),
                "transparent": {"true", "false"},
                "dpi": set(),
                "title": no | texts,
                "caption": no | texts,
                "rows": no,
                "columns": no,
                "detections": no,
            },
        ),
        "panel heats": (lambda heats: vislab.panel(heats), {"heats": set()}),
        "save": (
            lambda path, **o: vislab.save(path / "f.png", heat(), **o),
            {**look, "image": no, "beside": {"empty"}, "dpi": set(), "title": no | texts, "path": set()},
        ),
        "evaluate": (
            functools.partial(vislab.evaluate, [PICTURE], **at, progress=False, methods=["cls"], steps=3, randomised=0),
            {
                "methods": no | {"set", "empty"},
                "targets": no,
                "fill": set(),
                "steps": {"huge"},
                "randomised": {"zero", "huge"},
                "seed": {"zero", "huge"},
                "patch_size": no,
                "image_size": no,
            },
        ),
        "survey": (functools.partial(vislab.survey, run()), {"token": {"zero", "none"}, "layers": no}),
        "survey run": (lambda run: vislab.survey(run), {"run": set()}),
        "capture": (_captured, {"attention_scale": scale | {"huge"}, "gradients": {"true", "false"}}),
        "capture module": (lambda module: vislab.capture(module).__enter__(), {"module": set()}),
        "Lab": (
            functools.partial(_lab, PICTURE),
            {
                "layer": {"zero"},
                "head": {"zero"},
                "query": {"tensor"},
                "method": set(),
                "opacity": shares,
                "threshold": shares,
                "patch_size": no,
                "image_size": no,
                "attention_scale": {"fraction"},
                "colormap": set(),
                "compare": set(),
                "confidence": shares,
                "state": no,
                "nonsense": set(),
                "target": no | {"zero", "text", "text number", "negative", "huge"},
                "image": no,
            },
        ),
    }


def _captured(**settings: Any) -> None:
    with vislab.capture(model().module, **settings), torch.no_grad():
        model().module(torch.zeros(1, 3, 32, 32))


def _lab(picture: Any, **settings: Any) -> Any:
    lab = vislab.Lab(settings.pop("image", picture), **{"model": model()} | settings)
    try:
        lab.wait(20)
    finally:
        lab.close()


def hostile_options(chance: random.Random) -> Iterator[Hostile]:
    for function, (call, takes) in options().items():
        for option, right in takes.items():
            for kind, value in values(chance).items():

                def given(folder: Path, call: Any = call, option: str = option, value: Any = value) -> Any:
                    if "path" in call.__code__.co_varnames if hasattr(call, "__code__") else False:
                        return vislab.save(value, heat()) if option == "path" else call(folder, **{option: value})
                    return call(**{option: value})

                yield Hostile(f"{function}: {option}={_shown(value)} ({kind})", given, kind in right)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "…"


# ---- files ----


def _encoded(form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, form)
    return file.getvalue()


def hostile_files(chance: random.Random) -> Iterator[Hostile]:
    """Files that are no picture, no longer one, or something else; through load_image, and some through others."""
    readers: list[Callable[[Any], Any]] = [
        vislab.load_image,
        vislab.load_image,
        lambda source: vislab.explain(source, model=model()),
        lambda source: vislab.detect(source, detector=detector(), image_size=64),
        lambda source: vislab.explain(source, model=source),
        lambda source: vislab.load_detector(source),
    ]

    def file(name: str, data: bytes, sound: bool = False) -> Hostile:
        reader = chance.choice(readers)

        def call(folder: Path) -> Any:
            path = folder / name
            path.write_bytes(data)
            return reader(path if chance.random() < 0.5 else str(path))

        return Hostile(f"file {name!r} of {len(data)} bytes, {data[:8]!r}… ({readers.index(reader)})", call, sound)

    suffixes = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}
    for form, suffix in suffixes.items():
        whole = _encoded(form)
        for _ in range(4):
            yield file(f"cut{suffix}", whole[: chance.randrange(len(whole))], sound=True)
            spoilt = bytearray(whole)
            for _ in range(chance.randint(1, 20)):
                spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
            yield file(f"spoilt{suffix}", bytes(spoilt), sound=True)
        yield file(f"head{suffix}", whole[:12])
        yield file("other" + chance.choice([*suffixes.values()]), whole, sound=True)
    big = bytearray(_encoded("PNG"))
    big[16:24] = b"\x7f\xff\xff\xff" * 2
    wide = bytearray(_encoded("BMP"))
    wide[18:26] = (200_000).to_bytes(4, "little") * 2
    for name, data in (
        ("huge.png", bytes(big)),
        ("huge.bmp", bytes(wide)),
        ("empty.jpg", b""),
        ("text.png", b"not a picture\n" * 9),
        ("page.jpg", b"<html><body>404</body></html>"),
        ("zip.png", b"PK\x03\x04" + bytes(40)),
        ("p.pdf", b"%PDF-1.7\n"),
        ("m.safetensors", (8).to_bytes(8, "little") + b"{}      "),
        ("m.pt", b"\x80\x02cos\nsystem\n"),
        ("v.svg", b"<svg/>"),
        ("zeros.tif", bytes(5000)),
        ("tiff.tif", b"II*\x00\xff\xff\xff\x7f"),
        ("a.npy", b"\x93NUMPY\x01\x00"),
        ("noise.gif", bytes(chance.randrange(256) for _ in range(300))),
        ("v.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(99)),
    ):
        yield file(name, data)
    for reader in readers:
        yield Hostile("a folder", lambda folder, r=reader: r(folder))
        yield Hostile("a folder by the name of a file", lambda folder, r=reader: r(_made(folder / "x.png", "mkdir")))
        yield Hostile("a pipe", lambda folder, r=reader: r(_made(folder / "pipe.png", "fifo")))
        yield Hostile("a link to itself", lambda folder, r=reader: r(_made(folder / "loop.png", "loop")))
        yield Hostile("a device", lambda folder, r=reader: r("/dev/zero"))
        yield Hostile("a missing file", lambda folder, r=reader: r(folder / "nowhere" / "x.png"))
        for name in NAMES:
            yield Hostile(f"a file by the name {name[:30]!r}", lambda folder, r=reader, n=name: r(n))
    for address in (
        "ftp://x/y.png",
        "file:///etc/passwd",
        f"http://127.0.0.1:{_closed_port()}/x.png",
        "http://",
        "https://[::1",
        "data://x",
    ):
        yield Hostile(f"the address {address}", lambda folder, a=address: vislab.load_image(a))
    for odd in (
        b"",
        bytearray(b"x"),
        memoryview(b"abcdef")[::2],
        io.BytesIO(b"x"),
        b"\xff" * 100,
        [1, [2, 3]],
        {"a": 1},
        3,
        object(),
        torch.zeros(3, 8, 8),
    ):
        yield Hostile(f"as a file {odd!r:.40}", lambda folder, o=odd: chance.choice(readers[:4])(o))


def _closed_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def _made(path: Path, kind: str) -> Path:
    if kind == "mkdir":
        path.mkdir(exist_ok=True)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    return path


# ---- arrays ----


def hostile_arrays(chance: random.Random) -> Iterator[Hostile]:
    shapes = [
        (),
        (0,),
        (7,),
        (0, 0, 3),
        (4, 0, 3),
        (0, 5),
        (4, 4, 2),
        (4, 4, 5),
        (2, 4, 4, 3),
        (3, 32, 32),
        (1, 1, 1, 1, 1),
    ]
    given: dict[str, tuple[np.ndarray, bool]] = {
        f"shape {shape}": (np.zeros(shape, np.uint8), False) for shape in shapes
    }
    small = PICTURE[:8, :8]
    for kind in (
        "object",
        "U3",
        "S2",
        "complex64",
        "datetime64[s]",
        "V4",
        "float16",
        "int64",
        "uint16",
        "bool",
        "float64",
        "timedelta64[s]",
    ):
        given[f"dtype {kind}"] = (np.zeros((8, 8, 3), kind), kind in ("float16", "int64", "uint16", "bool", "float64"))
    for odd in (np.nan, np.inf, -np.inf, -0.5, 1.5, 300.0, 1e30):
        spoilt = np.full((8, 8, 3), 0.5)
        spoilt[3, 4, 1] = odd
        given[f"one value {odd}"] = (spoilt, False)
    given |= {
        "negative integers": (np.full((8, 8, 3), -1), False),
        "integers above 255": (np.full((8, 8, 3), 256), False),
        "pickled objects": (np.array([[object()] * 3] * 3), False),
        "records": (np.zeros((4, 4), [("r", "u1"), ("g", "u1")]), False),
        "a broadcast one": (np.broadcast_to(np.uint8(1), (60_000, 60_000, 3)), False),
        "another broadcast one": (np.broadcast_to(np.float32(1), (10**6, 10**6, 3)), False),
        "masked": (np.ma.masked_array(small, small > 9), True),
        "mirrored": (small[::-1, ::-1, ::-1], True),
        "every other": (PICTURE[::2, ::3], True),
        "fortran": (np.asfortranarray(small), True),
        "a subclass": (np.asmatrix(small[..., 0]), True),
        "one pixel": (small[:1, :1], True),
        "a line": (PICTURE[:1], True),
        "other order of bytes": (np.full((8, 8, 3), 0.5, ">f4"), True),
    }
    frozen = small.copy()
    frozen.setflags(write=False)
    given["read-only"] = (frozen, True)
    takers: dict[str, Callable[[Any], Any]] = {
        "load_image": vislab.load_image,
        "explain": lambda array: vislab.explain(array, model=model()),
        "detect": lambda array: vislab.detect(array, detector=detector(), image_size=64),
        "stretch": lambda array: vislab.load_image(array, stretch="percentile"),
        "bands": lambda array: vislab.load_image(array, bands=(1, 2, 3)),
        "overlay": lambda array: vislab.overlay(heat(), image=array),
        "focus": lambda array: vislab.focus(array, model=model(), detector=detector()),
        "save": lambda array: vislab.save("figure.png", heat(), image=array),
        "Lab": _lab,
    }
    for name, (array, sound) in given.items():
        for taker, take in takers.items():
            odd = sound or taker in ("stretch", "bands")
            yield Hostile(f"{taker} of an array, {name}", lambda folder, t=take, a=array: t(a), odd)


# ---- modules ----


class Returns(nn.Module):
    """A module that returns something else than a tensor."""

    def __init__(self, what: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.what = nn.Linear(3, 3), what

    def forward(self, x: Any) -> Any:
        return self.what(x)


def _raises(x: Any) -> Any:
    raise KeyError("inner")


def modules() -> dict[str, tuple[Callable[[], Any], bool]]:
    """How to make each module, and whether it may be looked into after all."""

    def vit(**changed: Any) -> nn.Module:
        return tiny.make("ViT classifier")

    def spoilt() -> nn.Module:
        module = vit()
        with torch.no_grad():
            next(module.parameters()).fill_(float("nan"))
        return module

    def mixed() -> nn.Module:
        module = vit()
        next(iter(module.children())).to(torch.float64)
        return module

    return {
        "without parameters": (nn.Identity, False),
        "an empty list": (nn.ModuleList, False),
        "an empty sequence": (nn.Sequential, False),
        "a layer": (lambda: nn.Linear(4, 4), False),
        "an embedding": (lambda: nn.Embedding(4, 4), False),
        "one that returns None": (lambda: Returns(lambda x: None), False),
        "one that returns a dict": (lambda: Returns(lambda x: {"a": x}), False),
        "one that returns a tuple": (lambda: Returns(lambda x: (x, None)), False),
        "one that returns text": (lambda: Returns(lambda x: "cat"), False),
        "one that raises": (lambda: Returns(_raises), False),
        "a ViT on the meta device": (lambda: vit().to("meta"), False),
        "a ViT of mixed types": (mixed, False),
        "a ViT of NaN": (spoilt, True),
        "a ViT in training": (lambda: vit().train(), True),
        "a frozen ViT": (lambda: vit().requires_grad_(False), True),
        "a ViT in half precision": (lambda: vit().half(), True),
        "a ViT in double precision": (lambda: vit().double(), True),
        "a compiled ViT": (lambda: torch.compile(vit()), True),
        "a ViT in a DataParallel": (lambda: nn.DataParallel(vit()), True),
        "a ViT in a sequence": (lambda: nn.Sequential(vit()), True),
        "lazy": (lambda: nn.Sequential(nn.LazyConv2d(8, 3)), False),
        "traced": (lambda: torch.jit.trace(nn.Conv2d(3, 3, 3), torch.zeros(1, 3, 8, 8)), False),
        "of texts": (lambda: tiny.FAMILIES["CLIP"].make().text_model, False),
        "a class": (lambda: nn.Linear, False),
        "a state_dict": (lambda: vit().state_dict(), False),
        "a config": (lambda: vit().config, False),
        "a function": (lambda: len, False),
    }


def hostile_modules(chance: random.Random) -> Iterator[Hostile]:
    def captured(module: Any) -> None:
        with vislab.capture(module), torch.no_grad():
            module(torch.zeros(1, 3, 32, 32))

    takers: dict[str, Callable[[Any], Any]] = {
        "load": vislab.load,
        "explain": lambda module: vislab.explain(PICTURE, model=module),
        "relevance": lambda module: vislab.explain(PICTURE, model=module, method="relevance"),
        "detect": lambda module: vislab.detect(PICTURE, detector=module),
        "evaluate": lambda module: vislab.evaluate([PICTURE], model=module, methods=["cls"], progress=False),
        "Lab": lambda module: _lab(PICTURE, model=module),
    }
    for name, (make, sound) in modules().items():
        for taker, take in takers.items():
            yield Hostile(
                f"{taker} of a module, {name}", lambda folder, t=take, m=make: t(m()), sound or taker == "load"
            )
        if not isinstance(made := make(), nn.Module):
            yield Hostile(f"capture of {name}", lambda folder, m=made: captured(m))


# ---- the command line ----


def hostile_commands(chance: random.Random) -> Iterator[Hostile]:
    from vislab.cli.main import main

    photo = str(vislab.samples()["church"])
    lines = [
        [],
        ["--nonsense"],
        ["figur", photo],
        ["figure"],
        ["figure", "nowhere.jpg"],
        ["figure", photo, "--method", "rolout"],
        ["figure", photo, "--layer", "99"],
        ["figure", photo, "--layer", "x"],
        ["figure", photo, "--head", "nan"],
        ["figure", photo, "-o", "figure.xyz"],
        ["figure", photo, "-o", "/nowhere/figure.png"],
        ["figure", photo, "-o", ""],
        ["figure", photo, "--model", "embeded"],
        ["figure", photo, "--model", "/etc/passwd"],
        ["figure", photo, "--opacity", "inf"],
        ["figure", photo, "--opacity", "nan"],
        ["figure", photo, "--colormap", "jett"],
        ["figure", photo, "--patch-size", "-3"],
        ["figure", photo, "--patch-size", "1e9"],
        ["figure", photo, "--image-size", "10**9"],
        ["figure", photo, "--query", "a,b"],
        ["figure", photo, "--query", "nan,nan"],
        ["figure", photo, "--target", "chruch"],
        ["figure", photo, "--attention-scale", "0"],
        ["figure", photo, "--attention-scale", "nan"],
        ["figure", photo, "--dpi", "0"],
        ["figure", photo, "--width", "-1"],
        ["figure", photo, "--region", "1,2,3"],
        ["figure", "."],
        ["detect"],
        ["detect", "."],
        ["detect", "nowhere"],
        ["detect", photo, "--confidence", "2"],
        ["detect", photo, "--confidence", "nan"],
        ["detect", photo, "--detector", "yolo"],
        ["detect", photo, "--iou", "x"],
        ["evaluate"],
        ["evaluate", "nowhere"],
        ["evaluate", photo, "--steps", "0"],
        ["evaluate", photo, "--methods", "x"],
        ["evaluate", photo, "--seed", "-1"],
        ["tokens"],
        ["tokens", "nowhere"],
        ["tokens", photo, "--patch-size", "0"],
        ["tokens", photo, "--image-size", "-5"],
        ["models", "extra"],
        ["figure", "\0"],
        ["figure", photo, "--debug=x"],
        ["tokens", photo, "--image-size", "9" * 30],
    ]
    for line in lines:
        yield Hostile("vislab " + " ".join(w[-40:] for w in line), lambda folder, line=line: Commanded(main(line)))


class Commanded(int):
    """What the command line returned."""


def everything(seed: int) -> dict[str, list[Hostile]]:
    """All hostile inputs, by what they are."""
    chance = random.Random(seed)
    return {
        "files": [*hostile_files(chance)],
        "arrays": [*hostile_arrays(chance)],
        "modules": [*hostile_modules(chance)],
        "options": [*hostile_options(chance)],
        "commands": [*hostile_commands(chance)],
    }
