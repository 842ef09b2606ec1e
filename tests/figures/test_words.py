"""Laws of what a notebook shows of an answer: each word once, its map where the image is, no script."""

from __future__ import annotations

import base64
import html
import re

import cv2
import numpy as np
import pytest
from readers import ask

from vislab.figures.words import page


@pytest.mark.parametrize("family", ["LLaVA-1.5", "Idefics3"])
def test_every_word_has_its_map(family: str) -> None:
    answer = ask(family, answer="a church & <b> ?")
    shown = page(answer)
    assert shown == answer._repr_html_()
    assert "<script" not in shown
    words = re.findall(r'class="word" tabindex="0" title="(\d+)% of its attention[^"]*">(.*?)<span', shown)
    assert [html.unescape(word) for _, word in words] == [word.text for word in answer.words]
    assert [int(share) for share, _ in words] == [round(100 * float(share)) for share in answer.image_share]
    photo, *maps = re.findall(r'src="data:image/(?:png|jpeg);base64,([^"]+)"', shown)
    assert len(maps) == len(answer.words)
    grid = answer.places.grid
    for one in maps:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[:2] == (grid.rows, grid.cols)
    assert cv2.imdecode(np.frombuffer(base64.b64decode(photo), np.uint8), cv2.IMREAD_COLOR).shape[:2] == (240, 360)
