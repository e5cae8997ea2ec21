"""Charts: answers solved again from what was drawn, words inside the picture, splits that differ as they say."""

import collections
import itertools
import math
import random
import re
import sys
from fractions import Fraction

import pytest

from vlm.data.sample import Sample
from vlm.data.shards import read_shards, write_shards
from vlm.data.worlds import SPLITS, fonts, sample
from vlm.data.worlds.charts import captions, drawn_chart
from vlm.data.worlds.charts_asker import FAMILIES, KIND, Asker
from vlm.data.worlds.charts_spec import HELD_OUT, KINDS
from vlm.data.worlds.charts_text import stamp
from vlm.data.worlds.charts_topics import MEASURES, PALETTES, POOLS
from vlm.data.worlds.language import ask, plural
from vlm.data.worlds.text_page import LETTERS
from vlm.data.worlds.wording_charts import CHARTS

SEED = 7


def draw(i, split="train", size=224, **options):
    return sample(i, seed=SEED, mixture={"charts": 1.0}, split=split, size=size, **options)


def spec(i, split="train", size=224):
    """What sample number i was made from: (chart, sheet, marks)."""
    return drawn_chart(random.Random(f"{split}/{SEED}/{i}"), size, split)


@pytest.fixture(scope="module")
def drawn():
    """The questions and captions of many samples with what they were made from, each drawn once."""
    found = []
    for i in range(300):
        rng = random.Random(f"train/{SEED}/{i}")
        chart, sheet, marks = drawn_chart(rng, 224, "train")
        questions = ask(Asker(chart, rng, "train"), FAMILIES, 8, None)
        found.append(
            (
                Sample(image=sheet.image, world="charts", captions=captions(chart, rng), questions=questions),
                chart,
                sheet,
                marks,
            )
        )
    return found


def digest(s):
    return s.image.tobytes(), s.captions, s.questions


def test_a_chart_depends_on_its_arguments_only():
    forward = [digest(draw(i)) for i in range(12)]
    assert forward == [digest(draw(i)) for i in reversed(range(12))][::-1]
    assert [draw(i, n_questions=2).image.tobytes() for i in range(12)] == [f[0] for f in forward]
    assert all(spec(i)[1].image.tobytes() == f[0] for i, f in enumerate(forward))
    assert len({f[0] for f in forward}) == 12


def test_all_kinds_and_families_come_up(drawn):
    kinds = collections.Counter(chart.kind for _, chart, _, _ in drawn)
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 5
    asked = collections.Counter(q.family for s, *_ in drawn for q in s.questions)
    assert set(asked) == set(FAMILIES) and min(asked.values()) > 300
    for s, *_ in drawn:
        assert len(s.questions) == 8 and len({q.text for q in s.questions}) == 8
        assert len(s.captions) == 2 and all(c[0].isupper() and c[-1] == "." for c in s.captions)
    only = draw(0, families=("chart reasoning",)).questions
    assert only and {q.family for q in only} == {"chart reasoning"}


# ------------------------------------------------------------------------------------------ what is drawn


@pytest.mark.parametrize("size", [96, 160, 224, 336])
def test_text_stands_inside_the_picture_and_apart(size):
    for split, i in itertools.product(SPLITS, range(12)):
        _, sheet, _ = spec(i, split, size)
        assert sheet.image.size == (size, size)
        for (a, p), (b, q) in itertools.combinations(sheet.texts, 2):
            assert not (p[0] < q[2] and p[2] > q[0] and p[1] < q[3] and p[3] > q[1]), (a, b)
        for text, (x0, y0, x1, y1) in sheet.texts:
            assert 0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size, text


def test_what_is_told_is_written(drawn):
    """Names, titles, labels and values that questions may hang on stand in the picture."""
    for _, chart, sheet, _ in drawn:
        texts = collections.Counter(t for t, _ in sheet.texts)
        words = " ".join(t for t, _ in sheet.texts)
        assert all(any(t == name or t.startswith(name + " ") for t in texts) for name in chart.categories)
        if chart.legend:
            assert all(s in texts for s in chart.series if s)
        else:
            assert chart.series == [""]
        assert chart.title in words and (not chart.x_label or chart.x_label in texts)
        assert not chart.y_label or chart.y_label in texts
        if chart.written:
            labels = collections.Counter(chart.number(v) for row in chart.values for v in row)
            assert all(sum(t == v or t.endswith(" " + v) for t in texts.elements()) >= n for v, n in labels.items())


def test_letters_and_coloured_marks_are_things(drawn):
    for i, (_, chart, sheet, marks) in enumerate(drawn[:60]):
        things = draw(i).things
        told = collections.Counter(t.what.removeprefix("char:") for t in things if t.what != "nothing")
        assert told == collections.Counter(c for text, _ in sheet.texts for c in text if c in LETTERS)
        for t in things:
            if t.what == "nothing":
                named = [c for c in chart.colors if c.split()[-1] == t.color]
                assert named and chart.kind != "pie" and t.box in [box for *_, box in marks]
            else:
                x0, y0, x1, y1 = t.box
                assert any(a <= x0 and b <= y0 and x1 <= c and y1 <= d for _, (a, b, c, d) in sheet.texts)


def test_bars_are_as_long_as_their_values(drawn):
    seen = 0
    for _, chart, _, marks in drawn:
        if chart.kind in ("bar", "grouped", "stacked"):
            ends = (0, 2) if chart.horizontal else (1, 3)
            long = {(j, i): box[ends[1]] - box[ends[0]] for j, i, box in marks}
            assert len(long) == len(chart.series) * len(chart.categories)
            unit = sum(long.values()) / sum(map(sum, chart.values))
            assert all(abs(n - unit * chart.values[j][i]) < 2.1 for (j, i), n in long.items())
            seen += 1
    assert seen > 120


def test_colours_stand_out_from_the_ground(drawn):
    for _, chart, sheet, marks in drawn:
        ground = sheet.image.getpixel((0, 0))
        for name in chart.colors:
            assert math.dist(PALETTES[chart.palette][name], ground) > 80
        for j, i, (x0, y0, x1, y1) in marks:
            if chart.kind in ("bar", "grouped") and min(x1 - x0, y1 - y0) > 4:
                middle = sheet.image.getpixel(((x0 + x1) // 2, (y0 + y1) // 2))
                assert middle == PALETTES[chart.palette][chart.paint(j, i)]


# ------------------------------------------------------------------------------------------ answers, solved again

PREPOSITION = r"(?:in|of|at|on|for|from)"
SLOTS = {
    "w": rf"(?P<w>(?: {PREPOSITION} [^,?]+?)?)", "at": rf"(?P<at>{PREPOSITION} .+?)",
    "that": rf"(?P<that>{PREPOSITION} .+?)", "p": rf"{PREPOSITION}", "d": "(?P<d>left|right|top|bottom)",
    "v": r"(?P<v>-?[\d.]+)", "go": "(?P<go>rise|fall)", "rise": "(?P<rise>rise|fall)", "are": "(?:is|are)",
    "more": "(?P<more>higher|larger|greater|lower|smaller)",
    "m": f"(?P<m>value|{'|'.join(sorted({m.name for m in MEASURES}, key=len, reverse=True))})",
    "most": r"(?P<most>(?:\w+ )?(?:largest|highest|greatest|smallest|lowest|most|fewest))",
    "beyond": "(?P<beyond>above|over|greater than|higher than|below|under|lower than)",
    "c": f"(?P<c>{'|'.join(sorted({c for p in PALETTES.values() for c in p}, key=len, reverse=True))})",
}  # fmt: skip
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
KNOWN = {name for pool in POOLS for name in pool.names}


def pattern(template):
    parts = re.split(r"\{(\w+)\}", template)
    body = "".join(re.escape(p) if k % 2 == 0 else SLOTS.get(p, f"(?P<{p}>.+?)") for k, p in enumerate(parts))
    return re.compile(body, re.IGNORECASE)


PATTERNS = [{key: [pattern(t) for t in phrasings[held]] for key, phrasings in CHARTS.items()} for held in (False, True)]


OTHER_MEASURES = {m.name for m in MEASURES}


class Solver:
    """Answers from the spec alone; None where the words do not make sense for the chart."""

    def __init__(self, chart):
        self.chart = chart
        self.names = {n: n for n in (*chart.categories, *chart.series) if n}
        self.scale = 10**chart.decimals

    def line(self, where):
        """The values that " in 2015" leaves: name -> value."""
        c = self.chart
        if not where:
            return None if c.series_pool or not c.values else dict(zip(c.categories, c.values[0], strict=True))
        name = re.sub(rf"^ ?{PREPOSITION} ", "", where)
        if name in c.series:
            return dict(zip(c.categories, c.values[c.series.index(name)], strict=True))
        if name in c.categories and c.series_pool:
            return {s: row[c.categories.index(name)] for s, row in zip(c.series, c.values, strict=True)}
        return None

    def spot(self, at):
        """The value at "in Peru for 2015"; or the name that is not there."""
        found = re.fullmatch(rf"{PREPOSITION} (.+?)(?: {PREPOSITION} (.+))?", at)
        names = [n for n in found.groups() if n]
        if absent := [n for n in names if n not in self.names]:
            return absent[0]
        c = self.chart
        if len(names) != 1 + bool(c.series_pool):
            return None
        i = [c.categories.index(n) for n in names if n in c.categories]
        j = [c.series.index(n) for n in names if n in c.series] or [0]
        return c.values[j[0]][i[0]] if i else None

    def number(self, value):
        return Fraction(value) / self.scale

    def exact(self, *values):
        """Values may be asked for only where they are written or stand on half ticks."""
        half = self.chart.ticks[1] - self.chart.ticks[0]
        assert self.chart.written or all(2 * (v - self.chart.ticks[0]) % half == 0 for v in values)
        return True

    def solve(self, key, g):
        c = self.chart
        nouns = {c.pool.noun} | ({c.series_pool.noun} if c.series_pool else set())
        if key == "value" and g["m"] in OTHER_MEASURES - {c.measure.name} and isinstance(self.spot(g["at"]), int):
            return "cannot tell"
        if "noun" in g and g["noun"] not in nouns or "m" in g and g["m"] not in ("value", c.measure.name):
            return None
        if key in ("value", "exact", "is value"):
            value = self.spot(g["at"])
            if key == "exact" and not c.readable:
                return None if value is None else "cannot tell"
            if value is None or isinstance(value, str):
                return value and f"there is no {value}" if value in KNOWN or str(value).isdigit() else None
            self.exact(value)
            return self.number(value) if key != "is value" else yes(self.number(value) == Fraction(g["v"]))
        row = self.line(g.get("w") or "")
        if "x" in g and "y" in g and row:
            for n in (g["x"], g["y"]):
                if n not in row:
                    return f"there is no {n}" if n not in self.names and (n in KNOWN or n.isdigit()) else None
        return getattr(self, key.replace(" ", "_"))(row, **g)

    def how_many(self, row, xs):
        c = self.chart
        n, k = len(c.categories), len(c.series)
        found = {"bars": n * k, "groups of bars": n, "bars in each group": k, "stacked bars": n, "parts of each bar": k,
                 "slices": n, "lines": k, "colors": k, "points": sum(map(len, c.points)),
                 plural(c.pool.noun): n or k}  # fmt: skip
        if c.series_pool:
            found[plural(c.series_pool.noun)] = k
        for name, points in zip(c.series, c.points, strict=False):
            found[f"points of {name}"] = len(points)
        return found.get(xs)

    def kind(self, row):
        return KIND[self.chart.kind]

    def is_kind(self, row, x):
        return yes(KIND[self.chart.kind] == x) if x in KIND.values() else None

    def horizontal(self, row, x):
        return yes(self.chart.horizontal == (x == "horizontal")) if x in ("horizontal", "vertical") else None

    def has(self, row, x):
        return {"a grid": yes(self.chart.grid), "a legend": yes(bool(self.chart.legend))}.get(x)

    def written(self, row, x="", xs=""):
        return yes(self.chart.written)

    def title(self, row):
        return self.chart.title or "there is no title"

    def axis(self, row, x):
        return (self.chart.x_label if x == "x" else self.chart.y_label) or "there is no label"

    def painted(self):
        names = self.chart.categories if self.chart.by_category else self.chart.series
        return dict(zip(names, self.chart.colors, strict=True))

    def color(self, row, x):
        if x not in self.painted():
            return f"there is no {x}" if x in KNOWN or x.isdigit() else None
        return self.painted()[x]

    def mark_color(self, row, xs):
        return self.chart.colors[0] if xs in ("line", "points", "bars") else None

    def whose_color(self, row, c, noun=""):
        found = [n for n, color in self.painted().items() if color == c.lower()]
        return found[0] if found else f"there is no {c.lower()}"

    def nth(self, row, n, x, d, noun=""):
        names = self.chart.categories if d in ("left", "top") else self.chart.categories[::-1]
        k = ORDINALS.index(n)
        return names[k] if k < len(names) else f"there is no {n} {x}"

    def whose_value(self, row, v, noun="", w="", m=""):
        found = [n for n, value in (row or {}).items() if self.number(value) == Fraction(v)]
        return found[0] if row and len(found) == 1 and self.exact(*row.values()) else None

    def ranked(self, row, most):
        *rank, word = most.split()
        k = ORDINALS.index(rank[0]) if rank else 0
        order = sorted(row, key=row.get, reverse=word in ("largest", "highest", "greatest"))
        gaps = [abs(row[order[k]] - row[order[i]]) for i in (k - 1, k + 1) if 0 <= i < len(order)]
        assert min(gaps) >= self.chart.margin
        return order[k]

    def most(self, row, most, noun="", w="", m=""):
        return self.ranked(row, most) if row and "points" not in w else None

    def most_value(self, row, most, w="", m=""):
        return self.number(row[self.ranked(row, most)]) if row and self.exact(row[self.ranked(row, most)]) else None

    def spread(self, row, most, least, w="", m=""):
        return self.number(max(row.values()) - min(row.values())) if row and self.exact(*row.values()) else None

    def top_two(self, row, most, w="", m=""):
        up = most in ("largest", "highest", "greatest")
        return self.number(sum(sorted(row.values(), reverse=up)[:2])) if row and self.exact(*row.values()) else None

    def median(self, row, w="", m="", nouns=""):
        return self.number(sorted(row.values())[len(row) // 2]) if row and len(row) % 2 else None

    def color_value(self, row, c, mark="", w="", m=""):
        names = [name for name, color in self.painted().items() if color == c.lower()]
        return self.number(row[names[0]]) if row and names and names[0] in row and self.exact(row[names[0]]) else None

    def most_color(self, row, most, mark, w=""):
        return self.painted().get(self.ranked(row, most)) if row and set(row) <= set(self.painted()) else None

    def gap(self, row, x, y, most, noun=""):
        i, j = self.chart.series.index(x), self.chart.series.index(y)
        gaps = [abs(a - b) for a, b in zip(self.chart.values[i], self.chart.values[j], strict=True)]
        best = (max if most in ("largest", "highest", "greatest") else min)(gaps)
        assert gaps.count(best) == 1
        return self.chart.categories[gaps.index(best)]

    def arithmetic(self, row, x, y, f):
        return f(row[x], row[y]) if row and self.exact(row[x], row[y]) else None

    def difference(self, row, x, y, w="", m=""):
        return self.arithmetic(row, x, y, lambda a, b: self.number(abs(a - b)))

    def sum(self, row, x, y, w="", m=""):
        return self.arithmetic(row, x, y, lambda a, b: self.number(a + b))

    def ratio(self, row, x, y, w="", m=""):
        return self.arithmetic(row, x, y, Fraction)

    def average(self, row, x, y, w="", m=""):
        return self.arithmetic(row, x, y, lambda a, b: self.number(Fraction(a + b, 2)))

    def total(self, row, nouns, w="", m=""):
        return self.number(sum(row.values())) if row and self.exact(*row.values()) else None

    def average_of_all(self, row, nouns, w="", m=""):
        return self.number(Fraction(sum(row.values()), len(row))) if row and self.exact(*row.values()) else None

    def count_beyond(self, row, nouns, beyond, v, w="", m=""):
        values = [y for points in self.chart.points for _, y in points] if nouns == "points" else (row or {}).values()
        limit, above = Fraction(v) * self.scale, beyond in ("above", "over", "greater than", "higher than")
        assert all(abs(value - limit) >= self.chart.margin for value in values)
        return sum((value > limit) == above for value in values) if values else None

    def more(self, row, more, x="", y="", at="", that="", w="", m=""):
        if at:
            name, *rest = re.findall(rf"{PREPOSITION} (.+?)(?: {PREPOSITION} (.+))?$", at)[0]
            row, x, y = self.line(" in " + rest[0] if rest[0] else ""), name, re.sub(rf"^{PREPOSITION} ", "", that)
        if not row or x not in row or y not in row:
            return None
        assert abs(row[x] - row[y]) >= self.chart.margin
        return yes((row[x] > row[y]) == is_up(more))

    def sum_more(self, row, x, y, z, more, w="", m=""):
        return yes((row[x] + row[y] > row[z]) == is_up(more)) if row and z in row else None

    def rose_most(self, row, noun="", w="", m="", go="", rise=""):
        if not row:
            return None
        sign = 1 if "rise" in (go, rise) else -1
        steps = {b: sign * (row[b] - row[a]) for a, b in itertools.pairwise(row)}
        best = max(steps, key=steps.get)
        assert steps[best] > 0 and list(steps.values()).count(steps[best]) == 1
        return best

    def trend(self, row, x, y, w="", m="", go="", rise=""):
        if not row or abs(row[x] - row[y]) < self.chart.margin:
            return None
        return yes((row[y] > row[x]) == ("rise" in (go, rise)))

    def won(self, x, y, more):
        c = self.chart
        if x not in c.series or y not in c.series:
            return None
        pairs = zip(c.values[c.series.index(x)], c.values[c.series.index(y)], strict=True)
        return sum((a > b) == is_up(more) for a, b in pairs)

    def in_all(self, row, x, y, more, noun="", nouns=""):
        won = self.won(x, y, more)
        return None if won is None else yes(won == len(self.chart.categories))

    def in_how_many(self, row, x, y, more, noun="", nouns=""):
        return self.won(x, y, more)

    def at_x(self, row, x, v, m):
        found = [b for points in self.chart.points for a, b in points if a == int(v)]
        return self.number(found[0]) if len(found) == 1 and self.exact(*found) else None

    def with_x(self, row, x, m, go):
        points = sorted(p for row in self.chart.points for p in row)
        middle = sum(x for x, _ in points) / len(points)
        agree = sum((a - middle) * b for a, b in points)
        return yes((agree > 0) == (go == "rise"))

    def most_points(self, row, noun, most):
        counts = {s: len(p) for s, p in zip(self.chart.series, self.chart.points, strict=True)}
        best = (max if most == "most" else min)(counts.values())
        [name] = [s for s, n in counts.items() if n == best]
        return name


def yes(true):
    return "yes" if true else "no"


def is_up(more):
    return more in ("higher", "larger", "greater")


def alike(answer, found):
    """Numbers by value, names by letter."""
    if isinstance(found, (int, Fraction)):
        return bool(re.fullmatch(r"-?\d+(\.\d*[1-9])?", answer)) and abs(Fraction(answer) - found) < Fraction(1, 1000)
    return answer == found


def solve(question, chart, held=False):
    """The keys whose phrasing the question is in, where the solver comes to the given answer."""
    keys, other = [], []
    for key, patterns in PATTERNS[held].items():
        for p in patterns:
            if found := p.fullmatch(question.text):
                solver = Solver(chart)
                answer = solver.solve(key, {k: v for k, v in found.groupdict().items() if v is not None})
                if answer is not None:
                    (keys if alike(question.answer, answer) else other).append((key, answer))
    assert keys, (question, other, chart)
    return {key for key, _ in keys}


def test_answers_solved_again(drawn):
    asked = collections.Counter()
    for s, chart, _, _ in drawn:
        for q in s.questions:
            asked.update(solve(q, chart))
            assert (q.family == "false-premise") == q.answer.startswith("there is no ")
    assert set(asked) == set(CHARTS), set(CHARTS) - set(asked)


def test_values_in_captions_are_those_drawn(drawn):
    listed = 0
    for s, chart, _, _ in drawn:
        if chart.readable and chart.values:
            listed += 1
            for row in chart.values:
                for name, v in zip(chart.categories, row, strict=True):
                    assert any(
                        Fraction(n) == Fraction(v, 10**chart.decimals)
                        for n in re.findall(rf"{re.escape(name)} (\d+(?:\.\d+)?)(?=[,;.]|$)", s.captions[1])
                    ), (s.captions, name, v)
    assert listed > 100


# ------------------------------------------------------------------------------------------ balance


def test_yes_and_no_are_equally_frequent(drawn):
    counts = collections.defaultdict(collections.Counter)
    for s, *_ in drawn:
        for q in s.questions:
            if q.answer in ("yes", "no"):
                counts[q.family][q.answer] += 1
                counts["horizontal" if "horizontal" in q.text else q.text.split()[0]][q.answer] += 1
    for family, c in counts.items():
        n = c.total()
        assert n < 40 or abs(c["yes"] - n / 2) < 3 * math.sqrt(n) / 2, (family, c)
    assert counts["chart reasoning"].total() > 100


def test_no_answer_is_frequent(drawn):
    for family in FAMILIES:
        answers = collections.Counter(q.answer for s, *_ in drawn for q in s.questions if q.family == family)
        open_ended = [n for a, n in answers.items() if a not in ("yes", "no", "cannot tell")]
        assert answers["cannot tell"] < 0.6 * answers.total()
        assert max(open_ended) < 0.15 * sum(open_ended), answers.most_common(3)


# ------------------------------------------------------------------------------------------ what is held out


def test_held_out_pairs_are_what_test_combos_draws():
    for split in SPLITS:
        pairs = {(chart.kind, chart.palette) for chart, _, _ in (spec(i, split, 96) for i in range(80))}
        assert pairs == HELD_OUT if split == "test-combos" else not pairs & HELD_OUT
    assert {kind for kind, _ in HELD_OUT} == set(KINDS)


def test_held_out_phrasings_are_new_sentences_of_known_words():
    bare = [{re.sub(r"\{\w+\}", "_", t).lower() for p in CHARTS.values() for t in p[held]} for held in (0, 1)]
    assert not bare[0] & bare[1]
    known, new = (set(re.findall("[a-z]+", " ".join(b))) for b in bare)
    assert new <= known, new - known
    assert all(len(set(a)) >= 4 and len(set(b)) >= 2 for a, b in CHARTS.values())


def test_the_test_split_asks_in_held_out_phrasings():
    for i in range(40):
        chart = spec(i, "test")[0]
        for q in draw(i, "test").questions:
            assert solve(q, chart, held=True)


# ------------------------------------------------------------------------------------------ another hand


def test_matplotlib_draws_the_same_charts():
    pytest.importorskip("matplotlib")
    kinds = set()
    for i in range(14):
        chart, sheet, _ = spec(i, "test-style")
        s = draw(i, "test-style")
        assert s.image.size == (224, 224) and s.image.mode == "RGB" and s.image.tobytes() != sheet.image.tobytes()
        assert digest(s) == digest(draw(i, "test-style"))
        assert len(s.image.getcolors(100_000)) > 20
        for q in s.questions:
            assert solve(q, chart)
        kinds.add(chart.kind)
    assert len(kinds) > 3


def test_only_charts_have_the_style_of_matplotlib(monkeypatch):
    for mixture in ({"scenes": 1.0}, {"charts": 1.0, "text": 1.0}):
        with pytest.raises(ValueError, match="test-style for charts alone"):
            sample(0, seed=1, mixture=mixture, split="test-style")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"gated-vlm\[docs\]"):
        draw(0, "test-style")


# ------------------------------------------------------------------------------------------ elsewhere


def test_charts_need_no_font(monkeypatch):
    caches = (fonts._installed, fonts.families)
    monkeypatch.setattr(fonts, "FOLDERS", ())
    for cache in caches:
        cache.cache_clear()
    try:
        assert all(spec(i)[1].font == "" for i in range(5)) and stamp("", 10, "12").getbbox()
    finally:
        for cache in caches:
            cache.cache_clear()


def test_charts_go_through_shards(tmp_path):
    write_shards(tmp_path / "s", count=3, seed=SEED, mixture={"charts": 1.0}, size=128)
    for i, s in enumerate(read_shards(tmp_path / "s")):
        assert digest(s) == digest(draw(i, size=128))
