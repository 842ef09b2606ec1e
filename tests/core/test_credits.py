"""Laws of credits: every sample has one, and nothing else has."""

from __future__ import annotations

from pathlib import Path

import pytest

import vislab
from vislab.core.credits import credit_of, credits


def test_all_samples_have_a_title_and_a_credit() -> None:
    found = credits()
    assert set(found) == set(vislab.samples())
    assert all(title and credit and "[" not in title + credit for title, credit in found.values())


def test_a_sample_is_known_by_its_name_and_its_path() -> None:
    church = ("Berlin Cathedral, its dome and towers above a lawn", "Gary Todd, public domain")
    path = vislab.samples()["church"]
    assert credit_of("church") == credit_of(path) == credit_of(str(path)) == church


@pytest.mark.parametrize("source", ["nobody", "", "elsewhere/church.jpg", Path("church.jpg"), None, 7])
def test_nothing_else_has_one(source: object) -> None:
    assert credit_of(source) is None
