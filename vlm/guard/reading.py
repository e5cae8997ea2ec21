"""What the small guard knows of a picture: the words that are printed in it, and what the shipped model sees.

Notable here:
- Print is read at the picture's own size by a reader of the guard's (vlm/guard/ocr.py); what the model sees comes from
  the cache of the engine that answers, so that a picture is encoded once for the guard and the answer.
- Both are remembered by the picture's pixels: an answer that is judged window by window reads nothing twice.
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
from vlm.engine import Engine
from vlm.engine.quantize import quantization_of
from vlm.guard.ocr import LineReader, read_print
from vlm.image import preprocess
from vlm.model import VisionLanguageModel

REMEMBERED = 64  # pictures


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as the guard has it.

    Attributes:
        words: the print in it, line by line; "" for none.
        states: what the model's cross-attention reads, (S, C), fp32 on the CPU; None where nobody looked.
    """

    words: str
    states: Tensor | None = None


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
    """Reads and sees pictures.

    Args:
        printed: reads print.
        engine: of the model that sees; None for print alone.
    """

    def __init__(self, printed: LineReader, engine: Engine | None = None):
        self.printed, self.engine = printed, engine
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, images: Sequence[Image.Image]) -> list[Seen]:
        """What is printed and shown in pictures of `open_image`."""
        seen = []
        for image in images:
            key = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).digest()
            with self._lock:
                found = self._seen.get(key)
            found = found or self._look(image)
            with self._lock:
                self._seen[key] = found
                self._seen.move_to_end(key)
                while len(self._seen) > REMEMBERED:
                    self._seen.popitem(last=False)
            seen.append(found)
        return seen

    def _look(self, image: Image.Image) -> Seen:
        words = read_print(self.printed, image)
        if self.engine is None:
            return Seen(words)
        picture = preprocess(image, self.engine.model.config.image)
        return Seen(words, self.engine.look(picture).float().cpu())
