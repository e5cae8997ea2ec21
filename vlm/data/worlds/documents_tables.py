"""Small tables: a header, rows with a name and whole numbers; cells are named by row and column."""

import random
from dataclasses import dataclass

from vlm.data.sample import Question
from vlm.data.worlds import draw
from vlm.data.worlds.documents_sheet import ORDINALS, Asker, Sheet
from vlm.data.worlds.documents_words import TABLES
from vlm.data.worlds.language import pick
from vlm.data.worlds.tags import CANNOT_TELL

HOLES = 0.3  # of the tables have a cell without a number
LAYOUTS = ("grid", "lined", "striped")
TITLES = ("Results", "Summary", "Report", "Overview", "Table 1", "Table 2", "Statistics", "Weekly", "Totals", "List A")


@dataclass(slots=True, kw_only=True)
class Table:
    """What is printed; cells by row, then column."""

    layout: str
    head: str  # the heading of the first column
    columns: list[str]
    rows: list[str]
    cells: list[list[int | None]]  # None is printed as `blank`
    known: tuple[list[str], list[str]]  # all rows and columns that the topic has
    title: str = ""
    blank: str = ""

    def shown(self, cell: int | None) -> str:
        """A cell as it is printed."""
        return self.blank if cell is None else str(cell)


def table(rng: random.Random, size: int, split: str) -> tuple[Sheet, "TableAsker"]:
    """Invent a table and print it."""
    sheet = Sheet(rng, size, split, mono=0.2, tall=False)
    layout = pick(rng, LAYOUTS)
    for _ in range(40):  # until one is narrow enough
        made = _invent(rng, sheet, layout)
        if _needed(sheet, made) <= sheet.width:
            break
    if rng.random() < HOLES:
        made.cells[pick(rng, range(len(made.rows)))][pick(rng, range(len(made.columns)))] = None
        made.blank = pick(rng, ("-", "-", "?", "n/a"))
        if sheet.measure(made.blank, bold=True) > min(_widths(sheet, made)):
            made.blank = "-"
    _print(rng, sheet, made)
    return sheet, TableAsker(sheet, made, rng, split)


def _invent(rng: random.Random, sheet: Sheet, layout: str) -> Table:
    """A table with as many rows as there is room for, at most, and as many columns."""
    head, entries, ranges = pick(rng, TABLES)
    most = min(sheet.room() - 3, 8)
    n = min(max(2 + int(rng.random() * (most - 1)), 2), len(entries))
    rows = [entries[i] for i in sorted(rng.sample(range(len(entries)), n))]
    if rng.random() < 0.7:
        rng.shuffle(rows)
    names = rng.sample(list(ranges), min(len(ranges), pick(rng, (1, 2, 2, 3, 3, 4))))
    cells: list[list[int | None]] = [[rng.randint(*ranges[c]) for c in names] for _ in rows]
    title = pick(rng, TITLES) if rng.random() < 0.5 else ""
    made = Table(
        layout=layout, head=head, columns=names, rows=rows, cells=cells, title=title, known=(entries, list(ranges))
    )  # fmt: skip
    while _needed(sheet, made) > sheet.width and len(made.columns) > 1:
        made.columns.pop()
        for row in made.cells:
            row.pop()
    while _needed(sheet, made) > sheet.width and len(made.rows) > 2:  # the longest name goes
        i = max(range(len(made.rows)), key=lambda k: sheet.measure(made.rows[k]))
        del made.rows[i], made.cells[i]
    return made


def _widths(sheet: Sheet, made: Table) -> list[float]:
    """How wide each column must be, the first holding the names."""
    first = max(sheet.measure(t, bold=True) for t in (made.head, *made.rows))
    rest = [
        max(sheet.measure(t, bold=True) for t in (name, *(made.shown(row[k]) for row in made.cells)))
        for k, name in enumerate(made.columns)
    ]
    return [first, *rest]


def _needed(sheet: Sheet, made: Table) -> float:
    return sum(_widths(sheet, made)) + 8 * (len(made.columns) + 1)


def _print(rng: random.Random, sheet: Sheet, made: Table) -> None:
    widths = _widths(sheet, made)
    slack = max(sheet.width - sum(widths) - 8 * len(widths), 0) * rng.random()
    whole = [w + 8 + slack / len(widths) for w in widths]
    edges = [0.0]
    for w in whole:
        edges.append(edges[-1] + w)
    shift = (sheet.width - edges[-1]) * rng.random()
    edges = [sheet.left + shift + e for e in edges]
    pitch, extra = sheet.pitch, 1.0 + 0.35 * rng.random()
    if made.title:
        sheet.row((made.title, "c", 0.5), bold=True)
    rows = min(extra, (sheet.bottom - sheet.y) / (pitch * (len(made.rows) + 1)))
    sheet.y += rng.random() * max(sheet.bottom - sheet.y - rows * pitch * (len(made.rows) + 1), 0)
    top, step = sheet.y, rows * pitch
    dark = rng.random() < 0.4
    tint = draw.jitter(rng, pick(rng, ((205, 215, 235), (215, 230, 210), (225, 225, 225), (240, 225, 200))))
    head = draw.jitter(rng, pick(rng, ((40, 60, 110), (30, 90, 70), (70, 70, 70), (120, 40, 50)))) if dark else tint
    if dark or made.layout == "striped":
        sheet.page.box(edges[0], top, edges[-1], top + step, head)
    if made.layout == "striped":
        for k in range(1, len(made.rows), 2):
            sheet.page.box(edges[0], top + (k + 1) * step, edges[-1], top + (k + 2) * step, tint)
    middle = rng.random() < 0.3
    for k, cells in enumerate(
        [[made.head, *made.columns], *([r, *map(made.shown, c)] for r, c in zip(made.rows, made.cells, strict=True))]
    ):
        sheet.y = top + k * step + (step - pitch) / 2
        placed = [(cells[0], "l", (edges[0] + 4 - sheet.left) / sheet.width)]
        for j, text in enumerate(cells[1:], 1):
            x = (edges[j] + edges[j + 1]) / 2 if middle else edges[j + 1] - 4
            placed.append((text, "c" if middle else "r", (x - sheet.left) / sheet.width))
        paint = (245, 245, 245) if dark and not k else None
        sheet.row(*placed, bold=not k and (dark or made.layout != "grid"), paint=paint)
    bottom = top + (len(made.rows) + 1) * step
    if made.layout == "grid":
        for k in range(len(made.rows) + 2):
            sheet.page.rule(edges[0], top + k * step, edges[-1], top + k * step, sheet.ink)
        for x in edges:
            sheet.page.rule(x, top, x, bottom, sheet.ink)
    elif made.layout == "lined":
        for y in (top, top + step, bottom):
            sheet.page.rule(edges[0], y, edges[-1], y, sheet.ink)


class TableAsker(Asker):
    """Asks about a table; a method returns None where it offers nothing of its family."""

    def __init__(self, sheet: Sheet, made: Table, rng: random.Random, split: str):
        super().__init__(sheet, made.layout, rng, split)
        self.made = made

    def retrieve(self) -> Question | None:
        rng, made, family = self.rng, self.made, "document retrieval"
        u = rng.random()
        i, j = pick(rng, range(len(made.rows))), pick(rng, range(len(made.columns)))
        if u < 0.15:
            o = "last" if i == len(made.rows) - 1 else ORDINALS[i] if i < len(ORDINALS) else ""
            return self.say("nth", family, made.rows[i], o=o, head=made.head.lower()) if o else None
        if u < 0.3:
            yes = rng.random() < 0.5
            name = made.rows[i] if yes else self.absent(0)
            return self.yes_no("in table", family, yes, y=name) if name else None
        if u < 0.35 and made.title:
            return self.say("title", family, made.title)
        if made.cells[i][j] is None:
            return None
        return self.say("value", family, str(made.cells[i][j]), x=made.columns[j], y=made.rows[i])

    def cannot_tell(self) -> Question | None:
        """The cell that holds no number, or another one of the table."""
        made, rng = self.made, self.rng
        empty = [(i, j) for i, row in enumerate(made.cells) for j, cell in enumerate(row) if cell is None]
        if not empty:
            return None
        i, j = empty[0]
        if rng.random() < 0.55:
            i, j = pick(rng, range(len(made.rows))), pick(rng, range(len(made.columns)))
        answer = CANNOT_TELL if made.cells[i][j] is None else str(made.cells[i][j])
        return self.say("value", "cannot-tell", answer, x=made.columns[j], y=made.rows[i])

    def reason(self) -> Question | None:
        rng, made, family = self.rng, self.made, "document reasoning"
        u, j = rng.random() * (0.27 if self.split == "test-combos" else 1), pick(rng, range(len(made.columns)))
        values = [v for row in made.cells if (v := row[j]) is not None]
        words = {"x": made.columns[j], "head": made.head.lower()}
        if u < 0.15:
            return self.say("n rows", family, str(len(made.rows)))
        if u < 0.27:
            return self.say("n columns", family, str(len(made.columns) + 1))
        if len(values) < len(made.rows):
            return None
        if u < 0.57:
            best = (max if u < 0.42 else min)(values)
            if values.count(best) > 1:
                return None
            return self.say("highest" if u < 0.42 else "lowest", family, made.rows[values.index(best)], **words)
        if u < 0.8:
            a, b = rng.sample(range(len(values)), 2)
            if values[a] == values[b]:
                return None
            return self.yes_no(
                "higher", family, values[a] > values[b], x=made.columns[j], y=made.rows[a], z=made.rows[b]
            )
        if len(values) > 3:
            return None
        yes, truth = rng.random() < 0.5, sum(values)
        off = pick(rng, (1, 2, 10, 5)) * (-1 if rng.random() < 0.5 and truth > 10 else 1)
        return self.yes_no("column sum", family, yes, x=made.columns[j], n=truth if yes else truth + off)

    def absent(self, axis: int) -> str:
        """A row (0) or column (1) of the topic that this table lacks, "" where it has them all."""
        made = self.made
        there = made.columns if axis else made.rows
        return pick(self.rng, [n for n in made.known[axis] if n not in there] or [""])

    def false_premise(self) -> Question | None:
        """A cell of a row or a column that is not there."""
        rng, made, family = self.rng, self.made, "false-premise"
        axis = int(rng.random() * 2)
        name = self.absent(axis)
        if not name:
            return None
        x, y = (name, pick(rng, made.rows)) if axis else (pick(rng, made.columns), name)
        return self.say("value", family, f"there is no {name}", x=x, y=y)
