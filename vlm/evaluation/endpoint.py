"""Any OpenAI-compatible endpoint as a model under test; pictures travel as data URLs.

Busy servers (408, 429, 5xx), broken connections and garbage are asked again, each time after twice the pause; what a
server refuses for good (400, 413, 422) is an error result; a wrong address or key ends the run.
"""

import base64
import http.client
import io
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vlm.evaluation.models import Request, content, failed

LATER = {408, 409, 425, 429}
REFUSED = {400, 413, 415, 422}


class Endpoint:
    """A model behind `URL/chat/completions`.

    Args:
        url: such as http://localhost:8000/v1.
        model: its name there.
        key: sent as a bearer token.
        attempts: how often one request is tried.
        pause: seconds before the second try.
        timeout: seconds of one try.
    """

    def __init__(
        self, url: str, model: str, *, key: str | None = None, attempts: int = 6, pause: float = 1.0,
        timeout: float = 300.0,
    ):  # fmt: skip
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"endpoint {url!r}: expected openai:http://HOST:PORT/v1#MODEL")
        self.url, self.model, self.key = url.rstrip("/"), model, key
        self.attempts, self.pause, self.timeout = attempts, pause, timeout
        self.identity = {"kind": "openai", "name": model, "url": self.url}

    @classmethod
    def parse(cls, text: str, key: str | None = None) -> "Endpoint":
        """URL#MODEL -> an endpoint."""
        url, sep, model = text.rpartition("#")
        if not sep or not model:
            raise ValueError(f"endpoint {text!r}: names no model; expected openai:http://HOST:PORT/v1#MODEL")
        return cls(url, model, key=key)

    def generate(self, requests: Sequence[Request]) -> list:
        """As many requests at once as there are."""
        if not requests:
            return []
        with ThreadPoolExecutor(max_workers=len(requests)) as pool:
            return list(pool.map(self._ask, requests))

    def _ask(self, request: Request):
        from vlm.api import Result
        from vlm.image import ImageError

        try:
            parts = [_part(p) for p in content(request)]
        except ImageError as error:
            return failed(str(error))
        body = {
            "model": self.model, "messages": [{"role": "user", "content": parts}],
            "max_tokens": request.max_new_tokens, "temperature": 0,
        }  # fmt: skip
        trouble, start = "", time.monotonic()
        for attempt in range(self.attempts):
            wait = self.pause * 2**attempt * random.uniform(0.75, 1.25)
            try:
                said = self._post(body)
                choice, usage = said["choices"][0], said.get("usage") or {}
                return Result(
                    choice["message"]["content"].strip(), finish_reason=choice.get("finish_reason") or "stop",
                    prompt_tokens=usage.get("prompt_tokens", 0), completion_tokens=usage.get("completion_tokens", 0),
                    seconds=round(time.monotonic() - start, 4),
                )  # fmt: skip
            except urllib.error.HTTPError as error:
                trouble = f"{error.code} {error.reason}"
                if error.code in REFUSED:
                    return failed(f"{self.url}: {trouble}: {error.read(300).decode(errors='replace')}")
                if error.code not in LATER and error.code < 500:
                    raise ValueError(
                        f"{self.url}: {trouble}; check the address, the model's name and OPENAI_API_KEY"
                    ) from None
                after = error.headers.get("Retry-After", "")
                wait = max(wait, min(float(after), 60)) if after.isdigit() else wait
            except (OSError, http.client.HTTPException) as error:
                trouble = str(error) or type(error).__name__
            except (ValueError, LookupError, TypeError, AttributeError):
                trouble = "the answer is no chat completion"
            if attempt + 1 < self.attempts:
                time.sleep(wait)
        return failed(f"{self.url}: {trouble}, {self.attempts} times")

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as reply:
            return json.loads(reply.read())


def _part(part: dict[str, Any]) -> dict[str, Any]:
    return (
        {"type": "image_url", "image_url": {"url": data_url(part["image"].open())}} if part["type"] == "image" else part
    )


def data_url(image, side: int | None = None) -> str:
    """A PIL picture as a PNG data URL; with `side` a JPEG no larger than that, for a report."""
    file = io.BytesIO()
    if side:
        image = image.copy()
        image.thumbnail((side, side))
        image.save(file, "JPEG", quality=80)
    else:
        image.save(file, "PNG")
    kind = "jpeg" if side else "png"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
