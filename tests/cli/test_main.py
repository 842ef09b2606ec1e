"""Laws of the command: what it writes and where, its exit status, and one line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vislab
from vislab.cli import main
from vislab.models import known
from vislab.models import load as models_load
from vislab.models import model as models_model
from vislab.models.device import fastest

ROOT = Path(__file__).parents[2]
CHURCH = str(vislab.samples()["church"])
COMMAND = [sys.executable, "-c", "import sys; from vislab.cli.main import main; sys.exit(main())"]
LOADED: dict[str, vislab.Model] = {}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder, on the CPU; the embedded model is loaded once for all of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISLAB_DEBUG", raising=False)
    monkeypatch.setattr("vislab.models.load.fastest", lambda: "cpu")
    monkeypatch.setattr("vislab.models.device.fastest", lambda: "cpu")
    monkeypatch.setattr("vislab.cli.figure.workers_of", lambda args, _: args.workers or 0)  # none unless asked for
    named = models_load._named

    def load_once(name: str, processor: object) -> vislab.Model:
        if name not in known.EMBEDDED:
            return named(name, processor)
        if name not in LOADED:
            LOADED[name] = named(name, processor)
        return LOADED[name]

    monkeypatch.setattr("vislab.models.load._named", load_once)


@pytest.fixture
def photo(tmp_path: Path) -> str:
    """A small photo, wider than high."""
    with Image.open(CHURCH) as image:
        image.resize((96, 64)).save(tmp_path / "photo.jpg")
    return "photo.jpg"


def succeeds(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a call that does all it was asked to, and says nothing else."""
    status = main.main(arguments)
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def fails(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """The only line, on standard error, of a call that fails and leaves nothing behind."""
    before = sorted(os.listdir())
    assert main.main(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"vislab: .+\n", err), err
    assert sorted(os.listdir()) == before
    return err


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises many pixels and holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = struct.pack(">I", 1 << 20) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + pixels


# ---- what is done ----


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".pdf", ".svg", ".npz"])
def test_a_figure_is_written_and_its_path_printed(suffix: str, photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert succeeds(capsys, "figure", photo, "--out", f"figure{suffix}") == f"figure{suffix}\n"
    [made] = vislab.provenance(f"figure{suffix}")["maps"]
    assert made["method"] == "rollout"
    assert made["frame"]["source"] == [64, 96]
    assert sorted(os.listdir()) == sorted([f"figure{suffix}", photo])


def test_a_figure_is_named_by_its_photograph_and_method(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["figure", photo, "--method", "cls", "--plain"]
    stem = Path(photo).stem
    assert succeeds(capsys, *plain) == f"{stem}-cls.png\n"
    assert succeeds(capsys, *plain, "--grid", "--out", "{method}/{name}.png") == f"cls/{stem}.png\n"
    assert vislab.provenance(f"cls/{stem}.png")["display"]["grid"] is True


def test_arguments_reach_explain(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "--method attention --layer 3 --head max --patch 1,2 --attention-scale 0:0.5,-1:2 --patch-size 32"
    display = "--image-size 64x128 --opacity 0.7 --colormap magma --smooth"
    succeeds(capsys, "figure", photo, *asked.split(), *display.split(), "--out", "a.npz")
    heat = vislab.explain(
        photo,
        model=LOADED["embedded"],
        method="attention",
        layer=3,
        head="max",
        query=(60, 48),  # the middle of the third of four columns on 96 px, of the second of two rows on 64
        attention_scale={0: 0.5, 11: 2},
        patch_size=32,
        image_size=(64, 128),
    )
    assert heat.query == "patch (1, 2)"
    with np.load("a.npz") as written:
        np.testing.assert_array_equal(written["values"], heat.values)
    display_made = vislab.provenance("a.npz")["display"]
    assert (display_made["opacity"], display_made["colormap"], display_made["smooth"]) == (0.7, "magma", True)


def test_a_class_is_explained_by_name_or_index(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    maps = []
    for target in ("church", "4"):
        succeeds(capsys, "figure", photo, "--method", "relevance", "--target", target, "--out", "church.npz")
        [made] = vislab.provenance("church.npz")["maps"]
        assert (made["method"], made["target"]) == ("relevance", "church")
        maps.append(np.load("church.npz")["values"])
    assert np.array_equal(*maps)


def test_rollout_options_reach_rollout(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"start": 2, "residual": 0.25, "discard": 0.5}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    succeeds(capsys, "figure", photo, *words, "--out", "a.npz")
    [made] = vislab.provenance("a.npz")["maps"]
    assert {name: made["settings"][name] for name in options} == options


@pytest.mark.parametrize(("row", "col"), [(0, 0), (3, 5), (13, 13)])
def test_the_patch_asked_for_attends(row: int, col: int, photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    succeeds(capsys, "figure", photo, "--method", "attention", "--patch", f"{row},{col}", "--out", "a.npz")
    model = LOADED["embedded"]
    run = model.run(vislab.load_image(photo))
    expected = run.capture.attention(-1, run.grid.token(row, col))[0].mean(0)[run.grid.patch_tokens]
    with np.load("a.npz") as written:
        np.testing.assert_allclose(written["values"].ravel(), expected.cpu(), atol=1e-7)


def test_several_photos_go_into_a_folder_that_is_made(
    photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = models_load.load
    monkeypatch.setattr("vislab.models.load.load", lambda *args, **named: loads.append(args) or load(*args, **named))
    for name in ("b.jpg", "a.jpg"):
        (tmp_path / name).write_bytes(Path(photo).read_bytes())
    (tmp_path / "folder.jpg").mkdir()
    assert succeeds(capsys, "figure", "?.jpg", photo, "a.jpg", "--out", "new/") == "".join(
        f"{Path('new', name)}\n" for name in ("a.png", "b.png", "photo.png")
    )
    assert sorted(os.listdir("new")) == ["a.png", "b.png", "photo.png"]
    assert len(loads) == 1


def test_a_pattern_names_each_figure(photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "[odd] name.jpg").write_bytes(Path(photo).read_bytes())
    succeeds(capsys, "figure", photo, "[odd] name.jpg", "--out", "new/{name}-map.npz")
    assert sorted(os.listdir("new")) == ["[odd] name-map.npz", "photo-map.npz"]


def test_a_bad_photo_among_several_is_named_and_passed_over(
    photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jpg").write_bytes(Path(photo).read_bytes()[:600])
    (tmp_path / "z.jpg").write_bytes(Path(photo).read_bytes())
    assert main.main(["figure", "*.jpg", "missing.png", "--out", "new/"]) == 1
    out, err = capsys.readouterr()
    assert out.split() == [str(Path("new", "photo.png")), str(Path("new", "z.png"))]
    assert re.fullmatch(r"vislab: 'bad.jpg': truncated.*\nvislab: there is no file 'missing.png'.*\n", err)


def test_progress_shows_with_many_photos_only(
    photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vislab.cli.figure.MANY", 2)
    (tmp_path / "z.jpg").write_bytes(Path(photo).read_bytes())
    assert main.main(["figure", "*.jpg", "--out", "new/{name}.npz"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 2
    assert "0/2" in err
    monkeypatch.setattr("vislab.cli.figure.MANY", 3)
    succeeds(capsys, "figure", "*.jpg", "--out", "new/{name}.npz")


def test_tokens_are_told_before_anything_runs(
    photo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_model.Model, "run", lambda *_, **__: pytest.fail("a forward was made"))
    monkeypatch.setattr("vislab.models.device.free_memory", lambda _: 10**12)
    sizes = ["--patch-size", "16", "--image-size", "640"]
    told = succeeds(capsys, "tokens", photo, *sizes)
    assert "40 × 40 + 1 = 1,601" in told
    assert "too little" not in told
    facts = json.loads(succeeds(capsys, "tokens", photo, *sizes, "--json"))
    model = LOADED["embedded"]
    n, d, layers, heads = 1601, model.dim, model.layers, model.heads
    assert facts["rows"] * facts["cols"] + facts["prefix"] + facts["suffix"] == facts["tokens"] == n
    assert facts["attention_flops"] == layers * facts["attention_flops_layer"] == 4 * n * n * d * layers
    assert facts["maps"] == layers * facts["maps_layer"] == heads * n * n * 4 * layers
    assert facts["kept"] == 2 * n * d * 4 * layers
    assert facts["forecast"] == model.forecast(model.grid(640, 16))
    assert facts["photo"] == [64, 96]
    assert facts["visible"] == [0, 0, 96, 64]
    monkeypatch.setattr("vislab.models.device.free_memory", lambda _: 10**6)
    assert "1 MB free: too little" in succeeds(capsys, "tokens", photo, *sizes)


def test_tokens_takes_the_model_as_it_is(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(succeeds(capsys, "tokens", photo, "--json"))
    assert facts["tokens"] == LOADED["embedded"].grid().tokens
    assert tuple(facts["input"]) == LOADED["embedded"].preprocessing.size


def test_models_lists_what_is_embedded_and_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    listed = succeeds(capsys, "models")
    for name in [*known.EMBEDDED, known.READER, *known.KNOWN, *(LOADED["embedded"].labels or ())]:
        assert name in listed
    assert "by its name on the hub" in listed


def test_dtypes_are_those_that_load_takes() -> None:
    for name in known.DTYPES:
        assert models_load._dtype(name) == getattr(torch, name)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert succeeds(capsys, "--version") == f"vislab {vislab.__version__}\n"
    told = succeeds(capsys, "--help")
    for status in (0, 1, 2, main.INTERRUPTED, main.PIPE_CLOSED):
        assert re.search(rf"^  {status} +\w", told, re.MULTILINE)
    for command in ("figure", "detect", "tokens"):
        examples = re.findall(r"^  vislab (.+)$", succeeds(capsys, command, "--help"), re.MULTILINE)
        assert examples
        for example in examples:
            main._parser().parse_args(shlex.split(example))


# ---- what goes wrong ----


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "COMMAND"),
        ("figure --out a.png", "PHOTO"),
        ("figure photo.jpg other.jpg", "of several photos go.*--out a folder"),
        ("figure photo.jpg --out a.png --method rolout", "'rolout'.*; did you mean 'rollout'"),
        ("figre photo.jpg", "'figre'.*did you mean 'figure'"),
        ("figure photo.jpg --methd rollout", r"--methd rollout; did you mean '--method'\? \(vislab figure --help"),
        ("evaluate photo.jpg --stps=3", r"--stps=3; did you mean '--steps'\? \(vislab evaluate --help"),
        ("detect photo.jpg --zzz", r"unrecognized arguments: --zzz \(vislab detect --help"),
        ("figure photo.jpg --out a.png --colour red", "--colour"),
        ("figure photo.jpg --out a.png --opac 0.4", "--opac"),
        ("figure photo.jpg --out a.png --opacity 1.5", "from 0 to 1.*'1.5'"),
        ("figure photo.jpg --out a.png --opacity nan", "from 0 to 1.*'nan'"),
        ("figure photo.jpg --out a.png --residual 2", "from 0 to 1.*'2'"),
        ("figure photo.jpg --out a.png --method cls --start 2", "--start.*rollout"),
        ("figure photo.jpg --out a.png --method cls --patch 1,2", "--patch.*attention"),
        ("figure photo.jpg --out a.png --layer last", "mean.*'last'"),
        ("figure photo.jpg --out a.png --head median", "mean, max or min.*'median'"),
        ("figure photo.jpg --out a.png --patch 3", "ROW,COL.*'3'"),
        ("figure photo.jpg --out a.png --patch-size 0", "above 0.*'0'"),
        ("figure photo.jpg --out a.png --image-size 0", "takes pixels above 0"),
        ("figure photo.jpg --out a.png --width -20", "a number of mm above 0, not '-20'"),
        ("figure photo.jpg --method cls,rollout", "takes one method, .*in Python vislab.panel.* shows several"),
        ("figure photo.jpg --out a.png --image-size 3x4x5", "HEIGHTxWIDTH.*'3x4x5'"),
        ("figure photo.jpg --out a.png --attention-scale 0:a", "LAYER:S.*'0:a'"),
        ("figure photo.jpg --out a.png --attention-scale 0:1,0:2", "one scale a layer"),
        ("figure photo.jpg --out a.png --colormap virids", "'virids'.*'viridis'"),
        ("figure photo.jpg --out a.png --dtype int8", "'int8'.*float32"),
        ("figure photo.jpg --out figure.gif", "'figure.gif'.*.png.*.pdf"),
        ("figure photo.jpg --out figure", "'figure'.*.png"),
        ("figure photo.jpg --out photo.jpg", "overwrite the photo"),
        ("figure photo.jpg other.jpg --out a.png", "2 photos.*'a.png'.*{name}"),
        ("figure photo.jpg sub/photo.png --out new/", "'photo.jpg' and 'sub/photo.png'"),
        ("tokens photo.jpg --image-size big", "'big'"),
    ],
)
def test_a_wrong_command_line_is_status_2(
    arguments: str, said: str, photo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vislab.models.load.load", lambda *_, **__: pytest.fail("the model was loaded"))
    assert re.search(said, fails(capsys, 2, *arguments.split()))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("figure missing.jpg --out a.png", "no file 'missing.jpg'"),
        ("figure no*.jpg --out a.png", r"no file 'no\*.jpg'"),
        ("figure empty --out a/", "'empty' holds no pictures"),
        ("figure cut.jpg --out a.png", "'cut.jpg': truncated"),
        ("figure bomb.png --out a.png", "'bomb.png'.*pixels"),
        ("figure text.jpg --out a.png", "'text.jpg'.*picture"),
        ("tokens cut.jpg", "'cut.jpg': truncated"),
        ("figure photo.jpg --out no/a.png", "no folder 'no'"),
        ("figure photo.jpg --out a.png --csv no/a.csv", "no folder 'no'"),
        ("figure photo.jpg --out a.png --csv folder.csv", "'folder.csv' is a folder"),
        ("figure photo.jpg --out a.png --model embeded", "'embeded'.*'embedded'"),
        ("figure photo.jpg --out a.png --model facebook/dinov2-small", "network.*embedded"),
        (
            "tokens photo.jpg --model HuggingFaceTB/SmolVLM-256M-Instruct",
            r"--model embedded \(in place of a vision-language model, --model embedded-reader\)",
        ),
        ("tokens photo.jpg --model facebook/dinov2-small", "network.*embedded"),
        ("figure photo.jpg --out a.png --model weights.pt", "weights.pt.*[Pp]ickle"),
        ("figure photo.jpg --out a.png --model pickled", "pickled.*safetensors"),
        ("figure photo.jpg --out a.png --device abacus", "'abacus'"),
        ("figure photo.jpg --out a.png --layer 12", "no layer 12.* 11"),
        ("figure photo.jpg --out a.png --start 12", "start"),
        ("figure photo.jpg --out a.png --method cls --head 3", "no head 3.* 2"),
        ("figure photo.jpg --out a.png --head 1", "--head 1"),
        ("figure photo.jpg --out a.png --patch 14,0", r"no patch \(14, 0\).* 13"),
        ("figure photo.jpg --out a.png --attention-scale 0", "--attention-scale must be"),
        ("figure photo.jpg --out a.png --attention-scale 12:2", "12"),
        ("figure photo.jpg --out a.png --patch-size 448", "448.*larger than.*224"),
        ("figure photo.jpg --out a.png --patch-size 30", "30.*28"),
        ("tokens photo.jpg --patch-size 448", "448.*larger than.*224"),
        ("figure photo.jpg other.jpg third.jpg --out new/ --layer 12", "no layer 12"),
    ],
)
def test_a_failure_is_status_1(
    arguments: str, said: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(photo).read_bytes()
    for name in ("other.jpg", "third.jpg"):
        (tmp_path / name).write_bytes(whole)
    for name in ("empty", "folder.csv"):
        (tmp_path / name).mkdir()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000))
    for name in ("weights.pt", "pickled/pytorch_model.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"cos\nsystem\n(S'echo > opened'\ntR.")
    (tmp_path / "pickled" / "config.json").write_text("{}")
    assert re.search(said, fails(capsys, 1, *arguments.split()))


def test_memory_that_is_not_there_is_told_with_what_would_fit(
    photo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vislab.models.placed.free_memory", lambda _: 10**7)
    said = fails(capsys, 1, "figure", photo, "--image-size", "2048", "--out", "a.png")
    assert re.search(r"128 × 128 \+ 1 = .*GB.*--image-size of at most \d+ px", said)


def test_a_photo_too_narrow_for_a_page_is_that_photos_own_failure(
    photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (1, 4000)).save(tmp_path / "line.png")
    assert main.main(["figure", "line.png", photo, "--out", "new/"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{Path('new', 'photo.png')}\n"
    assert re.fullmatch(r"vislab: 'line.png': .+\n", err)


def test_an_unforeseen_error_names_itself_and_the_way_on(
    photo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AttributeError("no such\nthing")

    monkeypatch.setattr("vislab.models.config.outline_of", broken)
    said = fails(capsys, 1, "tokens", photo)
    assert "unexpected AttributeError: no such thing (--debug" in said


@pytest.mark.parametrize("command", ["tokens missing.jpg", "figure missing.jpg --out a.png"])
@pytest.mark.parametrize("way", ["flag", "environment"])
def test_debug_shows_the_traceback(
    way: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "environment":
        monkeypatch.setenv("VISLAB_DEBUG", "1")
    flag = ["--debug"] if way == "flag" else []
    assert main.main([*command.split(), *flag]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("vislab: there is no file 'missing.jpg'")


def test_an_interrupt_leaves_no_file(
    photo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def interrupted(path: Path, data: bytes) -> None:
        write(path, data[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert fails(capsys, 130, "figure", photo, "--out", "a.png") == "vislab: interrupted\n"


# ---- as a process ----


def process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*COMMAND, *arguments], env=environment, text=True, timeout=120, **options)  # type: ignore[call-overload]


@pytest.mark.slow
def test_results_and_messages_go_their_own_ways(photo: str) -> None:
    done = process("figure", photo, "missing.jpg", "--out", "{name}.svg", capture_output=True)
    assert (done.returncode, done.stdout) == (1, "photo.svg\n")
    assert re.fullmatch(r"vislab: there is no file 'missing.jpg'.*\n", done.stderr)


@pytest.mark.slow
def test_what_the_output_cannot_show_is_written_another_way(photo: str, tmp_path: Path) -> None:
    """A name that is no UTF-8, an arrow on a terminal that knows none: the files are made all the same."""
    try:
        os.rename(photo, os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "vislab", "figure", ".", "--out", "new/", "--csv", "table.csv"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, rb"new/caf\udce9.png" + b"\n")
    assert b"caf\xe9.jpg" in Path("table.csv").read_bytes()


@pytest.mark.slow
def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = process("models", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (main.PIPE_CLOSED, "")


def test_help_loads_no_framework() -> None:
    script = (
        "import sys; from vislab.cli.main import main; main(['figure', '--help']); print(*sys.modules, file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert loaded.isdisjoint({"torch", "transformers", "matplotlib", "cv2", "PIL", "tqdm"})


@pytest.mark.parametrize(
    "arguments", [["models"], ["tokens", CHURCH], ["tokens", CHURCH, "--dtype", "float16", "--json"]]
)
def test_what_runs_no_model_loads_no_framework(arguments: list[str]) -> None:
    """Nor does it take much memory; where there may be CUDA or MPS, torch is asked about it."""
    if fastest() != "cpu":
        pytest.skip("torch is asked about the accelerator of this machine")
    script = f"""
import pathlib, re, sys
from vislab.cli.main import main
assert main({arguments!r}) == 0
status = pathlib.Path("/proc/self/status")  # getrusage would tell the peak of the tests' own process, if larger
peak = re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1] if status.exists() else 0
print(peak, *sys.modules, file=sys.stderr)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    peak, *loaded = done.stderr.split()
    assert set(loaded).isdisjoint({"torch", "transformers", "matplotlib", "cv2", "safetensors", "huggingface_hub"})
    assert int(peak) <= 100_000


def test_the_project_installs_the_command() -> None:
    assert 'vislab = "vislab.cli.main:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_tokens_are_spent_as_asked(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    spent = ["--keep", "0.5", "--keep-at", "3,6", "--gather", "--heads-off", "0:1+2,5:0", "--merge", "2"]
    said = json.loads(succeeds(capsys, "tokens", photo, *spent[:5], "--json"))
    assert said["counts"] == [197] * 3 + [141] * 3 + [100] * 6
    assert "197 → 141 → 100, layer by layer" in succeeds(capsys, "tokens", photo, *spent[:5])
    succeeds(capsys, "figure", photo, "--method", "cls", *spent, "--beside", "json", "--out", "a.npz")
    heat = vislab.explain(
        photo, model=LOADED["embedded"], method="cls", keep=0.5, keep_at=(3, 6), gather=True, merge=2,
        heads_off={0: [1, 2], 5: [0]},
    )  # fmt: skip
    [made] = vislab.provenance("a.npz")["maps"]
    assert made["facts"]["counts"] == heat.facts["counts"]
    assert "heads_off={0: (1, 2), 5: (0,)}" in vislab.provenance("a.npz")["call"]
    with np.load("a.npz") as written:
        np.testing.assert_array_equal(written["values"], heat.values)
        assert not written["dropped"].any()
    again = vislab.reproduce("a.npz", image=photo, model=LOADED["embedded"])
    assert again.differences == ()


def test_a_fovea_is_drawn_where_it_lies(photo: str, capsys: pytest.CaptureFixture[str]) -> None:
    box = ["--fovea", "24,16,72,48", "--fovea-patches", "8,16,32"]
    tokens = json.loads(succeeds(capsys, "tokens", photo, *box, "--json"))["counts"]
    assert len(set(tokens)) == 1
    assert 50 < tokens[0] < 785
    succeeds(capsys, "figure", photo, "--method", "attention", "--patch", "14,14", *box, "--out", "a.png")
    [made] = vislab.provenance("a.png")["maps"]
    assert made["query"] == "patch (14, 14)"
    assert made["settings"]["fovea"] == [[24, 16, 72, 48]]
    assert (made["grid"]["rows"], made["facts"]["counts"][0]) == (28, tokens[0])


def test_a_fovea_is_drawn_where_a_detector_finds_something(capsys: pytest.CaptureFixture[str]) -> None:
    [best] = vislab.detect(CHURCH)[:1].xyxy.tolist()
    succeeds(capsys, "figure", CHURCH, "--method", "cls", "--fovea", "box", "--out", "a.png")
    [made] = vislab.provenance("a.png")["maps"]
    assert made["settings"]["fovea"] == [best]
    assert made["facts"]["fovea"].endswith("found by the detector embedded")
    tokens = json.loads(succeeds(capsys, "tokens", CHURCH, "--fovea", "box", "--json"))["counts"]
    assert tokens == made["facts"]["counts"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--keep-at", "last"), "takes whole numbers with commas between, not 'last'"),
        (("--fovea", "1,2,3"), "takes X0,Y0,X1,Y1"),
        (("--fovea", "a,b,c,d"), "takes X0,Y0,X1,Y1"),
        (("--fovea", "box", "--fovea", "0,0,40,40"), "--fovea box is the one box of the detector"),
        (("--heads-off", "3"), "takes LAYER:HEAD"),
        (("--heads-off", "3:0,3:1"), "each layer once"),
        (("--keep", "0"), "keep is the share of patches that go on"),
    ],
)
def test_tokens_that_cannot_be_spent_are_refused(
    option: tuple[str, ...], words: str, photo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["tokens", photo, *option]) in (1, 2)
    assert words in capsys.readouterr().err
