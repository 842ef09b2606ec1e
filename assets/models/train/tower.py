"""How the reader's tower learns to see a picture somewhere in a view as the embedded ViT sees it alone.

The embedded ViT names a picture that fills its view, and hardly one that is small in it. Its own features and names of
each picture, cut out and stretched, are what a copy of it learns to see of the views of a scene (distillation), with
each patch's class or ground. A step sees some of the patches of a view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from data import LABELS, normalise
from llava import GRID, IGNORED, PATCH, PATCHES, VIEW, VIEWS, owners_in_views, patches, pixels, see, views
from scenes import PLACES, Scene
from teacher import divergence
from torch import Tensor, nn
from transformers import ViTForImageClassification, ViTModel
from vit import GUIDED, forward

KEPT, GROUND = 96, 16  # patches of a view that a step sees, and how many of them are ground at least
ALONE = 28  # patch size at which the embedded ViT sees a picture alone, pixels
FINE = VIEW // ALONE  # patches along its side then


class Tower(nn.Module):
    """The tower and what only training needs: readings of each patch as class or ground, and as features."""

    def __init__(self, vit: ViTModel) -> None:
        super().__init__()
        vit.set_attn_implementation("eager")  # the faster one for so few tokens
        width = vit.config.hidden_size
        self.vit = vit
        self.labels = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(LABELS) + 1))
        features = [nn.Linear(width, width) for _ in range(2)]
        for linear in features:
            nn.init.eye_(linear.weight)
        self.features = nn.ModuleList(features)


def keep(owner: Tensor) -> Tensor:
    """Some patches of each view at random, small pictures' more often. owner: (n, patches) -> (n, KEPT), in order."""
    chance = -torch.log(-torch.log(torch.rand(owner.shape).clamp(1e-9, 1 - 1e-7)))  # Gumbel: the highest are a sample
    size = torch.stack([(owner == place).sum(1) for place in range(-1, len(PLACES))], 1).clamp(min=1)
    score = chance - 0.5 * size.gather(1, owner + 1).log() + 100 * (owner >= 0)
    ground = (chance - 100 * (owner >= 0)).topk(GROUND).indices
    return score.scatter(1, ground, 1000.0).topk(KEPT).indices.sort(1).values


def boxes_of(made: list[Scene]) -> tuple[Tensor, Tensor]:
    """The class at each place, (n, 4), IGNORED where no picture is, and its box, (n, 4, 4) scene pixels."""
    labels, boxes = torch.full((len(made), len(PLACES)), IGNORED), torch.zeros(len(made), len(PLACES), 4)
    for row, scene in enumerate(made):
        for p in scene.pictures:
            labels[row, p.place] = p.label
            boxes[row, p.place] = torch.tensor(p.box, dtype=torch.float32)
    return labels, boxes


def alone(made: list[Scene]) -> Tensor:
    """Each picture, in the order of places, cut out of its scene and stretched. -> (pictures, 3, 224, 224) float32"""
    cut = []
    for scene in made:
        image = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None].float()
        for p in scene.pictures:
            left, top, right, bottom = p.box
            cut.append(F.interpolate(image[:, :, top:bottom, left:right], size=(VIEW, VIEW), mode="bilinear"))
    return normalise(torch.cat(cut))


def inside(boxes: Tensor, owner: Tensor, kept: Tensor, view: Tensor) -> Tensor:
    """Where in its picture each patch lies, as a cell of what the embedded ViT sees of it alone.

    boxes: (n, 4, 4), of the scene of each view; owner, kept: (n, tokens); view: (n,), 0 the whole -> (n, tokens)
    """
    whole, quarter = (view == 0)[:, None, None], (view - 1).clamp(min=0)
    at = torch.stack([kept % GRID, kept // GRID], 2) + 0.5
    corner = torch.stack([quarter % 2, quarter // 2], 1)[:, None] * VIEW
    at = torch.where(whole, at * 2 * PATCH, at * PATCH + corner)
    box = boxes.gather(1, owner.clamp(min=0)[:, :, None].expand(-1, -1, 4))
    cell = ((at - box[:, :, :2]) / (box[:, :, 2:] - box[:, :, :2]).clamp(min=1) * FINE).long().clamp(0, FINE - 1)
    return cell[:, :, 1] * FINE + cell[:, :, 0]


def tower_loss(tower: Tower, vit: ViTForImageClassification, made: list[Scene], count: int, device: str) -> Tensor:
    """The loss on so many views of some scenes, those with pictures first."""
    owner = owners_in_views(made)
    order = (torch.rand(len(owner)) + (owner >= 0).any(1)).argsort(descending=True)[:count]
    scene, owner = order // VIEWS, owner[order]
    kept = keep(owner)
    owner = owner.gather(1, kept).to(device)
    seen = see(tower.vit, patches(views(pixels(made))[order], kept).to(device), kept.to(device))
    labels, boxes = boxes_of(made)
    number = (labels >= 0).flatten().cumsum(0).unflatten(0, labels.shape) - 1  # which of all pictures
    cell = inside(boxes[scene], owner.cpu(), kept, order % VIEWS).to(device)
    labels, number = labels[scene].to(device), number[scene].to(device)

    with torch.no_grad():
        last, middle, _ = forward(vit, alone(made).to(device, torch.bfloat16), ALONE)
        names = vit.classifier(last[:, 0]).float()
    there = owner >= 0
    which = number.gather(1, owner.clamp(min=0))[there]
    guides = []
    for linear, layer, its in zip(tower.features, (seen[GUIDED - 1], seen[-1]), (middle, last), strict=True):
        mine, its = linear(layer[there]).float(), its[:, 1:][which, cell[there]].float()
        guides.append(F.mse_loss(F.layer_norm(mine, mine.shape[1:]), F.layer_norm(its, its.shape[1:])))

    said = tower.labels(seen[-1]).float()
    lies = torch.where(there, labels.gather(1, owner.clamp(min=0)), len(LABELS))
    each = F.cross_entropy(said.flatten(0, 1), lies.flatten(), label_smoothing=0.1)
    share = F.one_hot(owner + 1, len(PLACES) + 1)[:, :, 1:].float()
    enough = share.sum(1) >= 4  # patches of a picture, of which only a corner may be in a view
    whole = (share / share.sum(1, keepdim=True).clamp(min=1)).transpose(1, 2) @ said
    whole = whole[enough][:, : len(LABELS)]
    named = F.cross_entropy(whole, labels[enough], label_smoothing=0.1)
    soft = divergence(whole, names[number[enough]])
    return named + soft + 0.5 * each + guides[0] + guides[1]


@torch.inference_mode()
def named(tower: Tower, made: list[Scene], device: str) -> float:
    """How often all patches of a picture in its quarter, together, say its class."""
    hits = []
    kept = torch.arange(PATCHES).expand(VIEWS, -1)
    for scene in made:
        owner = owners_in_views([scene])
        said = tower.labels(see(tower.vit, patches(views(pixels([scene])), kept).to(device), kept.to(device))[-1])
        for p in scene.pictures:
            own = said[1 + p.place].cpu()[owner[1 + p.place] == p.place]
            hits.append(int(own[:, : len(LABELS)].mean(0).argmax()) == p.label)
    return sum(hits) / len(hits)
