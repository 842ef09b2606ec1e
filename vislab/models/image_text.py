"""Image-text models as modules that take an image: its embedding, those of texts, and how the two are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .calling import core, image_part, takes
from .classes import Kind

Tokens = Mapping[str, Tensor]


class ImageText(nn.Module):
    """A model of transformers that embeds images and texts (CLIP and its kin), as a module that takes an image alone.

    model: the whole of it. sees: the part of it that takes the image. A forward returns what the model makes of the
    image; see `of_image`.
    """

    def __init__(self, model: nn.Module, sees: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._sees = [sees]  # in a list, or it would be a part beside the model
        self.train(model.training)

    @property
    def config(self) -> Any:
        """Of the part that sees: its family and its sizes."""
        return core(self._sees[0]).config

    @property
    def kind(self) -> Kind:
        """What its similarities are made into: a softmax over texts, or, where it adds a bias, a sigmoid for each."""
        return "exclusive" if getattr(self.model, "logit_bias", None) is None else "independent"

    @property
    def positions(self) -> int | None:
        """How many tokens a text may have; None where nothing says so."""
        config = getattr(core(self.model).config, "text_config", None)
        count = getattr(config, "max_position_embeddings", None)
        tables = [part for part in self.model.modules() if isinstance(part, nn.Embedding)]
        counted = [part.padding_idx for part in tables if part.num_embeddings == count and part.padding_idx is not None]
        return count if count is None or not counted else int(count) - counted[0] - 1  # RoBERTa counts from there

    @property
    def padded(self) -> bool:
        """Whether every text is filled up to the most that it may have, as SigLIP was trained.

        AIMv2's tower looks ahead in a text that is not filled up, which it was not trained to.
        """
        return str(getattr(core(self.model).config, "model_type", "")).startswith(("siglip", "aimv2"))

    def text_weights(self) -> list[nn.Parameter]:
        """All weights that do not see."""
        seeing = {id(weight) for weight in self._sees[0].parameters()}
        return [weight for weight in self.model.parameters() if id(weight) not in seeing]

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Any:
        return self._whole.get_image_features(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)

    def of_image(self, output: Any) -> Tensor:
        """The embedding in what a forward returned, (n, width), of any length."""
        embedding: Tensor = output.pooler_output
        return embedding

    def of_texts(self, tokens: Tokens) -> Tensor:
        """The embeddings of texts, (n, width), of any length."""
        known = takes(self._whole.get_text_features)
        embeddings: Tensor = self._whole.get_text_features(
            **{k: v for k, v in tokens.items() if k in known}
        ).pooler_output
        return embeddings

    def compared(self, images: Tensor, texts: Tensor) -> Tensor:
        """The similarity of each image with each text, as the model scales it. (n, width), (k, width) -> (n, k)."""
        logits = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).mT * self._whole.logit_scale.exp()
        return logits if self.kind == "exclusive" else logits + self._whole.logit_bias

    def own(self, seen: Mapping[str, Any], tokens: Tokens) -> Tensor:
        """The same, (n, k), as the model's own forward says. seen: what a forward of the image was given."""
        known = takes(self._whole.forward)
        logits: Tensor = self._whole(**seen, **{k: v for k, v in tokens.items() if k in known}).logits_per_image
        return logits

    @property
    def _whole(self) -> Any:
        return core(self.model)


class OfFixedSize(ImageText):
    """Of a model that takes images of its own size alone (GroupViT)."""

    def forward(self, pixel_values: Tensor) -> Any:  # type: ignore[override]
        return self._whole.get_image_features(pixel_values)


class OfPatchRows(ImageText):
    """Of a model that takes patches already cut (SigLIP2)."""

    def forward(self, pixel_values: Tensor, pixel_attention_mask: Tensor, spatial_shapes: Tensor) -> Any:  # type: ignore[override]
        return self._whole.get_image_features(pixel_values, pixel_attention_mask, spatial_shapes)


class Retrieval(ImageText):
    """BLIP for retrieval: the cosine of its two embeddings, which it makes no probability of.

    Its second head, which reads image and text together, takes no part.
    """

    kind = "number"

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Any:
        output = self._whole.vision_model(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)
        output.pooler_output = self._whole.vision_proj(output.last_hidden_state[:, 0])
        return output

    def of_texts(self, tokens: Tokens) -> Tensor:
        known = takes(self._whole.text_encoder.forward)
        states = self._whole.text_encoder(**{k: v for k, v in tokens.items() if k in known}).last_hidden_state
        embeddings: Tensor = self._whole.text_proj(states[:, 0])
        return embeddings

    def compared(self, images: Tensor, texts: Tensor) -> Tensor:
        return F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).mT

    def own(self, seen: Mapping[str, Any], tokens: Tokens) -> Tensor:
        known = takes(self._whole.forward)
        given = {k: v for k, v in tokens.items() if k in known}
        logits: Tensor = self._whole(**seen, **given, use_itm_head=False).itm_score
        return logits


class OpenClip(ImageText):
    """A model of open_clip, whose tokenizer fills every text up itself."""

    @property
    def config(self) -> Any:
        return None

    @property
    def positions(self) -> int | None:
        count: int | None = getattr(self._whole, "context_length", None)
        return count

    @property
    def padded(self) -> bool:
        return True

    def forward(self, pixel_values: Tensor) -> Tensor:  # type: ignore[override]
        embedding: Tensor = self._whole.encode_image(pixel_values)
        return embedding

    def of_image(self, output: Any) -> Tensor:
        embedding: Tensor = output
        return embedding

    def of_texts(self, tokens: Tokens) -> Tensor:
        embeddings: Tensor = self._whole.encode_text(tokens["input_ids"])
        return embeddings

    def own(self, seen: Mapping[str, Any], tokens: Tokens) -> Tensor:
        logits: Tensor = self._whole.get_logits(seen["pixel_values"], tokens["input_ids"])[0]
        return logits


def image_text(module: nn.Module) -> ImageText | None:
    """A module as an image-text model, if it embeds images and texts; None of any other."""
    whole: Any = core(module)
    if all(hasattr(whole, part) for part in ("encode_image", "encode_text", "get_logits", "logit_scale", "visual")):
        return OpenClip(module, whole.visual)
    sees = image_part(module)
    if sees is module:
        return None
    if all(hasattr(whole, part) for part in ("vision_proj", "text_proj", "itm_head", "text_encoder")):
        return Retrieval(module, sees)
    if not all(hasattr(whole, part) for part in ("get_image_features", "get_text_features", "logit_scale")):
        return None
    known = takes(whole.get_image_features)
    if "spatial_shapes" in known:
        return OfPatchRows(module, sees)
    if "kwargs" in known:  # of two encoders (VisionTextDualEncoder): handed on to the one that sees
        known = {**known, **takes(core(sees).forward)}
    return ImageText(module, sees) if "interpolate_pos_encoding" in known else OfFixedSize(module, sees)


def tower_of(module: nn.Module) -> ImageText:
    """The image-text model in a module that was loaded as one."""
    return next(part for part in module.modules() if isinstance(part, ImageText))
