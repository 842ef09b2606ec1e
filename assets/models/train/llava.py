"""The embedded reader as a model: the embedded ViT under a tiny Llama, what it sees of scenes, and how it reads.

What ships is a plain `LlavaNextForConditionalGeneration`: the tower sees the whole scene, small, and then its four
quarters, each alone. `see` and `read` are its own modules run so that many questions share one scene, and so that a
step of training may leave patches out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from data import MEAN, STD, normalise
from scenes import SIDE, Question, Scene, words
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

PATCH = 16  # pixels
VIEW = SIDE // 2  # pixels of a view: the whole scene, small, then its quarters
GRID = VIEW // PATCH  # patches along a view's side
PATCHES = GRID**2
VIEWS = 5
LINE = 2 * GRID + 1  # image tokens of a line across two quarters, the end of the line counted
COUNT = PATCHES + 2 * GRID * LINE  # image tokens
WORDS = words()
PAD, BOS, EOS, UNKNOWN, IMAGE = range(5)
IGNORED = -100
TURN = 3  # which of a head's 16 pairs of numbers turns once a line


def new_reader(start: ViTForImageClassification) -> LlavaNextForConditionalGeneration:
    """The embedded ViT under a Llama that knows nothing yet.

    The base of the Llama's rotary positions is such that one pair of numbers turns once in each line of the image, and
    with that another half a turn in all lines: left and right, top and bottom can be told by where a token stands.
    """
    vision = ViTConfig(**{**start.vit.config.to_dict(), "tie_last_hidden_states": False})
    text = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1280,
        rope_parameters={"rope_type": "default", "rope_theta": (LINE / (2 * math.pi)) ** (16 / TURN)},
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
    )
    config = LlavaNextConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        image_grid_pinpoints=[[SIDE, SIDE]],
        image_seq_length=COUNT,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    reader = LlavaNextForConditionalGeneration(config)
    tower = reader.model.vision_tower  # it has a pooler, too, which nothing uses
    tower.load_state_dict({**tower.state_dict(), **start.vit.state_dict()})
    return reader


def new_processor() -> LlavaNextProcessor:
    """A scene as five views of 224 px; other images are fitted in, and padded. Words in any case, one token each."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[UNKNOWN]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{WORDS[BOS]} $A", special_tokens=[(WORDS[BOS], BOS)]
    )
    pad, bos, eos, unknown, image = WORDS[:5]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unknown,
        extra_special_tokens={"image_token": image},
        model_max_length=1280,
    )
    images = LlavaNextImageProcessor(
        size={"height": VIEW, "width": VIEW},
        crop_size={"height": VIEW, "width": VIEW},
        image_grid_pinpoints=[[SIDE, SIDE]],
        image_mean=list(MEAN),
        image_std=list(STD),
        resample=2,
    )
    return LlavaNextProcessor(images, fast, PATCH, "default", num_additional_image_tokens=1)


def pixels(made: list[Scene]) -> Tensor:
    """The images of scenes. -> (n, 448, 448, 3) uint8"""
    return torch.from_numpy(np.stack([scene.image for scene in made]))


def views(images: Tensor) -> Tensor:
    """What the tower is shown of scenes. uint8 (n, 448, 448, 3) -> uint8 (5 n, 224, 224, 3)"""
    channels = images.permute(0, 3, 1, 2)
    whole = F.interpolate(channels, size=(VIEW, VIEW), mode="bilinear", antialias=True).permute(0, 2, 3, 1)
    return torch.cat([whole[:, None], quarters(images)], 1).flatten(0, 1)


def quarters(large: Tensor) -> Tensor:
    """(n, 2 m, 2 m, …) -> (n, 4, m, m, …), row by row"""
    half = large.shape[1] // 2
    return large.unflatten(2, (2, half)).unflatten(1, (2, half)).transpose(2, 3).flatten(1, 2)


def owners(scene: Scene, cell: int) -> Tensor:
    """The place whose picture covers a cell by half or more of its height and width, else -1. -> (rows, cols)"""
    edges = torch.arange(SIDE // cell) * cell
    owner = torch.full((len(edges), len(edges)), -1)
    for p in scene.pictures:
        left, top, right, bottom = p.box
        across = ((edges + cell).clamp(max=right) - edges.clamp(min=left)) * 2 >= cell
        down = ((edges + cell).clamp(max=bottom) - edges.clamp(min=top)) * 2 >= cell
        owner[down[:, None] & across] = p.place
    return owner


def owners_in_views(made: list[Scene]) -> Tensor:
    """The owner of each patch of each view. -> (5 n, 196)"""
    whole = torch.stack([owners(scene, 2 * PATCH) for scene in made])
    near = torch.stack([owners(scene, PATCH) for scene in made])
    return torch.cat([whole[:, None], quarters(near)], 1).flatten(2).flatten(0, 1)


def in_line(seen: Tensor, end: Tensor) -> Tensor:
    """Values of patches of views, (5 n, 196, …), as image tokens, `end` ending each line. -> (n, 1008, …)"""
    of_views = seen.unflatten(0, (-1, VIEWS))
    near = of_views[:, 1:].unflatten(2, (GRID, GRID)).unflatten(1, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    ends = end.expand(*near.shape[:2], 1, *near.shape[3:])
    return torch.cat([of_views[:, 0], torch.cat([near, ends], 2).flatten(1, 2)], 1)


def patches(shown: Tensor, kept: Tensor) -> Tensor:
    """Of views, uint8 (n, 224, 224, 3), kept: (n, tokens) -> (n, tokens, 3·16·16), normalised, as a kernel has them."""
    cells = shown.unflatten(2, (GRID, PATCH)).unflatten(1, (GRID, PATCH)).permute(0, 1, 3, 5, 2, 4).flatten(1, 2)
    cells = cells[torch.arange(len(cells))[:, None], kept]
    return normalise(cells.flatten(0, 1)).flatten(1).unflatten(0, kept.shape)


def see(tower: ViTModel, cells: Tensor, kept: Tensor) -> list[Tensor]:
    """The tower's tokens of some patches of views after each layer; the projector takes the last. (n, tokens, width)"""
    e, projection = tower.embeddings, tower.embeddings.patch_embeddings.projection
    x = F.linear(cells.to(projection.weight.dtype), projection.weight.flatten(1), projection.bias)
    x = x + e.position_embeddings[0, 1 + kept]
    x = torch.cat([(e.cls_token + e.position_embeddings[:, :1]).expand(len(x), -1, -1), x], 1)
    layers = []
    for layer in tower.layers:
        x = layer(x)
        layers.append(x[:, 1:])
    return layers


@dataclass(frozen=True)
class Packed:
    """Questions and answers of scenes, one row a scene; a question sees its scene's image and itself.

    ids, following (the token to be said next, or IGNORED), segments (which question), positions (in the sequence),
    rests (the place that the token to be said next rests on, or -1): (n, length).
    """

    ids: Tensor
    following: Tensor
    segments: Tensor
    positions: Tensor
    rests: Tensor


def pack(asked: list[list[Question]], device: str | torch.device = "cpu") -> Packed:
    """Rows of tokens from the questions of each scene."""
    index = {word: i for i, word in enumerate(WORDS)}
    rows = []
    for of_scene in asked:
        row: list[tuple[int, ...]] = []
        for number, q in enumerate(of_scene):
            text, answer = [index[w] for w in q.text.split()], [index[w] for w in q.answer.split()]
            following = [IGNORED] * (len(text) - 1) + [*answer, EOS]
            rests = [-1] * (len(text) - 1) + [-1 if place is None else place for place in (*q.rests, None)]
            for i, token in enumerate(text + answer):
                row.append((token, following[i], number, 1 + COUNT + i, rests[i]))
        rows.append(row)
    longest = max(map(len, rows))
    padding = (PAD, IGNORED, -1, 1 + COUNT, -1)
    return Packed(*torch.tensor([row + [padding] * (longest - len(row)) for row in rows], device=device).unbind(2))


@dataclass(frozen=True)
class Read:
    """logits: (n, length, words). Of each layer, attentions: (n, heads, 1 + tokens + length, same), and image: its
    image tokens, (n, tokens, width)."""

    logits: Tensor
    attentions: list[Tensor]
    image: list[Tensor]


def read(reader: LlavaNextForConditionalGeneration, seen: Tensor, kept: Tensor, packed: Packed) -> Read:
    """The Llama over some image tokens and packed questions; its attention must be eager.

    seen: (n, tokens, width of the tower), whatever stands for ends of lines; kept: (n, tokens), which image tokens.
    """
    llama, n, tokens = reader.model.language_model, len(seen), seen.shape[1]
    bos = llama.embed_tokens(torch.full((n, 1), BOS, device=seen.device))
    ends = ((kept >= PATCHES) & ((kept - PATCHES) % LINE == LINE - 1))[:, :, None]
    image = torch.where(ends, reader.model.image_newline, reader.model.multi_modal_projector(seen))
    x = torch.cat([bos, image, llama.embed_tokens(packed.ids)], 1)
    positions = torch.cat([torch.zeros_like(kept[:, :1]), 1 + kept, packed.positions], 1)
    segment = torch.cat([torch.full((n, 1 + tokens), -2, device=seen.device), packed.segments], 1)
    order = torch.arange(x.shape[1], device=seen.device)
    shared = (segment[:, None] == segment[:, :, None]) | (segment[:, None] == -2)
    allowed = shared & (order <= order[:, None])
    mask = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device).masked_fill(~allowed, torch.finfo(x.dtype).min)
    turns = llama.rotary_emb(x, position_ids=positions)
    attentions: list[Tensor] = []

    def remember(_module: nn.Module, _args: tuple, out: tuple) -> None:
        attentions.append(out[1])

    hooks = [layer.self_attn.register_forward_hook(remember) for layer in llama.layers]
    states = []
    for layer in llama.layers:
        x = layer(x, attention_mask=mask[:, None], position_embeddings=turns, position_ids=positions)
        states.append(x[:, 1 : 1 + tokens])
    for hook in hooks:
        hook.remove()
    return Read(reader.lm_head(llama.norm(x[:, 1 + tokens :])), attentions, states)
