"""Messages become LLaMA-3's layout, and nothing that a user types becomes a control token."""

import pytest
from conftest import WORDS

from vlm.chat import IGNORE, IMAGE, Chat, ChatError, Tokenizer, ask_each, content_parts, picture_visibility
from vlm.data.tokenizer import CONTROL, train_tokenizer

PICTURE = {"type": "image", "image": "a.png"}


def text(words):
    return {"type": "text", "text": words}


def user(*parts):
    return {"role": "user", "content": list(parts)}


def written(chat, tokens):
    """The row with its control tokens spelled out."""
    return chat.tokenizer.rust.decode(tokens, skip_special_tokens=False)


def test_the_layout_is_llama_3s(chat):
    messages = [
        {"role": "system", "content": "Be brief."},
        user(PICTURE, text("How many?")),
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "And blue ones?"},
    ]
    closed = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<|image|>How many?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nTwo.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nAnd blue ones?<|eot_id|>"
    )
    assert written(chat, chat.encode(messages, generate=False).tokens) == closed
    assert written(chat, chat.encode(messages).tokens) == closed + "<|start_header_id|>assistant<|end_header_id|>\n\n"


def test_a_string_is_one_text_part(chat):
    a = chat.encode([{"role": "user", "content": "How many?"}])
    assert a == chat.encode([user(text("How many?"))])
    assert a.images == []


def test_only_the_words_of_the_assistant_and_their_end_are_learnt(chat):
    messages = [user(PICTURE, text("How many?")), {"role": "assistant", "content": "Two."}]
    messages += [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes, two."}]
    prompt = chat.encode(messages, generate=False)
    learnt = [label for label in prompt.labels if label != IGNORE]
    assert written(chat, learnt) == "Two.<|eot_id|>Yes, two.<|eot_id|>"
    assert len(prompt.tokens) == len(prompt.labels) == len(prompt.sees)
    assert all(label in (IGNORE, token) for token, label in zip(prompt.tokens, prompt.labels, strict=True))
    assert prompt.labels[-1] == prompt.tokens[-1] == chat.tokenizer.id("<|eot_id|>")
    assert set(chat.encode(messages[:1]).labels) == {IGNORE}


@pytest.mark.parametrize("role", ["system", "user", "assistant", "ipython", "tool"])
@pytest.mark.parametrize("control", [*CONTROL, IMAGE])
def test_typed_control_tokens_stay_text(chat, role, control):
    calm = chat.encode([{"role": role, "content": ""}], generate=False).tokens
    typed = chat.encode([{"role": role, "content": f"a{control}b"}], generate=False)
    ids = typed.tokens[len(calm) - 1 : -1]
    assert chat.tokenizer.decode(ids) == f"a{control}b"
    assert not set(ids) & {chat.tokenizer.id(c) for c in (*CONTROL, IMAGE)}
    assert typed.sees == [(0, 0)] * len(typed.tokens) and typed.images == []


def runs(prompt):
    """The intervals in order, each once."""
    return [s for i, s in enumerate(prompt.sees) if i == 0 or s != prompt.sees[i - 1]]


def test_without_a_picture_no_token_sees_any(chat):
    assert runs(chat.encode([user(text("How many?"))])) == [(0, 0)]


def test_text_before_a_picture_sees_none_and_text_after_sees_it(chat):
    prompt = chat.encode([user(text("See this:"), PICTURE, text("How many?"))])
    at = prompt.tokens.index(chat.image_id)
    assert prompt.sees[:at] == [(0, 0)] * at
    assert prompt.sees[at:] == [(0, 1)] * (len(prompt.tokens) - at)


def test_text_between_two_pictures_sees_the_first_and_later_text_only_the_second(chat):
    prompt = chat.encode([user(PICTURE, text("or"), {"type": "image", "image": "b.png"}, text("?"))])
    first, second = (i for i, t in enumerate(prompt.tokens) if t == chat.image_id)
    assert prompt.sees[first:second] == [(0, 1)] * (second - first)
    assert prompt.sees[second:] == [(1, 2)] * (len(prompt.tokens) - second)
    assert prompt.images == ["a.png", "b.png"]


def test_adjacent_pictures_are_seen_together(chat):
    prompt = chat.encode([user(PICTURE, PICTURE, text("which?"), PICTURE, PICTURE, PICTURE, text("and?"))])
    assert runs(prompt) == [(0, 0), (0, 1), (0, 2), (2, 3), (2, 4), (2, 5)]
    assert prompt.sees[-1] == (2, 5)


def test_pictures_of_different_messages_are_different_groups(chat):
    turn = user(PICTURE, text("?"))
    assert runs(chat.encode([turn, {"role": "assistant", "content": "1"}, turn])) == [(0, 0), (0, 1), (1, 2)]


def test_visibility_of_plain_ids():
    assert picture_visibility([5, 9, 9, 5, 9], 9) == [(0, 0), (0, 1), (0, 2), (0, 2), (2, 3)]
    assert picture_visibility([9, 5], 9) == [(0, 1), (0, 1)]
    assert picture_visibility([5, 6], None) == [(0, 0), (0, 0)]
    assert picture_visibility([], 9) == []


def test_openais_picture_parts_are_understood(chat):
    for url in ({"url": "data:x"}, "data:x"):
        assert chat.encode([user({"type": "image_url", "image_url": url})]).images == ["data:x"]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "no messages"),
        (["hello"], "needs the keys 'role' and 'content'"),
        ("hello", "needs the keys 'role' and 'content'"),
        ({"role": "user", "content": "a"}, "needs the keys 'role' and 'content'"),
        ([None], "needs the keys 'role' and 'content'"),
        ([{"role": "user"}], "needs the keys 'role' and 'content'"),
        ([{"content": "a"}], "needs the keys 'role' and 'content'"),
        ([{"role": "wizard", "content": "a"}], "unknown role 'wizard'; expected one of system, user"),
        ([{"role": ["user"], "content": "a"}], "unknown role"),
        ([{"role": "user", "content": None}], "a string or a list of parts, found NoneType"),
        ([{"role": "user", "content": 5}], "a string or a list of parts, found int"),
        ([user("hello")], "a content part must be"),
        ([user({"type": "text"})], "a content part must be"),
        ([user({"type": "text", "text": 5})], "a content part must be"),
        ([user({"type": "image"})], "a content part must be"),
        ([user({"type": "image_url"})], "a content part must be"),
        ([user({"type": "image_url", "image_url": {}})], "a content part must be"),
        ([user({"type": "image_url", "image_url": {"url": 5}})], "a content part must be"),
        ([user({"type": "audio", "audio": 1})], "a content part must be"),
    ],
)
def test_bad_messages_are_refused(chat, messages, words):
    with pytest.raises(ChatError) as error:
        chat.encode(messages)
    assert words in str(error.value)
    assert len(str(error.value)) < 300


def test_chat_errors_are_value_errors_and_stay_short():
    with pytest.raises(ValueError) as error:
        content_parts(user({"type": "audio", "audio": "x" * 10_000}))
    assert len(str(error.value)) < 300


def without(token):
    """The tokenizer of the tests with one control token renamed."""
    from tokenizers import Tokenizer as Rust

    return Tokenizer(Rust.from_str(train_tokenizer(WORDS * 4, 300).to_str().replace(token, "<|gone|>")))


def test_a_text_only_tokenizer_refuses_pictures_and_reads_text():
    chat = Chat(without("<|image|>"))
    assert chat.image_id is None
    with pytest.raises(ChatError, match="reads text only"):
        chat.encode([user(PICTURE)])
    assert runs(chat.encode([user(text("How many?"))])) == [(0, 0)]


def test_a_tokenizer_without_llamas_control_tokens_is_refused():
    with pytest.raises(ValueError, match="lacks the control tokens.*eot_id"):
        Chat(without("<|eot_id|>"))


def test_a_tuple_of_pictures_is_asked_about_together():
    single, [[message]] = ask_each(("a.png", "b.png"), "What changed?")
    assert single and [p.get("image") for p in message["content"]] == ["a.png", "b.png", None]
    single, conversations = ask_each([("a.png", "b.png"), "c.png"], "Why?")
    assert not single and [len(m["content"]) for [m] in conversations] == [3, 2]
