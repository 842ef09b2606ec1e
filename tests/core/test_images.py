"""Whatever holds a picture becomes the same RGB; whatever does not is refused in one sentence that says what to try."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from vislab.core.files import assets
from vislab.core.images import load_image, samples

SCENE = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG of no pixels but the header: who decodes it before checking its size finds it truncated."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = struct.pack(">I", 1 << 20) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + pixels


@pytest.fixture(autouse=True)
def _pillow_is_left_alone() -> Iterator[None]:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    yield
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


def test_every_source_gives_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.fromarray(SCENE))
    path = tmp_path / "scène 1.png"
    path.write_bytes(data)
    monkeypatch.setenv("HOME", str(tmp_path))
    sources = [path, str(path), data, bytearray(data), memoryview(data), SCENE, Image.fromarray(SCENE)]
    for source in [*sources, f"~/{path.name}"]:
        image = load_image(source)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, SCENE)


def test_result_is_a_writable_copy() -> None:
    for source in (SCENE, Image.fromarray(SCENE), SCENE[..., 0], SCENE.transpose(1, 0, 2)):
        image = load_image(source)
        assert image.flags.writeable
        assert image.flags.c_contiguous
        image[:] = 7
    np.testing.assert_array_equal(SCENE.ravel(), np.arange(SCENE.size))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 128, 255]], np.uint8), [0, 128, 255]),
        (np.array([[0, 128, 255]], np.int64), [0, 128, 255]),
        (np.array([[False, True, True]]), [0, 255, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float16), [0, 128, 255]),
        (np.array([[0.0, 0.25, 1 + 1e-6]], np.float32), [0, 64, 255]),
        (np.array([[0.0, 0.2, 1.0]]), [0, 51, 255]),
        (np.array([[0, 257, 65535]], np.uint16), [0, 1, 255]),
        (np.array([[128, 129, 65535]], ">u2"), [0, 1, 255]),
    ],
)
def test_grey_arrays_of_every_type(array: np.ndarray, expected: list[int]) -> None:
    for shaped in (array, array[..., None], np.stack([array] * 3, axis=-1)):
        np.testing.assert_array_equal(load_image(shaped), np.stack([[expected]] * 3, axis=-1))


def test_transparency_is_laid_on_white() -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 100, 51]]], np.uint8)
    expected = [[[200, 0, 0], [255, 255, 255], [244, 204, 224]]]
    assert load_image(rgba).tolist() == expected
    assert load_image(rgba / 255).tolist() == expected
    assert load_image(encode(Image.fromarray(rgba))).tolist() == expected
    grey = Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8))
    assert grey.mode == "LA"
    assert load_image(grey).tolist() == [[[0] * 3, [255] * 3]]


def test_palette_with_a_transparent_colour() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    plain, holed = encode(image), encode(image, transparency=1)
    assert load_image(plain).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    assert load_image(holed).tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str) -> None:
    grey = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    assert grey.mode == "I;16"
    assert load_image(encode(grey, kind))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_bilevel_and_float_files() -> None:
    assert load_image(encode(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]
    floats = Image.fromarray(np.array([[0.0, 0.2, 1.0]], np.float32))
    assert load_image(encode(floats, "TIFF"))[0, :, 0].tolist() == [0, 51, 255]
    with pytest.raises(ValueError, match=r"from 0 to 1, not 0 to 80"):
        load_image(Image.fromarray(np.array([[0, 80]], np.float32)))
    with pytest.raises(ValueError, match=r"^the \d+ bytes given: .* from 0 to 1, not 0 to 80"):
        load_image(encode(Image.fromarray(np.array([[0, 80]], np.float32)), "TIFF"))
    with pytest.raises(ValueError, match=r"from 0 to 65,535, not 0 to 70,000"):
        load_image(encode(Image.fromarray(np.array([[0, 70_000]], np.int32)), "TIFF"))


def test_integers_in_memory_are_what_the_same_array_is() -> None:
    for top in (255, 65535):
        image = Image.fromarray(np.array([[0, top // 5, top]], np.int32))
        assert image.mode == "I"
        assert load_image(image)[0, :, 0].tolist() == [0, 51, 255]


def test_cmyk() -> None:
    image = load_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    np.testing.assert_allclose(image.reshape(-1, 3), [[255, 0, 0]] * 64, atol=3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(BytesIO(data)).n_frames == 3
    assert load_image(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_photographs_are_upright(orientation: int, stored: Callable[[np.ndarray], np.ndarray]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored(SCENE)))
    np.testing.assert_array_equal(load_image(encode(image, exif=exif)), SCENE)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(load_image(image), SCENE)
    assert image.getexif()[0x0112] == orientation


def test_damaged_exif_and_profile_are_no_reason_to_refuse() -> None:
    data = encode(Image.fromarray(SCENE), exif=b"Exif\0\0no tiff", icc_profile=b"no profile")
    np.testing.assert_array_equal(load_image(data), SCENE)


def test_colour_profile_becomes_srgb() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(SCENE)
    # One is of other colours than the picture's, the other changes nothing: both leave every pixel as it is.
    for profile in (lab, srgb):
        np.testing.assert_array_equal(load_image(encode(image, icc_profile=profile)), SCENE)
    for mode in ("RGB", "RGBA"):
        grey = Image.new(mode, (2, 2), (128, 128, 128))
        mid = load_image(encode(grey, icc_profile=linear_profile()))[0, 0]
        # Half of the light is 188 in sRGB (IEC 61966-2-1).
        np.testing.assert_allclose(mid, 188, atol=1)


def linear_profile() -> bytes:
    """sRGB's own profile with its curves replaced by straight ones, and another name."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack_from(">I", data, 128)[0]):
        tag, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * i)
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + 14] = b"curv" + struct.pack(
                ">4xIH", 1, 0x100
            )  # an exponent: Chromium takes no empty curve
        elif tag == b"desc":
            data[offset : offset + size] = data[offset : offset + size].replace(
                "sRGB".encode("utf-16-be"), "line".encode("utf-16-be")
            )
    return bytes(data)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (20_000, 40)])
def test_smallest_and_widest(size: tuple[int, int]) -> None:
    assert load_image(encode(Image.new("RGB", size, "red"))).shape == (size[1], size[0], 3)


def test_size_is_checked_before_decoding() -> None:
    with pytest.raises(ValueError, match=r"20,000×5,001 pixels, and the limit is 100 million pixels: scale it down"):
        load_image(png_header(20_000, 5_001))
    # Here Pillow's own limit speaks first.
    with pytest.raises(ValueError, match=r"the limit is 100 million pixels"):
        load_image(png_header(60_000, 60_000))
    # Within the limit the missing pixels are what is wrong.
    with pytest.raises(ValueError, match=r"truncated or damaged"):
        load_image(png_header(20_000, 5_000))


def test_large_pictures_within_the_limit_load_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.new("L", (30, 30)))
    with monkeypatch.context() as patch, warnings.catch_warnings(action="error"):
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
        assert load_image(data).shape == (30, 30, 3)
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        with pytest.raises(ValueError, match="100 million"):
            load_image(png_header(60_000, 60_000))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_truncated_files(kind: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    path = tmp_path / "half"
    path.write_bytes(encode(noise, kind)[:-2000])
    with pytest.raises(ValueError, match=r"half': truncated or damaged .*: copy or download it again") as raised:
        load_image(path)
    assert type(raised.value) is ValueError  # and no class of its own, which nobody could name


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"plain text", "give a JPEG, PNG"),
        (b"\x89PNG\r\n\x1a\n\0\0", "copy or download it again"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "copy or download it again"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"II*\0", "truncated or damaged"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "of a kind that Pillow does not read"),
        (b"RIFF\0\0\0\0WE", "of a kind that Pillow does not read"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL, which is not read here: export"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a known format: give a JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "export a PNG"),
    ],
)
def test_other_files_are_refused(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        load_image(path)
    assert "x.jpg" in str(caught.value)
    with pytest.raises(ValueError, match=says):
        load_image(data)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NotImplementedError("Unimplemented DXGI format 3"), r"a kind that Pillow does not read here \(Unimplemented"),
        (OSError("decoder jpeg2k not available"), r"a kind that Pillow does not read here \(decoder jpeg2k"),
        (OSError("broken data stream"), r"truncated or damaged \(broken data"),
    ],
)
def test_only_what_is_damaged_is_called_so(error: Exception, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise error

    for name in ("PIL.Image.open", "PIL.ImageFile.ImageFile.load"):
        with monkeypatch.context() as patch:
            patch.setattr(name, fails)
            with pytest.raises(ValueError, match=says):
                load_image(encode(Image.fromarray(SCENE)))


def test_bands_of_pictures_are_those_they_are_shown_in() -> None:
    clear = np.dstack([SCENE, SCENE[..., :1]])
    for source in (SCENE, encode(Image.fromarray(SCENE)), Image.fromarray(SCENE), Image.fromarray(clear), clear):
        np.testing.assert_array_equal(load_image(source, bands=(3, 2, 1)), SCENE[..., ::-1])
        np.testing.assert_array_equal(load_image(source, bands=(2,)), load_image(SCENE[..., 1]))
    grey = Image.fromarray(SCENE[..., 0])
    np.testing.assert_array_equal(load_image(grey, stretch=(0, 255)), load_image(grey))
    with pytest.raises(ValueError, match=r"^the PIL image: there is no band 2: the picture has 1"):
        load_image(grey, bands=(2,))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_twelve_bits_of_grey_files(kind: str) -> None:
    values = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    data = encode(Image.fromarray(values), kind)
    with pytest.warns(UserWarning, match="bytes given comes out nearly black"):
        load_image(data)
    np.testing.assert_array_equal(load_image(data, stretch=(0, 4095)), load_image(values, stretch=(0, 4095)))


def test_paths_that_hold_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file 'no\.png' .*samples"):
        load_image("no.png")
    with pytest.raises(FileNotFoundError, match=r"'church' .* take a sample: vislab\.samples\(\)\['church'\]"):
        load_image("church")
    with pytest.raises(IsADirectoryError, match=r"is a folder: give one image file"):
        load_image(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_image("a\0b")
    with pytest.raises(FileNotFoundError, match="…") as caught:
        load_image("iVBORw0KGgo" * 100_000)
    assert len(str(caught.value)) < 600
    if Path("/dev/zero").exists():
        with pytest.raises(ValueError, match="device"):
            load_image("/dev/zero")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.png").write_bytes(b"")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"secret\.png' cannot be read \(Permission denied\): check"):
        load_image(tmp_path / "secret.png")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 8, 9)), r"\(3, 8, 9\): its channels come first, so transpose it"),
        (np.zeros((1, 8, 9)), "transpose"),
        (np.zeros((2, 8, 9, 3)), r"a batch: give one of it, image\[0\]"),
        (np.zeros((8, 9, 2)), r"not \(8, 9, 2\)"),
        (np.zeros(8), r"not \(8,\)"),
        (np.zeros((0, 9, 3)), r"not \(0, 9, 3\)"),
        (np.array([[-2.1, 2.6]]), r"from 0 to 1, not -2\.1 to 2\.6: undo its normalisation"),
        (np.array([[0.0, 254.0]]), r"not 0 to 254: divide it by 255"),
        (np.array([[0.0, 4095.0]]), r"not 0 to 4095: divide it by its full range"),
        (np.array([[0.0, np.inf]]), "not 0 to inf"),
        (np.array([[0.5, np.nan]]), "1 of 2 values are"),
        (np.array([[0, 4_000]]), r"from 0 to 255, not 0 to 4,000: .*uint16"),
        (np.array([[-1, 4]], np.int8), "not -1 to 4"),
        (np.array([[1j]]), "not complex128"),
        (np.array([["a"]]), "not <U1"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_image(array)


@pytest.mark.parametrize("source", [None, 3, [[0, 1]]])
def test_other_types_are_refused(source: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(source).__name__}: a tensor"):
        load_image(source)


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a server on this machine, whose pages are /scene.png, /page, /endless and /slow."""
    done = threading.Event()

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/sc%C3%A8ne%201.png", "/page", "/endless", "/slow"):
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            if self.path == "/page":
                self.wfile.write(b"<html>")
            elif self.path == "/slow":
                done.wait(10)
            elif self.path == "/endless":
                self.wfile.write(bytes(200_000))
            else:
                assert self.headers["User-Agent"] == "vislab"
                self.wfile.write(encode(Image.fromarray(SCENE)))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        done.set()
        server.shutdown()
        thread.join()


def test_addresses(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    np.testing.assert_array_equal(load_image(f"{site}/scène 1.png"), SCENE)
    with pytest.raises(ConnectionError, match=r"/none' answered 404 Not Found: check the address"):
        load_image(f"{site}/none")
    with pytest.raises(ValueError, match="the address of the picture itself"):
        load_image(f"{site}/page")
    monkeypatch.setattr("vislab.core.images.MAX_DOWNLOAD", 100_000)
    with pytest.raises(ValueError, match="larger than"):
        load_image(f"{site}/endless")
    monkeypatch.setattr("vislab.core.images.DOWNLOAD_SECONDS", 0.1)
    with pytest.raises(ConnectionError, match="timed out"):
        load_image(f"{site}/slow")


def test_addresses_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # The discard port: nothing listens there.
    for address in ("http://127.0.0.1:9/x.png", "http://", "http://[::1/x.png", "http://127.0.0.1:port/x.png"):
        with pytest.raises(ConnectionError, match=r"cannot be loaded .*: check the address"):
            load_image(address)
    with pytest.raises(ValueError, match=r"give an http or https address, or a path without file://"):
        load_image("file:///x.png")


def test_samples_are_sharp_small_and_described() -> None:
    photographs = samples()
    assert len(photographs) >= 6
    readme = (assets() / "images" / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in photographs.values()) <= 2_000_000
    for name, path in photographs.items():
        image = load_image(path)
        assert 400 <= max(image.shape) <= 1280
        assert path.stat().st_size <= 400_000
        assert image.std() > 20
        assert f"`{name}.jpg`" in readme


def test_assets_are_found_in_a_checkout_and_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "vislab"
    package.mkdir(parents=True)
    monkeypatch.setattr("vislab.core.files.__file__", str(package / "core" / "files.py"))
    with pytest.raises(FileNotFoundError, match="install vislab again"):
        assets()
    (tmp_path / "site-packages" / "assets").mkdir()
    assert assets() == tmp_path / "site-packages" / "assets"
    (package / "assets").mkdir()
    assert assets() == package / "assets"


def test_a_name_mistyped_is_answered_with_the_file_beside_it(tmp_path: Path) -> None:
    Image.fromarray(SCENE).save(tmp_path / "church.png")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*; did you mean 'church.png'\?$"):
        load_image(tmp_path / "curch.png")
    with pytest.raises(FileNotFoundError, match=r": check the path, or take a sample: vislab.samples\(\)$"):
        load_image(tmp_path / "folder" / "x.png")


def test_a_misspelt_sample_is_answered_by_the_one_that_was_meant() -> None:
    with pytest.raises(KeyError, match="no sample 'chruch'; did you mean 'church'"):
        samples()["chruch"]
