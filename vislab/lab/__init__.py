"""The widget and its face."""
