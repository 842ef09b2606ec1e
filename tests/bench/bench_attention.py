"""Time and memory of reading attention, against the plain forward pass of the same model; prints Markdown.

The model is a ViT-B/16 with random weights, float32, on the CPU; a detector is held against its own predict(). Runs
alternate with plain forwards, and the median of the ratios of neighbours counts. Extra memory is the difference of two
peaks, each of a fresh process that makes the model and runs it once. This process loads nothing heavy: its children's
peaks would begin with it.

    python tests/bench/bench_attention.py [--sizes 224 384 640 | --all] [--busy] [--readme]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

Runs = dict[str, Callable[[], Any]]

README = Path(__file__).parents[2] / "README.md"

LAYERS, HEADS, WIDTH, PATCH = 12, 12, 768, 16
SIZES, LARGE = (224, 384, 640), (1024, 2048)  # pixels a side
DETECTED = 640  # pixels a side
SECONDS, ROUNDS = 20, 31  # a comparison ends when either is reached
BASELINE = {"vislab": "plain", "eager": "plain", "fast-vit-rollout": "plain timm"}
BASELINE |= {"capture": "predict", "maps": "predict"}
DETECTOR = {"capture": "predict() with all sites captured", "maps": "then the maps of one box, all sites"}
GRADIENTS = {
    "relevance": "relevance of a class",
    "grad_rollout": "rollout weighted by gradients",
    "legrad": "LeGrad of a text, CLIP",
}
FRAMEWORKS = ("torch", "torchvision", "transformers", "timm", "ultralytics", "matplotlib", "cv2")
IMPORT = f"""
import sys, time
start = time.perf_counter()
import vislab
print(time.perf_counter() - start, *({{*{FRAMEWORKS}}} & {{*sys.modules}}))
"""
NOTES = """
Time ({clock}) is the ratio to the plain forward with fused attention. The eager recipe runs the same model with
`attn_implementation="eager"` and `output_attentions=True`, and multiplies the maps of all layers. fast-vit-rollout
reads what enters modules named `attn_drop`, which the ViT of transformers does not have: it runs on timm's ViT-B/16 of
the same shape, with `discard_ratio` 0 and, as it needs, without fused attention; its baseline is timm's fused forward.

Methods of gradients are held against a forward with fused attention and a backward pass to the pixels, weights frozen;
their eager recipe keeps the maps of all layers and their gradients by autograd.

The detector is the embedded YOLO12n at {size} px, in ultralytics' own predict(), boxes and all.
"""


def tokens(size: int) -> int:
    return (size // PATCH) ** 2 + 1


# ---- in a child ----


def runs_of_transformers(task: str, size: int) -> Runs:
    import torch
    from transformers import ViTConfig, ViTModel

    import vislab

    config = ViTConfig(num_hidden_layers=LAYERS, num_attention_heads=HEADS, hidden_size=WIDTH, patch_size=PATCH)
    model = ViTModel(config, add_pooling_layer=False).eval()
    pixels = torch.rand(1, 3, size, size)

    def forward(attention: str = "sdpa", **options: bool) -> Any:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        return model(pixels, interpolate_pos_encoding=True, **options)

    def with_vislab() -> torch.Tensor:
        with vislab.capture(model) as cap:
            forward()
        return cap.rollout() if task == "rollout" else torch.stack([cap.attention(site) for site in cap.layers], 1)

    def with_eager() -> torch.Tensor:
        maps = forward("eager", output_attentions=True).attentions
        if task != "rollout":
            return torch.stack([layer[:, :, 0] for layer in maps], 1)
        identity = torch.eye(tokens(size))
        result = identity
        for layer in maps:
            fused = layer.mean(1) + identity
            result = (fused / fused.sum(-1, keepdim=True)) @ result
        return result[:, 0]

    return {"plain": forward, "vislab": with_vislab, "eager": with_eager}


def runs_of_gradients(task: str, size: int) -> Runs:
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    import vislab

    config = ViTConfig(num_hidden_layers=LAYERS, num_attention_heads=HEADS, hidden_size=WIDTH, patch_size=PATCH)
    model = ViTForImageClassification(config).eval().requires_grad_(False)
    pixels = torch.rand(1, 3, size, size)

    def forward(attention: str = "sdpa", pixels: torch.Tensor = pixels, **options: bool) -> Any:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        return model(pixels, interpolate_pos_encoding=True, **options)

    @torch.enable_grad()
    def plain() -> torch.Tensor:
        given = pixels.clone().requires_grad_()
        return torch.autograd.grad(forward(pixels=given).logits[0, 0], given)[0]

    @torch.enable_grad()
    def with_vislab() -> torch.Tensor:
        with vislab.capture(model, gradients=True) as cap:
            score = forward().logits[0, 0]
        cap.differentiate(score)
        return cap.relevance() if task == "relevance" else cap.grad_rollout()

    @torch.enable_grad()
    def with_eager() -> torch.Tensor:
        said = forward("eager", pixels.clone().requires_grad_(), output_attentions=True)
        identity = result = torch.eye(tokens(size))
        for layer, gradient in zip(
            said.attentions, torch.autograd.grad(said.logits[0, 0], said.attentions), strict=True
        ):
            weights = (layer * gradient).detach().relu_()[0].mean(0)
            if task == "relevance":
                result = result + weights @ result
            else:
                sums = weights.sum(-1, keepdim=True)
                result = (torch.where(sums > 0, weights / sums, identity) + identity) / 2 @ result
        return result[:1]

    return {"plain": plain, "vislab": with_vislab, "eager": with_eager}


def runs_of_texts(size: int) -> Runs:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    import vislab

    vision = {"num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_size": WIDTH, "patch_size": PATCH}
    model = CLIPModel(CLIPConfig(vision_config=vision)).eval().requires_grad_(False)
    words = Tokenizer(models.WordLevel({"<end>": 0, "a": 1, "red": 2, "door": 3}, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<end>", pad_token="<end>")
    clip = vislab.load(model, processor=tokenizer)
    image = torch.randint(256, (size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    pixels = clip.preprocessing(image, (size, size))[0]
    text = model.get_text_features(**tokenizer(["a red door"], return_tensors="pt", return_token_type_ids=False))
    direction = torch.nn.functional.normalize(text.pooler_output, dim=-1)[0] * model.logit_scale.exp()

    def score(pooled: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(model.visual_projection(pooled), dim=-1)[0] @ direction

    def forward(attention: str, pixels: torch.Tensor, **options: bool) -> Any:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
        return model.vision_model(pixels, interpolate_pos_encoding=True, **options)

    @torch.enable_grad()
    def plain() -> torch.Tensor:
        given = pixels.clone().requires_grad_()
        return torch.autograd.grad(score(forward("sdpa", given).pooler_output), given)[0]

    def with_vislab() -> torch.Tensor:
        if model.config._attn_implementation != "sdpa":
            model.set_attn_implementation("sdpa")
        heat = vislab.explain(image, model=clip, target="a red door", method="legrad", image_size=size)
        return torch.from_numpy(heat.values.copy()).flatten()

    @torch.enable_grad()
    def with_eager() -> torch.Tensor:
        made: list[torch.Tensor] = []
        layers = model.vision_model.encoder.layers
        handles = [layer.register_forward_hook(lambda *call: made.append(call[2])) for layer in layers]
        said = forward("eager", pixels.clone().requires_grad_(), output_attentions=True)
        for handle in handles:
            handle.remove()
        result = torch.zeros(tokens(size))
        for states, attention in zip(made, said.attentions, strict=True):
            scored = score(model.vision_model.post_layernorm(states[:, 0]))
            (gradient,) = torch.autograd.grad(scored, attention, retain_graph=True)
            result += gradient[0].relu().mean((0, 1))
        return result[1:]

    return {"plain": plain, "vislab": with_vislab, "eager": with_eager}


def runs_of_timm(size: int) -> Runs:
    import timm
    import torch
    from fast_vit_rollout import ViTAttentionRollout

    model = timm.create_model("vit_base_patch16_224", img_size=size, num_classes=0).eval()
    pixels = torch.rand(1, 3, size, size)
    rollout = ViTAttentionRollout(model, discard_ratio=0.0)

    def run(fused: bool, of: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        for block in model.blocks:
            block.attn.fused_attn = fused
        return of(pixels)

    return {
        "plain timm": lambda: run(True, model),
        "fast-vit-rollout": lambda: run(False, lambda x: rollout(x)[:, 0]),
    }


def runs_of_detector(size: int) -> Runs:
    import copy

    import vislab
    from vislab.detectors import yolo

    yolo.quietly()
    from ultralytics import YOLO

    photo = vislab.load_image(vislab.samples()["cathedral"])
    detector = vislab.load_detector("embedded", device="cpu")
    network = YOLO("yolo12n.yaml")
    network.model = copy.deepcopy(detector.module)

    def predict() -> Any:
        return network.predict(photo[..., ::-1], imgsz=size, verbose=False)

    predict()
    runs = network.predictor.model.backend.model  # a copy that predict() makes of its own
    glance = detector.glance(photo, image_size=size)
    sites = len(glance.places())

    def captured() -> Any:
        with vislab.capture(runs):
            return predict()

    def maps() -> Any:
        return [glance.heatmap(box=0, layer=layer) for layer in range(sites)]

    return {"predict": predict, "capture": captured, "maps": maps}


def child(what: str, name: str, task: str, size: int, busy: bool) -> dict[str, float]:
    """time: the median ratio of `name` to its plain forward; peak: of memory, in bytes, after one run of `name`."""
    import torch

    torch.manual_seed(0)
    if busy:
        torch.set_num_threads(1)
    clock = time.process_time if busy else time.perf_counter
    with torch.no_grad():
        if task == "legrad":
            runs = runs_of_texts(size)
        elif task in GRADIENTS:
            runs = runs_of_gradients(task, size)
        elif task == "detector":
            runs = runs_of_detector(size)
            torch.set_num_threads(1 if busy else torch.get_num_threads())  # predict() sets it too
        elif "timm" in name or name == "fast-vit-rollout":
            runs = runs_of_timm(size)
        else:
            runs = runs_of_transformers(task, size)
        if what == "peak":
            runs[name]()
            unit = 1 if sys.platform == "darwin" else 1024
            return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
        times: list[float] = []
        ratios: list[float] = []
        begin = time.perf_counter()
        while len(ratios) <= ROUNDS and (time.perf_counter() - begin < SECONDS or not ratios):
            times.append(seconds(runs[name], clock))
            ratios.append(times[-1] / seconds(runs[BASELINE[name]], clock))
        result = {"time": statistics.median(ratios[1:] or ratios)}  # the first warms up
        result["seconds"] = statistics.median(times[1:] or times)
        if name == "eager":
            result["difference"] = float((runs["eager"]() - runs["vislab"]()).abs().max())
        return result


def seconds(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


# ---- in the parent ----


def asked(what: str, name: str, task: str, size: int) -> dict[str, float]:
    """What a child found; it is given this process's own options."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", what, name, task, str(size)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def cells(name: str, task: str, size: int) -> list[str]:
    """Time and extra memory of one way to do the task."""
    if name != "vislab":
        maps = 4 if task in GRADIENTS else 1  # before and after the softmax, and the gradients of both
        needed = (maps * LAYERS * HEADS + 4) * tokens(size) ** 2 * 4
        if needed > 0.9 * psutil.virtual_memory().available:
            return ["cannot run", f"needs {shown(needed)}"]
    baseline = peak(BASELINE[name], task if task in GRADIENTS else "", size)
    extra = peak(name, task, size) - baseline
    return [f"{asked('time', name, task, size)['time']:.2f}", shown(extra)]


@functools.cache
def peak(name: str, task: str, size: int) -> float:
    """The median of some processes: where memory is small, what the allocator does counts."""
    return statistics.median(asked("peak", name, task, size)["peak"] for _ in range(1 if size in LARGE else 3))


def shown(count: float) -> str:
    return f"{count / 1e6:.0f} MB" if count < 0.95e9 else f"{count / 1e9:.1f} GB"


def row(task: str, size: int) -> str:
    what = "rollout" if task == "rollout" else "CLS maps, all layers and heads"
    kept = shown(2 * LAYERS * tokens(size) * WIDTH * 4)
    package = cells("fast-vit-rollout", task, size) if task == "rollout" else ["–", "–"]
    columns = [what, f"{tokens(size):,}", *cells("vislab", task, size), kept, *cells("eager", task, size), *package]
    return f"| {' | '.join(columns)} |"


def imported() -> str:
    command = [sys.executable, "-c", IMPORT]
    found = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split() for _ in range(5)]
    loaded = ", ".join(found[0][1:]) or "no framework"
    return f"`import vislab`: {statistics.median(float(line[0]) for line in found):.3f} s, loads {loaded}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="image sizes in pixels (%(default)s)")
    parser.add_argument("--all", action="store_true", help=f"also {LARGE}: minutes, and 12 GB for the eager recipe")
    parser.add_argument("--busy", action="store_true", help="processor time of one thread: for a machine at work")
    parser.add_argument("--readme", action="store_true", help="put what is printed into README.md as well")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, name, task, size = options.child
        print(json.dumps(child(what, name, task, int(size), options.busy)))
        return
    said: list[str] = []
    for line in report((*SIZES, *LARGE) if options.all else options.sizes, options.busy):
        print(line, flush=True)
        said.append(line)
    if options.readme:
        text = README.read_text(encoding="utf-8")
        block = "\n".join([*said, ""])
        text = re.sub(r"(?s)(?<=<!-- bench -->\n).*(?=<!-- /bench -->)", lambda _: block, text)
        README.write_text(text, encoding="utf-8")


def report(sizes: Sequence[int], busy: bool) -> Iterator[str]:
    """What is said, line by line, as soon as it is known."""
    yield f"On {psutil.cpu_count()} processor cores. {imported()}\n"
    yield "| | tokens | time | extra memory | q, k alone | eager: time | memory | fast-vit-rollout: time | memory |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for task, size in [("cls", sizes[0]), *(("rollout", size) for size in sizes)]:
        yield row(task, size)
    yield "\n| | tokens | time | extra memory | eager: time | memory |\n|---|---|---|---|---|---|"
    for task in GRADIENTS:
        for size in sizes:
            columns = [GRADIENTS[task], f"{tokens(size):,}", *cells("vislab", task, size), *cells("eager", task, size)]
            yield f"| {' | '.join(columns)} |"
    yield "\n| | of predict() | ms |\n|---|---|---|"
    for name, title in DETECTOR.items():
        found = asked("time", name, "detector", DETECTED)
        yield f"| {title} | {found['time']:.3f} | {1e3 * found['seconds']:.1f} |"
    yield NOTES.format(clock="processor time of one thread" if busy else "wall time", size=DETECTED).rstrip()


if __name__ == "__main__":
    main()
