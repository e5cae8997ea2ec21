"""Tokenizers and chats of checkpoints: tokenizer.json, and the tokenizer.model of LLaMA 1/2 and of LLaMA 3.

Notable here:
- Both kinds of tokenizer.model are read as plain data into a `tokenizers.Tokenizer`: the one is a list of byte strings
  in base64 (tiktoken), the other a small protobuf (SentencePiece BPE); neither library is needed.
- What a checkpoint says about its chat (template, begin-of-text, stop and padding tokens) is used as it is.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from vlm.chat import IMAGE, Chat, Tokenizer
from vlm.chat_template import PLAIN, TemplateChat
from vlm.checkpoints.files import CheckpointError, one_line, read_json
from vlm.config import DecoderConfig

LLAMA3_SPLIT = (  # what the merges never cross
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_CONTROL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
    "<|python_tag|>",
)  # fmt: skip
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


def load_tokenizer(folder: Path, config: DecoderConfig) -> Tokenizer | None:
    """The tokenizer of a folder, None where it has none."""
    model = folder / "tokenizer.model"
    if (folder / "tokenizer.json").is_file():
        try:
            tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
        except ValueError as error:
            raise CheckpointError(f"{one_line(error)}; get the file again") from None
    elif model.is_file():
        data = model.read_bytes()
        try:
            tokenizer = Tokenizer(from_sentencepiece(data) if data[:1] == b"\n" else from_tiktoken(data, config))
        except Exception as error:  # damaged data; `tokenizers` raises bare Exception
            raise CheckpointError(
                f"{model}: not a tokenizer of LLaMA ({one_line(error)}); get it or a tokenizer.json again"
            ) from None
    else:
        return None
    rows, size = config.vocab_size + config.n_extra_tokens, tokenizer.rust.get_vocab_size(with_added_tokens=False)
    if size > rows:
        raise CheckpointError(
            f"{folder}: the tokenizer has {size} tokens, the embedding {rows} rows; they are of different models"
        )
    return tokenizer


def from_tiktoken(data: bytes, config: DecoderConfig) -> RustTokenizer:
    """The ranked byte strings of a LLaMA 3 tokenizer.model; `<|image|>` takes the first extra embedding row."""
    ranks: dict[bytes, int] = {}
    for line in data.splitlines():
        if line.strip():
            token, rank = line.split()
            try:
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except binascii.Error:
                raise ValueError(f"line {len(ranks) + 1} is no base64") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError(f"the {len(ranks)} ranks are not 0, 1, 2, ...: lines are missing")
    letters = _byte_letters()
    spelled = {token: "".join(letters[b] for b in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=lambda token: ranks[token]):
        splits = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [(a, b) for a, b in splits if a in ranks and b in ranks]
        merges += [
            (spelled[a], spelled[b]) for a, b in sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        ]
    vocab = {spelled[token]: rank for token, rank in ranks.items()}
    tokenizer = RustTokenizer(models.BPE(vocab, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    n_control = config.vocab_size - len(ranks)
    if n_control < len(LLAMA3_CONTROL):
        raise ValueError(
            f"{len(ranks)} tokens leave no room for the control tokens in a vocabulary of {config.vocab_size}"
        )
    control = [*LLAMA3_CONTROL]
    control += [f"<|reserved_special_token_{i + 2}|>" for i in range(n_control - len(control))]
    if config.n_extra_tokens:
        control.append(IMAGE)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    begin = LLAMA3_CONTROL[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return tokenizer


def _byte_letters() -> list[str]:
    """The printable character that byte-level BPE writes for each byte: itself, or the next free one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def from_sentencepiece(data: bytes) -> RustTokenizer:
    """The SentencePiece BPE model of LLaMA 1 and 2: ranked pieces, bytes where no piece fits, a space before text."""
    pieces, kind = [], 2
    for field, value in _protobuf(data):
        if field == 1:
            piece = dict(_protobuf(value))
            pieces.append((piece[1].decode("utf-8"), piece.get(3, 1)))
        elif field == 2:
            kind = dict(_protobuf(value)).get(3, 1)
    if kind != 2:
        raise ValueError("a SentencePiece model that is not BPE")
    vocab = {text: i for i, (text, _) in enumerate(pieces)}
    splits = [(text[:i], text[i:]) for text in vocab for i in range(1, len(text))]
    merges = [(a, b) for a, b in splits if a in vocab and b in vocab]
    merges.sort(key=lambda pair: (vocab[pair[0] + pair[1]], vocab[pair[0]], vocab[pair[1]]))  # earlier is better
    unknown = next((text for text, type in pieces if type == 2), "<unk>")
    tokenizer = RustTokenizer(models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    control = [text for text, type in pieces if type in (2, 3)]  # unknown, control
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    if "<s>" in vocab:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])]
        )
    return tokenizer


def _protobuf(data: bytes) -> list[tuple[int, Any]]:
    """The fields of a protobuf message in order: (number, bytes or integer); fixed-width numbers come as bytes."""
    fields: list[tuple[int, Any]] = []
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            fields.append((key >> 3, varint()))
            continue
        if key & 7 not in (1, 2, 5):
            raise ValueError("no protobuf")
        size = {1: 8, 5: 4}[key & 7] if key & 7 != 2 else varint()
        if at + size > len(data):
            raise ValueError("cut off")
        fields.append((key >> 3, data[at : at + size]))
        at += size
    return fields


def special_tokens(folder: Path) -> dict[str, str]:
    """The texts of bos_token and its like, from tokenizer_config.json or special_tokens_map.json."""
    out = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / file).is_file():
            data = read_json(folder / file)
            for key in SPECIAL:
                value = data.get(key)
                value = value.get("content") if isinstance(value, dict) else value
                if isinstance(value, str):
                    out[key] = value
    return out


def chat_template(folder: Path) -> str | None:
    """The Jinja source that a checkpoint brings along: chat_template.jinja, .json, or inside tokenizer_config.json."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for file in ("chat_template.json", "tokenizer_config.json"):
        template = read_json(folder / file).get("chat_template") if (folder / file).is_file() else None
        if isinstance(template, list):  # several named ones
            template = {t["name"]: t["template"] for t in template}.get("default")
        if isinstance(template, str):
            return template
    return None


def load_chat(
    folder: Path, config: DecoderConfig, *, stop_ids=(), image_id: int | None = None, own_layout: bool
) -> Chat | TemplateChat | None:
    """What turns messages into tokens: the checkpoint's template, else our LLaMA 3 layout, else plain continuation.

    Args:
        stop_ids: where generation ends, as the checkpoint says.
        image_id: the image token; None looks `<|image|>` up.
        own_layout: whether a checkpoint without a template speaks LLaMA 3's layout (ours and Meta's do; a hub folder
            without a template is a base model, which continues text).
    """
    tokenizer = load_tokenizer(folder, config)
    if tokenizer is None:
        return None
    template = chat_template(folder)
    if template is None and own_layout and tokenizer.id(LLAMA3_CONTROL[6]) is not None:
        chat = Chat(tokenizer)
        if not config.cross_attention_layers:  # its vocabulary may have an image token all the same
            chat.image_id = None
        return chat
    special = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|finetune_right_pad_id|>",
    }
    if tokenizer.id(special["bos_token"]) is None:
        special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    special = {k: v for k, v in (special | special_tokens(folder)).items() if tokenizer.id(v) is not None}
    if image_id is None:
        image_id = tokenizer.id(IMAGE)
    elif tokenizer.rust.id_to_token(image_id) is None:
        raise CheckpointError(
            f"{folder}: the tokenizer has no token {image_id}, which config.json names as the image token"
        )
    if not config.cross_attention_layers:
        image_id = None
    stop = frozenset(stop_ids) or frozenset(i for i in [tokenizer.id(special.get("eos_token", ""))] if i is not None)
    return TemplateChat(
        tokenizer, PLAIN if template is None else template, special=special, stop_ids=stop, image_id=image_id
    )


def save_chat(folder: Path, chat: Chat | TemplateChat | None, write_text) -> None:
    """Write tokenizer.json, tokenizer_config.json and, where there is one, the template."""
    if chat is None:
        return
    write_text(folder / "tokenizer.json", chat.tokenizer.rust.to_str(pretty=True))
    special = getattr(chat, "special", None) or {
        "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"
    }  # fmt: skip
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    if isinstance(chat, TemplateChat) and chat.template != PLAIN:
        write_text(folder / "chat_template.jinja", chat.template)
