"""Boxes, and what they rest on."""
