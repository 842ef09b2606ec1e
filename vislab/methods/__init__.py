"""Ways to ask what a model looks at."""
