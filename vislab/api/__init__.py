"""The public functions: the one place where parts meet."""
