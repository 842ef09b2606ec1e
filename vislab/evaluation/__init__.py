"""Which map to believe."""
