"""Llama Guard 3 on our engine: text (1B, 8B) and Vision (11B); Inan et al. 2023, Chi et al. 2024 (arXiv 2411.10414).

Notable here:
- The prompt is the checkpoint's own chat template, never a copy. It asks about the last message of the conversation.
- P(unsafe) is the share of `unsafe` against `safe` in the first token of the answer (Inan et al. 2023, section 4.1).
  Templates that end with the bare header leave it to the model to write the two newlines first; both forms count.
- A whole answer other than `safe`, or `unsafe` and a line of known categories, is unsafe. Where the model is sure to
  say `safe` (the answer with its end has more than half of the probability, so greedy decoding takes it) it is not
  asked to.
- One picture per prompt: several pictures are as many prompts. Long text is read in overlapping windows. Turns for
  which the context has no room are judged alone. The worst verdict counts.
- Typed control tokens stay text (vlm/chat_template.py); the template's own markers, typed, are defused (`defuse`).
"""

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vlm.chat import IGNORE, Chat, ChatError, Prompt, content_parts
from vlm.chat_template import TemplateChat
from vlm.engine import Engine, Limits, Picture, RequestFailed, Sampling
from vlm.guard.policy import Policy, Verdict, worst
from vlm.guard.taxonomy import CATEGORIES
from vlm.image import open_image, preprocess
from vlm.model import VisionLanguageModel, pick_device

ANSWER = 64  # tokens: all thirteen categories take fewer
SLACK = 8  # tokens that the pieces of a text may have more than they had within it
MARKERS = re.compile(r"<(/?\s*(?:BEGIN|END)\s+(?:UNSAFE\s+CONTENT\s+CATEGORIES|CONVERSATION)\s*)>", re.IGNORECASE)
SPEAKER = re.compile(r"((?:^|[\r\v\f\x85\u2028\u2029])[^\S\n]*(?:User|Agent)[^\S\n]*):", re.IGNORECASE | re.MULTILINE)
LISTED = re.compile(r"^(S\d+): *(.*)$", re.MULTILINE)
Turn = tuple[str, str]  # ("user" or "assistant", text)


def parse_answer(text: str) -> Verdict:
    """What a guard said -> verdict: `safe`, or `unsafe` with or without a second line of categories, nothing else."""
    text = text.strip()
    if text == "safe":
        return Verdict(True)
    found = re.fullmatch(r"unsafe(?:\n(S\d+(?: ?, ?S\d+)*))?", text)
    if found is None:
        return Verdict(False, reason="the guard gave no verdict")
    keys = re.findall(r"S\d+", found[1] or "")
    unknown = next((key for key in keys if key not in CATEGORIES), "")
    return Verdict(
        False, tuple(k for k in CATEGORIES if k in keys), reason=f"unknown category {unknown[:8]!r}" if unknown else ""
    )


def defuse(text: str) -> str:
    """Typed markers of the guard's prompt, made harmless: they would end the conversation or begin another turn."""
    return SPEAKER.sub(r"\1 -", MARKERS.sub(r"(\1)", text))


def turns_of(messages: list[dict], response: str | None = None) -> tuple[list[Turn], list[Any]]:
    """Messages -> alternating turns that begin with the user's, and all pictures in order.

    What is not the assistant's (system, tools) counts as the user's: the template knows two speakers, and nothing is
    left out.
    """
    turns: list[Turn] = [("user", "")]
    pictures = []
    for message in [*messages, *([] if response is None else [{"role": "assistant", "content": response}])]:
        parts = content_parts(message)
        pictures += [part["image"] for part in parts if part["type"] == "image"]
        text = defuse("".join(part["text"] for part in parts if part["type"] == "text"))
        role = "assistant" if message["role"] == "assistant" else "user"
        if role == turns[-1][0]:
            turns[-1] = (role, "\n\n".join(t for t in (turns[-1][1], text) if t))
        else:
            turns.append((role, text))
    return turns, pictures


class LlamaGuard:
    """A Llama Guard 3 checkpoint as a guard.

    Args:
        chat: with the checkpoint's chat template.
        policy: categories that are left out of the prompt, thresholds, windows and the time limit.
        source: its name in verdicts.

    Raises:
        ValueError: the template is not of a Llama Guard 3, cannot leave a category out, or the context is too short.
    """

    def __init__(
        self, model: VisionLanguageModel, chat: TemplateChat | Chat | None, policy: Policy | None = None,
        source: str = "llama-guard",
    ):  # fmt: skip
        if not isinstance(chat, TemplateChat):
            raise ValueError(f"{source}: found no chat template, expected that of a Llama Guard 3 beside its weights")
        self.model, self.policy, self.source = model, policy or Policy(), source
        self.chat = self._with_categories(chat)
        tokenizer = chat.tokenizer
        self._unsafe, self._safe = tokenizer.encode("unsafe"), tokenizer.encode("safe")
        if self._unsafe[0] == self._safe[0]:
            raise ValueError(
                f"{source}: 'safe' and 'unsafe' begin with one token, expected two; not a guard's tokenizer"
            )
        self._newlines = tokenizer.encode("\n\n")
        self._control = {id for id, token in tokenizer.rust.get_added_tokens_decoder().items() if token.special}
        self.engine = Engine(
            model, stop_ids=chat.stop_ids, limits=Limits(seconds=self.policy.timeout), tokenizer=tokenizer
        )
        self._limit = model.config.decoder.max_seq_len - ANSWER - SLACK
        room = self._limit - len(self._prompt([("user", "")], None).tokens)
        if room < 2 * SLACK:
            raise ValueError(
                f"{source}: the context of {model.config.decoder.max_seq_len} tokens has no room for a message behind "
                "the template; expected a guard with a longer context"
            )
        self.window = min(self.policy.window, room)
        self.overlap = min(self.policy.overlap, self.window // 2)

    @classmethod
    def load(
        cls, folder: str | Path, policy: Policy | None = None, *, device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> "LlamaGuard":  # fmt: skip
        """Load a folder or hub id; see `vlm.checkpoints.load_checkpoint`."""
        from vlm.checkpoints import load_checkpoint

        place = pick_device(device) if isinstance(device, str) else device
        loaded = load_checkpoint(folder, device=place, dtype=dtype)
        return cls(loaded.model, loaded.chat, policy, f"llama-guard:{Path(folder).name}")

    @property
    def sees(self) -> bool:
        """Whether it reads pictures."""
        return self.chat.image_id is not None

    def check(self, messages: list[dict], response: str | None = None) -> Verdict:
        """Judge the last message, or the response to all of them, in its conversation and with every picture of it.

        Raises:
            ValueError: messages or pictures that cannot be read, pictures for a guard of text, RequestFailed: the
                engine failed, or took longer than the policy's timeout.
        """
        turns, pictures = turns_of(messages, response)
        stage = "response" if turns[-1][0] == "assistant" else "prompt"
        if response is not None and not response.strip():
            return Verdict(True, stage=stage, source="empty")
        pictures = pictures if self.policy.pictures else []
        if not pictures and not any(text.strip() for _, text in turns):
            return Verdict(True, stage=stage, source="empty")
        if pictures and not self.sees:
            raise ValueError(
                f"{self.source} reads text only and {len(pictures)} pictures were given; take a vision guard, or let "
                "pictures pass unjudged with 'pictures: false' in the policy"
            )
        shown: list[Picture | None] = [preprocess(open_image(p), self.model.config.image) for p in pictures]
        *history, (role, text) = turns
        windows = self.windows(text)
        history, alone = self._fit(history, (role, max(windows, key=len)))
        asked = [([*history, (role, piece)], picture) for piece in windows for picture in shown or [None]]
        asked += [([("user", piece)], None) for _, words in alone if words.strip() for piece in self.windows(words)]
        found = worst([self._judge(conversation, picture) for conversation, picture in asked])
        return replace(found, stage=stage, source=self.source)

    def windows(self, text: str) -> list[str]:
        """A text in pieces of at most `window` tokens."""
        return [text[start:end] for start, end in self.spans(text)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where these pieces begin and end, in characters: each shares `overlap` tokens with the one before."""
        ends = self.chat.tokenizer.ends(text)
        if len(ends) <= self.window:
            return [(0, len(text))]
        starts = [0, *ends]  # of each token
        firsts = range(0, len(ends) - self.overlap, self.window - self.overlap)
        return [(starts[i], ends[min(i + self.window, len(ends)) - 1]) for i in firsts]

    def _with_categories(self, chat: TemplateChat) -> TemplateChat:
        """The chat whose prompt lists the policy's categories alone; a template that has them as text is cut."""
        listed = dict(LISTED.findall(_render(chat, ())))
        for key in self.policy.categories:
            words, wanted = _words(listed.get(key, "")), _words(CATEGORIES[key].name)
            if not words & wanted:
                raise ValueError(
                    f"{self.source}: the chat template has {listed.get(key, 'nothing')!r} as {key}, expected "
                    f"{CATEGORIES[key].name!r}; a Llama Guard 3 is needed, or a policy without this category"
                )
        gone = [key for key in self.policy.excluded if key in listed]
        left = {key for key, _ in LISTED.findall(_render(chat, self.policy.excluded))}
        if gone and left != set(listed) - set(gone):
            template = re.sub(rf"(?m)^(?:{'|'.join(gone)}): .*\n", "", chat.template)
            chat = TemplateChat(
                chat.tokenizer, template, special=chat.special, stop_ids=chat.stop_ids, image_id=chat.image_id
            )
            left = {key for key, _ in LISTED.findall(_render(chat, self.policy.excluded))}
        if left != set(listed) - set(gone):
            raise ValueError(
                f"{self.source}: the chat template lists {', '.join(gone)} whatever it is told, so the policy cannot "
                "leave them out; keep them in categories and give them the action log"
            )
        return chat

    def _prompt(self, turns: list[Turn], picture: Picture | None) -> Prompt:
        """The template's prompt; the picture belongs to the last of the user's turns."""
        turns = turns if turns[0][0] == "user" else [("user", ""), *turns]
        holds = max(i for i, (role, _) in enumerate(turns) if role == "user")
        messages = [
            {
                "role": role,
                "content": [
                    *([{"type": "image", "image": picture}] if picture is not None and i == holds else []),
                    {"type": "text", "text": text},
                ],
            }
            for i, (role, text) in enumerate(turns)
        ]
        return self.chat.encode(messages, variables={"excluded_category_keys": list(self.policy.excluded)})

    def _fit(self, history: list[Turn], last: Turn) -> tuple[list[Turn], list[Turn]]:
        """The latest turns that have room before the last one, and the earlier ones."""
        kept = 0
        while kept < len(history) and len(self._prompt([*history[kept:], last], None).tokens) + 2 > self._limit:
            kept += 1
        return history[kept:], history[:kept]

    def _judge(self, turns: list[Turn], picture: Picture | None) -> Verdict:
        """One prompt -> what the model makes of it, by the policy's thresholds."""
        prompt = self._prompt(turns, picture)
        pictures = [] if picture is None else [picture]
        score, surely_safe = self._score(prompt, pictures)
        said = Verdict(True) if surely_safe else parse_answer(self._say(prompt, pictures))
        if said.safe and score >= self.policy.lowest:  # ask for the categories all the same
            lead = [*self._leads(prompt)[-1], *self._unsafe]
            said = parse_answer("unsafe" + self._say(_longer(prompt, lead), pictures))
        elif not said.reason and score < self.policy.lowest:
            said = Verdict(True)
        return self.policy.apply(replace(said, score=score))

    def _leads(self, prompt: Prompt) -> list[list[int]]:
        """What may stand before the verdict: nothing, or newlines where the template ends with the bare header."""
        return [[], self._newlines] if prompt.tokens[-1] in self._control else [[]]

    def _score(self, prompt: Prompt, pictures: list[Picture]) -> tuple[float, bool]:
        """P(unsafe), and whether greedy decoding is sure to say `safe` and end."""
        leads = self._leads(prompt)
        choices = [[*lead, word] for word in (self._unsafe[0], self._safe[0]) for lead in leads]
        choices += [[*lead, *self._safe, stop] for lead in leads for stop in self.chat.stop_ids]
        logprobs = self.engine.rank(prompt, pictures, choices)
        n = len(leads)
        unsafe, safe, whole = _total(logprobs[:n]), _total(logprobs[n : 2 * n]), logprobs[2 * n :]
        score = 1 / (1 + math.exp(min(safe - unsafe, 700.0)))
        if not math.isfinite(safe - unsafe):
            raise RequestFailed("the guard's logits are not finite")
        return score, any(logprob > math.log(0.5) for logprob in whole)

    def _say(self, prompt: Prompt, pictures: list[Picture]) -> str:
        """The greedy answer, control tokens included; what has no end of turn is no answer."""
        (steps,) = self.engine.generate([prompt], [pictures], Sampling(max_new_tokens=ANSWER))
        if steps[-1].error:
            raise RequestFailed(steps[-1].error)
        if steps[-1].finish != "stop":
            return "no end"
        return self.chat.tokenizer.rust.decode([s.token for s in steps[:-1]], skip_special_tokens=False)


def _render(chat: TemplateChat, excluded: Iterable[str]) -> str:
    """The template's prompt for a word, as text."""
    try:
        prompt = chat.encode([{"role": "user", "content": "x"}], variables={"excluded_category_keys": list(excluded)})
    except ChatError as error:
        raise ValueError(f"{error}; not the chat template of a Llama Guard 3") from None
    return chat.tokenizer.rust.decode(prompt.tokens, skip_special_tokens=False)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def _longer(prompt: Prompt, tokens: list[int]) -> Prompt:
    """The prompt with the beginning of the answer."""
    n = len(tokens)
    return replace(
        prompt, tokens=[*prompt.tokens, *tokens], labels=[*prompt.labels, *[IGNORE] * n],
        sees=[*prompt.sees, *prompt.sees[-1:] * n],
    )  # fmt: skip


def _total(logprobs: list[float]) -> float:
    """log of the sum of probabilities."""
    most = max(logprobs)
    return most + math.log(sum(math.exp(p - most) for p in logprobs)) if math.isfinite(most) else most
