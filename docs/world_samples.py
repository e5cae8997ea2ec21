"""Draw a contact sheet of a world, or of all: python docs/world_samples.py WORLD|all OUT [--size 224] [--count 12].

Each picture (or pair of pictures) stands over one of its questions and the answer; families take turns. `all` writes
OUT/WORLD.png for every world, at the sizes and in the numbers of SHEETS, which is what docs/worlds.md shows.
"""

import argparse
import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parent.parent))

from vlm.data.worlds import SPLITS, WORLDS, sample  # noqa: E402

SHEETS = {
    "scenes": (160, 16), "shapes": (120, 16), "nlvr": (120, 8), "emoji": (160, 16), "text": (192, 16),
    "documents": (256, 12), "charts": (256, 16), "pairs": (160, 16),
}  # fmt: skip
"""World -> (size of a picture, how many)."""

COLUMNS, GAP, CAPTION = 4, 8, 60  # square pictures in a row; pixels between pictures, and for the words under one


def contact_sheet(world: str, size: int, count: int, seed: int, split: str, emoji: str | None) -> Image.Image:
    """`count` samples in rows of four (wide ones of fewer), the question and the answer under each."""
    options = {"seed": seed, "mixture": {world: 1.0}, "size": size, "split": split, "emoji_path": emoji}
    drawn = [sample(i, **options) for i in range(count)]
    width, height = drawn[0].image.size
    width = (width + GAP) * len(drawn[0].pictures) - GAP
    columns = max(1, round(COLUMNS * height / width))
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + CAPTION + GAP) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for i, s in enumerate(drawn):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + CAPTION + GAP)
        for k, picture in enumerate(s.pictures):
            left = x + k * (picture.width + GAP)
            sheet.paste(picture, (left, y))
            pen.rectangle((left - 1, y - 1, left + picture.width, y + height), outline="#cccccc")
        question = sorted(s.questions, key=lambda q: q.family)[i * 3 % len(s.questions)]
        lines = textwrap.wrap(question.text, max(16, width // 6))[:3] + [question.answer]
        for k, line in enumerate(lines):
            pen.text((x, y + height + 3 + 14 * k), line, fill="black" if k < len(lines) - 1 else "#0050b0", font=font)
    return sheet


def save(sheet: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=(*WORLDS, "all"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--emoji", help="zip of Noto drawings; the system's font where absent")
    args = parser.parse_args()
    if args.world != "all":
        save(contact_sheet(args.world, args.size, args.count, args.seed, args.split, args.emoji), args.out)
        return
    for world, (size, count) in SHEETS.items():
        save(contact_sheet(world, size, count, args.seed, args.split, args.emoji), args.out / f"{world}.png")


if __name__ == "__main__":
    main()
