"""What seeing where words look costs, against the model without: generation, reading, relevance; prints Markdown.

    python tests/bench/bench_words.py [--small] [--tiles 16] [--rounds 3] [--words 16]

The shape of SmolVLM-256M with random weights, and an image in 16 tiles: a prompt of about 1,138 tokens, and fewer with
fewer --tiles; with --small the shape of the tests, for a quick look. Each run alternates with the plain one, and the
median of the ratios of neighbours counts, in seconds of the processor. Bars: generation 1.05, reading 0.1 of a forward
and 100 MB, relevance 4 forwards.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[1]))

import readers

import vislab
from vislab.api.ask import _pieces
from vislab.evaluation.memory import Peak
from vislab.language.prompt import extended, prompted
from vislab.language.reader import Reader

QUESTION = "What is on the hill ?"


def pair(small: bool, tiles: int = 16) -> tuple[Any, Any]:
    if small:
        return readers.pair("Idefics3")
    torch.manual_seed(0)
    vision = hf.SmolVLMVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=512,
        patch_size=16,
    )  # fmt: skip
    text = hf.LlamaConfig(
        **readers.TEXT | {"vocab_size": 49280, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                          "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192}
    )  # fmt: skip
    config = hf.SmolVLMConfig(
        vision_config=vision, text_config=text, image_token_id=readers.token("<image>"), scale_factor=4, pad_token_id=0
    )
    images = hf.Idefics3ImageProcessor(
        size={"longest_edge": 512 * math.isqrt(tiles)}, max_image_size={"longest_edge": 512}
    )
    module = hf.SmolVLMForConditionalGeneration(config).eval()
    module.generation_config.eos_token_id, module.generation_config.pad_token_id = 2, 0
    return module, hf.Idefics3Processor(images, readers.tokenizer(), image_seq_len=64)


def seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def ratio(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> float:
    """How much longer one takes, the median over neighbours."""
    return statistics.median(seconds(one) / seconds(other) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--tiles", type=int, choices=[4, 9, 16], default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=16)
    args = parser.parse_args()
    module, processor = pair(args.small, args.tiles)
    reader = Reader("bench", module, processor)
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    if not args.small:
        image = np.tile(image, (math.isqrt(args.tiles),) * 2 + (1,))  # each tile, and the whole
    said = " ".join(["church", "fish"] * (args.words // 2))
    inputs, _ = prompted(reader, image, QUESTION)
    prompt, forced = inputs["input_ids"].shape[1], _pieces(reader, said)

    def only(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([forced[ids.shape[1] - prompt]]), 0)

    @torch.no_grad()
    def plain() -> None:
        made, _ = prompted(reader, image, QUESTION)
        module.generate(**made, max_new_tokens=len(forced), do_sample=False, logits_processor=[only])

    def recorded() -> vislab.Answer:
        return vislab.ask(image, QUESTION, model=reader, answer=said)

    answer = recorded()
    whole = extended(answer.inputs, answer.ids[prompt:-1])

    @torch.no_grad()
    def forward() -> None:
        module(**whole, use_cache=False)

    def read() -> None:
        for site in answer.sites:
            answer.capture.attention(site, slice(prompt - 1, None))

    with Peak([module]) as peak:
        read()
    print(f"\n## Words of {type(module).__name__}, {prompt} tokens and {len(forced)} more\n")
    print("| | against | ratio |\n|---|---|---|")
    print(f"| generation, recorded | plain | {ratio(recorded, plain, args.rounds):.2f} |", flush=True)
    print(f"| reading {len(answer.words)} words | a forward | {ratio(read, forward, args.rounds):.3f} |", flush=True)
    print(f"| its memory | | {peak.most / 1e6:.1f} MB |")
    how = ratio(lambda: vislab.explain(answer, target=len(answer.words) - 1), forward, args.rounds)
    print(f"| relevance of a word | a forward | {how:.2f} |")


if __name__ == "__main__":
    main()
