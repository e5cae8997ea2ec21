"""Dense labels: what stands in each patch of a picture, and for letters their place in what is written.

Notable here:
- Letters are narrower than a patch, so some kinds of labels have FINE x FINE cells to a patch. A stem with residual
  blocks learns from labels of its own, as fine as its map.
- "place", "word" and "line" count from one and are zero where there is no letter: who spells goes from place to place.
"""

from collections.abc import Iterable

import numpy as np

from encoders.tiled_vit import prime_factors
from vlm.config import BackboneConfig, EncoderConfig
from vlm.data.sample import Sample, Thing
from vlm.data.worlds import COLORS, SIZES, WHAT
from vlm.image import Grid, fit_size

FINE = 2
# along the side of a patch
CELLS = {"what": FINE, "color": 1, "size": 1, "center": 1, "place": FINE, "word": FINE, "line": 1}
CLASSES = {
    "what": len(WHAT), "color": len(COLORS), "size": len(SIZES), "center": 4, "place": 16, "word": 8, "line": 8,
    "stem": len(WHAT),
}  # fmt: skip
_WHAT, _COLORS, _SIZES = ({name: i for i, name in enumerate(names)} for names in (WHAT, COLORS, SIZES))


def label_cells(encoder: EncoderConfig | BackboneConfig | None) -> dict[str, int]:
    """Kinds of labels that an encoder learns from, and their cells along the side of a patch."""
    if isinstance(encoder, EncoderConfig) and encoder.stem_blocks:
        return CELLS | {"stem": prime_factors(encoder.patch_size)[-1]}
    return CELLS


def dense_labels(
    drawn: Sample, grid: Grid, patches: int, tile_size: int, *, picture: int = 0, cells: dict[str, int] = CELLS
) -> dict[str, np.ndarray]:
    """What covers each cell of each patch, and where the centres of things are.

    Args:
        grid: rows and columns of tiles.
        patches: along the side of a tile of `tile_size` pixels.
        picture: which of the sample's.
        cells: of `label_cells`.

    Returns:
        By kind of label (tiles * patches,), with several cells to a patch (tiles * patches, cells), row by row.
    """
    maps = {n: np.zeros((grid[0] * patches * f, grid[1] * patches * f), dtype=np.int64) for n, f in cells.items()}
    size = drawn.pictures[picture].size
    high, wide = fit_size(size[1], size[0], grid, tile_size)
    width, height = grid[1] * tile_size * size[0] / wide, grid[0] * tile_size * size[1] / high  # of the whole canvas
    things = [t for t in drawn.things if t.picture == picture]
    written = reading_order(things)
    for thing in sorted(things, key=lambda t: -(t.box[2] - t.box[0]) * (t.box[3] - t.box[1])):
        place, word, line = written.get(id(thing), (0, 0, 0))
        what = _WHAT[thing.what]
        label = {
            "what": what, "color": _COLORS[thing.color], "size": _SIZES[thing.size], "place": place, "word": word,
            "line": line, "stem": what,
        }  # fmt: skip
        for name, of_cells in maps.items():
            rows, cols = of_cells.shape
            x0, y0, x1, y1 = (
                v * n / side for v, n, side in zip(thing.box, (cols, rows) * 2, (width, height) * 2, strict=True)
            )
            row, col = min(int((y0 + y1) / 2), rows - 1), min(int((x0 + x1) / 2), cols - 1)
            if name == "center":
                of_cells[row, col] = min(of_cells[row, col] + 1, 3)
                continue
            span = slice(round(y0), max(round(y1), round(y0) + 1)), slice(round(x0), max(round(x1), round(x0) + 1))
            of_cells[span] = of_cells[row, col] = label[name]
    labels = {}
    for name, of_cells in maps.items():
        f = cells[name]
        parts = of_cells.reshape(grid[0], patches, f, grid[1], patches, f).transpose(0, 3, 1, 4, 2, 5)
        labels[name] = parts.reshape(-1) if f == 1 else parts.reshape(-1, f * f)
    return labels


def reading_order(things: Iterable[Thing]) -> dict[int, tuple[int, int, int]]:
    """Place in its word, word in its line and line, each from one, of every letter that knows its place, by id."""
    found, line, word, place = {}, 0, 0, 0
    last: Thing | None = None
    for thing in things:
        if thing.place < 0:
            continue
        gone_on = last is not None and thing.place > last.place
        if last is None or not (gone_on or _level(last, thing)):
            line, word, place = line + 1, 1, 0
        elif not gone_on or thing.place > last.place + 1:
            word, place = word + 1, 0
        place += 1
        found[id(thing)] = min(place, 15), min(word, 7), min(line, 7)
        last = thing
    return found


def _level(a: Thing, b: Thing) -> bool:
    """Whether two letters stand on one line: their middles are nearer than half the higher one."""
    gap = abs(a.box[1] + a.box[3] - b.box[1] - b.box[3]) / 2
    return gap < 0.5 * max(a.box[3] - a.box[1], b.box[3] - b.box[1])
