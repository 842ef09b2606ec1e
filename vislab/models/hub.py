"""Models by their names on a hub: transformers', timm's and torchvision's."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from torch import nn

from ..core.checks import first_line, shown
from ..core.files import place_of
from ..core.imports import IMPORTING, LOADING, library
from .config import outline, outline_of
from .describe import described
from .given import image_processor
from .image_text import image_text
from .known import EMBEDDED, READER_FOLDERS
from .model import Model
from .preprocessing import Preprocessing, own_size
from .processor import of_processor
from .texts import is_tokenizer

PLAIN = "ViTForImageClassification"  # the class of every model whose Outline is read from its files


@contextmanager
def quiet() -> Iterator[None]:
    """transformers loads for one thread at a time, without progress bars for weights on the disk; that is put back."""
    logging = library("transformers.utils.logging")
    with LOADING:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if shown:
                logging.enable_progress_bar()


def bring(name: str) -> None:
    """Import on this thread what loading a model by this name will need; what is not installed is left to loading."""
    with suppress(ImportError):
        if (first := name.partition("/")[0]) in ("timm", "torchvision"):
            library(first)
        elif outline_of(name) is not None:
            part(PLAIN)
        else:
            bring_transformers()


def bring_transformers(config: Any = None) -> None:
    """Import the classes of transformers that choose among families, and those of one family, by its configuration.

    They would import these when they load weights, and then without taking turns.
    """
    with IMPORTING:
        for room, choice in (("modeling", "MODEL_MAPPING"), ("image_processing", "IMAGE_PROCESSOR_MAPPING")):
            families = getattr(library(f"transformers.models.auto.{room}_auto"), choice)
            if config is not None:
                families.get(type(config), None)


def of_transformers(name: str, where: str, processor: Any = None, *, tower: str | None = None) -> Model:
    """A model of transformers, by its name on the hub or in a folder. processor: what `load` takes, where it has none.

    tower: the folder of the classifier that is its image tower, where that has a folder of its own.

    Of a folder whose files say all there is to say, that alone is believed, and only the family's module imported: the
    classes that choose among families would import what all of them need.
    """
    known = outline(name, Path(where))
    tokenizer = None if processor is None else tokenizer_of(processor)
    if processor is not None:
        shown_how = _tells_how(Path(where))
        if shown_how and (tokenizer is None or known is not None or tokenizer_of(where) is not None):
            raise ValueError(f"{name} brings its own preprocessing: leave processor out")
        processor = None if shown_how else processor_of(processor)
    try:
        with quiet():
            if known is not None:
                return Model.of(known, weighted(part(PLAIN), where).eval())
            config = part("AutoConfig").from_pretrained(where, **safely(where))
            bring_transformers(config)
            if config.model_type == "vit_mae":
                config.mask_ratio = 0.0
            architecture = (config.architectures or [""])[0]
            whole = architecture.endswith(
                (
                    "ForImageClassification",
                    "ForVideoClassification",
                    "WithTeacher",
                    "ForObjectDetection",
                    "ForImageTextRetrieval",
                )
            )
            kind = part(architecture if whole else "AutoModel")
            module = weighted(kind, where, config=config) if tower is None else over(where, tower)
            if processor is None:
                processor = _processor(name, where)
            how = of_processor(processor, lambda: own_size(module))
            if tokenizer is None and image_text(module) is not None:
                tokenizer = tokenizer_of(where)
    except NoProcessor:
        raise
    except (OSError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} {advice(name, 'vislab.load')}") from error
    return described(name, module.eval(), how, tokenizer=tokenizer)


class NoProcessor(OSError):
    """A folder says nothing of how its model is to be shown images."""


def _processor(name: str, where: str) -> Any:
    try:
        return image_processor(part("AutoImageProcessor").from_pretrained(where, **safely(where)))
    except (OSError, ValueError) as error:
        folder = Path(where)
        if not folder.is_dir() or _tells_how(folder):
            raise
        raise NoProcessor(
            f"{name} has no preprocessor_config.json, so nothing says how its model is shown images (size, mean and "
            f"deviation): give the image processor that it was trained with, vislab.load({name!r}, processor=…), such "
            "as transformers.ViTImageProcessor(), or the folder or name that it was fine-tuned from"
        ) from error


def _tells_how(folder: Path) -> bool:
    """Whether a folder says how its model is shown images: in a file for that, or in that of images and texts."""
    both = folder / "processor_config.json"
    said = both.is_file() and '"image_processor"' in both.read_text(encoding="utf-8")
    return said or (folder / "preprocessor_config.json").is_file()


def processor_of(processor: Any) -> Any:
    """An image processor, given as it is or by the folder or hub name that it is loaded from."""
    if not isinstance(processor, str | Path):
        if (found := image_processor(processor)) is None:
            raise ValueError(
                f"processor is an image processor of transformers, or the folder that holds its "
                f"preprocessor_config.json, not {type(processor).__name__}"
            )
        return found
    try:
        folder = place_of(str(processor))
        where = str(folder if folder.is_dir() else processor)
        return part("AutoImageProcessor").from_pretrained(where, **safely(where))
    except (OSError, ValueError, ImportError) as error:
        raise OSError(
            f"cannot load an image processor from {shown(str(processor))}: {first_line(error)} Give a folder with its "
            "preprocessor_config.json, or the processor itself, such as transformers.ViTImageProcessor()"
        ) from error


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer in a processor or a pipeline, or beside the weights in a folder or on the hub; None without one."""
    if not isinstance(processor, str | Path):
        found = getattr(processor, "tokenizer", processor)
        return processor if is_tokenizer(processor) else found if is_tokenizer(found) else None
    try:
        folder = place_of(str(processor))
        where = str(folder if folder.is_dir() else processor)
        found = part("AutoTokenizer").from_pretrained(where, **safely(where))
        return found if {*found.get_vocab()} - {*found.all_special_tokens} else None  # of a folder without its files
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ImportError):
        return None  # a text says that there is none


def part(name: str) -> Any:
    """What transformers calls by this name: it imports the module behind it when it is first asked."""
    transformers = library("transformers")
    with IMPORTING:
        return getattr(transformers, name)


def safely(where: str) -> dict[str, bool]:
    """Code that lies beside the weights is never run, and nobody is asked whether it may; only the hub is looked up."""
    return {"local_files_only": not (Path(where).is_dir() or hub_answers()), "trust_remote_code": False}


def weighted(kind: Any, where: str, *, beside: str | None = None, **how: Any) -> nn.Module:
    """A module of a class of transformers with all its weights, from safetensors.

    beside: what begins the names of weights that lie elsewhere.
    """
    module, report = kind.from_pretrained(where, use_safetensors=True, output_loading_info=True, **how, **safely(where))
    lacks = (key for key in report["missing_keys"] if beside is None or not key.startswith(beside))
    missing = sorted(key for key in lacks if "pooler" not in key)
    if missing:
        raise ValueError(f"its weights lack {len(missing)} of the model's, such as {missing[0]}.")
    return cast("nn.Module", module)


def over(where: str, tower: str) -> nn.Module:
    """An image-text model whose image tower is a classifier's, in another folder: no copy of its weights is kept.

    where: the folder of all that was trained over it. Raises ValueError where weights are missing.
    """
    seeing = weighted(part(PLAIN), tower).get_submodule("vit")
    logging = library("transformers.utils.logging")
    level = logging.get_verbosity()
    try:
        logging.set_verbosity_error()  # or it warns of every weight of the tower
        module = weighted(part("VisionTextDualEncoderModel"), where, beside="vision_model.")
    finally:
        logging.set_verbosity(level)
    own = module.get_submodule("vision_model")
    own.load_state_dict({**own.state_dict(), **seeing.state_dict()})
    return module


def advice(name: str, load: str) -> str:
    """What to try when a name could not be loaded with the function `load`: never that name again."""
    if name in EMBEDDED or name in READER_FOLDERS:
        return "It comes with vislab: install vislab again"
    if Path(name).expanduser().is_dir():
        return f"Save the folder anew, or take the embedded one: {load}('embedded')"
    return f"Check the name and the network, or take the embedded one, which needs neither: {load}('embedded')"


def hub_answers() -> bool:
    """Whether the hub can be reached, found out within 2 s; its own client would try for half a minute."""
    constants = library("huggingface_hub.constants")
    if constants.is_offline_mode():
        return False
    if urllib.request.getproxies().get("https"):
        return True
    host, answered = urllib.parse.urlsplit(constants.ENDPOINT), threading.Event()

    def knock() -> None:
        with suppress(OSError), socket.create_connection((host.hostname or "", host.port or 443), timeout=2):
            answered.set()

    # in a thread, since looking up the host's name heeds no timeout
    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(1.5)
    return answered.is_set()


def of_torchvision(name: str, which: str) -> Model:
    torchvision = library("torchvision")
    if which not in torchvision.models.list_models() or not which.startswith("vit_"):
        known = ", ".join(m for m in torchvision.models.list_models() if m.startswith("vit_"))
        raise ValueError(f"torchvision has no Vision Transformer {shown(which)}: it has {known}")
    weights = torchvision.models.get_model_weights(which).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} {advice(name, 'vislab.load')}") from error
    with LOADING:
        module = torchvision.models.get_model(which, image_size=weights.meta["min_size"][0]).eval()
    module.load_state_dict(state)
    preset = weights.transforms()
    side = preset.crop_size[0]
    edge, mean, std = preset.resize_size[0] / side, tuple(preset.mean), tuple(preset.std)
    how = Preprocessing((side, side), "crop", edge, mean, std, preset.interpolation.value, to_even=True)
    return described(name, module, how, labels=tuple(weights.meta["categories"]))


def timm_library(name: str) -> Any:
    """timm, which a model of that name needs. Raises ImportError where it is not installed."""
    try:
        return library("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ImportError(f"{name} needs timm: pip install timm") from None


def of_timm(name: str, which: str) -> Model:
    timm = timm_library(name)
    hub = library("huggingface_hub.file_download")
    try:
        if not isinstance(hub.try_to_load_from_cache(f"timm/{which}", "config.json"), str) and not hub_answers():
            raise OSError("the hub does not answer.")
        with LOADING:
            module = timm.create_model(f"hf-hub:timm/{which}", pretrained=True).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} {advice(name, 'vislab.load')}") from error
    return described(name, module, None)
