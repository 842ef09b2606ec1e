"""Pictures and words: what a vision-language model says of an image, and where in it a word looks."""
