"""Masks in the Lab's face: clicked, drawn and taken back, in Chromium without a notebook."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import prompted
import pytest
from living import CANVAS, Living
from segmenting import networks

import vislab

pytestmark = pytest.mark.browser
CHURCH = vislab.load_image(vislab.samples()["church"])
SAM = prompted.sam2()
NETWORKS = networks()
MASKED = "store.state.masks?.masks?.length"


def on(lab: Living, x: float, y: float) -> tuple[float, float]:
    """Where a source pixel is on the screen."""
    box = lab.page.locator(CANVAS).first.bounding_box()
    height, width = CHURCH.shape[:2]
    return box["x"] + box["width"] * x / width, box["y"] + box["height"] * y / height


def layer(lab: Living) -> np.ndarray:
    """The pixels that masks are drawn with -> (H, W, 4) uint8."""
    high, wide, pixels = lab("""(() => {
        const { canvas } = store.memory.masks;
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.height, canvas.width, btoa(Array.from(data, (v) => String.fromCharCode(v)).join(""))];
    })()""")
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(high, wide, 4)


def settled(lab: Living) -> None:
    lab.lab.wait(300)
    lab.ready()
    lab.until("store.state.masks && JSON.stringify(['points', 'outside', 'boxes'].map((n) => lab.port.get(n))) === "
              "JSON.stringify(['points', 'outside', 'boxes'].map((n) => store.state.masks.marks[n]))")  # fmt: skip
    lab.page.wait_for_timeout(100)  # a frame


def expected(lab: Living) -> vislab.Masks:
    given = {name: getattr(lab.lab, name) for name in ("points", "outside", "boxes")}
    return vislab.segment(CHURCH, model=SAM[0], processor=SAM[1], **{k: v for k, v in given.items() if v})


def test_masks_that_are_drawn_are_those_of_segment(living: Callable[..., Living]) -> None:
    """A click, a click with Alt, a drag: each pixel that is tinted is one of the mask, and no other is."""
    lab = living(segmenter=SAM)
    settled(lab)
    lab.page.mouse.click(*on(lab, 300, 200))
    settled(lab)
    lab.page.keyboard.down("Alt")
    lab.page.mouse.click(*on(lab, 60, 600))
    lab.page.keyboard.up("Alt")
    settled(lab)
    assert np.allclose(lab.lab.points, [[300, 200]], atol=2)
    assert np.allclose(lab.lab.outside, [[60, 600]], atol=2)
    lab.page.mouse.move(*on(lab, 900, 600))
    lab.page.mouse.down()
    lab.page.mouse.move(*on(lab, 200, 100), steps=3)
    lab.page.mouse.up()
    settled(lab)
    assert np.allclose(lab.lab.boxes, [[200, 100, 900, 600]], atol=2)
    masks = expected(lab)
    pixels = layer(lab)
    assert np.array_equal(pixels[..., 3] > 0, masks.masks[0])
    tinted = pixels[masks.masks[0]].astype(int)
    assert np.abs(tinted - [230, 159, 0, 127]).max() <= 1
    words = lab.text(".mask-words")
    assert words.endswith(f"IoU that the model expects {masks.scores[0]:.2f}")
    assert f"{masks.masks.mean():.0%}"[:-1] in words
    shown = lab.pixels().astype(int)
    lab.control("masks shown").uncheck()
    lab.until("!lab.port.get('masked')")
    lab.page.wait_for_timeout(200)
    differs = np.abs(lab.pixels().astype(int) - shown).max(-1) > 6
    sides = zip(differs.shape, CHURCH.shape[:2], strict=True)
    inside = masks.masks[0][np.ix_(*(((np.arange(n) + 0.5) * m / n).astype(int) for n, m in sides))]
    assert differs[inside].mean() > 0.9
    assert differs[~inside].mean() < 0.1  # the outline is as wide on either side


def test_marks_are_taken_back_one_by_one(living: Callable[..., Living]) -> None:
    lab = living(segmenter=SAM)
    settled(lab)
    for x in (200, 500, 800):
        lab.page.mouse.click(*on(lab, x, 300))
        settled(lab)
    assert len(lab.lab.points) == 3
    lab.page.keyboard.press("Control+z")
    settled(lab)
    assert len(lab.lab.points) == 2
    lab.button("redo").click()
    settled(lab)
    assert len(lab.lab.points) == 3
    lab.page.mouse.click(*on(lab, 500, 300))  # on a mark: it goes
    settled(lab)
    assert np.allclose(lab.lab.points, [[200, 300], [800, 300]], atol=2)
    lab.button("clear").click()
    settled(lab)
    assert lab.lab.points is None
    assert lab.lab.masks is None
    assert lab.text(".mask-words").startswith("Click the object")
    lab.control("background").check()
    lab.page.mouse.click(*on(lab, 60, 600))
    settled(lab)
    assert lab.lab.outside is not None
    assert lab.text(".mask-words") == "What is marked is background alone: now click the object."


def test_keys_alone_are_enough(living: Callable[..., Living]) -> None:
    lab = living(segmenter=SAM, detector="embedded")
    settled(lab)
    lab.button("by mouse").first.focus()
    lab.page.keyboard.press("Enter")  # put down
    lab.until("store.state.tool === 'point'")
    lab.page.keyboard.press("Tab")
    lab.button("by mouse").first.focus()
    lab.page.keyboard.press("Enter")
    lab.until("store.state.tool === 'mask' && document.activeElement === lab.ui.canvas")
    lab.page.keyboard.press("ArrowLeft")
    lab.page.keyboard.press("Enter")
    settled(lab)
    ((x, y),) = lab.lab.points
    assert (x < 512, y) == (True, 341.5)
    lab.page.keyboard.press("ArrowUp")
    lab.page.keyboard.press("Alt+Enter")
    settled(lab)
    assert lab.lab.outside[0][1] < y
    lab.page.keyboard.press("b")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        lab.page.keyboard.press(key)
    lab.page.keyboard.press("b")
    settled(lab)
    ((x0, y0, x1, y1),) = lab.lab.boxes
    assert (x1 - x0) * 2 == pytest.approx(y1 - y0, abs=0.1)
    lab.page.keyboard.press("b")
    lab.page.keyboard.press("b")
    lab.until("lab.ui.note.textContent.startsWith('A box needs an area')")
    assert lab.lab.boxes == [[x0, y0, x1, y1]]
    for left in ("outside", "points", "boxes"):
        lab.page.keyboard.press("Delete")
        settled(lab)
        assert getattr(lab.lab, left) is None
    lab.button("the next box").focus()
    lab.page.keyboard.press("Enter")
    settled(lab)
    assert np.allclose(lab.lab.boxes, lab.lab.detections.xyxy[:1], atol=0.01)


def test_a_click_on_the_line_or_the_label_of_a_box_takes_it(living: Callable[..., Living]) -> None:
    lab = living(segmenter=SAM, detector="embedded")
    settled(lab)
    x0, y0, x1, y1 = lab.lab.detections.xyxy[0].tolist()
    for place in ((x1, (y0 + y1) / 2), (x0 + 15, y0 + 12)):
        lab.page.mouse.click(*on(lab, *place))
        settled(lab)
        assert np.allclose(lab.lab.boxes, [[x0, y0, x1, y1]], atol=0.01)
        assert lab.lab.points is None
        lab.button("clear").click()
        settled(lab)
    lab.page.mouse.click(*on(lab, (x0 + x1) / 2, (y0 + y1) / 2))
    settled(lab)
    assert lab.lab.boxes is None
    assert len(lab.lab.points) == 1


def test_a_label_that_made_way_for_another_takes_its_own_box(living: Callable[..., Living]) -> None:
    lab = living(segmenter=SAM, detector="embedded")
    settled(lab)
    second = [200, 200, 700, 600]
    lab(f"""store.change({{ boxes: {{ ...store.state.boxes, boxes: [
        {{ box: [200, 200, 600, 500], label: "church", score: 0.9 }},
        {{ box: {second}, label: "church", score: 0.8 }},
    ] }} }})""")
    lab.page.wait_for_timeout(100)  # a frame
    x, y = on(lab, 200, 200)
    lab.page.mouse.click(x + 20, y + 28)  # px of the screen: a label is 19 high
    settled(lab)
    assert lab.lab.boxes == [second]
    assert lab.lab.points is None


def test_clicks_while_it_computes_stay(living: Callable[..., Living]) -> None:
    """Of clicks that come faster than masks, none is lost; a refused one is said, and those before stay."""
    lab = living(segmenter=SAM)
    settled(lab)
    for x in range(100, 1000, 100):
        lab.page.mouse.click(*on(lab, x, 300))
    settled(lab)
    assert len(lab.lab.points) == 9
    assert np.array_equal(layer(lab)[..., 3] > 0, expected(lab).masks[0])
    lab("lab.port.set('points', [[5000, 3]]), lab.port.save_changes()")
    lab.until("store.state.status.state === 'error'")
    assert "lies beside the image, which is 1024×683 px" in lab.text(".status")
    lab.until("lab.port.get('points').length === 9")


def test_without_a_segmenter_there_is_nothing_to_press(living: Callable[..., Living]) -> None:
    lab = living()
    assert lab("[lab.ui.masks.hidden, store.state.tool, store.state.masks]") == [True, "point", None]
    lab.fold("Export")
    assert lab("lab.ui.maskExports.every((one) => one.hidden)") is True
    assert "segment" not in lab.text("pre")


def test_what_makes_masks_by_itself_is_shown_and_named(living: Callable[..., Living], tmp_path: Path) -> None:
    lab = living(segmenter="embedded")
    lab.until(MASKED)
    lab.page.wait_for_timeout(100)
    assert lab("[store.state.tool, lab.ui.mark.parentNode.hidden]") == ["point", True]
    masks = vislab.segment(CHURCH)
    assert np.array_equal(layer(lab)[..., 3] > 0, masks.masks[0])
    assert lab.text(".mask-words").startswith("rollout: ")
    lab.fold("Export")
    assert "masks = vislab.segment(image, model='embedded')" in lab.text("pre")
    page = lab.page.context.new_page()
    page.goto(lab.lab.save(tmp_path / "lab.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    drawn: Any = page.evaluate(f"""() => {{
        const {{ store, ui }} = document.querySelector('{CANVAS}').lab;
        return [Boolean(store.memory.masks), ui.mark.parentNode.hidden, ui.masked.disabled, ui.maskWords.textContent];
    }}""")
    assert drawn == [True, True, False, lab.text(".mask-words")]
    page.close()


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_of_a_network_are_drawn_each_in_its_colour(name: str, living: Callable[..., Living]) -> None:
    module, processor = NETWORKS[name]
    lab = living(segmenter=(module, processor))
    lab.until(MASKED)
    lab.page.wait_for_timeout(100)
    masks = vislab.segment(CHURCH, model=module, processor=processor)
    pixels = layer(lab)
    covered = masks.masks.any(0)
    assert np.array_equal(pixels[..., 3] > 0, covered)
    tints = [{*map(bytes, np.unique(pixels[mask][:, :3], axis=0))} for mask in masks.masks]
    assert [len(one) for one in tints] == [1] * len(masks)
    assert len(set.union(*tints)) == len(masks)
    assert lab("lab.ui.mark.parentNode.hidden") is True  # it takes no points
    words = lab.text(".mask-words")
    assert all(label in words for label in masks.labels[:2])


def test_a_network_of_masks_as_the_model_is_refused_and_gives_way(living: Callable[..., Living]) -> None:
    """Its sentence stands in the status line beside the photograph, and the next model is shown."""
    lab = living(model=NETWORKS["SegFormer"][0], mapped=False)
    lab.until("store.state.status.state === 'error'")
    told = "SegformerForSemanticSegmentation makes masks, and no map by the method “attention: one layer”; its masks"
    assert lab.text(".status").startswith(told)
    assert lab.pixels().std() > 10
    lab.lab.model = "embedded"
    lab.ready()
    assert lab.lab.heatmap.values.shape == (14, 14)
