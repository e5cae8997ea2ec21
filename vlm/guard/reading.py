"""What the small guard knows of a picture: the words that the model reads in it, and what it sees.

Notable here:
- Pictures go through the engine that answers about them, so that each is encoded once for the guard and the answer.
- What was read is remembered by the picture's pixels: an answer that is judged window by window reads nothing twice.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from adapters.lora import lora_layers
from vlm.chat import Chat
from vlm.chat_template import TemplateChat
from vlm.engine import Engine, Picture, RequestFailed, Sampling
from vlm.engine.pictures import tiles_hash
from vlm.engine.quantize import quantization_of
from vlm.image import preprocess
from vlm.model import VisionLanguageModel

READ = "Read the text."  # as the world `text` asks for whole signs (vlm/data/worlds/wording_text.py)
LONGEST = 96  # tokens that are read
REMEMBERED = 64  # pictures


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as the guard has it.

    Attributes:
        words: what the model reads; where nothing is written, whatever it says then.
        states: what its cross-attention reads, (S, C), fp32 on the CPU; see `Engine.look`.
    """

    words: str
    states: Tensor


def states_dim(model: VisionLanguageModel) -> int:
    """C of `Seen.states`: keys and values of all cross-attention layers, 0 for a model that sees nothing."""
    decoder = model.config.decoder
    layers = len(decoder.cross_attention_layers) if model.config.encoder else 0
    return 2 * layers * decoder.n_kv_heads * decoder.head_dim


def fingerprint(model: VisionLanguageModel) -> str:
    """What a model's weights are known by, in whichever dtype they are held; "" where an adapter or quantized weights
    have changed them."""
    if quantization_of(model) or lora_layers(model):
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Reader:
    """Reads pictures with a model's engine and chat format."""

    def __init__(self, engine: Engine, chat: Chat | TemplateChat):
        self.engine, self.chat = engine, chat
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, images: Sequence[Image.Image]) -> list[Seen]:
        """Read pictures of `open_image`, all in one batch.

        Raises:
            RequestFailed: the engine failed.
        """
        pictures = [preprocess(image, self.engine.model.config.image) for image in images]
        keys = [tiles_hash(picture) for picture in pictures]
        with self._lock:
            found = {key: self._seen[key] for key in keys if key in self._seen}
        new = {key: picture for key, picture in zip(keys, pictures, strict=True) if key not in found}
        found |= zip(new, self._read(list(new.values())), strict=True)
        with self._lock:
            for key in keys:
                self._seen[key] = found[key]
                self._seen.move_to_end(key)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return [found[key] for key in keys]

    def _read(self, pictures: list[Picture]) -> list[Seen]:
        asked = [
            {"role": "user", "content": [{"type": "image", "image": p}, {"type": "text", "text": READ}]}
            for p in pictures
        ]
        prompts = [self.chat.encode([message]) for message in asked]
        seen = []
        said = self.engine.generate(prompts, [[p] for p in pictures], Sampling(max_new_tokens=LONGEST))
        for picture, steps in zip(pictures, said, strict=True):
            if steps[-1].error:
                raise RequestFailed(steps[-1].error)
            words = self.chat.tokenizer.decode([s.token for s in steps if s.finish != "stop"]).strip()
            seen.append(Seen(words, self.engine.look(picture).float().cpu()))
        return seen
