"""Sweep other people's model zoos: is every site of attention exact within 1e-5, or refused by name?

Each model is made tiny, with random weights, and runs twice on the same input: under an independent witness
(`witness.py`), which keeps in float64 all weights by which values were weighed, and under `vislab.capture`. Each event
of the witness is then looked for among the sites of the module that was running. Each model has a process of its own,
and a limit of processor time: a crash costs a row, and a busy machine changes none.

    python tests/bench/sweep.py [--zoo transformers timm …] [--only NAME …] [--out assets/models/SUPPORTED.md]
    python tests/bench/sweep.py --explain   # whether load and explain make a map, or refuse in one sentence
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "YOLO_OFFLINE": "1"}

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

ZOOS = ("transformers", "timm", "torchvision", "ultralytics", "vit_pytorch", "x_transformers", "open_clip")
TOLERANCE = 1e-5
SECONDS, MEMORY = 30, 12 << 30  # a model: processor time, address space
OTHER = ("channels", "none")  # what a softmax compares that is not attention over tokens
OTHERWISE = "not attention over tokens"
FAILURES = ("wrong", "missing", "in part", "untrue", "bare error", "changed")
Row = dict[str, Any]


# ---- one model ----


def swept(module: nn.Module, run: Callable[[nn.Module], Any]) -> Row:
    """What becomes of each event of attention in a forward: a row of the table."""
    import vislab

    events, account, output = roughened(module, run)
    row: Row = {"class": type(module).__name__, "events": len(events), "found": []}
    row["telling"] = sum(telling(e.weights) for e in events)
    row["over"] = dict(Counter(e.over for e in events))
    row["other softmaxes"] = len(account.unweighed)
    try:
        with vislab.capture(module) as cap:
            seen = once(module, run)
        sites = dict(cap.sites)
    except Exception as failure:
        return row | {"found": [[failed(failure, vislab), "", words(failure)]]}
    if not torch.allclose(first_tensor(seen), first_tensor(output), atol=1e-3, rtol=1e-3, equal_nan=True):
        row["found"].append(["changed", "", "the model's output is another one under capture"])
    row["found"] += judged(events, sites, cap, vislab)
    return row


def judged(events: list[Any], sites: dict[str, Any], cap: Any, vislab: Any) -> list[list[str]]:
    """[outcome, module, words] of each event, and of sites where there was none."""
    modules: dict[str, list[Any]] = {}
    for event in events:  # a module's own child may do its attending: then its parent's name serves as well
        paths = (*event.paths, *(p.rpartition(".")[0] for p in event.paths))
        at = next((p for p in paths if of_module(sites, p)), event.path)
        modules.setdefault(at, []).append(event)
    found = []
    for path, theirs in modules.items():
        found += judged_module(path, theirs, of_module(sites, path), cap, vislab)
    known = {name for path in modules for name in of_module(sites, path)}
    for name, site in sites.items():
        if name not in known and site.refused is None and site.keys > 1:
            found.append(["wrong", name, "a site where the witness saw no attention"])
    return found


def judged_module(path: str, events: list[Any], sites: dict[str, Any], cap: Any, vislab: Any) -> list[list[str]]:
    over = "" if (kinds := {e.over for e in events}) <= {"tokens"} else f" ({', '.join(sorted(kinds))})"
    if not sites:
        kind = OTHERWISE if kinds <= {*OTHER} else "missing"
        return [[kind, path, f"{len(events)} × {tuple(events[0].weights.shape)}, no site{over}"]]
    served: dict[str, Tensor] = {}
    refused = {name: site.refused for name, site in sites.items() if site.refused is not None}
    for name in sites:
        try:
            if name not in refused:
                served[name] = cap.attention(name, slice(None))
        except vislab.AttentionRefused as failure:
            refused[name] = str(failure)
        except Exception as failure:
            return [["bare error", path, words(failure)]]
    left, results = dict(served), []
    for event in sorted(events, key=lambda e: e.over in OTHER):
        limit = max(TOLERANCE, event.rounding)  # where logits are large, single precision says no more
        best = min(((apart(event.weights, maps), name) for name, maps in left.items()), default=(None, ""))
        if best[0] is not None and best[0] < limit and event.over == "channels":
            del left[best[1]]
            results.append(["wrong", best[1], "channel attention, served as attention over tokens"])
        elif best[0] is not None and best[0] < limit:
            del left[best[1]]
            results.append(["exact", best[1], f"{best[0]:.1e}{over}"])
        elif event.over in OTHER and not refused:
            results.append([OTHERWISE, path, f"{tuple(event.weights.shape)}{over}"])
        elif refused:
            name, reason = next(iter(refused.items()))
            untrue = "no attention was seen" in reason and event.over not in OTHER
            results.append(["untrue" if untrue else "refused", name, reason + over])
        elif left:
            shapes = f"{tuple(event.weights.shape)} against {[tuple(m.shape) for m in left.values()]}"
            results.append(["wrong", path, f"off by {best[0]:.1e}, {shapes}{over}"])
        else:
            results.append(["in part", path, f"{len(events)} events, {len(sites)} sites{over}"])
    for name in left if all(r[0] in ("exact", OTHERWISE) for r in results) else ():
        if left[name].shape[-1] == 1:  # of one key, which the witness leaves out
            continue
        results.append(["wrong", name, "served, and the witness saw no such attention"])
    return results


def of_module(sites: dict[str, Any], path: str) -> dict[str, Any]:
    """The sites of a module: its path, or its path with the number of the call."""
    return {n: s for n, s in sites.items() if n == path or re.fullmatch(re.escape(path) + r"\[\d+\]", n)}


def apart(weights: Tensor, maps: Tensor) -> float:
    """The largest difference between weights (…, queries, keys) and what a site serves, in whichever layout.

    Batch, heads and windows may stand in any order, and windows may be put back on a map, with zeros outside.
    """
    other = maps.double()
    if weights.shape[-1] == maps.shape[-1] and weights.numel() == maps.numel():
        one = weights.reshape(maps.shape)
        if (near := _largest(one, other)) < TOLERANCE:
            return near
        if weights.shape[-2] == maps.shape[-2]:
            return _matched(one.flatten(0, -3).flatten(1), other.flatten(0, -3).flatten(1))
        return _matched(one.flatten(0, -2), other.flatten(0, -2))
    if weights[..., 0].numel() == maps[..., 0].numel() and maps.shape[-1] > weights.shape[-1]:
        rows = other.flatten(0, -2).sort(-1, descending=True)[0]
        if float(rows[:, weights.shape[-1] :].abs().max()) == 0:
            return _matched(weights.flatten(0, -2).sort(-1, descending=True)[0], rows[:, : weights.shape[-1]])
    return 1.0


def _matched(one: Tensor, other: Tensor) -> float:
    """The largest difference of any row to the nearest of the others, no two to the same one."""
    nearest = torch.cdist(one, other, p=float("inf")).min(1)
    different = nearest.values.max()
    twice = len(nearest.indices.unique()) < len(torch.unique(one.round(decimals=6), dim=0))
    return 1.0 if twice else float(different)


def _largest(one: Tensor, other: Tensor) -> float:
    if bool((one.isnan() != other.isnan()).any()):
        return 1.0
    return float((one - other).nan_to_num().abs().max())


def once(module: nn.Module, run: Callable[[nn.Module], Any]) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        return run(module)


def roughened(module: nn.Module, run: Callable[[nn.Module], Any]) -> tuple[list[Any], Any, Any]:
    """What the witness saw, with weights of a size at which attention is neither uniform nor of one key alone."""
    from witness import witness

    own = {name: p.detach().clone() for name, p in module.named_parameters()}
    tried: list[tuple[float, float | None]] = []
    for gain in (1.5, None, 1.0, 0.7, "best"):
        if gain == "best":
            gain = max(tried, key=lambda t: t[0])[1]
        scatter(module, own, gain)
        with witness(module) as account:
            output = once(module, run)
        events = [e for e in account.events if e.weights.shape[-1] > 1]
        tried.append((sum(telling(e.weights) for e in events) / max(1, len(events)) + finite(output), gain))
        if tried[-1][0] >= 1.9 or len(tried) == 5 or not events:
            break
    return events, account, output


def telling(weights: Tensor) -> bool:
    """Whether attention is such that a mistake in it would show."""
    most = weights.amax(-1)[(weights > 0).sum(-1) > 1]
    seen = (weights > 0).sum(-1)[(weights > 0).sum(-1) > 1]
    return bool(most.numel()) and bool((most * seen).median() > 1.2) and bool(most.median() < 0.999)


def scatter(module: nn.Module, own: dict[str, Tensor], gain: float | None) -> None:
    """Random weights of some gain, the same each time; of None its own."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(own[name])
            if gain is None or not parameter.is_floating_point() or not parameter.is_contiguous():
                continue
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                fan = parameter[0].numel() if parameter.shape[0] > 1 else 16
                parameter.copy_(torch.randn_like(parameter) * gain * fan**-0.5)


def tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, dict):
        for value in given.values():
            yield from tensors(value)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from tensors(value)


def first_tensor(given: Any) -> Tensor:
    return next(tensors(given), torch.zeros(())).detach().double()


def finite(given: Any) -> bool:
    return bool(first_tensor(given).isfinite().any())


def failed(failure: Exception, vislab: Any) -> str:
    """Whether an exception is vislab's own word, or a bare one."""
    frames = traceback.extract_tb(failure.__traceback__)
    own = (
        frames
        and f"{os.sep}vislab{os.sep}" in frames[-1].filename
        and isinstance(
            failure,
            vislab.AttentionRefused | ValueError | TypeError | OSError | KeyError | MemoryError | NotImplementedError,
        )
    )
    return "refused" if own else "bare error"


def words(failure: BaseException) -> str:
    frames = traceback.extract_tb(failure.__traceback__)
    where = (
        f" [{Path(frames[-1].filename).parent.name}/{Path(frames[-1].filename).name}:{frames[-1].lineno}]"
        if frames
        else ""
    )
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}{where}"


# ---- the zoos ----


def listed(zoo: str) -> list[str]:
    import zoo_others
    import zoo_transformers

    return zoo_transformers.families() if zoo == "transformers" else zoo_others.listed(zoo)


def measured(zoo: str, name: str) -> Row:
    import zoo_others
    import zoo_transformers

    if zoo == "transformers":
        model, inputs = zoo_transformers.built(name)
        row = swept(model, lambda m: m(**inputs))
        return row | {"inputs": [*inputs]}
    model, run = zoo_others.built(zoo, name)
    return swept(model, run)


def explained(zoo: str, name: str) -> Row:
    """Whether vislab.load and vislab.explain make a map of a picture, for each class of a family that sees one."""
    import zoo_others
    import zoo_transformers

    found, classes = [], zoo_transformers.vision(name) if zoo == "transformers" else [(name, None)]
    for kind, make in classes:
        try:
            module = zoo_others.module(zoo, name) if make is None else make()
        except Exception as failure:
            found.append(["not built", kind, words(failure)])
            continue
        became, why = mapped(module)
        if became == "refused" and not runs(module):
            became, why = ALONE, why
        found.append([became, kind, why])
    if not found or {outcome for outcome, *_ in found} <= {"not built", ALONE}:
        raise LookupError(found[0][2] if found else "no class of it takes pictures alone")
    return {"class": "", "events": 0, "found": found}


def mapped(module: nn.Module) -> tuple[str, str]:
    """(map, refused or bare error; by which method, or in which words): the first method that makes one counts."""
    import numpy as np

    import vislab

    image = np.random.default_rng(0).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    try:
        model = vislab.load(module)
    except Exception as failure:
        return failed(failure, vislab), words(failure)
    first: tuple[str, str] | None = None
    for method, target in WAYS:
        try:
            heat = vislab.explain(image, model=model, method=method, target=target)
        except Exception as failure:
            became = failed(failure, vislab)
            if became != "refused":
                return became, f"{method}: {words(failure)}"
            first = first or (became, words(failure))
            continue
        return "map", f"{heat.method} {heat.values.shape}"
    assert first is not None
    return first


def runs(module: nn.Module) -> bool:
    """Whether its own forward takes one picture, of any of some sides and 3 channels, without vislab."""
    module.eval()
    for side in SIDES:
        picture = torch.zeros(1, 3, side, side)
        for given, named in (((), {"pixel_values": picture}), ((picture,), {})):
            with contextlib.suppress(Exception), torch.no_grad():
                module(*given, **named)
                return True
    return False


def size_of(output: Any) -> torch.Tensor:
    """A number of what a model without classes returns: the mean square of its first numbers."""
    return next(numbers(output)).square().mean()


def numbers(output: Any) -> Iterator[torch.Tensor]:
    """The tensors of numbers in a model's output, in its order."""
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict | tuple | list):
        for part in output.values() if isinstance(output, dict) else output:
            yield from numbers(part)


ALONE = "does not run alone"  # on a picture: a part of another model, or too tiny for its own forward
SIDES = (32, 48, 64, 96, 112, 128, 192, 224, 256, 384)  # pixels

# What one would try in turn, as the refusals say.
WAYS: tuple[tuple[str, Any], ...] = (
    ("rollout", None),
    ("cls", None),
    ("grad_cam", None),
    ("occlusion", None),
    ("integrated_gradients", size_of),
    ("occlusion", size_of),
)


# ---- many models ----


def child(mode: str, zoo: str, name: str, pipe: Any) -> None:
    warnings.filterwarnings("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    row: Row = {"zoo": zoo, "name": name}
    start = time.perf_counter()
    try:
        row |= (explained if mode == "explain" else measured)(zoo, name)
    except BaseException as failure:
        row |= {"error": words(failure), "events": 0, "found": []}
    pipe.send(json.dumps(row | {"seconds": round(time.perf_counter() - start, 2)}))
    pipe.close()
    os._exit(0)


def sweep(mode: str, models: list[tuple[str, str]], workers: int) -> Iterator[Row]:
    """A row a model, each from a process of its own."""
    context, waiting, running = multiprocessing.get_context("fork"), models[::-1], {}
    while waiting or running:
        while waiting and len(running) < workers:
            zoo, name = waiting.pop()
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=child, args=(mode, zoo, name, theirs))
            process.start()
            theirs.close()
            running[mine] = (zoo, name, process, time.monotonic())
        for pipe in multiprocessing.connection.wait([*running], timeout=0.5) or [*running]:
            zoo, name, process, start = running[pipe]
            row = None
            if pipe.poll():
                try:
                    row = json.loads(pipe.recv())
                except EOFError:
                    process.join(5)
                    late = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
                    error = f"more than {SECONDS} s" if late else f"crashed ({process.exitcode})"
                    row = {"zoo": zoo, "name": name, "error": error, "events": 0, "found": []}
            elif time.monotonic() - start > SECONDS * 20:
                row = {"zoo": zoo, "name": name, "error": "hangs", "events": 0, "found": []}
            if row is not None:
                process.kill()
                process.join()
                pipe.close()
                del running[pipe]
                yield row


def outcome(row: Row) -> str:
    if "error" in row:
        return "not built"
    kinds = {kind for kind, *_ in row["found"]}
    if kinds & {*FAILURES}:
        return "failure"
    if "map" in kinds:
        return "map"
    if not kinds - {OTHERWISE}:
        return "no attention"
    if kinds <= {"exact", OTHERWISE}:
        return "exact"
    return "exact and refused" if "exact" in kinds else "refused"


def told(row: Row) -> str:
    counts = Counter(kind for kind, *_ in row["found"])
    return f"{row['zoo']:13} {row['name']:40} {outcome(row):18} " + (
        row.get("error", "") or ", ".join(f"{n} {k}" for k, n in counts.items())
    )


LIBRARIES = (
    "vislab",
    "torch",
    "transformers",
    "timm",
    "torchvision",
    "ultralytics",
    "vit-pytorch",
    "x-transformers",
    "open_clip_torch",
)


def table(rows: list[Row]) -> str:
    """The public table: a row a family."""
    import importlib.metadata

    def version(name: str) -> str:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            return f"{name} not installed"

    lines = [
        "# What vislab reads exactly",
        "",
        "Other people's models, made tiny with random weights, each run twice on the same input: under an independent "
        "witness that keeps all weights by which values are weighed, and under `vislab.capture`. *Exact* means within "
        f"{TOLERANCE:.0e} of the witness; what is not exact is refused by name, with the reason given here.",
        "",
        f"Made with {', '.join(map(version, LIBRARIES))}, by",
        "",
        "    python tests/bench/sweep.py --out assets/models/SUPPORTED.md",
    ]
    for zoo in dict.fromkeys(row["zoo"] for row in rows):
        ours = [row for row in rows if row["zoo"] == zoo and "error" not in row]
        counts = Counter(outcome(row) for row in ours)
        told = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
        lines += ["", f"## {zoo}", "", f"{len(ours)} families ran: {told}.", ""]
        lines += ["| family | sites exact | refused | reason |", "|---|---|---|---|"]
        lines += [_line(row) for row in ours if outcome(row) != "no attention"]
        without = [row["name"] for row in ours if outcome(row) == "no attention"]
        lines += ["", f"Without attention over tokens: {', '.join(without)}."] if without else []
        other = [row["name"] for row in rows if row["zoo"] == zoo and "error" in row]
        lines += (
            ["", f"Not tried, since no tiny model of them could be made here: {', '.join(other)}."] if other else []
        )
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    counts = Counter(kind for kind, *_ in row["found"])
    bad = sum(counts[kind] for kind in FAILURES)
    reasons = dict.fromkeys(text for kind, _, text in row["found"] if kind in ("refused", *FAILURES))
    why = "; ".join(re.sub(r"\|", "/", reason) for reason in [*reasons][:2])
    return f"| {row['name']} | {counts['exact']} | {counts['refused']}{f' and {bad} failed' if bad else ''} | {why} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", nargs="+", choices=ZOOS, default=[*ZOOS])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models whose name has this in it")
    parser.add_argument("--explain", action="store_true", help="try load and explain instead")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=Path, help="write the rows as JSON lines")
    parser.add_argument("--out", type=Path, help="write the public table")
    parser.add_argument("--verbose", action="store_true", help="print each site")
    asked = parser.parse_args()
    models = [(zoo, name) for zoo in asked.zoo for name in listed(zoo)]
    if asked.only:
        models = [
            (zoo, name)
            for zoo, name in models
            if any(o == name or o in name.split("/") or (o.rstrip("*") in name and o.endswith("*")) for o in asked.only)
        ]
    rows = []
    sink = open(asked.rows, "w") if asked.rows else None  # noqa: SIM115
    torch.set_num_threads(1)
    for library in ("transformers", "timm", "torchvision", "vislab"):
        __import__(library)
    for row in sweep("explain" if asked.explain else "capture", models, asked.workers):
        rows.append(row)
        print(told(row), flush=True)
        if asked.verbose:
            print(*(f"    {kind}: {path}: {text}" for kind, path, text in row["found"]), sep="\n")
        if sink is not None:
            print(json.dumps(row), file=sink, flush=True)
    print(Counter(outcome(row) for row in rows))
    print(Counter(kind for row in rows for kind, *_ in row["found"]))
    rows.sort(key=lambda row: models.index((row["zoo"], row["name"])))
    if asked.out is not None:
        asked.out.write_text(table(rows))


if __name__ == "__main__":
    main()
