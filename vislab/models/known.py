"""Names of models that are known to work, and of dtypes; no framework is needed to list them."""

from __future__ import annotations

# Those that weights can be loaded in, with the bytes of a number.
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
EMBEDDED = {
    "embedded": "vit-tiny-imagenette",
    "embedded-plain": "vit-tiny-imagenette-plain",
    "embedded-clip": "clip-imagenette",
}
TOWERS = {"embedded-clip": "embedded"}  # whose image tower is another's, and so are its weights
# The vision-language model, which answers questions and has no classes: vislab.ask takes it, vislab.load does not.
READER = "embedded-reader"
READER_FOLDERS = {READER: "reader-imagenette"}
READERS = {READER: "answers questions about scenes in words, each with a map of where it looks"}
# The first was taught where its CLS token is to look (attention transfer); the second is the same but for that.
TWINS = {
    "embedded": "taught where to look: its maps lie on objects because it learnt that they should",
    "embedded-plain": "its twin, never taught where to look: what its maps show, it came to by itself",
}
WORDED = {
    "embedded-clip": "takes texts as targets: the embedded ViT and a text tower of 86 words, from tench to animal"
}
# Names of published models whose families the tests verify, with what they teach.
KNOWN = {
    "google/vit-base-patch16-224": "ViT-B/16, 1,000 ImageNet classes",
    "facebook/deit-base-distilled-patch16-224": "DeiT with a distillation token",
    "facebook/dinov2-small": "DINOv2, self-supervised",
    "facebook/dinov2-with-registers-small": "DINOv2 with 4 register tokens: calm maps",
    "facebook/dinov3-vits16-pretrain-lvd1689m": "DINOv3, rotary positions",
    "facebook/vit-mae-base": "MAE, all patches visible",
    "facebook/vit-msn-small": "MSN, self-supervised",
    "openai/clip-vit-base-patch32": "CLIP: an image, and any text as target",
    "google/siglip-base-patch16-224": "SigLIP, with texts: a pooling head in place of CLS",
    "google/siglip2-base-patch16-224": "SigLIP2, with texts",
    "microsoft/beit-base-patch16-224": "BEiT, relative position bias",
    "facebook/data2vec-vision-base": "data2vec, relative position bias",
    "hustvl/yolos-tiny": "YOLOS, a detector made of tokens",
    "Intel/dpt-large": "DPT's ViT, made for depth",
    "timm/vit_small_patch16_224.augreg_in21k_ft_in1k": "timm's ViT-S/16 (pip install timm)",
    "timm/eva02_tiny_patch14_336.mim_in22k_ft_in1k": "timm's EVA-02 (pip install timm)",
    "torchvision/vit_b_16": "torchvision's ViT-B/16",
}
