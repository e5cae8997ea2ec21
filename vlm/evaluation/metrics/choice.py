"""Multiple choice and MMMU's open questions: which option an output names, and whether it is right.

- Letters are A, B, C ... in the order of the options. None says that no option could be read: the caller counts it as
  wrong or as a guess (1 / number of options), and reports how many there were. Nothing is guessed here.
- The official MMMU parser draws a random letter instead; where it would, ours says None. It also reads the article of
  "A cell divides" as option A, which `strict` does not.
"""

import re
from collections.abc import Sequence

from vlm.evaluation.metrics.common import as_list, bare, check_variant

VARIANTS = ("official", "strict")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STATED = re.compile(r"(?:answer|option|choice)(?:\s+is|\s+would\s+be)?[\s:=*(\[]+([a-z])(?![\w'’])", re.I)
LEADING = re.compile(r"[\s*(\[]*([A-Za-z])(?:[)\].:*]+(?=\s|$)|\s+[-–—:]\s|\s*$)")
BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]|\*\*([A-Z])\*\*")
# A opens sentences as an article, I is a word: A counts after another word and before "is" or "because", I never.
STANDALONE = re.compile(r"(?<![\w'’.-])([B-HJ-Z]|(?<=[\w,;] )A|A(?=\s+(?:is|because|since)\b))(?![\w'’-])")


def letters_of(options: Sequence[str] | int) -> str:
    """The letters of so many options; ValueError for none or more than 26."""
    n = options if isinstance(options, int) else len(options)
    if not 1 <= n <= len(ALPHABET):
        raise ValueError(f"got {n} options; expected 1 to {len(ALPHABET)}")
    return ALPHABET[:n]


def _last_valid(pattern: re.Pattern[str], text: str, letters: str) -> str | None:
    found = [next(g for g in m.groups() if g) for m in pattern.finditer(text)]
    found = [letter.upper() for letter in found if letter.upper() in letters]
    return found[-1] if found else None


def parse_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter that an output names, or None.

    In this order: "the answer is B" (the last one), a letter that opens the output ("B", "b.", "B) text", "**B**"),
    the text of exactly one option (as the whole output, then inside it), the last letter in brackets, the last lone
    capital (not I, nor the A of an article).
    """
    letters = letters_of(options)
    stated = [m for m in STATED.finditer(text) if m[1].upper() in letters]
    stated = [m for m in stated if m[1].isupper() or not text[m.end() :].strip(" .)]*\n")]  # "the answer is a dog"
    stated = [m for m in stated if m[1] != "A" or not re.match(r"\s+[a-z]", text[m.end() :])]  # "Answer: A dog"
    if stated:
        return stated[-1][1].upper()
    opening = LEADING.match(text)
    if opening and opening[1].upper() in letters:
        return opening[1].upper()
    plain = bare(text).strip()
    same = [letter for letter, option in zip(letters, options, strict=True) if plain and bare(option).strip() == plain]
    if len(same) == 1:
        return same[0]
    padded = f" {' '.join(plain.split())} "
    inside = [
        letter
        for letter, option in zip(letters, options, strict=True)
        if f" {' '.join(bare(option).split())} " in padded
    ]
    if len(inside) == 1:
        return inside[0]
    return _last_valid(BRACKETED, text, letters) or _last_valid(STANDALONE, text, letters)


def parse_mmmu(text: str, options: Sequence[str]) -> str | None:
    """MMMU's parser: last "(B)", else last " B ", else, in more than five words, the last option's text; else None."""
    letters = letters_of(options)
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    for form in ("({})", " {} "):
        places = {letter: text.rfind(form.format(letter)) for letter in letters}
        if max(places.values()) >= 0:
            return max(letters, key=lambda letter: places[letter])
    if len(text.split()) > 5:
        places = {letter: text.lower().rfind(o.lower()) for letter, o in zip(letters, options, strict=True)}
        if max(places.values()) >= 0:
            return max(letters, key=lambda letter: places[letter])
    return None


def parse_scienceqa(text: str, options: Sequence[str]) -> str | None:
    """LLaVA's rule: the bare letter, else "B. " at the start, else exactly one "The answer is B."; else None."""
    letters = letters_of(options)
    if text in tuple("ABCDE"):
        found = text
    elif text[:1] in tuple("ABCDE") and text[1:3] == ". ":
        found = text[0]
    else:
        stated = re.findall(r"The answer is ([A-Z]).", text)
        found = stated[0] if len(stated) == 1 else ""
    return found if found and found in letters[:5] else None


def _right(letter: str | None, answers: str | Sequence[str]) -> float | None:
    return None if letter is None else float(letter in as_list(answers))


def choice(
    prediction: str, answers: str | Sequence[str], options: Sequence[str], variant: str = "strict"
) -> float | None:
    """1.0 / 0.0 whether the named letter is right, None if none is named. `strict` is `parse_letter`, `official`
    `parse_mmmu`.

    `answers` is the right letter, or several.
    """
    check_variant(variant, VARIANTS)
    return _right((parse_letter if variant == "strict" else parse_mmmu)(prediction, options), answers)


def mmmu(
    prediction: str, answers: str | Sequence[str], options: Sequence[str], variant: str = "official"
) -> float | None:
    """MMMU (Yue et al. 2024): `choice` if there are options, else the open question's score."""
    if options:
        return choice(prediction, answers, options, variant)
    check_variant(variant, VARIANTS)
    return mmmu_open(prediction, answers)


def scienceqa(
    prediction: str, answers: str | Sequence[str], options: Sequence[str], variant: str = "llava"
) -> float | None:
    """ScienceQA (Lu et al. 2022) by LLaVA's rule, or `strict`: `parse_letter`."""
    check_variant(variant, ("llava", "strict"))
    return _right((parse_scienceqa if variant == "llava" else parse_letter)(prediction, options), answers)


KEYS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),  # 1,000
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),  # 1e3
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),  # 1.5, the whole part of 1.5e3 never
)


def normalize_open(text: str) -> list[str | float]:
    """A number to two decimals, else lower case; one character is only found beside a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def parse_mmmu_open(text: str) -> set[str | float]:
    """What an output may mean as an answer: per line the shortest tail after a key word, and every number in these
    tails."""
    text = text.strip().strip(".").lower()
    lines = text.split("\n")
    tails = []
    for i, line in enumerate(lines):
        keys = (*KEYS, "=") if i == len(lines) - 1 else KEYS
        found = [line.rsplit(key, 1)[-1].strip() for key in keys if key in line]
        # The first shortest one, but an empty tail gives way to whatever comes after it, as in MMMU's loop.
        tail = ""
        for one in found:
            if not tail or len(one) < len(tail):
                tail = one
        if tail and tail not in tuple(":,.!?;'"):
            tails.append(tail)
    tails = tails or [text]
    numbers = [n for tail in tails for pattern in NUMBERS for n in pattern.findall(tail)]
    return {form for candidate in (*tails, *numbers) for form in normalize_open(candidate)}


def mmmu_open(prediction: str, answers: str | Sequence[str], variant: str = "official") -> float:
    """1.0 if an answer is found as MMMU does: a number must be equal, a text be part of a candidate of
    `parse_mmmu_open`."""
    check_variant(variant, ("official",))
    targets = [form for answer in as_list(answers) for form in normalize_open(answer)]
    texts = [t for t in targets if isinstance(t, str)]
    for candidate in parse_mmmu_open(prediction):
        if candidate in targets if isinstance(candidate, float) else any(t in candidate for t in texts):
            return 1.0
    return 0.0


def rotations(options: Sequence[str], answer: str) -> list[tuple[list[str], str]]:
    """All rotations of the options, each with the letter of the right one: what circular evaluation asks (MMBench)."""
    letters = letters_of(options)
    if answer not in tuple(letters):
        raise ValueError(f"answer {answer!r} is none of {', '.join(letters)}")
    place, n = letters.index(answer), len(letters)
    return [([*options[k:], *options[:k]], letters[(place - k) % n]) for k in range(n)]


def circular(scores: Sequence[float | None]) -> float:
    """1.0 if every rotation of a question was answered right (Liu et al. 2024, section 4.2), else 0.0; unparsed is
    wrong."""
    if not scores:
        raise ValueError("circular got no scores; expected one per rotation of the options")
    return float(all(score == 1.0 for score in scores))
