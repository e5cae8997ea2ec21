"""The guard that comes with the package: a small head over the words and the picture.

Notable here:
- Print in pictures is read and judged like typed words; what else they show comes from the shipped model's encoder
  (vlm/guard/reading.py). Around that very model the guard uses its engine, so that a picture is encoded once for the
  guard and the answer; around any other, or once an adapter or quantization has changed the weights, the shipped model
  is loaded beside it, at the first picture.
- Text of any length is judged in windows that overlap, each picture with each window, and sentence after sentence;
  the worst counts.
- It judges the last message alone, and with what was said to the model before; an answer alone, and with its question,
  but without the picture, which was judged before the answer, unless the policy judges answers only.
- S4 is refused by rule, without having been trained on: sexual words and words for minors in one text.
"""

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vlm.chat import content_parts
from vlm.engine import Engine
from vlm.guard import WEIGHTS
from vlm.guard.head import HAZARDS, GuardHead
from vlm.guard.ocr import LineReader
from vlm.guard.policy import ALWAYS_REFUSED, Policy, Verdict, worst
from vlm.guard.reading import Reader, Seen, fingerprint, states_dim
from vlm.guard.words import SHORTEST, normalise, split_words
from vlm.image import open_image

log = logging.getLogger("vlm.guard")
ROWS = 64  # windows that are judged at once
LIKELY = 0.2  # the probability from which a hazard is named beside the likeliest
UNTRAINED = torch.tensor([HAZARDS.index(ALWAYS_REFUSED)])
MINORS = re.compile(
    r"\b(child(?:ren|s|hood)?|kids?|a minor|minors|toddlers?|infants?|underage|preteens?|schoolgirls?|schoolboys?|"
    r"little (?:girl|boy)s?|young (?:girl|boy)s?|teen(?:age|ager|agers|s)?|(?:[1-9]|1[0-7])[ -]years?[ -]olds?)\b"
)
SEXUAL = re.compile(
    r"\b(sex(?:ual|ually|y)?|nudes?|naked|undress\w*|porn\w*|erotic\w*|lewd|molest\w*|grooming|rap(?:e|ed|ing)|"
    r"seduc\w*|intercourse|fetish\w*|orgasm\w*)\b"
)


class SmallGuard:
    """A `GuardHead` as a guard.

    Args:
        policy: the lowest score that may count, and whether pictures are judged.
        source: its name in verdicts.
    """

    sees = True

    def __init__(self, head: GuardHead, policy: Policy | None = None, source: str = "small"):
        self.head, self.policy, self.source = head.eval(), policy or Policy(), source
        self._lock = threading.Lock()
        self._offered: Engine | None = None
        self._reader: Reader | None = None
        self._version = -1  # of the engine that the reader shares; -1 for one of its own

    @classmethod
    def load(cls, folder: str | Path = WEIGHTS, policy: Policy | None = None) -> "SmallGuard":
        """The guard of a folder that `vlm guard train` wrote.

        Raises:
            ValueError: the folder holds none; see `GuardHead.load`.
        """
        name = "default" if Path(folder) == WEIGHTS else Path(folder).name
        return cls(GuardHead.load(folder), policy, f"small:{name}")

    def share(self, engine: Engine) -> None:
        """See pictures with this engine as long as its model is the one that the head was trained with."""
        with self._lock:
            self._offered, self._reader = engine, None

    @property
    def reader(self) -> Reader:
        """Reads and sees pictures, with the engine that was offered or with one of its own."""
        with self._lock:
            stale = self._offered is not None and self._version not in (-1, self._offered.version)
            if self._reader is None or stale:
                self._reader, self._version = self._open()
            return self._reader

    def check(self, messages: list[dict], response: str | None = None) -> Verdict:
        """Judge the last message, or the response to all of them, and every picture of the conversation.

        Raises:
            ValueError: messages or pictures that cannot be read.
        """
        texts, pictures = _words(messages)
        if response is None:
            stage = "response" if messages and messages[-1]["role"] == "assistant" else "prompt"
            judged = [*_alone(texts[-1]), "\n".join(texts)] if len(texts) > 1 else texts
        else:
            stage, pictures = "response", [] if "prompt" in self.policy.stages else pictures
            if not response.strip() or not any(text.strip() for text in texts):
                judged = [response]
            else:
                judged = [*_alone(response), f"{texts[-1]}\n{response}"]
        pictures = pictures if self.policy.pictures else []
        if not pictures and not any(text.strip() for text in judged):
            return Verdict(True, stage=stage, source="empty")
        seen = self.reader.look([open_image(picture) for picture in pictures]) if pictures else []
        return replace(self.judge(judged, seen), stage=stage, source=self.source)

    @torch.inference_mode()
    def judge(self, texts: Sequence[str], seen: Sequence[Seen] = ()) -> Verdict:
        """The worst verdict on any of these texts, alone and beside any of these pictures.

        A harmless picture takes nothing away from what was typed: without that, most of them did.

        Raises:
            ValueError: the head's numbers are not finite.
        """
        sees = self.head.config.picture_dim > 0
        rows = self.head.rows(texts, [(picture.words, picture.states if sees else None) for picture in seen])
        rows.sort(key=lambda row: len(row.ids))  # little is padded where neighbours are alike
        verdicts = [_rule([*texts, *(picture.words for picture in seen)])]
        for first in range(0, len(rows), ROWS):
            some = rows[first : first + ROWS]
            logits, hazards = self.head.scores(some)
            scores, hazards = self.head.probability(logits), hazards.float()
            if not torch.isfinite(scores).all() or not torch.isfinite(hazards).all():
                raise ValueError(f"{self.source}: the scores are not finite; get the guard again")
            verdicts += [self._verdict(float(s), h) for s, h in zip(scores, hazards, strict=True)]
        return worst(verdicts)

    def _verdict(self, score: float, hazards: torch.Tensor) -> Verdict:
        """One row's: its likeliest hazard, and others that are likely, too."""
        if score < self.policy.lowest:
            return Verdict(True, score=score)
        chances = hazards.index_fill(0, UNTRAINED, -torch.inf).softmax(-1).tolist()
        least = min(max(chances), LIKELY)
        return Verdict(False, tuple(h for h, chance in zip(HAZARDS, chances, strict=True) if chance >= least), score)

    def _open(self) -> tuple[Reader, int]:
        wanted, dim, engine = self.head.config.model, self.head.config.picture_dim, self._offered
        printed = LineReader.load()
        if not dim:
            return Reader(printed), -1
        if engine is not None and states_dim(engine.model) == dim and wanted and fingerprint(engine.model) == wanted:
            return Reader(printed, engine), engine.version
        engine = _shipped_engine()
        if states_dim(engine.model) != dim:
            raise ValueError(
                f"{self.source}: reads {dim} numbers of a picture, the shipped model gives "
                f"{states_dim(engine.model)}; train it again: vlm guard train"
            )
        if wanted and fingerprint(engine.model) != wanted:
            log.warning("%s was trained with other weights than the shipped ones: vlm guard train", self.source)
        return Reader(printed, engine), -1


def _alone(text: str) -> list[str]:
    """A text that is judged by itself as well as after what came before; a word or two say nothing by themselves."""
    return [text] if len(split_words(text)) >= SHORTEST else []


def _words(messages: list[dict]) -> tuple[list[str], list]:
    """The words of each turn that has some, and all pictures. What the assistant is said to have said counts only at
    the end, where somebody put it into its mouth."""
    texts, pictures = [], []
    for i, message in enumerate(messages):
        parts = content_parts(message)
        pictures += [part["image"] for part in parts if part["type"] == "image"]
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        if message["role"] != "assistant" or i == len(messages) - 1:
            texts.append(text)
    return texts or [""], pictures


def _rule(texts: Sequence[str]) -> Verdict:
    """Unsafe for S4 where one text speaks of minors and of sex; nothing else, and without a score otherwise."""
    for text in map(normalise, texts):
        if MINORS.search(text) and SEXUAL.search(text):
            return Verdict(False, (ALWAYS_REFUSED,), 1.0)
    return Verdict(True)


def _shipped_engine() -> Engine:
    """The shipped model on the CPU, for the guard alone."""
    from vlm.checkpoints import load_checkpoint
    from vlm.loading import SHIPPED as MODEL

    loaded = load_checkpoint(MODEL, device="cpu", dtype=torch.float32)
    return Engine(loaded.model, stop_ids=frozenset())
