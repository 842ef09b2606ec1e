"""Regions instead of values: masks of heatmaps, of tokens and of segmentation models, and how much they agree."""
