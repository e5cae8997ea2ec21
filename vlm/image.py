"""Any image -> safe RGB -> canvas -> tiles, normalised.

- `open_image` is the one door for pixels that strangers send: six parsers, the size checked before anything is
  decoded, the whole decode inside one guarded step, and one-line errors that tell nothing about Pillow's insides
  (CVE-2026-22778 began with the heap address in "cannot identify image file <_io.BytesIO object at 0x...>").
- What the eye sees is what the model gets: EXIF orientation, alpha on white, 16 bit, CMYK and wide-gamut colours.
- `preprocess` computes what Meta's and transformers' Llama 3.2 Vision processors compute, without their padded tiles.

Shapes: B batch, I images, L tiles of an image, T tile side; a canvas or grid is (rows, cols) of tiles.
"""

import base64
import binascii
import codecs
import contextlib
import io
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

Grid = tuple[int, int]  # (rows, cols) in tiles
ImageSource = str | os.PathLike | bytes | bytearray | memoryview | Image.Image | np.ndarray | Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")  # of Pillow's 43 parsers, the only ones that ever see a byte
ORIENTATION_TAG = 0x0112
UPRIGHT = {  # EXIF orientation -> what puts the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
RESAMPLE = {kernel.name.lower(): kernel for kernel in Image.Resampling}
FOREIGN = {  # first bytes -> what it is and what to do
    b"%PDF": "a PDF is a document, not a picture: render its page to PNG first",
    b"II*\0": "TIFF is not read: convert it to PNG first",
    b"MM\0*": "TIFF is not read: convert it to PNG first",
    b"II+\0": "TIFF is not read: convert it to PNG first",
    b"8BPS": "a Photoshop file is not read: export it as PNG first",
    b"\xff\x0a": "JPEG XL is not read: convert it to PNG first",
    b"\0\0\0\x0cJXL ": "JPEG XL is not read: convert it to PNG first",
    b"\0\0\0\x0cjP  ": "JPEG 2000 is not read: convert it to PNG first",
    b"PK\3\4": "a ZIP archive (or an office document) is not a picture: unpack it first",
    b"\x1f\x8b": "a gzip archive is not a picture: unpack it first",
    b"version https://git-lfs": "a Git LFS pointer stands in for the picture: run `git lfs pull` first",
}
OWN = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF"}
DAMAGED = "damaged or cut off; get it again from its source"


class ImageError(ValueError):
    """A picture that cannot be used; one line for the user: what was found, what was expected, what to do."""


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How a picture becomes tiles; defaults of Llama 3.2 Vision Instruct (the base checkpoints have tiles of 448)."""

    tile_size: int = 560
    max_tiles: int = 4
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)  # CLIP
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    resample: str = "bilinear"

    def __post_init__(self):
        for field in ("tile_size", "max_tiles"):
            value = getattr(self, field)
            if type(value) is not int or value < 1:
                raise ValueError(f"{field} is {value!r}, expected a whole number of at least 1")
        for field in ("mean", "std"):  # JSON gives lists; tuples keep the config hashable
            value = getattr(self, field)
            if not isinstance(value, (tuple, list)) or [isinstance(v, (int, float)) for v in value] != [True] * 3:
                raise ValueError(f"{field} is {value!r}, expected three numbers: red, green, blue")
            object.__setattr__(self, field, tuple(value))
        if not all(v > 0 for v in self.std):
            raise ValueError(f"std is {self.std}, expected numbers above 0")
        if self.resample not in RESAMPLE:
            raise ValueError(f"resample is {self.resample!r}, expected one of {', '.join(RESAMPLE)}")


def open_image(source: ImageSource, *, max_pixels: int = 40_000_000) -> Image.Image:
    """Return the picture as upright, opaque sRGB; of an animation the first frame; else raise `ImageError`.

    `source`: a path, bytes, a data URL, a PIL image, a uint8 array (H, W[, 1|3|4]) or a uint8 tensor ([1|3|4,] H, W).
    Nothing is decoded before width x height <= `max_pixels` is known (Pillow itself stops at 179 million).
    """
    if isinstance(source, Image.Image):
        return _decode(source, "<PIL image>", max_pixels)
    if isinstance(source, (np.ndarray, Tensor)):
        name = "<tensor>" if isinstance(source, Tensor) else "<array>"
        return _decode(_from_array(source, name, max_pixels), name, max_pixels)
    name, file = _open_file(source)
    with file:
        return _decode(_identify(file, name, max_pixels), name, max_pixels)


def picture_size(source: str | os.PathLike | bytes | Image.Image, *, max_pixels: int = 40_000_000) -> tuple[int, int]:
    """(height, width) of what `open_image` reads, before it is turned upright; of a file the header alone is read."""
    if not isinstance(source, (str, os.PathLike, bytes)):
        image = open_image(source, max_pixels=max_pixels)
        return image.height, image.width
    name, file = _open_file(source)
    with file:
        width, height = _identify(file, name, max_pixels).size
    return height, width


def _open_file(source) -> tuple[str, BinaryIO]:
    """Name a source for error messages and open its bytes; a URL is never fetched (that is how servers get abused)."""
    file: BinaryIO | None
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, file, size = "<bytes>", io.BytesIO(source), len(source)
    elif isinstance(source, str) and source[:5].lower() == "data:":
        data = _decode_data_url(source)
        name, file, size = "<data URL>", io.BytesIO(data), len(data)
    elif isinstance(source, (str, os.PathLike)):
        text = os.fsdecode(source)
        name = "".join(c if c.isprintable() else "?" for c in text)  # no second line through a newline
        name = (name if len(name) <= 200 else f"...{name[-200:]}") or "<empty path>"
        if re.match(r"\s*[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
            raise ImageError(f"{name}: URLs are not fetched; download the file first")
        try:
            path = Path(text)
            mode = path.stat().st_mode
            file = path.open("rb") if stat.S_ISREG(mode) else None  # opening a pipe would wait forever
        except FileNotFoundError:
            raise ImageError(f"{name}: no such file; check the path") from None
        except PermissionError:
            raise ImageError(f"{name}: no permission to read this file") from None
        except (OSError, ValueError):  # too long, a NUL inside
            raise ImageError(f"{name}: not a usable path, expected a path, bytes or a data URL") from None
        if file is None:
            found = "this is a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise ImageError(f"{name}: {found}, expected an image file")
        size = os.fstat(file.fileno()).st_size
    else:
        raise ImageError(
            f"<{type(source).__name__}>: expected a path, bytes, a data URL, a PIL image, a uint8 array (H, W, C) "
            "or a uint8 tensor (C, H, W)"
        )
    if size == 0:
        file.close()
        raise ImageError(f"{name}: the file is empty (0 bytes)")
    return name, file


def _decode_data_url(url: str) -> bytes:
    """Strict base64: a lenient decoder drops foreign characters and hands garbage to the image parsers."""
    head, _, body = url.partition(",")
    if not head.lower().endswith(";base64"):
        raise ImageError("<data URL>: found no ';base64,', expected data:image/png;base64,...")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("<data URL>: its base64 is corrupt or cut off; encode the file again") from None


def _from_array(source: np.ndarray | Tensor, name: str, max_pixels: int) -> Image.Image:
    """Wrap uint8 pixels; floats are refused because 0..1, 0..255 and normalised values cannot be told apart."""
    is_tensor = isinstance(source, Tensor)
    layout, channels = ("(C, H, W)", 0) if is_tensor else ("(H, W, C)", 2)
    shape = tuple(source.shape)
    is_picture = len(shape) == 2 or (len(shape) == 3 and shape[channels] in (1, 3, 4))
    if source.dtype not in (torch.uint8, np.uint8) or not is_picture:
        raise ImageError(
            f"{name}: found {source.dtype} in shape {shape}, expected uint8 (0 to 255) in (H, W) or {layout} "
            "with C = 1, 3 or 4; scale, convert and transpose it first"
        )
    array = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
    array = np.moveaxis(array, channels, 2) if array.ndim == 3 else array  # (H, W, C)
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    return Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def _identify(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    """Read the header only; what Pillow says about a bad one is replaced by what the first bytes tell."""
    try:
        return Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # the latter where warnings are errors
        limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise ImageError(f"{name}: more than {limit / 1e6:g} million pixels; shrink it first") from None
    except Exception:  # noqa: BLE001 - the parsers raise whatever they run into
        file.seek(0)
        raise ImageError(f"{name}: {_sniff(file.read(1024))}") from None


def _sniff(head: bytes) -> str:
    """Say what bytes that are no readable picture are, and what to do about it."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "this is a web page, not a picture (a failed download?)"
    if text.startswith(b"<") and b"<svg" in text:
        return "SVG is a drawing, not a picture: render it to PNG first"
    for magic, message in FOREIGN.items():
        if head.startswith(magic):
            return message
    damaged = next((kind for magic, kind in OWN.items() if head.startswith(magic)), None)
    if head[4:8] == b"ftyp":  # the ISO box that HEIC, AVIF and MP4 begin with
        brands = head[8:64]
        if b"avif" in brands or b"avis" in brands:
            damaged = "AVIF"
        elif any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")):
            return "HEIC is not read: convert it to JPEG, or open it with pillow-heif and pass the PIL image"
        else:
            return "this is a video or audio file, not a picture: take a frame out of it first"
    elif head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b""):
        damaged = "WEBP"
    if damaged is None:
        with contextlib.suppress(UnicodeDecodeError):
            if "".join(codecs.utf_8_decode(text, "strict", False)[0].split()).isprintable():
                return "this is text, not a picture"
        damaged = "BMP" if head.startswith(b"BM") else None
    if damaged:
        return f"this {damaged} file is {DAMAGED}"
    return f"not a picture in a known format; expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Refuse before memory is spent: 120 million pixels of one colour are a PNG of 15 KB."""
    if width < 1 or height < 1:
        raise ImageError(f"{name}: {width} x {height} has no pixels")
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} is {width * height / 1e6:.1f} million pixels, "
            f"expected at most {max_pixels / 1e6:g}; shrink it first or raise max_pixels"
        )


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """Decode and convert in one guarded step: a cut-off JPEG shows only when it is decoded to the end."""
    _check_size(*image.size, name, max_pixels)
    try:
        image.load()
        rgb = _to_rgb(image)
    except Exception:  # noqa: BLE001 - the decoders raise whatever the damage leads to
        if image.format:
            raise ImageError(f"{name}: this {image.format} file is {DAMAGED}") from None
        raise ImageError(f"{name}: mode {image.mode} cannot be converted to RGB; convert it first") from None
    turn = None
    with contextlib.suppress(Exception):  # broken EXIF is no reason to refuse the picture
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION_TAG, 1))
    if turn is not None:
        rgb = rgb.transpose(turn)
    if rgb is not image:
        rgb.info = {}  # so that opening the result again does not turn or convert it a second time
    return rgb


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert every mode to RGB as a viewer shows it; `convert` alone drops alpha and clips 16 bit to white."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return _to_8_bit(np.asarray(image)).convert("RGB")
    if not image.has_transparency_data:
        return _to_srgb(image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB"), profile)
    layer = image.convert("RGBA")
    if profile:
        colours = _to_srgb(layer.convert("RGB"), profile)
        colours.putalpha(layer.getchannel("A"))
        layer = colours
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer).convert("RGB")


def _to_8_bit(values: np.ndarray) -> Image.Image:
    """Scale integers of 0..65535 by 1/257, so 65535 becomes 255; stretch floats and other integers over their range."""
    if values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 65535:
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    finite = np.isfinite(values)
    low = values[finite].min() if finite.any() else 0
    values = np.where(finite, values, low).astype(np.float64) - low
    return Image.fromarray((values * (255 / (values.max() or 1))).round().astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Apply an ICC profile, without which wide-gamut photos look faded; a broken one is no reason to refuse."""
    if profile:
        with contextlib.suppress(Exception):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "sRGB" not in ImageCms.getProfileDescription(source):
                srgb = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                assert srgb is not None  # None comes of inPlace=True alone
                return srgb
    return image if image.mode == "RGB" else image.convert("RGB")


def canvases(max_tiles: int) -> list[Grid]:
    """All grids of at most `max_tiles` tiles; index + 1 is the aspect ratio id of the Llama 3.2 checkpoints."""
    return [(rows, cols) for rows in range(1, max_tiles + 1) for cols in range(1, max_tiles // rows + 1)]


def choose_canvas(height: int, width: int, config: ImageConfig) -> Grid:
    """Pick the canvas that enlarges the picture least, else the one that shrinks it least; of equals the smallest."""
    scale = {
        (rows, cols): min(rows * config.tile_size / height, cols * config.tile_size / width)
        for rows, cols in canvases(config.max_tiles)
    }
    best = min((s for s in scale.values() if s >= 1), default=max(scale.values()))
    return min((canvas for canvas, s in scale.items() if s == best), key=math.prod)


def fit_size(height: int, width: int, canvas: Grid, tile_size: int) -> tuple[int, int]:
    """Return (height, width) after resizing: never beyond the canvas, and enlarged only until one side fills a tile."""
    high = min(max(height, tile_size), canvas[0] * tile_size)
    wide = min(max(width, tile_size), canvas[1] * tile_size)
    if wide / width < high / height:
        return min(math.floor(height * (wide / width)) or 1, high), wide
    return high, min(math.floor(width * (high / height)) or 1, wide)


def preprocess(image: Image.Image, config: ImageConfig) -> tuple[Tensor, Grid]:
    """Turn a picture of `open_image` into normalised float32 tiles (L, 3, T, T), row by row, and its (rows, cols).

    L = rows * cols real tiles; the padding to `max_tiles` of the reference processors is left to whoever needs it.
    """
    if not isinstance(image, Image.Image) or image.mode != "RGB":
        found = f"mode {image.mode}" if isinstance(image, Image.Image) else type(image).__name__
        raise ImageError(f"preprocess: found {found}, expected the RGB picture that open_image returns")
    side = config.tile_size
    rows, cols = grid = choose_canvas(image.height, image.width, config)
    height, width = fit_size(image.height, image.width, grid, side)
    if image.size != (width, height):
        image = image.resize((width, height), RESAMPLE[config.resample])  # uint8, antialiased
    if image.size != (cols * side, rows * side):
        image = image.crop((0, 0, cols * side, rows * side))  # what lies outside is black, as in the reference
    tiles = np.empty((rows, cols, 3, side, side), dtype=np.float32)
    for channel, (plane, mean, std) in enumerate(zip(image.split(), config.mean, config.std, strict=True)):
        pixels = np.asarray(plane).reshape(rows, side, cols, side).swapaxes(1, 2)  # (rows, cols, T, T)
        out = tiles[:, :, channel]
        np.multiply(pixels, np.float32(1 / (255 * std)), out=out, dtype=np.float32)
        out -= np.float32(mean / std)  # (p / 255 - mean) / std in two passes, 6x faster than written out
    return torch.from_numpy(tiles).flatten(0, 1), grid


def collate_images(rows: list[list[tuple[Tensor, Grid]]]) -> tuple[Tensor, Tensor]:
    """Pad rows of `preprocess` results to tiles (B, I, L, 3, T, T) and grid (B, I, 2); (0, 0) marks an absent picture.

    I and L are the largest of the batch; without any picture tiles are (B, 0, 0, 3, 0, 0) and grid is (B, 0, 2).
    """
    pictures = [picture for row in rows for picture in row]
    sizes = {tuple(tiles.shape[1:]) for tiles, _ in pictures}
    if len(sizes) > 1:
        raise ValueError(f"found tiles of {sorted(sizes)} in one batch, expected one size: use one ImageConfig for all")
    for tiles, grid in pictures:
        if len(tiles) != math.prod(grid):
            raise ValueError(f"found {len(tiles)} tiles with a grid of {tuple(grid)}, expected {math.prod(grid)} tiles")
    n_images = max((len(row) for row in rows), default=0)
    n_tiles = max((len(tiles) for tiles, _ in pictures), default=0)
    dtype = pictures[0][0].dtype if pictures else torch.float32
    batch = torch.zeros(len(rows), n_images, n_tiles, *(sizes.pop() if sizes else (3, 0, 0)), dtype=dtype)
    grids = torch.zeros(len(rows), n_images, 2, dtype=torch.int64)
    for b, row in enumerate(rows):
        for i, (tiles, grid) in enumerate(row):
            batch[b, i, : len(tiles)] = tiles
            grids[b, i] = torch.tensor(grid)
    return batch, grids
