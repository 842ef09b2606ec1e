"""Ink: maps on photographs, on the screen and on paper."""
