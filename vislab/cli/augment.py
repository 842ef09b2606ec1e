"""vislab augment: crops and mosaics of photos that spare what a model looks at, for training."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..methods.registry import METHODS
from ..spread.photos import Photo, photos_of
from .arguments import UsageError, share, whole, whole_or_none
from .photos import photos_argument, spare

if TYPE_CHECKING:
    from ..api.augmentation import Augmentation

AUGMENT_EPILOG = """\
examples:
  vislab augment photos/ --out more/
  vislab augment photos/ --out more/ --count 8 --spare 0.9 --smallest 0.2 --seed 1
  vislab augment photos/ --out more/ --mosaics 100 --count 0
  vislab augment photos/ --preview crops.png

Folders below FOLDER, such as one a class, are made again below --out; mosaics lie in --out itself. The same seed makes
the same files. In Python vislab.Augmentation is a transform of torchvision, which boxes, masks and labels follow.
"""


def augment_arguments(parser: argparse.ArgumentParser) -> None:
    photos_argument(parser)
    parser.add_argument("--out", metavar="DIR", help="folder to write PNG files into")
    parser.add_argument("--count", type=whole_or_none, default=4, metavar="N", help="crops of each photo (default: 4)")
    parser.add_argument(
        "--mosaics", type=whole_or_none, default=0, metavar="N", help="pictures of four photos each (default: 0)"
    )
    parser.add_argument("--size", type=whole, default=224, metavar="N", help="side of a crop, pixels (default: 224)")
    parser.add_argument(
        "--spare", type=share, default=0.8, metavar="X", help="of what is looked at, held by a crop (default: 0.8)"
    )
    parser.add_argument(
        "--smallest", type=share, default=0.1, metavar="X", help="crop, a share of the photo's area (default: 0.1)"
    )
    parser.add_argument("--model", default="embedded", metavar="NAME", help="as of vislab figure (default: embedded)")
    parser.add_argument("--method", choices=list(METHODS), default="rollout", help="of the heatmap (default: rollout)")
    parser.add_argument("--seed", type=whole_or_none, default=0, metavar="N", help="of all draws (default: 0)")
    parser.add_argument("--preview", metavar="PATH", help=".png: the first photos with their crops outlined")


def run_augment(args: argparse.Namespace) -> int:
    if not args.out and not args.preview:
        raise UsageError("say where the pictures go: --out DIR, or --preview PATH")
    if args.preview and Path(args.preview).suffix.lower() != ".png":
        raise UsageError(f"--preview takes a .png, not {args.preview!r}")
    if args.smallest == 0:
        raise UsageError("--smallest is a share above 0")
    from ..api.augmentation import Augmentation
    from ..core.files import check_folder

    photos = photos_of(args.photos)
    if args.mosaics and len(photos) < 4:
        raise UsageError(f"a mosaic is made of four photos, and there are {len(photos)}")
    files = {photo: _below(photo, args.photos, Path(args.out or ".")) for photo in photos}
    written = [str(_numbered(file, n)) for file in files.values() for n in range(args.count)]
    spare([photo.source for photo in photos], written if args.out else [], f"--out {args.out!r}")
    if args.preview:
        spare([photo.source for photo in photos], [args.preview], f"--preview {args.preview!r}")
        check_folder(Path(args.preview))
    augment = Augmentation(
        args.size, spare=args.spare, scale=(args.smallest, 1.0), model=args.model, method=args.method, seed=args.seed
    )
    if args.out:
        print(f"{_crops(augment, files, args.count) + _mosaics(augment, photos, args)} pictures in {args.out}")
    if args.preview:
        _preview(augment, photos, Path(args.preview))
    return 0


def _below(photo: Photo, words: list[str], out: Path) -> Path:
    """Where a photo's crops go: below --out as it lies below the folder that it was found in."""
    source = Path(photo.source)
    for folder in map(Path, words):
        if folder.is_dir() and source.is_relative_to(folder):
            return out / source.relative_to(folder).parent / photo.name.rpartition("/")[2]
    return out / photo.name


def _numbered(file: Path, number: int) -> Path:
    return file.with_name(f"{file.name}-{number + 1}.png")


def _crops(augment: Augmentation, files: dict[Photo, Path], count: int) -> int:
    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from ..core.files import write
    from ..figures.png import png

    hidden = len(files) < 2 or not sys.stderr.isatty()
    for photo, file in tqdm(files.items(), unit="photo", file=sys.stderr, disable=hidden, leave=False):
        picture = photo.image() if count else None
        for number in range(count):
            assert picture is not None
            file.parent.mkdir(parents=True, exist_ok=True)
            write(_numbered(file, number), png(np.asarray(augment(Image.fromarray(picture)))))
    return len(files) * count


def _mosaics(augment: Augmentation, photos: list[Photo], args: argparse.Namespace) -> int:
    from ..core.files import write
    from ..figures.png import png

    draws, folder = random.Random(args.seed), Path(args.out)
    for number in range(args.mosaics):
        folder.mkdir(parents=True, exist_ok=True)
        four = [photo.image() for photo in draws.sample(photos, 4)]
        picture = augment.mosaic(four).permute(1, 2, 0).numpy()
        write(folder / f"mosaic-{number + 1:0{len(str(args.mosaics))}}.png", png(picture))
    return int(args.mosaics)


def _preview(augment: Augmentation, photos: list[Photo], path: Path) -> None:
    from ..core.files import write
    from ..figures.png import png

    write(path, png(augment.preview([photo.image() for photo in photos[:4]])))
