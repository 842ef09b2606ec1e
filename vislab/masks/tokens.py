"""Regions out of a Vision Transformer's tokens, without training: clusters and the normalised cut."""

from __future__ import annotations

import numpy as np

MOST = 4096  # patches in the normalised cut, whose time grows with their third power
_APART = 1e-5  # the similarity of tokens that are not alike, which keeps the graph in one piece (Wang et al. 2022)
_TRIES = 5  # beginnings of k-means, of which the tightest clusters are taken


def directions(values: np.ndarray) -> np.ndarray:
    """values: (n, width) -> less their mean, at unit length. Raises ValueError where all tokens are alike."""
    apart = values - values.mean(0)
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    if not lengths.max() > 1e-9 * max(1.0, float(np.abs(values).max())):
        raise ValueError("all tokens of this image are the same, so there is nothing to tell apart: take another image")
    return apart / np.maximum(lengths, 1e-12 * lengths.max())


def kmeans(values: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Clusters of tokens by direction, the largest first: values (n, width) -> (n,) int, 0..clusters - 1.

    Lloyd's algorithm by OpenCV, from the best of five beginnings by k-means++ (Arthur & Vassilvitskii 2007). The same
    seed gives the same clusters.
    """
    import cv2

    points = directions(values).astype(np.float32)
    draw, stop = np.random.default_rng(seed), (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-6)
    best, least = np.zeros(len(points), int), np.inf
    for _ in range(_TRIES):
        begun = _beginning(points, clusters, draw)[:, None]
        spread, labels, _ = cv2.kmeans(points, clusters, begun, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
        if spread < least:
            best, least = labels[:, 0].astype(int), spread
    order = np.argsort(-np.bincount(best, minlength=clusters), kind="stable")
    return np.argsort(order)[best]


def _beginning(points: np.ndarray, clusters: int, draw: np.random.Generator) -> np.ndarray:
    """Which of k centres, drawn far from each other by k-means++, is nearest to each point -> (n,) int32."""
    centres = [points[draw.integers(len(points))]]
    apart = [((points - centres[0]) ** 2).sum(1)]
    for _ in range(clusters - 1):
        least = np.min(apart, axis=0).astype(np.float64)
        chance = least / least.sum() if least.sum() > 0 else None
        centres.append(points[draw.choice(len(points), p=chance)])
        apart.append(((points - centres[-1]) ** 2).sum(1))
    return np.argmin(apart, axis=0).astype(np.int32)


def tokencut(values: np.ndarray, tau: float) -> tuple[np.ndarray, float]:
    """The normalised cut of tokens in two: values (n, width) -> ((n,) bool, the foreground; how clean it is, 0..1).

    Tokens less their mean are alike where their cosine is above `tau`. The second eigenvector of (D - W) x = λ D x is
    cut at its mean, and the side of its largest entry is the foreground (Wang et al., TokenCut, 2022, there on the keys
    of DINO's last layer). How clean: the mean share of the similarity of each side that stays on it. Raises ValueError
    for more than 4096 tokens, and where all of them are alike.
    """
    if len(values) > MOST:
        raise ValueError(
            f"the normalised cut of {len(values)} patches takes too long, {MOST} are the most: take a smaller "
            "image_size, a larger patch_size, or method='kmeans'"
        )
    alike = similarity(values, tau)
    if (alike == 1).all():
        raise ValueError(f"all patches are more alike than tau={tau:g}, so nothing divides them: take a higher tau")
    degree = alike.sum(1)
    root = np.sqrt(degree)
    _, vectors = np.linalg.eigh(np.eye(len(alike)) - alike / np.outer(root, root))
    vector = vectors[:, 1] / root
    most = int(np.abs(vector).argmax())
    kept = vector > vector.mean()
    kept = kept if kept[most] else ~kept
    stay = [alike[np.ix_(side, side)].sum() / degree[side].sum() for side in (kept, ~kept) if side.any()]
    return kept, float(np.clip(np.mean(stay), 0, 1))


def similarity(values: np.ndarray, tau: float) -> np.ndarray:
    """The graph that is cut: 1 where two tokens are alike, else 0.00001 -> (n, n)."""
    points = directions(values)
    return np.where(points @ points.T > tau, 1.0, _APART)
