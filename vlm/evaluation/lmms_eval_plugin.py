"""Our models inside lmms-eval, which alone imports this file, by the entry point `lmms_eval.models`.

python -m lmms_eval --model gated_vlm --model_args pretrained=FOLDER --tasks mmmu_val --batch_size 16
"""

from functools import partial
from typing import Any

try:
    from lmms_eval.api.model import lmms
    from lmms_eval.models.registry_v2 import ModelManifest
except ImportError:
    raise ImportError("the adapter needs lmms-eval 0.6 or later: pip install lmms-eval") from None

from vlm.evaluation.models import Request, open_model
from vlm.evaluation.runner import BatchSize, halving
from vlm.evaluation.tasks.item import Picture

MANIFEST = ModelManifest(model_id="gated_vlm", chat_class_path="vlm.evaluation.lmms_eval_plugin.GatedVLM")


def to_request(name: str, messages: list[dict[str, Any]], max_new_tokens: int) -> Request:
    """A conversation of lmms-eval's as one request, its turns one after another, pictures in their places.

    Raises:
        ValueError: video or audio.
    """
    words: list[str] = []
    images: list[Picture] = []
    for message in messages:
        parts = message["content"]
        for part in [{"type": "text", "text": parts}] if isinstance(parts, str) else parts:
            if part["type"] == "text":
                words.append(part["text"])
            elif part["type"] == "image":
                source = part["url"]
                images.append(Picture(f"{name}-{len(images)}", partial(lambda found: found, source)))
                words.append(f"<image {len(images)}>")
            else:
                raise ValueError(f"found {part['type']} in the question; this model reads pictures and words")
    if len(images) == 1 and words[0] == "<image 1>":  # the form that is asked in batches
        del words[0]
    return Request(id=name, text="\n".join(words), images=tuple(images), max_new_tokens=max_new_tokens)


def cut(text: str, until: str | list[str] | None) -> str:
    """Text before the first of the stop strings."""
    for stop in [until] if isinstance(until, str) else until or []:
        text = text.split(stop)[0] if stop else text
    return text


class GatedVLM(lmms):
    """Greedy answers in batches, which are halved where memory does not suffice."""

    is_simple = False

    def __init__(
        self, pretrained: str | None = None, device: str = "auto", dtype: str = "auto", batch_size: int | str = "auto",
        max_batch_size: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.tested = open_model(pretrained, device="auto" if device == "cuda" else device, dtype=dtype)
        self.batch = BatchSize(max_batch_size or batch_size)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answers in the order of the requests."""
        asked, stops = [], []
        for i, instance in enumerate(requests):
            _, to_messages, options, doc_id, task, split = instance.args
            messages = to_messages(self.task_dict[task][split][doc_id])
            asked.append(to_request(str(i), messages, options.get("max_new_tokens", 64)))
            stops.append(options.get("until"))
        order = sorted(range(len(asked)), key=lambda i: (asked[i].max_new_tokens, len(asked[i].text)))
        said: dict[int, str] = {}
        for limit in sorted({r.max_new_tokens for r in asked}):
            rows = [i for i in order if asked[i].max_new_tokens == limit]
            answers = [r for results, _ in halving(self.tested, [asked[i] for i in rows], self.batch) for r in results]
            said |= {i: cut(str(answer), stops[i]) for i, answer in zip(rows, answers, strict=True)}
        return [said[i] for i in range(len(asked))]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("gated_vlm generates; choose a task whose output_type is generate_until")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        raise NotImplementedError("gated_vlm answers in one round; choose a task whose output_type is generate_until")
