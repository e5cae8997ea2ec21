"""Messages -> tokens through the chat template that a checkpoint brings along, rendered in transformers' sandbox.

Notable here:
- `TemplateChat` has the face of `vlm.chat.Chat`; the wording is the checkpoint's own, never a copy.
- Control tokens typed by anyone stay text: they travel through the template as private-use characters, and the text
  between two real control tokens that holds such a character is encoded with control tokens switched off.
- The template writes begin-of-text itself; nothing is added, so there is never a second one.
- Labels: the assistant's words are marked with two private-use characters in a second rendering, which counts only
  where it is otherwise equal to the first.
"""

import itertools
import re
from bisect import bisect_left

from tokenizers import Tokenizer as RustTokenizer

from vlm.chat import IGNORE, ChatError, Prompt, Tokenizer, content_parts, picture_visibility

PLAIN = (  # of base models, which continue text: all contents one after another
    "{{ bos_token }}{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}{{ image_token }}{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}"
)
PROBE = "quokka"  # a word that no template has


class TemplateChat:
    """A checkpoint's own chat layout.

    Args:
        template: Jinja source.
        special: the template's variables bos_token, eos_token and so on.
        stop_ids: ids that end a turn.
        image_id: the image token, None for a model of text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str,
        *,
        special: dict[str, str],
        stop_ids: frozenset[int],
        image_id: int | None,
    ):
        self.tokenizer, self.template, self.special = tokenizer, template, dict(special)
        self.stop_ids, self.image_id = frozenset(stop_ids), image_id
        pad = tokenizer.id(special.get("pad_token", ""))
        self.pad_id = pad if pad is not None else min(stop_ids, default=0)
        self._control = {
            token.content: id for id, token in tokenizer.rust.get_added_tokens_decoder().items() if token.special
        }
        self._is_control = re.compile("|".join(map(re.escape, sorted(self._control, key=len, reverse=True))) or r"(?!)")
        self._reads: dict[tuple[str, bool], bool] = {}
        self._text: RustTokenizer | None = None

    def encode(self, messages: list[dict], *, generate: bool = True, variables: dict | None = None) -> Prompt:
        """Lay messages out as one row; with `generate` the assistant's turn stands open at the end.

        `variables` are further ones of the template (date_string, categories ...). Without `generate` a template that
        rewrites the assistant's words is an error, because then nobody can say which tokens carry loss.
        """
        if not messages:
            raise ChatError("no messages; give at least one {'role': 'user', 'content': ...}")
        turns = [(message["role"], content_parts(message), isinstance(message["content"], str)) for message in messages]
        images = [part["image"] for _, parts, _ in turns for part in parts if part["type"] == "image"]
        if images and self.image_id is None:
            raise ChatError("this model reads text only; leave the pictures out or load a vision model")
        marks = _unused("".join(part.get("text", "") for _, parts, _ in turns for part in parts))
        begin, end = next(marks), next(marks)
        typed = {
            next(marks): token
            for token in self._control
            if any(token in p.get("text", "") for _, ps, _ in turns for p in ps)
        }

        def render(mark: bool) -> str:
            hidden = [
                self._message(*turn, typed, (begin, end) if mark and turn[0] == "assistant" else None) for turn in turns
            ]
            return self._render(hidden, generate, variables)

        text = render(mark=False)
        spans: list[tuple[int, int]] = []
        if any(role == "assistant" for role, _, _ in turns):
            marked = render(mark=True)
            if re.sub(f"[{begin}{end}]", "", marked) == text and end in marked:
                spans = self._spoken(marked, begin, end, turns, typed)
            elif not generate:
                raise ChatError(
                    "the checkpoint's chat template rewrites the assistant's words; train with the project's own layout"
                )
        tokens, labels = self._tokens(text, typed, spans)
        shown = tokens.count(self.image_id) if self.image_id is not None else 0
        if shown != len(images):
            raise ChatError(
                f"the checkpoint's chat template shows {shown} of {len(images)} pictures; give as many as it can show"
            )
        return Prompt(tokens=tokens, labels=labels, sees=picture_visibility(tokens, self.image_id), images=images)

    def _message(self, role: str, parts: list[dict], is_string: bool, typed: dict[str, str], marks) -> dict:
        """A message as the template is to see it, in the form (string or parts) that the template reads."""
        texts: list[str] = [part.get("text", "") for part in parts]
        for sentinel, token in typed.items():
            texts = [text.replace(token, sentinel) for text in texts]
        spoken = [i for i, text in enumerate(texts) if text.strip()]
        if marks and spoken:  # inside the white space at either end, which templates may trim
            first, last = spoken[0], spoken[-1]
            texts[first] = re.sub(r"(?s)^(\s*)", lambda m: m[1] + marks[0], texts[first], count=1)
            texts[last] = texts[last].rstrip() + marks[1] + texts[last][len(texts[last].rstrip()) :]
        if any(part["type"] == "image" for part in parts):
            is_string = self._understands(role, True) and not self._understands(role, False)
        elif not self._understands(role, is_string):
            is_string = not is_string if self._understands(role, not is_string) else is_string
        if is_string:  # a template of text takes pictures as their token among the words
            pairs = zip(parts, texts, strict=True)
            words = [self._image_token() if part["type"] == "image" else text for part, text in pairs]
            return {"role": role, "content": "".join(words)}
        shown = [
            {"type": "image"} if part["type"] == "image" else {"type": "text", "text": text}
            for part, text in zip(parts, texts, strict=True)
        ]
        return {"role": role, "content": shown}

    def _image_token(self) -> str:
        if self.image_id is None:
            return ""
        token = self.tokenizer.rust.id_to_token(self.image_id)
        assert token is not None, "a token of this tokenizer"
        return token

    def _understands(self, role: str, as_string: bool) -> bool:
        """Whether the template prints a message of this role when its content is a string, or a list of parts."""
        if (role, as_string) not in self._reads:
            probe = {"role": role, "content": PROBE if as_string else [{"type": "text", "text": PROBE}]}
            user = {"role": "user", "content": "x" if as_string else [{"type": "text", "text": "x"}]}
            try:
                text = self._render(
                    [probe] if role == "user" else [probe, user] if role == "system" else [user, probe], False, None
                )
                self._reads[role, as_string] = PROBE in text and not re.search(rf"text\W+{PROBE}", text)
            except ChatError:
                self._reads[role, as_string] = False
        return self._reads[role, as_string]

    def _render(self, messages: list[dict], generate: bool, variables: dict | None) -> str:
        import jinja2
        from transformers.utils.chat_template_utils import render_jinja_template

        given = {"image_token": self._image_token()}
        given |= self.special | (variables or {}) | {"add_generation_prompt": generate}
        try:
            rendered: list[str] = render_jinja_template([messages], chat_template=self.template, **given)[0]  # type: ignore
        except jinja2.TemplateSyntaxError as error:
            raise ChatError(
                f"the checkpoint's chat template is no valid Jinja (line {error.lineno}: {error.message})"
            ) from None
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ChatError(f"the checkpoint's chat template refuses these messages: {reason}") from None
        return rendered[0]

    def _spoken(self, marked: str, begin: str, end: str, turns: list, typed: dict[str, str]) -> list[tuple[int, int]]:
        """Character intervals of the assistant's words, its end-of-turn included, in the rendering without marks."""
        said = [
            _hide("".join(p.get("text", "") for p in ps), typed).strip() for role, ps, _ in turns if role == "assistant"
        ]
        words = iter([text for text in said if text])
        spans, out, start, waiting = [], 0, None, False
        pieces = re.split(f"([{begin}{end}]|{self._is_control.pattern})", marked)
        for piece in pieces:
            if piece == begin:
                start = out
                continue
            if piece == end:
                if start is None:  # the template cut the beginning off, a chain of thought for example
                    start = out - _common_ending(re.sub(f"[{begin}{end}]", "", marked)[:out], next(words, ""))
                else:
                    next(words, None)
                spans.append((start, out))
                start, waiting = None, True
                continue
            out += len(piece)
            if waiting and piece in self._control:
                if self._control[piece] in self.stop_ids:
                    spans[-1] = (spans[-1][0], out)
                waiting = False
            elif piece.strip():
                waiting = False
        return spans

    def _without_control(self) -> RustTokenizer:
        """The tokenizer with control tokens switched off, made when somebody types one."""
        if self._text is None:
            self._text = RustTokenizer.from_str(self.tokenizer.rust.to_str())
            self._text.encode_special_tokens = True
        return self._text

    def _tokens(self, text: str, typed: dict[str, str], spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Encode the rendering piece by piece and label the tokens that touch a span."""
        pieces: list[tuple[str, bool]] = []  # (text, control tokens are control tokens)
        for piece in re.split(f"({self._is_control.pattern})", text):
            plain = any(sentinel in piece for sentinel in typed)
            if pieces and not plain and pieces[-1][1]:
                pieces[-1] = (pieces[-1][0] + piece, True)
            elif piece:
                pieces.append((piece, not plain))
        tokens, labels, at = [], [], 0
        starts = [start for start, _ in spans]
        for piece, control in pieces:
            places = list(range(at, at + len(piece) + 1))
            if not control:  # put the typed control tokens back, remembering where each character stood
                back = [(typed.get(c, c), at + i) for i, c in enumerate(piece)]
                places = [place for string, place in back for _ in string] + [at + len(piece)]
                piece = "".join(string for string, _ in back)
            encoding = (self.tokenizer.rust if control else self._without_control()).encode(
                piece, add_special_tokens=False
            )
            for id, (a, b) in zip(encoding.ids, encoding.offsets, strict=True):
                first, last = places[a], places[max(b - 1, a)]
                i = bisect_left(starts, last + 1) - 1  # the last span that begins at or before the token's end
                learn = i >= 0 and first < spans[i][1]
                tokens.append(id)
                labels.append(id if learn else IGNORE)
            at = places[-1]
        return tokens, labels


def _unused(text: str):
    """Private-use characters that do not occur in a text, nor mean anything to a tokenizer or template."""
    return (c for c in map(chr, itertools.chain(range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))) if c not in text)


def _hide(text: str, typed: dict[str, str]) -> str:
    for sentinel, token in typed.items():
        text = text.replace(token, sentinel)
    return text


def _common_ending(a: str, b: str) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[-1 - n] == b[-1 - n]:
        n += 1
    return n
