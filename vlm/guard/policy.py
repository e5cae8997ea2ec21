"""What a guard judges and what follows from it: a YAML file of `Policy`'s fields, read strictly.

Notable here:
- The guard says what it saw (`Verdict`); the policy says what counts (`apply`) and what is done (`action`).
- What nobody can read (no verdict, an unknown category, a guard that failed) is unsafe and refused, whatever the policy
  says. So is S4.
"""

import os
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vlm.config import from_dict, near_match
from vlm.guard.taxonomy import CATEGORIES, find_category

DEFAULT = Path(__file__).parent / "policies" / "default.yaml"
STAGES = ("prompt", "response")
ACTIONS = ("log", "warn", "refuse")  # from mild to strict
ALWAYS_REFUSED = "S4"


@dataclass(frozen=True)
class Verdict:
    """What a guard found.

    Attributes:
        categories: keys of the taxonomy; empty where it is safe, and where it is unsafe for no category.
        score: P(unsafe) from 0 to 1, None where the guard gives none.
        stage: "prompt", or "response" where the last words were the assistant's.
        source: who judged.
        reason: why it is unsafe for no category of the policy, "guard failed" for example.

    Raises:
        ValueError: anything else; what a score of NaN means, nobody should have to guess.
    """

    safe: bool
    categories: tuple[str, ...] = ()
    score: float | None = None
    stage: str = "prompt"
    source: str = ""
    reason: str = ""

    def __post_init__(self):
        if not isinstance(self.safe, bool):
            raise ValueError(f"safe: found {self.safe!r:.40}, expected True or False")
        if not isinstance(self.categories, tuple) or not all(isinstance(c, str) for c in self.categories):
            raise ValueError(f"categories: found {self.categories!r:.40}, expected a tuple of keys")
        if self.score is not None and not 0 <= self.score <= 1:
            raise ValueError(f"score: found {self.score!r:.40}, expected a probability or None")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for all: unsafe if any is, with every category found and the highest score."""
    first = next((v for v in verdicts if not v.safe), verdicts[0])
    found = {c for v in verdicts for c in v.categories}
    known = tuple(c for c in CATEGORIES if c in found)
    scores = [v.score for v in verdicts if v.score is not None]
    reason = next((v.reason for v in verdicts if v.reason), "")
    others = tuple(sorted(found - set(known)))
    return replace(first, categories=known + others, score=max(scores, default=None), reason=reason)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is judged, how strictly, and what is done about it.

    Args:
        categories: what counts, keys or official names; the others do not enter the guard's prompt.
        threshold: P(unsafe) from which content is unsafe.
        thresholds: the same for single categories.
        action: "refuse", "warn" (the result says so) or "log" (the audit log alone does).
        actions: the same for single categories.
        stages: what is judged: "prompt" before the answer, "response" after it and while it is streamed.
        pictures: False lets pictures pass unjudged, for guards that read text only.
        window, overlap: long text is judged in pieces of so many of the guard's tokens that share so many.
        stream_window, stream_overlap: the same for streamed answers, in the model's tokens; text is held back so long.
        timeout: seconds of one check; a guard that takes longer has failed.
        audit: JSONL file with a line for every check; null writes none.
        audit_contents: True also writes the words; hashes alone otherwise.
    """

    categories: tuple[str, ...] = tuple(CATEGORIES)
    threshold: float = 0.5
    thresholds: dict[str, float] = field(default_factory=dict)
    action: str = "refuse"
    actions: dict[str, str] = field(default_factory=dict)
    stages: tuple[str, ...] = STAGES
    pictures: bool = True
    window: int = 2048
    overlap: int = 256
    stream_window: int = 64
    stream_overlap: int = 32
    timeout: float = 60.0
    audit: str | None = None
    audit_contents: bool = False

    def __post_init__(self):
        keys = {find_category(name).key for name in self.categories}
        object.__setattr__(self, "categories", tuple(key for key in CATEGORIES if key in keys))
        for name in ("thresholds", "actions"):
            object.__setattr__(self, name, _by_key(name, getattr(self, name)))
        for name, value in {"threshold": self.threshold, **self.thresholds}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise ValueError(f"{name}: found {value!r}, expected a probability above 0 and up to 1")
        for name, value in {"action": self.action, **self.actions}.items():
            _one_of(name, value, ACTIONS)
        for stage in self.stages:
            _one_of("stages", stage, STAGES)
        if not self.stages:
            raise ValueError("stages: found none, expected prompt, response or both; without a guard leave guard out")
        for size, shared in (("window", "overlap"), ("stream_window", "stream_overlap")):
            most, found = getattr(self, size), getattr(self, shared)
            if most < 1 or not 0 <= found < most:
                raise ValueError(
                    f"{shared}: found {found} of {size} {most}, expected 0 or more and less than the window"
                )
        if not self.timeout > 0:
            raise ValueError(f"timeout: found {self.timeout}, expected seconds above 0")
        if ALWAYS_REFUSED not in self.categories or self.action_of(ALWAYS_REFUSED) != "refuse":
            name = CATEGORIES[ALWAYS_REFUSED]
            raise ValueError(
                f"{name} cannot be left out or let pass; keep it in categories, with actions: {{S4: refuse}}"
            )
        for key in (*self.thresholds, *self.actions):
            if key not in self.categories:
                raise ValueError(f"{key} has a threshold or an action, but is not among the categories; add it there")

    @property
    def excluded(self) -> tuple[str, ...]:
        """Keys that are not judged."""
        return tuple(key for key in CATEGORIES if key not in self.categories)

    @property
    def lowest(self) -> float:
        """The score from which something may be unsafe."""
        return min(self.threshold, *self.thresholds.values()) if self.thresholds else self.threshold

    def threshold_of(self, key: str) -> float:
        return self.thresholds.get(key, self.threshold)

    def action_of(self, key: str) -> str:
        return self.actions.get(key, self.action)

    def apply(self, verdict: Verdict) -> Verdict:
        """The verdict with what counts by this policy; safe where nothing does."""
        if verdict.safe or verdict.reason:
            return verdict
        if unknown := [c for c in verdict.categories if c not in CATEGORIES]:
            return replace(verdict, reason=f"unknown category {str(unknown[0])[:16]!r}")
        score = 1.0 if verdict.score is None else verdict.score
        kept = tuple(c for c in verdict.categories if c in self.categories and score >= self.threshold_of(c))
        if not kept and (verdict.categories or score < self.threshold):
            return replace(verdict, safe=True, categories=())
        return replace(verdict, categories=kept)

    def action_for(self, verdict: Verdict) -> str:
        """What is done: "pass", or the strictest action of the categories found; what has none is refused."""
        if verdict.safe:
            return "pass"
        if verdict.reason or not verdict.categories:
            return "refuse"
        return max((self.action_of(c) for c in verdict.categories), key=ACTIONS.index)


def _by_key(name: str, given: dict) -> dict:
    """A mapping from keys or names to one from keys."""
    found: dict = {}
    for category, value in given.items():
        key = find_category(category).key
        if key in found:
            raise ValueError(f"{name}: found {key} twice; give it once, as {key} or as {CATEGORIES[key].name!r}")
        found[key] = value
    return found


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        hint = near_match(str(value), known)
        raise ValueError(f"{name}: found {value!r}, expected one of {', '.join(known)}{hint}")


class _Loader(yaml.SafeLoader):
    """YAML where a key given twice is an error: the second would silently lift the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key: Hashable = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.YAMLError(f"the key {key!r} stands there twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_policy(path: str | os.PathLike = DEFAULT) -> Policy:
    """The policy of a YAML file, whose other fields are those of `Policy`.

    Raises:
        ValueError: no YAML, an unknown key, category or action (with the nearest one), or an impossible value.
    """
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise ValueError(f"{path}: no policy can be read ({reason}); see vlm/guard/policies/default.yaml") from None
    try:
        return from_dict(Policy, {} if data is None else data, "policy")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
