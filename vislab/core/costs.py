"""What attention costs, by formula."""

from __future__ import annotations


def attention_flops(tokens: int, dim: int, layers: int = 1) -> int:
    """Floating-point operations of q·kᵀ and of weights·v: 4·n²·d a layer, a multiply-add counting 2."""
    return 4 * tokens**2 * dim * layers


def attention_memory(tokens: int, heads: int, layers: int = 1, bytes_per_value: int = 4) -> int:
    """Bytes of the n×n attention maps of all heads and layers, as eager attention makes them."""
    return heads * tokens**2 * bytes_per_value * layers
