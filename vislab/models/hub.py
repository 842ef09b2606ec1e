"""Models by their names on a hub: transformers', timm's and torchvision's."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ..core.checks import first_line
from .describe import described
from .model import Model
from .preprocessing import Preprocessing, of_processor


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers for weights that lie on the disk; its setting is put back."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def of_transformers(name: str, where: str) -> Model:
    import transformers

    # code that lies beside the weights is never run, and nobody is asked whether it may
    safely = {"local_files_only": not (Path(where).is_dir() or hub_answers()), "trust_remote_code": False}
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(where, **safely)
            if config.model_type == "vit_mae":
                config.mask_ratio = 0.0
            architecture = (config.architectures or [""])[0]
            whole = architecture.endswith(("ForImageClassification", "WithTeacher", "ForObjectDetection"))
            loader = getattr(transformers, architecture) if whole else transformers.AutoModel
            module, found = loader.from_pretrained(
                where, config=config, use_safetensors=True, output_loading_info=True, **safely
            )
            processor = transformers.AutoImageProcessor.from_pretrained(where, **safely)
            missing = sorted(key for key in found["missing_keys"] if "pooler" not in key)
            if missing:
                raise ValueError(f"its weights lack {len(missing)} of the model's, such as {missing[0]}.")
            how = of_processor(processor, module)
    except (OSError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise OSError(
            f"cannot load {name!r}: {first_line(error)} Check the name and the network, or take the embedded model, "
            "which needs neither: vislab.load('embedded')"
        ) from error
    return described(name, module.eval(), how)


def hub_answers() -> bool:
    """Whether the hub can be reached, found out within 2 s; its own client would try for half a minute."""
    from huggingface_hub import constants

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
    import torchvision

    if which not in torchvision.models.list_models() or not which.startswith("vit_"):
        known = ", ".join(m for m in torchvision.models.list_models() if m.startswith("vit_"))
        raise ValueError(f"torchvision has no Vision Transformer {which!r}: it has {known}")
    weights = torchvision.models.get_model_weights(which).DEFAULT
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} Try vislab.load('embedded')") from error
    module = torchvision.models.get_model(which, image_size=weights.meta["min_size"][0]).eval()
    module.load_state_dict(state)
    preset = weights.transforms()
    side = preset.crop_size[0]
    edge, mean, std = preset.resize_size[0] / side, tuple(preset.mean), tuple(preset.std)
    how = Preprocessing((side, side), "crop", edge, mean, std, preset.interpolation.value, to_even=True)
    return described(name, module, how, labels=tuple(weights.meta["categories"]))


def of_timm(name: str, which: str) -> Model:
    try:
        import timm
    except ImportError:
        raise ImportError(f"{name} needs timm: pip install timm") from None
    from huggingface_hub import try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(f"timm/{which}", "config.json"), str) and not hub_answers():
            raise OSError("the hub does not answer.")
        module = timm.create_model(f"hf-hub:timm/{which}", pretrained=True).eval()
    except (OSError, RuntimeError) as error:
        raise OSError(f"cannot load {name!r}: {first_line(error)} Try vislab.load('embedded')") from error
    return described(name, module, None)
