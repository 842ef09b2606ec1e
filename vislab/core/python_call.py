"""Python source that makes a value again: one way to print a call, for figures' records, the Lab and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Source(str):
    """Python source itself, such as a variable's name, where else a value stands.

    >>> call("vislab.explain", "image", model=Source("model"))
    'vislab.explain(image, model=model)'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def call(function: str, *data: str, **keywords: Any) -> str:
    """A call as Python source. data: source of what comes first; keywords: values.

    >>> call("vislab.explain", "image", layer=3, attention_scale={0: 0.5})
    'vislab.explain(image, layer=3, attention_scale={0: 0.5})'
    """
    return f"{function}({', '.join([*data, *(f'{name}={plain(value)!r}' for name, value in keywords.items())])})"


def plain(value: Any) -> Any:
    """The same as numbers, strings, lists and dicts; anything else by the name of its type.

    >>> plain({"scale": np.float32(0.5), "target": abs})
    {'scale': 0.5, 'target': '<builtin_function_or_method>'}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {plain(key): plain(one) for key, one in value.items()}
    if isinstance(value, Sequence):
        return tuple(map(plain, value)) if isinstance(value, tuple) else list(map(plain, value))
    return f"<{type(value).__name__}>"
