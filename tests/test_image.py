"""Pixels from strangers: what opens looks right, what does not says so in one line, and the tiles are Meta's."""

import base64
import json
import math
import os
import random
import struct
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps
from safetensors.torch import load_file

from vlm.image import (
    FORMATS,
    ImageConfig,
    ImageError,
    canvases,
    choose_canvas,
    collate_images,
    fit_size,
    open_image,
    preprocess,
)

GOLDEN = Path(__file__).parent / "golden" / "cases"
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * 10007 + width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    image.save(file := BytesIO(), kind, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int = 1, data: bytes = b"") -> bytes:
    """A PNG written by hand, so that a bomb costs nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def error(source, **options) -> str:
    """The message of the ImageError that `source` must raise, checked for everything that must not be in it."""
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "0x" not in message
    assert "_io." not in message
    assert "object at" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return message


# What opens


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_opens_from_every_source(kind, tmp_path):
    data = encode(Image.new("RGB", (20, 10), (200, 40, 90)), kind)
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(data)
    url = f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
    with Image.open(path) as pil:
        sources = [str(path), path, data, bytearray(data), memoryview(data), url, url.replace("data:", "DATA:"), pil]
        for source in sources:
            image = open_image(source)
            assert (image.mode, image.size) == ("RGB", (20, 10))
            assert np.abs(np.asarray(image).astype(int) - (200, 40, 90)).max() <= 4  # JPEG, WEBP and AVIF lose a little


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_and_tensors(channels):
    array = noise(7, 5, channels)
    if channels == 4:
        array[..., 3] = 255
    expected = np.broadcast_to(array[..., :3], (7, 5, 3))
    for source in (array, array[::-1][::-1], np.asfortranarray(array), torch.from_numpy(array).permute(2, 0, 1)):
        assert np.array_equal(np.asarray(open_image(source)), expected)
    if channels == 1:
        for source in (array[..., 0], torch.from_numpy(array[..., 0])):
            assert np.array_equal(np.asarray(open_image(source)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_exif_orientation(kind, orientation):
    blocks = Image.fromarray(noise(3, 4)).resize((64, 48), Image.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(blocks, kind, exif=exif)
    with Image.open(BytesIO(data)) as raw:
        expected = ImageOps.exif_transpose(raw).convert("RGB")
    image = open_image(data)
    assert image.tobytes() == expected.tobytes()
    assert open_image(image).tobytes() == image.tobytes()  # not turned twice
    assert open_image(Image.open(BytesIO(data))).tobytes() == image.tobytes()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_ignored():
    data = encode(Image.new("RGB", (8, 8), RED), "PNG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff garbage")
    assert open_image(data).getpixel((0, 0)) == RED


def transparent(mode: str) -> Image.Image:
    """Left half opaque red (or grey 100), right half a transparent black."""
    image = Image.new("RGBA", (4, 2), (*BLACK, 0))
    image.paste((*RED, 255), (0, 0, 2, 2))
    if mode == "P":
        image = Image.new("P", (4, 2), 1)
        image.putpalette([*RED, *BLACK])
        image.paste(0, (0, 0, 2, 2))
        image.info["transparency"] = 1
    elif mode == "PA":
        image = image.convert("RGB").convert("P").convert("PA")
        image.putalpha(Image.fromarray(np.array([[255, 255, 0, 0]] * 2, dtype=np.uint8)))
    elif mode == "RGB":
        image = image.convert("RGB")
        image.info["transparency"] = BLACK
    elif mode in ("LA", "RGBa"):
        image = image.convert(mode)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "P", "PA", "RGB"])
def test_alpha_lies_on_white(mode):
    image = open_image(transparent(mode))
    assert image.getpixel((3, 1)) == WHITE
    assert image.getpixel((0, 0)) == ((76, 76, 76) if mode == "LA" else RED)
    if mode in ("RGBA", "LA", "P", "RGB"):  # what a PNG can hold
        assert open_image(encode(transparent(mode))).tobytes() == image.tobytes()


def test_half_transparent():
    assert open_image(Image.new("RGBA", (1, 1), (*BLACK, 128))).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 257, 32896, 65535]], dtype=np.uint16), [0, 1, 128, 255]),
        (np.array([[0, 257, 32896, 65535]], dtype=np.int32), [0, 1, 128, 255]),
        (np.array([[-100, 0, 155]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0, 100_000]], dtype=np.int32), [0, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[-3e38, np.nan, np.inf, 3e38]], dtype=np.float32), [0, 0, 0, 255]),
        (np.array([[np.nan, -np.inf]], dtype=np.float32), [0, 0]),
        (np.array([[7.0, 7.0]], dtype=np.float32), [0, 0]),
    ],
    ids=["I;16", "I", "I negative", "I large", "F", "F not finite", "F nothing finite", "F constant"],
)
def test_deep_pixels_are_scaled_not_clipped(pixels, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_image(Image.fromarray(pixels))
    assert np.asarray(image).tolist() == [[[v] * 3 for v in expected]]


def test_16_bit_png():
    row = b"".join(struct.pack(">H", v) for v in (0, 257, 32896, 65535))
    assert np.asarray(open_image(png(4, 1, 16, b"\0" + row)))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "HSV", "YCbCr", "CMYK"])
def test_other_modes(mode):
    image = Image.fromarray(noise(6, 6)).convert(mode)
    assert open_image(image).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize("colour", [RED, GREEN, BLUE, WHITE, BLACK])
def test_cmyk_jpeg_is_not_inverted(colour):
    data = encode(Image.new("RGB", (16, 16), colour).convert("CMYK"), "JPEG", quality=100)
    assert np.abs(np.asarray(open_image(data)).astype(int) - colour).max() <= 6


def swapped_profile() -> bytes:
    """An ICC profile in which red and blue have changed places, under a name that is not sRGB."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    return profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_icc_profile_is_applied(mode, kind):
    data = encode(Image.new("RGB", (8, 8), RED).convert(mode), kind, icc_profile=swapped_profile())
    image = open_image(data)
    assert np.abs(np.asarray(image).astype(int) - BLUE).max() <= 6
    assert open_image(image).tobytes() == image.tobytes()  # not applied twice


@pytest.mark.parametrize("profile", [b"text", b"\0" * 128, swapped_profile()[:200]], ids=["text", "zeros", "cut off"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
def test_broken_profile_is_ignored(mode, profile):
    image = Image.fromarray(noise(4, 4)).convert(mode)
    image.info["icc_profile"] = profile
    assert open_image(image).tobytes() == image.convert("RGB").tobytes()


def test_profile_of_another_colour_space_is_ignored():
    image = Image.fromarray(noise(4, 4)).convert("CMYK")
    image.info["icc_profile"] = swapped_profile()
    assert open_image(image).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (GREEN, RED, BLUE)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(np.asarray(open_image(data)).astype(int) - GREEN).max() <= 4


def test_multi_picture_jpeg_gives_its_first_picture():
    frames = [Image.new("RGB", (16, 16), colour) for colour in (GREEN, RED)]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(np.asarray(open_image(data)).astype(int) - GREEN).max() <= 4


def test_rgb_is_not_copied():
    image = Image.new("RGB", (4, 4))
    assert open_image(image) is image


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (8000, 10), (30000, 1)])
def test_thin_pictures_open(size):
    image = open_image(encode(Image.new("RGB", size, RED)))
    assert image.size == size
    tiles, grid = preprocess(image, ImageConfig(tile_size=14))
    assert tiles.shape == (math.prod(grid), 3, 14, 14)
    assert tiles.isfinite().all()


# What does not open

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
OTHER_KINDS = ("TIFF", "PPM", "ICO", "TGA", "EPS", "PCX")
ANOTHER_PARSER = {kind: encode(Image.fromarray(noise(16, 16)), kind) for kind in OTHER_KINDS}
BAD_FILES = {
    "empty.png": (b"", "is empty"),
    "drawing.svg": (b'<?xml version="1.0"?>\n<svg width="9"/>', "SVG is a drawing, not a picture"),
    "bare.svg": (b"\xef\xbb\xbf  <svg></svg>", "render it to PNG"),
    "page.html": (b"<!DOCTYPE html><html><svg></svg>", "web page"),
    "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF is a document"),
    "phone.heic": (HEIC, "pillow-heif"),
    "film.mp4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video"),
    "half.avif": (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "AVIF file is damaged"),
    "scan.tif": (ANOTHER_PARSER["TIFF"], "TIFF is not read"),
    "pack.zip": (b"PK\3\4\x14\0\0\0", "ZIP"),
    "pack.svgz": (b"\x1f\x8b\x08\0", "gzip"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
    "blank.txt": (b"\n\t \r\n", "is text"),
    "marked.txt": (b"\xef\xbb\xbfwith a byte order mark\n", "is text"),
    "notes.txt": ("Grüße, this is no picture\n".encode() * 90, "is text"),
    "BMW.txt": (b"BMW is a car\n", "is text"),
    "random.jpg": (b"\x01\x02\xfe\xff" * 99, "expected JPEG, PNG, WEBP, GIF, BMP or AVIF"),
    "magic.jpg": (b"\xff\xd8\xff\xe0", "JPEG file is damaged"),
    "magic.png": (b"\x89PNG\r\n\x1a\n", "PNG file is damaged"),
    "magic.webp": (b"RIFF\x24\0\0\0WEBPVP8 ", "WEBP file is damaged"),
    "magic.gif": (b"GIF89a", "GIF file is damaged"),
    "magic.bmp": (b"BM\x9a\0\0\0\0\0", "BMP file is damaged"),
    "sound.wav": (b"RIFF\x24\0\0\0WAVEfmt \xff", "expected JPEG"),
    "bomb.png": (png(8000, 6000), "8000 x 6000 is 48.0 million pixels, expected at most 40"),
    "bigbomb.png": (png(12000, 10000), "12000 x 10000 is 120.0 million pixels"),
    "hugebomb.png": (png(60000, 60000), "more than 40 million pixels"),
}


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow's own, of 89 to 179 million pixels
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name, tmp_path):
    data, expected = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    messages = [error(path), error(str(path)), error(data)]
    messages.append(error("data:image/png;base64," + base64.b64encode(data).decode()))
    assert all(expected in message for message in messages)
    for message, prefix in zip(messages, (path, path, "<bytes>", "<data URL>"), strict=True):
        assert message.startswith(f"{prefix}: ")


def test_bomb_where_warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "more than 40 million pixels" in error(png(12000, 10000))


@pytest.mark.parametrize("kind", ANOTHER_PARSER)
def test_parsers_outside_the_list_never_run(kind):
    with Image.open(BytesIO(ANOTHER_PARSER[kind])) as image:  # Pillow could
        assert image.format == kind
    error(ANOTHER_PARSER[kind])


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", FORMATS)
def test_cut_off_files(kind, part, tmp_path):
    data = encode(Image.fromarray(noise(64, 64)), kind)
    path = tmp_path / "half.bin"
    path.write_bytes(data[: int(len(data) * part)])
    message = error(path)
    assert message.startswith(str(path))
    assert f"{kind} file is damaged or cut off" in message
    if kind in ("PNG", "JPEG") and part >= 0.5:
        with Image.open(path) as lazy:  # decoded only inside open_image
            assert "damaged or cut off" in error(lazy)


@pytest.mark.parametrize("kind", FORMATS)
def test_any_damage_gives_a_picture_or_one_line(kind):
    data, chance = encode(Image.fromarray(noise(24, 24)), kind), random.Random(kind)
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            broken[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of broken EXIF
            try:
                mode = open_image(bytes(broken), max_pixels=10_000).mode
            except ImageError:
                mode = None
            if mode is None:
                error(bytes(broken), max_pixels=10_000)
            else:
                assert mode == "RGB"


def test_bad_paths(tmp_path):
    missing, folder, fifo = tmp_path / "missing.jpg", tmp_path / "folder.png", tmp_path / "pipe.png"
    folder.mkdir()
    (tmp_path / "page.txt").touch()
    os.mkfifo(fifo)
    for source, expected in [
        (missing, "no such file"),
        (str(missing), "no such file"),
        (folder / "missing.jpg", "no such file"),
        (tmp_path / "page.txt" / "missing.jpg", "not a usable path"),
        (folder, "folder"),
        ("", "<empty path>: "),
        (fifo, "not a regular file"),
        ("a\0b.png", "not a usable path"),
        ("x" * 5000, "not a usable path"),
        ("two\nlines.png", "two?lines.png: no such file"),
    ]:
        message = error(source)
        assert expected in message
        assert len(message) < 400
        if isinstance(source, Path):
            assert message.startswith(f"{source}: ")


@pytest.mark.parametrize(
    "url", ["http://h/a.png", "https://h/a", "HTTPS://h/a", " http://h/a", "s3://b/k", "file:///a"]
)
def test_urls_are_not_fetched(url):
    assert error(url).endswith("URLs are not fetched; download the file first")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:image/png;base64,iVBORw0KGgo*****", "base64 is corrupt"),
        ("data:image/png;base64,iVBORw0KG", "base64 is corrupt"),
        ("data:image/png;base64,\u00e9\u00e9\u00e9\u00e9", "base64 is corrupt"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png,%89PNG", "found no ';base64,'"),
        ("data:image/png;base64", "is empty"),
        ("data:", "found no ';base64,'"),
    ],
)
def test_bad_data_urls(url, expected):
    message = error(url)
    assert message.startswith("<data URL>: ")
    assert expected in message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros((4, 5, 3), np.float32), ["<array>", "float32", "(4, 5, 3)", "uint8", "(H, W, C)"]),
        (np.zeros((4, 5, 3), np.uint16), ["uint16"]),
        (np.zeros((4, 5, 3), bool), ["bool"]),
        (np.zeros((4, 5, 3), object), ["object"]),
        (np.zeros((3, 4, 5), np.uint8), ["uint8", "(3, 4, 5)"]),
        (np.zeros((4, 5, 2), np.uint8), ["(4, 5, 2)", "C = 1, 3 or 4"]),
        (np.zeros((1, 4, 5, 3), np.uint8), ["(1, 4, 5, 3)"]),
        (np.zeros(4, np.uint8), ["(4,)"]),
        (np.zeros((0, 5, 3), np.uint8), ["<array>: 5 x 0 has no pixels"]),
        (torch.zeros(3, 4, 5), ["<tensor>", "torch.float32", "(3, 4, 5)", "(C, H, W)"]),
        (torch.zeros(3, 4, 5, dtype=torch.bfloat16), ["bfloat16"]),
        (torch.zeros(5, 4, 3, dtype=torch.uint8), ["(5, 4, 3)", "transpose"]),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), ["(1, 3, 4, 5)"]),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), ["<tensor>: 5 x 0 has no pixels"]),
        (Image.new("RGB", (0, 5)), ["<PIL image>", "0 x 5", "no pixels"]),
        (Image.new("La", (2, 2)), ["<PIL image>", "mode La cannot be converted"]),
        (None, ["<NoneType>", "expected a path"]),
        (7, ["<int>"]),
        ([[1, 2], [3, 4]], ["<list>"]),
    ],
)
def test_bad_objects(source, words):
    message = error(source)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "source",
    [
        png(101, 100),
        Image.new("1", (101, 100)),
        np.zeros((100, 101), np.uint8),
        torch.zeros(3, 100, 101, dtype=torch.uint8),
    ],
    ids=["file", "PIL", "array", "tensor"],
)
def test_the_pixel_limit_holds_for_every_source(source):
    assert "101 x 100" in error(source, max_pixels=10_099)
    if not isinstance(source, bytes):
        assert open_image(source, max_pixels=10_100).size == (101, 100)


def test_pillow_keeps_its_global_state():
    def state():
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    before = state()
    good, bad = encode(Image.fromarray(noise(32, 32))), png(8000, 6000)
    results = []

    def work():
        for _ in range(20):
            open_image(good)
            error(bad)
        results.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert state() == before


def test_files_are_closed(tmp_path):
    good, bad = tmp_path / "good.webp", tmp_path / "bad.webp"
    good.write_bytes(encode(Image.fromarray(noise(8, 8)), "WEBP"))
    bad.write_bytes(good.read_bytes()[:40])
    empty = tmp_path / "empty.webp"
    empty.touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        images = [open_image(good) for _ in range(3)]
        error(bad)
        error(empty)
        held = [os.path.realpath(entry) for entry in Path("/proc/self/fd").glob("*")]
    assert not any(path.endswith(".webp") for path in held)
    assert images[0].getpixel((0, 0)) == images[2].getpixel((0, 0))


# Canvas, tiles, numbers


def test_canvases():
    assert canvases(4) == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)]
    assert canvases(1) == [(1, 1)]
    mllama = pytest.importorskip("transformers.models.mllama.image_processing_pil_mllama")
    for max_tiles in range(1, 20):
        assert canvases(max_tiles) == mllama.get_all_supported_aspect_ratios(max_tiles)


def test_canvas_table():
    rows = 0
    for tile_size, table in json.loads((GOLDEN / "canvas_table.json").read_text()).items():
        config = ImageConfig(tile_size=int(tile_size))
        for width, height, *canvas, new_width, new_height in table:
            assert choose_canvas(height, width, config) == tuple(canvas), (tile_size, width, height)
            expected = (new_height or 1, new_width or 1)  # Meta's 0 would fail in its resize
            assert fit_size(height, width, tuple(canvas), config.tile_size) == expected, (tile_size, width, height)
            rows += 1
    assert rows > 500


CASES = ["exact_1x1", "tiny_up_1x1", "wide_1x2", "tall_2x1", "wide_1x3", "tall_3x1", "wide_1x4", "tall_4x1"]
CASES += ["square_2x2", "big_2x2", "thin_1x4", "gray_1x2", "palette_1x1", "rgba_1x1"]


@pytest.mark.parametrize("name", CASES)
def test_golden_images(name):
    """Meta's own tiles; for alpha those of transformers, since Meta drops it."""
    cases = json.loads((GOLDEN / "cases.json").read_text())
    case = {case["name"]: case for case in cases["images"]}[name]
    expected = load_file(GOLDEN / case.get("alternative", "images.safetensors"))[name]
    tiles, grid = preprocess(open_image(GOLDEN / case["file"]), ImageConfig(tile_size=cases["tile_size"]))
    assert grid == tuple(case["aspect_ratio"])
    assert canvases(4).index(grid) + 1 == case["aspect_ratio_id"]
    assert len(tiles) == case["num_tiles"]
    torch.testing.assert_close(tiles, expected, atol=1e-6, rtol=0)


def test_all_golden_images_are_tested():
    assert [case["name"] for case in json.loads((GOLDEN / "cases.json").read_text())["images"]] == CASES


SIDES = (1, 2, 3, 10, 55, 223, 447, 448, 449, 559, 560, 561, 896, 1120, 1121, 1680, 2240, 8000)
SIZES = [(h, w) for h in SIDES for w in SIDES if h * w <= 2_600_000]  # 297 of them
SIZES += [(480, 640), (1080, 1920), (200, 3000), (1365, 777)]


@pytest.mark.parametrize("tile_size", [448, 560])
@pytest.mark.parametrize("max_tiles", [4, 1, 6])
def test_arithmetic_equals_transformers(tile_size, max_tiles):
    mllama = pytest.importorskip("transformers.models.mllama.image_processing_pil_mllama")
    config, chance = ImageConfig(tile_size=tile_size, max_tiles=max_tiles), random.Random(tile_size)
    sizes = SIZES + [(chance.randint(1, 4000), chance.randint(1, 4000)) for _ in range(2000)]
    for height, width in sizes:
        canvas = mllama.get_optimal_tiled_canvas(height, width, max_tiles, tile_size)
        rows, cols = choose_canvas(height, width, config)
        assert (rows * tile_size, cols * tile_size) == canvas, (height, width)
        fitted = mllama.get_image_size_fit_to_canvas(height, width, *canvas, tile_size)
        assert fit_size(height, width, (rows, cols), tile_size) == fitted, (height, width)


def compare_with_transformers(sizes, tile_size: int, processor: str = "MllamaImageProcessorPil") -> float:
    """Assert equal canvases and tile counts; return the largest difference of pixels, in steps of 1/255."""
    transformers = pytest.importorskip("transformers")
    config = ImageConfig(tile_size=tile_size)
    reference = getattr(transformers, processor)(
        size={"height": tile_size, "width": tile_size}, image_mean=config.mean, image_std=config.std, max_image_tiles=4
    )
    scale, worst = 255 * torch.tensor(config.std)[:, None, None], 0.0
    for height, width in sizes:
        image = Image.fromarray(noise(height, width))
        expected = reference(image, return_tensors="pt")
        tiles, grid = preprocess(open_image(image), config)
        assert canvases(4).index(grid) + 1 == expected["aspect_ratio_ids"].item(), (height, width)
        assert len(tiles) == expected["num_tiles"][0][0] == expected["aspect_ratio_mask"].sum(), (height, width)
        worst = max(worst, ((tiles - expected["pixel_values"][0, 0, : len(tiles)]) * scale).abs().max().item())
    return worst


SMALL = [(max(1, h // 10), max(1, w // 10)) for h, w in SIZES]  # for tiles of 448 / 8 and 560 / 8


@pytest.mark.parametrize("tile_size", [56, 70])
def test_pixels_equal_transformers_small(tile_size):
    assert compare_with_transformers(sorted(set(SMALL)), tile_size) < 0.001


@pytest.mark.parametrize("tile_size", [448, 560])
def test_pixels_equal_transformers(tile_size):
    """A sixth of the sizes; `compare_with_transformers(SIZES, tile_size)` is the whole table and takes 10 s."""
    sizes = [*SIZES[::6], (1, 1), (10, 8000), (8000, 10), (480, 640), (tile_size, tile_size), (1080, 1920)]
    assert compare_with_transformers(sizes, tile_size) < 0.001


def test_tiles_run_row_by_row():
    image = np.zeros((28, 28, 3), np.uint8)
    image[:14, 14:], image[14:, :14], image[14:, 14:] = RED, GREEN, BLUE
    tiles, grid = preprocess(open_image(image), ImageConfig(tile_size=14, mean=(0, 0, 0), std=(1, 1, 1)))
    assert grid == (2, 2)
    for tile, colour in zip(tiles, (BLACK, RED, GREEN, BLUE), strict=True):
        assert torch.equal(tile, (torch.tensor(colour) / 255)[:, None, None].expand(3, 14, 14))


def test_padding_is_black_before_normalising():
    config = ImageConfig(tile_size=28)
    tiles, grid = preprocess(open_image(np.full((14, 28, 3), 255, np.uint8)), config)
    black, white = (((level - torch.tensor(config.mean)) / torch.tensor(config.std))[:, None, None] for level in (0, 1))
    assert grid == (1, 1)
    torch.testing.assert_close(tiles[0, :, 14:], black.expand(3, 14, 28))
    torch.testing.assert_close(tiles[0, :, :14], white.expand(3, 14, 28))


def test_preprocess_leaves_the_picture_alone():
    image = open_image(noise(33, 47))
    before = image.tobytes()
    config = ImageConfig(tile_size=14)
    first, second = preprocess(image, config)[0], preprocess(image, config)[0]
    assert image.tobytes() == before
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert first.is_contiguous()


@pytest.mark.parametrize("resample", ["nearest", "bicubic", "lanczos"])
def test_resample_is_used(resample):
    image = open_image(noise(33, 47))
    tiles, default = (preprocess(image, ImageConfig(tile_size=14, resample=r))[0] for r in (resample, "bilinear"))
    assert not torch.equal(tiles, default)


@pytest.mark.parametrize(
    "image", [Image.new("L", (4, 4)), np.zeros((4, 4, 3), np.uint8), "a.png"], ids=["L", "array", "path"]
)
def test_preprocess_takes_what_open_image_returns(image):
    with pytest.raises(ImageError, match="expected the RGB picture that open_image returns"):
        preprocess(image, ImageConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_size": 0}, "tile_size is 0, expected a whole number"),
        ({"tile_size": 560.0}, "tile_size is 560.0"),
        ({"max_tiles": -1}, "max_tiles is -1"),
        ({"max_tiles": True}, "max_tiles is True"),
        ({"mean": (0.5, 0.5)}, "mean is .*three numbers"),
        ({"mean": 0.5}, "mean is 0.5, expected three numbers"),
        ({"mean": "abc"}, "mean is 'abc'"),
        ({"std": (0.5, 0.5, 0)}, "std is .*above 0"),
        ({"std": (0.5, 0.5, float("nan"))}, "std is .*above 0"),
        ({"resample": "linear"}, "resample is 'linear', expected one of .*bilinear"),
        ({"resample": 2}, "resample is 2, expected one of"),
    ],
)
def test_config_checks(options, message):
    with pytest.raises(ValueError, match=message):
        ImageConfig(**options)


def test_config_from_json_is_hashable():
    assert ImageConfig(mean=[0.5] * 3, std=[0.5] * 3) == ImageConfig(mean=(0.5,) * 3, std=(0.5,) * 3)
    assert hash(ImageConfig(mean=[0.5] * 3)) == hash(ImageConfig(mean=(0.5,) * 3))


def test_collate():
    config = ImageConfig(tile_size=14)
    wide, tall, one = (preprocess(open_image(noise(*size)), config) for size in ((14, 40), (28, 14), (9, 9)))
    tiles, grid = collate_images([[wide, one], [], [tall]])
    assert tiles.shape == (3, 2, 3, 3, 14, 14)
    assert grid.tolist() == [[[1, 3], [1, 1]], [[0, 0], [0, 0]], [[2, 1], [0, 0]]]
    assert (tiles.dtype, grid.dtype) == (torch.float32, torch.int64)
    assert torch.equal(tiles[0, 0], wide[0])
    assert torch.equal(tiles[0, 1, :1], one[0])
    assert torch.equal(tiles[2, 0, :2], tall[0])
    used = torch.zeros(3, 2, 3, dtype=torch.bool)
    used[0, 0, :3] = used[0, 1, :1] = used[2, 0, :2] = True
    assert tiles[~used].count_nonzero() == 0


@pytest.mark.parametrize("rows", [[], [[]], [[], [], []]], ids=len)
def test_collate_without_pictures(rows):
    tiles, grid = collate_images(rows)
    assert tiles.shape == (len(rows), 0, 0, 3, 0, 0)
    assert grid.shape == (len(rows), 0, 2)
    assert (tiles.dtype, grid.dtype) == (torch.float32, torch.int64)


def test_collate_refuses_mixed_tile_sizes_and_wrong_grids():
    image = open_image(noise(9, 9))
    small, large = (preprocess(image, ImageConfig(tile_size=size)) for size in (14, 28))
    with pytest.raises(ValueError, match="one size: use one ImageConfig"):
        collate_images([[small], [large]])
    with pytest.raises(ValueError, match=r"found 1 tiles with a grid of \(1, 2\), expected 2"):
        collate_images([[(small[0], (1, 2))]])
