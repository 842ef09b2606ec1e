"""Laws of ultralytics' detectors: boxes are those of its own predictor, attention is that of the network that ran."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import detecting
import numpy as np
import pytest
import torch
from tiny import fingerprint
from ultralytics import YOLO
from ultralytics.nn.modules.block import AAttn, Attention
from ultralytics.nn.tasks import DetectionModel, YOLOEModel

import vislab
from vislab.core.heatmap import Heatmap
from vislab.detectors import yolo
from vislab.detectors.glance import Glance
from vislab.engine.hooks import capture
from vislab.engine.site import AttentionRefused

NETWORKS = ["yolo12n", "yolo11n", "yolo26n", "yoloe-11n", "yoloe-11n-seg", "yolov10n", "yolov8n"]
BOXED = [*NETWORKS, "rtdetr"]  # boxes are those of predict
ATTENDING = [*(f"yolo12{scale}" for scale in "nsmlx"), "yolo11n", "yolo26n", "yoloe-11n"]  # attention is exact
SHAPES = [(72, 120), (150, 90), (97, 33), (128, 128), (61, 300)]
ROOT = Path(__file__).parents[2]


def photo(height: int, width: int) -> np.ndarray:
    return cv2.resize(detecting.PHOTO, (width, height))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> YOLO:
    network = detecting.yolo(request.param)
    network.predict(photo(*SHAPES[0]), imgsz=160, verbose=False)  # sets torch's number of threads: rounding changes
    return network


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_those_of_predict(network: YOLO, shape: tuple[int, int]) -> None:
    detector = vislab.load_detector(network)
    glance = detector.glance(photo(*shape), image_size=160)
    for confidence, iou in ((0.25, 0.7), (0.4, 0.3)):
        [own] = network.predict(photo(*shape)[..., ::-1], imgsz=160, conf=confidence, iou=iou, verbose=False)
        boxes = glance.detections(confidence, iou)
        assert glance.frame.model == network.predictor.preprocess([photo(*shape)]).shape[2:]
        assert len(boxes) == len(own.boxes) > 1
        assert np.array_equal(boxes.scores, own.boxes.conf.numpy())
        assert boxes.labels == tuple(own.names[int(c)] for c in own.boxes.cls)
        corners = own.boxes.xyxy.numpy().reshape(-1, 2, 2)  # YOLO26's random weights turn some boxes inside out
        assert np.array_equal(boxes.xyxy, np.concatenate([corners.min(1), corners.max(1)], 1))


@pytest.mark.slow
def test_boxes_of_rtdetr_are_those_of_predict() -> None:
    network = detecting.rtdetr()
    glance = vislab.load_detector(network).glance(detecting.PHOTO, image_size=160)
    [own] = network.predict(detecting.PHOTO[..., ::-1], imgsz=160, conf=0.1, verbose=False)
    boxes = glance.detections(0.1)
    assert len(boxes) == len(own.boxes) > 1
    assert np.array_equal(boxes.scores, own.boxes.conf.numpy())
    assert np.array_equal(boxes.xyxy, own.boxes.xyxy.numpy())
    decoded = glance._output[1][0][-1, 0] if glance._output[1][0].ndim == 4 else glance._output[1][0][0]
    size = torch.tensor([120, 72, 120, 72])
    centre, sides = (decoded[boxes.origin.tolist()] * size).split(2, 1)
    assert boxes.xyxy == pytest.approx(torch.cat([centre - sides / 2, centre + sides / 2], 1).numpy(), abs=1e-4)


def test_cells_are_those_that_made_the_boxes(network: YOLO) -> None:
    check_cells(vislab.load_detector(network).glance(photo(97, 140), image_size=160), end2end=False)


@pytest.mark.parametrize("name", ["yolo26n", "yolov10n"])
def test_cells_are_found_without_nms_too(name: str) -> None:
    """Of a network fused for its head without NMS, as exports have it."""
    module = detecting.yolo(name).model
    module.end2end = True
    glance = vislab.load_detector(module.fuse(verbose=False)).glance(photo(97, 140), image_size=160)
    check_cells(glance, end2end=True)


def check_cells(glance: Glance, *, end2end: bool) -> None:
    """Held against the raw output: the cell's score of the box's class is the box's own."""
    boxes = glance.detections(0.3)
    head = glance.detector.module.model[-1]
    assert bool(head.end2end) == end2end
    with torch.no_grad():
        raw = head(list(glance.features))[1]
    scores = raw.get("one2one" if end2end else "one2many", raw)["scores"][0].sigmoid()
    assert len(boxes) > 1
    for i in range(len(boxes)):
        label = glance.detector.labels.index(boxes.labels[i])
        assert scores[label, boxes.origin[i]].item() == pytest.approx(float(boxes.scores[i]), abs=1e-6)
        level, row, col = boxes.cell(i)
        assert glance.features[level].shape[2:] == (boxes.levels[level].rows, boxes.levels[level].cols)
        before = sum(x.shape[2] * x.shape[3] for x in glance.features[:level])
        assert boxes.origin[i] == before + row * glance.features[level].shape[3] + col


def test_a_higher_confidence_needs_no_forward(network: YOLO) -> None:
    glance = vislab.load_detector(network).glance(detecting.PHOTO, image_size=160)
    for confidence in (0.3, 0.4, 0.6):
        above, anew = glance.detections(0.2).above(confidence), glance.detections(confidence)
        assert np.array_equal(above.xyxy, anew.xyxy)
        assert np.array_equal(above.origin, anew.origin)
        assert above.labels == anew.labels


@pytest.mark.parametrize("name", ["yolo12n", "yolo11n"])
def test_predict_stays_what_it_is_under_capture(name: str) -> None:
    network = detecting.yolo(name)

    def boxes() -> np.ndarray:
        [own] = network.predict(detecting.PHOTO, imgsz=160, conf=0.2, verbose=False)
        return own.boxes.data.numpy()

    free = boxes()
    runs = network.predictor.model.backend.model  # a fused copy, not network.model
    before = fingerprint(runs)
    with capture(runs) as cap:
        assert np.array_equal(boxes(), free)
    assert fingerprint(runs) == before
    assert len(free) > 1
    assert len(cap.layers) == (8 if name == "yolo12n" else 1)
    ours = vislab.load_detector(network).glance(detecting.PHOTO[..., ::-1], image_size=160).capture
    for site in cap.layers:
        assert torch.equal(cap.attention(site, [0, 3]), ours.attention(site.name, [0, 3]))


def test_a_given_network_is_left_as_it_is() -> None:
    network = detecting.yolo("yolo11n")
    network.model.train()
    before = fingerprint(network.model)
    vislab.detect(detecting.PHOTO, detector=network, image_size=160, attention_scale=0.5)
    assert fingerprint(network.model) == before


# ---- attention ----


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENDING)
def test_recomputed_attention_gives_each_modules_output(name: str) -> None:
    """The values weighed with it, position encoding and projection done by hand, at a non-square input."""
    torch.manual_seed(0)
    network = (YOLOEModel if name.startswith("yoloe") else DetectionModel)(f"{name}.yaml", nc=3, verbose=False)
    detecting.settle(network)
    modules = {n: part for n, part in network.named_modules() if isinstance(part, AAttn | Attention)}
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for site, module in modules.items():
        module.register_forward_hook(lambda _, given, made, site=site: seen.__setitem__(site, (given[0], made)))
    with torch.no_grad(), capture(network) as cap:
        network(torch.rand(2, 3, 96, 160))
    assert list(cap.sites) == list(seen) == list(modules)
    for site, module in modules.items():
        given, made = seen[site]
        batch, _, height, width = given.shape
        attention = cap.attention(site, slice(None))
        assert attention.shape == (batch, module.num_heads, height * width, height * width)
        with torch.no_grad():
            values = module.qkv(given).reshape(batch, module.num_heads, -1, height * width)[:, :, -module.head_dim :]
            mixed, even = values @ attention.mT, values.mean(3, keepdim=True).expand_as(values)
            again, uniform = (
                module.proj(x.reshape(batch, -1, height, width) + module.pe(values.reshape(batch, -1, height, width)))
                for x in (mixed, even)
            )
        assert (again - made).abs().max() <= 1e-5 * made.abs().max()
        assert (uniform - made).norm() > 100 * (again - made).norm()


def test_areas_are_put_back_on_the_map() -> None:
    network = detecting.yolo("yolo12n")
    glance = vislab.load_detector(network).glance(photo(72, 120), image_size=160)
    assert glance.frame.model == (96, 160)
    for site in glance.capture.layers:
        areas = glance.detector.module.get_submodule(site.name).area
        assert site.windows == areas
        rows = glance.capture.attention(site, slice(None))[0]
        assert rows.sum(-1) == pytest.approx(torch.ones(rows.shape[:2]), abs=1e-5)
        area = torch.arange(site.keys) * areas // site.keys
        apart = area[:, None] != area
        assert (rows[:, apart] == 0).all()
        assert (rows[:, ~apart] > 0).all()
        some = [site.keys - 1, 0, 7, 7, -2]
        assert glance.capture.attention(site, some)[0] == pytest.approx(rows[:, some], abs=1e-6)
        assert site.q.shape == site.k.shape == (1, site.heads, site.keys, site.q.shape[3])
    assert {site.windows for site in glance.capture.layers} == {1, 4}


@pytest.mark.parametrize("name", ["yolo12n", "yolo11n"])
@pytest.mark.parametrize("scale", [0.5, 1.2])
def test_attention_scale_is_scaled_queries(name: str, scale: float) -> None:
    network = detecting.yolo(name)
    plain, detector = vislab.load_detector(network), vislab.load_detector(network)
    with torch.no_grad():
        for part in detector.module.modules():
            if isinstance(part, AAttn | Attention):
                of_head = torch.arange(part.qkv.conv.out_channels) % (part.qkv.conv.out_channels // part.num_heads)
                queries = of_head < (part.head_dim if isinstance(part, AAttn) else part.key_dim)
                part.qkv.conv.weight[queries] *= scale
                part.qkv.conv.bias[queries] *= scale
    scaled = plain.glance(detecting.PHOTO, image_size=160, attention_scale=scale)
    expected = detector.glance(detecting.PHOTO, image_size=160)
    for site in expected.capture.layers:
        assert scaled.capture.attention(site.name, 3) == pytest.approx(expected.capture.attention(site, 3), abs=1e-5)
    for found, wanted in zip(scaled.features, expected.features, strict=True):
        assert found == pytest.approx(wanted, abs=1e-3)
    free = plain.glance(detecting.PHOTO, image_size=160)
    assert any((a - b).abs().max() > 0.1 for a, b in zip(scaled.features, free.features, strict=True))


def test_one_sites_scale_leaves_those_before_it() -> None:
    detector = vislab.load_detector(detecting.yolo("yolo12n"))
    free, scaled = (detector.glance(detecting.PHOTO, image_size=160, attention_scale=s) for s in (1.0, {5: 0.3}))
    same = [
        torch.equal(free.capture.attention(site, 0), scaled.capture.attention(site, 0)) for site in free.capture.sites
    ]
    assert same == [True] * 5 + [False] * 3


def test_without_attention_there_is_nothing_to_scale() -> None:
    with pytest.raises(ValueError, match="has no attention to scale"):
        vislab.detect(detecting.PHOTO, detector=detecting.yolo("yolov8n"), image_size=160, attention_scale=0.5)


def test_rtdetr_scales_its_encoder_and_refuses_the_rest() -> None:
    detector = vislab.load_detector(detecting.rtdetr())
    free, scaled = (detector.glance(detecting.PHOTO, image_size=160, attention_scale=s) for s in (1.0, 0.3))
    assert not torch.equal(free.capture.attention("model.11.ma", 0), scaled.capture.attention("model.11.ma", 0))
    with pytest.raises(AttentionRefused, match="cross_attn"):
        free.capture.attention("model.28.decoder.layers.0.cross_attn", 0)


# ---- places ----


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", range(3))
def test_a_lit_cell_lies_on_its_source_pixels(shape: tuple[int, int], level: int) -> None:
    """A patch of light in the photo, found by its brightest cell in the network's input, comes back where it was."""
    detector = vislab.load_detector("embedded")
    for x, y in ((shape[1] * 0.5, shape[0] * 0.5), (shape[1] * 0.9, shape[0] * 0.15), (2, shape[0] - 2)):
        image = np.zeros((*shape, 3), np.uint8)
        cv2.circle(image, (int(x), int(y)), max(2, min(shape) // 12), (255, 255, 255), -1)
        given, frame = detector.family.prepare(image, (640, 640))
        grid = detector.family.levels(frame)[level]
        padding = (given["x"] - 114 / 255).abs().amax((0, 1)) < 1e-6
        lit = given["x"][0].mean(0).masked_fill(padding, 0)
        cells = torch.nn.functional.avg_pool2d(lit[None], grid.patch[0])[0]
        assert cells.shape == (grid.rows, grid.cols)
        row, col = divmod(int(cells.argmax()), grid.cols)
        heat = Heatmap(cells.numpy(), grid, frame, "light")
        x0, y0, x1, y1 = heat.box(row, col)
        bright = image[max(0, int(y0)) : int(y1) + 1, max(0, int(x0)) : int(x1) + 1]
        assert bright.max() == 255
        at = heat.cell_at(x, y)
        assert at is not None
        assert heat.values[at] > 0.5 * heat.values.max()


# ---- loading ----


def test_the_embedded_detector_is_ready_without_a_network() -> None:
    detector = vislab.load_detector("embedded")
    assert detector.labels == vislab.load("embedded").labels
    card = json.loads((ROOT / "assets/models/yolo12n-imagenette/config.json").read_text(encoding="utf-8"))
    assert detector.family.size == (card["image_size"], card["image_size"])
    assert len(detector.glance(detecting.PHOTO).capture.layers) == 8


@pytest.mark.slow
def test_importing_ultralytics_leaves_no_trace(tmp_path: Path) -> None:
    """In a process with a home of its own: no file is written, nothing asked of the network, nothing changed."""
    script = """
import os, socket, sys
import cv2, numpy as np, PIL.Image, torch
import vislab
def refused(*given, **more): raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refused
def state():
    return [dict(os.environ), cv2.getNumThreads(), PIL.Image.open, torch.save, np.get_printoptions(),
            vars(torch._tensor_str.PRINT_OPTS)]
import transformers, vislab.api.explain
before = state()
boxes = vislab.detect(np.zeros((60, 90, 3), np.uint8))
assert boxes.detector == "embedded"
assert [a == b for a, b in zip(state(), before)] == [True] * 6, (state(), before)
assert not os.listdir(), os.listdir()
"""
    hidden = ("YOLO_", "XDG_", "HF_", "TRANSFORMERS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    for folder in ("home", "tmp", "here"):
        (tmp_path / folder).mkdir()
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "here", env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout + done.stderr == b""
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "ltralytics" in str(path)] == []


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = detecting.yolo("yolo11n")
    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    torch.save({"model": network.model, "train_args": {"imgsz": 96}}, path)
    return path


def test_a_strangers_file_needs_trust(file: Path) -> None:
    with pytest.raises(ValueError, match=r"is a pickle, which can run anything .* trust=True"):
        vislab.detect(detecting.PHOTO, detector=str(file))
    detector = vislab.load_detector(file, trust=True)
    assert detector.family.size == (96, 96)
    ours = vislab.load_detector(detecting.yolo("yolo11n")).glance(detecting.PHOTO, image_size=96)
    assert np.array_equal(detector.glance(detecting.PHOTO).detections().xyxy, ours.detections().xyxy)


def test_a_yoloe_that_leaves_cells_out_is_refused() -> None:
    network = detecting.yolo("yoloe-11n")
    network.model.model[-1].lrpc = torch.nn.ModuleList()
    with pytest.raises(ValueError, match="a prompt-free YOLOE leaves cells out"):
        vislab.load_detector(network)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_an_official_name_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Bomb()}, "yolo12n.pt")
    with pytest.raises(OSError, match=r"yolo12n\.pt cannot be read as weights"):
        vislab.load_detector("yolo12n.pt")
    assert not Path("exploded").exists()
    Path("yolo11n.pt").write_bytes(file.read_bytes())
    assert vislab.load_detector("yolo11n.pt").family.size == (96, 96)


def test_an_official_name_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    asked: list[str] = []

    def fetch(url: str, path: str, **settings: object) -> None:
        asked.append(url)
        Path(path).write_bytes(file.read_bytes())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(OSError, match=r"yolo12s\.pt is neither in this folder nor in .*\(YOLO_OFFLINE is set\)"):
        vislab.load_detector("yolo12s.pt")
    monkeypatch.delenv("YOLO_OFFLINE")
    for _ in range(2):
        assert vislab.load_detector("yolo12s.pt").family.size == (96, 96)
    assert asked == [f"{yolo.RELEASE}/yolo12s.pt"]
    assert list(tmp_path.iterdir()) == [tmp_path / "hub"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("elsewhere/yolo12n.pt", "there is no file"), ("mine.pt", "there is no file"), ("yolov8n-seg.pt", "neither in")],
)
def test_what_is_not_there_is_said(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=message):
        vislab.load_detector(name)


def test_only_networks_that_make_boxes_are_taken() -> None:
    with pytest.raises(ValueError, match=r"its head is Classify, .*vislab\.load"):
        vislab.load_detector(YOLO("yolo11n-cls.yaml"))
    other = copy.deepcopy(detecting.yolo("yolo11n").model)
    other.model[-1] = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"its head is Identity, .* that make boxes"):
        vislab.load_detector(other)
