"""Laws of what a model's card says of it: its limits and examples are read from the file beside its weights."""

from __future__ import annotations

from pathlib import Path

from vislab.core.files import assets
from vislab.language.card import Card, card

TEXT = """# A model

| question | answer |
|---|---|
| who is it ? | nobody . |
| why ? | because . |

| other | table |
|---|---|
| 1 | 2 |

- **Limits**: it knows nobody. It says so.
- **Licence**: free.
"""


def test_limits_and_questions_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(TEXT, encoding="utf-8")
    assert card(str(tmp_path)) == Card("it knows nobody. It says so.", ("who is it ?", "why ?"))


def test_the_embedded_reader_says_first_what_its_answers_are_of_a_photograph() -> None:
    first = card("embedded-reader").limits.split(". ")[0]
    assert "of a photograph that nobody cut, its answers are guesses" in first
    assert first in (assets() / "models" / "reader-imagenette" / "README.md").read_text(encoding="utf-8")


def test_a_model_without_a_card_says_nothing(tmp_path: Path) -> None:
    assert card(str(tmp_path)) == card("no/such-model") == card("LlavaForConditionalGeneration") == Card()
