"""Laws of errors in the page's words: what is wrong is still said, and code is not."""

from __future__ import annotations

import pytest

import vislab
from vislab.lab.wording import plainly


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "rollout needs one grid. Try method='grad_cam', or pick one with site=…",
            "rollout needs one grid. Try the method “Grad-CAM”.",
        ),
        ("take method='grad_cam'", "take the method “Grad-CAM”."),
        ("image_size is a whole number, not 'x'", "input size is a whole number, not 'x'."),
        ("query is 'cls' or a point", "the pinned patch is CLS or a point."),
        ("method 'legrad' reads all, as 'cls'", "the method “LeGrad” reads all, as CLS."),
        ("take one such as 'rollout'", "take one such as “rollout: all layers”."),
        (
            "by method='cls' or 'attention', and method='occlusion' or 'rollout' do; keep_by is 'attention'",
            "by the method “attention: one layer” or “attention of a token”, and the method “occlusion” or “rollout: "
            "all layers” do; keep_by is 'attention'.",
        ),
        ("sound as it is!", "sound as it is!"),
        ("written as .html: let go of two_stage, or take f()", "written as .html: let go of “each box by itself”."),
        ("vislab.load(…)", "This cannot be done here."),
    ],
)
def test_code_is_left_out_and_names_are_those_of_controls(given: str, told: str) -> None:
    assert plainly(given) == told


def test_errors_of_the_engine_lose_their_python() -> None:
    with pytest.raises(OSError, match=r"vislab\.load") as unknown:
        vislab.load("facebook/dinov2-small")
    told = plainly(str(unknown.value))
    assert told.startswith("cannot load 'facebook/dinov2-small'")
    assert "vislab.load" not in told
