"""Laws of what lies on this machine: downloaded weights, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from vislab.models.held import is_held
from vislab.models.known import KNOWN, TWINS


def test_what_is_embedded_is_held_and_of_the_hub_what_was_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert [name for name in TWINS | KNOWN if is_held(name)] == list(TWINS)
    assert is_held(str(tmp_path))
    snapshot = tmp_path / "models--facebook--dinov2-small" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()  # alone, as an interrupted download leaves it
    assert not is_held("facebook/dinov2-small")
    (snapshot / "model.safetensors").touch()
    assert is_held("facebook/dinov2-small")
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "vit_b_16-c867db91.pth").touch()
    assert is_held("torchvision/vit_b_16")
