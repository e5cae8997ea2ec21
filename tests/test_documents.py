"""What is to be read: sums are right, answers follow from what is printed, nothing of the test split in training."""

import collections
import random
import re
import sys

import pytest

from vlm.data.worlds import fonts, sample, text_page, wording_text
from vlm.data.worlds.documents_forms import FIELDS, form
from vlm.data.worlds.documents_receipts import SUMS, receipt
from vlm.data.worlds.documents_sheet import HELD_OUT
from vlm.data.worlds.documents_tables import table

WORLDS = {name: sys.modules[f"vlm.data.worlds.{name}"] for name in ("text", "documents")}
SIZES = (96, 160, 224, 336)


def draw(world, n, split="train", size=224, first=0, **options):
    return [sample(i, seed=9, mixture={world: 1.0}, split=split, size=size, **options) for i in range(first, first + n)]


def printed(drawn):
    """The lines of a picture, as its caption gives them."""
    return re.fullmatch(r'The \w+ reads "(.*)"\.', drawn.captions[0])[1].split(" / ")


def covered(drawn):
    return drawn.captions[0].endswith("is covered.")


def cents(text):
    return round(float(re.sub("[^0-9.-]", "", text)) * 100)


# ------------------------------------------------------------------------------------------ receipts


def test_the_sums_of_receipts_are_right():
    """From the printed lines alone: items, subtotal, tax or discount, total, cash, change."""
    labels = {name.lower(): key for key, names in SUMS.items() for name in names}
    checked = collections.Counter()
    for i in range(150):
        sheet, asker = receipt(random.Random(i), pick_size(i), "train")
        found, items = {}, 0
        for row in sheet.lines:
            if len(row) < 2 or not re.search(r"\.\d\d$", row[-1]):
                continue
            key = labels.get(re.sub(r"( \(?rm\)?| \d+%)?:?$", "", row[0].lower()))
            if key:
                assert key not in found
                found[key] = cents(row[-1])
                continue
            assert not set(found), "items stand above the sums"
            items += cents(row[-1])
            if by := re.fullmatch(r"(\d+) x (.*)", row[0]):
                assert int(by[1]) * cents(by[2]) == cents(row[-1])
                checked["products"] += 1
        assert found["total"] == found.get("subtotal", items) + sum(
            found.get(k, 0) for k in ("tax", "discount", "rounding")
        )
        assert "rounding" not in found or (found["total"] % 5 == 0 and abs(found["rounding"]) < 3)
        assert found.get("subtotal", items) == items == sum(asker.costs)
        if "change" in found:
            assert found["cash"] - found["total"] == found["change"] >= 0
        checked.update(found.keys())
    assert min(checked[k] for k in (*SUMS, "products")) > 5, checked


def pick_size(i):
    return SIZES[i % len(SIZES)]


def test_answers_about_receipts_follow_from_what_is_printed():
    solved = collections.Counter()
    for i in range(120):
        sheet, asker = receipt(random.Random(i), pick_size(i), "train")
        lines = [" ".join(row) for row in sheet.lines]
        text = " ".join(lines)
        costs = dict(zip((name for name, *_ in asker.made.items), asker.costs, strict=True))
        for method in (asker.read, asker.retrieve, asker.reason, asker.false_premise, asker.cannot_tell) * 4:
            if not (q := method()):
                continue
            if q.family == "cannot-tell":
                fact = asker.made.facts.get("time" if "time" in q.text else "date")
                assert q.answer == (fact or "cannot tell") and (fact is None or fact in text)
            elif q.family == "read":
                assert q.answer in lines
            elif q.family == "false-premise":
                missing = q.answer.removeprefix("there is no ")
                assert missing not in costs and missing.lower() not in text.lower().replace("tax invoice", "").split()
            elif q.answer not in ("yes", "no") and q.family == "document retrieval":
                assert f" {q.answer} " in f" {text} ", (q, text)
            elif q.answer.isdigit():
                assert int(q.answer) == len(costs)
            elif q.answer not in ("yes", "no"):
                worst = min if re.search("least|cheapest|lowest", q.text) else max
                assert costs[q.answer] == worst(costs.values())
            elif names := [n for n in costs if re.search(rf"(?<!Green )(?<!Iced )\b{re.escape(n)}\b", q.text, re.I)]:
                if re.search("more|higher", q.text):
                    x, y = sorted(names, key=q.text.index)[:2] if len(names) == 2 else (None, None)
                    assert x is None or (q.answer == "yes") == (costs[x] > costs[y])
                else:
                    assert q.answer == "yes"
            elif amount := re.search(r"\d+\.\d\d", q.text):
                truth = sum(asker.costs) if "items" in q.text else asker.made.sums["total"]
                assert (q.answer == "yes") == (cents(amount[0]) == truth)
            else:
                assert q.answer == "no"
            solved[q.family, q.answer in ("yes", "no")] += 1
    assert len(solved) == 7 and min(solved.values()) > 30, solved


# ------------------------------------------------------------------------------------------ forms and tables


def test_answers_about_forms_follow_from_their_fields():
    solved = collections.Counter()
    for i in range(150):
        sheet, asker = form(random.Random(i), pick_size(i), "train")
        fields, boxes = {k.lower(): v for k, v in asker.made.fields}, dict(asker.made.boxes)
        for label, value in asker.made.fields:
            assert not value or any(value in row for row in sheet.lines)
            assert any(label in " ".join(row) for row in sheet.lines)
        for method in (asker.retrieve, asker.reason, asker.false_premise, asker.cannot_tell) * 4:
            if not (q := method()):
                continue
            if q.answer == "cannot tell":
                assert q.family == "cannot-tell"
                [label] = [k for k, v in fields.items() if not v]
                assert label in q.text
            elif q.family == "false-premise":
                missing = q.answer.removeprefix("there is no ")
                assert missing in q.text and missing not in fields and missing not in boxes
            elif q.answer in ("yes", "no"):
                [name] = [n for n in boxes if re.search(rf"\b{n}\b", q.text)]
                assert boxes[name] == (q.answer == "yes")
            elif q.answer.isdigit() and "tick" in q.text:
                assert int(q.answer) == sum(boxes.values())
            elif q.family == "document reasoning" and q.answer.isdigit():
                assert int(q.answer) == len(fields)
            elif q.answer in boxes:
                assert [n for n, on in boxes.items() if on] == [q.answer]
            elif q.answer in FIELDS and fields.get(q.answer.lower(), "?") in q.text:
                solved["label"] += 1
            elif q.answer != asker.made.title:
                [label] = [k for k, v in fields.items() if v == q.answer]
                assert label in q.text
            solved[q.family] += 1
    assert min(solved.values()) > 40, solved


def test_answers_about_tables_follow_from_their_cells():
    solved = collections.Counter()
    for i in range(150):
        sheet, asker = table(random.Random(i), pick_size(i), "train")
        made = asker.made
        start = len(sheet.lines) - len(made.rows) - 1
        columns = sheet.lines[start][1:]
        number = lambda text: int(text) if text.isdigit() else "cannot tell"  # noqa: E731
        cells = {row[0]: dict(zip(columns, map(number, row[1:]), strict=True)) for row in sheet.lines[start + 1 :]}
        assert len(cells) == len(made.rows)
        for method in (asker.retrieve, asker.reason, asker.false_premise, asker.cannot_tell) * 4:
            if not (q := method()):
                continue
            rows = [r for r in cells if re.search(rf"\b{re.escape(r)}\b", q.text)]
            column = next((c for c in columns if re.search(rf"\b{c}\b", q.text)), "")
            if q.family == "false-premise":
                missing = q.answer.removeprefix("there is no ")
                assert missing in q.text and missing not in cells and missing not in columns
            elif re.search("highest|most ", q.text) or re.search("lowest|least", q.text):
                best = max if re.search("highest|most ", q.text) else min
                assert cells[q.answer][column] == best(c[column] for c in cells.values())
                solved["extreme"] += 1
            elif re.search("higher|more ", q.text):
                x, y = sorted(rows, key=q.text.index)
                assert (q.answer == "yes") == (cells[x][column] > cells[y][column])
                solved["higher"] += 1
            elif re.search("sum|add up", q.text):
                [n] = re.findall(r"\d+", q.text)
                assert (q.answer == "yes") == (int(n) == sum(c[column] for c in cells.values()))
                solved["sum"] += 1
            elif q.answer in ("yes", "no"):
                assert (q.answer == "yes") == bool(rows)
            elif column and rows:
                assert q.answer == str(cells[rows[0]][column])
                assert (q.answer == "cannot tell") <= (q.family == "cannot-tell")
                solved["hole" if q.answer == "cannot tell" else "cell"] += 1
            elif q.answer.isdigit():
                assert int(q.answer) == (len(columns) + 1 if "column" in q.text else len(cells))
    assert min(solved[k] for k in ("extreme", "higher", "sum", "cell", "hole")) > 15, solved


# ------------------------------------------------------------------------------------------ the text world


def test_answers_about_text_follow_from_what_is_written():
    solved = collections.Counter()
    for s in draw("text", 200):
        if covered(s):
            continue
        lines = printed(s)
        words = " ".join(lines).split()
        for q in s.questions:
            quoted = re.findall('"(.*?)"', q.text)
            if q.family == "read":
                assert q.answer in (*lines, *words, " ".join(words)), (q, lines)
            elif q.family == "text count":
                kind = re.search("word|line|letter|digit|character", q.text)[0]
                assert int(q.answer) == {"word": len(words), "line": len(lines)}.get(kind, len("".join(words)))
            elif q.answer in ("yes", "no") and quoted:
                assert (q.answer == "yes") == (quoted[0] in (*words, " ".join(words)))
            elif re.search("after|before", q.text):
                i = words.index(quoted[0])
                assert q.answer == words[i + 1 if "after" in q.text else i - 1]
            elif q.family == "text retrieval":
                assert q.answer in words or q.answer in lines
            elif q.family == "false-premise" and quoted:
                assert quoted[0] not in words
            else:
                continue
            solved[q.family] += 1
    assert min(solved.values()) > 20, solved


def test_what_a_blot_covers_cannot_be_told(monkeypatch):
    """The letters that are left, in order, are told by their numbers; one number is missing."""
    solved = collections.Counter()
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "last")
    written: list = []
    module = WORLDS["text"]
    real = module._sign
    monkeypatch.setattr(module, "_sign", lambda *args: written.append(real(*args)) or written[-1])
    for i in range(300):
        written.clear()
        [s] = draw("text", 1, first=i)
        if not covered(s):
            continue
        words = [w.text for line in written[0] for w in line]
        units = words if len(words) > 1 else list(words[0])
        assert {q.family for q in s.questions} <= {"attribute", "cannot-tell"}
        shown = "".join(t.what.removeprefix("char:") for t in s.things)
        for q in s.questions:
            if q.family != "cannot-tell":
                continue
            k = ordinals.index(next(o for o in ordinals if o in q.text))
            k = len(units) - 1 if ordinals[k] == "last" else k
            left = "".join(units[:k] + units[k + 1 :])
            assert (q.answer == "cannot tell") == (left == shown), (q, units, shown)
            assert q.answer in ("cannot tell", units[k])
            solved[q.answer == "cannot tell"] += 1
    assert min(solved.values()) > 15, solved


def test_held_out_pairs_of_ink_and_ground_are_kept_for_their_split():
    pairs = {f"in {ink} on {ground}." for ink, ground in WORLDS["text"].HELD_OUT}
    for split in ("train", "val", "test"):
        assert not any(s.captions[1].endswith(p) for s in draw("text", 120, split, n_questions=0) for p in pairs)
    assert all(any(s.captions[1].endswith(p) for p in pairs) for s in draw("text", 60, "test-combos", n_questions=0))


# ------------------------------------------------------------------------------------------ both


@pytest.mark.parametrize("world", WORLDS)
def test_fonts_held_out_are_never_drawn_in_training(world, monkeypatch):
    """The files that glyphs are taken from, against the families; with no font installed all splits share one."""
    held = {p for f in fonts.families("test") for p in (f.regular, f.bold, f.italic)} - {""}
    assert all(f.name in fonts.HELD_OUT for f in fonts.families("test") if f.regular)
    real, used = fonts.glyph, set()
    monkeypatch.setattr(fonts, "glyph", lambda path, *rest: used.add(path) or real(path, *rest))
    for split in ("train", "val", "test-combos"):
        draw(world, 40, split, n_questions=0)
        assert used and not used & held
        used.clear()
    draw(world, 40, "test", n_questions=0)
    assert used and used <= (held or {""})


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("size", SIZES)
def test_everything_written_lies_inside_the_picture(world, size):
    """No glyph is cut at the edge, and all that the caption reads was written at 10 px or more."""
    for s in draw(world, 25, size=size, n_questions=0):
        shown = [t.what.removeprefix("char:") for t in s.things]
        assert covered(s) or sorted(shown) == sorted(c for c in "".join(printed(s)) if c in text_page.LETTERS)
        for t in s.things:
            assert t.box[0] > 0 and t.box[1] > 0 and t.box[2] < size and t.box[3] < size, (t, s.captions)


def test_text_is_at_least_ten_pixels(monkeypatch):
    real, sizes = fonts.glyph, collections.Counter()
    monkeypatch.setattr(fonts, "glyph", lambda p, size, *rest: sizes.update([size]) or real(p, size, *rest))
    for size in (96, 224):
        for world in WORLDS:
            draw(world, 20, size=size, n_questions=0)
    assert min(sizes) >= 10


def test_fields_held_out_are_asked_in_their_split_alone():
    for split in ("train", "test-combos"):
        for make in (receipt, form, table):
            for i in range(40):
                _, asker = make(random.Random(i), 224, split)
                for layout, key in HELD_OUT:
                    if layout == asker.layout and key in wording_text.DOCUMENTS:
                        asked = asker.say(key, "", "", x="X", y="Y", head="H")
                        assert (asked is not None) == (split == "test-combos")
    for s in draw("documents", 40, "test-combos"):
        assert s.questions and not any(q.family == "read" for q in s.questions)
