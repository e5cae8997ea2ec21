"""Models under test: whatever has `generate(list of requests) -> list of results`, in order.

- A result is a `vlm.api.Result`; what went wrong with one request is an error result in its place. An exception means
  that the run cannot go on, but for the memory errors, after which the runner asks with fewer requests at once.
- `identity` says in plain data what is measured: it stands in the manifest of a run.
- `tiles(height, width)` is the cost of a picture: requests of one cost are batched together.
"""

import hashlib
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm.evaluation.tasks.item import Item, Picture

PLACE = re.compile(r"<image (\d)>")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is put to a model."""

    id: str
    text: str
    images: tuple[Picture, ...] = ()
    max_new_tokens: int = 32


def content(request: Request) -> list[dict[str, Any]]:
    """Message parts: a picture stands where `<image n>` first names it, one that is not named before the words."""
    named = {int(n) for n in PLACE.findall(request.text)}
    parts: list[dict[str, Any]] = [
        {"type": "image", "image": image} for n, image in enumerate(request.images, 1) if n not in named
    ]
    seen: set[int] = set()
    for i, piece in enumerate(PLACE.split(request.text)):  # words and numbers in turns
        if i % 2 and int(piece) <= len(request.images) and int(piece) not in seen:
            seen.add(int(piece))
            parts.append({"type": "image", "image": request.images[int(piece) - 1]})
        elif piece := f"image {piece}" if i % 2 else piece:
            parts.append({"type": "text", "text": piece})
    return parts


def open_pictures(requests: Sequence[Request]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every picture of a batch once, by name, so that one encode serves its questions; and errors of the rest."""
    from vlm.image import ImageError

    opened, wrong = {}, {}
    for image in {image.name: image for r in requests for image in r.images}.values():
        try:
            opened[image.name] = image.open()
        except ImageError as error:
            wrong[image.name] = str(error)
    return opened, wrong


def failed(message: str):
    """An error result."""
    from vlm.api import Result

    return Result("", finish_reason="error", error=" ".join(message.split()))


def fingerprint(module) -> str:
    """Hash of every weight's name, shape, dtype and some 1,024 of its values: any training changes it."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        if isinstance(value, torch.Tensor) and not value.is_meta and value.numel():
            flat = value.detach().flatten()[:: max(1, value.numel() // 1024)]
            digest.update(flat.contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class Ours:
    """A model of `vlm.load`, without a guard: what is measured is the model."""

    def __init__(
        self, name: str | None = None, *, device: str = "auto", dtype: str = "auto", revision: str | None = None
    ):
        import vlm

        self.vlm = vlm.load(name, device=device, dtype=dtype, revision=revision, guard=None)
        described = self.vlm.describe()
        self.identity = {
            "kind": "vlm", "name": name or "shipped", "revision": revision, "parameters": described["parameters"],
            "dtype": described["dtype"], "weights": fingerprint(self.vlm.model),
        }  # fmt: skip

    def tiles(self, height: int, width: int) -> int:
        from vlm.image import choose_canvas

        rows, cols = choose_canvas(height, width, self.vlm.model.config.image)
        return rows * cols

    def generate(self, requests: Sequence[Request]) -> list:
        opened, wrong = open_pictures(requests)
        results: dict[int, Any] = {}
        asked: dict[int, list[dict]] = {}
        for i, request in enumerate(requests):
            if bad := [wrong[image.name] for image in request.images if image.name in wrong]:
                results[i] = failed(bad[0])
                continue
            if not request.text.strip():
                results[i] = failed("the question is empty")
                continue
            parts = content(request)
            parts = [{**p, "image": opened[p["image"].name]} if p["type"] == "image" else p for p in parts]
            asked[i] = [{"role": "user", "content": parts}]
        if asked:
            said = self.vlm.generate(
                list(asked.values()), max_new_tokens=requests[0].max_new_tokens, batch_size=len(asked), temperature=0.0
            )  # fmt: skip
            results |= dict(zip(asked, said, strict=True))
        return [results[i] for i in range(len(requests))]


class Transformers:
    """Any image-text-to-text model of transformers, greedy, in left-padded batches; no code of a model's own is run."""

    def __init__(self, name: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None):
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor, __version__

        from vlm.model import pick_device

        options = {"revision": revision} if revision else {}
        self.processor = AutoProcessor.from_pretrained(name, **options)
        self.processor.tokenizer.padding_side = "left"
        precision = "auto" if dtype == "auto" else getattr(torch, dtype, None)
        if precision not in ("auto", torch.float32, torch.bfloat16, torch.float16):
            raise ValueError(f"--dtype {dtype!r}; expected auto, float32, bfloat16 or float16")
        self.model = AutoModelForImageTextToText.from_pretrained(name, dtype=precision, **options)
        self.model.to(pick_device(device)).eval()  # type: ignore[arg-type]
        ends = self.model.generation_config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.identity = {
            "kind": "transformers", "name": name, "revision": revision, "transformers": __version__,
            "dtype": str(self.model.dtype).removeprefix("torch."), "weights": fingerprint(self.model),
        }  # fmt: skip

    def generate(self, requests: Sequence[Request]) -> list:
        opened, wrong = open_pictures(requests)
        results: dict[int, Any] = {}
        alike: dict[int, list[int]] = defaultdict(list)  # some processors refuse rows of unequal numbers of pictures
        for i, request in enumerate(requests):
            bad = [wrong[image.name] for image in request.images if image.name in wrong]
            if bad:
                results[i] = failed(bad[0])
            else:
                alike[len(request.images)].append(i)
        for rows in alike.values():
            results |= dict(zip(rows, self._batch([requests[i] for i in rows], opened), strict=True))
        return [results[i] for i in range(len(requests))]

    def _batch(self, requests: list[Request], opened: dict[str, Any]) -> list:
        import time

        import torch

        from vlm.api import Result

        start = time.monotonic()
        conversations = [
            [{"role": "user", "content": [
                {**p, "image": opened[p["image"].name]} if p["type"] == "image" else p for p in content(r)]}]
            for r in requests
        ]  # fmt: skip
        inputs = self.processor.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            padding=True,
        ).to(self.model.device)  # fmt: skip
        for key, value in inputs.items():
            if torch.is_floating_point(value):
                inputs[key] = value.to(self.model.dtype)
        with torch.inference_mode():
            out = self.model.generate(**inputs, max_new_tokens=requests[0].max_new_tokens, do_sample=False)
        length, seconds = inputs["input_ids"].shape[1], round(time.monotonic() - start, 4)
        results = []
        for row, mask in zip(out[:, length:].tolist(), inputs["attention_mask"], strict=True):
            stop = next((n for n, token in enumerate(row) if token in self.ends), None)
            said = row[:stop]
            text = self.processor.decode(said, skip_special_tokens=True).strip()
            results.append(Result(
                text, finish_reason="length" if stop is None else "stop", prompt_tokens=int(mask.sum()),
                completion_tokens=len(said) + (stop is not None), seconds=seconds,
            ))  # fmt: skip
        return results


class Majority:
    """Blind: the commonest answer of a question's type, of these very questions; no model reaches less by luck."""

    def __init__(self, items: Sequence[Item]):
        said: dict[str, Counter] = defaultdict(Counter)
        for item in items:
            said[item.type].update(item.answers)
        best = {kind: answers.most_common(1)[0][0] for kind, answers in said.items() if answers}
        self.answers = {item.id: best.get(item.type, "") for item in items}
        self.identity = {"kind": "majority", "name": "the commonest answer of each type"}

    def generate(self, requests: Sequence[Request]) -> list:
        from vlm.api import Result

        return [Result(self.answers[r.id]) for r in requests]


def usual_prompt(name: str | None) -> str | None:
    """The prompt that a model of ours was trained with, where its generation.json names one; nothing is loaded."""
    from vlm.loading import SHIPPED

    path = Path(name or SHIPPED) / "generation.json"
    return json.loads(path.read_text(encoding="utf-8")).get("prompt") if path.is_file() else None


def open_model(name: str | None, *, device: str = "auto", dtype: str = "auto", revision: str | None = None):
    """A folder or hub id of ours, `hf:PATH` for transformers, `openai:URL#MODEL` for an endpoint.

    Raises:
        ValueError: what is wrong with the name or the model.
    """
    kind, sep, rest = (name or "").partition(":")
    if sep and kind == "hf":
        return Transformers(rest, device=device, dtype=dtype, revision=revision)
    if sep and kind == "openai":
        from vlm.evaluation.endpoint import Endpoint

        return Endpoint.parse(rest, key=os.environ.get("OPENAI_API_KEY"))
    if device == "auto" and "LOCAL_RANK" in os.environ:  # torchrun: a process a GPU
        import torch

        device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
    return Ours(name, device=device, dtype=dtype, revision=revision)
