"""A Reader: a vision-language model with its processor, ready to be asked about images."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.cache import KEEPERS, Latest
from ..core.checks import check_named, first_line, meant, shown
from ..core.files import assets, place_of
from ..engine.capture import Capture
from ..engine.site import Site
from ..models.cache import saved
from ..models.device import OnDevice, device_of, fastest, module_bytes
from ..models.hub import advice, bring_transformers, part, quiet, safely, weighted
from ..models.known import DTYPES, READER, READER_FOLDERS
from .places import ImagePlaces
from .rules import RULES, Shown, known_families
from .ways import Way, way_of

_NAMES = f"take {READER!r}, a name on the hub such as 'HuggingFaceTB/SmolVLM-256M-Instruct', or a folder"
_GIVEN = f"{_NAMES}, or give the module and processor=…"


@dataclass(frozen=True, eq=False)
class Reader(OnDevice):
    """A vision-language model ready to be asked; `vislab.ask` makes one of a name, a folder, or a module and processor.

    name: as it was loaded, or the module's class. module: of transformers, with `generate`. processor: its own, of
    images and texts. lock: held while the module is at work.
    """

    name: str
    module: nn.Module
    processor: Any
    lock: Any = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        config = getattr(self.module, "config", None)
        family = getattr(config, "model_type", None)
        if family is None or not callable(getattr(self.module, "generate", None)):
            raise TypeError(
                f"{self.name} is no vision-language model of transformers: it has no generate and no configuration; "
                f"{_GIVEN}"
            )
        if family not in RULES and getattr(config, "image_token_id", None) is None:
            raise ValueError(
                f"{self.name} has no image tokens, so no word of it looks at an image: take a vision-language model "
                f"of {known_families()}; what a model looks at without words, vislab.explain shows"
            )
        if family not in RULES:
            raise ValueError(
                f"where the image tokens of {self.name} (family {family!r}) are is not known: vislab.ask reads "
                f"{known_families()}; the attention itself is read by vislab.capture(module, steps=True)"
            )
        how = getattr(self.config.get_text_config(), "_attn_implementation", None)
        if how not in ("sdpa", "eager"):
            raise ValueError(
                f"{self.name} attends by {how!r}, which nothing can watch: call model.set_attn_implementation('sdpa'), "
                "which is fused as well"
            )
        if self.way.alone and self.config.text_config.is_encoder_decoder:
            raise ValueError(
                f"{self.name} answers by a decoder that attends to what an encoder made of image and question, which "
                "is not followed to the image: take a model of its family with a decoder alone (OPT, Vicuna)"
            )
        if not hasattr(self.processor, "image_processor") or not hasattr(self.processor, "tokenizer"):
            raise ValueError(
                f"{self.name} needs its processor, of images and texts, to be asked: "
                f"vislab.ask(…, model=module, processor=transformers.AutoProcessor.from_pretrained(…)), not "
                f"{type(self.processor).__name__}"
            )

    @property
    def config(self) -> Any:
        return self.module.config

    @property
    def family(self) -> str:
        """The family's usual name."""
        return RULES[self.config.model_type][0]

    @property
    def image_token(self) -> int:
        """The token id that stands for a piece of the image; -1 where none does."""
        token = getattr(self.config, "image_token_id", None)
        return -1 if token is None else int(token)

    @property
    def way(self) -> Way:
        """How the language model gets the image."""
        return way_of(self.config.model_type)

    @property
    def generation_config(self) -> Any:
        """Of what generates: the language model, where it does so by itself."""
        held: Any = getattr(self.module, "language_model", self.module) if self.way.alone else self.module
        return held.generation_config

    @property
    def layers(self) -> int:
        """Of its language model, whose words are explained."""
        return int(self.config.get_text_config().num_hidden_layers)

    @property
    def heads(self) -> int:
        """Of each of these."""
        return int(self.config.get_text_config().num_attention_heads)

    @property
    def decoder(self) -> str:
        """The path of the language model in the module."""
        decoder = self.module.get_decoder()  # type: ignore[operator]
        return next(path for path, module in self.module.named_modules() if module is decoder)

    def sites(self, capture: Capture) -> list[Site]:
        """Where words attend to the image: of the language model's attention, or of its cross-attention."""
        inside, crosses = self.decoder + ".", self.way.kind == "keys"
        found = [site for site in capture.sites.values() if site.path.startswith(inside)]
        return [site for site in found if (self.way.crossing(site.path) if crosses else site.self_attention)]

    def places(self, source: tuple[int, int], inputs: Mapping[str, Any]) -> ImagePlaces:
        """Where the image tokens of an image are. source: (height, width) px; inputs: what the processor made of it."""
        return RULES[self.config.model_type][1](Shown(self.config, self.processor, source, inputs))


READERS: Latest[Reader] = Latest("reader", 1, lambda reader: module_bytes(reader.module))
KEEPERS.append(READERS)


def reader_of(
    model: str | Path | nn.Module | Reader | Any,
    *,
    processor: Any = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    name: str | None = None,
) -> Reader:
    """A vision-language model by its name or folder, loaded once; of a module with its processor; or as it is.

    name: what a given module is called, by default its class. device, dtype: of what is loaded by name; by default the
    fastest there is, and float32. Raises ValueError for what cannot be asked, OSError where the hub or the folder does
    not give it, TypeError for what is no module.
    """
    if name is not None:
        check_named(name, model)
    if isinstance(model, Reader):
        return model
    if not isinstance(model, str | Path):
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a vision-language model, not {type(model).__name__}: {_GIVEN}")
        if device is not None or dtype is not None:
            raise ValueError("a given module stays where it is: move it with .to(…), and leave device and dtype out")
        return Reader(type(model).__name__ if name is None else name, model, processor)
    if processor is not None:
        raise ValueError(f"{model} brings its own processor: leave processor out")
    where = _place(str(model))
    place = torch.device(fastest()) if device is None else device_of(device)
    wanted = dtype if isinstance(dtype, str) else str(dtype or torch.float32).removeprefix("torch.")
    if wanted not in DTYPES:
        raise ValueError(f"dtype is {', '.join(DTYPES)}, not {shown(dtype)}")
    key = (str(model), str(place), wanted, saved(model))
    return READERS.once(key, lambda: _loaded(str(model), where, place, getattr(torch, wanted)))


def _place(name: str) -> str:
    """Where a model of this name is loaded from: its folder, or the name itself on the hub."""
    if name in READER_FOLDERS:
        return str(assets() / "models" / READER_FOLDERS[name])
    try:
        folder = place_of(name)
    except ValueError as error:
        raise ValueError(f"unknown model {shown(name)}, {error}: {_NAMES}") from None
    where = str(folder) if name and folder.is_dir() else name
    if not Path(where).is_dir() and ("/" not in name or name.startswith((".", "/", "~"))):
        raise ValueError(f"unknown vision-language model {shown(name)}: {_NAMES}{meant(name, READER_FOLDERS)}")
    return where


def _loaded(name: str, where: str, place: torch.device, dtype: torch.dtype) -> Reader:
    try:
        with quiet():
            config = part("AutoConfig").from_pretrained(where, **safely(where))
            _check_family(name, config)
            bring_transformers(config)
            module = weighted(part("AutoModelForImageTextToText"), where, config=config, dtype=dtype)
            processor = part("AutoProcessor").from_pretrained(where, **safely(where))
    except (OSError, AttributeError, RuntimeError) as error:
        hint = advice(name, "vislab.ask").partition(", or take")[0]
        raise OSError(f"cannot load {name!r}: {first_line(error)} {hint}") from error
    return Reader(name, module.to(place).eval(), processor)


def _check_family(name: str, config: Any) -> None:
    """Before weights are fetched: whether the family can be asked at all."""
    if config.model_type not in RULES:
        raise ValueError(
            f"{name} is of the family {config.model_type!r}, and vislab.ask reads {known_families()}: a model of "
            "images alone is asked by vislab.explain(image, model=…)"
        )
