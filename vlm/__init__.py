"""Vision-language models that see through gated cross-attention.

    import vlm
    m = vlm.load()
    m.caption("picture.png")
    m.answer("picture.png", "How many red circles are there?")

`import vlm` is cheap: torch is imported when a name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlm.api import VLM, Result
    from vlm.loading import compose, load

__version__ = "0.1.0"
__all__ = ["VLM", "Result", "__version__", "compose", "load"]


_HOMES = {"VLM": "vlm.api", "Result": "vlm.result", "compose": "vlm.loading", "load": "vlm.loading"}


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vlm' has no attribute {name!r}")
