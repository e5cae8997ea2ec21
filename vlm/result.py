"""What a model says, with its circumstances."""

from typing import Any

OUTSIDE = "This is outside what I was trained on"
WORDS = ((0.9, "very sure"), (0.7, "fairly sure"), (0.4, "unsure"), (0.0, "guessing"))  # from this confidence on


class Result(str):
    """Generated text with its circumstances.

    Attributes:
        finish_reason: "stop", "length", "content_filter" (the guard refused; the text says for what) or "error".
        prompt_tokens, completion_tokens: counts; the end-of-turn token counts.
        seconds: from the request to its last token.
        logprob: mean log-probability of the tokens, None where there are none.
        confidence: calibrated probability that the answer is right, on pictures of the model's worlds; None for a
            model without a calibration, and for an answer that was cut off or is longer than any it was fitted on.
        in_domain: whether every picture is of the worlds that the model was trained on; None without a calibration or
            a picture. Where it is False, the confidence means nothing.
        domain_score: how far the farthest picture lies from those worlds; 1 is the edge, more is outside.
        error: what went wrong with this item, None where nothing did.
        warnings: what the guard found and let pass.
    """

    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    logprob: float | None
    confidence: float | None
    in_domain: bool | None
    domain_score: float | None
    error: str | None
    warnings: tuple[str, ...]

    def __new__(
        cls, text: str, *, finish_reason: str = "stop", prompt_tokens: int = 0, completion_tokens: int = 0,
        seconds: float = 0.0, logprob: float | None = None, error: str | None = None, warnings: tuple[str, ...] = (),
        confidence: float | None = None, domain_score: float | None = None,
    ):  # fmt: skip
        self = super().__new__(cls, text)
        self.finish_reason, self.error, self.warnings = finish_reason, error, warnings
        self.prompt_tokens, self.completion_tokens = prompt_tokens, completion_tokens
        self.seconds, self.logprob = seconds, logprob
        self.confidence, self.domain_score = confidence, domain_score
        self.in_domain = None if domain_score is None else domain_score <= 1
        return self

    @property
    def remark(self) -> str:
        """Beside the answer: that a picture is outside of the worlds, or else how sure the model is; "" of neither."""
        if self.in_domain is False:
            return OUTSIDE
        if self.confidence is None:
            return ""
        share = min(99, max(1, round(100 * self.confidence)))  # never quite sure
        return f"{next(word for least, word in WORDS if self.confidence >= least).capitalize()}, {share} %"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {"text": str(self), **vars(self)}
