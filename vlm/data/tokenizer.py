"""A LLaMA-3-style byte-level BPE, trained by the project on its own sentences.

Digits stand alone, so numbers are spelled and read digit by digit.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from vlm.chat import BEGIN, END, END_HEADER, EOM, EOT, IMAGE, PAD, ROLES, START_HEADER

CONTROL = (
    BEGIN, END, "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", PAD, "<|step_id|>",
    START_HEADER, END_HEADER, EOM, EOT, "<|python_tag|>",
)  # fmt: skip
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
N_RESERVED = 16  # control tokens in all, so that one can be named later without moving any id


def train_tokenizer(sentences: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn merges until `vocab_size`, control tokens included; the image token is the first id past it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - N_RESERVED,
        min_frequency=2,
        limit_alphabet=256,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for s in (ROLES, "\n\n" * 2, sentences) for text in s), trainer)
    missing = vocab_size - N_RESERVED - tokenizer.get_vocab_size()
    if missing > 0:
        raise ValueError(f"the sentences give {vocab_size - missing} tokens, {vocab_size} were asked for")
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(2, 2 + N_RESERVED - len(CONTROL))]
    names = [*CONTROL, *reserved, IMAGE]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer
