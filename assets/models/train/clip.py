"""Train and measure the embedded image-text model: texts for a ViT that never saw any (locked-image tuning).

    python clip.py see --data DIR --start ../vit-tiny-imagenette --out RUN
    python clip.py train --start ../vit-tiny-imagenette --out RUN
    python clip.py evaluate --data DIR --start ../vit-tiny-imagenette --model RUN/model

The vision tower is the embedded ViT, frozen; `see` keeps what its CLS token is of each training picture, of a view of
every fourth one, and of halves of two. `train` learns a pooler and a projection for that, and a text tower of two
layers, from captions that are true of classes (`captions.py`). Several captions are true of a picture, and a caption is
true of several pictures: all of them are drawn nearer. What is saved is what was trained; the tower's weights stay in
the ViT's folder.

Source: Zhai et al. 2022 (LiT: Zero-Shot Transfer with Locked-image text Tuning). The loss with many positives is that
of Khosla et al. 2020 (Supervised Contrastive Learning), eq. 2, between pictures and texts.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from captions import BOS, EOS, MOST, PAD, Caption, captions, new_tokenizer, pairs, words
from clip_bank import SIDE, new_bank
from clip_tables import tables
from data import LABELS, MEAN, STD, load
from loop import Run, adamw, descend, fall, follow, parser, require, rise, set_rate
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
    ViTForImageClassification,
    ViTImageProcessor,
)

import vislab
from vislab.models.hub import over

WIDTH = 64  # of the text tower, and of what pictures and texts are compared by
ONE, TWO = 192, 96  # captions of a step, of one thing and of two
HEAVIER = 10.0  # of a picture of two things the captions of both are few, and say more than those of one
SHARPEST = 4.6  # logarithm of what cosines are multiplied by, at most: 100
TOWER = "vision_model."


def new_model(start: Path) -> VisionTextDualEncoderModel:
    """The embedded ViT, frozen but for a new pooler, and a text tower that knows nothing yet."""
    vit = ViTForImageClassification.from_pretrained(start, dtype=torch.float32)
    text = CLIPTextConfig(
        vocab_size=len(words()),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MOST,
        projection_dim=WIDTH,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    vision = {**vit.config.to_dict(), "_name_or_path": "../vit-tiny-imagenette"}
    both = {"vision_config": vision, "text_config": text.to_dict(), "projection_dim": WIDTH}
    model = VisionTextDualEncoderModel(VisionTextDualEncoderConfig(**both))
    tower = model.vision_model
    tower.load_state_dict({**tower.state_dict(), **vit.vit.state_dict()})
    tower.requires_grad_(False)
    tower.pooler.requires_grad_(True)
    return model


def save(model: VisionTextDualEncoderModel, folder: Path) -> None:
    """What was trained, as float16, with configuration, tokenizer and preprocessing."""
    state = model.state_dict()
    trained = [name for name in state if not name.startswith(TOWER) or name.startswith(f"{TOWER}pooler.")]
    half = copy.deepcopy(model).half()
    half.save_pretrained(folder, state_dict={name: state[name].half() for name in trained})
    images = ViTImageProcessor(image_mean=list(MEAN), image_std=list(STD), size={"height": SIDE, "width": SIDE})
    VisionTextDualEncoderProcessor(images, new_tokenizer()).save_pretrained(folder)


def truth(shows: Tensor, said: list[Caption]) -> Tensor:
    """Which captions are true of which pictures. (n, classes) -> (n, captions) bool"""
    sets = [[[c in group for c in range(len(LABELS))] for group in caption.sets] for caption in said]
    every = [[group for groups in sets for group in (groups[0], groups[-1])]]
    some = (shows[:, None].float() @ torch.tensor(every, dtype=torch.float32).transpose(1, 2))[:, 0] > 0
    return some.unflatten(1, (-1, 2)).all(2)


def drawn_together(logits: Tensor, true: Tensor, weights: Tensor) -> Tensor:
    """How far pictures are from all that is true of them, among captions, and captions from theirs. (n, m) -> ()

    weights: (m,), how much a caption counts among those that are true of a picture.
    """
    losses = []
    for similar, right in ((logits, true * weights), (logits.T, true.T.float())):
        count = right.sum(1)
        each = -(similar.log_softmax(1) * right).sum(1) / count.clamp(min=1e-9)
        losses.append(each[count > 0].mean())
    return torch.stack(losses).mean()


def of_pictures(model: VisionTextDualEncoderModel, seen: Tensor) -> Tensor:
    """What pictures are compared by. seen: (n, width), their CLS tokens -> (n, WIDTH)"""
    pooled: Tensor = model.visual_projection(model.vision_model.pooler(seen[:, None]))
    return F.normalize(pooled, dim=-1)


def of_texts(model: VisionTextDualEncoderModel, tokens: Tensor) -> Tensor:
    """What texts are compared by. tokens: (n, length) -> (n, WIDTH)"""
    pooled: Tensor = model.get_text_features(tokens, attention_mask=(tokens != PAD).long()).pooler_output
    return F.normalize(pooled, dim=-1)


@torch.inference_mode()
def named(model: VisionTextDualEncoderModel, seen: Tensor, known: Tensor) -> float:
    """How often the nearest of the ten names is the picture's."""
    texts = new_tokenizer()([f"a photo of a {label}" for label in LABELS], padding=True, return_tensors="pt")
    nearest = of_pictures(model, seen) @ of_texts(model, texts["input_ids"].to(seen.device)).T
    return float((nearest.argmax(1) == known).float().mean())


def see(args: argparse.Namespace) -> None:
    """Keep what the tower makes of all that is trained on."""
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(new_bank(args.start, args.data, two=args.two, device=args.device), args.out / "bank.pt")


def train(args: argparse.Namespace) -> None:
    """Train all but the tower; each checkpoint tells the accuracy of the ten names on the validation pictures."""
    torch.manual_seed(0)
    bank = {name: part.to(args.device) for name, part in torch.load(args.out / "bank.pt", weights_only=True).items()}
    model = new_model(args.start).to(args.device)
    mean = copy.deepcopy(model)
    said = [captions(), pairs()]
    both = [part for of_kind in said for part in of_kind]
    texts = [[f"{caption.text}{stop}" for caption in both] for stop in ("", ".")]
    tokens = torch.stack(
        [new_tokenizer()(t, padding="max_length", return_tensors="pt")["input_ids"] for t in texts]
    ).to(args.device)  # (2, captions, MOST)
    true = truth(bank["shows"].cpu(), both).to(args.device)
    weights = torch.tensor([1.0] * ONE + [HEAVIER] * TWO, device=args.device)
    optimiser = adamw(model, args.rate)
    run = Run(args.out / "clip.pt", count=len(bank["seen"]), batch=args.batch, epochs=args.epochs)
    run.keep(model=model, mean=mean, optimiser=optimiser)

    for now in run.steps(lambda: f"names {named(mean, bank['watched'], bank['known']):.3f}"):
        set_rate(optimiser, args.rate * rise(now.step, 50) * fall(now.progress, 0.3) + 1e-7)
        picks = [torch.randperm(len(of_kind))[:count] for of_kind, count in zip(said, (ONE, TWO), strict=True)]
        chosen = torch.cat([picks[0], len(said[0]) + picks[1]]).to(args.device)
        given = tokens[torch.randint(2, chosen.shape), chosen]
        given = given[:, : int((given != PAD).sum(1).max())]
        pick = now.pick.to(args.device)
        similar = of_pictures(model, bank["seen"][pick]) @ of_texts(model, given).T
        loss = drawn_together(similar * model.logit_scale.exp(), true[pick][:, chosen], weights)
        descend(loss, optimiser, clip=1.0)
        model.logit_scale.data.clamp_(max=SHARPEST)
        follow(mean, model, now.step)
        run.note(loss)
    save(mean, args.out / "model")


def evaluate(args: argparse.Namespace) -> None:
    """Print the tables of the card of a saved model."""
    module = over(str(args.model), str(args.start)).float().eval()
    processor = VisionTextDualEncoderProcessor.from_pretrained(args.model)
    model = vislab.load(module, processor=processor, device=args.device)
    images, labels = (part[:: args.every] for part in load(args.data, "val"))
    for line in tables(model, args.start, images, labels, two=args.two, sizes=args.sizes, maps=args.maps):
        print(line, flush=True)


def main() -> None:
    commands = parser(__doc__)
    named_commands = commands.add_subparsers(required=True)
    command = named_commands.add_parser("see")
    require(command, "data", "start", "out")
    command.add_argument("--two", type=int, default=4096, help="pictures of two halves")
    command.set_defaults(run=see)
    command = named_commands.add_parser("train")
    require(command, "start", "out")
    command.add_argument("--epochs", type=float, default=12)
    command.add_argument("--batch", type=int, default=512)
    command.add_argument("--rate", type=float, default=2e-3)
    command.set_defaults(run=train)
    command = named_commands.add_parser("evaluate")
    require(command, "data", "start", "model")
    command.add_argument("--every", type=int, default=1, help="take every n-th validation picture only")
    command.add_argument("--two", type=int, default=400, help="pictures of two halves")
    command.add_argument("--sizes", type=int, nargs="*", default=[32], help="other patch sizes")
    command.add_argument("--maps", type=int, default=12, help="pictures whose maps are measured")
    command.set_defaults(run=evaluate)
    args = commands.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
