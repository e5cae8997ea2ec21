"""Questions of a world by family, asked with their pictures and blind, as tables with intervals.

Notable here:
- As many questions of each family as a table states; PER_PICTURE of a family about one picture at most, for most of the
  time goes into encoding. Intervals are clustered by picture, so that what these share is no evidence twice.
- Blind is measured on every second question of a family: the pictures of another question, no picture at all; and the
  commonest answer of the family on all. Asked without pictures a question has one answer, so it is asked once.
- Pictures are drawn again when they are asked about, some dozens at a time, so that a table of any size takes the
  memory of these; one encode serves all questions about a picture, right and wrong ones.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from tqdm import tqdm

from vlm.api import VLM
from vlm.data.sample import Sample
from vlm.data.worlds import sample
from vlm.evaluation.metrics.stats import mean_score, wilson

PICTURES_AT_ONCE = 64
PER_PICTURE = 3  # questions of a family
PATIENCE = 400  # pictures in a row that offer nothing more of what is wanted
MAX_NEW_TOKENS = 24
NOT_THERE = "there is no "
CANNOT_TELL = "cannot tell"
FALSE_PREMISE = "false-premise"
YES_NO = ("yes", "no", "true", "false")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """An endless series of drawn pictures, a function of these fields alone."""

    world: str
    split: str
    seed: int = 1
    sizes: tuple[int, ...] = (96,)  # px, in turns
    emoji: str | None = None  # zip of Noto emoji; None is the system font

    def draw(self, number: int, families: Sequence[str]) -> Sample:
        """Picture `number` with up to PER_PICTURE questions of each of the families that it offers."""
        return sample(
            number, seed=self.seed, mixture={self.world: 1.0}, size=self.sizes[number % len(self.sizes)],
            split=self.split, n_questions=PER_PICTURE * len(families), families=tuple(families), emoji_path=self.emoji,
        )  # fmt: skip


@dataclass(kw_only=True)
class Asked:
    """A question and, once it was asked, what was said.

    Attributes:
        number, families: what its picture is drawn by: `Stream.draw(number, families)`.
        point: px of the smallest font that the picture is written in; 0 where nothing is, or it is not known.
        blind: whether it is asked with other pictures and without any, too.
        extra: drawn to fill a group alone; it counts in no other row.
        said, wrong_picture, no_picture: the answers.
        confidence: that `said` is right; None for a model that is not calibrated.
        likelihood: geometric mean of the probabilities of the tokens of `said`.
    """

    number: int
    families: tuple[str, ...]
    family: str
    question: str
    answer: str
    point: int = 0
    blind: bool = True
    extra: bool = False
    said: str = ""
    wrong_picture: str = ""
    no_picture: str = ""
    confidence: float | None = None
    likelihood: float = 0.0

    @property
    def right(self) -> bool:
        return same(self.said, self.answer)


Groups = Mapping[str, Callable[[Asked], bool]]


def same(said: str, answer: str) -> bool:
    """Whether an answer is right, case and a closing full stop aside."""
    return said.lower().strip(" .") == answer.lower().strip(" .")


def choose_questions(stream: Stream, wanted: Mapping[str, int]) -> list[Asked]:
    """The first questions of a stream, `wanted[family]` of each, at most PER_PICTURE of a family per picture.

    What a world never offers comes short: then its row says a smaller n.
    """
    left = dict(wanted)
    chosen: list[Asked] = []
    number = idle = 0
    while max(left.values()) > 0 and idle < PATIENCE or len({a.number for a in chosen}) < 2 and number < PATIENCE:
        families = tuple(f for f, n in left.items() if n > 0) or tuple(wanted)
        drawn = stream.draw(number, families)
        point = min((thing.point for thing in drawn.things if thing.point), default=0)
        before, room = len(chosen), {f: min(PER_PICTURE, max(left[f], 1)) for f in families}
        for q in drawn.questions:
            if not room[q.family]:
                continue
            room[q.family] -= 1
            left[q.family] -= 1
            chosen.append(Asked(
                number=number, families=families, family=q.family, question=q.text, answer=q.answer, point=point,
                blind=left[q.family] % 2 != wanted[q.family] % 2,
            ))  # fmt: skip
        idle = 0 if len(chosen) > before else idle + 1
        number += 1
    if not chosen:
        raise ValueError(f"the world {stream.world} asks nothing of {', '.join(wanted)} in the split {stream.split}")
    return chosen


def fill_groups(stream: Stream, chosen: Sequence[Asked], groups: Groups, count: int) -> list[Asked]:
    """What the groups lack of `count` questions each: those of later pictures of the stream that belong to them."""
    found: list[Asked] = []
    number = max(a.number for a in chosen) + 1
    for belongs in groups.values():
        have = [a for a in (*chosen, *found) if belongs(a)]
        families = tuple(dict.fromkeys(a.family for a in have))
        missing, idle = count - len(have), 0
        while missing > 0 and have and idle < PATIENCE:
            drawn = stream.draw(number, families)
            point = min((thing.point for thing in drawn.things if thing.point), default=0)
            asked = [
                Asked(number=number, families=families, family=q.family, question=q.text, answer=q.answer, point=point,
                      blind=(missing - k) % 2 == 0, extra=True)
                for k, q in enumerate(drawn.questions[:PER_PICTURE])
            ]  # fmt: skip
            fitting = [a for a in asked if belongs(a)][:missing]
            found += fitting
            missing, idle = missing - len(fitting), 0 if fitting else idle + 1
            number += 1
    return found


def ask(model: VLM, stream: Stream, questions: list[Asked], batch_size: int = 64, progress: bool = True) -> None:
    """Fill in what the model says to each question with its pictures, and to the blind ones with others and none."""
    by_number: dict[int, list[Asked]] = defaultdict(list)
    for asked in questions:
        by_number[asked.number].append(asked)
    known: dict[str, str] = {}  # answers without pictures
    with tqdm(total=len(questions), desc=f"{stream.world}, {stream.split}", unit="q", disable=not progress) as bar:
        for chunk in even_parts(list(by_number.values()), PICTURES_AT_ONCE):
            shown = [stream.draw(rows[0].number, rows[0].families).pictures for rows in chunk]
            pairs = [(a, i) for i, rows in enumerate(chunk) for a in rows]
            for (a, _), said in zip(pairs, _said(model, [(shown[i], a.question) for a, i in pairs], batch_size),
                                    strict=True):  # fmt: skip
                a.said, a.confidence = str(said), said.confidence
                a.likelihood = math.exp(said.logprob) if said.logprob is not None else 0.0
            blind, other = [(a, i) for a, i in pairs if a.blind], len(chunk) // 2
            wrong = _said(model, [(shown[(i + other) % len(chunk)], a.question) for a, i in blind], batch_size)
            new = list(dict.fromkeys(a.question for a, _ in blind if a.question not in known))
            known |= dict(zip(new, map(str, _said(model, [((), text) for text in new], batch_size)), strict=True))
            for (a, _), said in zip(blind, wrong, strict=True):
                a.wrong_picture, a.no_picture = str(said), known[a.question]
            bar.update(len(pairs))


def even_parts(items: list, most: int) -> Iterator[list]:
    """A list in as few parts of at most `most` as it takes, of nearly equal length."""
    n = math.ceil(len(items) / most)
    for k in range(n):
        yield items[k * len(items) // n : (k + 1) * len(items) // n]


def _said(model: VLM, asked: list[tuple[tuple[Image.Image, ...], str]], batch_size: int) -> list:
    conversations = [
        [{"role": "user", "content": [*({"type": "image", "image": p} for p in pictures),
                                      {"type": "text", "text": question}]}]
        for pictures, question in asked
    ]  # fmt: skip
    return model.generate(conversations, max_new_tokens=MAX_NEW_TOKENS, batch_size=batch_size, temperature=0.0)


def tabulate(questions: list[Asked], families: Iterable[str], groups: Groups | None = None) -> list[dict[str, Any]]:
    """A row for all questions, for each of the groups and for each family, in this order; those of none are left out.

    Returns rows of name, n, accuracy, low and high (95 %), verbatim (case and all), wrong_picture, no_picture and
    majority, all of these as shares; wrong_picture and no_picture None where no question of a row was asked blind.
    """
    whole = [a for a in questions if not a.extra]
    parts = {"all": whole}
    parts |= {name: [a for a in questions if belongs(a)] for name, belongs in (groups or {}).items()}
    parts |= {family: [a for a in whole if a.family == family] for family in families}
    return [{"name": name, **score(part)} for name, part in parts.items() if part]


def score(part: list[Asked]) -> dict[str, Any]:
    """The figures of a row."""
    n = len(part)
    right = [a.right for a in part]
    low, high = interval(right, [a.number for a in part])
    commonest = Counter((a.family, a.answer.lower()) for a in part)
    best = {family: max(k for (f, _), k in commonest.items() if f == family) for family, _ in commonest}
    blind = [a for a in part if a.blind]
    shares: dict[str, float | None] = {
        "accuracy": sum(right) / n,
        "low": low,
        "high": high,
        "verbatim": sum(a.said == a.answer for a in part) / n,
        "wrong_picture": sum(same(a.wrong_picture, a.answer) for a in blind) / len(blind) if blind else None,
        "no_picture": sum(same(a.no_picture, a.answer) for a in blind) / len(blind) if blind else None,
        "majority": sum(best.values()) / n,
    }
    return {
        "n": n,
        "pictures": len({a.number for a in part}),
        **{k: v if v is None else round(v, 4) for k, v in shares.items()},
    }


def interval(right: Sequence[bool], pictures: Sequence[int]) -> tuple[float, float]:
    """95 %, Wilson's over as many independent questions as these are worth.

    Clustered by picture they are worth p (1 - p) / error^2, all answered alike as many as there are pictures.
    """
    n, clusters = len(right), len(set(pictures))
    if clusters == n:
        return wilson(sum(right), n)
    found = mean_score([float(r) for r in right], pictures)
    p, error = found["mean"], found["error"]
    worth = min(p * (1 - p) / error**2, n) if error > 0 else clusters
    return wilson(p * worth, worth)


def refusals(questions: list[Asked]) -> dict[str, dict[str, Any] | None]:
    """How often it is told that a thing is not there, or that the picture does not tell, rightly and wrongly.

    Detected is an answer that begins with the right refusal, a false alarm one to a question that has an answer. Yes/no
    questions and plain counts suppose nothing and are left out.

    Returns: false_premises and cannot_tell, each None where nothing of the kind was asked.
    """
    sure = [a for a in questions if a.family not in (FALSE_PREMISE, "count") and a.answer.lower() not in YES_NO]
    answerable = [a for a in sure if not same(a.answer, CANNOT_TELL)]
    asked = {
        "false_premises": (NOT_THERE, [a for a in questions if a.family == FALSE_PREMISE]),
        "cannot_tell": (CANNOT_TELL, [a for a in questions if same(a.answer, CANNOT_TELL)]),
    }
    return {
        name: {
            "detected": _refused(part, words), "exact": round(sum(a.right for a in part) / len(part), 4),
            "false_alarms": _refused(answerable, words),
        } if part else None
        for name, (words, part) in asked.items()
    }  # fmt: skip


def _refused(part: list[Asked], words: str) -> dict[str, Any]:
    refused = [a.said.lower().startswith(words) for a in part]
    low, high = interval(refused, [a.number for a in part])
    return {"n": len(part), "k": sum(refused), "share": round(sum(refused) / max(len(part), 1), 4),
            "low": round(low, 4), "high": round(high, 4)}  # fmt: skip
