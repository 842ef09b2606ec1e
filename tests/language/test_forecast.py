"""Laws of forecasts: as many tokens as the processor makes of a photo, told without weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from readers import FAMILIES, PICTURE, QUESTION, pair

from vislab.cli.main import main
from vislab.language.forecast import forecast, is_reader
from vislab.language.prompt import prompted
from vislab.language.reader import Reader

SAVED = ["LLaVA-1.5", "LLaVA-NeXT", "Idefics3", "Gemma 3"]


def saved(family: str, folder: Path) -> str:
    module, processor = pair(family)
    module.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("family", SAVED)
def test_tokens_are_those_of_the_processor(family: str, tmp_path: Path) -> None:
    folder = saved(family, tmp_path)
    told = forecast(folder, PICTURE)
    inputs, places = prompted(Reader(family, *pair(family)), PICTURE, QUESTION)
    assert is_reader(folder)
    assert told["image_tokens"] == int((inputs["input_ids"] == pair(family)[0].config.image_token_id).sum())
    assert (told["family"], told["views"]) == (family, len(places.views))
    assert told["ends"] == (places.grid.rows if family == "LLaVA-NeXT" else 0)


@pytest.mark.parametrize("family", ["LLaVA-1.5", "LLaVA-OneVision", "LLaVA-NeXT", "Qwen2-VL", "PaliGemma", "Gemma 3"])
def test_placeholders_are_as_many_as_the_processor_says(family: str) -> None:
    processor = FAMILIES[family].pair()[1]
    _, places = prompted(Reader(family, *pair(family)), PICTURE, QUESTION)
    assert processor._get_num_multimodal_tokens(image_sizes=[PICTURE.shape[:2]]).num_image_tokens == [places.count]


def test_the_command_tells_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, photo = saved("LLaVA-NeXT", tmp_path), str(tmp_path / "photo.png")
    Image.fromarray(PICTURE).save(photo)
    assert main(["tokens", photo, "--model", folder]) == 0
    told = capsys.readouterr().out
    assert "LLaVA-NeXT, 2 layers" in told
    assert "vision tower comes on top, which is not counted here" in told
    assert main(["tokens", photo, "--model", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photo"] == [60, 90]
    assert main(["tokens", photo, "--model", folder, "--patch-size", "8"]) == 2
    assert "by its own processor" in capsys.readouterr().err
    for file in tmp_path.glob("*processor*"):
        file.unlink()
    assert main(["tokens", photo, "--model", folder]) == 1
    assert "does not tell how it is shown images" in capsys.readouterr().err


def test_what_is_no_reader() -> None:
    assert not any(is_reader(name) for name in ("embedded", "timm/vit", "nobody/nothing", "./nowhere", "\0"))
