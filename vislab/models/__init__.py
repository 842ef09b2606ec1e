"""An image through a model."""
