"""Forms with filled-in fields and boxes to tick: labels in print, values in another face or ink."""

import random
from dataclasses import dataclass

from vlm.data.sample import Question
from vlm.data.worlds import draw, fonts
from vlm.data.worlds.documents_sheet import Asker, Sheet
from vlm.data.worlds.documents_words import BOXES, FORMS, TRADES, city, code, email, person, phone, shop, street
from vlm.data.worlds.language import pick
from vlm.data.worlds.tags import CANNOT_TELL
from vlm.data.worlds.text import date, price
from vlm.data.worlds.text_page import RISE

EMPTY = 0.4  # of the forms with several fields have one that is not filled in
LAYOUTS = ("ruled", "boxed", "gridded")
FIELDS = {
    "Name": person, "Date": date, "Phone": phone, "Address": street, "City": city, "Email": email, "Company": shop,
    "Member No": code, "Amount": price, "Age": lambda rng: str(rng.randrange(18, 90)), "Birth Date": date,
    "Contact": person, "Order No": code, "Room": lambda rng: str(rng.randrange(1, 900)), "Manager": person,
    "Trade": lambda rng: pick(rng, TRADES), "Quantity": lambda rng: str(rng.randrange(1, 500)), "Due Date": date,
}  # fmt: skip
_INKS = ((25, 40, 130), (20, 60, 160), (25, 25, 30), (60, 60, 70), (120, 20, 40))


@dataclass(slots=True, kw_only=True)
class Form:
    """Fields and boxes as they are printed; the title is "" where there is none."""

    layout: str
    title: str
    fields: list[tuple[str, str]]  # (label, value); of one the value may be "": not filled in
    boxes: list[tuple[str, bool]]  # (label, whether ticked)


def form(rng: random.Random, size: int, split: str) -> tuple[Sheet, "FormAsker"]:
    """Invent a form and print it."""
    sheet = Sheet(rng, size, split, mono=0.15, tall=True)
    layout = pick(rng, LAYOUTS)
    tall = 2 if layout == "boxed" else 1.3
    room = sheet.room() - 0.5
    title = pick(rng, FORMS) if rng.random() < 0.75 else ""
    if title and not sheet.fits(title.upper()):
        title = ""
    room -= 1.5 if title else 0
    rows = 1 + int(rng.random() * 2) if room > tall * 2 + 2 and rng.random() < 0.75 or split == "test-combos" else 0
    labels = ["Name", *rng.sample(list(FIELDS), len(FIELDS))] if rng.random() < 0.7 or split == "test-combos" else \
        rng.sample(list(FIELDS), len(FIELDS))  # fmt: skip
    n = min(int((room - 1.3 * rows) / tall), 7)
    n = max(n - int(rng.random() * 3), 1)
    fields: list[tuple[str, str]] = []
    taken: set[str] = set()
    for label in labels:
        value = FIELDS[label](rng)
        known = label in (f[0] for f in fields) or value in taken
        wide = sheet.fits(value) if layout == "boxed" else sheet.fits(label + ":", value, gap=8)
        if not known and wide and len(fields) < n:
            fields.append((label, value))
            taken.add(value)
    if not fields:
        fields = [("Room", str(rng.randrange(1, 99)))]
    rng.shuffle(fields)
    if len(fields) > 1 and rng.random() < EMPTY:
        k = pick(rng, range(len(fields)))
        fields[k] = (fields[k][0], "")
    names = rng.sample(BOXES, len(BOXES))
    chance = pick(rng, (0.3, 0.5, 0.7))
    boxes: list[tuple[str, bool]] = []
    pairs = []
    for _ in range(rows):
        row = [names.pop()]
        if all(sheet.measure(name) + sheet.point + 6 < sheet.width / 2 for name in (row[0], names[-1])):
            row.append(names.pop())
        pairs.append([(name, rng.random() < chance) for name in row])
        boxes += pairs[-1]
    made = Form(layout=layout, title=title, fields=fields, boxes=boxes)
    _print(rng, sheet, made, pairs, split)
    return sheet, FormAsker(sheet, made, rng, split)


def _print(rng: random.Random, sheet: Sheet, made: Form, pairs: list[list[tuple[str, bool]]], split: str) -> None:
    ink = draw.jitter(rng, pick(rng, _INKS))
    family = sheet.family if rng.random() < 0.5 else pick(rng, fonts.families(split))
    path = pick(rng, (family.regular, family.italic, family.bold))
    widest = max(sheet.measure(label + ":") for label, _ in made.fields)
    values = max(fonts.width(path, sheet.point, value) for _, value in made.fields)
    aligned = widest + 6 + values <= sheet.width and rng.random() < 0.5
    room = sheet.width - 6
    besides = 0.0 if made.layout == "boxed" else widest
    if besides + values > room:  # another face is too wide where the sheet's own was found to fit
        path, aligned = sheet.family.regular, False
    colon = pick(rng, (":", ":", ""))
    if made.title:
        sheet.row((made.title.upper() if rng.random() < 0.5 else made.title, "c", 0.5), bold=True)
        made.title = sheet.lines[-1][0]
        sheet.rule("drawn")
    pitch = sheet.pitch
    for label, value in made.fields:
        if made.layout == "boxed":
            sheet.row((label, "l", 0.0))
            top = sheet.y
            sheet.page.box(sheet.left, top, sheet.right, top + pitch * 0.95, edge=sheet.ink)
            _fill(sheet, sheet.left + 4, value, path, ink)
            sheet.lines += [[value]] if value else []
            sheet.y += pitch
        else:
            top = sheet.y
            sheet.row((label + colon, "l", 0.0))
            x = sheet.left + 6 + (widest if aligned else sheet.measure(label + ":"))
            sheet.y = top
            _fill(sheet, x, value, path, ink)
            sheet.lines[-1] += [value] if value else []
            sheet.y = top + 1.3 * pitch
            low = top + 1.12 * pitch
            if made.layout == "ruled":
                sheet.page.rule(x - 2, low, sheet.right, low, sheet.ink)
            else:
                sheet.page.box(sheet.left - 3, top - 0.1 * pitch, sheet.right + 3, top + 1.2 * pitch, edge=sheet.ink)
    sheet.y += 0.15 * pitch
    mark = pick(rng, ("cross", "tick", "fill"))
    for row in pairs:
        texts = []
        for k, (name, ticked) in enumerate(row):
            x = sheet.left + k * sheet.width / len(row)
            _box(sheet, x, ticked, mark, ink)
            sheet.page.write(
                x + sheet.point + 3, sheet.y + RISE * sheet.point, name, sheet.family.regular, sheet.point, sheet.ink
            )
            texts.append(name)
        sheet.lines.append(texts)
        sheet.y += 1.2 * pitch


def _fill(sheet: Sheet, x: float, value: str, path: str, ink: draw.RGB) -> None:
    baseline = sheet.y + (sheet.pitch - sheet.point * 1.15) / 2 + RISE * sheet.point
    sheet.page.write(x, baseline, value, path, sheet.point, ink)


def _box(sheet: Sheet, x: float, ticked: bool, mark: str, ink: draw.RGB) -> None:
    """A box to tick, left of its label."""
    side, top = sheet.point * 0.8, sheet.y + 0.15 * sheet.point
    sheet.page.box(x, top, x + side, top + side, edge=sheet.ink)
    if ticked and mark == "fill":
        sheet.page.box(x + 2, top + 2, x + side - 2, top + side - 2, ink)
    elif ticked and mark == "cross":
        sheet.page.rule(x + 2, top + 2, x + side - 2, top + side - 2, ink, 2)
        sheet.page.rule(x + 2, top + side - 2, x + side - 2, top + 2, ink, 2)
    elif ticked:
        sheet.page.rule(x + 1, top + side * 0.5, x + side * 0.4, top + side - 2, ink, 2)
        sheet.page.rule(x + side * 0.4, top + side - 2, x + side, top, ink, 2)


class FormAsker(Asker):
    """Asks about a form; a method returns None where it offers nothing of its family."""

    def __init__(self, sheet: Sheet, made: Form, rng: random.Random, split: str):
        super().__init__(sheet, made.layout, rng, split)
        self.made = made
        self.filled = [(label, value) for label, value in made.fields if value]

    def retrieve(self) -> Question | None:
        rng, made, family = self.rng, self.made, "document retrieval"
        u = rng.random()
        if u < 0.12 and made.title:
            return self.say("title", family, made.title)
        if u < 0.35 and made.boxes:
            yes = rng.random() < 0.5
            options = [name for name, ticked in made.boxes if ticked == yes]
            return self.yes_no("tick", family, yes, x=pick(rng, options)) if options else None
        label, value = pick(rng, self.filled)
        if u < 0.5:
            return self.say("label", family, label, label, x=value)
        return self.say("field", family, value, label, x=_spoken(label))

    def reason(self) -> Question | None:
        rng, made, family = self.rng, self.made, "document reasoning"
        ticked = [name for name, on in made.boxes if on]
        u = rng.random()
        if u < 0.35:
            return self.say("n fields", family, str(len(made.fields))) if self.filled == made.fields else None
        if u < 0.7:
            return self.say("n ticked", family, str(len(ticked))) if made.boxes else None
        return self.say("ticked", family, ticked[0]) if len(ticked) == 1 else None

    def cannot_tell(self) -> Question | None:
        """A field that is not filled in, or another one of the form."""
        if self.filled == self.made.fields:
            return None
        [empty] = [label for label, value in self.made.fields if not value]
        label, value = (empty, CANNOT_TELL) if self.rng.random() < 0.5 else pick(self.rng, self.filled)
        return self.say("field", "cannot-tell", value, label, x=_spoken(label))

    def false_premise(self) -> Question | None:
        """A field or a box that is not there."""
        rng, family, made = self.rng, "false-premise", self.made
        if rng.random() < 0.4 and made.boxes:
            name = pick(rng, BOXES)
            return None if name in dict(made.boxes) else self.say("tick", family, f"there is no {name}", x=name)
        label = pick(rng, list(FIELDS))
        if any(FIELDS[label] is FIELDS[other] for other, _ in made.fields):
            return None
        return self.say("field", family, f"there is no {_spoken(label)}", label, x=_spoken(label))


def _spoken(label: str) -> str:
    """A label within a sentence."""
    return label.lower()
