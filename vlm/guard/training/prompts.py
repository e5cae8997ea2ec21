"""Written requests, harmful ones beside harmless ones that share their words, drawn by seed from the corpus's grammar.

Notable here:
- A line of `corpus/*.txt` is a template: `{slot}` draws from slots.txt, `(a|b)` draws in place. `+` and `-` are harmful
  and benign actions that `frames.txt` puts into words, `!` and `=` whole requests; `[family] split` opens a family.
- What decides is who or what the verb is done to, and what is asked about it: most words occur under both labels, and
  so does every frame but those that say by themselves that harm is meant, or that it is asked about from outside.
- Families are held out whole. Nothing is written on child exploitation (S4): it is refused without data.
"""

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlm.guard.taxonomy import CATEGORIES
from vlm.guard.training.ailuminate import SEXUAL, YOUNG
from vlm.guard.training.example import SPLITS, Example

CORPUS = Path(__file__).parent / "corpus"
OTHERS = ("slots", "frames", "carriers", "padding")  # files of the corpus that hold no families
HARMFUL, BENIGN = "+!", "-="
ALTERNATIVES, SLOT = re.compile(r"\(([^()]*\|[^()]*)\)"), re.compile(r"\{(\w+)\}")
DOUBLED = re.compile(r"(?:[^aeiou]|qu)[aeiou][bdgklmnprt]$")  # one consonant after one vowel: stab, stabbing
SPACED = re.compile(r" ([.,?!])")  # what is left of an empty alternative
HEADINGS = 0.2  # of the actions are put as a heading
NOISE = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Family:
    """Templates that belong together: one subject, harmful and benign."""

    name: str
    split: str
    lines: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # mark -> (template, category)


class Grammar:
    """The corpus: slots, frames and families, and how they are put together."""

    def __init__(self, folder: Path = CORPUS):
        self.slots = {name: list(map(str.strip, rest.split("|"))) for name, rest in _named(folder / "slots.txt")}
        self.frames = read_sections(folder / "frames.txt")
        self.carriers = read_sections(folder / "carriers.txt")
        self.padding = read_sections(folder / "padding.txt")
        self.families = [f for path in sorted(folder.glob("*.txt")) if path.stem not in OTHERS
                         for f in read_families(path)]  # fmt: skip

    def expand(self, template: str, rng: random.Random) -> str:
        """A template with every alternative and slot drawn."""
        while found := ALTERNATIVES.search(template):
            chosen = rng.choice(found[1].split("|"))
            template = template[: found.start()] + chosen + template[found.end() :]
        return SPACED.sub(r"\1", " ".join(SLOT.sub(lambda m: self._slot(m[1], rng), template).split()))

    def _slot(self, name: str, rng: random.Random) -> str:
        if name == "nonce":
            return nonce(rng)
        if name == "nonce_name":
            return nonce(rng).capitalize()
        return self.expand(rng.choice(self.slots[name]), rng)

    def variants(self, template: str) -> int:
        """About how many texts a template stands for, at most 1,000."""
        n = 1
        for found in ALTERNATIVES.finditer(template):
            n *= found[1].count("|") + 1
        for found in SLOT.finditer(template):
            n *= len(self.slots.get(found[1], "12345678"))
        return min(n, 1000)

    def frame(self, kind: str, action: str, rng: random.Random) -> str:
        """An action in the words of a frame of some kind."""
        template = self.expand(rng.choice(self.frames[kind]).replace("{doing}", "\0").replace("{do}", "\1"), rng)
        return template.replace("\0", gerund(action)).replace("\1", action)


def examples(seed: int, count: int, split: str, leave_out: str = "", headings: bool = False) -> list[Example]:
    """Requests of the families of a split, half of them unsafe; none where all that are belong to what is left out.

    Args:
        seed, count: the same ones give the same requests.
        split: "train", "val" or "test".
        leave_out: a category of which no harmful request is drawn.
        headings: only what stands over a list; otherwise that is a share of `HEADINGS` of the actions.
    """
    assert split in SPLITS, split
    grammar, rng = load_grammar(), random.Random(f"{seed} {split}")
    pools = {label: _pool(grammar, split, label, leave_out, headings) for label in (HARMFUL, BENIGN)}
    found: dict[str, Example] = {}
    for i in range(count):
        marks = HARMFUL if i % 2 and pools[HARMFUL][0] else BENIGN
        example = _draw(grammar, pools, marks, rng, 1.0 if headings else HEADINGS)
        found.setdefault(example.text.lower(), example)
    return list(found.values())


def _pool(grammar: Grammar, split: str, marks: str, leave_out: str, headings: bool = False) -> tuple[list, list[float]]:
    """Lines with these marks, and how often each is drawn: the more variants it has the more, but not in proportion."""
    lines, weights = [], []
    for family in grammar.families:
        if family.split != split:
            continue
        for mark in marks:
            for template, category in family.lines.get(mark, ()):
                if headings and mark not in "+-" and not template.startswith("{list}"):
                    continue
                if mark in BENIGN or category != leave_out:
                    lines.append((mark, template, category, family.name))
                    weights.append((4 + grammar.variants(template)) ** 0.4)
    return lines, weights


def _draw(grammar: Grammar, pools: dict, marks: str, rng: random.Random, headings: float) -> Example:
    """A request; none about a sexual hazard names the young, whatever frame or preamble it is put in."""
    while True:
        example, category = _draw_any(grammar, pools, marks, rng, headings)
        if category not in SEXUAL or not YOUNG.search(example.text):
            return example


def _draw_any(
    grammar: Grammar, pools: dict, marks: str, rng: random.Random, headings: float
) -> tuple[Example, str]:  # fmt: skip
    """A request, and the hazard that its words are of: a harmful action's also where it is asked about from outside."""
    lines, weights = pools[marks]
    unsafe, shifted = marks == HARMFUL, False
    if not unsafe and headings < 1 and rng.random() < 0.15:  # a harmful action that is asked about from outside
        actions = [(x, w) for x, w in zip(*pools[HARMFUL], strict=True) if x[0] == "+"]
        if actions:  # none where a hazard is left out that all of them are of
            lines, weights = zip(*actions, strict=True)
            shifted = True
    mark, template, category, family = rng.choices(lines, weights)[0]
    text = grammar.expand(template, rng)
    heading = mark in "+-" and not shifted and rng.random() < headings
    if heading:
        text = grammar.frame("heading", text, rng)
    elif shifted:
        text = grammar.frame("benign", text, rng)
    elif mark == "+":
        text = grammar.frame(rng.choices(("neutral", "harmful", "wrapper"), (55, 20, 25))[0], text, rng)
    elif mark == "-":
        text = grammar.frame(rng.choices(("neutral", "wrapper", "benign"), (75, 22, 3))[0], text, rng)
    text = text[:1].upper() + text[1:] if heading else dress(grammar, text, rng)
    example = Example(text, (), unsafe, category if unsafe else "", family, "templates")
    return example, category if unsafe or shifted else ""


def carrier(rng: random.Random, split: str) -> str:
    """What is typed beside a picture of words, harmless by itself; "" now and then."""
    grammar = load_grammar()
    return grammar.expand(rng.choice(grammar.carriers[split]), rng)


def dress(grammar: Grammar, text: str, rng: random.Random) -> str:
    """What people add to a request whatever it is about: sentences before and after it, typing errors, no capitals."""
    text = text[:1].upper() + text[1:]
    if rng.random() < 0.25:
        text = f"{grammar.expand(rng.choice(grammar.frames['preamble']), rng)} {text}"
    if rng.random() < 0.12:
        text = f"{text} {grammar.expand(rng.choice(grammar.frames['ending']), rng)}"
    if rng.random() < 0.15:
        text = misspell(text, rng, 0.03)
    return text.lower() if rng.random() < 0.2 else text


def misspell(text: str, rng: random.Random, rate: float) -> str:
    """Letters dropped, doubled, swapped or replaced, each with probability `rate`."""
    out = list(text)
    for i, letter in enumerate(out):
        if letter.isalpha() and rng.random() < rate:
            kind = rng.randrange(4)
            if kind == 3 and i + 1 < len(out):
                out[i], out[i + 1] = out[i + 1], letter
            else:
                out[i] = ("", letter * 2, rng.choice(NOISE), rng.choice(NOISE))[kind]
    return "".join(out)


def nonce(rng: random.Random) -> str:
    """A word that does not exist."""
    onsets = "b bl d dr f fl g gl gr k kr m n p pl qu sn sp t tr v w x z zw sch".split()
    parts = [rng.choice(onsets) + rng.choice(("a", "e", "i", "o", "u", "oo", "ee", "y"))
             for _ in range(rng.randint(1, 3))]  # fmt: skip
    return "".join(parts) + rng.choice(
        ("", "b", "ck", "g", "ll", "mp", "nk", "rp", "sh", "x", "zz", "ble", "fy", "gle")
    )


def gerund(action: str) -> str:
    """An action with its first verb in -ing: "cut the cake" -> "cutting the cake"."""
    verb, _, rest = action.partition(" ")
    if verb.endswith("ie"):
        verb = verb[:-2] + "y"
    elif verb.endswith("e") and verb[-2:] not in ("ee", "oe", "ye") and len(verb) > 2:
        verb = verb[:-1]
    elif DOUBLED.search(verb) and (len(re.findall("[aeiouy]+", verb)) == 1 or verb in ("commit", "kidnap", "forget")):
        verb += verb[-1]
    return f"{verb}ing {rest}".strip()


@functools.cache
def load_grammar() -> Grammar:
    """The package's own corpus."""
    return Grammar()


def _lines(path: Path) -> Sequence[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]


def _named(path: Path) -> list[tuple[str, str]]:
    named = [line.partition(":") for line in _lines(path)]
    return [(name.strip(), rest) for name, _, rest in named]


def read_sections(path: Path) -> dict[str, list[str]]:
    """Lines under their `[heading]`."""
    found: dict[str, list[str]] = {}
    for line in _lines(path):
        if line.startswith("["):
            found[line.strip("[]")] = []
        else:
            found[list(found)[-1]].append(line)
    return found


def read_families(path: Path) -> list[Family]:
    """The families of a corpus file.

    Raises:
        ValueError: a line that is neither a heading, a category nor a template, with its place.
    """
    families: list[Family] = []
    category = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        mark, rest = line[:1], line[1:].strip()
        if not line.strip() or mark == "#":
            continue
        if mark == "[":
            name, _, split = rest.partition("]")
            families.append(Family(name, split.strip() or "train"))
            category = ""
        elif line.strip() in CATEGORIES and families:
            category = line.strip()
        elif mark in HARMFUL + BENIGN and families and (mark in BENIGN or category):
            families[-1].lines.setdefault(mark, []).append((rest, category))
        else:
            raise ValueError(
                f"{path.name}:{number}: found {line[:40]!r}, expected [family], S1 to S13, or + - ! = text"
            )
        if families[-1].split not in SPLITS:
            raise ValueError(f"{path.name}:{number}: found split {families[-1].split!r}, expected {', '.join(SPLITS)}")
    return families
