"""How a language model gets an image: as tokens among its own, as a Q-Former's queries, or as keys that words cross to.

By queries (BLIP-2, InstructBLIP), the tokens that stand for the image have no place of their own: a Q-Former's queries
attended to the vision tower's tokens, and through them a word does. By keys (Mllama, BLIP), no token stands for the
image: in some layers words attend to the vision tower's tokens and to nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Way:
    """kind: how the image comes. crosses: what is in the path of each cross-attention. former: path of the Q-Former.

    alone: whether `generate` runs the language model by itself, after the rest ran. marked: whether a mark in the text
    says where the image is. tower: whether what crosses over comes from the last layer of one vision tower.
    """

    kind: Literal["tokens", "queries", "keys"] = "tokens"
    crosses: str | None = None
    former: str | None = None
    alone: bool = False
    marked: bool = True
    tower: bool = True

    def crossing(self, path: str) -> bool:
        """Whether a site of this path is one where other tokens attend to those of the image."""
        return self.crosses is not None and self.crosses in path.split(".")


WAYS = {
    "mllama": Way("keys", "cross_attn", tower=False),
    "blip": Way("keys", "crossattention", alone=True, marked=False),
    "blip-2": Way("queries", "crossattention", "qformer", alone=True, marked=False),
    "instructblip": Way("queries", "crossattention", "qformer", alone=True, marked=False),
}


def way_of(family: str) -> Way:
    """By what transformers calls the family."""
    return WAYS.get(family, Way())


def begun(config: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What a model goes on from: BLIP begins by a token of its own, and does without the one that ends its prompt."""
    if config.model_type != "blip":
        return inputs
    ids = inputs["input_ids"][:, :-1].clone()
    ids[:, 0] = config.text_config.bos_token_id
    return {**inputs, "input_ids": ids, "attention_mask": inputs["attention_mask"][:, :-1]}


def asked(config: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What `generate` takes, of what `begun` made: BLIP's cuts the last token off by itself."""
    if config.model_type != "blip":
        return inputs
    return {**inputs, **{name: _longer(inputs[name]) for name in ("input_ids", "attention_mask")}}


def _longer(row: Any) -> Any:
    return row[:, [*range(row.shape[1]), -1]]
