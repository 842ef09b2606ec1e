"""Small models of timm, torchvision, ultralytics and others."""

from typing import Any


def listed(zoo: str) -> list[str]:
    return []
