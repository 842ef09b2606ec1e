"""Thousands of photographs, each asked once: here, or by the machines of a Ray cluster."""
