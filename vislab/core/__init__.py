"""Places, pictures and small shared tools."""
