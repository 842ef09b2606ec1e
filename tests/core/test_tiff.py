"""A TIFF of any bands is the same picture as the array that it was written from, or is refused with what to do."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from core.test_images import linear_profile
from PIL import Image

from vislab.core.images import load_image

RANDOM = np.random.default_rng(0)
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "float16", "float32", "float64"]


def cube(count: int, dtype: str = "uint8") -> np.ndarray:
    """(8, 9, count) of random values up to 4,000, or what the type holds."""
    top = min(4000, np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else 1000
    return RANDOM.integers(0, top, (8, 9, count)).astype(dtype)


def tiff(values: np.ndarray, layout: str = "contig", photometric: str = "minisblack", **options: Any) -> bytes:
    file = BytesIO()
    count = values.shape[2]
    stored = values[..., 0] if count == 1 else np.moveaxis(values, -1, 0) if layout == "separate" else values
    if count > 1:
        options["planarconfig"] = layout
    tifffile.imwrite(file, stored, photometric=photometric, **options)
    return file.getvalue()


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Of files that are sound: pytest would hide what a user sees."""
    yield
    # ultralytics, where something else imported it, tells of packages that it would have liked
    assert [one for one in caplog.get_records("call") if one.name != "ultralytics"] == []


@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("dtype", TYPES)
def test_bands_of_a_file_are_those_of_its_array(dtype: str, count: int, layout: str) -> None:
    values = cube(count, dtype)
    data = tiff(values, layout)
    for bands in ((1,), (count,), (count, 1, (count + 1) // 2)):
        for stretch in ("percentile", (3, 100)):
            expected = load_image(values[..., [n - 1 for n in bands]], stretch=stretch)
            np.testing.assert_array_equal(load_image(data, bands=bands, stretch=stretch), expected)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_without_a_stretch_the_full_range_is_shown(count: int) -> None:
    bands = (1,) if count == 1 else (count, 2, 1)
    for values in (
        RANDOM.integers(0, 256, (8, 9, count), np.uint8),
        RANDOM.integers(0, 65536, (8, 9, count), np.uint16),
        RANDOM.random((8, 9, count), np.float32),
        RANDOM.random((8, 9, count)),
    ):
        expected = load_image(values[..., [n - 1 for n in bands]])
        np.testing.assert_array_equal(load_image(tiff(values), bands=bands), expected)
        if count != 5:
            np.testing.assert_array_equal(load_image(tiff(values)), load_image(values))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": 2},
        {"compression": "lzma"},
        {"tile": (16, 16), "compression": "zlib"},
        {"rowsperstrip": 3},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
)
def test_ways_to_store_the_same_values(options: dict[str, Any]) -> None:
    values = cube(5, "uint16")
    expected = load_image(values, bands=(4, 3, 1), stretch=(0, 4000))
    for layout in ("contig", "separate"):
        data = tiff(values, layout, **options)
        np.testing.assert_array_equal(load_image(data, bands=(4, 3, 1), stretch=(0, 4000)), expected)


@pytest.mark.parametrize("layout", [1, 2])
def test_a_file_written_by_hand(layout: int, tmp_path: Path) -> None:
    """By the specification alone (TIFF 6.0), so that no writer's habits are in it."""
    values = np.arange(256, dtype=np.uint8).reshape(8, 8, 4)
    data = (values if layout == 1 else np.moveaxis(values, -1, 0)).tobytes()
    path = tmp_path / "four.tif"
    strips = 1 if layout == 1 else 4
    end = 8 + 2 + 12 * 10 + 4
    wide = struct.pack("<4H", 8, 8, 8, 8)
    offsets = struct.pack("<4I", *(end + 8 + 32 + 64 * n for n in range(4)))
    sizes = struct.pack("<4I", *[256 // strips] * 4)
    first = end + 8 + 32
    tags = [
        *((256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 4, end), (259, 3, 1, 1), (262, 3, 1, 1)),
        (273, 4, strips, first if strips == 1 else end + 8),
        *((277, 3, 1, 4), (278, 3, 1, 8)),
        (279, 4, strips, 256 if strips == 1 else end + 24),
        (284, 3, 1, layout),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags))
    path.write_bytes(head + entries + bytes(4) + wide + offsets + sizes + data)
    np.testing.assert_array_equal(load_image(path, bands=(3, 2, 1)), values[..., [2, 1, 0]])
    with pytest.raises(
        ValueError, match=r"four\.tif': a TIFF of 4 bands: choose the 3 .*vislab\.load_image\(…, bands=\(3, 2, 1\)"
    ):
        load_image(path)


@pytest.mark.parametrize("count", [2, 4, 5, 13])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_bands_must_be_named_where_the_file_does_not_say_what_they_are(count: int, dtype: str) -> None:
    data = tiff(cube(count, dtype))
    with pytest.raises(ValueError, match=rf"^the [\d,]+ bytes given: a TIFF of {count} bands: choose .* bands=\("):
        load_image(data)
    with pytest.raises(ValueError, match=rf"no band {count + 1}: the picture has {count}, counted from 1"):
        load_image(data, bands=(count + 1,))


def test_bands_beyond_rgb_are_shown_as_the_file_says() -> None:
    values = RANDOM.integers(0, 65536, (8, 9, 4), np.uint16)
    values[..., 3] = 0
    near = tiff(values, photometric="rgb", extrasamples=["unspecified"], compression="zlib")
    np.testing.assert_allclose(load_image(near).astype(int), load_image(values[..., :3]), atol=1)
    clear = tiff(values / 65535, photometric="rgb", extrasamples=["unassalpha"])
    assert (load_image(clear) == 255).all()
    with pytest.raises(ValueError, match="a TIFF of 4 bands: choose"):
        load_image(tiff(values / 65535, photometric="rgb", extrasamples=["assocalpha"]))


def test_signed_bytes_are_not_taken_for_unsigned_ones() -> None:
    values = np.array([[[-128], [0], [127]]], np.int8)
    with pytest.raises(ValueError, match="not -128 to 127"):
        load_image(tiff(values))
    assert load_image(tiff(values), stretch=(-128, 127))[0, :, 0].tolist() == [0, 128, 255]


def test_white_may_be_zero() -> None:
    for dtype, top in (("uint8", 255), ("uint16", 65535)):
        data = tiff(np.array([[[0], [top]]], dtype), photometric="miniswhite")
        assert load_image(data)[0, :, 0].tolist() == [255, 0]
    with pytest.raises(ValueError, match="zero is white, where bands and stretch need it black"):
        load_image(data, stretch="percentile")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    """As Pillow turns a file that it reads."""
    values = cube(3)
    tags = [(274, "H", 1, orientation, True)]
    expected = load_image(tiff(values, photometric="rgb", extratags=tags))
    deep = tiff(values.astype(np.float64) / 255, photometric="rgb", extratags=tags)
    np.testing.assert_array_equal(load_image(deep), expected)
    np.testing.assert_array_equal(load_image(deep, bands=(1, 2, 3), stretch=(0, 1)), expected)


def test_a_colour_profile_is_of_the_bands_as_stored() -> None:
    """Converted as Pillow does where the picture is shown as it is; left out where bands or a stretch are chosen."""
    values = RANDOM.integers(0, 256, (8, 9, 3), np.uint8)
    options = {"photometric": "rgb", "iccprofile": linear_profile()}
    expected = load_image(tiff(values, **options))
    assert (expected != values).any()
    np.testing.assert_array_equal(load_image(tiff(values / 255, **options)), expected)
    for data in (tiff(values, **options), tiff(values / 255.0, **options)):
        np.testing.assert_array_equal(load_image(data, bands=(3, 2, 1)), values[..., ::-1])


def test_no_data_is_left_out_and_black() -> None:
    values = np.full((12, 10, 1), -9999.0)
    values[:10] = np.arange(100).reshape(10, 10, 1)
    data = tiff(values, extratags=[(42113, "s", 0, "-9999", True)])
    shown = load_image(data, stretch="percentile")
    np.testing.assert_array_equal(shown[:10], load_image(values[:10], stretch="percentile"))
    assert (shown[10:] == 0).all()


def test_twelve_bits_in_sixteen_say_so(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    for count in (1, 3):
        values = cube(count, "uint16")
        photometric = "rgb" if count == 3 else "minisblack"
        path.write_bytes(tiff(values, photometric=photometric))
        with pytest.warns(UserWarning, match=r"slide\.tif' comes out nearly black.*stretch=\"percentile\""):
            load_image(path)
        with warnings.catch_warnings(action="error"):
            shown = load_image(path, stretch=(0, 4095))
        np.testing.assert_array_equal(shown, load_image(values, stretch=(0, 4095)))


def test_sixteen_bits_of_a_png_are_stretched_and_not_eight() -> None:
    import cv2

    values = np.arange(120, dtype=np.uint16).reshape(5, 8, 3)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(load_image(data, stretch=(0, 119)), load_image(values, stretch=(0, 119)))
    opened = Image.open(BytesIO(data))
    assert opened.mode == "RGB"
    with pytest.raises(ValueError, match="keeps 8 of its 16 bits"):
        load_image(opened, stretch=(0, 119))
    noise = cv2.imencode(".png", RANDOM.integers(0, 4096, (64, 64, 3), np.uint16))[1].tobytes()
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_image(noise[:-9000], stretch=(0, 4095))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "lzma"}])
@pytest.mark.parametrize("cut", [20, 300, 500])
def test_truncated_files(options: dict[str, Any], cut: int) -> None:
    data = tiff(cube(5, "uint16"), **options)
    with pytest.raises(ValueError, match=r"truncated or damaged .*: copy or download it again"):
        load_image(data[:-cut], bands=(1,))


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is there")
def test_compressions_that_need_another_package() -> None:
    data = bytearray(tiff(cube(5, "uint16")))
    tag = struct.pack("<HHI", 259, 3, 1)
    data[data.index(tag) + 8] = 5  # LZW
    with pytest.raises(ValueError, match=r"compressed with LZW.*pip install imagecodecs"):
        load_image(bytes(data), bands=(1,))


def test_no_pixels_are_no_picture() -> None:
    data = bytearray(tiff(cube(5)))
    data[data.index(struct.pack("<HHI", 257, 4, 1)) + 8] = 0
    with pytest.raises(ValueError, match="9×0 pixels of 5 bands hold no picture"):
        load_image(bytes(data), bands=(1,))


def test_colours_that_are_not_read() -> None:
    data = tiff(cube(3, "uint16"), photometric="cielab")
    with pytest.raises(ValueError, match="whose colours are CIELAB, which is not read here: export it"):
        load_image(data)


def test_palettes_and_cmyk_have_the_bands_that_are_shown() -> None:
    for image in (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), Image.new("RGB", (4, 4), "red").quantize(2)):
        file = BytesIO()
        image.save(file, "TIFF")
        assert load_image(file.getvalue(), bands=(3, 2, 1))[0, 0].tolist() == [0, 0, load_image(image)[0, 0, 0]]


def test_large_files_say_how_to_read_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vislab.core.decode.MAX_PIXELS", 1000)
    path = tmp_path / "slide.tif"
    values = cube(3).repeat(8, 0).repeat(8, 1)
    with tifffile.TiffWriter(path) as file:
        file.write(values, subifds=1, tile=(16, 16), photometric="rgb")
        file.write(values[::4, ::4], subfiletype=1, tile=(16, 16), photometric="rgb")
    with pytest.raises(ValueError, match=r"72×64 pixels, .*: its level 1 has 18×16: .*tifffile\.imread\(path, level=1"):
        load_image(path)
    np.testing.assert_array_equal(load_image(tifffile.imread(path, level=1)), values[::4, ::4])
    for count in (3, 5):
        path.write_bytes(tiff(cube(count).repeat(8, 0).repeat(8, 1)))
        with pytest.raises(ValueError, match=r"72×64 pixels, .*: cut out a part, such as .*np\.s_\["):
            load_image(path, bands=(1,))


def test_more_bytes_than_memory_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vislab.core.tiff._MAX_BYTES", 500)
    with pytest.raises(ValueError, match="GB of values"):
        load_image(tiff(cube(13)), bands=(1,))
