"""The embedded reader as a model: the embedded ViT under a tiny Llama, what it sees of scenes, and how it reads.

What ships is a plain `LlavaForConditionalGeneration`; `see` and `read` are its own modules run so that many questions
share one scene, and so that a step of training may leave patches out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from data import MEAN, STD, normalise
from scenes import PLACES, SIDE, Question, Scene, words
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from vislab.models.patch_size import interpolate_positions

PATCH = 16  # pixels
GRID = SIDE // PATCH
WORDS = words()
PAD, BOS, EOS, UNKNOWN, IMAGE = range(5)
IGNORED = -100


def new_reader(start: ViTForImageClassification) -> LlavaForConditionalGeneration:
    """The embedded ViT, its positions in each quarter of a scene, under a Llama that knows nothing yet."""
    vit = start.vit
    vision = ViTConfig(**{**vit.config.to_dict(), "image_size": SIDE, "tie_last_hidden_states": False})
    text = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        image_seq_length=GRID**2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    reader = LlavaForConditionalGeneration(config)
    tower = reader.model.vision_tower
    weights = vit.state_dict()
    positions = weights["embeddings.position_embeddings"]
    weights["embeddings.position_embeddings"] = torch.cat([positions[:, :1], in_quarters(positions[:, 1:])], 1)
    tower.load_state_dict({**tower.state_dict(), **weights})  # the pooler alone is not among them, and nothing uses it
    return reader


def in_quarters(positions: Tensor) -> Tensor:
    """Position embeddings of a square grid, once in each quarter of the scene. (1, n, width) -> (1, 28·28, width)

    What a quarter's would be in the mean, were they stretched over the whole scene, is added: it tells quarters apart.
    The tower starts nearer to what the embedded ViT sees of each quarter with these than with stretched ones.
    """
    side, half = math.isqrt(positions.shape[1]), GRID // 2
    stretched = interpolate_positions(positions, (side, side), (GRID, GRID)).unflatten(1, (2, half, 2, half))
    apart = stretched.mean((2, 4), keepdim=True) - positions.mean(1)
    each = interpolate_positions(positions, (side, side), (half, half)).unflatten(1, (1, half, 1, half))
    return (each + apart).flatten(1, 4)


def new_processor() -> LlavaProcessor:
    """Whole images stretched to the scene's side; words in any case, one token each."""
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
        model_max_length=1024,
    )
    size = {"height": SIDE, "width": SIDE}
    images = ViTImageProcessor(size=size, image_mean=MEAN, image_std=STD, resample=2)
    return LlavaProcessor(images, fast, PATCH, "default", num_additional_image_tokens=1)


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
                row.append((token, following[i], number, 1 + GRID**2 + i, rests[i]))
        rows.append(row)
    longest = max(map(len, rows))
    padding = (PAD, IGNORED, -1, 1 + GRID**2, -1)
    return Packed(*torch.tensor([row + [padding] * (longest - len(row)) for row in rows], device=device).unbind(2))


def owners(scene: Scene) -> Tensor:
    """The place whose picture covers a patch by half or more of its height and width, else -1. -> (patches,)"""
    edges = torch.arange(GRID) * PATCH
    owner = torch.full((GRID, GRID), -1)
    for p in scene.pictures:
        left, top, right, bottom = p.box
        across = ((edges + PATCH).clamp(max=right) - edges.clamp(min=left)) * 2 >= PATCH
        down = ((edges + PATCH).clamp(max=bottom) - edges.clamp(min=top)) * 2 >= PATCH
        owner[down[:, None] & across] = p.place
    return owner.flatten()


def pixels(made: list[Scene]) -> Tensor:
    """The images of scenes. -> (n, 448, 448, 3) uint8"""
    return torch.from_numpy(np.stack([scene.image for scene in made]))


def patches(images: Tensor, kept: Tensor) -> Tensor:
    """uint8 (n, 448, 448, 3), kept: (n, tokens) -> (n, tokens, 3·16·16), normalised, in the order of a kernel."""
    cells = images.unflatten(2, (GRID, PATCH)).unflatten(1, (GRID, PATCH)).permute(0, 1, 3, 5, 2, 4).flatten(1, 2)
    cells = cells[torch.arange(len(cells))[:, None], kept]
    return normalise(cells.flatten(0, 1)).flatten(1).unflatten(0, kept.shape)


def see(reader: LlavaForConditionalGeneration, cells: Tensor, kept: Tensor) -> list[Tensor]:
    """The tower's image tokens of some patches after each layer; the projector takes the last. -> (n, tokens, width)"""
    tower = reader.model.vision_tower
    e, projection = tower.embeddings, tower.embeddings.patch_embeddings.projection
    x = F.linear(cells.to(projection.weight.dtype), projection.weight.flatten(1), projection.bias)
    x = x + e.position_embeddings[0, 1 + kept]
    x = torch.cat([(e.cls_token + e.position_embeddings[:, :1]).expand(len(x), -1, -1), x], 1)
    layers = []
    for layer in tower.layers:
        x = layer(x)
        layers.append(x[:, 1:])
    return layers


def see_alone(
    vit: ViTForImageClassification, cells: Tensor, kept: Tensor, owner: Tensor, boxes: Tensor
) -> list[Tensor]:
    """What the embedded ViT sees of each picture as if it were the whole image: its tokens after each layer.

    cells: (n, tokens, 768), kept and owner: (n, tokens), boxes: (n, 4, 4) by place, scene pixels -> (n, tokens, width);
    what it says of the ground means nothing.
    """
    e, projection = vit.vit.embeddings, vit.vit.embeddings.patch_embeddings.projection
    box = boxes.gather(1, owner.clamp(min=0)[:, :, None].expand(-1, -1, 4))
    centre = torch.stack([kept % GRID, kept // GRID], 2) * PATCH + PATCH / 2
    at = ((centre - box[:, :, :2]) / (box[:, :, 2:] - box[:, :, :2]).clamp(min=1) * 2 - 1).clamp(-1, 1)
    side = math.isqrt(e.position_embeddings.shape[1] - 1)
    plane = (
        e.position_embeddings[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2).expand(len(at), -1, -1, -1)
    )
    positions = F.grid_sample(plane, at[:, None], mode="bicubic", padding_mode="border", align_corners=False)
    x = F.linear(cells.to(projection.weight.dtype), projection.weight.flatten(1), projection.bias)
    x = x + positions[:, :, 0].transpose(1, 2).to(x.dtype)
    cls = (e.cls_token + e.position_embeddings[:, :1]).expand(len(x), len(PLACES), -1)
    x = torch.cat([cls, x], 1)
    group = torch.cat([torch.arange(len(PLACES), device=x.device).expand(len(x), -1), owner], 1)
    apart = (group[:, None] != group[:, :, None])[:, None]
    mask = torch.zeros(apart.shape, dtype=x.dtype, device=x.device).masked_fill(apart, torch.finfo(x.dtype).min)
    layers = []
    for layer in vit.vit.layers:
        x = layer(x, mask)
        layers.append(x[:, len(PLACES) :])
    return layers


def read(
    reader: LlavaForConditionalGeneration, seen: Tensor, kept: Tensor, packed: Packed
) -> tuple[Tensor, list[Tensor]]:
    """The Llama over image tokens and packed questions.

    -> logits (n, length, words); each layer's attention (n, heads, 1 + tokens + length, same), for which the model's
    attention must be eager.
    """
    llama, n, tokens = reader.model.language_model, len(seen), seen.shape[1]
    bos = llama.embed_tokens(torch.full((n, 1), BOS, device=seen.device))
    x = torch.cat([bos, reader.model.multi_modal_projector(seen), llama.embed_tokens(packed.ids)], 1)
    positions = torch.cat([torch.zeros_like(kept[:, :1]), 1 + kept, packed.positions], 1)
    segment = torch.cat([torch.full((n, 1 + tokens), -2, device=seen.device), packed.segments], 1)
    order = torch.arange(x.shape[1], device=seen.device)
    shared = (segment[:, None] == segment[:, :, None]) | (segment[:, None] == -2)
    allowed = shared & (order <= order[:, None])
    mask = torch.zeros(allowed.shape, dtype=x.dtype, device=x.device).masked_fill(~allowed, torch.finfo(x.dtype).min)
    turns = llama.rotary_emb(x, position_ids=positions)
    attentions = []

    def remember(_module: nn.Module, _args: tuple, out: tuple) -> None:
        attentions.append(out[1])

    hooks = [layer.self_attn.register_forward_hook(remember) for layer in llama.layers]
    for layer in llama.layers:
        x = layer(x, attention_mask=mask[:, None], position_embeddings=turns, position_ids=positions)
    for hook in hooks:
        hook.remove()
    return reader.lm_head(llama.norm(x[:, 1 + tokens :])), attentions
