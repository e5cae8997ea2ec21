"""A guard's template, a tiny guard and fake guards, for the tests of vlm/guard."""

import dataclasses
from pathlib import Path

from vlm.chat import Tokenizer
from vlm.chat_template import TemplateChat
from vlm.guard.policy import Verdict
from vlm.guard.taxonomy import CATEGORIES
from vlm.model import VisionLanguageModel

GOLDEN = Path(__file__).parent / "golden"
TOKENIZER = Tokenizer.from_file(GOLDEN / "hf/tokenizer.json")
SPECIAL = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"}
CATEGORY_DICT = "{" + ", ".join(f"'{c.key}': '{c.name}.'" for c in CATEGORIES.values()) + "}"
_HEAD = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
_RULES = (
    "{{ '<END CONVERSATION>\n\nJudge the last words of ' ~ judged ~ ' alone:\n- say safe or unsafe,\n"
    "- and if unsafe, which categories, in a second line.<|eot_id|><|start_header_id|>assistant<|end_header_id|>' }}"
)
VISION = (  # the structure of Llama Guard 3 Vision's template, the wording our own
    "{%- set judged = 'Agent' if messages | length % 2 == 0 else 'User' -%}"
    "{%- if categories is not defined -%}{%- set categories = " + CATEGORY_DICT + " -%}{%- endif -%}"
    "{{- '" + _HEAD + "' -}}"
    "{%- set seen = namespace(image=false) -%}"
    "{%- for m in messages -%}{%- for p in m['content'] | selectattr('type', 'equalto', 'image') -%}"
    "{%- set seen.image = true -%}{%- endfor -%}{%- endfor -%}"
    "{%- if seen.image -%}{{- '<|image|> ' -}}{%- endif -%}"
    "{{- 'Is there harm in the words of ' ~ judged ~ '?\n\n<BEGIN UNSAFE CONTENT CATEGORIES>\n' -}}"
    "{%- for key in categories -%}{%- if key not in excluded_category_keys -%}"
    "{{- key ~ ': ' ~ categories[key] ~ '\n' -}}{%- endif -%}{%- endfor -%}"
    "{{- '<END UNSAFE CONTENT CATEGORIES>\n\n<BEGIN CONVERSATION>\n\n' -}}"
    "{%- for m in messages -%}"
    "{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{- raise_exception('roles must alternate') -}}"
    "{%- endif -%}{%- set role = 'User' if m['role'] == 'user' else 'Agent' -%}"
    "{%- for p in m['content'] | selectattr('type', 'equalto', 'text') -%}"
    "{{- role ~ ': ' ~ p['text'] | trim ~ '\n\n' -}}{%- endfor -%}{%- endfor -%}" + _RULES
)
TEXT = (  # that of the text guard: contents are strings, the categories stand there as text
    "{% set judged = 'Agent' if messages | length % 2 == 0 else 'User' %}" + _HEAD + "Is there harm in the words of "
    "{{ judged }}?\n\n<BEGIN UNSAFE CONTENT CATEGORIES>\n"
    + "".join(f"{c.key}: {c.name}.\n" for c in CATEGORIES.values())
    + "S14: Code Interpreter Abuse.\n<END UNSAFE CONTENT CATEGORIES>\n\n<BEGIN CONVERSATION>\n\n{% for m in messages %}"
    "{{ 'User' if m['role'] == 'user' else 'Agent' }}: {{ m['content'].strip() }}\n\n{% endfor %}" + _RULES
)


def guard_chat(template: str = VISION, image_id: int | None = 296) -> TemplateChat:
    return TemplateChat(TOKENIZER, template, special=SPECIAL, stop_ids=frozenset({281, 288, 289}), image_id=image_id)


def guard_model(encoder: bool = True, max_seq_len: int = 4096) -> VisionLanguageModel:
    """A tiny random model for the golden tokenizer."""
    from tests.conftest import tiny_config, tiny_model

    config = tiny_config(vocab_size=296, n_extra_tokens=8, max_seq_len=max_seq_len)
    if not encoder:
        text = dataclasses.replace(config.decoder, cross_attention_layers=())
        config = dataclasses.replace(config, encoder=None, decoder=text)
    return tiny_model(config)


class WordGuard:
    """Unsafe where a word stands in what is judged; remembers what it was asked."""

    def __init__(self, **words: str):
        self.words, self.asked = words, []

    def check(self, messages, response=None):
        self.asked.append((messages, response))
        content = messages[-1]["content"]
        text = content if isinstance(content, str) else "".join(p.get("text", "") for p in content)
        stage = "prompt" if response is None else "response"
        found = tuple(key for word, key in self.words.items() if word in (text if response is None else response))
        return Verdict(not found, found, 0.9 if found else 0.1, stage, "words")


def user(text, *pictures):
    return {
        "role": "user",
        "content": [*({"type": "image", "image": p} for p in pictures), {"type": "text", "text": text}],
    }


def said(text):
    return {"role": "assistant", "content": text}
